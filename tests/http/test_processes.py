"""The standalone control plane in forked children, and in the workers of servers."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable
from typing import Any

import pytest

AT = "/v1/failpoints"
ANY = "127.0.0.1:0"
# Python 3.12 and later warn about a fork beside threads, and the server's thread is one.
FORK_DEV = ["-X", "dev", "-W", "error", "-W", "ignore:This process:DeprecationWarning"]

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no os.fork")

Run = Callable[..., Any]


@forks
def test_a_child_has_a_port_of_its_own(run: Run, raw: Any) -> None:
    """A forked child listens on a port of its own, and so does its child. Each acts on its own registry."""
    program = run(
        """
from prelude import *
failpoints.configure("place", "off")
child = in_child(lambda: (in_child(stay), stay()))
stay()
print(waited(child))
""",
        interpreter=FORK_DEV,
        FAILPOINTS_HTTP=ANY,
    )
    urls = program.urls(3)
    assert len(set(urls.values())) == len(urls) == 3
    parent = urls.pop(program.pid)
    for number, url in enumerate(urls.values()):
        raw.ask(url, "PUT", AT, json=[{"name": f"of.{number}", "actions": "off"}])
    assert [each["name"] for each in raw.ask(parent, "GET", AT).json] == ["place"]
    for number, url in enumerate(urls.values()):
        assert [each["name"] for each in raw.ask(url, "GET", AT).json] == [f"of.{number}", "place"]
    status, printed = program.ended()
    assert (status, printed.splitlines()[3:]) == (0, ["0"])


@forks
def test_a_fixed_port_in_a_child(run: Run, raw: Any, free_port: int) -> None:
    """A fixed port stays with the parent. The child logs that it has no control plane, and continues."""
    program = run(
        """
from prelude import *
child = in_child(lambda: (stay(), print("went on", flush=True)))
print("forked", flush=True)
stay()
print(waited(child))
""",
        interpreter=FORK_DEV,
        FAILPOINTS_HTTP=f"127.0.0.1:{free_port}",
    )
    line = program.line("has no control plane")
    assert re.match(rf"process \d+ has no control plane: .* already listens on 127.0.0.1:{free_port}", line.string)
    assert raw.ask(f"http://127.0.0.1:{free_port}", "GET", AT).json == []
    status, printed = program.ended()
    assert (status, sorted(printed.splitlines())[:2]) == (0, ["0", "forked"]), printed
    assert "went on" in printed


@forks
def test_a_child_without_a_port_forks_again(run: Run, free_port: int) -> None:
    """A child without a control plane can fork. Its children try to get the port again."""
    program = run(
        """
from prelude import *
def fork_again():
    sys.stdin.readline()
    for _ in range(3):
        assert waited(in_child(sys.stdin.readline)) == 0
assert waited(in_child(fork_again)) == 0
""",
        interpreter=FORK_DEV,
        FAILPOINTS_HTTP=f"127.0.0.1:{free_port}",
    )
    for _ in range(4):
        program.line("has no control plane")
        program.send_line()
    status, printed = program.ended()
    assert (status, printed.count("\n")) == (0, 4), printed


@forks
def test_a_child_that_stays_on_the_servers_own_thread(run: Run, raw: Any) -> None:
    """A child forked on the server's thread, by a log handler, leaves the copy of the parent's loop."""
    program = run(
        """
from prelude import *
ending = threading.local()
class AtTheEnd:  # of the thread: with glibc 2.43, joining it from another one never returns
    def __del__(self):
        print("left", flush=True)
        os._exit(0)
def fork():
    if not os.fork():
        signal.alarm(30)
        ending.local = AtTheEnd()
on_log("configured new", fork)
ready()
stay()
""",
        FAILPOINTS_HTTP=ANY,
    )
    url = program.ready()
    assert raw.ask(url, "PUT", AT, json=[{"name": "new", "actions": "off"}]).status == 200
    program.line("left")
    assert raw.ask(url, "GET", AT).status == 200


@forks
def test_a_child_that_outlives_its_parent(run: Run, raw: Any) -> None:
    """A child keeps none of its parent's sockets open, and its own control plane survives the parent."""
    program = run(
        """
from prelude import *
child = in_child(signal.pause)
sys.stdin.readline()
""",
        FAILPOINTS_HTTP=ANY,
    )
    urls = program.urls(2)
    parent = urls.pop(program.pid)
    [child] = urls.values()
    with raw.connected(parent) as client:
        client.sendall(raw.request_of("GET", AT))
        assert raw.answer_on(client).status == 200
        program.send_line()
        assert client.recv(1) == b""  # the parent has ended
        with pytest.raises(ConnectionRefusedError):
            raw.connected(parent)
        assert raw.ask(child, "GET", AT).status == 200


