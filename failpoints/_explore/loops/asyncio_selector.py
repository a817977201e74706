"""An asyncio event loop that opens a selector and sockets only once they are needed, which most runs never do."""

from __future__ import annotations

import asyncio
import selectors
import socket
from collections.abc import Callable
from typing import Any

from ..._core.reentrancy import transparent


class LazySelector(selectors.BaseSelector):
    """A selector that makes the real one when a file is registered, and leaves waiting to the loop.

    `select` calls `wait`, which the loop sets.
    """

    def __init__(self) -> None:
        self.real: selectors.BaseSelector | None = None
        self.wait: Callable[[float | None], Any]

    def __setattr__(self, name: str, value: object) -> None:
        if name == "select":  # a virtual clock of the program's own, which would let time pass while tasks are held
            raise AttributeError("select cannot be replaced in an exploration, which has its own virtual clock")
        super().__setattr__(name, value)

    def made(self) -> selectors.BaseSelector:
        """Return the real selector. Make it if there is none yet."""
        if self.real is None:
            self.real = selectors.DefaultSelector()
        return self.real

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self.made().register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self.made().unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self.made().modify(fileobj, events, data)

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        if self.real is None:
            raise KeyError(fileobj)
        return self.real.get_key(fileobj)

    def get_map(self) -> Any:
        return {} if self.real is None else self.real.get_map()

    def select(self, timeout: float | None = None) -> Any:
        return self.wait(timeout)

    def close(self) -> None:
        del self.wait  # a reference to the loop
        if self.real is not None:
            self.real.close()
            self.real = None


class LazySocketsLoop(asyncio.SelectorEventLoop):
    """An event loop whose self-pipe, through which threads and signals wake it, is made when the loop first waits."""

    # Private attributes of asyncio's own classes, which typeshed does not have.
    _add_reader: Any
    _csock: Any
    _internal_fds: int
    _read_from_self: Any
    _ready: Any
    _ssock: Any

    def __init__(self) -> None:
        self.lazy_selector: LazySelector = LazySelector()
        super().__init__(self.lazy_selector)

    def really_wait(self, seconds: float) -> Any:
        """Wait for I/O, for a thread or for a signal, and return the events of the selector."""
        self._make_real_self_pipe()
        # From now on a thread that calls into the loop writes to the pipe. One that has called before made it ready.
        return self.lazy_selector.made().select(0 if self._ready else seconds)

    def has_io(self) -> bool:
        """Return whether any file descriptor is registered, apart from the loop's own."""
        return len(self.lazy_selector.get_map()) > self._internal_fds

    def _make_self_pipe(self) -> None:
        self._ssock = self._csock = None

    def _make_real_self_pipe(self) -> None:
        if self._csock is None:
            self._ssock, writer = socket.socketpair()
            self._ssock.setblocking(False)
            writer.setblocking(False)
            self._internal_fds += 1
            self._add_reader(self._ssock.fileno(), self._read_from_self)
            self._csock = writer

    def _close_self_pipe(self) -> None:
        if self._csock is not None:
            super()._close_self_pipe()  # type: ignore[misc]

    def _write_to_self(self) -> None:
        if self._csock is not None:
            super()._write_to_self()  # type: ignore[misc]

    @transparent
    def add_signal_handler(self, sig: int, callback: Any, *args: Any) -> None:  # type: ignore[override]
        self._make_real_self_pipe()
        super().add_signal_handler(sig, callback, *args)
