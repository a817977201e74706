"""Matchers, and the context that `failpoint_context` adds to a visit."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import anyio
import anyio.to_thread
import pytest

from failpoints import (
    Call,
    Continue,
    FailpointError,
    FailpointNameError,
    FailpointUsageError,
    Hit,
    Return,
    configure,
    configured,
    failpoint,
    failpoint_context,
    failpoint_scope,
    status,
    statuses,
)
from failpoints._core.context import Matchers, Mismatch

on_asyncio = pytest.mark.parametrize(
    "anyio_backend",
    [("asyncio", {"use_uvloop": False}), ("asyncio", {"use_uvloop": True})],
    ids=["asyncio", "uvloop"],
)


@pytest.fixture
def hits() -> Iterator[list[Hit]]:
    """Record the hits of the failpoint `site`, in order."""
    seen: list[Hit] = []
    with configured("site", Call(seen.append)):
        yield seen


class PrintsAsTest1:
    def __str__(self) -> str:
        return "test_1"


def is_large(n: int) -> bool:
    return n > 10


class AtLeast:
    def __call__(self, value: int) -> bool:
        return value >= 3

    def __repr__(self) -> str:
        return "AtLeast()"


# Matchers.


@pytest.mark.parametrize(
    ("matcher", "value", "holds"),
    [
        ("test_.*", "test_1", True),
        ("test_.*", "my test_1", False),
        ("test_", "test_1", False),
        ("a|ab", "ab", True),
        ("a|b", "ab", False),
        ("test_.*", "test_1\n", False),
        ("", "", True),
        ("", "x", False),
        ("3", 3, True),
        ("3", 33, False),
        ("None", None, True),
        ("True", True, True),
        ("test_1", PrintsAsTest1(), True),
        ("TEST", "test", False),
        (re.compile("TEST", re.IGNORECASE), "test", True),
        (re.compile("test"), "a test", False),
        (re.compile("test"), PrintsAsTest1(), False),
        (re.compile(".*", re.DOTALL), "a\nb", True),
        (3, 3, True),
        (3, 3.0, True),
        (3, "3", False),
        (None, None, True),
        (None, "None", False),
        ([1], [1], True),
        (b"x", b"x", True),
        (b"x", "x", False),
        (is_large, 11, True),
        (is_large, 10, False),
        (lambda value: value, "anything true", True),
        (lambda value: value, "", False),
        (AtLeast(), 3, True),
        (AtLeast(), 2, False),
    ],
)
def test_matcher(matcher: Any, value: Any, holds: bool) -> None:
    """A pattern matches the whole `str()` of a value, a callable returns true, and any other matcher is equal."""
    with configured("site", "return", context={"key": matcher}) as handle:
        outcome = failpoint("site", context={"key": value}).hit()
        assert (outcome == Return(), handle.hits, handle.misses) == (holds, int(holds), int(not holds))


def text(mismatch: Mismatch | None) -> str | None:
    return None if mismatch is None else str(mismatch)


@pytest.mark.parametrize(
    ("given", "context", "mismatch"),
    [
        ({}, {}, None),
        (None, {"tenant_id": "t1"}, None),
        ({"tenant_id": "t.", "shard": 3}, {"tenant_id": "t1", "shard": 3, "more": 1}, None),
        ({"tenant_id": "test_.*"}, {"tenant_id": "t2"}, "tenant_id='t2' does not match 'test_.*'"),
        ({"tenant_id": re.compile("test_.*")}, {"tenant_id": "t2"}, "tenant_id='t2' does not match 'test_.*'"),
        ({"shard": 3}, {"shard": "3"}, "shard='3' is not 3"),
        ({"size": is_large}, {"size": 1}, "size=1 does not satisfy is_large"),
        ({"size": AtLeast()}, {"size": 1}, "size=1 does not satisfy AtLeast()"),
        ({"tenant_id": ".*"}, {}, "'tenant_id' is missing: the site gives no context at all"),
        ({"tenant_id": ".*"}, {"shard": 3, "size": 1}, "'tenant_id' is missing: the site gives only 'shard', 'size'"),
        ({"tenant_id": None}, {"shard": 3}, "'tenant_id' is missing: the site gives only 'shard'"),
        ({"a": "1", "b": "2"}, {"a": "x", "b": "y"}, "a='x' does not match '1'"),
        ({"a": "1", "b": "2"}, {"a": "1", "b": "y"}, "b='y' does not match '2'"),
    ],
)
def test_mismatch(given: Any, context: Mapping[str, Any], mismatch: str | None) -> None:
    """All matchers must match. `mismatch` describes the first that does not."""
    assert text(Matchers(given).mismatch(context)) == mismatch


class Incomparable:
    """A value whose comparison raises."""

    def __eq__(self, other: object) -> bool:
        raise ZeroDivisionError

    def __repr__(self) -> str:
        return "Incomparable()"


@pytest.mark.parametrize(
    ("given", "context", "compared"),
    [
        ({}, {"a": 1}, []),
        ({"a": "1", "b": 2}, {"a": "x", "b": 2}, ["a='x' does not match '1'", "b=2 matches"]),
        (
            {"tenant_id": ".*", "a": 1},
            {"tenantid": "t1", 3: 4},
            [
                "'tenant_id' is missing: the site gives only 'tenantid', 3; did you mean 'tenantid'?",
                "'a' is missing: the site gives only 'tenantid', 3",
            ],
        ),
        (
            {"few": is_large, "a": 1, "many": is_large, "more": is_large},
            {"few": 100, "a": 1, "many": 1, "more": 100},
            ["few=100 matches", "a=1 matches", "many=1 does not satisfy is_large", "more=100 was not checked"],
        ),
        (
            {"a": 1, "b": Incomparable()},
            {"a": 2, "b": 3},
            ["a=2 is not 1", "b=3 cannot be compared: ZeroDivisionError()"],
        ),
    ],
)
def test_comparison_key_by_key(given: Any, context: Mapping[Any, Any], compared: list[str]) -> None:
    """`compared` describes the result for each key, with suggestions for misspelt keys."""
    matchers = Matchers(given)
    assert matchers.compared(context, text(matchers.mismatch(context))) == compared


def test_comparison_does_not_call_a_predicate_again() -> None:
    """`compared` does not call a predicate again after the visit did."""
    asked: list[int] = []
    matchers = Matchers({"size": asked.append})
    assert matchers.compared({"size": 1}, text(matchers.mismatch({"size": 1}))) == [
        "size=1 does not satisfy list.append"
    ]
    assert asked == [1]


def test_status_has_the_last_miss() -> None:
    """A miss uses up no action, and the status has its context and reason."""
    configure("site", "1*return", context={"tenant_id": "t1"})
    site = failpoint("site")
    for tenant_id in ["t2", "t3"]:
        with failpoint_context(tenant_id=tenant_id):
            assert site.hit() == Continue()
    now = status("site")
    assert (now.hits, now.misses, now.triggers, now.last_miss) == (0, 2, 0, {"tenant_id": "t3"})
    assert now.last_mismatch == "tenant_id='t3' does not match 't1'"
    with failpoint_context(tenant_id="t1"):
        assert site.hit() == Return()


def test_no_context_does_not_match() -> None:
    """A visit without a context does not match any matcher."""
    with configured("site", "return", context={"key": lambda _: True}) as handle:
        assert failpoint("site").hit() == Continue()
        assert (handle.misses, handle.status.last_miss) == (1, {})


def test_matchers_are_copied() -> None:
    """Changing the mapping after `configure` does not change the matchers."""
    given = {"key": "a"}
    with configured("site", "return", context=given) as handle:
        given["key"] = "b"
        assert failpoint("site", context={"key": "a"}).hit() == Return()
        assert handle.status.matchers == {"key": "a"}


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (
            "test_(",
            (
                "the pattern for 'tenant_id' is not a valid regular expression: 'test_(': missing ), unterminated"
                " subpattern at position 5"
            ),
        ),
        ("*", "the pattern for 'tenant_id' is not a valid regular expression: '*': nothing to repeat at position 0"),
        (re.compile(b"t1"), "the pattern for 'tenant_id' must be text, not bytes; got b't1'"),
    ],
)
def test_bad_pattern(pattern: Any, message: str) -> None:
    """An invalid pattern raises a `FailpointNameError`, and nothing is configured."""
    with pytest.raises(FailpointNameError) as caught:
        configure("site", "off", context={"tenant_id": pattern})
    assert isinstance(caught.value, ValueError)
    assert str(caught.value) == message
    assert statuses() == []


@pytest.mark.parametrize(
    "pattern",
    ["a{2,1}", "(?P<1>a)", "\\", "[", "(?z)", "(?L)a", "(?<=a+)b", "a{" + "9" * 30 + "}", "a{" + "9" * 5000 + "}"],
)
def test_every_bad_pattern(pattern: str) -> None:
    """Every kind of invalid pattern raises a `FailpointNameError`, which is also a `ValueError`."""
    with pytest.raises(FailpointNameError, match="the pattern for 'key' is not a valid regular expression") as caught:
        configure("site", "off", context={"key": pattern})
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, FailpointError)


NO_MATCHERS = (
    "matchers must be a mapping of context keys to patterns, values or predicates,"
    ' such as {"tenant_id": "test_.*"}; got '
)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("tenant_id", f"{NO_MATCHERS}'tenant_id'"),
        ([("a", 1)], f"{NO_MATCHERS}[('a', 1)]"),
        ({3: "x"}, "a matcher's key must be a str, like the keys of a context; got 3"),
    ],
)
def test_bad_matchers(given: Any, message: str) -> None:
    """Matchers that are not a mapping with text keys raise a usage error."""
    with pytest.raises(FailpointUsageError) as caught:
        configure("site", "off", context=given)
    assert str(caught.value) == message
    assert statuses() == []


def test_predicate_raises() -> None:
    """An exception raised by a predicate propagates to the caller of the site."""
    with configured("site", "return", context={"key": lambda value: value / 0}), pytest.raises(ZeroDivisionError):
        failpoint("site", context={"key": 1}).hit()


# failpoint_context.


def test_context_of_every_kind_of_site(hits: list[Hit]) -> None:
    """Decorated functions, scopes and inline calls inside the block have the bound values in their context."""

    @failpoint("site", context=["n"])
    def function(n: int) -> int:
        return n

    @failpoint("site")
    def generator() -> Iterator[int]:
        yield 1

    with failpoint_context(tenant_id="t1"):
        assert function(1) == 1
        assert list(generator()) == [1]
        failpoint("site").hit()
        with failpoint_scope("site", context={"n": 2}):
            pass
    failpoint("site").hit()
    assert hits == [
        Hit("site", {"tenant_id": "t1", "n": 1}),
        Hit("site", {"tenant_id": "t1"}),
        Hit("site", {"tenant_id": "t1"}),
        Hit("site", {"tenant_id": "t1", "n": 2}),
        Hit("site", {}),
    ]


def test_nested(hits: list[Hit]) -> None:
    """An inner block adds to the outer one and overrides it until the inner block ends."""
    site = failpoint("site")
    with failpoint_context(a=1, b=1) as bound:
        with failpoint_context(b=2, c=2):
            site.hit()
        site.hit()
    assert bound is None
    assert [hit.context for hit in hits] == [{"a": 1, "b": 2, "c": 2}, {"a": 1, "b": 1}]


def test_own_context_wins(hits: list[Hit]) -> None:
    """A site's own context overrides the bound values."""
    with failpoint_context(a="bound", b="bound"):
        failpoint("site", context={"a": "own"}).hit()
        failpoint("site", context=lambda: {"b": "own"}).hit()
    assert [hit.context for hit in hits] == [{"a": "own", "b": "bound"}, {"a": "bound", "b": "own"}]


