"""The cost of sites that are off: nothing is configured, or something else is."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from functools import partial

import foreign
from measure import Row, Side, Sides, ratio, repeated

import failpoints
from failpoints import failpoint, failpoint_scope
from failpoints.instrument import instrument


async def plain() -> int:
    return 1


async def other() -> int:
    return 1


@failpoint("decorated")
async def decorated() -> int:
    return 1


class Plain:
    async def call(self) -> int:
        return 1


class Decorated:
    @failpoint("decorated.method")
    async def call(self) -> int:
        return 1


async def inline() -> int:
    await failpoint("inline")
    return 1


POINT = failpoint("kept")


async def kept() -> int:
    await POINT
    return 1


def sync_plain() -> int:
    return 1


def sync_inline() -> int:
    failpoint("inline").hit()
    return 1


class EmptyManager:
    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *exception: object) -> None:
        pass


async def in_empty_manager() -> int:
    async with EmptyManager():
        return 1


async def in_scope() -> int:
    async with failpoint_scope("scope"):
        return 1


@contextmanager
def instrumented_function() -> Generator[tuple[Side, Side]]:
    with instrument("foreign:function", "instrumented"):
        yield repeated("await it()", foreign.function), repeated("await it()", foreign.copied)


@contextmanager
def instrumented_method() -> Generator[tuple[Side, Side]]:
    with instrument("foreign:Thing.call", "instrumented.method"):
        yield repeated("await it.call()", foreign.Thing()), repeated("await it.call()", foreign.Copied())


@contextmanager
def instrumented_sync_function() -> Generator[tuple[Side, Side]]:
    with instrument("foreign:sync_function", "instrumented.sync"):
        yield repeated("it()", foreign.sync_function), repeated("it()", foreign.sync_copied)


def called(statement: str, ours: object, theirs: object) -> Sides:
    """Prepare sides that carry out the same statement about two objects."""
    return lambda: nullcontext((repeated(statement, ours), repeated(statement, theirs)))


@contextmanager
def beside(sides: Sides) -> Generator[tuple[Side, Side]]:
    """Prepare sides that are measured while something else is configured."""
    with sides() as both, failpoints.configured("something.else", "return(1)"):
        yield both


@contextmanager
def off_again(sides: Sides, name: str) -> Generator[tuple[Side, Side]]:
    """Prepare sides that are measured after a failpoint was configured, called, and removed."""
    with sides() as both:
        with failpoints.configured(name, "return(1)"):
            both[0]()
        yield both


FUNCTION = called("await it()", decorated, plain)
METHOD = called("await it.call()", Decorated(), Plain())

SITES = [
    ("a decorated async function", "the same undecorated", FUNCTION, 1.05, 1.05),
    ("a decorated async method", "the same undecorated", METHOD, 1.05, 1.05),
    ('`await failpoint("x")`', "the coroutine without it", called("await it()", inline, plain), 3.0, 3.6),
    ("`await point`, kept", "the coroutine without it", called("await it()", kept, plain), 2.2, 2.8),
    ('`failpoint("x").hit()`', "the sync function without it", called("it()", sync_inline, sync_plain), 4.0, 4.5),
    ("`async with failpoint_scope`", "an empty class", called("await it()", in_scope, in_empty_manager), 1.3, 1.6),
    ("an instrumented async function", "a copy of it", instrumented_function, 1.05, 1.05),
    ("an instrumented async method", "a copy of it", instrumented_method, 1.05, 1.05),
    ("an instrumented sync function", "a copy of it", instrumented_sync_function, 1.05, 1.05),
]


ROWS: list[Row] = [
    ratio(
        "an undecorated function: the error of these figures", "another one", None, called("await it()", other, plain)
    ),
    *(ratio(what, against, limit, sides) for what, against, sides, limit, _ in SITES),
    *(
        ratio(f"{what}, something else configured", against, limit, partial(beside, sides))
        for what, against, sides, _, limit in SITES
    ),
    *(
        ratio(f"{what}, configured and removed", against, limit, partial(off_again, sides, name))
        for (what, against, sides, limit, _), name in zip(SITES, ("decorated", "decorated.method"), strict=False)
    ),
]
