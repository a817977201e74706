"""The sockets of the standalone control plane, and the event loop that lives on them.

A program may close what it does not know, as daemons do, and its own files then have the numbers of the sockets here.
So it is known which file each socket is, and none that has become another one is used or closed.
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

_LOOK = 0.5  # seconds after which it looks whether it still has its sockets: nothing tells it, and nothing wakes it up
_Arguments = TypeVarTuple("_Arguments")

if sys.platform == "win32":  # which has no poll, and no fork
    _PollSelector = selectors.SelectSelector
else:
    _PollSelector = selectors.PollSelector


def _file(of: socket.socket) -> tuple[int, int] | None:
    """Which file has the number of this socket; None for none."""
    if sys.platform == "win32":  # there the number is no file's, and nobody closes it unknowingly
        return None
    try:
        status = os.fstat(of.fileno())
    except OSError:
        return None
    return status.st_dev, status.st_ino


class Sockets:
    """The sockets of one control plane, and which file each of them is."""

    def __init__(self) -> None:
        self._files: dict[socket.socket, tuple[int, int] | None] = {}
        self._lost = False

    def add(self, new: socket.socket) -> None:
        self._files[new] = _file(new)

    def intact(self) -> bool:
        """Whether the program has closed none of them."""
        return all(self.has(each) for each in list(self._files)) and not self._lost

    def has(self, one: socket.socket) -> bool:
        """Whether this one is still there, too; one that is not is let go, and its number left alone."""
        if one.fileno() == -1:
            self._files.pop(one, None)
        elif _file(one) != self._files.get(one):
            self._lost = True
            one.detach()
        return not self._lost

    def close(self) -> None:
        """Close them, and leave alone what has become the program's."""
        for each in list(self._files):
            self.has(each)
            with suppress(OSError):
                each.close()


class Listener(socket.socket):
    """A listening socket that notes what it accepts."""

    def __init__(self, bound: socket.socket, sockets: Sockets) -> None:
        super().__init__(bound.family, bound.type, bound.proto, bound.detach())
        self._sockets = sockets
        sockets.add(self)

    def accept(self) -> tuple[socket.socket, Any]:
        connection, address = super().accept()
        self._sockets.add(connection)
        return connection, address


class Selector(_PollSelector):
    """A selector of which a fork shares nothing in the kernel, and that sees nothing once `sees` says so."""

    def __init__(self, sees: Callable[[], bool]) -> None:
        super().__init__()
        self._sees = sees

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if not self._sees():
            return []
        ready = super().select(_LOOK if timeout is None else min(timeout, _LOOK))
        return ready if self._sees() else []


class Loop(asyncio.SelectorEventLoop):
    """Asyncio's, with its own pair of sockets among those that may be lost."""

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
        self._sockets.has(self._waking)  # else the byte that wakes the loop up could go to a socket of the program's
        return super().call_soon_threadsafe(callback, *args, context=context)

    def close(self) -> None:
        if self._waking.fileno() == -1:  # asyncio would miss it
            asyncio.BaseEventLoop.close(self)
        else:
            super().close()
