"""The standalone control plane: in programs that do not know of it, from import to end, and in their forks."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from failpoints import FailpointUsageError
from failpoints._core.messages import safe_repr
from failpoints._http.address import Address, bind, parse_address, url_of

AT = "/v1/failpoints"
ANY = "127.0.0.1:0"
DEV = ["-X", "dev", "-W", "error"]

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no os.fork")

Run = Callable[..., Any]

# An ordinary program: it logs nothing, and ends with its standard input.
PROGRAM = """
import sys
from failpoints import failpoint

for line in sys.stdin:
    print(failpoint("place").hit(), flush=True)
"""

# The start of the other programs. The control plane starts with the import.
PRELUDE = """
import logging, os, re, signal, sys, threading
import failpoints

def ready():  # announces it, and waits for a line
    print("ready", flush=True)
    sys.stdin.readline()

def stay():  # waits until the standard input ends
    sys.stdin.read()

def on_log(message, function):  # calls a function on the thread that logs a message, while it does so
    class Handler(logging.Handler):
        def emit(self, record):
            if record.getMessage().startswith(message):
                function()
    logger = logging.getLogger("failpoints")
    logger.addHandler(Handler())
    logger.setLevel("INFO")

def in_child(function):
    child = os.fork()
    if child:
        return child
    signal.alarm(30)
    try:
        function()
    except BaseException as error:
        print("failed:", repr(error), flush=True)
        os._exit(1)
    os._exit(0)

def waited(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""


@contextmanager
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def free_port() -> int:
    with taken_port() as port:
        return port


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def test_an_unsuspecting_program(run: Run, raw: Any) -> None:
    """A program is driven from outside, logs the URL once, ends as usual, and prints nothing else."""
    program = run(PROGRAM, interpreter=DEV, FAILPOINTS_HTTP=ANY)
    url = program.url()
    assert raw.ask(url, "PUT", AT, json=[{"name": "place", "actions": "return(7)"}]).body == b"null"
    program.send_line()
    program.line(r"Return\(value='7'\)")
    assert raw.ask(url, "GET", f"{AT}/place/wait").json["sites"] == ["program.py:6"]
    status, printed = program.ended()
    assert (status, len(printed.splitlines())) == (0, 2), printed
    assert printed.startswith(f"failpoints control plane listening on {url} (process {program.pid})\n")


def test_without_the_variable(run: Run) -> None:
    """Without the variable, or with an empty one, there is no server, no thread, and no Starlette or uvicorn."""
    for variables in {}, {"FAILPOINTS_HTTP": ""}, {"FAILPOINTS_TOKEN": ""}:
        program = run(
            """
            import sys, threading
            import failpoints
            assert threading.active_count() == 1
            assert not {"starlette", "uvicorn", "h11"} & set(sys.modules)
            """,
            **variables,
        )
        assert program.ended() == (0, "")


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", r"http://127\.0\.0\.1:\d+$"),
        ("127.9.9.9", r"http://127\.9\.9\.9:\d+$"),
        ("localhost", r"http://127\.0\.0\.1:\d+$"),
        pytest.param(
            "[::1]",
            r"http://\[::1\]:\d+$",
            marks=pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback"),
        ),
    ],
)
def test_where_it_listens(host: str, url: str) -> None:
    """It can listen on any loopback address, and on localhost."""
    with bind(parse_address(f"{host}:0"), allow_remote=False) as listener:
        assert re.fullmatch(url, url_of(listener))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:22381", Address("127.0.0.1", 22381)),
        ("[::1]:0", Address("::1", 0)),
        ("localhost:65535", Address("localhost", 65535)),
    ],
)
def test_valid_addresses(text: str, address: Address) -> None:
    """An address is a host and a port."""
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    ["1", "22381", ":22381", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:-1", "127.0.0.1:65536", "::1:80",
     "127..0.0.1:22381", ".localhost:1", f"{'a' * 64}:80", "[a..b]:80", "\udcff:80",
     "[::1]", "[::1]80", "[]:80", "http://127.0.0.1:80", "127.0.0.1:80/", "a b:80", "127.0.0.1:80:80", "\u0661:\u0661"],
)  # fmt: skip
def test_invalid_addresses(text: str) -> None:
    """The error for an invalid address shows it, what was expected, and where it was given."""
    with pytest.raises(FailpointUsageError) as raised:
        parse_address(text)
    assert str(raised.value).startswith(f"FAILPOINTS_HTTP is {safe_repr(text)}")
    assert ": expected HOST:PORT, such as 127.0.0.1:22381" in str(raised.value)
    with pytest.raises(FailpointUsageError, match="^--http is "):
        parse_address(text, "--http")


