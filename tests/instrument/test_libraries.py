"""Failpoints in real libraries: a lost reply, a refused connection, a disk that is full, a database that is locked."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiosqlite
import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from failpoints import FailpointUsageError, Return, configured, status
from failpoints.instrument import instrument
from failpoints.pytest_plugin import Failpoints

pytestmark = pytest.mark.anyio


class Service:
    """A service over HTTP that counts what it was asked."""

    def __init__(self) -> None:
        self.orders: list[str] = []
        self.app = Starlette(routes=[Route("/orders/{order}", self.take, methods=["POST"])])

    async def take(self, request: Request) -> Response:
        self.orders.append(request.path_params["order"])
        return PlainTextResponse("taken", 201)

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://service")


async def ordered(service: Service, order: str, tries: int = 3) -> int:
    """Order, retry if no reply comes, and return the number of tries."""
    async with service.client() as client:
        for number in range(1, tries + 1):
            try:
                response = await client.post(f"/orders/{order}")
            except httpx.TransportError:
                continue
            assert response.status_code == 201
            return number
    raise TimeoutError


# httpx


@pytest.fixture
def sending() -> Iterator[None]:
    with instrument(
        "httpx:AsyncClient.send",
        "http.send",
        context=lambda client, request, **_: {"path": request.url.path},
        raises=(httpx.ConnectError, httpx.ReadTimeout),
    ):
        yield


async def test_a_reply_is_lost(sending: None, failpoints: Failpoints) -> None:
    """At `:after` the request has been served but the reply is lost, so the client orders twice."""
    service = Service()
    reply = failpoints.set("http.send:after", "1*raise(ReadTimeout)", context={"path": "/orders/.*"})
    assert await ordered(service, "a") == 2
    assert service.orders == ["a", "a"]
    assert (reply.hits, reply.triggers) == (2, 1)


async def test_a_connection_is_refused(sending: None, failpoints: Failpoints) -> None:
    """Before the body nothing has been sent, and the client handles the injected httpx exception."""
    service = Service()
    failpoints.set("http.send", "2*raise(ConnectError: refused)")
    assert await ordered(service, "a") == 3
    assert service.orders == ["a"]
    with pytest.raises(TimeoutError):
        await ordered(service, "b", tries=0)
    failpoints.set("http.send", "raise(httpx.ConnectError)")
    with pytest.raises(TimeoutError):
        await ordered(service, "b")


async def test_a_response_is_made_up(sending: None, failpoints: Failpoints) -> None:
    """`Return` returns any object, but a string cannot be converted to a response."""
    service = Service()
    failpoints.set("http.send", Return(httpx.Response(201)))
    assert (await ordered(service, "a"), service.orders) == (1, [])
    failpoints.set("http.send", "return(201)", expect_hit=False)
    with pytest.raises(FailpointUsageError, match="cannot be converted to its return annotation Response"):
        await ordered(service, "a")


async def test_a_request_waits(sending: None, failpoints: Failpoints) -> None:
    """One request is paused before it is sent while another one completes."""
    service = Service()
    async with anyio.create_task_group() as tasks, failpoints.paused("http.send", context={"path": ".*/a"}) as first:
        tasks.start_soon(ordered, service, "a")
        await first.wait_paused()
        await ordered(service, "b")
        first.resume()
    assert service.orders == ["b", "a"]


async def test_where_it_is(sending: None) -> None:
    """`status` has the file and line of the library's function."""
    code = httpx.AsyncClient.send.__code__
    assert (
        status("http.send").sites == status("http.send:after").sites == (f"{code.co_filename}:{code.co_firstlineno}",)
    )


# sqlite3, written in C, and aiosqlite


def test_a_function_written_in_c(failpoints: Failpoints) -> None:
    """`sqlite3.connect`, a C function of a module, can be replaced. Its location is its path."""
    connect = sqlite3.connect
    with instrument("sqlite3:connect", "db.connect", raises=(sqlite3.OperationalError,)):
        assert failpoints.status("db.connect").sites == ("sqlite3:connect",)
        failpoints.set("db.connect", "1*raise(OperationalError: unable to open database file)")
        with pytest.raises(sqlite3.OperationalError, match="unable to open"):
            sqlite3.connect(":memory:")
        sqlite3.connect(":memory:").close()
    assert sqlite3.connect is connect


@pytest.mark.parametrize("path", ["sqlite3:Connection.execute", "sqlite3:Cursor.execute", "builtins:dict.get"])
def test_a_method_of_a_class_written_in_c(path: str) -> None:
    """A method of a C class cannot be replaced, and the error suggests an alternative."""
    with pytest.raises(FailpointUsageError) as error:
        instrument(path, "db.execute")
    assert str(error.value) == (
        f"'{path}' is a method of a class written in C, which Python does not allow to be changed: instrument the"
        " method of a subclass, or a Python function that calls it"
    )
    assert status("db.execute").sites == ()


class Connection(sqlite3.Connection):
    """A connection class for `sqlite3.connect(factory=…)`."""


