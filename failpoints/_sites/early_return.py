"""How a scope makes the function around it return: an exception that one call's decorator alone catches.

A decorator says here which call it is about to run; a scope looks up the call that runs the frame it stands
in, and raises only if there is one. A coroutine or generator is known by its own frame; the body of a sync
function, whose frame does not exist yet, by the decorator's frame that calls it.
"""

from __future__ import annotations

from sys import _getframe  # pyright: ignore[reportPrivateUsage]
from types import CodeType, FrameType
from typing import NoReturn, cast
from weakref import WeakSet

from .._core.actions import Return
from ..errors import FailpointUsageError

decorated_code: WeakSet[CodeType] = WeakSet()
"""The code of every decorated function, to tell two usage errors apart."""

# By the id of the frame, which the call holds until it ends.
_calls: dict[int, DecoratedCall] = {}


class EarlyReturn(BaseException):
    """On its way from the scope of a failpoint to the decorator of the function around it."""

    def __init__(self, call: DecoratedCall, name: str, outcome: Return) -> None:
        super().__init__(f"failpoint {name!r} returns {outcome.value!r} from the function around its scope")
        self.call = call
        self.name = name
        self.outcome = outcome


class DecoratedCall:
    """One call of a decorated function, from its decorator's point of view."""

    __slots__ = ("_code", "_frame")

    def __init__(self, frame: FrameType | None, code: CodeType | None = None) -> None:
        """The body runs in `frame`; or, with `code`, it is the one with that code which `frame` calls."""
        self._code = code
        # Until the end: a frame that is gone would leave its id to that of a call in another thread.
        self._frame = frame
        if frame is not None:
            _calls[id(frame)] = self

    def end(self) -> None:
        """The body is done: no scope can leave it any more."""
        if self._frame is not None:
            _calls.pop(id(self._frame), None)
            self._frame = None  # and with it all that its locals keep alive

    def runs(self, frame: FrameType) -> bool:
        """Whether the body of this call is what runs in `frame`."""
        return self._frame is frame if self._code is None else self._code is frame.f_code

    def early_return_in(self, error: BaseException) -> tuple[str, Return] | None:
        """The failpoint whose scope had this call return, and what, if that is `error`, alone or in a group.

        Raises the rest of a group in which other tasks failed too.
        """
        if isinstance(error, EarlyReturn):
            return (error.name, error.outcome) if error.call is self else None
        if not isinstance(error, BaseExceptionGroup):
            return None
        asked: list[EarlyReturn] = []

        def is_mine(leaf: BaseException) -> bool:
            if isinstance(leaf, EarlyReturn) and leaf.call is self:
                asked.append(leaf)
                return True
            return False

        group = cast(BaseExceptionGroup[BaseException], error)
        _, rest = group.split(is_mine)
        if asked and rest is not None:
            _forget(asked, rest)
            raise rest from error.__cause__
        return (asked[0].name, asked[0].outcome) if asked else None


def sync_call(code: CodeType | None) -> DecoratedCall:
    """A call of a sync function that has this code, from the caller's frame."""
    return DecoratedCall(_getframe(1), code)


def _forget(asked: list[EarlyReturn], error: BaseException) -> None:
    """What other tasks raised did not come of a return, though trio cancelled them while it was on its way."""
    if error.__context__ in asked:
        error.__context__ = None
    elif error.__context__ is not None:
        _forget(asked, error.__context__)
    if isinstance(error, BaseExceptionGroup):
        for leaf in cast(BaseExceptionGroup[BaseException], error).exceptions:
            _forget(asked, leaf)


def leave_function(name: str, frame: FrameType, outcome: Return) -> NoReturn:
    """Make the function that runs in `frame` return; raises `FailpointUsageError` where nothing would catch it."""
    for caller in (frame, frame.f_back):
        call = _calls.get(id(caller))
        if call is not None and call.runs(frame):
            raise EarlyReturn(call, name, outcome)
    code = frame.f_code
    place = f"{code.co_qualname} ({code.co_filename}:{code.co_firstlineno})"
    if code in decorated_code:
        raise FailpointUsageError(
            f"failpoint {name!r} cannot return from {place}, because nothing would catch that: this call did not"
            " come through the function's @failpoint decorator, or it began while nothing was configured; configure"
            " first, then call the decorated function"
        )
    raise FailpointUsageError(
        f"failpoint {name!r} cannot return from {place}, because nothing would catch that: the function directly"
        " around the scope is not decorated with @failpoint; decorate it, under any name"
    )
