"""The OpenAPI document: schemathesis derives valid and invalid requests from it, and finds no wrong answer."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from failpoints._http.openapi import openapi_document
from failpoints.admin import admin_app

AT = "/v1/failpoints"

# Generators for names and actions, whose formats the document can only name.
HOOKS = """
import os

import requests
import schemathesis
from hypothesis import strategies as st

texts = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="=;"), min_size=1, max_size=20)
known = ["a", "a/wait", "x:after", "a::b", "%41"]
schemathesis.openapi.format("failpoint-name", st.sampled_from(known) | texts.filter(str.isprintable))

modifiers = st.sampled_from(["", "", "2*", "25%", "12.5%3*", "3*5%"])
actions = st.sampled_from(
    ["off", "pause", "pause(30s)", "sleep(1.5s)", "100", "return", "return(42)", 'return("a;b")', "yield", "break"]
    + ["raise(OSError: disk full)", "panic", "exit(3)", "print(x)", "delay(1)"]
)
terms = st.tuples(modifiers, actions).map("".join)
schemathesis.openapi.format("failpoint-actions", st.lists(terms, min_size=1, max_size=3).map("->".join))


@schemathesis.hook
def before_call(context, case, kwargs):
    if not case.operation.path.endswith(("/wait", "/resume")):
        return
    # Configure the failpoint before a wait or a resume, or every answer would be a 404.
    if case.path_parameters.get("name") in known:
        url = f"{case.operation.base_url.rstrip('/')}/v1/failpoints"
        headers = {"Authorization": f"Bearer {os.environ['TOKEN']}"} if "TOKEN" in os.environ else {}
        handle = case.query.get("handle") if isinstance(case.query, dict) else None
        entry = {"name": case.path_parameters["name"], "actions": "off", "handle": handle}
        done = requests.put(url, json=[entry], headers=headers, timeout=10)
        assert done.status_code in (200, 400, 409), done.text  # not 200 for an invalid handle, or one that is in use
    # Shorten the timeout of a valid wait, which would otherwise be waited for. The query stays valid.
    if case.operation.path.endswith("/wait") and isinstance(case.query, dict):
        try:
            valid = 0.01 < float(case.query.get("timeout", 10)) <= 86400
        except (TypeError, ValueError):
            valid = False
        if valid:
            case.query["timeout"] = 0.01
"""

# Every check is on. A valid wait may end with 408, besides the statuses that schemathesis accepts anyway.
CONFIGURATION = """
[[operations]]
include-operation-id = "wait"
[operations.checks]
positive_data_acceptance.expected-statuses = ["2xx", "401", "403", "404", "408"]
"""


@pytest.mark.parametrize("examples", [1, pytest.param(8, marks=pytest.mark.slow)])
@pytest.mark.parametrize("token", [None, "t0k3n"], ids=["open", "token"])
def test_the_document_is_true(run: Callable[..., Any], tmp_path: Path, token: str | None, examples: int) -> None:
    """The server accepts what the document allows, refuses what it forbids, and gives only documented answers."""
    program = run(
        "import sys, failpoints\nsys.stdin.read()",
        FAILPOINTS_HTTP="127.0.0.1:0",
        **({"FAILPOINTS_TOKEN": token} if token else {}),
    )
    url = program.url()
    (tmp_path / "hooks.py").write_text(HOOKS, encoding="utf-8")
    (tmp_path / "schemathesis.toml").write_text(CONFIGURATION, encoding="utf-8")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{url}{AT}/openapi.json"),
            *("--checks=all", f"--max-examples={examples}", "--seed=1", "--request-timeout=10", "--no-color"),
            *((f"--header=Authorization: Bearer {token}",) if token else ()),
        ],
        cwd=tmp_path,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")},
            "SCHEMATHESIS_HOOKS": "hooks",
            "PYTHONPATH": str(tmp_path),
            **({"TOKEN": token} if token else {}),
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Operations:       8 selected / 8 total" in done.stdout
    assert " 0 generated" not in done.stdout
    program.ended()


@pytest.mark.parametrize("secured", [False, True])
def test_each_operation_has_its_refusals(secured: bool) -> None:
    """Each operation documents how it refuses requests, which depends on whether there is a token."""
    document = openapi_document(secured=secured)
    refusals = {"401", "403"} if secured else {"403", "421"}
    for path in document["paths"].values():
        for method in path.keys() - {"parameters"}:
            statuses = path[method]["responses"].keys()
            assert statuses & {"401", "403", "421"} == refusals
            assert {"200", "500"} <= statuses
    assert ("security" in document) == secured


def test_the_document_is_served(serve: Callable[..., Any], raw: Any) -> None:
    """The document is served at its own path, which requires the token as well."""
    with serve(admin_app()) as url:
        assert raw.ask(url, "GET", f"{AT}/openapi.json").json == openapi_document(secured=False)
    with serve(admin_app(token="t")) as url:
        assert raw.ask(url, "GET", f"{AT}/openapi.json").status == 401
        served = raw.ask(url, "GET", f"{AT}/openapi.json", "Authorization: Bearer t").json
        assert served == openapi_document(secured=True)
