"""The wrapper around a callable that is visited, wherever its code cannot be exchanged."""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any, Self, cast

import wrapt

from .._core.arming import ARMED

# A C method that returns a falsy 0 while nothing is armed: wrapt then calls the wrapped function directly, for the
# cost of one test.
_armed = cast(Callable[[], bool], ARMED.__len__)


class Wrapper(wrapt.FunctionWrapper[..., Any]):
    """Looks like the function that it wraps, and is called like it while nothing is armed.

    Args:
        function: The function.
        call: Called for each call while something is armed, with the arguments of a wrapt wrapper.
        binds: Whether the function becomes a method when an instance is asked for it.
    """

    def __init__(self, function: Any, call: Callable[..., Any], *, binds: bool) -> None:
        super().__init__(function, call, enabled=_armed)
        self._self_binds = binds

    def __init_subclass__(cls) -> None:
        # In the namespace of each class that is used. Reading the annotations of a class without its own, as the
        # autospec of `mock` does, creates empty ones, which would hide those of the wrapped function.
        setattr(cls, "__annotations__", property(_get_annotations, _set_annotations))  # noqa: B010 - typed as a dict

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        # Not wrapt's own bound wrapper but a bound method of this object: binding is cheap, and a method that was
        # stored before anything was configured still comes through here.
        return self if instance is None or not self._self_binds else MethodType(self, instance)

    def __repr__(self) -> str:
        return repr(self.__wrapped__)

    # Like a function, it is copied by returning it.

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: Any) -> Self:
        return self


def _get_annotations(wrapper: Wrapper) -> Any:
    return wrapper.__wrapped__.__annotations__


def _set_annotations(wrapper: Wrapper, annotations: Any) -> None:
    wrapper.__wrapped__.__annotations__ = annotations
