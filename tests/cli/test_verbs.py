"""The verbs that control a running program, against the control plane of this process."""

from __future__ import annotations

import json
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

import failpoints
from failpoints import failpoint
from failpoints._core.registry import PROCESS_WIDE
from failpoints._http.wire import status_document

Run = Callable[..., Any]
Waiter = Callable[..., threading.Thread]
Serving = Callable[..., AbstractContextManager[str]]

NEEDS_CONFIGURATION = ["remove", "off", "resume", "wait"]


# list


def test_list_as_json(run: Run, server: str, waiter: Waiter) -> None:
    """`list --json` prints the documents of the control plane, in ASCII."""
    failpoints.configure("backup", "2*off->pause", context={"shard": 3})
    failpoints.configure("upload", "pause")
    waiter("upload")
    failpoint("backup", context={"shard": 2, "name": "é\x1b"}).hit()
    done = run("list", "--json")
    assert (done.status, done.errors) == (0, "")
    assert json.loads(done.output) == [status_document(status) for status in failpoints.statuses()]
    assert done.output.replace("\n", "").isprintable()


def test_list_of_nothing(run: Run, server: str) -> None:
    """Without configured failpoints the list is empty, with a note on stderr."""
    assert run("list") == (0, "", "no failpoint is configured\n")
    assert run("list", "--json") == (0, "[]\n", "")


def test_list_all(run: Run, server: str) -> None:
    """`list --all` also shows what the program only declares, with the places in its source."""
    failpoints.configure("never.declared", "off")
    lines = {line.split()[0]: line.split() for line in run("list", "--all").output.splitlines()}
    assert lines["failpoint"][-1] == "sites"
    assert lines["declared.here"][:-1] == ["declared.here", "-", "-", "0", "0", "0", "-"]
    assert lines["declared.here"][-1] == f"tests/cli/test_verbs.py:{declared_here.__code__.co_firstlineno}"
    assert lines["never.declared"] == ["never.declared", "off", "-", "0", "0", "0", "-", "-"]
    documents = json.loads(run("list", "--all", "--json").output)
    assert [document["name"] for document in documents] == sorted(document["name"] for document in documents)
    [document] = [document for document in documents if document["name"] == "declared.here:after"]
    assert document["actions"] == ""
    assert document["sites"] == lines["declared.here"][-1:]


@failpoint("declared.here")
def declared_here() -> None: ...


