"""Counts that a visit has to ask for: it waits for the answer without a lock, and is decided with it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread
import pytest

from failpoints import Continue, FailpointUsageError, Return, configure, failpoint, remove, resume, seed, status
from failpoints._core.configuration import Ask, Configuration
from failpoints._core.hooks import observers
from failpoints._core.store import PROCESS_STORE
from failpoints._core.wakeups import Wakeup, wake

LIMIT = 20


class Ledger:
    """Answers when a test lets it, from a thread of its own."""

    def __init__(self, name: str) -> None:
        (self.configuration,) = PROCESS_STORE.current(name)
        self.configuration.ledger = self
        self.used: dict[int, int] = {}
        self.asked = 0
        self.answers = threading.Event()
        self.answers.set()
        self.shown: list[tuple[int, int]] = []

    def take(self, term: int, times: int) -> bool | Ask | None:
        return Ask(term, times)

    def ask(self, term: int, times: int, wakeup: Wakeup) -> Callable[[], bool | None]:
        self.asked += 1
        granted: list[bool] = []

        def answer() -> None:
            assert self.answers.wait(LIMIT)
            self.used[term] = self.used.get(term, 0) + 1
            granted.append(self.used[term] <= times)
            wake([wakeup])

        threading.Thread(target=answer, daemon=True).start()
        return granted.pop

    def note(self, configuration: Configuration) -> None:
        self.shown.append((configuration.hits, configuration.triggers))


@failpoint("x")
async def decorated() -> str:
    return "went on"


@pytest.mark.anyio
async def test_a_visit_is_decided_by_the_answer() -> None:
    """The first term that is granted decides, in async code and in a worker thread. Each hit counts once."""
    configure("x", "1*return(a)->off")
    configure("x", "2*return(a)->1*return(b)->1*raise(KeyError)")
    ledger = Ledger("x")
    assert [await failpoint("x"), await decorated()] == [Return("a"), "a"]
    outcome = await anyio.to_thread.run_sync(failpoint("x").hit)
    assert outcome == Return("b")
    assert ledger.asked == 4
    with pytest.raises(KeyError):
        await failpoint("x")
    assert await failpoint("x") == Continue()
    assert ledger.asked == 4 + 3 + 3
    assert (status("x").hits, status("x").triggers) == (5, 4)
    assert ledger.shown[-1] == (5, 4)


class LostLedger(Ledger):
    """Knows no counts, at once or once it is asked."""

    def __init__(self, name: str, *, at_once: bool) -> None:
        super().__init__(name)
        self.at_once = at_once

    def take(self, term: int, times: int) -> bool | Ask | None:
        return None if self.at_once else super().take(term, times)

    def ask(self, term: int, times: int, wakeup: Wakeup) -> Callable[[], bool | None]:
        wake([wakeup])
        return lambda: None


@pytest.mark.anyio
@pytest.mark.parametrize("at_once", [True, False])
async def test_a_visit_does_nothing_if_its_count_is_not_known(at_once: bool) -> None:
    """The term after the count is for visits that come when it is used up, so it is not carried out."""
    configure("x", "2*off->raise(KeyError)")
    LostLedger("x", at_once=at_once)
    assert await failpoint("x") == Continue()
    assert await anyio.to_thread.run_sync(failpoint("x").hit) == Continue()
    assert (status("x").hits, status("x").triggers) == (2, 0)


@pytest.mark.anyio
async def test_the_drawn_chance_is_kept() -> None:
    """A chance is drawn once for each term, whatever the ledger answers: the draws are those without a ledger."""
    outcomes = []
    for shared in (False, True):
        seed(7)
        configure("x", "50%2*return(a)->50%3*return(b)->50%return(c)")
        if shared:
            Ledger("x")
        outcomes.append([str(await failpoint("x")) for _ in range(30)])
    assert outcomes[0] == outcomes[1]
    assert len(set(outcomes[0])) == 4
    seed(None)


@pytest.mark.anyio
async def test_a_granted_pause_waits() -> None:
    """A wait that was granted is like any other: it is seen, and ends when it is resumed."""
    configure("x", "1*pause->return(late)")
    Ledger("x")
    outcomes: list[Any] = []

    async def visit() -> None:
        outcomes.append(await failpoint("x"))

    async with anyio.create_task_group() as group:
        group.start_soon(visit)
        with anyio.fail_after(LIMIT):
            while not status("x").waiting:  # noqa: ASYNC110 - a thread answers
                await anyio.sleep(0.001)
        assert await failpoint("x") == Return("late")
        assert resume("x") == 1
    assert outcomes == [Continue()]


@pytest.mark.anyio
async def test_a_visit_that_is_cancelled_while_it_asks_asks_no_more() -> None:
    """Cancelling ends the wait at once, although the ledger does not answer. Its answer is then for nothing."""
    configure("x", "2*return")
    ledger = Ledger("x")
    ledger.answers.clear()
    with anyio.move_on_after(0.05) as scope:
        await failpoint("x")
    assert scope.cancelled_caught
    assert ledger.asked == 1
    ledger.answers.set()
    with anyio.fail_after(LIMIT):
        while not ledger.used:  # noqa: ASYNC110 - a thread answers
            await anyio.sleep(0.001)
        assert [await failpoint("x") for _ in range(2)] == [Return(None), Continue()]
    assert (status("x").hits, status("x").triggers) == (3, 1)


@pytest.mark.anyio
@pytest.mark.parametrize("change", [lambda: remove("x"), lambda: configure("x", "return(new)")])
async def test_a_visit_whose_configuration_ends_while_it_asks_goes_on(change: Callable[[], object]) -> None:
    """A visit is decided by the configuration that has counted it. If that has ended, the visit goes on."""
    configure("x", "1*return")
    ledger = Ledger("x")
    ledger.answers.clear()
    outcomes: list[Any] = []

    async def visit() -> None:
        outcomes.append(await failpoint("x"))

    async with anyio.create_task_group() as group:
        group.start_soon(visit)
        with anyio.fail_after(LIMIT):
            while not ledger.asked:  # noqa: ASYNC110 - a thread answers
                await anyio.sleep(0.001)
        change()
        ledger.answers.set()
    assert outcomes == [Continue()]


@pytest.mark.anyio
async def test_sync_code_on_the_thread_of_a_loop_cannot_ask() -> None:
    """It would block the loop: a usage error, which uses up no count. What needs no count is carried out."""
    configure("x", "1*return")
    ledger = Ledger("x")
    with pytest.raises(
        FailpointUsageError, match=r"'x' cannot take a count of its fleet in the sync .*: make the site"
    ):
        failpoint("x").hit()
    assert ledger.asked == 0
    assert (status("x").hits, status("x").triggers) == (1, 0)
    assert await failpoint("x") == Return(None)
    configure("x", "return(7)")
    Ledger("x")
    assert failpoint("x").hit() == Return("7")


@pytest.mark.anyio
async def test_observers_see_each_visit_once() -> None:
    """Observers see what a visit did, and not what it asked for."""
    configure("x", "1*return(a)->return(b)")
    Ledger("x")
    seen: list[str] = []

    def observe(configuration: Configuration, action: object, matched: bool) -> None:
        seen.append(str(action))

    observers.append(observe)
    try:
        assert [str(await failpoint("x")) for _ in range(2)] == ["Return(value='a')", "Return(value='b')"]
    finally:
        observers.remove(observe)
    assert seen == ["Return(value='a')", "Return(value='b')"]