def test_left_by_an_exception(hits: list[Hit]) -> None:
    """An exception ends the block and propagates unchanged."""
    error = ValueError("x")
    with pytest.raises(ValueError, match="x") as caught, failpoint_context(a=1):
        raise error
    failpoint("site").hit()
    assert caught.value is error
    assert hits[0].context == {}


def test_reused(hits: list[Hit]) -> None:
    """A `failpoint_context` object can be entered again, even inside itself."""
    bound = failpoint_context(a=1)
    site = failpoint("site")
    for _ in range(2):
        with bound, failpoint_context(a=2), bound:
            site.hit()
        site.hit()
    assert [hit.context for hit in hits] == [{"a": 1}, {}] * 2


@pytest.mark.parametrize("key", ["self", "name", "pairs", "context", "actions"])
def test_any_key(hits: list[Hit], key: str) -> None:
    """Any keyword is accepted as a key, including `self`."""
    with failpoint_context(**{key: 1}):
        failpoint("site").hit()
    assert hits[0].context == {key: 1}


def test_bound_values_match() -> None:
    """Matchers see the bound values as well as the site's own context."""
    with configured("site", "return", context={"tenant_id": "t1", "shard": 3}):
        site = failpoint("site", context={"shard": 3})
        assert site.hit() == Continue()
        with failpoint_context(tenant_id="t1", shard=4):
            assert site.hit() == Return()


