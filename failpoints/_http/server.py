"""The standalone control plane: `FAILPOINTS_HTTP` starts it, on a thread and an event loop of its own.

Its thread ends before a fork, and another thread goes on with the same loop afterwards. So no lock is held by a thread
that the child does not have, and the child finds the loop in a consistent state. It closes its copy and starts a new
control plane.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import socket
import threading
from contextlib import suppress
from importlib import import_module
from typing import Any

import h11
from starlette.types import ASGIApp
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol
from uvicorn.server import ServerState

from .._core.log import logger
from .._core.messages import did_you_mean, safe_repr
from ..errors import FailpointUsageError
from .address import Address, PortInUse, bind, parse_address, url_of
from .app import admin_app
from .sockets import BACKLOG, Listener, Loop, Selector, Sockets, is_exhausted
from .wire import check_token, to_json

_ANY_PATTERN = "any-pattern"
_STOP_TIMEOUT = 1.0  # seconds for the thread to stop before a fork, and to close at the end of the program
REQUEST_TIMEOUT = 10.0  # seconds for the head of a request to arrive; its body has a limit of its own
WRITE_TIMEOUT = 30.0  # seconds for a client to read on
_EXHAUSTED_INTERVAL = 60.0  # seconds between two log records that there are no file descriptors
_MAX_CHUNKS = 100_000  # of one body, since many small ones take long to put together
_MAX_READ_AHEAD = 65536  # bytes that a client may send before it has its answer


def _demote_warnings(record: logging.LogRecord) -> bool:
    if record.levelno == logging.WARNING:
        record.levelno, record.levelname = logging.DEBUG, "DEBUG"
    return _http_logger.isEnabledFor(record.levelno)


# Uvicorn warns about malformed requests. As warnings, any client or web page could fill the log of the program.
_http_logger = logger.getChild("http")
_http_logger.addFilter(_demote_warnings)


class _Connection(h11.Connection):
    """A connection that limits the number of chunks in a body."""

    def __init__(self) -> None:
        super().__init__(h11.SERVER)
        self._chunks = 0
        self.has_too_many_chunks = False

    def next_event(self) -> type[h11.NEED_DATA | h11.PAUSED] | h11.Event:
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._chunks = 0
        elif isinstance(event, h11.Data):
            self._chunks += 1
            self.has_too_many_chunks = self._chunks > _MAX_CHUNKS
            if self.has_too_many_chunks:
                raise h11.RemoteProtocolError("too many chunks")  # uvicorn answers this with send_400_response
        return event


class _Protocol(H11Protocol):
    """Uvicorn's protocol, with a logger apart from the program's own uvicorn, and an error in JSON."""

    def __init__(self, config: Config, server_state: ServerState) -> None:
        super().__init__(config, server_state, {})
        self.conn: _Connection = _Connection()
        self.logger = _http_logger
        self.access_log = False
        self._request_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        self._limit_time()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for timer in self._request_timer, self._write_timer:
            if timer is not None:
                timer.cancel()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._limit_time()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write_timer = self.loop.call_later(WRITE_TIMEOUT, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()

    def _limit_time(self) -> None:
        """Limit the time until the next request has arrived. Uvicorn limits only the time until its first byte."""
        answering = self.cycle is not None and not self.cycle.response_complete
        if self._request_timer is not None and answering:
            self._request_timer.cancel()
            self._request_timer = None
        elif self._request_timer is None and not answering:
            self._request_timer = self.loop.call_later(REQUEST_TIMEOUT, self._end_slow_request)

    def _end_slow_request(self) -> None:
        if self.conn.trailing_data[0]:
            self._refuse(408, f"the request did not arrive within {REQUEST_TIMEOUT:g} s")
        self.transport.close()
        self._write_timer = self.loop.call_later(WRITE_TIMEOUT, self.transport.abort)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._limit_time()
        # Uvicorn stops reading if a client sends more while it waits for an answer. Read on, or its disconnect would
        # go unnoticed.
        if len(self.conn.trailing_data[0]) < _MAX_READ_AHEAD:
            self.flow.resume_reading()

    def send_400_response(self, msg: str) -> None:
        if self.conn.has_too_many_chunks:
            self._refuse(413, f"a body may be sent in at most {_MAX_CHUNKS} chunks")
        else:
            self._refuse(400, "this is not an HTTP request")
        self.transport.close()

    def _refuse(self, status: int, msg: str) -> None:
        body = to_json({"msg": msg})
        headers = [("content-type", "application/json"), ("content-length", str(len(body))), ("connection", "close")]
        try:
            for event in (
                h11.Response(status_code=status, headers=headers, reason=STATUS_PHRASES[status]),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        except h11.LocalProtocolError:  # an answer has already begun
            pass


class Server:
    """The control plane of this process, or another application. Raises `FailpointUsageError` if it cannot listen.

    In a forked child, *inherited* is the copy of the parent's server. The new thread closes it. There, a failure to
    listen is logged instead of raised, because a fork hook cannot raise.
    """

    def __init__(
        self,
        address: Address,
        token: str | None,
        app: ASGIApp | None = None,
        *,
        inherited: Server | None = None,
    ) -> None:
        self._address = address
        self._token = token
        self._inherited = inherited
        self._bind_error: FailpointUsageError | None = None
        self.config: Config = inherited.config if inherited else _config(app or admin_app(token=token))
        self._state = ServerState()
        self._sockets = Sockets()
        self._sockets_intact = True
        self._loop = Loop(Selector(self._check_sockets), self._sockets)
        self._loop.set_debug(False)  # PYTHONASYNCIODEBUG is meant for the program's own loops
        self._loop.set_exception_handler(self._on_error)
        self._socket = self._bind()
        self._listener: asyncio.Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self._thread: threading.Thread | None = None
        self._suspended = False
        self._ending = False
        self._closing = False
        self._next_exhausted = 0.0  # by the loop's clock

    def _bind(self) -> socket.socket | None:
        try:
            bound = Listener(bind(self._address, allow_remote=self._token is not None), self._sockets)
        except BaseException as error:
            if self._inherited is not None and isinstance(error, FailpointUsageError):
                self._bind_error = error
                return None
            self._loop.close()
            raise
        self._url = url_of(bound)  # determined now, because the socket may be closed later
        self._address = Address(bound.getsockname()[0], self._address.port)  # a child need not resolve the name again
        return bound

    @property
    def url(self) -> str:
        """The URL at which clients of this machine reach it."""
        return self._url

    def announce(self) -> None:
        """Log the URL: at WARNING if the port was chosen by the system, because nothing else reveals it."""
        log = logger.info if self._address.port else logger.warning
        log("failpoints control plane listening on %s (process %d)", self._url, os.getpid())

    def for_child(self) -> Server:
        """Return the server that replaces this one in a forked child.

        It has its sockets at once, before the program can close any.
        """
        self._sockets_intact = False
        self._sockets.close()
        return Server(self._address, self._token, inherited=self)

    # the thread

    def start(self) -> None:
        """Serve on a new thread until `suspend` or `end` is called. Continues a suspended server."""
        if self._loop.is_closed():  # it has ended: its port was taken, or the program has closed its sockets
            return
        self._suspended = False
        self._thread = threading.Thread(
            target=self._run, args=[self._thread], name="failpoints control plane", daemon=True
        )
        self._thread.start()

    def suspend(self) -> None:
        """End the thread, but keep the loop and its tasks, so that `start` can continue."""
        if self._thread is None or self._thread is threading.current_thread() or self._loop.is_closed():
            return
        self._stop_thread()
        self._suspended = not self._thread.is_alive()

    def end(self) -> None:
        """Close everything, when the program ends."""
        self._ending = True
        if self._thread is not None and self._thread is not threading.current_thread():
            self._stop_thread()

    def _stop_thread(self) -> None:
        assert self._thread is not None
        try:
            self._loop.call_soon_threadsafe(self._stop_loop)
        except RuntimeError:  # the loop is closed
            pass
        self._thread.join(_STOP_TIMEOUT)  # no longer than this: it may wait for a lock that the calling thread holds

    def _stop_loop(self) -> None:
        if not self._closing:  # else it is about to stop anyway
            self._loop.stop()

    def _run(self, previous: threading.Thread | None) -> None:
        if previous is not None:
            previous.join()
        if self._serving is None and not self._start_serving():
            self._ending = True
        else:
            self._loop.run_forever()
        if self._ending:
            self._close()

    def _start_serving(self) -> bool:
        if self._inherited is not None:
            self._inherited.abandon()
            self._inherited = None
            if self._bind_error is not None:
                _log_absence(self._bind_error)
                return False
            self.announce()
        self._serving = self._loop.create_task(self._serve())
        return True

    def _close(self) -> None:
        self._closing = True
        self._loop.run_until_complete(self._close_connections())
        self._loop.close()

    # on the loop

    async def _serve(self) -> None:
        assert self._socket is not None
        self._listener = await self._loop.create_server(
            lambda: _Protocol(self.config, self._state), sock=self._socket, backlog=BACKLOG
        )

    async def _close_connections(self) -> None:
        if self._serving is not None:
            await asyncio.gather(self._serving, return_exceptions=True)  # it fails if its sockets are gone
        if self._listener is not None and self._sockets_intact:
            self._listener.close()
        for connection in list(self._state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)  # the connections are lost now, and requests that wait learn of it
        if self._state.tasks:
            await asyncio.wait(self._state.tasks, timeout=_STOP_TIMEOUT / 2)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def abandon(self) -> None:
        """Close the copy of the parent's server, in a forked child."""
        if self._loop.is_closed():
            return
        if self._suspended:
            self._close()
        else:  # the fork came while the loop was running: its state is undefined, so it can only be left alone
            _abandoned.append(self)

    def _check_sockets(self, everything: bool = True) -> bool:
        """Return whether all sockets are intact. If the program has closed one, end the control plane.

        Without *everything*, only the sockets of the control plane itself are checked: connections check themselves.
        """
        if self._sockets_intact and not (self._sockets.check_all() if everything else self._sockets.check_own()):
            self._sockets_intact = False
            self._sockets.close()
            if not self._ending:
                logger.error("control plane stopped: the program closed its sockets")
                self._ending = True
        if not self._sockets_intact:
            self._stop_loop()
        return self._sockets_intact

    def _on_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not self._check_sockets():  # then the error is a consequence of the lost sockets
            return
        if not is_exhausted(context.get("exception")):
            loop.default_exception_handler(context)
        elif loop.time() >= self._next_exhausted:
            self._next_exhausted = loop.time() + _EXHAUSTED_INTERVAL
            logger.warning("the control plane accepts no connections while the process is out of file descriptors")


