"""The replacement of an instrumented function: an armed copy of a plain function, a wrapper around anything else.

An armed copy costs nothing while its failpoint is not configured. It does not show that it is another function: it
shares the attributes of the original, and gets no `__wrapped__`.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from threading import get_ident, main_thread  # by name, since they can be instrumented
from types import FunctionType, MethodType
from typing import Any

from wrapt import BaseObjectProxy

from .._core.arming import appearance_of, armed_copy, can_arm, copied_from, keywords_of, own_code, visits_of
from .._core.functions import Kind, is_method_object, kind_of
from .._core.reentrancy import is_internal_call, transparent
from .._core.site import Site
from .._core.switches import Flag, may_contain_scope, switch_of
from .._core.tracebacks import own_frames_hidden
from .._core.visit import concerns
from .._sites.decorated import Decorated
from .._sites.wrapper import BoundWrapper, Wrapper
from .targets import Target, callable_of


class Instrumented:
    """The calls of one instrumented function, whatever has taken its place.

    Args:
        function: The function.
        site: What the failpoint declares.
    """

    def __init__(self, function: Any, site: Site) -> None:
        self.site = site
        self.visits = Decorated(function, site)
        self.is_active = True
        """Whether calls are visited. If not, they are passed on to the function."""

    @transparent
    def call(self, wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the function with its visits, for a wrapt wrapper."""
        # Until the caller is known, this may call only functions that cannot be instrumented.
        with own_frames_hidden:
            if self.is_active and not is_internal_call():
                return self.visits.call(wrapped, instance, args, kwargs)
            return wrapped(*args, **kwargs)

    @transparent
    def call_under(self, wrapped: Any, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function that another tool had wrapped, and no longer has, with its visits."""
        with own_frames_hidden:
            return self.call(wrapped, None, args, kwargs)


def replacement_of(target: Target, instrumented: Instrumented) -> Any:
    """Return what takes the place of an instrumented function, class method or static method."""
    function = without_patches(target.function)
    if can_arm(function) and instrumented.visits.call_context.needs_only_values() and not _is_known_to_a_tool(function):
        named = _place_by_name(function)
        is_elsewhere = named is not None and named != (target.owner, target.attribute)
        if not is_elsewhere or _is_found_by_name(target.owner):
            copy = _copy_of(function, instrumented, target, renamed=is_elsewhere)
            return type(target.found)(copy) if is_method_object(target.found) else copy
        # Only a wrapper can be pickled as what it wraps, by the name in another module.
    return _wrapper_of(target.found, instrumented, instrumented.call, target.replaced)


def instrumented_by(thing: Any) -> Instrumented | None:
    """Return what has put an object in the place of a function, or `None` for any other object."""
    found = _replacement(thing)
    return None if found is None else found.instrumented


def replaced_by(thing: Any) -> Any:
    """Return what has to be put back for a replacement. What was changed in it, is changed in the original then."""
    found = _replacement(thing)
    assert found is not None
    found.function_under(callable_of(thing))
    return found.replaced


def without_patches(function: Any) -> Any:
    """Return the function under any replacement: a base class may be patched too, with another failpoint."""
    while (found := _replacement(function)) is not None:
        function = found.function_under(function)
    return function


def wrapped_by(thing: Any) -> Any:
    """Return what an object wraps, or is an armed copy of; `None` if there is nothing."""
    return getattr(thing, "__func__", None) or copied_from(thing) or getattr(thing, "__wrapped__", None)


class _Replacement:
    """Something that has taken the place of a function, and the way back to it."""

    def __init__(self, instrumented: Instrumented, replaced: Any) -> None:
        self.instrumented = instrumented
        self.replaced = replaced

    def is_for(self, function: Any) -> bool:
        """Return whether an object is what has taken the place, and not something that a tool has made of it."""
        return True

    def function_under(self, function: Any) -> Any:
        """Return the original function, given what has taken its place."""
        return function._self_function  # noqa: SLF001 - a wrapper, a class of this module


def _replacement(thing: Any) -> _Replacement | None:
    function = callable_of(thing)
    # A proxy of a wrapper presents itself as one, too.
    found = function._self_replacement if issubclass(type(function), _PatchWrapper) else visits_of(function)  # noqa: SLF001
    return found if isinstance(found, _Replacement) and found.is_for(function) else None


# copies


class _CopyVisits(_Replacement):
    """The visits around the calls of the armed copy that takes the place of a plain function."""

    def __init__(self, instrumented: Instrumented, replaced: Any, function: FunctionType) -> None:
        super().__init__(instrumented, replaced)
        self.appearance: dict[str, Any] = {}  # of the copy, before any tool has changed it
        self._original = self._function = function
        name = instrumented.site.name
        self._name, self._after = name, f"{name}:after"
        self._switch = switch_of(name)
        self._look_at(function)

    def _look_at(self, function: FunctionType) -> None:
        self._code = own_code(function)
        self._is_done_at_once = kind_of(function) is Kind.SYNC and not may_contain_scope(self._code)

    @property
    def only_start(self) -> bool:
        """Whether a call only makes a coroutine or a generator."""
        return self.instrumented.visits.only_start

    @transparent
    def start(self, args: tuple[Any, ...], keyword_only: tuple[Any, ...], more: dict[str, Any]) -> Any:
        """Make the coroutine or generator of a call, given a value for each parameter."""
        if self._passes_on():
            return self._function(*args, **keywords_of(self._code, keyword_only, more))
        return self.instrumented.visits.start(args, keyword_only, more)

    @transparent
    def prepare_call(
        self, args: tuple[Any, ...], keyword_only: tuple[Any, ...], more: dict[str, Any]
    ) -> Callable[[], Any]:
        """Return a function that makes the call of a sync function, given a value for each parameter."""
        if self._passes_on():
            return functools.partial(self._function, *args, **keywords_of(self._code, keyword_only, more))
        return self.instrumented.visits.prepare_call(args, keyword_only, more)

    def _passes_on(self) -> bool:
        """Return whether a call only runs the function."""
        # Until the caller is known, this may call only functions that cannot be instrumented.
        return not self.instrumented.is_active or not self._may_matter() or is_internal_call()

    def _may_matter(self) -> bool:
        """Return whether visits may have an effect. If not, there is no need to search the stack for the caller."""
        return (
            not self._is_done_at_once
            or concerns(self._name, self._switch)
            or concerns(self._after, self._switch)
            or get_ident() != main_thread().ident  # where it may have to be noted as a stray
        )

    def replace_function(self, function: FunctionType) -> None:
        """Run another function from now on: a tool has given the code of this one to the copy."""
        self._function = function
        self._look_at(function)
        self.instrumented.visits.replace_function(function)

    def is_for(self, function: Any) -> bool:
        # Code with other free variables cannot be given to the original.
        return len(own_code(function).co_freevars) == len(own_code(self._original).co_freevars)

    def function_under(self, function: Any) -> Any:
        """Return the original function, with what was changed in its copy meanwhile."""
        for name, value in appearance_of(function).items():
            if name not in self.appearance or self.appearance[name] is not value:
                setattr(self._original, name, value)
        return self._original


def _copy_of(function: FunctionType, instrumented: Instrumented, target: Target, *, renamed: bool) -> FunctionType:
    visits = _CopyVisits(instrumented, target.replaced, function)
    copy = armed_copy(function, instrumented.site.name, visits, shows_function=False)
    if renamed:  # an inherited method, to be found by its name, too
        copy.__module__ = target.owner.__module__
        copy.__qualname__ = f"{target.owner.__qualname__}.{target.attribute}"
    visits.appearance = appearance_of(copy)
    return copy


def _is_known_to_a_tool(function: FunctionType) -> bool:
    """Return whether a tool has made the code of a function, as ddtrace does. No compiler's code contains a function.

    The tool remembers the function itself, and would not find a copy of it when it gives it back its own code.
    """
    return any(map(callable, own_code(function).co_consts))


def _place_by_name(function: FunctionType) -> tuple[Any, str] | None:
    """Return the owner and the attribute where a function is found by its name; `None` if another thing is there."""
    owners, _, attribute = function.__qualname__.rpartition(".")
    owner = _found_by_name(function.__module__, owners)
    return (owner, attribute) if getattr(owner, attribute, None) is function else None


def _is_found_by_name(owner: Any) -> bool:
    return isinstance(owner, type) and _found_by_name(owner.__module__, owner.__qualname__) is owner


def _found_by_name(module: str | None, name: str) -> Any:
    """Return what is where pickle looks for a name, or `None`. An empty name is that of the module itself."""
    found: Any = sys.modules.get(module or "")
    for part in name.split(".") if name else ():
        found = getattr(found, part, None)
    return found


# wrappers


class _PatchWrapper(Wrapper):
    """Takes the place of an instrumented function that is not a plain one.

    Args:
        function: The function.
        instrumented: Its calls.
        call: Makes a call, as for `Wrapper`.
        replaced: What has to be put back for this.
    """

    def __init__(self, function: Any, instrumented: Instrumented, call: Callable[..., Any], replaced: Any) -> None:
        binds = hasattr(function, "__get__") and not isinstance(function, MethodType)
        armed = Flag(instrumented.site.name, instrumented.visits.source_code)
        super().__init__(function, call, armed, binds=binds)
        self._self_replacement = _Replacement(instrumented, replaced)

    def __reduce_ex__(self, protocol: Any) -> Any:  # pickled as a function is, by its name
        function = self._self_function
        name: str = getattr(function, "__qualname__", "")
        is_found = name and _found_by_name(getattr(self, "__module__", None), name) is self
        return name if is_found else (_itself, (function,))


class _Layer(Wrapper):
    """A wrapper around the wrapper of another tool, which can still be taken off.

    Tools put in place of their wrapper whatever `__wrapped__` is of the object that they find. So `__wrapped__` is here
    the same failpoint around what the other wrapper wraps.
    """

    @transparent
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        function = self._self_function  # and not __wrapped__, as wrapt would
        if not self._self_armed:
            return function(*args, **kwargs)
        with own_frames_hidden:
            return self._self_call(function, None, args, kwargs)


class _PatchLayer(_Layer, _PatchWrapper):
    """Takes the place of an instrumented function that another tool has wrapped."""

    def __init__(
        self, function: Any, instrumented: Instrumented, call: Callable[..., Any], replaced: Any, under: Any
    ) -> None:
        super().__init__(function, instrumented, call, replaced)
        self.__wrapped__ = under

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        bound = super().__get__(instance, owner)
        if instance is None and type(bound) is BoundWrapper:
            return _BoundLayer(bound, self.__wrapped__)
        return bound


class _BoundLayer(_Layer, BoundWrapper):
    """A method that is looked up on its class, if another tool has wrapped it."""

    def __init__(self, bound: BoundWrapper, under: Any) -> None:
        super().__init__(bound._self_function, bound._self_call, bound._self_armed)  # noqa: SLF001 - replaces it
        self.__wrapped__ = under


def _wrapper_of(found: Any, instrumented: Instrumented, call: Callable[..., Any], replaced: Any) -> Any:
    if is_method_object(found):
        return type(found)(_wrapper_of(found.__func__, instrumented, call, replaced))
    function = without_patches(found)
    if not issubclass(type(function), BaseObjectProxy) or issubclass(type(function), Wrapper):
        return _PatchWrapper(function, instrumented, call, replaced)
    inner = function.__wrapped__
    under = _wrapper_of(inner, instrumented, instrumented.call_under, inner)
    return _PatchLayer(function, instrumented, call, replaced, under)


def _itself(function: Any) -> Any:
    return function
