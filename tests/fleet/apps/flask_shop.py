"""The web program as a Flask application."""

from __future__ import annotations

from flask import Flask
from shop import answer  # type: ignore[import-not-found]  # beside this file

app = Flask(__name__)


@app.get("/<name>")
def index(name: str) -> bytes:
    return bytes(answer(name))
