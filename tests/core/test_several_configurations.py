"""Several configurations of one failpoint, told apart by their matchers: which decides, and what blocks restore."""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from failpoints import (
    Continue,
    FailpointError,
    FailpointTimeout,
    FailpointUsageError,
    Handle,
    Outcome,
    Registry,
    Return,
    configure,
    configure_all,
    configured,
    failpoint,
    remove,
    reset,
    resume,
    status,
    statuses,
    wait_until_hit,
    wait_until_paused,
    wait_until_paused_sync,
)

pytestmark = pytest.mark.anyio


async def visit(**context: Any) -> Outcome:
    """Visit the failpoint `x` once."""
    return await failpoint("x", context=context)


def hit(**context: Any) -> Outcome:
    """Visit the failpoint `x` once, in sync code."""
    return failpoint("x", context=context).hit()


def actions() -> list[Any]:
    """Return the value that each configuration of `x` returns, the newest first."""
    return [each.actions[0].action.value for each in status("x").configurations]  # type: ignore[union-attr]


def counts() -> list[tuple[int, int, int]]:
    """Return hits, misses and triggers of each configuration of `x`, the newest first."""
    return [(each.hits, each.misses, each.triggers) for each in status("x").configurations]


# which one decides


def test_each_visitor_meets_its_own_configuration() -> None:
    """Configurations with different matchers are in force at the same time."""
    configure("x", "return(kept)", context={"customer": "Ada"})
    configure("x", "return(refused)", context={"customer": "Grace"})
    assert [hit(customer=who) for who in ("Ada", "Grace", "Kay")] == [Return("kept"), Return("refused"), Continue()]
    assert [each.name for each in statuses()] == ["x"]


def test_the_newest_that_matches_decides_alone() -> None:
    """The newest configuration that matches decides a visit, which is a miss for newer ones, and nothing for others."""
    for number in range(4):
        configure("x", f"return({number})", context={"least": lambda value, number=number: value >= number})
    assert [hit(least=least) for least in (1, 3, 0)] == [Return("1"), Return("3"), Return("0")]
    assert counts() == [(1, 2, 1), (0, 2, 0), (1, 1, 1), (1, 0, 1)]


@pytest.mark.parametrize("spent", ["1*return(new)", "0%return(new)", "off"])
def test_a_spent_configuration_still_decides(spent: str) -> None:
    """A configuration whose terms are used up, or not drawn, does not pass the visit on to an older one."""
    configure("x", "return(old)")
    configure("x", spent, context={"k": 1})
    hit(k=1)
    assert hit(k=1) == Continue()
    assert (hit(k=2), status("x").configurations[1].hits) == (Return("old"), 1)


def test_a_visit_asks_no_further_than_the_one_that_matches() -> None:
    """A predicate of an older configuration is not called if a newer one matches."""
    asked: list[str] = []

    def asks(name: str, answer: bool) -> Callable[[object], bool]:
        def predicate(value: object) -> bool:
            asked.append(name)
            return answer

        return predicate

    configure("x", "return(0)", context={"k": asks("oldest", True)})
    configure("x", "return(1)", context={"k": asks("middle", True)})
    configure("x", "return(2)", context={"k": asks("newest", False)})
    assert (hit(k=1), asked) == (Return("1"), ["newest", "middle"])


def test_a_registry_with_the_name_hides_all_outer_configurations() -> None:
    """If no configuration of the inner registry matches, the outer one is not asked."""
    configure("x", "return(outer)")
    with Registry() as registry:
        registry.configure("x", "return(a)", context={"k": "a"})
        registry.configure("x", "return(b)", context={"k": "b"})
        assert [hit(k=value) for value in "abc"] == [Return("a"), Return("b"), Continue()]
    assert hit(k="a") == Return("outer")


def test_a_predicate_may_configure_the_same_failpoint() -> None:
    """A visit whose predicate adds a configuration goes on with those in force then, and asks no predicate twice."""
    asked: list[object] = []

    def predicate(value: object) -> bool:
        asked.append(value)
        configure("x", "return(added)", context={"k": 2})
        return False

    configure("x", "return(old)")
    configure("x", "return(asks)", context={"k": predicate})
    assert hit(k=2) == Return("added")
    assert asked == [2]


