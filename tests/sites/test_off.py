"""While its own name is not configured, a site makes one check and continues."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from failpoints import (
    Continue,
    Registry,
    configure,
    failpoint,
    failpoint_context,
    failpoint_scope,
    remove,
    reset,
)
from failpoints._core import entered as entered_module
from failpoints._core import store as store_module


def forbidden(*arguments: object, **named: object) -> Any:
    """Fail because the site called something while it was off."""
    raise AssertionError("something was done at a site that is off")


class Forbidden:
    """An object that fails when it is called, entered, converted to a string, or accessed in any way."""

    __call__ = __enter__ = __exit__ = __getattr__ = __getitem__ = __contains__ = __iter__ = __str__ = forbidden
    __len__ = __bool__ = forbidden


class Sites:
    """Sites of every kind whose context, cancel event and conversion must not be used."""

    declared: dict[str, Any] = {"context": forbidden, "cancel": forbidden}

    @failpoint("off.async", convert=forbidden, **declared)
    async def decorated(self) -> str:
        """Visit the failpoint of a decorated async method."""
        return "body"

    @failpoint("off.sync", convert=forbidden, **declared)
    def decorated_sync(self) -> str:
        """Visit the failpoint of a decorated sync method."""
        return "body"

    @failpoint("off.plain", cancel=forbidden)
    def plain(self) -> str:
        """Visit the failpoint of a decorated method without context or convert."""
        return "body"

    @failpoint("off.plain.async", context=lambda self: forbidden(), cancel=forbidden)
    async def plain_async(self) -> str:
        """Visit the failpoint of a decorated async method whose context has the method's parameters."""
        return "body"

    @failpoint("off.generator", **declared)
    def generator(self) -> Iterator[str]:
        """Visit the failpoint of a decorated generator."""
        yield "body"

    @failpoint("off.async.generator", **declared)
    async def async_generator(self) -> Any:
        """Visit the failpoint of a decorated async generator."""
        yield "body"

    async def generated(self) -> Any:
        """Consume the async generator."""
        return [item async for item in self.async_generator()][0]

    async def inline(self) -> object:
        """Await an inline call."""
        return await failpoint("off.inline", **self.declared)

    async def inline_many(self) -> object:
        """Await one object repeatedly."""
        site = failpoint("off.inline", **self.declared)
        return [await site for _ in range(100)][0]

    async def scope(self) -> str:
        """Enter an async scope."""
        async with failpoint_scope("off.scope", **self.declared):
            return "body"

    def scope_sync(self) -> str:
        """Enter a sync scope."""
        with failpoint_scope("off.scope", **self.declared):
            return "body"

    async def ambient(self) -> object:
        """Await an inline call inside a context."""
        with failpoint_context(tenant_id=Forbidden()):
            return await failpoint("off.ambient", **self.declared)


ASYNC = ["decorated", "plain_async", "inline", "inline_many", "scope", "generated", "ambient"]


def visit(kind: str) -> object:
    """Return the result of the site. An async site is driven by hand and must not await anything."""
    sites = Sites()
    if kind == "inline sync":
        return failpoint("off.inline.sync", **sites.declared).hit()
    if kind == "generator":
        return next(sites.generator())
    result: Any = getattr(sites, kind)()
    if kind not in ASYNC:
        return result
    with pytest.raises(StopIteration) as stopped:
        result.send(None)
    return stopped.value.value


SYNC = ["decorated_sync", "plain", "generator", "inline sync", "scope_sync"]

NAMES = [
    *("off.async", "off.sync", "off.plain", "off.plain.async", "off.generator", "off.async.generator"),
    *("off.inline", "off.inline.sync", "off.scope", "off.ambient"),
]


def never_configured() -> None:
    """Do nothing, as at the start of the process."""


def configured_and_removed() -> None:
    """Configure, hit and remove a failpoint."""
    for name in ("off.async", "off.inline", "other"):
        configure(name, "off")
        failpoint("other").hit()
        remove(name)


def reconfigured_and_reset() -> None:
    """Configure a failpoint twice and reset everything."""
    for _ in range(2):
        configure("off.async", "pause")
        configure("other", "off")
    reset()


def left_a_registry() -> None:
    """Enter and leave a registry that has something configured."""
    with Registry() as outer, Registry() as inner:
        for registry in (outer, inner, outer):
            registry.configure("off.async", "off")


def configured_a_registry_that_is_not_entered() -> None:
    """Configure something in a registry that is never entered."""
    Registry().configure("off.async", "return")


IN_FORCE = ExitStack()


def something_else_configured() -> None:
    """Configure other failpoints, with every kind of action, in this registry and in a `Registry`."""
    for number, actions in enumerate(("off", "pause", "return(1)", "raise", "sleep(1)->off")):
        configure(f"off.something.else.{number}", actions)
    IN_FORCE.enter_context(Registry()).configure("off.something.else.6", "return(1)")


BEFORE: list[Callable[[], None]] = [
    never_configured,
    configured_and_removed,
    reconfigured_and_reset,
    left_a_registry,
    configured_a_registry_that_is_not_entered,
    something_else_configured,
]


@pytest.fixture(params=BEFORE, ids=lambda function: function.__name__)
def off(request: pytest.FixtureRequest) -> Iterator[None]:
    """Replace everything that a visit looks up, locks or calls, while the site is not configured."""
    request.param()
    with IN_FORCE, pytest.MonkeyPatch.context() as monkeypatch:
        replace_what_a_visit_uses(monkeypatch)
        yield


def replace_what_a_visit_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let everything that a visit looks up, locks or calls fail."""
    monkeypatch.setattr(store_module, "_guard", Forbidden())
    monkeypatch.setattr(entered_module, "entered", Forbidden())
    for path, module in list(sys.modules.items()):
        if path.startswith("failpoints."):
            for name in ("visit", "visit_sync", "find", "check_new_place", "caller_frame", "context_of_visit"):
                if hasattr(module, name):
                    monkeypatch.setattr(module, name, forbidden)


@pytest.mark.usefixtures("off")
@pytest.mark.parametrize("kind", [*ASYNC, *SYNC])
def test_off(kind: str) -> None:
    """A site that is off does not await, lock, look anything up, or evaluate its context or cancel event."""
    assert visit(kind) in ("body", Continue())


@pytest.mark.parametrize("kind", [*ASYNC, *SYNC])
def test_the_traps_are_on_the_way(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same sites do use the replaced objects while they are configured."""
    for name in NAMES:
        configure(name, "off")
    monkeypatch.setattr(entered_module, "entered", Forbidden())
    with pytest.raises(AssertionError, match="something was done at a site that is off"):
        visit(kind)
    monkeypatch.undo()


def test_generators_are_the_functions_own_while_off() -> None:
    """While it is not configured, a decorated generator function returns its own generator."""
    sites = Sites()
    plain = Sites.generator.__wrapped__(sites)  # type: ignore[attr-defined]
    assert sites.generator().gi_code is plain.gi_code  # type: ignore[attr-defined]
    agen = sites.async_generator()
    assert agen.ag_code is Sites.async_generator.__wrapped__.__code__  # type: ignore[attr-defined]


def test_one_name_configured_leaves_the_others_unevaluated() -> None:
    """A site evaluates no context and no cancel event while only another name is configured."""
    configure("something.else", "return")
    for kind in (*ASYNC, *SYNC):
        assert visit(kind) in ("body", Continue())
