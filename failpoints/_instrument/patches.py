"""Replacing functions that belong to other packages by ones with a failpoint, and putting the originals back."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import MethodType
from typing import Any, Protocol

from wrapt import BaseObjectProxy

from .._core import known_sites
from .._core.functions import callable_name, is_method_object
from .._core.locks import ForkSafeLock
from .._core.log import logger
from .._core.messages import safe_repr
from .._core.reentrancy import is_internal_call, transparent
from .._core.site import Site
from .._core.switches import Flag
from .._core.tracebacks import own_frames_hidden
from .._sites.decorated import Decorated
from .._sites.wrapper import BoundWrapper, Wrapper
from ..errors import FailpointUsageError
from .targets import ABSENT, Path, Target, callable_of, find_target

_OPTIONS = ("context", "raises", "convert", "cancel")


class _PatchWrapper(Wrapper):
    """Takes the place of an instrumented function.

    Args:
        function: The function.
        patch: The patch that this belongs to.
        call: Makes a call, as for `Wrapper`.
        replaced: What has to be put back for this.
    """

    def __init__(self, function: Any, patch: Patch, call: Callable[..., Any], replaced: Any) -> None:
        binds = hasattr(function, "__get__") and not isinstance(function, MethodType)
        super().__init__(function, call, patch.armed, binds=binds)
        self._self_patch = patch
        self._self_replaced = replaced

    def __reduce_ex__(self, protocol: Any) -> Any:  # pickled as a function is, by its name
        function = self._self_function
        name: str = getattr(function, "__qualname__", "")
        return name if _is_importable_as(name, self) else (_itself, (function,))


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

    def __init__(self, function: Any, patch: Patch, call: Callable[..., Any], replaced: Any, under: Any) -> None:
        super().__init__(function, patch, call, replaced)
        self.__wrapped__ = under

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        bound = super().__get__(instance, owner)
        if instance is None and type(bound) is BoundWrapper:
            return _BoundLayer(bound, self.__wrapped__)
        return bound


class _BoundLayer(_Layer, BoundWrapper):
    """What a class returns for its method, if another tool has wrapped it."""

    def __init__(self, bound: BoundWrapper, under: Any) -> None:
        super().__init__(bound._self_function, bound._self_call, bound._self_armed)  # noqa: SLF001 - replaces it
        self.__wrapped__ = under


def _wrapper_of(found: Any, patch: Patch, call: Callable[..., Any], replaced: Any) -> Any:
    """Return what takes the place of an instrumented function, class method or static method."""
    if is_method_object(found):
        return type(found)(_wrapper_of(found.__func__, patch, call, replaced))
    function = _without_patches(found)
    if not issubclass(type(function), BaseObjectProxy) or issubclass(type(function), Wrapper):
        return _PatchWrapper(function, patch, call, replaced)
    inner = function.__wrapped__
    under = _wrapper_of(inner, patch, patch.call_under, inner)
    return _PatchLayer(function, patch, call, replaced, under)


def _is_importable_as(name: str, wrapper: _PatchWrapper) -> bool:
    thing: Any = sys.modules.get(getattr(wrapper, "__module__", None) or "")
    for part in name.split("."):
        thing = getattr(thing, part, None)
    return thing is wrapper


def _itself(function: Any) -> Any:
    return function


class Requester(Protocol):
    """A call of `instrument`, or the environment variable. Its text names it in messages."""

    def __str__(self) -> str: ...


class Patch:
    """One function that is replaced by its wrapper, for as long as at least one requester wants it."""

    def __init__(self, path: Path, target: Target, site: Site) -> None:
        self.path = path
        self.target = target
        self.site = site
        self.requesters: dict[Requester, None] = {}
        self.is_active = False
        function = _without_patches(target.function)
        self._decorated = Decorated(function, site)
        self.armed = Flag(site.name, self._decorated.source_code)
        self._qualname = callable_name(function)
        self._names = site.name, f"{site.name}:after"

    def apply(self) -> None:
        """Replace the function; raise `FailpointUsageError` if it cannot be."""
        try:
            self.target.set(_wrapper_of(self.target.found, self, self.call, self.target.replaced))
        except (TypeError, AttributeError) as error:
            self._withdraw()
            raise FailpointUsageError(f"{str(self.path)!r} cannot be replaced: {error}") from error
        self.is_active = True

    def deactivate(self) -> None:
        """Pass every call on to the function from now on."""
        self.is_active = False
        self._withdraw()

    @transparent
    def call(self, wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the function with its visits, for a wrapt wrapper."""
        # Until the caller is known, this may call only functions that cannot be instrumented.
        with own_frames_hidden:
            if self.is_active and not is_internal_call():
                return self._decorated.call(wrapped, instance, args, kwargs)
            return wrapped(*args, **kwargs)

    @transparent
    def call_under(self, wrapped: Any, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function that another tool had wrapped, and no longer has, with its visits."""
        with own_frames_hidden:
            return self.call(wrapped, None, args, kwargs)

    def register(self) -> None:
        """Register the sites of both failpoints."""
        code = self._decorated.source_code
        for name in self._names:
            if code is None:
                known_sites.register_path(name, str(self.path), self._qualname, self, self.site.raises)
            else:
                known_sites.register_function(name, self._qualname, code, self.site.raises)
            known_sites.register_remark(name, self, self._displaced)

    def _withdraw(self) -> None:
        for name in self._names:
            known_sites.unregister(name, self._decorated.source_code or self)
            known_sites.unregister_remark(name, self)

    def _displaced(self) -> str | None:
        current = self.target.current()
        if self.is_under(current):
            return None
        what = "nothing" if current is ABSENT else safe_repr(current)
        return f"another tool has replaced the instrumented function: {self.path} is {what} now"

    def is_under(self, thing: Any) -> bool:
        """Return whether an object is a wrapper of this patch, or wraps one."""
        seen: set[int] = set()
        while thing is not None and id(thing) not in seen:
            if _patch_of(thing) is self:
                return True
            seen.add(id(thing))
            thing = getattr(thing, "__func__", None) or getattr(thing, "__wrapped__", None)
        return False


_patches: dict[tuple[int, str], Patch] = {}  # by owner and attribute
_guard = ForkSafeLock()


def patch(path: Path, module: Any, site: Site, requester: Requester) -> Target:
    """Put a failpoint on the function that *path* leads to.

    Args:
        path: The path of the function.
        module: The module that the path begins with.
        site: What the failpoint declares. If the function is patched already, it must declare the same.
        requester: Reverts the patch later, with `revert`.

    Raises:
        FailpointUsageError: The path leads nowhere, or to an object that cannot be patched, or its function is patched
            already, with another name or other options.
    """
    found = find_target(path, module)  # without the lock: a module's `__getattr__` may import something
    with _guard.lock:
        _restore_inactive(found)
        target = find_target(path, module)
        key = _key(target)
        applied = before = _patches.get(key)
        if before is not None:
            _check_same(path, before, site)
        if before is None or not before.is_under(target.found):  # a module that was reloaded has new functions
            applied = Patch(path, target, site)
            applied.apply()
            if before is not None:
                before.deactivate()
                applied.requesters.update(before.requesters)
            _patches[key] = applied
        assert applied is not None
        applied.requesters[requester] = None
        applied.register()
    logger.info("instrumented %s, as %s", path, site.name)
    return target


def revert(target: Target, requester: Requester) -> None:
    """End a request, and with the last one put the original back. Do nothing if there is no such request.

    If something else was put over the wrapper in the meantime (a `mock.patch`, for example), both stay. The wrapper
    then only passes calls on.
    """
    with _guard.lock:
        applied = _patches.get(_key(target))
        if applied is None or applied.requesters.pop(requester, applied) is applied or applied.requesters:
            return
        del _patches[_key(target)]
        applied.deactivate()
        _restore_inactive(target)
        for other in _patches.values():
            if other.site.name == applied.site.name:
                other.register()  # the same function may be patched at another path, too
    logger.info("no longer instrumented: %s, as %s", applied.path, applied.site.name)


def _restore_inactive(target: Target) -> None:
    """Put back what inactive patches replaced, if their wrappers are on top."""
    original = current = target.current()
    while (applied := _patch_of(original)) is not None and not applied.is_active:
        original = callable_of(original)._self_replaced  # noqa: SLF001 - a class of this module
    if original is not current:
        target.set(original)


def _patch_of(thing: Any) -> Patch | None:
    function = callable_of(thing)
    patch: Patch | None = function._self_patch if _is_patch_wrapper(function) else None  # noqa: SLF001 - see there
    return patch


def _is_patch_wrapper(function: Any) -> bool:
    return issubclass(type(function), _PatchWrapper)  # a proxy of one presents itself as one, too


def _key(target: Target) -> tuple[int, str]:
    return id(target.owner), target.attribute


def _without_patches(function: Any) -> Any:
    """Return the function under any wrapper: a base class may be patched too, with another failpoint."""
    while _is_patch_wrapper(function):
        function = function._self_function  # noqa: SLF001 - a class of this module
    return function


def _check_same(path: Path, applied: Patch, site: Site) -> None:
    first = applied.site
    problem = f"{str(path)!r} already has the failpoint {first.name!r}, from {next(iter(applied.requesters))}"
    if site.name != first.name:
        raise FailpointUsageError(f"{problem}, and cannot have {site.name!r} as well: use that name, or undo it first")
    for option in _OPTIONS:
        if getattr(site, option) != getattr(first, option):
            raise FailpointUsageError(f"{problem}, with another {option}=: pass the same, or undo it first")