_abandoned: list[Server] = []  # kept alive, because collecting a loop closes it


def _config(app: ASGIApp) -> Config:
    config = Config(
        app,
        http=_Protocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,  # leaves the program's logging alone
        proxy_headers=False,
        server_header=False,
        date_header=False,
        workers=1,
    )
    config.load()
    # Import now what is otherwise imported later on the thread, perhaps while the program imports, forks or ends.
    for name in ("anyio._backends._asyncio", "difflib", "failpoints._core.diagnosis", "sysconfig"):
        with suppress(ModuleNotFoundError):
            import_module(name)
    return config


def _log_absence(error: FailpointUsageError) -> None:
    level = logging.WARNING if isinstance(error, PortInUse) else logging.ERROR
    logger.log(level, "process %d has no control plane: %s", os.getpid(), error)


# the server of this process

_current: Server | None = None
_forking = threading.RLock()


def start_from_environment(address: str, token: str | None, allow: str) -> None:
    """Start the control plane of this process. Raises `FailpointUsageError` if it cannot listen.

    If another process listens at the address, that is logged instead, and the program goes on without a control plane:
    the parent of a reloader, or another worker, has imported the program too.

    *address* is the value of `FAILPOINTS_HTTP`, *token* that of `FAILPOINTS_TOKEN`, *allow* that of
    `FAILPOINTS_HTTP_ALLOW`.
    """
    parsed = parse_address(address)
    try:
        checked = None if token is None else check_token(token)
    except FailpointUsageError as error:
        raise FailpointUsageError(f"FAILPOINTS_TOKEN: {error}") from None
    if allow not in {"", _ANY_PATTERN}:
        raise FailpointUsageError(
            f"FAILPOINTS_HTTP_ALLOW is {safe_repr(allow)}: expected {_ANY_PATTERN}{did_you_mean(allow, [_ANY_PATTERN])}"
        )
    try:
        _start(parsed, checked, allow_any_pattern=allow == _ANY_PATTERN)
    except PortInUse as error:
        _log_absence(error)


def _start(address: Address, token: str | None, *, allow_any_pattern: bool) -> None:
    global _current
    _current = Server(address, token, admin_app(token=token, allow_any_pattern=allow_any_pattern))
    _current.announce()
    _current.start()
    atexit.register(_end)
    if hasattr(os, "register_at_fork"):  # not on Windows
        os.register_at_fork(before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child)


def _end() -> None:
    global _current
    with _forking:
        ending, _current = _current, None
    if ending is not None:
        ending.end()


def _before_fork() -> None:
    _forking.acquire()
    if _current is not None:
        _current.suspend()


def _after_in_parent() -> None:
    try:
        if _current is not None:
            _current.start()
    except RuntimeError as error:  # no more threads can be started
        logger.error("control plane stopped: %s", error)
    finally:
        _forking.release()


def _after_in_child() -> None:
    global _current, _forking
    _forking = threading.RLock()
    if _current is not None:
        _current = _current.for_child()
        _current.start()