@forks
def test_clients_of_the_parent_during_forks(run: Run, raw: Any) -> None:
    """A client that waits at the parent during forks is answered once, by the parent and not by a child."""
    program = run(
        """
from prelude import *
failpoints.configure("place", "off")
ready()
children = [in_child(lambda: failpoints.failpoint("place").hit()) for _ in range(10)]
assert [waited(child) for child in children] == [0] * 10
print("forked", flush=True)
sys.stdin.readline()
failpoints.failpoint("place").hit()
stay()
""",
        interpreter=FORK_DEV,
        FAILPOINTS_HTTP=ANY,
    )
    url = program.ready()
    with raw.connected(url) as client, raw.connected(url) as sender:
        client.sendall(raw.request_of("GET", f"{AT}/place/wait?timeout=100"))
        request = raw.request_of("PUT", AT, json=[{"name": "new", "actions": "off"}])
        sender.sendall(request[:-5])
        assert raw.ask(url, "GET", AT).status == 200
        program.send_line()
        program.line("forked")
        sender.sendall(request[-5:])
        assert raw.answer_on(sender).status == 200
        assert [each["name"] for each in raw.ask(url, "GET", AT).json] == ["new", "place"]
        program.send_line()
        assert raw.answer_on(client).json["hits"] == 1
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(1)


@forks
def test_children_that_end_or_exec_at_once(run: Run, raw: Any) -> None:
    """Children that end or exec at once do so undisturbed, and the parent continues."""
    program = run(
        """
from prelude import *
logging.getLogger("failpoints").setLevel("CRITICAL")
for _ in range(20):
    assert waited(in_child(lambda: None)) == 0
    assert waited(in_child(lambda: os.execv(sys.executable, [sys.executable, "-S", "-c", ""]))) == 0
assert threading.active_count() == 2
print("over", flush=True)
stay()
""",
        interpreter=FORK_DEV,
        FAILPOINTS_HTTP=ANY,
    )
    url = program.url()
    program.line("over")
    assert raw.ask(url, "GET", AT).status == 200
    assert program.ended()[0] == 0


@forks
def test_a_child_that_ends_normally(run: Run) -> None:
    """A child that ends with its exit handlers closes its control plane quietly."""
    program = run(
        """
from prelude import *
for _ in range(5):
    child = os.fork()
    if not child:
        sys.exit(5)
    assert waited(child) == 5
""",
        interpreter=FORK_DEV,
        FAILPOINTS_HTTP=ANY,
    )
    status, printed = program.ended()
    assert status == 0, printed
    assert all("control plane listening on" in line for line in printed.splitlines()), printed


@forks
def test_forks_in_many_threads(run: Run, raw: Any) -> None:
    """Concurrent forks from several threads, during requests, all return and leave the server intact."""
    program = run(
        """
from prelude import *
logging.getLogger("failpoints").setLevel("ERROR")
failpoints.configure("place", "off")
def fork():
    for _ in range(10):
        assert waited(in_child(lambda: failpoints.configure("x", "off"))) == 0
threads = [threading.Thread(target=fork) for _ in range(4)]
print("ready", flush=True)
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("over", flush=True)
stay()
""",
        interpreter=FORK_DEV,
        FAILPOINTS_HTTP=ANY,
    )
    url = program.ready()
    for _ in range(100):
        assert raw.ask(url, "GET", AT).status == 200
    program.line("over")
    assert raw.ask(url, "GET", f"{AT}/place").status == 200
    assert program.ended()[0] == 0


@forks
@pytest.mark.parametrize("lock", ["failpoints._core.store._guard.lock", "handler.lock", "own"])
def test_a_fork_while_the_server_waits_for_the_forking_thread(run: Run, raw: Any, lock: str) -> None:
    """If the server's thread cannot stop, the fork happens anyway, and parent and child are both served."""
    program = run(
        f"""
from prelude import *
own = threading.RLock()
class Handler(logging.Handler):
    def emit(self, record):
        if "configured new" in record.getMessage():
            print("emits", flush=True)
            with own:
                pass
handler = Handler()
logger = logging.getLogger("failpoints")
logger.addHandler(handler)
logger.addHandler(logging.StreamHandler())
logger.setLevel("INFO")
sys.stdin.readline()
with {lock}:
    print("locked", flush=True)
    sys.stdin.readline()
    child = in_child(stay)
stay()
""",
        FAILPOINTS_HTTP=ANY,
    )
    url = program.url()
    program.send_line()
    program.line("locked")
    with raw.connected(url) as client:
        client.sendall(raw.request_of("PUT", AT, json=[{"name": "new", "actions": "off"}]))
        if lock == "own":
            program.line("emits")
        program.send_line()
        assert raw.answer_on(client).status == 200
    urls = program.urls(1)
    for served in url, *urls.values():
        assert raw.ask(served, "GET", AT).status == 200