def test_a_predicate_that_replaces_its_own_configuration_ends_the_visit() -> None:
    """A visit whose predicate replaces a configuration that the visit has asked goes on, like a waiter."""

    def predicate(value: object) -> bool:
        configure("x", "return(again)", context={"k": predicate})
        return False

    configure("x", "return(old)")
    configure("x", "return(asks)", context={"k": predicate})
    assert (hit(k=1), actions()) == (Continue(), ["again", "old"])


# which one is replaced

SAME: list[tuple[Any, Any]] = [
    ({"k": "v"}, {"k": "v"}),
    ({"k": "v", "n": 1}, {"n": 1, "k": "v"}),
    ({"k": re.compile("v")}, {"k": re.compile("v")}),
    ({"k": callable}, {"k": callable}),
    ({"k": 1}, {"k": 1.0}),
    (None, {}),
]
DIFFERENT: list[tuple[Any, Any]] = [
    ({"k": "v"}, {"k": "w"}),
    ({"k": "v"}, {"k": "v", "n": 1}),
    ({"k": "v"}, {"n": "v"}),
    ({"k": "1"}, {"k": 1}),
    ({"k": "v"}, {"k": re.compile("v")}),
    ({"k": lambda value: True}, {"k": lambda value: True}),
]


@pytest.mark.parametrize(("before", "after"), SAME)
def test_equal_matchers_replace(before: Any, after: Any) -> None:
    """A configuration with equal matchers replaces the earlier one and stands first."""
    configure("x", "return(a)", context=before)
    configure("x", "return(b)", context={"other": "b"})
    configure("x", "return(c)", context=after)
    assert actions() == (["c", "b"] if after else ["c"])


@pytest.mark.parametrize(("before", "after"), DIFFERENT)
def test_other_matchers_do_not_replace(before: Any, after: Any) -> None:
    """A configuration with other matchers stands before the earlier one."""
    configure("x", "return(a)", context=before)
    configure("x", "return(b)", context=after)
    assert actions() == ["b", "a"]


class Incomparable:
    """A value whose comparison fails, as that of numpy's arrays does."""

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        raise ZeroDivisionError


def test_matchers_that_cannot_be_compared_are_different() -> None:
    """A value whose comparison raises is equal to itself only."""
    one, other = Incomparable(), Incomparable()
    configure("x", "return(a)", context={"k": one})
    configure("x", "return(b)", context={"k": other})
    configure("x", "return(c)", context={"k": one})
    assert actions() == ["c", "b"]


def test_comparing_matchers_holds_no_lock() -> None:
    """While matchers are compared, which runs the user's code, another thread can configure the same failpoint."""

    class Slow:
        __hash__ = object.__hash__

        def __eq__(self, other: object) -> bool:
            if "meanwhile" not in actions():
                thread = threading.Thread(
                    target=configure, args=("x", "return(meanwhile)"), kwargs={"context": {"n": 1}}
                )
                thread.start()
                thread.join(5)
                assert not thread.is_alive()
            return True

    configure("x", "return(a)", context={"k": Slow()})
    configure("x", "return(b)", context={"k": Slow()})
    assert actions() == ["b", "meanwhile"]


def test_without_matchers_all_are_replaced() -> None:
    """A configuration without matchers replaces all others of the failpoint."""
    for number in range(3):
        configure("x", f"return({number})", context={"k": number})
    configure("x", "return(all)")
    assert actions() == ["all"]
    configure("x", "return(some)", context={"k": 1})
    assert actions() == ["some", "all"]


@pytest.mark.parametrize("end", [lambda: remove("x"), reset], ids=["remove", "reset"])
def test_remove_and_reset_remove_all(end: Callable[[], None]) -> None:
    """`remove` and `reset` remove every configuration of the failpoint, those that a block hides included."""
    with configured("x", "return(a)", context={"k": 1}), configured("x", "return(b)"):
        configure("x", "return(c)", context={"k": 2})
        end()
        assert (statuses(), hit(k=1)) == ([], Continue())
    assert statuses() == []