def stopped(program: Any) -> str:
    """Return the error message of a program that is stopped by its import of failpoints."""
    status, printed = program.ended()
    assert status == 1, printed
    assert "not reached" not in printed
    return str(printed.splitlines()[-1])


IMPORT = 'import failpoints\nprint("not reached")'
OURS = "failpoints.errors.FailpointUsageError: "


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"FAILPOINTS_HTTP": "22381"}, "FAILPOINTS_HTTP is '22381': expected HOST:PORT, such as"),
        (
            {"FAILPOINTS_HTTP": "127..0.0.1:22381"},
            "FAILPOINTS_HTTP is '127..0.0.1:22381', whose host is neither an address nor a host name: expected HOST",
        ),
        (
            {"FAILPOINTS_HTTP": "no.such.host.invalid:0"},
            "FAILPOINTS_HTTP: cannot resolve the host 'no.such.host.invalid': ",
        ),
        (
            {"FAILPOINTS_HTTP": "0.0.0.0:0"},
            "FAILPOINTS_HTTP would let other machines connect to 0.0.0.0: use 127.0.0.1, or set FAILPOINTS_TOKEN",
        ),
        (
            {"FAILPOINTS_HTTP": ANY, "FAILPOINTS_TOKEN": ""},
            "FAILPOINTS_TOKEN: a token must be a non-empty str of printable ASCII",
        ),
        (
            {"FAILPOINTS_HTTP": "0.0.0.0:0", "FAILPOINTS_TOKEN": " "},
            "FAILPOINTS_TOKEN: a token must be a non-empty str",
        ),
    ],
)
def test_invalid_variables(run: Run, variables: dict[str, str], message: str) -> None:
    """An invalid variable stops the import, with a message that names the variable."""
    assert stopped(run(IMPORT, **variables)).startswith(OURS + message)


def test_a_port_in_use(run: Run) -> None:
    """A fixed port that is in use stops the import."""
    with taken_port() as port:
        message = stopped(run(IMPORT, FAILPOINTS_HTTP=f"127.0.0.1:{port}"))
    assert message.startswith(f"{OURS}FAILPOINTS_HTTP: cannot listen on 127.0.0.1:{port}: Address already in use")


def test_two_programs_on_one_port(run: Run) -> None:
    """The second program on a port is stopped. The port is free again as soon as the first one has ended."""
    port = free_port()
    first = run(PROGRAM, FAILPOINTS_HTTP=f"127.0.0.1:{port}")
    first.send_line()
    first.line("Continue")
    assert "Address already in use" in stopped(run(IMPORT, FAILPOINTS_HTTP=f"127.0.0.1:{port}"))
    first.ended()
    third = run(PROGRAM, FAILPOINTS_HTTP=f"127.0.0.1:{port}")
    third.send_line()
    third.line("Continue")
    assert third.ended()[0] == 0


def test_a_fixed_port_is_logged_at_info(run: Run, raw: Any) -> None:
    """The URL of a fixed port, which is known anyway, is logged at INFO."""
    port = free_port()
    program = run(f"import logging; logging.basicConfig(level='INFO')\n{PROGRAM}", FAILPOINTS_HTTP=f"127.0.0.1:{port}")
    assert (
        program.line(r"INFO:failpoints:failpoints control plane listening on (\S+) ")[1] == f"http://127.0.0.1:{port}"
    )
    assert raw.ask(f"http://127.0.0.1:{port}", "GET", AT).json == []
    quiet = run(PROGRAM, FAILPOINTS_HTTP=f"127.0.0.1:{free_port()}")
    assert quiet.ended() == (0, "")


