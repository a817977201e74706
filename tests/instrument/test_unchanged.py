"""An application is unchanged with every public async function of httpx and starlette instrumented."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import pkgutil
import socket
import threading
import traceback
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest
import starlette
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask, BackgroundTasks
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

from failpoints import Call, Hit, configured
from failpoints.instrument import instrument

Transcript = list[Any]


# everything public and async


def modules_of(package: ModuleType) -> Iterator[ModuleType]:
    yield package
    for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        if not is_public(found.name.rpartition(".")[2]):
            continue
        with contextlib.suppress(ImportError, RuntimeError), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some are deprecated, and some need a package that is not installed
            module = importlib.import_module(found.name)
            yield from modules_of(module) if found.ispkg else [module]


def is_async(thing: Any) -> bool:
    function = inspect.unwrap(getattr(thing, "__func__", thing))
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def is_public(name: str) -> bool:
    return not name.startswith("_") or (name.startswith("__") and name.endswith("__"))


def async_paths(package: ModuleType) -> list[str]:
    """Return the paths of all public async functions and methods of a package."""
    paths: dict[str, None] = {}
    for module in modules_of(package):
        for name, thing in list(vars(module).items()):
            if not is_public(name) or not (getattr(thing, "__module__", None) or "").startswith(package.__name__):
                continue
            if inspect.isclass(thing):
                found = [each for each, method in vars(thing).items() if is_public(each) and is_async(method)]
                paths.update({f"{module.__name__}:{name}.{each}": None for each in found})
            elif is_async(thing):
                paths[f"{module.__name__}:{name}"] = None
    return list(paths)


PATHS = [*async_paths(httpx), *async_paths(starlette)]


def object_at(path: str) -> Any:
    """Return the object at the path, without binding it."""
    module, _, function = path.partition(":")
    *classes, name = function.split(".")
    owner: Any = importlib.import_module(module)
    for each in classes:
        owner = getattr(owner, each)
    return vars(owner)[name]


@contextlib.contextmanager
def everything_instrumented() -> Iterator[None]:
    before = {path: object_at(path) for path in PATHS}
    names: dict[int, str] = {}  # some classes are in several modules
    with contextlib.ExitStack() as undo:
        for path, thing in before.items():
            undo.enter_context(instrument(path, names.setdefault(id(thing), path.replace(":", "."))))
        assert all(object_at(path) is not thing for path, thing in before.items())
        yield
    assert all(object_at(path) is thing for path, thing in before.items())


# a real application


class Trace:
    """What the application did, beyond its responses."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.background = threading.Event()


class Tagging(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: Callable[..., Any]) -> Response:
        response: Response = await call_next(request)
        response.headers["x-tag"] = request.url.path
        return response


class Problem(Exception):
    pass


def application(folder: Path, trace: Trace) -> Starlette:
    async def home(request: Request) -> Response:
        return PlainTextResponse(f"{request.method} {request.query_params}")

    def in_a_thread(request: Request) -> Response:
        return JSONResponse({"thread": threading.current_thread() is threading.main_thread()})

    async def echo(request: Request) -> Response:
        chunks = b"".join([chunk async for chunk in request.stream()])
        return Response(chunks[::-1], 201, {"x-length": str(len(chunks))})

    async def stream(request: Request) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            for number in range(5):
                yield b"%d," % number
                await anyio.lowlevel.checkpoint()

        return StreamingResponse(parts(), media_type="text/plain")

    async def background(request: Request) -> Response:
        async def in_async(number: int) -> None:
            trace.events.append(("async", number))

        def in_sync(number: int) -> None:
            trace.events.append(("sync", number))
            trace.background.set()

        return PlainTextResponse(
            "later", background=BackgroundTasks([BackgroundTask(in_async, 1), BackgroundTask(in_sync, 2)])
        )

    async def refuse(request: Request) -> Response:
        raise HTTPException(418, "a teapot", {"x-why": "tea"})

    async def fail(request: Request) -> Response:
        raise ValueError("broken")

    async def problem(request: Request) -> Response:
        raise Problem("handled")

    async def break_off(request: Request) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            yield b"a"
            raise ValueError("in the middle")

        return StreamingResponse(parts())

    async def on_problem(request: Request, error: Exception) -> Response:
        return JSONResponse({"problem": str(error)}, 409)

    async def talk(websocket: WebSocket) -> None:
        await websocket.accept("chat")
        try:
            async for text in websocket.iter_text():
                await websocket.send_json({"you said": text})
        except WebSocketDisconnect:
            trace.events.append("gone")

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, int]]:
        trace.events.append("started")
        yield {"number": 1}
        trace.events.append("ended")

    return Starlette(
        routes=[
            Route("/", home, methods=["GET", "POST"]),
            Route("/thread", in_a_thread),
            Route("/echo", echo, methods=["PUT"]),
            Route("/stream", stream),
            Route("/background", background),
            Route("/refuse", refuse),
            Route("/fail", fail),
            Route("/problem", problem),
            Route("/break", break_off),
            Route("/away", lambda request: RedirectResponse("/?from=away")),
            Route("/file", lambda request: FileResponse(folder / "file.txt")),
            Mount("/static", StaticFiles(directory=folder)),
            Mount("/inner", Starlette(routes=[Route("/here", home)], middleware=[Middleware(Tagging)])),
            WebSocketRoute("/talk", talk),
        ],
        middleware=[Middleware(CORSMiddleware, allow_origins=["*"]), Middleware(GZipMiddleware, minimum_size=30)],
        exception_handlers={Problem: on_problem},
        lifespan=lifespan,
    )


