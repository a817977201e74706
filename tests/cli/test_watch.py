"""`failpoints watch` shows what is configured, and every change."""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import pytest

import failpoints
from failpoints import failpoint
from failpoints._http.wire import status_document

Spawn = Callable[..., Any]
Terminal = Callable[..., Any]
Serving = Callable[..., AbstractContextManager[str]]
Program = Sequence[str]

SHOW_CURSOR = "\x1b[?25h"
HIDE_CURSOR = "\x1b[?25l"
SIGNALS = pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals that a process could be sent")


@POSIX
@SIGNALS
def test_json_has_a_line_for_every_change(
    name: str, status: int, spawn: Spawn, impatient: Program, server: str
) -> None:
    """`watch --json` prints a line at once and after every change, until a signal ends it without a message."""
    child = spawn("watch", "--json", program=impatient)
    assert json.loads(child.stdout.readline()) == []
    failpoints.configure("backup", "off", context={"shard": 3})
    assert json.loads(child.stdout.readline()) == [status_document(failpoints.status("backup"))]
    failpoint("backup", context={"shard": 3}).hit()
    assert json.loads(child.stdout.readline()) == [status_document(failpoints.status("backup"))]
    failpoints.remove("backup")
    assert json.loads(child.stdout.readline()) == []
    child.send_signal(getattr(signal, name))
    assert child.communicate(timeout=50) == ("", "")
    assert child.returncode == status


@POSIX
@SIGNALS
def test_a_table_for_every_change(name: str, status: int, spawn: Spawn, impatient: Program, server: str) -> None:
    """In a pipe `watch` prints the plain table and an empty line, at once and after every change."""
    failpoints.configure("backup", "off")
    child = spawn("watch", program=impatient)
    heading = "failpoint  actions  matchers  hits  misses  triggers  waiting\n"
    assert [child.stdout.readline() for _ in range(3)] == [
        heading,
        "backup     off      -            0       0         0  -\n",
        "\n",
    ]
    failpoint("backup").hit()
    assert [child.stdout.readline() for _ in range(3)] == [
        heading,
        "backup     off      -            1       0         1  -\n",
        "\n",
    ]
    failpoints.remove("backup")
    assert [child.stdout.readline() for _ in range(2)] == ["no failpoint is configured\n", "\n"]
    child.send_signal(getattr(signal, name))
    assert child.communicate(timeout=50) == ("", "")
    assert child.returncode == status


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_it_ends_with_the_program(arguments: list[str], spawn: Spawn, impatient: Program, serving: Serving) -> None:
    """In a pipe `watch` ends when the program ends, with exit status 2 and a one-line message."""
    failpoints.configure("backup", "off")
    with serving() as url:
        child = spawn("watch", *arguments, program=impatient, FAILPOINTS_URL=url)
        assert "backup" in child.stdout.readline() + (child.stdout.readline() if not arguments else "")
    _, errors = child.communicate(timeout=50)
    assert child.returncode == 2
    assert errors.startswith("Error: ")
    assert url in errors
    assert errors.count("\n") == 1


def test_a_closed_pipe(spawn: Spawn, impatient: Program, server: str) -> None:
    """`watch` ends without a message when the reader of its output is gone."""
    child = spawn("watch", "--json", program=impatient)
    child.stdout.readline()
    child.stdout.close()
    failpoints.configure("backup", "off")
    assert child.wait(50) == 141
    assert child.stderr.read() == ""


@pytest.mark.parametrize(("ended_by", "status"), [("a key", 130), ("SIGTERM", 143)])
def test_a_terminal(
    ended_by: str, status: int, terminal: Terminal, impatient: Program, server: str, waiter: Callable[..., Any]
) -> None:
    """At a terminal one table is updated in place, and the cursor is visible again at the end."""
    shown = terminal("watch", columns=120, program=impatient)
    shown.read_until("no failpoint is configured")
    failpoints.configure("backup", "pause")
    shown.read_until("backup")
    waiter("backup", "Thread-of-mine", shard=3)
    shown.read_until_true(
        lambda output: len(set(re.findall(r"Thread-of-mine for (\d+\.\d) s", output))) > 1, "a second duration"
    )
    assert re.search(r"Thread-of-mine at backup for \d+\.\d s: shard=3", shown.output)
    failpoints.configure("backup", "2*off", context={"tenant_id": "t1"})
    shown.read_until("tenant_id=t1")
    assert HIDE_CURSOR in shown.output
    assert SHOW_CURSOR not in shown.output
    if ended_by == "a key":
        shown.type("\x03")
    else:
        shown.child.terminate()
    assert shown.ended() == status
    assert shown.output.rindex(SHOW_CURSOR) > shown.output.rindex(HIDE_CURSOR)
    assert "Traceback" not in shown.output


@failpoint("watch.declared")
def declared() -> None:
    """Declare a failpoint that nothing configures."""


def test_a_terminal_before_anything_is_configured(terminal: Terminal, impatient: Program, server: str) -> None:
    """At a terminal `watch` shows what the program declares while nothing is configured, then again afterwards."""
    shown = terminal("watch", program=impatient)
    shown.read_until("the program declares")
    failpoints.configure("backup", "off")
    shown.read_until("triggers")
    failpoints.remove("backup")
    shown.output = ""
    shown.read_until("failpoints set NAME ACTIONS")
    shown.type("\x03")
    assert shown.ended() == 130


def test_a_terminal_waits_for_the_program(terminal: Terminal, impatient: Program, serving: Serving) -> None:
    """At a terminal `watch` shows that the program cannot be reached, and continues once it can."""
    failpoints.configure("backup", "off")
    with serving() as url:
        shown = terminal("watch", program=impatient, FAILPOINTS_URL=url)
        shown.read_until("backup")
    shown.read_until("FAILPOINTS_HTTP")
    failpoints.configure("upload", "off")
    with serving(port=int(url.rpartition(":")[2])):
        shown.read_until("upload")
        shown.type("\x03")
        assert shown.ended() == 130
    assert "Traceback" not in shown.output


def test_a_terminal_without_a_program(terminal: Terminal) -> None:
    """If the program cannot be reached at first, that is an error, and the cursor is not hidden."""
    shown = terminal("watch", "--url", "http://127.0.0.1:1")
    assert shown.ended() == 2
    assert shown.output.startswith("Error: ")
    assert HIDE_CURSOR not in shown.output