def test_list_all_of_nothing(run: Run, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If nothing is declared either, the list is empty, with a note on stderr."""
    monkeypatch.setattr("failpoints._http.app.with_declared", lambda statuses: statuses)
    assert run("list", "--all") == (0, "", "no failpoint is configured or declared\n")


# set


def test_set(run: Run, server: str) -> None:
    """`set` configures a failpoint with the given matchers."""
    assert run("set", "never.visited:after", "1*raise(OSError: a=b)")[:2] == (
        0,
        "never.visited:after: 1*raise(OSError: a=b)\n",
    )
    assert run("set", "backup", "pause", "--context", "tenant_id=t.*=1", "--context", "shard=3").status == 0
    backup, never_visited = failpoints.statuses()
    assert (backup.name, backup.matchers) == ("backup", {"tenant_id": "t.*=1", "shard": "3"})
    assert (never_visited.actions, never_visited.matchers) == (failpoints.parse_actions("1*raise(OSError: a=b)"), {})


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("declared.her:after", "; did you mean 'declared.here:after', declared at tests/cli/test_verbs.py:{line}?"),
        ("zqxj!", ""),
    ],
)
def test_set_of_a_name_without_a_site(name: str, hint: str, run: Run, server: str) -> None:
    """`set` of a name that the program does not declare configures it, and notes the most similar name that it does."""
    line = declared_here.__code__.co_firstlineno
    assert run("set", name, "off") == (
        0,
        f"{name}: off\n",
        f"note: {name!r} is not in any module that the program has imported so far{hint.format(line=line)}\n",
    )


def test_set_of_a_name_with_a_site(run: Run, server: str) -> None:
    """`set` of a name that the program declares has no note, whether or not the program has visited it."""
    assert run("set", "declared.here:after", "off") == (0, "declared.here:after: off\n", "")
    assert run("set", "backup", "off") == (0, "backup: off\n", "")


def test_set_wakes_waiters(run: Run, server: str, waiter: Waiter) -> None:
    """`set` wakes everything waiting at the failpoint."""
    failpoints.configure("backup", "pause")
    thread = waiter("backup")
    assert run("set", "backup", "off").status == 0
    thread.join(50)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x", "2*retrun(1)"], "expected an action, found 'retrun'; did you mean 'return'?\n    2*retrun(1)\n      ^"),
        (
            ["a b", "off"],
            "a failpoint's name must be printable, without white space, '=', ';', '[' or ']'; got 'a b'\n"
            "    a b\n     ^",
        ),
        (["x", "off", "--context", "a"], "expected KEY=PATTERN, such as tenant_id=test_.*; got 'a'"),
        (["x", "off", "--context", "=a"], "expected KEY=PATTERN, such as tenant_id=test_.*; got '=a'"),
        (
            ["x", "off", "--context", "a=1", "--context", "a=2"],
            "the key 'a' is given twice; one pattern can match both: a='one|other'",
        ),
        (
            ["x", "off", "--context", "a=("],
            "the pattern for 'a' is not a valid regular expression: '(': missing ), unterminated subpattern"
            " at position 0",
        ),
    ],
)
def test_invalid_arguments_of_set(arguments: list[str], message: str, run: Run) -> None:
    """Invalid arguments are usage errors, before the program is contacted."""
    assert run("set", *arguments) == (2, "", f"Error: {message}\n")


# remove, reset


@pytest.mark.parametrize("verb", ["remove", "off"])
def test_remove(verb: str, run: Run, server: str, waiter: Waiter) -> None:
    """`remove`, formerly `off`, removes the configuration of one failpoint and wakes everything waiting there."""
    failpoints.configure("backup", "pause")
    failpoints.configure("upload", "off")
    thread = waiter("backup")
    assert run(verb, "backup") == (0, "backup: removed\n", "")
    thread.join(50)
    assert not thread.is_alive()
    assert [status.name for status in failpoints.statuses()] == ["upload"]


def test_reset(run: Run, server: str, waiter: Waiter) -> None:
    """`reset` removes all configuration, and does nothing if there is none."""
    failpoints.configure("backup", "pause")
    failpoints.configure("upload", "off")
    thread = waiter("backup")
    assert run("reset") == (0, "all failpoints removed\n", "")
    thread.join(50)
    assert not thread.is_alive()
    assert failpoints.statuses() == []
    assert run("reset").status == 0


# resume


def test_resume(run: Run, server: str, waiter: Waiter) -> None:
    """`resume` wakes all waiters, prints their number, and leaves the failpoint configured."""
    failpoints.configure("backup", "pause")
    threads = [waiter("backup"), waiter("backup")]
    assert run("resume", "backup") == (0, "backup: 2 resumed\n", "")
    for thread in threads:
        thread.join(50)
        assert not thread.is_alive()
    assert run("resume", "backup") == (1, "", "nothing is waiting at failpoint 'backup'\n")
    assert failpoints.status("backup").hits == 2


def test_resume_a_part(run: Run, server: str) -> None:
    """`resume` releases only the waiters that `--context` matches, and of those `--tasks` that have waited longest."""
    failpoints.configure("stock.sell", "pause")
    threads: dict[str, threading.Thread] = {}
    for number, customer in enumerate(["Ada", "Grace", "Alan"], start=1):
        site = failpoint("stock.sell", context={"customer": customer})
        threads[customer] = threading.Thread(target=site.hit, daemon=True)
        threads[customer].start()
        failpoints.wait_until_paused_sync("stock.sell", number, timeout=50)

    def waiting() -> list[str]:
        return [each.context["customer"] for each in failpoints.status("stock.sell").waiting]

    assert run("resume", "stock.sell", "--context", "customer=A.*", "--tasks", "1") == (
        0,
        "stock.sell: 1 resumed\n",
        "",
    )
    threads["Ada"].join(50)
    assert waiting() == ["Grace", "Alan"]
    done = run("resume", "stock.sell", "--context", "customer=B.*")
    assert done == (1, "", "2 tasks wait at failpoint 'stock.sell', none with such a context\n")
    assert run("resume", "stock.sell", "--tasks", "1").status == 0
    threads["Grace"].join(50)
    assert waiting() == ["Alan"]
    done = run("resume", "stock.sell", "--context", "customer=B.*")
    assert done == (1, "", "1 task waits at failpoint 'stock.sell', none with such a context\n")
    assert run("resume", "stock.sell", "--tasks", "5").output == "stock.sell: 1 resumed\n"
    threads["Alan"].join(50)
    assert run("resume", "stock.sell", "--tasks", "0").status == 2


# wait


def test_wait_for_hits(run: Run, server: str) -> None:
    """`wait` ends with exit status 0 once the failpoint was hit `--hits` times. Earlier hits count."""
    failpoints.configure("backup", "off")
    failpoint("backup").hit()
    assert run("wait", "backup") == (0, "backup: hit once\n", "")
    failpoint("backup").hit()
    assert run("wait", "backup", "--hits", "2", "--timeout", "0") == (0, "backup: hit 2 times\n", "")


def test_wait_for_waiters(run: Run, server: str, waiter: Waiter) -> None:
    """`wait --paused N` ends once N tasks or threads are waiting there."""
    failpoints.configure("backup", "pause")
    waiter("backup")
    waiter("backup")
    assert run("wait", "backup", "--paused", "2") == (0, "backup: 2 waiting\n", "")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Return an event that is set once a client has asked the server for a wait."""
    asked = threading.Event()
    for name in ("wait_until_hit", "wait_until_paused"):
        wait = getattr(PROCESS_WIDE, name)

        async def noted(*arguments: Any, wait: Callable[..., Any] = wait, **options: Any) -> None:
            asked.set()
            await wait(*arguments, **options)

        monkeypatch.setattr(PROCESS_WIDE, name, noted)
    return asked


def test_wait_until_it_happens(spawn: Callable[..., Any], server: str, waiter: Waiter, asked: threading.Event) -> None:
    """`wait` blocks until a thread is waiting there."""
    failpoints.configure("backup", "pause")
    child = spawn("wait", "backup", "--paused", "1", "--timeout", "50")
    assert asked.wait(50)
    assert child.poll() is None
    waiter("backup")
    assert child.communicate(timeout=50) == ("backup: 1 waiting\n", "")
    assert child.returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals that a process could be sent")
def test_ctrl_c_ends_a_wait(spawn: Callable[..., Any], server: str, asked: threading.Event) -> None:
    """Ctrl-C ends a wait with exit status 130 and no message."""
    failpoints.configure("backup", "pause")
    child = spawn("wait", "backup", "--timeout", "50")
    assert asked.wait(50)
    child.send_signal(signal.SIGINT)
    assert child.communicate(timeout=50) == ("", "")
    assert child.returncode == 130


def test_wait_timeout(run: Run, server: str) -> None:
    """A timeout is exit status 1, with the facts about the failpoint on stderr."""
    failpoints.configure("backup", "pause", context={"tenant_id": "t1"})
    failpoint("backup", context={"tenant_id": "t2"}).hit()
    done = run("wait", "backup", "--timeout", "0.01")
    assert (done.status, done.output) == (1, "")
    assert done.errors.startswith("failpoint 'backup' was not hit within 0.01 s\n")
    assert "configured: pause where tenant_id='t1'" in done.errors
    assert "hits 0, misses 1, triggers 0" in done.errors
    assert "tenant_id='t2' does not match 't1'" in done.errors


def test_wait_for_a_removed_failpoint(spawn: Callable[..., Any], server: str, asked: threading.Event) -> None:
    """Removing the failpoint ends a wait at once, with exit status 1."""
    failpoints.configure("backup", "off")
    child = spawn("wait", "backup", "--timeout", "50")
    assert asked.wait(50)
    failpoints.remove("backup")
    output, errors = child.communicate(timeout=50)
    assert (child.returncode, output) == (1, "")
    assert "'backup'" in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--hits", "1", "--paused", "1"], "give --hits or --paused, not both"),
        (["--timeout", "-1"], "--timeout must be a number of seconds, 0 or more; got -1"),
        (["--timeout", "inf"], "--timeout must be a number of seconds, 0 or more; got inf"),
        (["--timeout", "nan"], "--timeout must be a number of seconds, 0 or more; got nan"),
    ],
)
def test_invalid_arguments_of_wait(arguments: list[str], message: str, run: Run) -> None:
    """Conflicting options and impossible timeouts are usage errors."""
    assert run("wait", "backup", *arguments) == (2, "", f"Error: {message}\n")