REQUESTS: list[tuple[str, str, dict[str, str], bytes]] = [
    ("GET", "/?a=1", {}, b""),
    ("POST", "/?b=2", {"origin": "http://elsewhere"}, b""),
    ("DELETE", "/", {}, b""),
    ("OPTIONS", "/", {"origin": "http://elsewhere", "access-control-request-method": "GET"}, b""),
    ("GET", "/thread", {}, b""),
    ("PUT", "/echo", {}, bytes(range(256)) * 300),
    ("GET", "/stream", {}, b""),
    ("GET", "/stream", {"accept-encoding": "gzip"}, b""),
    ("GET", "/background", {}, b""),
    ("GET", "/refuse", {}, b""),
    ("GET", "/fail", {}, b""),
    ("GET", "/problem", {}, b""),
    ("GET", "/break", {}, b""),
    ("GET", "/away", {}, b""),
    ("GET", "/file", {}, b""),
    ("GET", "/file", {"range": "bytes=3-9"}, b""),
    ("GET", "/static/file.txt", {"accept-encoding": "identity"}, b""),
    ("GET", "/static/none.txt", {}, b""),
    ("GET", "/inner/here", {}, b""),
    ("GET", "/nowhere", {}, b""),
]


def described(error: BaseException) -> Any:
    """Return the exception's type and text, and the functions of its traceback."""
    if isinstance(error, BaseExceptionGroup):
        return type(error), [described(each) for each in error.exceptions]
    frames = [(Path(frame.filename).name, frame.name) for frame in traceback.extract_tb(error.__traceback__)]
    ours = {"awaitable.py", "decorated.py", "patches.py", "stand_in.py", Path(__file__).name}
    theirs = [frame for frame in frames if frame[0] not in ours]
    return type(error), str(error), theirs, error.__cause__ and described(error.__cause__)


def is_of_the_day(header: bytes) -> bool:
    return header.lower() == b"date"


async def in_process(folder: Path) -> Transcript:
    """Return what httpx receives from the application through its ASGI transport."""
    transcript: Transcript = []
    for raising in (True, False):
        trace = Trace()
        app = application(folder, trace)
        transport = httpx.ASGITransport(app, raise_app_exceptions=raising)
        async with httpx.AsyncClient(transport=transport, base_url="http://test", follow_redirects=True) as client:
            for method, url, headers, body in REQUESTS:
                try:
                    async with client.stream(method, url, headers=headers, content=body) as response:
                        raw = b"".join([chunk async for chunk in response.aiter_raw()])
                    sent = [pair for pair in response.headers.raw if not is_of_the_day(pair[0])]
                    transcript.append(
                        (url, response.status_code, sent, raw, [str(each.url) for each in response.history])
                    )
                except Exception as error:
                    transcript.append((url, described(error)))
        transcript.append(trace.events)
    return transcript


async def by_hand(folder: Path) -> Transcript:
    """Return what the application sends to a server during a lifespan and a web socket conversation."""
    trace = Trace()
    app = application(folder, trace)
    sent: Transcript = []

    async def send(message: Any) -> None:
        sent.append(message)

    def receiving(*messages: dict[str, Any]) -> Any:
        left = list(messages)

        async def receive() -> dict[str, Any]:
            await anyio.lowlevel.checkpoint()
            return left.pop(0)

        return receive

    await app(
        {"type": "lifespan", "state": {}}, receiving({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}), send
    )
    for path in ("/talk", "/none"):
        await app(
            {"type": "websocket", "path": path, "headers": [], "query_string": b"", "subprotocols": ["chat"]},
            receiving(
                {"type": "websocket.connect"},
                {"type": "websocket.receive", "text": "hello"},
                {"type": "websocket.receive", "text": "you"},
                {"type": "websocket.disconnect", "code": 1001},
            ),
            send,
        )
    return [*sent, trace.events]


