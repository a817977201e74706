"""A thread that ends before a fork and goes on after it, in the parent only."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Final

from .._core.log import logger
from .place import Owner

_STOP_TIMEOUT: Final = 1.0  # seconds

_all: Final[weakref.WeakSet[Background]] = weakref.WeakSet()


class Background:
    """Calls *step* again and again, on a thread of its own, until it is stopped.

    Args:
        name: The name of the thread.
        step: Does what is due, waits for the next, and returns. It returns soon after *wake* was called.
        wake: Ends the wait of *step*.
    """

    def __init__(self, name: str, step: Callable[[], object], wake: Callable[[], object]) -> None:
        self._name = name
        self._step = step
        self._wake = wake
        self._thread: threading.Thread | None = None
        _all.add(self)

    def start(self) -> None:
        """Start the thread, unless it runs."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()

    def stop(self) -> bool:
        """End the thread, and return whether it ran. Waits a second for it at most."""
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return False
        self._thread = None
        self._wake()
        thread.join(_STOP_TIMEOUT)  # no longer: it may wait for a lock that the calling thread holds
        return True

    @property
    def is_stopping(self) -> bool:
        """Whether the thread that asks, which is in *step*, is to end."""
        return self._thread is not threading.current_thread()

    def _run(self) -> None:
        while self._thread is threading.current_thread():
            try:
                self._step()
            except Exception:
                logger.exception("failpoints fleet: the thread has an error, and goes on")
                threading.Event().wait(_STOP_TIMEOUT)

    def forget(self) -> None:
        """Forget the thread, in a forked child which does not have it."""
        self._thread = None


def keep_renewed(owner: Owner, lease: float) -> Background:
    """Show again and again that an owner is not stopped, until the result is stopped."""
    ending = threading.Event()

    def renew() -> None:
        ending.wait(lease / 4)
        ending.clear()  # else the thread that goes on after a fork would never wait
        owner.touch()

    renewing = Background("failpoints fleet lease", renew, ending.set)
    renewing.start()
    return renewing


_suspended: list[Background] = []


def _before_fork() -> None:
    _suspended[:] = [each for each in list(_all) if each.stop()]


def _after_in_parent() -> None:
    for each in _suspended:
        try:
            each.start()
        except RuntimeError as error:  # no more threads can be started
            logger.error("failpoints fleet: its thread has ended: %s", error)
    _suspended.clear()


def _after_in_child() -> None:
    _suspended.clear()
    for each in list(_all):
        each.forget()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