@forks
def test_a_fork_in_a_running_loop(run: Run, raw: Any) -> None:
    """A task of the program can fork, on asyncio and on trio."""
    program = run(
        """
from prelude import *
import anyio

async def main():
    assert waited(in_child(lambda: failpoints.configure("x", "off"))) == 0
    await anyio.sleep(0)

for backend in "asyncio", "trio":
    anyio.run(main, backend=backend)
print("over", flush=True)
stay()
""",
        interpreter=FORK_DEV,
        FAILPOINTS_HTTP=ANY,
    )
    url = program.url()
    program.line("over")
    assert raw.ask(url, "GET", AT).status == 200
    assert program.ended()[0] == 0


@forks
def test_a_fork_on_the_servers_own_thread(run: Run, raw: Any) -> None:
    """A child forked on the server's thread, by a log handler, has a server, and so has the parent still."""
    program = run(
        """
from prelude import *
logging.getLogger("failpoints").addHandler(logging.StreamHandler())
on_log("configured new", lambda: in_child(signal.pause))
ready()
stay()
""",
        FAILPOINTS_HTTP=ANY,
    )
    url = program.ready()
    assert raw.ask(url, "PUT", AT, json=[{"name": "new", "actions": "off"}]).status == 200
    for served in url, program.url():
        assert raw.ask(served, "GET", AT).status == 200


@pytest.mark.parametrize("method", [pytest.param("fork", marks=forks), "spawn"])
def test_multiprocessing(run: Run, raw: Any, method: str) -> None:
    """A process of `multiprocessing` has a port of its own, and ends when its function does."""
    program = run(
        f"""
        import multiprocessing, os, sys
        import failpoints

        def work(pipe):
            pipe.recv()
            print("worked", flush=True)

        if __name__ == "__main__":
            context = multiprocessing.get_context({method!r})
            ours, theirs = context.Pipe()
            process = context.Process(target=work, args=[theirs])
            process.start()
            print("child", process.pid, flush=True)
            sys.stdin.readline()
            ours.send(None)
            process.join()
            print("ended", process.exitcode, flush=True)
        """,
        interpreter=FORK_DEV,
        FAILPOINTS_HTTP=ANY,
    )
    urls = program.urls(1)
    urls |= program.urls(1)
    assert len(urls) == 2
    for url in urls.values():
        assert raw.ask(url, "GET", AT).status == 200
    program.send_line()
    program.line("worked")
    program.line("ended 0")
    assert program.ended()[0] == 0


WSGI = """
import failpoints

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]
"""


@forks
@pytest.mark.parametrize("preload", [[], ["--preload"]], ids=["", "preload"])
def test_gunicorn(run: Run, raw: Any, preload: list[str]) -> None:
    """Each worker of gunicorn has a port of its own, whether it loads the program before or after the fork."""
    command = [sys.executable, "-m", "gunicorn", "--workers=2", "--bind=127.0.0.1:0", "--no-control-socket", *preload]
    program = run(WSGI, command=[*command, "program:app"], FAILPOINTS_HTTP=ANY)
    urls = program.urls(2 + len(preload))
    assert len(set(urls.values())) == len(urls) == 2 + len(preload)
    for number, url in enumerate(urls.values()):
        raw.ask(url, "PUT", AT, json=[{"name": f"of.{number}", "actions": "off"}])
    for number, url in enumerate(urls.values()):
        assert [each["name"] for each in raw.ask(url, "GET", AT).json] == [f"of.{number}"]
    assert (program.pid in urls) == bool(preload)
    program.send_signal(signal.SIGTERM)
    status, printed = program.ended()
    assert (status, "Traceback" in printed) == (0, False), printed


@forks
def test_gunicorn_with_a_fixed_port(run: Run, raw: Any, free_port: int) -> None:
    """With --preload, a fixed port belongs to the master. The workers log that they have none, and work."""
    command = [sys.executable, "-m", "gunicorn", "--workers=2", "--bind=127.0.0.1:0", "--preload"]
    program = run(
        WSGI, command=[*command, "--no-control-socket", "program:app"], FAILPOINTS_HTTP=f"127.0.0.1:{free_port}"
    )
    site = None
    without = 0
    while without < 2:
        line = program.line(r"Listening at: (\S+)|has no control plane: process \d+, its parent, already")
        site = line[1] or site
        without += line[1] is None
    assert raw.ask(f"http://127.0.0.1:{free_port}", "GET", AT).json == []
    assert site is not None
    assert raw.ask(site, "GET", "/").body == b"hello"
    program.send_signal(signal.SIGTERM)
    assert program.ended()[0] == 0


