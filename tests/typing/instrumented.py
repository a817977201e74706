"""Checked by mypy and pyright, never run: the parameters and results of `instrument`."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, assert_type

import httpx

from failpoints.instrument import Instrumentation, instrument


def request_context(client: httpx.AsyncClient, request: httpx.Request, **options: Any) -> Mapping[str, Any]:
    return {"path": request.url.path}


undo = instrument("httpx:AsyncClient.send", "http.send", context=request_context, raises=(httpx.ConnectError,))
assert_type(undo, Instrumentation)
assert_type(undo(), None)

with instrument("json:loads", "json.loads", context=["s"], convert=int, cancel=threading.Event()) as entered:
    assert_type(entered, Instrumentation)

with ExitStack() as stack:
    stack.enter_context(instrument("json:dumps", "json.dumps", context={"of": "the standard library"}))
    stack.callback(instrument("json:load", "json.load"))

instrument("json:loads")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
instrument("json:loads", name="json.loads")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
instrument("json:loads", "json.loads", raises=OSError)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