def test_a_token(run: Run, raw: Any) -> None:
    """With a token it may listen on any address, and requires the token."""
    program = run(PROGRAM, FAILPOINTS_HTTP="0.0.0.0:0", FAILPOINTS_TOKEN="t0k")
    url = program.url().replace("0.0.0.0", "127.0.0.1")
    assert raw.ask(url, "GET", AT).status == 401
    assert raw.ask(url, "GET", AT, "Authorization: Bearer t0k").json == []


BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {package!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocked())
import failpoints{module}
print("not reached")
"""


@pytest.mark.parametrize("package", ["starlette", "uvicorn"])
def test_without_the_extra(run: Run, package: str) -> None:
    """With the variable, but without its requirements, the import stops with a message that says what to install."""
    message = stopped(run(BLOCKED.format(package=package, module=""), FAILPOINTS_HTTP=ANY))
    assert re.fullmatch(
        rf"{OURS}\S+ needs {package}, which is not installed: pip install 'failpoints\[http\]'", message
    )


def test_the_application_without_the_extra(run: Run) -> None:
    """So does an import of the application. A program that uses neither needs no extra."""
    message = stopped(run(BLOCKED.format(package="starlette", module=".admin")))
    assert message == f"{OURS}failpoints.admin needs starlette, which is not installed: pip install 'failpoints[http]'"
    program = run(BLOCKED.format(package="starlette", module="").replace("not reached", "went on"))
    assert program.ended() == (0, "went on\n")


def test_disabled_failpoints(run: Run, raw: Any) -> None:
    """With `FAILPOINTS_ENABLED=0` it shows that nothing is configured, and refuses to configure with the reason."""
    program = run(PROGRAM, FAILPOINTS_HTTP=ANY, FAILPOINTS_ENABLED="0")
    url = program.url()
    assert raw.ask(url, "GET", AT).json == []
    answer = raw.ask(url, "PUT", AT, json=[{"name": "place", "actions": "off"}])
    assert answer.status == 400
    assert "FAILPOINTS_ENABLED=0" in answer.msg


def test_configuration_from_the_environment(run: Run, raw: Any) -> None:
    """`FAILPOINTS` and `FAILPOINTS_HTTP` act on the same registry."""
    program = run(PROGRAM, FAILPOINTS_HTTP=ANY, FAILPOINTS="place=return(1)")
    assert raw.ask(program.url(), "GET", f"{AT}/place").json["actions"] == "return(1)"


# isolation from the program


def test_logging_is_left_alone(run: Run, raw: Any) -> None:
    """The program's logging is not changed: no handler, level or flag, not even for its own uvicorn."""
    program = run(
        """
        import logging, sys

        access = logging.getLogger("uvicorn.access")
        access.addHandler(logging.StreamHandler())
        access.setLevel("INFO")

        def state():
            names = [None, "uvicorn", "uvicorn.access", "uvicorn.error", "uvicorn.asgi", "asyncio"]
            loggers = [logging.getLogger(name) for name in names]
            return [(each.handlers, each.level, each.propagate, each.disabled) for each in loggers]

        before = state()
        import failpoints
        sys.stdin.readline()
        assert state() == before
        """,
        FAILPOINTS_HTTP=ANY,
    )
    url = program.url()
    assert raw.ask(url, "GET", AT).status == 200
    program.send_line()
    assert program.ended() == (0, f"failpoints control plane listening on {url} (process {program.pid})\n")


REFUSED = [
    ["Origin: http://evil.example", "Connection: Upgrade", "Upgrade: websocket"],
    ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c"],
    ["Origin: http://evil.example"],
    ["no header"],
    ["Transfer-Encoding: gzip"],
]


@pytest.mark.parametrize("level", ["WARNING", "DEBUG"])
def test_refused_requests_are_not_logged(run: Run, raw: Any, level: str) -> None:
    """No client or web page can fill the program's log, except at level DEBUG."""
    program = run(
        f"""
        import logging, sys
        logging.basicConfig(level={level!r})
        import failpoints
        print("ready", flush=True)
        sys.stdin.readline()
        """,
        FAILPOINTS_HTTP=ANY,
    )
    url = program.ready()
    for headers in REFUSED:
        assert raw.ask(url, "GET", AT, *headers).status in {200, 400, 403, 501}
    with raw.connected(url) as client:
        client.sendall(b"\x16\x03\x01\x02\x00\r\n\r\n")
        assert raw.answer_on(client).status == 400
    program.send_line()
    status, printed = program.ended()
    logged = printed.partition("ready\n")[2]
    assert status == 0
    assert ("DEBUG:failpoints.http:Unsupported upgrade request." in logged) == (level == "DEBUG")
    assert level == "DEBUG" or not logged, logged


