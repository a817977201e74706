"""The wrapper around a callable that is visited, wherever its code cannot be exchanged."""

from __future__ import annotations

import copy
import functools
import math
import sys
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any, Self, cast
from weakref import WeakValueDictionary

import wrapt

from .._core.functions import Wrapping
from .._core.reentrancy import transparent
from .._core.switches import Flag
from .._core.tracebacks import own_frames_hidden

_getrefcount: Callable[[object], float] = getattr(sys, "getrefcount", lambda _: math.inf)  # PyPy counts none
_REFERENCES_TO_A_NEW_OBJECT = 1 if sys.version_info >= (3, 14) else 2  # that of a local variable, and of an argument


class Wrapper(wrapt.FunctionWrapper[..., Any], Wrapping):
    """Looks like the function that it wraps, and is called like it while its flag is empty.

    Args:
        function: The function, or a descriptor that makes one.
        call: Called for each call while the flag is not empty, with the arguments of a wrapt wrapper: what is called,
            the object that it is bound to, and the arguments of the call. A function that bound itself is called as
            it is then. All others get *function*, with the object among the arguments.
        armed: The flag.
        binds: Whether *function* becomes a method when an instance is asked for it.
    """

    # Not annotated: a proxy shows the annotations of its class as its own.
    _self_kept = cast("WeakValueDictionary[int, BoundWrapper] | None", None)

    def __init__(self, function: Any, call: Callable[..., Any], armed: Flag, *, binds: bool) -> None:
        # A C method that returns a falsy 0 while the flag is empty: wrapt then calls the wrapped function directly, for
        # the cost of one test.
        super().__init__(function, call, enabled=cast(Callable[[], bool], armed.__len__))
        self._self_armed = armed
        self._self_function = function
        self._self_call = call
        self._self_binds = binds

    def __init_subclass__(cls) -> None:
        # In the namespace of each class that is used. Reading the annotations of a class without its own, as the
        # autospec of `mock` does, creates empty ones, which would hide those of the wrapped function.
        setattr(cls, "__annotations__", property(_get_annotations, _set_annotations))  # noqa: B010 - typed as a dict

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        # Not wrapt's own bound wrapper but a bound method of this object: binding is cheap, and a method that was
        # stored before the failpoint was configured still comes through here.
        if not self._self_binds:
            return self
        function = self._self_function
        if type(function) is FunctionType:
            return self if instance is None else MethodType(self, instance)
        bound = function.__get__(instance, owner)
        if bound is function:
            return self
        if type(bound) is MethodType and bound.__func__ is function:
            return MethodType(self, bound.__self__)
        call = functools.partial(_call_bound, self._self_call, function, instance)
        if _getrefcount(bound) <= _REFERENCES_TO_A_NEW_OBJECT:
            return BoundWrapper(bound, call, self._self_armed)
        # An object that is kept somewhere is returned again, and then its wrapper is, too.
        kept = self._self_kept
        if kept is None:
            self._self_kept = kept = WeakValueDictionary[int, BoundWrapper]()
        return kept.setdefault(id(bound), BoundWrapper(bound, call, self._self_armed))

    def __repr__(self) -> str:
        return repr(self._self_function)

    # Like a function, it is copied by returning it.

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: Any) -> Self:
        return self


def _get_annotations(wrapper: Wrapper) -> Any:
    return wrapper.__wrapped__.__annotations__


def _set_annotations(wrapper: Wrapper, annotations: Any) -> None:
    wrapper.__wrapped__.__annotations__ = annotations


class BoundWrapper(Wrapper):
    """Takes the place of what a function's own `__get__` has returned, and is equal to it."""

    def __init__(self, bound: Any, call: Callable[..., Any], armed: Flag) -> None:
        super().__init__(bound, call, armed, binds=hasattr(bound, "__get__"))

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self._self_function.__reduce_ex__(protocol)

    def __deepcopy__(self, memo: Any) -> Any:
        return BoundWrapper(copy.deepcopy(self._self_function, memo), self._self_call, self._self_armed)


@transparent
def _call_bound(
    call: Callable[..., Any],
    function: Any,
    instance: Any,
    bound: Any,
    _: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Make a call of *bound*, which *function* became when it was bound to *instance*, for a wrapt wrapper."""
    # What it presents itself as, since a proxy may be a static method, too.
    with own_frames_hidden:
        receiver = None if isinstance(function, staticmethod) else getattr(bound, "__self__", instance)
        return call(bound, receiver, args, kwargs)