def test_configure_all_has_the_same_rules() -> None:
    """Of the entries of `configure_all`, later ones are newer. They replace each other as `configure` does."""
    configure("x", "return(before)", context={"k": 1})
    configure_all([("x", "return(a)", {"k": 1}), ("x", "return(b)", {"k": 2}), ("x", "return(c)", {"k": 1})])
    assert actions() == ["c", "b"]
    configure_all([("x", "return(d)", {"k": 1}), ("x", "return(e)")])
    assert actions() == ["e"]


def test_configure_all_changes_all_or_nothing() -> None:
    """If an entry is refused, every configuration stays as it was."""
    configure("x", "return(a)", context={"k": 1})
    with pytest.raises(FailpointError):
        configure_all([("x", "return(b)", {"k": 1}), ("x", "return(c)", {"k": 2}), ("x", "retur")])
    assert actions() == ["a"]


# status


async def test_a_status_sums_over_the_configurations() -> None:
    """A status has the sums of the counts, all waiters, and the status of each configuration, the newest first."""
    configure("x", "pause", context={"k": "a"})
    configure("x", "pause", context={"k": "b"})
    async with anyio.create_task_group() as group:
        for number, value in enumerate("abab"):
            group.start_soon(lambda value=value: visit(k=value), name=f"task {number}")
            await wait_until_paused("x", number + 1)
        hit(k="c")
        known = status("x")
        newest, oldest = known.configurations
        assert (known.hits, known.misses, known.triggers) == (4, 4, 4)
        assert [(each.hits, each.misses, each.triggers) for each in (newest, oldest)] == [(2, 3, 2), (2, 1, 2)]
        assert [each.name for each in known.waiting] == ["task 0", "task 1", "task 2", "task 3"]
        assert [each.name for each in newest.waiting] == ["task 1", "task 3"]
        assert (known.actions, known.matchers, newest.matchers, oldest.matchers) == (
            newest.actions,
            {"k": "b"},
            {"k": "b"},
            {"k": "a"},
        )
        assert (known.last_miss, known.last_mismatch) == ({"k": "c"}, "k='c' does not match 'b'")
        assert (newest.configurations, oldest.configurations, statuses()) == ((), (), [known])
        reset()
    assert status("x").configurations == ()


# leaving blocks


@pytest.mark.parametrize("inner", [None, {"k": 1}], ids=["no matchers", "equal matchers"])
def test_leaving_restores_what_the_block_replaced(inner: Any) -> None:
    """After the inner of two blocks, the outer one's configuration is in force again, and its counts go on."""
    with configured("x", "2*return(outer)->off", context=inner) as outer:
        assert hit(k=1) == Return("outer")
        with configured("x", "return(inner)", context=inner) as handle:
            assert (hit(k=1), hit(k=1), actions()) == (Return("inner"), Return("inner"), ["inner"])
        assert (outer.hits, handle.hits) == (1, 2)
        assert [hit(k=1), hit(k=1)] == [Return("outer"), Continue()]
        assert (outer.hits, outer.triggers, handle.hits) == (3, 3, 2)
    assert statuses() == []


async def test_async_with_restores_too() -> None:
    """`async with` restores what the block replaced."""
    configure("x", "return(plain)")
    async with configured("x", "return(block)"):
        assert await visit() == Return("block")
    assert await visit() == Return("plain")


def test_what_a_block_replaced_returns_to_its_place() -> None:
    """A restored configuration stands where it stood, behind those that were newer."""
    configure("x", "return(a)", context={"k": "1|2"})
    configure("x", "return(b)", context={"k": "2|3"})
    with configured("x", "return(c)", context={"k": "1|2"}):
        assert (actions(), hit(k=2)) == (["c", "b"], Return("c"))
    assert (actions(), hit(k=2)) == (["b", "a"], Return("b"))


def test_what_a_block_without_matchers_replaced_returns_as_a_whole() -> None:
    """A block without matchers hides all configurations of the failpoint, and restores all of them."""
    configure("x", "return(a)", context={"k": 1})
    configure("x", "return(b)", context={"k": 2})
    with configured("x", "return(c)"):
        assert actions() == ["c"]
    assert actions() == ["b", "a"]


