"""`failpoint_scope`: a failpoint around a critical section."""

from __future__ import annotations

from collections.abc import Callable
from types import FrameType

from .._core.actions import Cancelled, Outcome, Return
from .._core.arming import ARMED
from .._core.context import Context
from .._core.site import Cancel, Site, caller_frame, check_new_place
from .._core.visit import recording_usage_errors, visit, visit_sync
from ..errors import FailpointCancelled
from .early_return import leave_function
from .failpoint import MISSING, refuse_name


class failpoint_scope:
    """To name a critical section: visits `name` before the block and `name:after` once it has completed.

    `async with failpoint_scope("backup.commit"):` in async code, `with` in sync code; kept in a variable it serves
    again and again. `context` is a mapping, or a callable without arguments that returns one; `raises` and
    `cancel` are those of `failpoint`.

    `return(v)` at a scope leaves the directly enclosing function with `v`. That function must be decorated with
    `@failpoint`, under any name, whose `convert` and annotation apply. What differs from a real `return`:
    a context manager in between sees an exception (a transaction rolls back), a task group in between cancels its
    children, and a bare `except:` or `except BaseException:` sees it; no `except Exception` does. Where nothing
    would catch it, it is a `FailpointUsageError`: in an undecorated function, in one that was reached other than
    through its decorator, or in a call that began while nothing was configured.

    Raises what `failpoint` raises, and `FailpointCancelled` when the `cancel` event ends a wait.

    >>> @failpoint("save")
    ... def save() -> str:
    ...     with failpoint_scope("save.commit"):
    ...         return "saved"
    >>> with configured("save.commit", "return(not saved)"):
    ...     save()
    'not saved'
    """

    __slots__ = ("_cancel", "_context", "_raises", "name")

    def __init__(
        self,
        name: str = MISSING,
        /,
        *,
        context: Context | Callable[[], Context] | None = None,
        raises: tuple[type[BaseException], ...] = (),
        cancel: Cancel | None = None,
    ) -> None:
        if name.__class__ is not str:
            refuse_name("failpoint_scope", name)
        self.name = name
        self._context = context
        self._raises = raises
        self._cancel = cancel

    def __repr__(self) -> str:
        return f"failpoint_scope({self.name!r})"

    # async with failpoint_scope("name"):

    async def __aenter__(self) -> None:
        if ARMED:
            await self._visit("", caller_frame())

    async def __aexit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if ARMED and kind is None:
            await self._visit(":after", caller_frame())

    # with failpoint_scope("name"):

    def __enter__(self) -> None:
        if ARMED:
            self._visit_sync("", caller_frame())

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if ARMED and kind is None:
            self._visit_sync(":after", caller_frame())

    async def _visit(self, suffix: str, frame: FrameType) -> None:
        site, name = self._checked_site(frame), self.name + suffix
        _leave(name, frame, await visit(name, site, site.own_context))

    def _visit_sync(self, suffix: str, frame: FrameType) -> None:
        site, name = self._checked_site(frame), self.name + suffix
        _leave(name, frame, visit_sync(name, site, site.own_context, frame.f_code.co_qualname))

    def _checked_site(self, frame: FrameType) -> Site:
        site = Site(self.name, self._context, self._raises, cancel=self._cancel)
        check_new_place(site, frame, f"{self.name}:after")
        return site


def _leave(name: str, frame: FrameType, outcome: Outcome) -> None:
    if isinstance(outcome, Return):
        with recording_usage_errors(name):
            leave_function(name, frame, outcome)
    if isinstance(outcome, Cancelled):
        raise FailpointCancelled(name)
