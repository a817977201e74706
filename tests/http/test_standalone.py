"""The standalone control plane in programs that do not know of it, from import to end."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

import pytest

from failpoints import FailpointUsageError
from failpoints._core.messages import safe_repr
from failpoints._http.address import Address, PortInUse, bind, parse_address, url_of
from failpoints._http.port_owner import listening_process

AT = "/v1/failpoints"
ANY = "127.0.0.1:0"
DEV = ["-X", "dev", "-W", "error"]

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")

Run = Callable[..., Any]

# An ordinary program: it logs nothing, and ends with its standard input.
PROGRAM = """
import sys
from failpoints import failpoint

for line in sys.stdin:
    print(failpoint("place").hit(), flush=True)
"""


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


LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows which process has a port")


def absent(process: int, owner: str, port: int) -> str:
    return (
        f"process {process} has no control plane: {owner} already listens on 127.0.0.1:{port}."
        " With FAILPOINTS_HTTP=127.0.0.1:0, each process takes a free port and logs it.\n"
    )


@LINUX
def test_a_port_in_use(run: Run, taken_port: Callable[..., Any]) -> None:
    """A process that finds a fixed port in use logs which process has it and what to do, in one line, and goes on."""
    with taken_port() as port:
        program = run(PROGRAM, interpreter=DEV, FAILPOINTS_HTTP=f"127.0.0.1:{port}")
        program.send_line()
        program.line("Continue")
        status, printed = program.ended()
    owner = f"process {os.getpid()}, its parent,"
    assert (status, printed) == (0, f"{absent(program.pid, owner, port)}Continue()\n")


@pytest.mark.parametrize(
    ("process", "owner"),
    [(None, "another process"), (1, "process 1"), (2, "process 2, its parent,"), (3, "this process itself")],
)
def test_the_owner_of_a_port(
    process: int | None, owner: str, taken_port: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the process that has the port, as far as that is known."""
    monkeypatch.setattr("failpoints._http.address.listening_process", lambda port: process)
    monkeypatch.setattr(os, "getppid", lambda: 2)
    monkeypatch.setattr(os, "getpid", lambda: 3)
    with taken_port() as port, pytest.raises(PortInUse, match=f"^{owner} already listens on 127.0.0.1:{port}. "):
        bind(Address("127.0.0.1", port), allow_remote=False)


@LINUX
def test_which_process_listens(taken_port: Callable[..., Any], free_port: int) -> None:
    """A listening socket leads to its process, and a port without one to none."""
    with taken_port() as port:
        assert listening_process(port) == os.getpid()
    assert listening_process(free_port) is None


def test_without_a_table_of_sockets(monkeypatch: pytest.MonkeyPatch, taken_port: Callable[..., Any]) -> None:
    """On a system without /proc, no process is named."""

    def no_such_file(*_: Any, **__: Any) -> Any:
        raise FileNotFoundError

    monkeypatch.setattr("builtins.open", no_such_file)
    with taken_port() as port:
        assert listening_process(port) is None


def test_two_programs_on_one_port(run: Run, free_port: int) -> None:
    """The second program on a port runs without a control plane. The port is free again once the first has ended."""
    address = f"127.0.0.1:{free_port}"
    first = run(PROGRAM, FAILPOINTS_HTTP=address)
    first.send_line()
    first.line("Continue")
    second = run(PROGRAM, FAILPOINTS_HTTP=address)
    second.line(f"process {second.pid} has no control plane: .* already listens on {address}")
    second.ended()
    first.ended()
    third = run(PROGRAM, FAILPOINTS_HTTP=address)
    third.send_line()
    third.line("Continue")
    assert "no control plane" not in third.ended()[1]


def test_a_fixed_port_is_logged_at_info(run: Run, raw: Any, free_port: int) -> None:
    """The URL of a fixed port, which is known anyway, is logged at INFO."""
    program = run(
        f"import logging; logging.basicConfig(level='INFO')\n{PROGRAM}", FAILPOINTS_HTTP=f"127.0.0.1:{free_port}"
    )
    assert (
        program.line(r"INFO:failpoints:failpoints control plane listening on (\S+) ")[1]
        == f"http://127.0.0.1:{free_port}"
    )
    assert raw.ask(f"http://127.0.0.1:{free_port}", "GET", AT).json == []
    program.ended()
    quiet = run(PROGRAM, FAILPOINTS_HTTP=f"127.0.0.1:{free_port}")
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
        f"""
from prelude import *
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
        """
from prelude import *
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