def test_plain_thread_does_not_inherit(hits: list[Hit]) -> None:
    """A plain thread does not inherit the bound values."""
    thread = threading.Thread(target=failpoint("site").hit)
    with failpoint_context(tenant_id="t1"):
        thread.start()
        thread.join()
    assert [hit.context for hit in hits] == [{}]


@pytest.mark.anyio
async def test_child_tasks(hits: list[Hit]) -> None:
    """A task inherits the values bound where it was started, even after that block ends."""
    left = anyio.Event()

    async def visit(own: str) -> None:
        await left.wait()
        await failpoint("site", context={"task": own})

    async with anyio.create_task_group() as tasks:
        with failpoint_context(tenant_id="t1"):
            tasks.start_soon(visit, "inside")
        tasks.start_soon(visit, "outside")
        left.set()
    assert sorted(hits, key=lambda hit: hit.context["task"]) == [
        Hit("site", {"tenant_id": "t1", "task": "inside"}),
        Hit("site", {"task": "outside"}),
    ]


@pytest.mark.anyio
async def test_siblings_do_not_see_each_other(hits: list[Hit]) -> None:
    """Values bound in one task are not visible in a concurrent task."""
    bound = {name: anyio.Event() for name in "ab"}

    async def visit(name: str, other: str) -> None:
        with failpoint_context(**{name: 1}):
            bound[name].set()
            await bound[other].wait()
            await failpoint("site")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(visit, "a", "b")
        tasks.start_soon(visit, "b", "a")
    await failpoint("site")
    assert sorted(map(str, (hit.context for hit in hits))) == ["{'a': 1}", "{'b': 1}", "{}"]


