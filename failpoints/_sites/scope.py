"""`failpoint_scope`: a failpoint around a critical section."""

from __future__ import annotations

from collections.abc import Callable
from types import FrameType
from typing import Final, TypedDict, Unpack

from .._core.actions import Cancelled, Outcome, Return
from .._core.context import Context
from .._core.entered import note_stray
from .._core.region import leave_region
from .._core.site import Cancel, Site, caller_frame, check_new_place
from .._core.switches import Switch
from .._core.tracebacks import own_frames_hidden
from .._core.visit import concerns, recording_usage_errors, visit, visit_sync
from ..errors import FailpointCancelled
from .early_return import leave_function
from .made import MISSING, Made


class Options(TypedDict, total=False):
    """The options of `failpoint_scope`."""

    context: Context | Callable[[], Context] | None
    raises: tuple[type[BaseException], ...]
    cancel: Cancel | None
    reads: tuple[str, ...]
    writes: tuple[str, ...]


def failpoint_scope(name: str = MISSING, /, **options: Unpack[Options]) -> Scope:
    """A failpoint around a critical section: visits `name` before the block, and `name:after` when it has finished.

    Use `async with failpoint_scope("backup.commit"):` in async code, and `with` in sync code. A scope can be kept in a
    variable and used any number of times. `name:after` is not visited if the block raises.

    A `return(v)` at a scope makes the directly enclosing function return `v`. That function must be decorated with
    `@failpoint`, under any name. Its `convert` and its annotation apply. It is not quite a real `return`:

    - A context manager in between sees an exception, so a transaction rolls back.
    - A task group in between cancels its children.
    - A bare `except:` or an `except BaseException:` in between catches it. An `except Exception:` does not.

    Args:
        name: As for `failpoint`.
        context: A mapping, or a callable without parameters that returns one. Evaluated only while the failpoint is
            configured.
        raises: As for `failpoint`.
        cancel: As for `failpoint`.
        reads: As for `failpoint`. It is about the block.
        writes: As for `failpoint`. It is about the block.

    Raises:
        FailpointCancelled: The `cancel` event ended a wait.
        FailpointUsageError: A `return(v)` that no decorator would catch: the function is not decorated, it was called
            around its decorator, or the call began before the return was configured. Also as for `failpoint`.
        FailpointNameError: As for `failpoint`.
        FailpointTimeout: As for `failpoint`.

    >>> @failpoint("save")
    ... def save() -> str:
    ...     with failpoint_scope("save.commit"):
    ...         return "saved"
    >>> with configured("save.commit", "return(not saved)"):
    ...     save()
    'not saved'
    """
    if not options:  # most calls end here, and this is the shortest way
        try:
            return _plain[name]
        except (KeyError, TypeError):  # TypeError: the name cannot be hashed
            pass
    return _made.made(name, options)


class Scope:
    """A critical section, as `failpoint_scope` returns it: enter it with `async with` or `with`."""

    __slots__ = ("_cancel", "_context", "_kept", "_raises", "_reads", "_switch", "_writes", "name")

    def __init__(
        self,
        name: str,
        switch: Switch,
        context: Context | Callable[[], Context] | None = None,
        raises: tuple[type[BaseException], ...] = (),
        cancel: Cancel | None = None,
        reads: tuple[str, ...] = (),
        writes: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self._switch = switch
        self._context = context
        self._raises = raises
        self._cancel = cancel
        self._reads = reads
        self._writes = writes
        self._kept: Site | None = None

    def __repr__(self) -> str:
        return f"failpoint_scope({self.name!r})"

    # async with failpoint_scope("name"):

    async def __aenter__(self) -> None:
        if self._switch:
            with own_frames_hidden:
                await self._visit(self.name)

    async def __aexit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if self._switch:
            try:
                if kind is None:
                    with own_frames_hidden:
                        await self._visit(f"{self.name}:after")
            finally:
                self._end_region()

    # with failpoint_scope("name"):

    def __enter__(self) -> None:
        if self._switch:
            with own_frames_hidden:
                self._visit_sync(self.name)

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if self._switch:
            try:
                if kind is None:
                    with own_frames_hidden:
                        self._visit_sync(f"{self.name}:after")
            finally:
                self._end_region()

    async def _visit(self, name: str) -> None:
        if concerns(name, self._switch):
            frame = caller_frame(2)
            site = self._checked_site(frame)
            self._leave(name, frame, await visit(name, site, site.get_context, region=self))

    def _visit_sync(self, name: str) -> None:
        if not concerns(name, self._switch):
            note_stray(name, self._site().get_context)
            return
        frame = caller_frame(2)
        site = self._checked_site(frame)
        self._leave(name, frame, visit_sync(name, site, site.get_context, frame.f_code.co_qualname, region=self))

    def _site(self) -> Site:
        site = self._kept
        if site is None:
            site = self._kept = Site(
                self.name, self._context, self._raises, cancel=self._cancel, reads=self._reads, writes=self._writes
            )
        return site

    def _checked_site(self, frame: FrameType) -> Site:
        site = self._site()
        check_new_place(site, frame, f"{self.name}:after")
        return site

    def _leave(self, name: str, frame: FrameType, outcome: Outcome) -> None:
        if outcome and name == self.name:  # Python does not exit what raises when it is entered
            self._end_region()
        if isinstance(outcome, Return):
            with recording_usage_errors(name):
                leave_function(name, frame, outcome)
        if isinstance(outcome, Cancelled):
            raise FailpointCancelled(name)

    def _end_region(self) -> None:
        if self._reads or self._writes:
            leave_region(self)


_made: Final = Made(failpoint_scope, Scope)
_plain: Final = _made.by_name