@posix
def test_uvicorn_workers(run: Run, raw: Any) -> None:
    """Each worker of uvicorn, which is spawned, has a port of its own, and its access log is unaffected."""
    program = run(
        """
        import failpoints

        async def app(scope, receive, send):
            assert scope["type"] == "http"
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body"})
        """,
        command=[sys.executable, "-m", "uvicorn", "--workers=2", "--port=0", "--lifespan=off", "program:app"],
        FAILPOINTS_HTTP=ANY,
    )
    site = program.line(r"Uvicorn running on \D*(http://[\d.:]+)")[1]
    urls = program.urls(2)
    assert len(set(urls.values())) == len(urls) == 2
    for url in urls.values():
        assert raw.ask(url, "GET", AT).json == []
    assert raw.ask(site, "GET", "/here").status == 200
    program.line('"GET /here HTTP/1.1" 200')
    program.send_signal(signal.SIGTERM)
    status, printed = program.ended()
    assert AT not in printed
    assert "Traceback" not in printed
    assert status in {0, -signal.SIGTERM}


@posix
def test_uvicorn_workers_with_a_fixed_port(run: Run, raw: Any, free_port: int) -> None:
    """One of four workers takes a fixed port. Each of the others logs one line, and starts all the same."""
    program = run(
        "import failpoints\nasync def app(scope, receive, send): ...",
        command=[sys.executable, "-m", "uvicorn", "--workers=4", "--port=0", "--lifespan=off", "program:app"],
        FAILPOINTS_HTTP=f"127.0.0.1:{free_port}",
    )
    absent = rf"process (\d+) has no control plane: process (\d+) already listens on 127\.0\.0\.1:{free_port}\. With"
    lines = [program.line(rf"{absent}|Started server process \[(\d+)\]") for _ in range(7)]
    started = {line[3] for line in lines} - {None}
    without = {line[1] for line in lines} - {None}
    owners = {line[2] for line in lines} - {None}
    assert (len(started), len(without), owners) == (4, 3, started - without)
    assert raw.ask(f"http://127.0.0.1:{free_port}", "GET", AT).json == []
    program.send_signal(signal.SIGTERM)
    printed = program.ended()[1]
    assert printed.count("control plane") == 3, printed
    assert "Traceback" not in printed


@posix
@pytest.mark.parametrize("serving", [["--reload"], []], ids=["reload", "one process"])
def test_run_and_a_fixed_port(run: Run, raw: Any, free_port: int, serving: list[str]) -> None:
    """Under `failpoints run`, the process that serves the program has a fixed port, and no supervisor takes it."""
    address = f"127.0.0.1:{free_port}"
    command = [sys.executable, "-m", "uvicorn", "--port=0", *serving, "program:app"]
    program = run(
        """
        import os
        import failpoints

        async def app(scope, receive, send):
            assert scope["type"] == "lifespan"
            await receive()
            print("outcome", await failpoints.failpoint("start"), os.getpid(), flush=True)
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        """,
        command=[sys.executable, "-m", "failpoints", "run", "--set=start=return", "--http", address, "--", *command],
    )
    process = int(program.line(r"outcome Return\(value=None\) (\d+)")[1])
    assert (process == program.pid) == (not serving)
    assert raw.ask(f"http://{address}", "GET", f"{AT}/start").json["hits"] == 1
    program.send_signal(signal.SIGINT)
    assert "no control plane" not in program.ended()[1]


@posix
def test_a_reloader_with_a_fixed_port(run: Run, raw: Any, free_port: int) -> None:
    """A reloader whose parent imports the program too keeps the fixed port there. Its child logs that, and serves."""
    pytest.importorskip("werkzeug")
    program = run(
        """
        import failpoints
        from werkzeug.serving import run_simple

        def app(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [b"hello"]

        run_simple("127.0.0.1", 0, app, use_reloader=True, reloader_type="stat", reloader_interval=60)
        """,
        FAILPOINTS_HTTP=f"127.0.0.1:{free_port}",
    )
    site = program.line(r"Running on (http://[\d.:]+)")[1]
    line = program.line(r"process (\d+) has no control plane: process (\d+), its parent, already listens on")
    assert (int(line[2]), int(line[1]) == program.pid) == (program.pid, False)
    assert raw.ask(site, "GET", "/").body == b"hello"
    assert raw.ask(f"http://127.0.0.1:{free_port}", "GET", AT).json == []
