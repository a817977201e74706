"""The audit: steps that were said not to meet are run in the other order, and false declarations are reported."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from failpoints import FailpointUsageError, failpoint, failpoint_scope
from failpoints.explore import ExplorationFailed, Run, explore
from tests.explore.races import race


class Hidden:
    """State that two tasks have in common, and that nothing declares."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.free = ["connection"]
        self.numbers = itertools.count()
        self.number = 1
        self.done = False
        self.rows = {"row": 1}


Effect = Callable[[Hidden, str], object]


def _fail_before(hidden: Hidden, task: str) -> None:
    if task == "a":
        hidden.done = True
    elif not hidden.done:
        raise LookupError("not done")


def _compute(hidden: Hidden, task: str) -> None:
    hidden.number = hidden.number + 1 if task == "a" else hidden.number * 10


def _overwrite(hidden: Hidden, task: str) -> None:
    hidden.log[:] = [task]


def _read(hidden: Hidden, task: str) -> object:
    if task == "a":
        hidden.number += 1
        return None
    return hidden.number


def _delete(hidden: Hidden, task: str) -> object:
    return hidden.rows.pop("row", None) if task == "a" else hidden.rows.get("row")


EFFECTS: dict[str, Effect] = {
    "both append": lambda hidden, task: hidden.log.append(task),
    "both overwrite": _overwrite,
    "one reads what the other writes": _read,
    "they compute": _compute,
    "one of them gets it": lambda hidden, task: hidden.free.pop() if hidden.free else None,
    "each takes a number": lambda hidden, task: next(hidden.numbers),
    "one fails if it comes first": _fail_before,
    "one deletes what the other reads": _delete,
    "one clears what the other adds": lambda hidden, task: (
        hidden.log.clear() if task == "a" else hidden.log.append("b")
    ),
    "one looks how far the other is": lambda hidden, task: hidden.log.append("a") if task == "a" else len(hidden.log),
}

Act = Callable[[], object]


async def inline(name: str, act: Act) -> object:
    await failpoint(name, writes=(name,))
    return act()


async def decorated(name: str, act: Act) -> object:
    @failpoint(name, writes=(name,))
    async def call() -> object:
        return act()

    return await call()


async def in_scope(name: str, act: Act) -> object:
    async with failpoint_scope(name, reads=(name,)):
        return act()


async def in_one_region(name: str, act: Act) -> object:
    @failpoint(f"{name}.around", writes=(name,))
    async def call() -> object:
        await failpoint(name)
        return act()

    return await call()


async def in_sync_code(name: str, act: Act) -> object:
    @failpoint(f"{name}.sync", writes=(name,))
    def call() -> object:
        return act()

    await failpoint(name, reads=(name,))
    return call()


SITES: list[Callable[[str, Act], Awaitable[object]]] = [inline, decorated, in_scope, in_one_region, in_sync_code]


@pytest.mark.parametrize(("backend", "reduction"), [("asyncio", "sound"), ("trio", "declared")])
@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("effect", EFFECTS)
def test_a_false_declaration(
    backend: Any, reduction: Any, site: Callable[[str, Act], Awaitable[object]], effect: str
) -> None:
    """Each of fifty false declarations is reported, with the names of the two sites, at one run for each two names."""

    async def scenario(run: Run) -> None:
        hidden = Hidden()

        async def work(task: str) -> None:
            await failpoint(f"{task}.begin", writes=(task,))
            result = await site(f"{task}.move", lambda: EFFECTS[effect](hidden, task))
            await failpoint(f"{task}.end", context={"result": result}, writes=(task,))

        async with run.injecting(), anyio.create_task_group() as tasks:
            tasks.start_soon(work, "a")
            tasks.start_soon(work, "b")
        run.observe(vars(hidden) | {"numbers": None})

    explore(scenario, backend=backend, interleavings=True, reduction="declared")  # finds nothing
    with pytest.raises(ExplorationFailed) as caught:
        explore(scenario, backend=backend, interleavings=True, reduction=reduction, audit=0.001)
    failure = caught.value.failure
    assert failure.kind == "undeclared"
    assert "were said not to meet, but their order makes a difference" in failure.summary
    assert all(f"'{task}.move" in failure.summary for task in "ab")
    names = len(caught.value.exploration.hits)
    to_confirm = 4
    assert caught.value.exploration.audited <= names * (names + 1) / 2 + to_confirm
    replayed = {"backend": backend, "replay": failure.replay}
    if effect == "one fails if it comes first":
        with pytest.raises(ExplorationFailed, match="not done"):
            explore(scenario, **replayed)
    else:
        assert explore(scenario, **replayed).runs == 1


