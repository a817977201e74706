"""The sockets of the standalone control plane, and the event loop that runs on them.

A program may close file descriptors that it does not know, as daemons do. Its own files then get the descriptor numbers
of our sockets. So we remember which file each socket is, and never use or close a descriptor that has become another
file.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from typing import Any, TypeVarTuple

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
        self._lost = False

    def add(self, new: socket.socket) -> None:
        self._files[new] = _file_identity(new)

    def check_all(self) -> bool:
        """Return whether the program has closed none of the sockets so far."""
        return all(self.check(each) for each in list(self._files)) and not self._lost

    def check(self, one: socket.socket) -> bool:
        """Check one socket, then return whether no socket has been lost so far.

        A lost socket is detached, so that its descriptor, which may be the program's by now, is left alone.
        """
        if one.fileno() == -1:
            self._files.pop(one, None)
        elif _file_identity(one) != self._files.get(one):
            self._lost = True
            one.detach()
        return not self._lost

    def close(self) -> None:
        """Close all sockets, except where the descriptor now belongs to the program."""
        for each in list(self._files):
            self.check(each)
            with suppress(OSError):
                each.close()


class Listener(socket.socket):
    """A listening socket that registers the connections that it accepts."""

    def __init__(self, bound: socket.socket, sockets: Sockets) -> None:
        super().__init__(bound.family, bound.type, bound.proto, bound.detach())
        self._sockets = sockets
        sockets.add(self)

    def accept(self) -> tuple[socket.socket, Any]:
        connection, address = super().accept()
        self._sockets.add(connection)
        return connection, address


class Selector(_PollSelector):
    """A selector that reports no events once `check_sockets` returns false.

    It has no kernel object that a fork would share between parent and child.
    """

    def __init__(self, check_sockets: Callable[[], bool]) -> None:
        super().__init__()
        self._check_sockets = check_sockets

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if not self._check_sockets():
            return []
        ready = super().select(_CHECK_INTERVAL if timeout is None else min(timeout, _CHECK_INTERVAL))
        return ready if self._check_sockets() else []


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