def test_a_block_removes_its_own_configuration_wherever_it_stands() -> None:
    """Leaving a block leaves those alone that were configured after it, with other matchers."""
    with configured("x", "return(a)", context={"k": 1}):
        configure("x", "return(b)", context={"k": 2})
        assert actions() == ["b", "a"]
    assert actions() == ["b"]


@pytest.mark.parametrize("context", [None, {"k": 1}], ids=["no matchers", "equal matchers"])
def test_nothing_returns_if_both_were_replaced(context: Any) -> None:
    """A `configure` in the block that replaces both its configuration and the one around it stays in force."""
    configure("x", "return(a)", context={"k": 1})
    with configured("x", "return(b)", context={"k": 1}):
        configure("x", "return(c)", context=context)
        assert actions() == ["c"]
    assert actions() == ["c"]


def test_what_would_have_been_replaced_does_not_return() -> None:
    """A `configure` in a block replaces what the block hides, as it would have done without the block."""
    configure("x", "return(a)", context={"k": 1})
    configure("x", "return(b)", context={"k": 2})
    with configured("x", "return(c)"):
        configure("x", "return(d)", context={"k": 1})
        assert actions() == ["d", "c"]
    assert actions() == ["d", "b"]


@pytest.mark.parametrize("again", [False, True], ids=["removed", "removed and configured"])
@pytest.mark.parametrize("end", [lambda: remove("x"), reset], ids=["remove", "reset"])
def test_nothing_returns_if_the_name_was_removed(end: Callable[[], None], again: bool) -> None:
    """After `remove` or `reset` in a block, leaving it changes nothing."""
    configure("x", "return(a)")
    with configured("x", "return(b)"):
        end()
        if again:
            configure("x", "return(c)")
    assert actions() == (["c"] if again else [])


CONTEXTS: list[Any] = [None, {"k": 1}, {"k": 2}]


@pytest.mark.parametrize("contexts", list(itertools.product(CONTEXTS, repeat=3)), ids=str)
def test_blocks_may_be_left_in_any_order(contexts: tuple[Any, ...]) -> None:
    """After a block is left, the configurations are those of the other blocks, as if it had never been entered."""
    for order in itertools.permutations(range(3)):
        blocks = [configured("x", f"return({number})", context=context) for number, context in enumerate(contexts)]
        for block in blocks:
            block.__enter__()
        left = {0, 1, 2}
        for number in order:
            blocks[number].__exit__(None, None, None)
            left.remove(number)
            expected: list[tuple[Any, str]] = []
            for other in sorted(left):
                context = contexts[other]
                expected = [each for each in expected if context is not None and each[0] != context]
                expected.insert(0, (context, str(other)))
            assert actions() == [value for _, value in expected], f"left in the order {order}"
        assert statuses() == []


async def test_tasks_in_one_block_leave_their_own() -> None:
    """If several tasks are in one `configured(…)` object, each leaves its own configuration."""
    block = configured("x", "return")
    first_left = anyio.Event()
    handles: list[Handle] = []

    async def enter(is_first: bool) -> None:
        async with block as handle:
            handles.append(handle)
            if is_first:
                await second_entered.wait()
            else:
                second_entered.set()
                await first_left.wait()
            await visit()
            assert handle.hits == (0 if is_first else 2)  # the first one's is replaced
        first_left.set()

    second_entered = anyio.Event()
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(enter, True)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(enter, False)
    assert (len(handles), statuses()) == (2, [])


def test_a_block_may_be_left_in_another_thread() -> None:
    """A block that another thread leaves restores what it replaced."""
    configure("x", "return(a)")
    block = configured("x", "return(b)")
    block.__enter__()
    thread = threading.Thread(target=block.__exit__, args=(None, None, None))
    thread.start()
    thread.join(5)
    assert actions() == ["a"]