def test_the_message(backend: Any) -> None:
    """The message has the two names, the difference, and both orders."""

    async def scenario(run: Run) -> None:
        log: list[str] = []

        async def write(name: str) -> None:
            await failpoint(name, context={"to": name}, writes=("{to}",))
            log.append(name)
            await failpoint(f"{name}.end", context={"to": name}, writes=("{to}",))

        async with run.injecting(), anyio.create_task_group() as tasks:
            tasks.start_soon(write, "inventory.write")
            tasks.start_soon(write, "mail.send")
        run.observe(log)

    with pytest.raises(ExplorationFailed) as caught:
        explore(scenario, backend=backend, interleavings=True, audit=0.1)
    text = str(caught.value)
    start = (
        "scenario: 'inventory.write' and 'mail.send' were said not to meet, but their order makes a difference:\n"
        "  one order:  observed 1 of the scenario: ['inventory.write', 'mail.send']\n"
        "  the other:  observed 1 of the scenario: ['mail.send', 'inventory.write']\n"
    )
    assert text.startswith(start)
    first, second = text.split("the other, explore(scenario, ")
    assert "one order, explore(scenario, " in first
    for timeline in (first, second):
        assert "comes to inventory.write {'to': 'inventory.write'}, held" in timeline
    assert "Declare all that their steps touch" in text


def independent(run: Run, tasks: int, visits: int) -> Any:
    """Return the explored part of a scenario, whose tasks have nothing in common."""

    async def work(number: int) -> None:
        for _ in range(visits):
            await failpoint("work", context={"number": number}, writes=("{number}",))

    async def act() -> None:
        async with run.injecting(), anyio.create_task_group() as group:
            for number in range(tasks):
                group.start_soon(work, number)

    return act()


@pytest.mark.parametrize(("audit", "audited"), [(0.0, 0), (0.001, 1), (0.5, 6), (1.0, 12)])
def test_the_share(backend: Any, audit: float, audited: int) -> None:
    """One pair for each two names is exchanged, and that share of all pairs of visits: of 12, with three tasks."""
    exploration = explore(
        lambda run: independent(run, 3, 2), backend=backend, interleavings=True, reduction="declared", audit=audit
    )
    assert exploration.audited == audited
    assert exploration.runs == 1
    assert ("audited" in str(exploration)) == bool(audit)


def test_true_declarations(backend: Any) -> None:
    """What is declared rightly is not reported, whichever pairs of a search with shared objects are exchanged."""

    async def scenario(run: Run) -> None:
        accounts = run.shared({"a": 1, "b": 1})

        async def move(account: str) -> None:
            await failpoint("read")
            balance = accounts[account]
            await failpoint("write", context={"account": account}, writes=("account:{account}",))
            accounts[account] = balance + 1

        async with run.injecting(), anyio.create_task_group() as group:
            for account in ("a", "b", "a"):
                group.start_soon(move, account)

    exploration = explore(scenario, backend=backend, interleavings=True, reduction="declared", audit=1.0)
    assert exploration.audited
    assert exploration.exhaustive


def test_wakeups_without_names(backend: Any) -> None:
    """Steps of code without failpoints are audited, too, and are named by their tasks."""

    async def scenario(run: Run) -> None:
        log: list[str] = []

        async def work(name: str) -> None:
            await anyio.lowlevel.checkpoint()
            log.append(name)
            await anyio.lowlevel.checkpoint()

        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(work, "a")
            group.start_soon(work, "b")
        run.observe(log)

    with pytest.raises(ExplorationFailed, match=r"wake-up \d of task 1 and wake-up \d of task 2 were said not to meet"):
        explore(scenario, backend=backend, interleavings="awaits", reduction="declared", audit=1.0)


def test_a_program_that_is_not_deterministic(backend: Any) -> None:
    """Nothing is said about two orders if equal runs end in different ways."""
    numbers = itertools.count()

    async def scenario(run: Run) -> None:
        run.observe(next(numbers))
        await independent(run, 2, 2)

    with pytest.raises(ExplorationFailed, match="scenario is nondeterministic"):
        explore(scenario, backend=backend, interleavings=True, reduction="declared", audit=0.1)