@posix
def test_signals_are_left_alone(run: Run, raw: Any) -> None:
    """Ctrl-C interrupts the main thread as usual, even during a request. No signal handler is installed."""
    program = run(
        """
        import signal, time
        before = [signal.getsignal(number) for number in signal.valid_signals()]
        import failpoints
        assert [signal.getsignal(number) for number in signal.valid_signals()] == before
        assert signal.set_wakeup_fd(-1) == -1
        failpoints.configure("place", "off")
        try:
            print("ready", flush=True)
            while True:  # a signal just before signal.pause(), or any endless wait, would not end it
                time.sleep(0.01)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
            raise
        """,
        FAILPOINTS_HTTP=ANY,
    )
    url = program.ready()
    with raw.connected(url) as client:
        client.sendall(raw.request_of("GET", f"{AT}/place/wait?timeout=1000"))
        assert raw.ask(url, "GET", AT).status == 200  # the server has read the request before this one
        program.send_signal(signal.SIGINT)
        program.line("interrupted")
        status, printed = program.ended()
    assert status == -signal.SIGINT, printed
    assert printed.splitlines()[-1] == "KeyboardInterrupt"


@posix
def test_termination_is_left_alone(run: Run) -> None:
    """SIGTERM ends the program as usual."""
    program = run("import failpoints, signal\nsignal.pause()", FAILPOINTS_HTTP=ANY)
    program.url()
    program.send_signal(signal.SIGTERM)
    assert program.ended()[0] == -signal.SIGTERM


# the end


@pytest.mark.parametrize(
    ("end", "status"), [("", 0), ("sys.exit(3)", 3), ("os._exit(4)", 4), ("raise SystemExit('over')", 1)]
)
def test_a_program_ends_despite_its_clients(run: Run, raw: Any, end: str, status: int) -> None:
    """A program ends at once and quietly while clients wait, are idle, or are in the middle of a request."""
    program = run(
        PRELUDE
        + f"""
failpoints.configure("place", "off")
ready()
{end}
""",
        interpreter=DEV,
        FAILPOINTS_HTTP=ANY,
    )
    url = program.ready()
    clients = [raw.connected(url) for _ in range(4)]
    try:
        clients[0].sendall(raw.request_of("GET", AT))
        assert raw.answer_on(clients[0]).status == 200  # and the connection stays open
        clients[1].sendall(raw.request_of("GET", f"{AT}/place/wait?timeout=1000"))
        clients[2].sendall(raw.request_of("PUT", AT, "Content-Length: 100", "Content-Type: application/json"))
        assert raw.ask(url, "GET", AT).status == 200  # the server has read all the requests before this one
        program.send_line()
        ended, printed = program.ended()
        assert ended == status
        assert printed.replace("over\n", "").count("\n") == 2, printed
        for client in clients:
            assert client.recv(100) == b""
    finally:
        for client in clients:
            client.close()


def test_a_program_that_only_imports(run: Run) -> None:
    """A program that ends while the server is still starting ends quietly."""
    for _ in range(5):
        program = run("import failpoints", interpreter=DEV, FAILPOINTS_HTTP=ANY)
        status, printed = program.ended()
        assert (status, printed.count("\n")) == (0, 1), printed


def test_exit_over_http(run: Run, raw: Any) -> None:
    """A batch with an `exit` is answered first, and then ends the program at its next visit."""
    program = run(
        """
        from failpoints import failpoint
        while True:
            failpoint("place").hit()
        """,
        FAILPOINTS_HTTP=ANY,
    )
    answer = raw.ask(program.url(), "PUT", AT, json=[{"name": "place", "actions": "exit(7)"}])
    assert (answer.status, answer.body) == (200, b"null")
    assert program.ended()[0] == 7