class Server(uvicorn.Server):
    """A server that signals when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listens.set()


@contextlib.contextmanager
def served(app: Any, loop: str) -> Iterator[tuple[str, int]]:
    """Serve the application with uvicorn in a separate thread."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(uvicorn.Config(app, loop=loop, log_config=None, log_level="critical"))  # type: ignore[arg-type]
    thread = threading.Thread(target=server.run, args=[[listener]])
    thread.start()
    try:
        assert server.listens.wait(20)
        yield listener.getsockname()
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
    assert not thread.is_alive()


def over_the_network(folder: Path, loop: str) -> Transcript:
    """Return the bytes that uvicorn sends, without the date and the port."""
    trace = Trace()
    transcript: Transcript = []
    with served(application(folder, trace), loop) as address:
        for method, url, headers, body in REQUESTS:
            lines = [f"{method} {url} HTTP/1.1", "host: test", "connection: close", f"content-length: {len(body)}"]
            lines += [f"{name}: {value}" for name, value in headers.items()]
            with socket.create_connection(address, timeout=20) as connection:
                connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
                got = b"".join(iter(lambda: connection.recv(65536), b""))
            head, end, rest = got.partition(b"\r\n\r\n")
            kept = [line for line in head.split(b"\r\n") if not is_of_the_day(line.partition(b":")[0])]
            transcript.append((method, url, kept, end, rest))
        assert trace.background.wait(20)
    return [*transcript, trace.events]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "file.txt").write_bytes(b"0123456789" * 10)
    return tmp_path


def test_coverage_of_the_public_functions() -> None:
    """The instrumented functions include nearly everything that users of the libraries await."""
    assert len(PATHS) > 150
    assert {
        "httpx:AsyncClient.send",
        "httpx:AsyncClient.__aenter__",
        "httpx:ASGITransport.handle_async_request",
        "httpx:Response.aiter_raw",
        "starlette.applications:Starlette.__call__",
        "starlette.requests:Request.stream",
        "starlette.routing:Router.__call__",
        "starlette.responses:StreamingResponse.__call__",
        "starlette.websockets:WebSocket.iter_text",
        "starlette.middleware.base:BaseHTTPMiddleware.__call__",
    } <= set(PATHS)


@pytest.mark.anyio
@pytest.mark.parametrize("transcribe", [in_process, by_hand])
@pytest.mark.parametrize("elsewhere", [False, True], ids=["nothing configured", "something else configured"])
async def test_an_application_is_the_same_in_process(transcribe: Any, elsewhere: bool, folder: Path) -> None:
    """Responses, streams, background tasks, web sockets, exceptions and tracebacks are unchanged."""
    before = await transcribe(folder)
    assert before == await transcribe(folder)  # the transcript is repeatable
    with everything_instrumented(), configured("elsewhere", "off") if elsewhere else contextlib.nullcontext():
        assert await transcribe(folder) == before
    assert await transcribe(folder) == before


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("elsewhere", [False, True], ids=["nothing configured", "something else configured"])
def test_an_application_sends_the_same_bytes(loop: str, elsewhere: bool, folder: Path) -> None:
    """The server sends exactly the same bytes over the network."""
    before = over_the_network(folder, loop)
    with everything_instrumented(), configured("elsewhere", "off") if elsewhere else contextlib.nullcontext():
        assert over_the_network(folder, loop) == before


@pytest.mark.anyio
async def test_instrumented_functions_are_visited(folder: Path) -> None:
    """Each instrumented function is visited when configured, so the comparison is not empty."""
    visited: list[str] = []

    def note(hit: Hit) -> None:
        visited.append(hit.name)

    names = [path.replace(":", ".") for path in PATHS]
    with everything_instrumented(), contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(configured(name, Call(note)))
        await in_process(folder)
    assert len(set(visited)) > 40
    methods = {".".join(name.split(".")[-2:]) for name in visited}
    assert {"AsyncClient.send", "Starlette.__call__", "Router.__call__", "Request.stream"} <= methods