@pytest.mark.anyio
async def test_one_object_in_two_tasks(hits: list[Hit]) -> None:
    """If two tasks enter the same object, leaving it in one task does not affect the other."""
    shared = failpoint_context(tenant_id="t1")
    begun, entered, left = anyio.Event(), anyio.Event(), anyio.Event()

    async def first() -> None:
        with shared:
            begun.set()
            await entered.wait()
        await failpoint("site", context={"task": "first"})
        left.set()

    async def second() -> None:
        await begun.wait()
        with shared:
            entered.set()
            await left.wait()
        await failpoint("site", context={"task": "second"})

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first)
        tasks.start_soon(second)
    assert [hit.context for hit in hits] == [{"task": "first"}, {"task": "second"}]


@pytest.mark.anyio
async def test_anyio_worker_threads(hits: list[Hit]) -> None:
    """A worker thread inherits the bound values, and values that it binds do not leak out."""

    def work() -> None:
        failpoint("site").hit()
        with failpoint_context(worker=1):
            failpoint("site").hit()

    with failpoint_context(tenant_id="t1"):
        await anyio.to_thread.run_sync(work)
        await failpoint("site")
    await anyio.to_thread.run_sync(failpoint("site").hit)
    assert [hit.context for hit in hits] == [
        {"tenant_id": "t1"},
        {"tenant_id": "t1", "worker": 1},
        {"tenant_id": "t1"},
        {},
    ]


@pytest.mark.anyio
@on_asyncio
async def test_asyncio_worker_threads_and_tasks(hits: list[Hit]) -> None:
    """`asyncio.to_thread` and asyncio tasks inherit the values bound where they were started."""

    async def visit() -> None:
        await failpoint("site")

    with failpoint_context(tenant_id="t1"):
        await asyncio.to_thread(failpoint("site").hit)
        task = asyncio.create_task(visit())
    await task
    assert [hit.context for hit in hits] == [{"tenant_id": "t1"}] * 2


@pytest.mark.anyio
async def test_async_sites(hits: list[Hit]) -> None:
    """Both visits of async functions and scopes have the bound values."""

    @failpoint("site", context=["n"])
    async def function(n: int) -> None:
        with failpoint_context(inner=n):
            async with failpoint_scope("site"):
                pass

    with failpoint_context(outer=1), configured("site:after", Call(hits.append)):
        await function(2)
    assert hits == [
        Hit("site", {"outer": 1, "n": 2}),
        Hit("site", {"outer": 1, "inner": 2}),
        Hit("site:after", {"outer": 1, "inner": 2}),
        Hit("site:after", {"outer": 1, "n": 2}),
    ]


class Unshowable:
    """A value whose `repr` raises."""

    def __repr__(self) -> str:
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("value", "shown"),
    [(Unshowable(), "<tests.core.test_context.Unshowable object at"), ("x" * 10_000, f"'{'x' * 199}…")],
)
def test_a_miss_survives_every_value(value: Any, shown: str) -> None:
    """The reason of a miss is short, and a failing `repr` does not affect the program."""
    with configured("shown", "off", context={"value": 1}) as handle:
        assert not failpoint("shown", context={"value": value}).hit()
        assert str(handle.status.last_mismatch).startswith(f"value={shown}")


def test_an_async_predicate_is_refused() -> None:
    """An async predicate is refused at once, as its coroutine would always count as true."""

    async def predicate(value: object) -> bool:
        return False

    with pytest.raises(FailpointUsageError, match="the predicate for 'value' must be a sync function"):
        configure("shown", "off", context={"value": predicate})