@pytest.mark.parametrize("arguments", [["--hits", "0"], ["--paused", "x"], ["--timeout", "soon"]])
def test_invalid_numbers_of_wait(arguments: list[str], run: Run) -> None:
    """Text and numbers that are too low are usage errors that name the option."""
    done = run("wait", "backup", *arguments)
    assert (done.status, done.output) == (2, "")
    assert arguments[0] in done.errors


# what all have in common


@pytest.mark.parametrize("verb", NEEDS_CONFIGURATION)
def test_a_name_that_is_not_configured(verb: str, run: Run, server: str) -> None:
    """For a name that is not configured the exit status is 1, and the message suggests the nearest name."""
    failpoints.configure("gateway.charge", "pause")
    done = run(verb, "gatway.charge")
    assert done == (1, "", "failpoint 'gatway.charge' is not configured; did you mean 'gateway.charge'?\n")
    assert [status.name for status in failpoints.statuses()] == ["gateway.charge"]


@pytest.mark.parametrize("name", ["a/b", "a%2Fb", "..", "a::b:after", "payé→支", "wait", "a/wait", "%", "?x#y", "-"])
def test_unusual_names(name: str, run: Run, server: str, waiter: Waiter) -> None:
    """Every verb works with every valid name, and affects no other failpoint."""
    failpoints.configure("other", "pause")
    assert run("set", name, "pause").status == 0
    waiter(name)
    assert run("wait", name, "--paused", "1").status == 0
    assert run("resume", name).status == 0
    assert run("remove", name).status == 0
    assert [status.name for status in failpoints.statuses()] == ["other"]


