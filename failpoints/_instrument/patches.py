"""Replacing functions that belong to other packages by ones with a failpoint, and putting the originals back."""

from __future__ import annotations

from typing import Any, Protocol

from .._core import known_sites
from .._core.functions import callable_name
from .._core.locks import ForkSafeLock
from .._core.log import logger
from .._core.messages import safe_repr
from .._core.site import Site
from ..errors import FailpointUsageError
from .replacements import Instrumented, instrumented_by, replaced_by, replacement_of, without_patches, wrapped_by
from .targets import ABSENT, Path, Target, find_target

_OPTIONS = ("context", "raises", "convert", "cancel", "reads", "writes")


class Requester(Protocol):
    """A call of `instrument`, or the environment variable. Its text names it in messages."""

    def __str__(self) -> str: ...


class Patch:
    """One function that is replaced, for as long as at least one requester wants it."""

    def __init__(self, path: Path, target: Target, site: Site) -> None:
        self.path = path
        self.target = target
        self.site = site
        self.requesters: dict[Requester, None] = {}
        function = without_patches(target.function)
        self._instrumented = Instrumented(function, site)
        self._code = self._instrumented.visits.source_code
        self._qualname = callable_name(function)
        self._names = site.name, f"{site.name}:after"

    def apply(self) -> None:
        """Replace the function; raise `FailpointUsageError` if it cannot be."""
        try:
            self.target.set(replacement_of(self.target, self._instrumented))
        except (TypeError, AttributeError) as error:
            self._withdraw()
            raise FailpointUsageError(f"{str(self.path)!r} cannot be replaced: {error}", code="FP021") from error

    def deactivate(self) -> None:
        """Pass every call on to the function from now on."""
        self._instrumented.is_active = False
        self._withdraw()

    def register(self) -> None:
        """Register the sites of both failpoints."""
        for name in self._names:
            if self._code is None:
                known_sites.register_path(name, str(self.path), self._qualname, self, self.site.raises)
            else:
                known_sites.register_function(name, self._qualname, self._code, self.site.raises)
            known_sites.register_remark(name, self, self._displaced)

    def _withdraw(self) -> None:
        for name in self._names:
            known_sites.unregister(name, self._code or self)
            known_sites.unregister_remark(name, self)

    def _displaced(self) -> str | None:
        current = self.target.current()
        if self.is_under(current):
            return None
        what = "nothing" if current is ABSENT else safe_repr(current)
        return f"another tool has replaced the instrumented function: {self.path} is {what} now"

    def is_under(self, thing: Any) -> bool:
        """Return whether an object is the replacement of this patch, or wraps it."""
        seen: set[int] = set()
        while thing is not None and id(thing) not in seen:
            if instrumented_by(thing) is self._instrumented:
                return True
            seen.add(id(thing))
            thing = wrapped_by(thing)
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

    If something else was put over the replacement in the meantime (a `mock.patch`, for example), both stay. The
    replacement then only passes calls on.
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
    """Put back what inactive patches replaced, if their replacements are on top."""
    original = current = target.current()
    while (applied := instrumented_by(original)) is not None and not applied.is_active:
        original = replaced_by(original)
    if original is not current:
        target.set(original)


def _key(target: Target) -> tuple[int, str]:
    return id(target.owner), target.attribute


def _check_same(path: Path, applied: Patch, site: Site) -> None:
    first = applied.site
    problem = f"{str(path)!r} already has the failpoint {first.name!r}, from {next(iter(applied.requesters))}"
    if site.name != first.name:
        raise FailpointUsageError(f"{problem}, and cannot have {site.name!r} as well: use that name, or undo it first")
    for option in _OPTIONS:
        if getattr(site, option) != getattr(first, option):
            raise FailpointUsageError(f"{problem}, with another {option}=: pass the same, or undo it first")
