"""The sockets of the standalone control plane, and the event loop that runs on them.

A program may close file descriptors that it does not know, as daemons do. Its own files then get the descriptor numbers
of our sockets. So we remember which file each socket is, and never use or close a descriptor that has become another
file.
"""

from __future__ import annotations

import asyncio
import errno
import os
import selectors
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from typing import Any, TypeVarTuple

from .wire import to_json

MAX_CONNECTIONS = 500  # the program needs descriptors too, and 1,024 is a common limit
BACKLOG = 1000  # connections that wait to be accepted; more of them wait for a second or longer

_CHECK_INTERVAL = 0.5  # seconds between checks of the sockets: losing one does not wake the selector
_Arguments = TypeVarTuple("_Arguments")

if sys.platform == "win32":  # which has neither poll nor fork
    _PollSelector = selectors.SelectSelector
else:
    _PollSelector = selectors.PollSelector


def _file_identity(of: socket.socket) -> tuple[int, int] | None:
    """Return the device and inode behind the socket's descriptor, or `None` if it is closed."""
    if sys.platform == "win32":  # where a socket's number is not a file descriptor, and is not closed by accident
        return None
    try:
        status = os.fstat(of.fileno())
    except OSError:
        return None
    return status.st_dev, status.st_ino


class Sockets:
    """The open sockets of one control plane, each with the identity of its file."""

    def __init__(self) -> None:
        self._files: dict[socket.socket, tuple[int, int] | None] = {}
        self._own: list[socket.socket] = []
        self._lost = False
        self.connections = 0

    def add(self, new: socket.socket) -> None:
        """Add a socket of the control plane itself."""
        self._files[new] = _file_identity(new)
        self._own.append(new)

    def add_connection(self, new: Connection) -> None:
        """Add a connection, which checks itself before each use."""
        self._files[new] = _file_identity(new)
        self.connections += 1

    def remove_connection(self, one: Connection) -> None:
        """Forget a connection that has been closed."""
        if self._files.pop(one, self) is not self:
            self.connections -= 1

    def check_own(self) -> bool:
        """Check the sockets of the control plane itself, then return whether no socket has been lost so far."""
        return all(map(self.check, self._own)) and not self._lost

    def check_all(self) -> bool:
        """Return whether the program has closed none of the sockets so far."""
        return all(self.check(each) for each in list(self._files)) and not self._lost

    def check(self, one: socket.socket) -> bool:
        """Check one socket, then return whether no socket has been lost so far.

        A lost socket is detached, so that its descriptor, which may be the program's by now, is left alone.
        """
        if one.fileno() != -1 and _file_identity(one) != self._files.get(one):
            self._lost = True
            one.detach()
        return not self._lost

    def close(self) -> None:
        """Close all sockets, except where the descriptor now belongs to the program."""
        for each in list(self._files):
            self.check(each)
            with suppress(OSError):
                each.close()


class Connection(socket.socket):
    """An accepted connection. It is checked before each use: to check all of them at each step would be quadratic."""

    def __init__(self, accepted: socket.socket, sockets: Sockets) -> None:
        super().__init__(accepted.family, accepted.type, accepted.proto, accepted.detach())
        self._sockets = sockets
        sockets.add_connection(self)

    def recv(self, *arguments: Any) -> bytes:
        self._sockets.check(self)  # if it has been lost, it is detached, and its use fails
        return super().recv(*arguments)

    def send(self, *arguments: Any) -> int:
        self._sockets.check(self)
        return super().send(*arguments)

    def sendmsg(self, *arguments: Any) -> int:  # how asyncio sends several buffers, from Python 3.12 on
        self._sockets.check(self)
        return super().sendmsg(*arguments)

    def shutdown(self, how: int) -> None:
        self._sockets.check(self)
        super().shutdown(how)

    def close(self) -> None:
        self._sockets.check(self)
        self._sockets.remove_connection(self)
        super().close()


class Listener(socket.socket):
    """A listening socket that limits the number of connections, and the errors of a process without descriptors."""

    def __init__(self, bound: socket.socket, sockets: Sockets) -> None:
        super().__init__(bound.family, bound.type, bound.proto, bound.detach())
        self._sockets = sockets
        self._exhausted = False
        sockets.add(self)

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection, or raise `BlockingIOError` if there is none.

        asyncio calls this as often as the backlog is long, even if there are no more file descriptors, and logs each
        failure (CPython 3.11 to 3.15). A `BlockingIOError` ends that.
        """
        if self._exhausted:
            self._exhausted = False
            raise BlockingIOError
        for _ in range(BACKLOG):
            try:
                connection, address = super().accept()
            except OSError as error:
                self._exhausted = is_exhausted(error)
                raise
            if self._sockets.connections < MAX_CONNECTIONS:
                return Connection(connection, self._sockets), address
            _refuse(connection)
        raise BlockingIOError


def is_exhausted(error: BaseException | None) -> bool:
    """Return whether the process or the system has no more file descriptors."""
    return isinstance(error, OSError) and error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


def _refuse(connection: socket.socket) -> None:
    """Answer 503 and close, without waiting for the client."""
    body = to_json({"msg": f"the control plane has {MAX_CONNECTIONS} connections already: close some of them"})
    head = (
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    with connection, suppress(OSError):
        connection.setblocking(False)
        connection.send(head.encode() + body)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(65536)  # data that is not read would make the system discard the answer


class Selector(_PollSelector):
    """A selector that reports no events once `check_sockets` returns false.

    `check_sockets` is called with whether there is time to check all sockets. The selector has no kernel object that a
    fork would share between parent and child.
    """

    def __init__(self, check_sockets: Callable[[bool], bool]) -> None:
        super().__init__()
        self._check_sockets = check_sockets

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if not self._check_sockets(False):
            return []
        longest = timeout is None or timeout >= _CHECK_INTERVAL
        ready = super().select(_CHECK_INTERVAL if longest else timeout)
        return ready if self._check_sockets(longest and not ready) else []


class Loop(asyncio.SelectorEventLoop):
    """An asyncio event loop that also guards the socket pair with which asyncio wakes itself."""

    _ssock: socket.socket
    _csock: socket.socket

    def __init__(self, selector: Selector, sockets: Sockets) -> None:
        super().__init__(selector)
        self._sockets = sockets
        self._waking = self._csock
        for each in self._ssock, self._csock:
            sockets.add(each)

    def call_soon_threadsafe(
        self, callback: Callable[[*_Arguments], object], *args: *_Arguments, context: Context | None = None
    ) -> asyncio.Handle:
        self._sockets.check(self._waking)  # else the byte that wakes the loop could go to a socket of the program
        return super().call_soon_threadsafe(callback, *args, context=context)

    def close(self) -> None:
        if self._waking.fileno() == -1:  # detached, so asyncio's own close would fail on it
            asyncio.BaseEventLoop.close(self)
        else:
            super().close()
