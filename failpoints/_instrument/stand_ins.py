"""Functions of others that are failpoints for now: what stands in their place, and the way back."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import MethodType
from typing import Any, Protocol, Self, cast

import wrapt

from .._core import known_sites
from .._core.arming import ARMED
from .._core.functions import annotated_as_wrapped, callable_name
from .._core.locks import ForkSafeLock
from .._core.log import logger
from .._core.own_calls import is_own_call, passes_on
from .._core.site import Site
from .._sites.decorated import Decorated
from ..errors import FailpointUsageError
from .targets import Path, Target, called, find_target

_armed = cast(Callable[[], bool], ARMED.__len__)

_OPTIONS = ("context", "raises", "convert", "cancel")


@annotated_as_wrapped
class _StandIn(wrapt.FunctionWrapper[..., Any]):
    """What stands in the function's place: the function itself to whoever looks, or calls while nothing is armed."""

    def __init__(self, function: Any, place: Place) -> None:
        super().__init__(function, place.called, enabled=_armed)
        self._self_place = place
        self._self_binds: bool = hasattr(function, "__get__") and not isinstance(function, MethodType)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None or not self._self_binds else MethodType(self, instance)

    def __repr__(self) -> str:
        return repr(self.__wrapped__)

    # Pickled and copied as functions are: by name, and as the very same.

    def __reduce_ex__(self, protocol: Any) -> Any:
        name: str = getattr(self.__wrapped__, "__qualname__", "")
        return name if _stands_at(name, self) else (_itself, (self.__wrapped__,))

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: Any) -> Self:
        return self


def _stands_at(name: str, stand_in: _StandIn) -> bool:
    thing: Any = sys.modules.get(getattr(stand_in.__wrapped__, "__module__", None) or "")
    for part in name.split("."):
        thing = getattr(thing, part, None)
    return thing is stand_in


def _itself(function: Any) -> Any:
    return function


class Place:
    """A function that is a failpoint for as long as anybody holds it so."""

    def __init__(self, path: Path, target: Target, site: Site) -> None:
        self.path = path
        self.target = target
        self.site = site
        self.holders: dict[Holder, None] = {}
        self.is_active = False
        function = _without_stand_in(target.function)
        self._decorated = Decorated(function, site)
        self._stand_in = _StandIn(function, self)
        self._put = _like(target.found, self._stand_in)
        self._names = site.name, f"{site.name}:after"

    def begin(self) -> None:
        """Have it stand there; raises `FailpointUsageError` where nothing else can."""
        try:
            self.target.put(self._put)
        except (TypeError, AttributeError) as error:
            self._withdraw()
            raise FailpointUsageError(f"{str(self.path)!r} cannot be replaced: {error}") from error
        self.is_active = True

    def end(self) -> None:
        """Have it pass all calls on from now on."""
        self.is_active = False
        self._withdraw()

    @passes_on
    def called(self, wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A call while anything is configured."""
        # Until it is known who calls, nothing may be called here but what nobody can have instrumented.
        if self.is_active and not is_own_call():
            return self._decorated.called_as_written(wrapped, instance, args, kwargs)
        return wrapped(*args, **kwargs)

    def declare(self) -> None:
        """Have its sites known."""
        function, code = callable_name(self._stand_in), self._decorated.written
        for name in self._names:
            if code is None:
                known_sites.declare_path(name, str(self.path), function, self)
            else:
                known_sites.declare(name, function, code)

    def _withdraw(self) -> None:
        for name in self._names:
            known_sites.withdraw(name, self._decorated.written or self)

    def is_under(self, thing: Any) -> bool:
        """Whether this thing is what it has put there, or somebody's wrapper around it."""
        seen: set[int] = set()
        while thing is not None and id(thing) not in seen:
            if thing is self._stand_in:
                return True
            seen.add(id(thing))
            thing = getattr(thing, "__func__", None) or getattr(thing, "__wrapped__", None)
        return False


class Holder(Protocol):
    """Who holds a function as a failpoint: as text, whoever that is."""

    def __str__(self) -> str: ...


_places: dict[tuple[int, str], Place] = {}  # by owner and attribute
_guard = ForkSafeLock()


def hold(path: Path, module: Any, site: Site, holder: Holder) -> Target:
    """Have what the path leads to be a failpoint, for this holder; raises `FailpointUsageError`."""
    found = find_target(path, module)  # not under the lock: it may import what a module loads when it is asked for
    with _guard.lock:
        _put_back_what_has_ended(found)
        target = find_target(path, module)
        key = _key(target)
        place = before = _places.get(key)
        if before is not None:
            _check_same(path, before, site)
        if before is None or not before.is_under(target.found):  # a module that is reloaded has new functions
            place = Place(path, target, site)
            place.begin()
            if before is not None:
                before.end()
                place.holders.update(before.holders)
            _places[key] = place
        assert place is not None
        place.holders[holder] = None
        place.declare()
    logger.info("instrumented %s, as %s", path, site.name)
    return target


def let_go(target: Target, holder: Holder) -> None:
    """End it for this holder, and with the last one put back what stood there; no error if it has ended.

    What somebody else has put over it meanwhile stays, and so does what is beneath: it only passes calls on.
    """
    with _guard.lock:
        place = _places.get(_key(target))
        if place is None or place.holders.pop(holder, place) is place or place.holders:
            return
        del _places[_key(target)]
        place.end()
        _put_back_what_has_ended(target)
        for other in _places.values():
            if other.site.name == place.site.name:
                other.declare()  # the same function may stand elsewhere, too
    logger.info("instrumented no longer: %s, as %s", place.path, place.site.name)


def _put_back_what_has_ended(target: Target) -> None:
    standing = before = target.look()
    while (place := _place_of(standing)) is not None and not place.is_active:
        standing = place.target.standing
    if standing is not before:
        target.put(standing)


def _place_of(thing: Any) -> Place | None:
    function = called(thing)
    return getattr(function, "_self_place") if type(function) is _StandIn else None  # noqa: B009 - not for others to see


def _key(target: Target) -> tuple[int, str]:
    return id(target.owner), target.attribute


def _like(found: Any, stand_in: _StandIn) -> Any:
    """The stand-in as what was found is: a class or static method, or a function."""
    kind = found.__class__
    return kind(stand_in) if isinstance(found, (classmethod, staticmethod)) else stand_in


def _without_stand_in(function: Any) -> Any:
    """The function of a base class, also where that one is instrumented: its failpoint is another."""
    while type(function) is _StandIn:
        function = function.__wrapped__
    return function


def _check_same(path: Path, place: Place, site: Site) -> None:
    first = place.site
    said = f"{str(path)!r} is the failpoint {first.name!r} already, by {next(iter(place.holders))}"
    if site.name != first.name:
        raise FailpointUsageError(f"{said}, and cannot be {site.name!r} too: use that name, or undo it first")
    for option in _OPTIONS:
        if getattr(site, option) != getattr(first, option):
            raise FailpointUsageError(f"{said}, with another {option}=: give the same, or undo it first")