def test_the_main_thread_is_paused_and_resumed(run: Run, raw: Any) -> None:
    """A client can pause the main thread and resume it, because the server has a thread of its own."""
    program = run(PROGRAM, FAILPOINTS_HTTP=ANY)
    url = program.url()
    raw.ask(url, "PUT", AT, json=[{"name": "place", "actions": "pause"}])
    program.send_line()
    [waiting] = raw.ask(url, "GET", f"{AT}/place/wait?paused=1").json["waiting"]
    assert waiting["name"] == "MainThread"
    assert raw.ask(url, "POST", f"{AT}/place/resume").json == {"resumed": 1}
    program.line("Continue")


def test_a_failpoint_on_the_servers_own_thread(run: Run, raw: Any) -> None:
    """A failpoint in a log handler cannot block the server: a pause on the server's thread is an error."""
    program = run(
        PRELUDE
        + """
def visit():
    try:
        failpoints.failpoint("place").hit()
    except Exception as error:
        print("refused:", error, flush=True)
on_log("configured b", visit)
ready()
""",
        FAILPOINTS_HTTP=ANY,
    )
    url = program.ready()
    raw.ask(url, "PUT", AT, json=[{"name": "place", "actions": "pause"}])
    assert raw.ask(url, "PUT", AT, json=[{"name": "b", "actions": "off"}]).status == 200
    program.line("refused: .* event loop")
    assert raw.ask(url, "GET", AT).status == 200


# forks

# Python 3.12 and later warn about a fork beside threads, and the server's thread is one.
FORK_DEV = ["-X", "dev", "-W", "error", "-W", "ignore:This process:DeprecationWarning"]


def urls_of(program: Any, number: int) -> dict[int, str]:
    """Wait until *number* processes log their URLs, and return these by process id."""
    lines = [program.line(r"control plane listening on (http://\S+) \(process (\d+)\)") for _ in range(number)]
    return {int(line[2]): line[1] for line in lines}


@forks
def test_a_child_has_a_port_of_its_own(run: Run, raw: Any) -> None:
    """A forked child listens on a port of its own, and so does its child. Each acts on its own registry."""
    program = run(
        PRELUDE
        + """
failpoints.configure("place", "off")
child = in_child(lambda: (in_child(stay), stay()))
stay()
print(waited(child))
""",
        interpreter=FORK_DEV,
        FAILPOINTS_HTTP=ANY,
    )
    urls = urls_of(program, 3)
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
def test_a_fixed_port_in_a_child(run: Run, raw: Any) -> None:
    """A fixed port stays with the parent. The child logs an error that it has no control plane, and continues."""
    port = free_port()
    program = run(
        PRELUDE
        + """
child = in_child(lambda: (stay(), print("went on", flush=True)))
print("forked", flush=True)
stay()
print(waited(child))
""",
        interpreter=FORK_DEV,
        FAILPOINTS_HTTP=f"127.0.0.1:{port}",
    )
    line = program.line("has no control plane")
    assert re.match(
        rf"process \d+ has no control plane: FAILPOINTS_HTTP: cannot listen on \S+:{port}: Address already in use",
        line.string,
    )
    assert raw.ask(f"http://127.0.0.1:{port}", "GET", AT).json == []
    status, printed = program.ended()
    assert (status, sorted(printed.splitlines())[:2]) == (0, ["0", "forked"]), printed
    assert "went on" in printed


@forks
def test_a_child_without_a_port_forks_again(run: Run) -> None:
    """A child without a control plane can fork. Its children try to get the port again."""
    program = run(
        PRELUDE
        + """
def fork_again():
    sys.stdin.readline()
    for _ in range(3):
        assert waited(in_child(sys.stdin.readline)) == 0
assert waited(in_child(fork_again)) == 0
""",
        interpreter=FORK_DEV,
        FAILPOINTS_HTTP=f"127.0.0.1:{free_port()}",
    )
    for _ in range(4):
        program.line("has no control plane")
        program.send_line()
    status, printed = program.ended()
    assert (status, printed.count("\n")) == (0, 4), printed


