"""A connection to a server, on a thread and an event loop of its own, which is made again when it breaks."""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar, cast

import anyio
from anyio.abc import TaskStatus
from anyio.from_thread import BlockingPortal
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from coredis import Redis
from coredis.connection import (
    BaseConnection,
    TCPConnection,
    TCPLocation,
    UnixDomainSocketConnection,
    UnixDomainSocketLocation,
)
from coredis.exceptions import AuthenticationError, MovedError, RedisError, UnknownCommandError
from coredis.exceptions import ConnectionError as RedisConnectionError
from coredis.pool import ConnectionPool
from coredis.retry import NoRetryPolicy

from .._core.clock import monotonic
from .._core.wakeups import call_soon
from .background import Background

CONNECT: Final = 3.0  # seconds for a server to accept a connection
ANSWER: Final = 2.0  # seconds for it to answer
_PATIENCE: Final = 3.0  # seconds in which a call is tried again
_RETRY: Final = 0.02  # seconds
_LONGEST_PAUSE: Final = 1.0  # seconds between two attempts to connect
_OLDEST: Final = {"redis": 7, "valkey": 8}

_Result = TypeVar("_Result")


class Unreachable(OSError):
    """The server cannot be reached, or cannot do what is asked of it."""


class Unusable(Exception):
    """The server is not one for a fleet."""


class _Tidy(BaseConnection):
    """A connection that closes its streams in memory. coredis does not if it cannot connect, which is a warning."""

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        try:
            await super().run(task_status=task_status)
        finally:
            for value in vars(self).values():
                if isinstance(value, (MemoryObjectSendStream, MemoryObjectReceiveStream)):
                    value.close()


class _Connection(_Tidy, TCPConnection):
    """A connection over TCP."""


class _SocketConnection(_Tidy, UnixDomainSocketConnection):
    """A connection over a Unix socket."""


@dataclass
class Server:
    """Where a server is, and who may use it."""

    host: str | None = None
    port: int = 6379
    path: str | None = None  # of a Unix socket
    database: int = 0
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    @asynccontextmanager
    async def connected(self) -> AsyncGenerator[Redis[str]]:
        """Yield a client. It sends nothing twice."""
        location = UnixDomainSocketLocation(self.path) if self.path else TCPLocation(self.host or "", self.port)
        pool: ConnectionPool[Any] = ConnectionPool(
            connection_class=_SocketConnection if self.path else _Connection,
            location=location,
            db=self.database,
            username=self.user,
            password=self.password,
            ssl_context=self.tls,
            connect_timeout=CONNECT,
            decode_responses=True,
        )
        async with Redis(
            connection_pool=pool, decode_responses=True, verify_version=False, retry_policy=NoRetryPolicy()
        ) as client:
            yield client


