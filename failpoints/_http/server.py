"""The standalone control plane: `FAILPOINTS_HTTP` starts it, on a thread and an event loop of its own.

Around a fork the loop is at rest: its thread ends before, and another one goes on with the same loop after. So no lock
is held by a thread that the child does not have, and the child finds the loop whole: it closes its copy, and serves
anew.
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
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from .._core.log import logger
from ..errors import FailpointUsageError
from .address import Address, bind, read_address, url_of
from .app import admin_app
from .sockets import Listener, Loop, Selector, Sockets
from .wire import check_token, written

_PATIENCE = 1.0  # seconds for the thread to come to rest before a fork, and to close at the end of the program
_MOST_AHEAD = 65536  # bytes that a client may send before it has its answer


def _demoted(record: logging.LogRecord) -> bool:
    if record.levelno == logging.WARNING:
        record.levelno, record.levelname = logging.DEBUG, "DEBUG"
    return _http_logger.isEnabledFor(record.levelno)


# Uvicorn warns of what its clients do wrong: so anybody, and any web page, could fill the log of the program.
_http_logger = logger.getChild("http")
_http_logger.addFilter(_demoted)


class _Protocol(H11Protocol):
    """Uvicorn's, apart from the program's own uvicorn: logged elsewhere, and its error is JSON, too."""

    def __init__(self, config: Config, server_state: ServerState) -> None:
        super().__init__(config, server_state, {})
        self.logger = _http_logger
        self.access_log = False

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # Of a client that sends on while it waits for an answer it is seen, too, that it goes away.
        if len(self.conn.trailing_data[0]) < _MOST_AHEAD:
            self.flow.resume_reading()

    def send_400_response(self, msg: str) -> None:
        body = written({"msg": "this is no HTTP request"})
        headers = [("content-type", "application/json"), ("content-length", str(len(body))), ("connection", "close")]
        try:
            for event in (
                h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        except h11.LocalProtocolError:  # it came in the middle of an answer
            pass
        self.transport.close()


class Server:
    """One control plane of this process; raises `FailpointUsageError` where it cannot listen.

    `inherited` is the one that a forked process has from its parent: it is closed on the new thread, and what goes
    wrong is logged, since a fork hook can tell nobody.
    """

    def __init__(self, address: Address, token: str | None, *, inherited: Server | None = None) -> None:
        self._address = address
        self._token = token
        self._inherited = inherited
        self._mistake: FailpointUsageError | None = None
        self.config: Config = inherited.config if inherited else _config(token)
        self._state = ServerState()
        self._sockets = Sockets()
        self._sees = True
        self._loop = Loop(Selector(self._sees_on), self._sockets)
        self._loop.set_debug(False)  # the program's debugging is not about this loop
        self._loop.set_exception_handler(self._on_error)
        self._socket = self._bound()
        self._listener: asyncio.Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self._thread: threading.Thread | None = None
        self._at_rest = False
        self._ending = False
        self._closing = False

    def _bound(self) -> socket.socket | None:
        try:
            bound = Listener(bind(self._address, anywhere=self._token is not None), self._sockets)
        except BaseException as error:
            if self._inherited is not None and isinstance(error, FailpointUsageError):
                self._mistake = error
                return None
            self._loop.close()
            raise
        self._url = url_of(bound)  # now: later it may be closed
        self._address = Address(bound.getsockname()[0], self._address.port)  # a forked process asks for no name
        return bound

    def announce(self) -> None:
        """Say where it listens; loudly, where nobody else can know."""
        say = logger.info if self._address.port else logger.warning
        say("failpoints can be steered at %s (process %d)", self._url, os.getpid())

    def again(self) -> Server:
        """The one that takes its place in a forked process, which has its sockets before the program can close any."""
        self._sees = False
        self._sockets.close()
        return Server(self._address, self._token, inherited=self)

    # the thread

    def start(self) -> None:
        """Serve, on another thread, until `rest` or `end`."""
        if self._loop.is_closed():  # it has ended: its port was taken, or the program has closed its sockets
            return
        self._at_rest = False
        self._thread = threading.Thread(
            target=self._run, args=[self._thread], name="failpoints control plane", daemon=True
        )
        self._thread.start()

    def rest(self) -> None:
        """End the thread; the loop, and what is going on in it, is as it was when `start` is called again."""
        if self._thread is None or self._thread is threading.current_thread() or self._loop.is_closed():
            return
        self._stop()
        self._at_rest = not self._thread.is_alive()

    def end(self) -> None:
        """Close everything: what a program does when it ends."""
        self._ending = True
        if self._thread is not None and self._thread is not threading.current_thread():
            self._stop()

    def _stop(self) -> None:
        assert self._thread is not None
        try:
            self._loop.call_soon_threadsafe(self._stop_the_loop)
        except RuntimeError:  # it is closed
            pass
        self._thread.join(_PATIENCE)  # it may wait for a lock that this very thread holds

    def _stop_the_loop(self) -> None:
        if not self._closing:  # else it comes to its end by itself
            self._loop.stop()

    def _run(self, before: threading.Thread | None) -> None:
        if before is not None:
            before.join()
        if self._serving is None and not self._begin():
            self._ending = True
        else:
            self._loop.run_forever()
        if self._ending:
            self._close()

    def _begin(self) -> bool:
        if self._inherited is not None:
            self._inherited.abandon()
            self._inherited = None
            if self._mistake is not None:
                logger.error("process %d has no control plane: %s", os.getpid(), self._mistake)
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
        self._listener = await self._loop.create_server(lambda: _Protocol(self.config, self._state), sock=self._socket)

    async def _close_connections(self) -> None:
        if self._serving is not None:
            await asyncio.gather(self._serving, return_exceptions=True)  # it fails without its sockets
        if self._listener is not None and self._sees:
            self._listener.close()
        for connection in list(self._state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)  # the connections are lost now: those who wait for them learn of it
        if self._state.tasks:
            await asyncio.wait(self._state.tasks, timeout=_PATIENCE / 2)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def abandon(self) -> None:
        """In a forked process: end what is a copy of the parent's."""
        if self._loop.is_closed():
            return
        if self._at_rest:
            self._close()
        else:  # the fork came in the middle of something: nobody can go on with it, or take it apart
            _left_alone.append(self)

    def _sees_on(self) -> bool:
        """Whether there is anything to see; where the program has closed the sockets, this ends the control plane."""
        if self._sees and not self._sockets.intact():
            self._sees = False
            self._sockets.close()
            if not self._ending:
                logger.error("the control plane ends: the program has closed its sockets")
                self._ending = True
        if not self._sees:
            self._stop_the_loop()
        return self._sees

    def _on_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if self._sees_on():  # else the error comes of that
            loop.default_exception_handler(context)


