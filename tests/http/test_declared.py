"""`GET /v1/failpoints?declared=1` lists what the program declares, configured or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from failpoints import failpoint
from failpoints.admin import admin_app
from failpoints.client import FailpointsClient

AT = "/v1/failpoints"

Run = Callable[..., Any]

PROGRAM = """
import sys
from failpoints import failpoint, failpoint_scope, status
from failpoints.instrument import instrument

@failpoint("decorated")
def decorated():
    with failpoint_scope("scope"):
        failpoint("inline").hit()
        failpoint("built." + str(len(sys.argv))).hit()
        failpoint("not valid"), failpoint("not valid" + str(len(sys.argv))), failpoint("built:after"[:11])

instrument("json:loads", "loads")
print("ready", flush=True)
for line in sys.stdin:
    decorated()
    print("visited", flush=True)
"""


def test_what_is_declared(run: Run, raw: Any) -> None:
    """Each name in the source is listed with its sites, as file:line below a folder of the path, and zeros."""
    program = run(PROGRAM, FAILPOINTS_HTTP="127.0.0.1:0", FAILPOINTS="inline=2*off;typo=pause")
    url = program.ready()
    answer = raw.ask(url, "GET", f"{AT}?declared=1")
    found = {document["name"]: document for document in answer.json}
    assert list(found) == sorted(found)
    assert found["loads"]["sites"][1].startswith("json/__init__.py:")  # the function itself
    assert {name: document["sites"][:1] for name, document in found.items()} == {
        "decorated": ["program.py:6"],
        "decorated:after": ["program.py:6"],
        "inline": ["program.py:9"],
        "loads": ["program.py:13"],
        "loads:after": ["program.py:13"],
        "scope": ["program.py:8"],
        "scope:after": ["program.py:8"],
        "typo": [],
    }
    assert {name for name, document in found.items() if document["actions"]} == {"inline", "typo"}
    assert found["scope"] == {
        **found["typo"],
        "name": "scope",
        "actions": "",
        "sites": ["program.py:8"],
        "configurations": [],
    }
    program.send_line()
    program.line("visited")
    found = {document["name"]: document for document in raw.ask(url, "GET", f"{AT}?declared=1").json}
    assert found["inline"]["hits"] == 1
    assert {"not valid", "not valid1", "built:after"}.isdisjoint(found)
    assert found["built.1"]["sites"] == ["program.py:10"]  # known since it was made


def test_without_the_parameter(serve: Callable[..., Any], raw: Any, failpoints: Any) -> None:
    """Without the parameter, or with 0, only what is configured is listed. Anything else but 1 is refused."""
    failpoints.set("place", "off", expect_hit=False)
    with serve(admin_app()) as url:
        for query in "", "?", "?declared=0":
            assert [each["name"] for each in raw.ask(url, "GET", AT + query).json] == ["place"]
        for query, message in [
            ("?declared=2", "declared must be 1 or 0; got '2'"),
            ("?declared", "declared must be 1 or 0; got ''"),
            ("?declared=1&declared=1", "a parameter appears twice"),
            ("?declaerd=1", "unknown parameter 'declaerd': expected declared; did you mean 'declared'?"),
        ]:
            answer = raw.ask(url, "GET", AT + query)
            assert (answer.status, answer.msg) == (400, message)


@failpoint("declared.in.this.test")
def declared() -> None: ...


@pytest.mark.anyio
async def test_the_client(serve: Callable[..., Any]) -> None:
    """The client lists what is declared if it is asked to."""
    with serve(admin_app()) as url:
        async with FailpointsClient(url) as client:
            found = {status.name: status for status in await client.statuses(declared=True)}
            assert await client.statuses() == []
    line = declared.__code__.co_firstlineno
    assert found["declared.in.this.test:after"].sites == (f"tests/http/test_declared.py:{line}",)
    assert found["declared.in.this.test"].actions == ()
    assert found["declared.in.this.test"].hits == 0