async def test_entering_wakes_what_waits_at_the_replaced_one_only() -> None:
    """Entering and leaving a block wake the tasks at the configuration that it replaces and at its own, no others."""
    ended: list[str] = []

    async def reach(who: str) -> None:
        await visit(who=who)
        ended.append(who)

    configure("x", "pause", context={"who": "other"})
    configure("x", "pause", context={"who": "a.*"})
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(reach, "other")
            group.start_soon(reach, "a1")
            await wait_until_paused("x", 2)
            async with configured("x", "pause", context={"who": "a.*"}) as handle:
                await anyio.wait_all_tasks_blocked()
                assert ended == ["a1"]
                group.start_soon(reach, "a2")
                await handle.wait_paused()
            await anyio.wait_all_tasks_blocked()
            assert ended == ["a1", "a2"]
            reset()
    assert ended == ["a1", "a2", "other"]


def test_removing_by_the_handle_restores_at_once() -> None:
    """`handle.remove()` in a block does what leaving the block does."""
    configure("x", "return(a)")
    with configured("x", "return(b)") as handle:
        handle.remove()
        assert actions() == ["a"]
        configure("x", "return(c)")
    assert actions() == ["c"]


# handles


async def test_a_handle_is_about_its_own_configuration() -> None:
    """Counts, waiters, waits and `resume` of a handle leave other configurations of the name alone."""
    order: list[str] = []

    async def step(who: str) -> None:
        await visit(who=who)
        order.append(who)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            with (
                configured("x", "pause", context={"who": "Ada"}) as ada,
                configured("x", "pause", context={"who": "Grace"}) as grace,
            ):
                group.start_soon(step, "Ada")
                await ada.wait_paused()
                with pytest.raises(FailpointTimeout, match="fewer than 2 tasks were paused"):
                    await ada.wait_paused(2, timeout=0)
                with pytest.raises(FailpointTimeout, match="was not hit within"):
                    await grace.wait_hit(timeout=0)
                group.start_soon(step, "Grace")
                await grace.wait_paused()
                await wait_until_paused("x", 2)
                await wait_until_hit("x", 2)
                assert [each.context for each in grace.waiting] == [{"who": "Grace"}]
                assert (ada.hits, ada.misses, grace.hits, grace.misses) == (1, 0, 1, 1)
                assert grace.resume() == 1
                await anyio.wait_all_tasks_blocked()
                assert (order, grace.waiting, len(ada.waiting)) == (["Grace"], (), 1)
                assert ada.resume() == 1
    assert order == ["Grace", "Ada"]


REPLACING: dict[str, Callable[[], object]] = {
    "configure": lambda: configure("x", "off"),
    "configure_all": lambda: configure_all([("x", "off")]),
    "configured": lambda: configured("x", "off").__enter__(),
}


@pytest.mark.parametrize("replace", REPLACING)
@pytest.mark.parametrize("waits", ["wait_hit", "wait_paused"])
async def test_a_wait_of_a_handle_ends_when_its_configuration_is_replaced(waits: str, replace: str) -> None:
    """A wait of a handle ends with a usage error when the configuration is replaced, and so do later waits."""
    errors: list[str] = []
    configure("x", "off", context={"k": 1})
    with anyio.fail_after(5), configured("x", "off", context={"k": 2}) as handle:

        async def wait() -> None:
            with pytest.raises(FailpointUsageError) as caught:
                await getattr(handle, waits)()
            errors.append(str(caught.value))

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            configure("x", "off", context={"k": 3})
            await anyio.wait_all_tasks_blocked()
            assert errors == []
            REPLACING[replace]()
        awaited = {"wait_hit": "it to be hit", "wait_paused": "a pause there"}[waits]
        assert errors == [f"this configuration of failpoint 'x' was replaced while a task was waiting for {awaited}"]
        with pytest.raises(
            FailpointUsageError, match="^this configuration of failpoint 'x' was replaced, so .* use the handle"
        ):
            await getattr(handle, waits)()


async def test_a_handle_works_again_once_its_configuration_is_restored() -> None:
    """After an inner block, the waits of the outer handle work, and count its earlier hits."""
    with anyio.fail_after(5), configured("x", "off") as outer:
        hit()
        with configured("x", "off"), pytest.raises(FailpointUsageError):
            await outer.wait_hit()
        async with anyio.create_task_group() as group:
            group.start_soon(outer.wait_hit, 2)
            await anyio.wait_all_tasks_blocked()
            hit()
        assert outer.hits == 2


