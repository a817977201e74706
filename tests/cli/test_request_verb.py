"""`failpoints request` signs failpoints for one request and runs what sends it."""

from __future__ import annotations

import http.server
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from failpoints._cli.request import with_header
from failpoints._core.store import Store
from failpoints._request.policy import rules_of
from failpoints.errors import FailpointUsageError
from failpoints.request import RequestFailpoints

Run = Callable[..., Any]
SECRET = "a secret of the tests"
KEY = ["--key", f"k1:{SECRET}"]
PRINT = "import sys; print(sys.argv[1:])"


def accepted(header: str, **options: Any) -> list[tuple[str, str]]:
    """Return what a service with the key takes from a header."""
    name, _, token = header.strip().partition(": ")
    assert name == "failpoints"
    rules = rules_of(RequestFailpoints({"k1": SECRET}, allow=["*"], service="shop", **options))
    configurations = rules.accept(token, Store()).configurations
    return [
        (each.name, str({key: str(value) for key, value in each.matchers.given.items()})) for each in configurations
    ]


def test_without_a_command_the_header_is_printed(run: Run) -> None:
    """The header is one line, for a program that takes it in another way. A service accepts it."""
    done = run("request", "--set", "a=off", "--set", "b[x=1]=1*pause;c=2", *KEY, "--audience", "staging", "--once")
    assert (done.status, done.errors) == (0, "")
    assert accepted(done.output, audience="staging") == [("a", "{}"), ("b", "{'x': '1'}"), ("c", "{}")]


def test_the_key_comes_from_the_environment(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `--key`, the first key of FAILPOINTS_REQUEST_KEYS signs."""
    monkeypatch.setenv("FAILPOINTS_REQUEST_KEYS", f"k1:{SECRET},k2:another secret of others")
    assert accepted(run("request", "--set", "a=off").output) == [("a", "{}")]


WRONG: list[tuple[list[str], str]] = [
    (["--set", "a=off"], "Error: there is no key to sign with: give --key ID:SECRET, or set FAILPOINTS_REQUEST_KEYS\n"),
    (["--set", "a=off", "--key", SECRET], "Error: --key: key 1 is not ID:SECRET"),
    (["--set", "a=off", "--key", "k1:short"], "has 5 bytes, and needs 16 or more"),
    (["--set", "a=explode", *KEY], "Error: --set: expected an action, found 'explode'"),
    (["--set", "a=exit", *KEY], "Error: exit is not allowed in a request"),
    (["--set", "", *KEY], "there is nothing to sign"),
    (["--set", "a=off", *KEY, "--", "python", "x.py"], "put {failpoints} where the token belongs"),
    (["--set", "a=off", *KEY, "--", "no-such-program", "{failpoints}"], "no such program"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=lambda each: str(each)[:30])
def test_a_wrong_use_ends_with_a_message(arguments: list[str], message: str, run: Run) -> None:
    """A mistake ends with one message, which contains no secret."""
    done = run("request", *arguments)
    assert done.status in (2, 127) and message in done.errors and SECRET not in done.errors


def test_where_the_header_goes() -> None:
    """Curl and wget get the option that they have for a header. Other programs get the token in its place."""
    header = "failpoints: TOKEN"
    assert with_header(["/usr/bin/curl", "-s", "url"], header) == ["/usr/bin/curl", "-H", header, "-s", "url"]
    assert with_header(["wget", "url"], header) == ["wget", f"--header={header}", "url"]
    assert with_header(["http", "url", "failpoints:{failpoints}"], header) == ["http", "url", "failpoints:TOKEN"]
    with pytest.raises(FailpointUsageError, match="knows where curl and wget take a header, but not 'http'"):
        with_header(["http", "url"], header)


def test_the_program_replaces_the_command(run_apart: Run) -> None:
    """The program has the token, and the exit status is its own."""
    script = f"{PRINT}; raise SystemExit(7)"
    done = run_apart("request", "--set", "a=off", *KEY, "--", sys.executable, "-c", script, "--set", "{failpoints}")
    (_, token) = done.output.strip()[1:-1].split(", ")
    assert done.status == 7 and accepted(f"failpoints: {token[1:-1]}") == [("a", "{}")]


@pytest.fixture
def seen(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve on loopback, and keep the header of each request."""
    headers: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            headers.append(f"failpoints: {self.headers['failpoints']}")
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", headers
        server.shutdown()
        thread.join()


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl(seen: tuple[str, list[str]], run_apart: Run) -> None:
    """A request of curl has the header."""
    url, headers = seen
    done = run_apart("request", "--set", "a=off", *KEY, "--", "curl", "-sS", "--noproxy", "*", url)
    assert (done.status, done.errors) == (0, "")
    assert accepted(headers[0]) == [("a", "{}")]