@pytest.mark.parametrize(
    "arguments",
    [["list"], ["set", "x", "off"], ["remove", "x"], ["reset"], ["resume", "x"], ["wait", "x"], ["watch"]],
    ids=lambda arguments: arguments[0],
)
def test_no_server(arguments: list[str], run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """If nothing answers, the message is one line with the URL and what to do about it, and the exit status is 2."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # but does not listen
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        monkeypatch.setenv("FAILPOINTS_URL", url)
        done = run(*arguments)
    assert (done.status, done.output) == (2, "")
    assert done.errors.startswith("Error: ")
    assert done.errors.count("\n") == 1
    assert url in done.errors
    assert "FAILPOINTS_HTTP" in done.errors


def test_an_invalid_url(run: Run) -> None:
    """An invalid URL is a usage error that suggests a valid one."""
    done = run("list", "--url", "localhost:22381")
    assert (done.status, done.output) == (2, "")
    assert "http://localhost:22381" in done.errors


def test_where_the_url_comes_from(run: Run, serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """The URL comes from the verb's option, then the option before the verb, the variable, and the default."""
    assert "http://127.0.0.1:22381" in run("--help").output
    wrong = "http://127.0.0.1:1"
    with serving() as url:
        monkeypatch.setenv("FAILPOINTS_URL", wrong)
        assert run("--url", wrong, "list", "--url", url).status == 0
        assert run("--url", url, "list").status == 0
        assert run("list").status == 2
        monkeypatch.setenv("FAILPOINTS_URL", url)
        assert run("list").status == 0
        assert run("list", "--url", wrong).status == 2


def test_where_the_token_comes_from(run: Run, serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """The token comes from the same places in the same order. A wrong token is refused and never shown."""
    with serving(token="secret") as url:
        monkeypatch.setenv("FAILPOINTS_URL", url)
        assert run("list").status == 2
        assert run("--token", "secret", "list").status == 0
        assert run("--token", "wrong", "list", "--token", "secret").status == 0
        monkeypatch.setenv("FAILPOINTS_TOKEN", "secret")
        assert run("list").status == 0
        done = run("list", "--token", "wrong-one")
        assert (done.status, done.output) == (2, "")
        assert "wrong-one" not in done.errors
        assert "secret" not in done.errors


def test_a_foreign_server(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer of another server is an error, and its control characters are escaped."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b'HTTP/1.1 400 No\r\nContent-Length: 19\r\n\r\n{"msg": "\\u001b[2J"}')

        thread = threading.Thread(target=answer)
        thread.start()
        monkeypatch.setenv("FAILPOINTS_URL", f"http://127.0.0.1:{listener.getsockname()[1]}")
        done = run("list")
        thread.join(50)
    assert (done.status, done.output) == (2, "")
    assert "\x1b" not in done.errors


def test_a_program_that_was_started_by_run(
    spawn: Callable[..., Any], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other verbs control a program that `run --http` started, without any code for it in the program."""
    script = """if True:
        import asyncio
        from failpoints import failpoint
        async def main():
            outcome = await failpoint("backup")
            print("continued", flush=True)
        asyncio.run(main())
    """
    child = spawn("run", "--set", "backup=pause", "--http", "127.0.0.1:0", "--", sys.executable, "-c", script)
    assert child.stderr.readline() == "FAILPOINTS is in force: backup=pause\n"
    line = child.stderr.readline()
    url = next(word.strip(".,;") for word in line.split() if word.startswith("http://"))
    monkeypatch.setenv("FAILPOINTS_URL", url)
    assert run("wait", "backup", "--paused", "1", "--timeout", "50").status == 0
    assert run("resume", "backup") == (0, "backup: 1 resumed\n", "")
    assert child.communicate(timeout=50)[0] == "continued\n"
    assert child.returncode == 0