CLOSING = (
    """
import atexit, socket
atexit.register(lambda: (check(), [each.close() for each in taken]))  # runs after the exit handlers of failpoints
"""
    + PRELUDE
    + """
failpoints.configure("place", "off")
taken = []

def nothing():
    return []

def files():
    return [open(f"file{number}", "w+") for number in range(90)]

def sockets():
    return [end for _ in range(45) for end in socket.socketpair()]

def listeners():
    return [socket.create_server(("127.0.0.1", 0)) for _ in range(90)]

def close_and_open(take):
    os.closerange(3, 100)
    taken.extend(take())
    assert [each.fileno() for each in taken] == list(range(3, 3 + len(taken)))

def check():
    # everything that was opened is still there, and nothing was written to it
    for each in taken:
        assert os.fstat(each.fileno()).st_size == 0
        if isinstance(each, socket.socket) and not each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            each.setblocking(False)
            try:
                raise AssertionError(each.recv(100))
            except BlockingIOError:
                pass

def wait_for_its_end():
    for thread in threading.enumerate():
        if thread.name == "failpoints control plane":
            thread.join(20)
            assert not thread.is_alive()
    check()
"""
)
STOPPED = "control plane stopped: the program closed its sockets\n"
TAKES = ["nothing", "files", "sockets", "listeners"]


@forks
@pytest.mark.parametrize("take", TAKES)
def test_closing_all_files(run: Run, raw: Any, take: str) -> None:
    """A program that closes all descriptors ends the control plane, which logs it once and leaves new files alone."""
    program = run(
        CLOSING
        + f"""
ready()
close_and_open({take})
wait_for_its_end()
failpoints.failpoint("place").hit()
print("over", flush=True)
stay()
""",
        interpreter=FORK_DEV[:2],
        FAILPOINTS_HTTP=ANY,
    )
    url = program.ready()
    with raw.connected(url) as waiting, raw.connected(url) as idle:
        waiting.sendall(raw.request_of("GET", f"{AT}/place/wait?timeout=1000"))
        assert raw.ask(url, "GET", AT).status == 200
        program.send_line()
        assert (waiting.recv(1), idle.recv(1)) == (b"", b"")
        program.line("over")
        with pytest.raises(ConnectionRefusedError):
            raw.connected(url)
        status, printed = program.ended()
    assert (status, printed.partition("\n")[2]) == (0, f"ready\n{STOPPED}over\n")


@forks
@pytest.mark.parametrize("take", TAKES)
def test_closing_all_files_and_ending(run: Run, take: str) -> None:
    """A program that ends before the control plane notices ends as usual, and soon."""
    program = run(CLOSING + f"close_and_open({take})", interpreter=FORK_DEV[:2], FAILPOINTS_HTTP=ANY)
    status, printed = program.ended()
    assert (status, printed.partition("\n")[2] in {"", STOPPED}) == (0, True), printed


@forks
@pytest.mark.parametrize("take", TAKES)
def test_closing_all_files_and_forking(run: Run, raw: Any, take: str) -> None:
    """A child forked before or after the control plane notices gets a new one. The files of both are left alone."""
    program = run(
        CLOSING
        + f"""
close_and_open({take})
at_once = in_child(lambda: (stay(), check()))
wait_for_its_end()
later = in_child(lambda: (stay(), check()))
stay()
print(waited(at_once), waited(later))
""",
        interpreter=FORK_DEV,
        FAILPOINTS_HTTP=ANY,
    )
    urls = urls_of(program, 3)
    del urls[program.pid]
    for url in urls.values():
        assert raw.ask(url, "GET", AT).status == 200
    status, printed = program.ended()
    rest = [line for line in printed.splitlines(keepends=True) if "control plane listening on" not in line]
    assert (status, rest) == (0, [STOPPED, "0 0\n"]), printed


@forks
@pytest.mark.parametrize("take", TAKES)
def test_a_daemon(run: Run, take: str) -> None:
    """The files of a child that closes all descriptors while its control plane starts are left alone as well."""
    program = run(
        CLOSING
        + f"""
if os.fork():
    os._exit(0)
os.setsid()
signal.alarm(30)
close_and_open({take})
wait_for_its_end()
""",
        interpreter=FORK_DEV[-2:],
        FAILPOINTS_HTTP=ANY,
    )
    status, printed = program.ended()
    lines = printed.splitlines(keepends=True)
    assert (status, lines[2:]) == (0, [STOPPED]), printed
    assert all("control plane listening on" in line for line in lines[:2]), printed