async def test_a_wait_for_a_name_goes_on_through_blocks() -> None:
    """`wait_until_hit` counts the hits of the configurations in force, while blocks are entered and left."""
    ended: list[str] = []

    async def wait() -> None:
        await wait_until_hit("x", 3)
        ended.append("done")

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            configure("x", "off")
            hit()
            group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            with configured("x", "off"):
                hit()
            with configured("x", "off", context={"k": 1}):
                hit(k=1)
                await anyio.wait_all_tasks_blocked()
                assert (status("x").hits, ended) == (2, [])
                hit(k=2)
    assert ended == ["done"]


# resuming some


def test_resume_wakes_the_longest_waiting_first() -> None:
    """`resume(tasks=N)` wakes the N that have waited longest, at any configuration of the name, and counts them."""
    configure("x", "pause", context={"number": lambda number: number % 2 == 0})
    configure("x", "pause", context={"number": lambda number: number % 2 == 1})
    threads = [threading.Thread(target=hit, kwargs={"number": number}, daemon=True) for number in range(5)]
    for number, thread in enumerate(threads):
        thread.start()
        wait_until_paused_sync("x", number + 1, timeout=5)
    assert resume("x", tasks=2) == 2
    threads[0].join(5)
    threads[1].join(5)
    assert [thread.is_alive() for thread in threads] == [False, False, True, True, True]
    assert resume("x", tasks=99) == 3
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()


@pytest.mark.parametrize("by_handle", [False, True], ids=["resume", "handle.resume"])
async def test_resume_by_context(by_handle: bool) -> None:
    """`resume(context=…)` wakes only the visits whose context matches, and *tasks* limits their number."""
    ended: list[int] = []

    async def reach(number: int) -> None:
        await visit(number=number)
        ended.append(number)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            with configured("x", "pause") as handle:
                for number in range(4):
                    group.start_soon(reach, number)
                    await handle.wait_paused(number + 1)

                def wake(**options: Any) -> int:
                    return handle.resume(**options) if by_handle else resume("x", **options)

                assert wake(context={"number": lambda number: number > 1}, tasks=1) == 1
                await anyio.wait_all_tasks_blocked()
                assert (wake(context={"number": "7"}), wake(context={"number": [1]}), ended) == (0, 0, [2])
                assert (wake(context={"number": 1}), wake(tasks=1), wake()) == (1, 1, 1)
    assert sorted(ended) == [0, 1, 2, 3]


@pytest.mark.parametrize("tasks", [0, -1, 1.0, True, "1"], ids=repr)
def test_a_bad_number_of_tasks_is_refused(tasks: Any) -> None:
    """`tasks` must be a whole number of 1 or more."""
    with configured("x", "pause") as handle:
        for wake in (handle.resume, lambda **options: resume("x", **options)):
            with pytest.raises(FailpointUsageError, match="^tasks must be a whole number of 1 or more; got "):
                wake(tasks=tasks)


def test_bad_matchers_of_resume_are_refused() -> None:
    """The matchers of `resume` are checked like those of `configure`, also if nothing waits."""
    with pytest.raises(ValueError, match="the pattern for 'k' is not a valid regular expression"):
        resume("x", context={"k": "("})
    with pytest.raises(FailpointUsageError, match="matchers must be a mapping"):
        resume("x", context=5)  # type: ignore[arg-type]


def test_a_predicate_that_raises_wakes_nothing() -> None:
    """If a predicate of `resume` raises, the exception propagates, and all waiters go on waiting."""
    threads = [threading.Thread(target=hit, kwargs={"number": number}, daemon=True) for number in range(2)]
    configure("x", "pause")
    for thread in threads:
        thread.start()
    wait_until_paused_sync("x", 2, timeout=5)
    with pytest.raises(ZeroDivisionError):
        resume("x", context={"number": lambda number: 1 / (1 - number)})
    assert len(status("x").waiting) == 2
    remove("x")
    for thread in threads:
        thread.join(5)
