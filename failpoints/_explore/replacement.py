"""Replaces something in a library while any thread explores."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager


class Replacement:
    """Something that is replaced for the first of the threads that need it, and restored after the last one.

    `threads` has these threads, by ident. In all others, what replaces it has to do what it did before.
    """

    def __init__(self, replace: Callable[[], object], restore: Callable[[], object]) -> None:
        self.threads: dict[int, None] = {}
        self._replace = replace
        self._restore = restore
        self._lock = threading.Lock()

    @contextmanager
    def in_this_thread(self) -> Generator[None]:
        """Replace it for the current thread inside the block."""
        thread = threading.get_ident()
        with self._lock:
            if not self.threads:
                self._replace()
            self.threads[thread] = None
        try:
            yield
        finally:
            with self._lock:
                del self.threads[thread]
                if not self.threads:
                    self._restore()