class Signal:
    """An event of the link's loop, which any thread sets. One task waits for it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = anyio.Event()
        self._is_set = False

    def set(self) -> None:
        """End the wait, or the next one."""
        if not self._is_set:
            self._is_set = True
            call_soon(self._loop, self._set)

    def _set(self) -> None:
        self._event.set()

    async def wait(self, seconds: float = math.inf) -> None:
        """Wait until it is set."""
        with anyio.move_on_after(seconds):
            await self._event.wait()
        self._event = anyio.Event()
        self._is_set = False


class User(Protocol):
    """What uses a link on its loop."""

    async def probe(self, redis: Redis[str]) -> None:
        """Raise an exception if a new connection cannot be used."""

    async def work(self, redis: Redis[str]) -> None:
        """Work while there is a connection."""

    async def watch(self) -> None:
        """Work all the time."""


class Link:
    """A connection to a server. Any thread may call any method.

    Args:
        server: The server.
        user: What uses it on its loop.
    """

    def __init__(self, server: Server, user: User) -> None:
        self._server = server
        self._user = user
        self._changed = threading.Condition()
        self._redis: Redis[str] | None = None
        self._portal: BlockingPortal | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: anyio.Event | None = None
        self._attempts = 0
        self._problem = "there is no connection yet"
        self._down_since = monotonic()
        self._thread = Background("failpoints fleet server", self._run, self._end)

    # from other threads

    def open(self) -> None:
        """Connect, unless it is connected. Raises `Unreachable`, and goes on trying."""
        attempts = self._attempts
        self._thread.start()
        with self._changed:
            self._changed.wait_for(lambda: self._redis is not None or self._attempts > attempts, CONNECT)
            if self._redis is None:
                raise Unreachable(self._problem)

    def close(self) -> None:
        """End the connection."""
        self._thread.stop()

    def check(self, patience: float) -> None:
        """Raise `Unreachable` if there has been no connection for some seconds."""
        if self._redis is None and monotonic() - self._down_since > patience:
            raise Unreachable(self._problem)

    def call(self, function: Callable[[Redis[str]], Awaitable[_Result]], *, patience: float = _PATIENCE) -> _Result:
        """Run a function on the link's loop, and return its result. If the connection breaks, it runs again.

        Raises `Unreachable` if there is no answer within some seconds, or if the server refuses.
        """
        deadline = monotonic() + patience
        problem = ""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._redis is not None, max(deadline - monotonic(), 0))
                redis, portal = self._redis, self._portal
            if redis is None or portal is None:
                raise Unreachable(problem or self._problem)
            future = None
            try:
                future = portal.start_task_soon(function, redis)
                return future.result(max(deadline - monotonic(), _RETRY))
            except TimeoutError:
                if future is not None:
                    future.cancel()
                raise Unreachable(f"it has not answered within {patience:g} s") from None
            except (Exception, CancelledError) as error:
                if _is_refusal(error):
                    raise Unreachable(_reason(error)) from error
                problem = _reason(error)  # the link is made again
                if monotonic() >= deadline:
                    raise Unreachable(problem) from error
                threading.Event().wait(_RETRY)

    # on the thread

    def _run(self) -> None:
        anyio.run(self._main, backend="asyncio")

    def _end(self) -> None:
        loop, ended = self._loop, self._ended
        if loop is not None and ended is not None:
            call_soon(loop, ended.set)

    async def _main(self) -> None:
        _threads.add(threading.get_ident())
        self._ended = ended = anyio.Event()
        self._loop = asyncio.get_running_loop()
        if self._thread.is_stopping:
            return
        try:
            async with BlockingPortal() as portal, anyio.create_task_group() as group:
                self._portal = portal
                group.start_soon(self._keep_connected)
                group.start_soon(self._user.watch)
                await ended.wait()
                group.cancel_scope.cancel()
                await portal.stop(cancel_remaining=True)
        finally:
            self._loop = self._ended = self._portal = None
            _threads.discard(threading.get_ident())

    async def _keep_connected(self) -> None:
        pause = _RETRY
        while True:
            connected: float | None = None
            try:
                async with self._server.connected() as redis:
                    with anyio.fail_after(CONNECT):
                        await self._check_version(redis)
                        await self._user.probe(redis)
                    connected = monotonic()
                    self._note(redis)
                    await self._user.work(redis)
                    await anyio.sleep_forever()
            except Exception as error:
                is_refused = any(map(_is_refusal, _parts(error)))  # as a replica refuses to be written to
                if connected is not None and (not is_refused or monotonic() - connected > _LONGEST_PAUSE):
                    pause = _RETRY
                moved = next((each for each in _parts(error) if isinstance(each, MovedError)), None)
                if moved is not None:  # to another node of a cluster
                    self._server.host, self._server.port = moved.host or self._server.host, moved.port
                    pause = 0
                else:
                    self._problem = _reason(error)
                    self._attempts += 1
            finally:
                self._note(None)
            await anyio.sleep(pause)
            pause = min(pause * 2 or _RETRY, _LONGEST_PAUSE)

    def _note(self, redis: Redis[str] | None) -> None:
        with self._changed:
            if redis is None and self._redis is not None:
                self._down_since = monotonic()
            self._redis = redis
            self._changed.notify_all()

    @staticmethod
    async def _check_version(redis: Redis[str]) -> None:
        hello = await redis.hello()
        kind, version = str(hello.get("server", "redis")), str(hello.get("version", "0"))
        oldest = _OLDEST.get(kind, 7)
        if int(version.partition(".")[0]) < oldest:
            raise Unusable(f"it is {kind.capitalize()} {version}, and {kind.capitalize()} {oldest} or newer is needed")


_threads: Final[set[int]] = set()


logging.getLogger("coredis").addFilter(lambda record: record.thread not in _threads)  # we report it ourselves


def _is_refusal(error: BaseException) -> bool:
    """Return whether the server has answered, but does not do what was asked of it."""
    return isinstance(error, RedisError) and not isinstance(error, RedisConnectionError)


def _parts(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in cast("BaseExceptionGroup[BaseException]", error).exceptions:
            yield from _parts(each)
    else:
        yield error


def _reason(error: BaseException) -> str:
    """Return why something failed, in a few words: the innermost cause."""
    error = next(_parts(error), error)
    while isinstance(error, RedisConnectionError) and error.__cause__ is not None:
        error = next(_parts(error.__cause__), error.__cause__)
    if isinstance(error, OSError) and error.errno is None and error.__cause__ is not None:
        error = next(_parts(error.__cause__), error.__cause__)
    if isinstance(error, TimeoutError):
        return f"it has not answered within {CONNECT:g} s"
    if isinstance(error, UnknownCommandError) and "HELLO" in str(error).upper():
        return "it is too old: Redis 7 or Valkey 8, or newer, is needed"
    if isinstance(error, AuthenticationError):
        return f"it refuses the user or the password: {error}"
    return str(error) or type(error).__name__