_left_alone: list[Server] = []


def _config(token: str | None) -> Config:
    config = Config(
        admin_app(token=token),
        http=_Protocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,  # the program's logging is its own
        proxy_headers=False,
        server_header=False,
        date_header=False,
        workers=1,
    )
    config.load()
    # Here, so that nothing is left to import on the thread, while the program imports, forks or ends.
    for name in ("anyio._backends._asyncio", "difflib", "failpoints._core.diagnosis"):
        with suppress(ModuleNotFoundError):
            import_module(name)
    return config


# the one of this process

_current: Server | None = None
_forking = threading.RLock()


def start_from_environment(address: str, token: str | None) -> None:
    """Start the control plane of this process; raises `FailpointUsageError` where it cannot.

    `address` is what `FAILPOINTS_HTTP` says, and `token` what `FAILPOINTS_TOKEN` does.
    """
    where = read_address(address)
    try:
        checked = None if token is None else check_token(token)
    except FailpointUsageError as error:
        raise FailpointUsageError(f"FAILPOINTS_TOKEN: {error}") from None
    _start(where, checked)


def _start(address: Address, token: str | None) -> None:
    global _current
    _current = Server(address, token)
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
        _current.rest()


def _after_in_parent() -> None:
    try:
        if _current is not None:
            _current.start()
    except RuntimeError as error:  # no more threads can be started
        logger.error("the control plane ends: %s", error)
    finally:
        _forking.release()


def _after_in_child() -> None:
    global _current, _forking
    _forking = threading.RLock()
    if _current is not None:
        _current = _current.again()
        _current.start()