def test_a_method_that_a_subclass_inherits_from_c(failpoints: Failpoints) -> None:
    """A subclass of a C class gets its own method as a failpoint, and inherits the original again after undo."""
    with instrument(f"{__name__}:Connection.execute", "db.execute", raises=(sqlite3.OperationalError,)):
        connection = sqlite3.connect(":memory:", factory=Connection)
        failpoints.set("db.execute", "1*off->1*raise(OperationalError: database is locked)")
        connection.execute("CREATE TABLE t (x)")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            connection.execute("INSERT INTO t VALUES (1)")
        connection.execute("INSERT INTO t VALUES (2)")
        assert connection.execute("SELECT x FROM t").fetchall() == [(2,)]
        connection.close()
    assert "execute" not in vars(Connection)
    assert Connection.execute is sqlite3.Connection.execute


@pytest.fixture
def on_asyncio(anyio_backend_name: str) -> None:
    if anyio_backend_name != "asyncio":
        pytest.skip("aiosqlite is for asyncio")


async def test_a_commit_whose_reply_is_lost(on_asyncio: None, tmp_path: Path, failpoints: Failpoints) -> None:
    """With an async driver, the data is written although the commit seems to have failed."""
    file = tmp_path / "db"
    with (
        instrument("aiosqlite:Connection.execute", "db.execute", context=["sql"], raises=(sqlite3.OperationalError,)),
        instrument("aiosqlite:Connection.commit", "db.commit", raises=(sqlite3.OperationalError,)),
    ):
        async with aiosqlite.connect(file) as database:
            await database.execute("CREATE TABLE t (x)")
            failpoints.set("db.execute", "1*raise(OperationalError: database is locked)", context={"sql": "INSERT.*"})
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                await database.execute("INSERT INTO t VALUES (1)")
            await database.execute("INSERT INTO t VALUES (2)")
            failpoints.set("db.commit:after", "raise(OperationalError: disk I/O error)")
            with pytest.raises(sqlite3.OperationalError, match="disk"):
                await database.commit()
    with sqlite3.connect(file) as connection:
        assert connection.execute("SELECT x FROM t").fetchall() == [(2,)]
    connection.close()


# anyio


async def test_a_file_cannot_be_opened(tmp_path: Path, failpoints: Failpoints) -> None:
    """`anyio.open_file`, which anyio loads lazily, can be instrumented."""
    with instrument("anyio:open_file", "file.open", context=["file"], raises=(OSError,)):
        failpoints.set("file.open", "raise(PermissionError: not yours)", context={"file": ".*secret"})
        async with await anyio.open_file(tmp_path / "open", "w") as file:
            await file.write("text")
        with pytest.raises(PermissionError, match="not yours"):
            await anyio.open_file(tmp_path / "secret")


async def test_a_write_is_lost(tmp_path: Path, failpoints: Failpoints) -> None:
    """`anyio.Path.write_text` can report a write that did not happen, or fail after one that did."""
    path = anyio.Path(tmp_path / "file")
    with instrument("anyio:Path.write_text", "file.write", context=["data"]):
        failpoints.set("file.write", "1*return(5)")
        assert await path.write_text("12345") == 5
        assert not await path.exists()
        failpoints.set("file.write:after", "raise(OSError: disk full)")
        with pytest.raises(OSError, match="disk full"):
            await path.write_text("12345")
        assert await path.read_text() == "12345"


async def test_instrumented_events(failpoints: Failpoints) -> None:
    """Failpoints can pause and wait while the events that they use are instrumented."""
    with instrument("anyio:Event.wait", "event.wait"), instrument("anyio:Event.set", "event.set"):
        failpoints.set("event.wait", "pause", expect_hit=False)
        failpoints.set("event.set", "raise", expect_hit=False)
        async with anyio.create_task_group() as tasks, failpoints.paused("read") as read:
            with instrument("anyio:Path.read_text", "read"):
                tasks.start_soon(anyio.Path(__file__).read_text)
                await read.wait_paused()
                read.resume()
        assert (status("event.wait").hits, status("event.set").hits) == (0, 0)


# starlette


@pytest.mark.parametrize("path", ["starlette.routing:Router.__call__", "starlette.applications:Starlette.__call__"])
async def test_a_server_that_breaks_down(path: str, failpoints: Failpoints) -> None:
    """Requests can fail before anything is done, or after the response has started."""
    service = Service()

    def of_the_request(app: Any, scope: Any, receive: Any, send: Any) -> dict[str, Any]:
        return {"path": scope["path"]}

    with instrument(path, "server", context=of_the_request):
        async with service.client() as client:
            with configured("server", "raise(RuntimeError: down)", context={"path": ".*/a"}) as server:
                with pytest.raises(RuntimeError, match="down"):
                    await client.post("/orders/a")
                assert (await client.post("/orders/b")).status_code == 201
            assert (server.hits, server.misses, service.orders) == (1, 1, ["b"])
            failpoints.set("server:after", "raise(RuntimeError: too late)")
            with pytest.raises(RuntimeError, match="too late"):
                await client.post("/orders/a")
            assert service.orders == ["b", "a"]