@forks
def test_a_child_that_stays_on_the_servers_own_thread(run: Run, raw: Any) -> None:
    """A child forked on the server's thread, by a log handler, leaves the copy of the parent's loop."""
    program = run(
        PRELUDE
        + """
def fork():
    if not os.fork():
        signal.alarm(30)
        thread = threading.current_thread()
        threading.Thread(target=lambda: (thread.join(), print("left", flush=True), os._exit(0))).start()
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
def test_closing_the_connections_of_clients(run: Run, raw: Any) -> None:
    """If the program closes only connections, the control plane ends and never writes to their descriptor numbers."""
    program = run(
        CLOSING
        + """
from failpoints._http import server
ours = {each.fileno() for each in server._current._sockets._files}
ready()
clients = sorted({each.fileno() for each in server._current._sockets._files} - ours)
for number in clients:
    os.close(number)
taken += sockets()
assert set(clients) < {each.fileno() for each in taken}
failpoints.failpoint("place").hit()  # its answer would go to one of the new files
wait_for_its_end()
print(len(clients), flush=True)
""",
        FAILPOINTS_HTTP=ANY,
    )
    url = program.ready()
    with raw.connected(url) as client:
        client.sendall(raw.request_of("GET", f"{AT}/place/wait?hits=1"))
        with raw.connected(url) as other:
            other.sendall(raw.request_of("GET", AT))
            assert raw.answer_on(other).status == 200
            program.send_line()
            assert client.recv(1) == b""
    status, printed = program.ended()
    assert (status, printed.partition("\n")[2]) == (0, f"ready\n{STOPPED}2\n")


@forks
def test_a_child_that_outlives_its_parent(run: Run, raw: Any) -> None:
    """A child keeps none of its parent's sockets open, and its own control plane survives the parent."""
    program = run(
        PRELUDE
        + """
child = in_child(signal.pause)
sys.stdin.readline()
""",
        FAILPOINTS_HTTP=ANY,
    )
    urls = urls_of(program, 2)
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
        PRELUDE
        + """
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
        PRELUDE
        + """
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
        PRELUDE
        + """
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
        PRELUDE
        + """
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
        PRELUDE
        + f"""
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
    urls = urls_of(program, 1)
    for served in url, *urls.values():
        assert raw.ask(served, "GET", AT).status == 200


@forks
def test_a_fork_in_a_running_loop(run: Run, raw: Any) -> None:
    """A task of the program can fork, on asyncio and on trio."""
    program = run(
        PRELUDE
        + """
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
        PRELUDE
        + """
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
    urls = urls_of(program, 1)
    urls |= urls_of(program, 1)
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
    urls = urls_of(program, 2 + len(preload))
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
def test_gunicorn_with_a_fixed_port(run: Run, raw: Any) -> None:
    """With --preload, a fixed port belongs to the master. The workers log that they have none, and work."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--workers=2", "--bind=127.0.0.1:0", "--preload"]
    program = run(WSGI, command=[*command, "--no-control-socket", "program:app"], FAILPOINTS_HTTP=f"127.0.0.1:{port}")
    site = None
    without = 0
    while without < 2:
        line = program.line(r"Listening at: (\S+)|has no control plane: FAILPOINTS_HTTP: cannot listen")
        site = line[1] or site
        without += line[1] is None
    assert raw.ask(f"http://127.0.0.1:{port}", "GET", AT).json == []
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
    urls = urls_of(program, 2)
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
def test_uvicorn_workers_with_a_fixed_port(run: Run) -> None:
    """A worker of uvicorn that finds the fixed port in use is stopped with a message that says so."""
    program = run(
        "import failpoints\nasync def app(scope, receive, send): ...",
        command=[sys.executable, "-m", "uvicorn", "--workers=2", "--port=0", "program:app"],
        FAILPOINTS_HTTP=f"127.0.0.1:{free_port()}",
    )
    program.line("FailpointUsageError: FAILPOINTS_HTTP: cannot listen on .*: Address already in use")
