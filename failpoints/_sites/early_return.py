"""How a scope returns from its enclosing function: an exception that only this call's decorator catches.

A decorator registers the call that it is about to run. A scope looks up the call that its own frame belongs to, and
raises only if there is one. A coroutine or generator is registered by its frame. A sync function has no frame yet, and
is registered by the frame of the decorator that calls it.
"""

from __future__ import annotations

from sys import _getframe  # pyright: ignore[reportPrivateUsage]
from types import CodeType, FrameType
from typing import NoReturn, cast
from weakref import WeakSet

from .._core.actions import Return
from .._core.store import note_scope_elsewhere
from ..errors import FailpointUsageError

decorated_code: WeakSet[CodeType] = WeakSet()
"""The code of every decorated function, to distinguish two usage errors."""

# By the id of the frame, which stays alive until the call ends.
_calls: dict[int, DecoratedCall] = {}


class EarlyReturn(BaseException):
    """Travels from a scope to the decorator of the enclosing function."""

    def __init__(self, call: DecoratedCall, name: str, outcome: Return) -> None:
        super().__init__(f"failpoint {name!r} returns {outcome.value!r} from the function around its scope")
        self.call = call
        self.name = name
        self.outcome = outcome


class DecoratedCall:
    """One call of a decorated function, as its decorator sees it.

    Args:
        frame: The frame that runs the body. With *code*, the frame that calls the body instead.
        code: The code of the body, for a sync function.
    """

    __slots__ = ("_code", "_frame")

    def __init__(self, frame: FrameType | None, code: CodeType | None = None) -> None:
        self._code = code
        # Kept until the end: the id of a frame that is gone could be reused for a call in another thread.
        self._frame = frame
        if frame is not None:
            _calls[id(frame)] = self

    def end(self) -> None:
        """Forget the call. No scope can return from it any more."""
        if self._frame is not None:
            _calls.pop(id(self._frame), None)
            self._frame = None  # with everything that its locals keep alive

    def runs(self, frame: FrameType) -> bool:
        """Return whether *frame* runs the body of this call."""
        return self._frame is frame if self._code is None else self._code is frame.f_code

    def early_return_in(self, error: BaseException) -> tuple[str, Return] | None:
        """Return the failpoint's name and the outcome if *error* is an early return from this call, else `None`.

        The early return may be in an exception group. If other tasks failed too, raises the rest of the group.
        """
        if isinstance(error, EarlyReturn):
            return (error.name, error.outcome) if error.call is self else None
        if not isinstance(error, BaseExceptionGroup):
            return None
        mine: list[EarlyReturn] = []

        def is_mine(leaf: BaseException) -> bool:
            if isinstance(leaf, EarlyReturn) and leaf.call is self:
                mine.append(leaf)
                return True
            return False

        group = cast(BaseExceptionGroup[BaseException], error)
        _, rest = group.split(is_mine)
        if mine and rest is not None:
            _remove_from_context(mine, rest)
            raise rest from error.__cause__
        return (mine[0].name, mine[0].outcome) if mine else None


def sync_call(code: CodeType | None) -> DecoratedCall:
    """Register the call of a sync function with this code from the frame of the caller."""
    return DecoratedCall(_getframe(1), code)


def _remove_from_context(returns: list[EarlyReturn], error: BaseException) -> None:
    """Unlink early returns from the errors of other tasks. trio links them, since it cancels these tasks meanwhile."""
    if error.__context__ in returns:
        error.__context__ = None
    elif error.__context__ is not None:
        _remove_from_context(returns, error.__context__)
    if isinstance(error, BaseExceptionGroup):
        for leaf in cast(BaseExceptionGroup[BaseException], error).exceptions:
            _remove_from_context(returns, leaf)


def leave_function(name: str, frame: FrameType, outcome: Return) -> NoReturn:
    """Make the function that runs in *frame* return; raise `FailpointUsageError` if nothing would catch that."""
    for caller in (frame, frame.f_back):
        call = _calls.get(id(caller))
        if call is not None and call.runs(frame):
            raise EarlyReturn(call, name, outcome)
    code = frame.f_code
    note_scope_elsewhere(name.removesuffix(":after"))
    place = f"{code.co_qualname} ({code.co_filename}:{code.co_firstlineno})"
    if code in decorated_code:
        raise FailpointUsageError(
            f"failpoint {name!r} cannot return from {place}, because nothing would catch that: this call did not"
            " come through the function's @failpoint decorator, or it began before the return was configured; configure"
            " first, then call the decorated function",
            code="FP012",
        )
    raise FailpointUsageError(
        f"failpoint {name!r} cannot return from {place}, because nothing would catch that: the function directly"
        " around the scope is not decorated with @failpoint; decorate it, under any name",
        code="FP012",
    )