def in_threads(run: Run, *calls: Act) -> None:
    """Run functions in threads, as the explored part of a scenario."""
    with run.injecting():
        race(*calls)


def inline_sync(name: str, act: Act) -> object:
    failpoint(name, writes=(name,)).hit()
    return act()


def decorated_sync(name: str, act: Act) -> object:
    @failpoint(name, writes=(name,))
    def call() -> object:
        return act()

    return call()


def in_sync_scope(name: str, act: Act) -> object:
    with failpoint_scope(name, reads=(name,)):
        return act()


@pytest.mark.parametrize(
    ("reduction", "site", "effect"),
    [
        *(("declared", inline_sync, effect) for effect in EFFECTS),
        *(("sound", site, "they compute") for site in (inline_sync, decorated_sync, in_sync_scope)),
    ],
)
def test_a_false_declaration_of_threads(reduction: Any, site: Callable[[str, Act], object], effect: str) -> None:
    """Each false declaration of two threads is reported, with the names of the two sites."""

    def scenario(run: Run) -> None:
        hidden = Hidden()

        def work(task: str) -> None:
            result = site(f"{task}.move", lambda: EFFECTS[effect](hidden, task))
            failpoint(f"{task}.end", context={"result": result}, writes=(task,)).hit()

        in_threads(run, lambda: work("a"), lambda: work("b"))
        run.observe(vars(hidden) | {"numbers": None})

    if reduction == "declared":
        explore(scenario, interleavings=True, reduction="declared")  # finds nothing
    with pytest.raises(ExplorationFailed) as caught:
        explore(scenario, interleavings=True, reduction=reduction, audit=0.001)
    failure = caught.value.failure
    assert failure.kind == "undeclared"
    assert "were said not to meet, but their order makes a difference" in failure.summary
    assert all(f"'{task}.move" in failure.summary for task in "ab")
    if effect == "one fails if it comes first":
        with pytest.raises(ExplorationFailed, match="not done"):
            explore(scenario, replay=failure.replay)
    else:
        assert explore(scenario, replay=failure.replay).runs == 1


@pytest.mark.parametrize("reduction", ["sound", "declared"])
def test_true_declarations_of_threads(reduction: Any) -> None:
    """Nothing is reported, whichever steps are exchanged: visits, operations of primitives, and shared objects."""

    def scenario(run: Run) -> None:
        counted, lock, done, log = run.shared({"n": 0}), threading.Lock(), threading.Event(), list[str]()

        def count() -> None:
            failpoint("count", writes=("log",)).hit()
            log.append("count")
            with lock:
                counted["n"] += 1
            done.set()

        def look() -> None:
            failpoint("look", writes=("other",)).hit()
            with lock:
                counted["n"] *= 2
            done.is_set()

        in_threads(run, count, look)
        run.observe(log)

    exploration = explore(scenario, interleavings=True, reduction=reduction, audit=1.0, max_runs=30)
    assert exploration.audited


def test_points_without_names() -> None:
    """Steps of threads without failpoints are audited, too, and are named by their threads."""

    def scenario(run: Run) -> None:
        log: list[str] = []

        def work(name: str) -> None:
            with threading.Lock():
                log.append(name)

        in_threads(run, lambda: work("a"), lambda: work("b"))
        run.observe(log)

    with pytest.raises(ExplorationFailed, match=r"point \d of thread 1 and point \d of thread 2 were said not to meet"):
        explore(scenario, interleavings=True, reduction="declared", audit=1.0)


@pytest.mark.parametrize("audit", [-0.1, 1.5, "all", True, None])
def test_a_share_that_is_none(audit: Any) -> None:
    """The share is a number between 0 and 1."""
    with pytest.raises(FailpointUsageError, match=r"audit= must be a share between 0\.0 and 1\.0; got"):
        explore(lambda run: independent(run, 2, 2), interleavings=True, audit=audit)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"interleavings": True, "reduction": None},
        {"interleavings": True, "max_preemptions": 1},
        {"interleavings": True, "sample": 10},
    ],
)
def test_an_audit_without_a_reduction(options: dict[str, Any]) -> None:
    """Where no orders are left out, there is nothing to audit."""
    with pytest.raises(FailpointUsageError, match="audit= checks orders that a reduction leaves out"):
        explore(lambda run: independent(run, 2, 2), audit=0.1, **options)
