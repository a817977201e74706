"""Sets that asyncio and anyio keep have the same order in every run."""

from __future__ import annotations

import asyncio
import asyncio.staggered
import asyncio.taskgroups
import asyncio.tasks
import copy
import gc
import pickle
import sys
import threading
import uuid
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Any

import anyio
import pytest
from anyio._backends import _asyncio as anyio_asyncio
from hypothesis import given
from hypothesis import strategies as st

from failpoints import failpoint
from failpoints._explore.ordered_set import OrderedSet, OrderedWeakSet
from failpoints.explore import Run, explore

SIX = list("abcdef")
kept: list[object] = []


def move_addresses() -> None:
    """Make the objects of the next run have other addresses, in another order."""
    kept.extend([object() for _ in range(len(kept) * 7 % 1000 + 1)])
    del kept[:: len(kept) % 5 + 2]


def own_factory(loop: Any, coro: Any, **options: Any) -> Any:
    return asyncio.Task(coro, loop=loop, **options)


class OwnTask(asyncio.Task[Any]):
    pass


def own_class(loop: Any, coro: Any, **options: Any) -> Any:
    return OwnTask(coro, loop=loop, **options)


FACTORIES: dict[str, Any] = {"none": None, "function": own_factory, "class": own_class}
if sys.version_info >= (3, 12):
    FACTORIES |= {"eager": asyncio.eager_task_factory, "own eager": asyncio.create_eager_task_factory(OwnTask)}


@pytest.fixture(params=FACTORIES)
def factory(request: pytest.FixtureRequest) -> Any:
    """Run the test with each kind of task factory."""
    return FACTORIES[request.param]


def orders_of(part: Callable[[list[str]], Any], factory: Any = None) -> set[str]:
    """Run a part of a program in many runs, and return the logs that it wrote, which should be equal."""
    logs: list[str] = []

    async def scenario(run: Run) -> None:
        asyncio.get_running_loop().set_task_factory(factory)
        move_addresses()
        log: list[str] = []
        async with run.injecting():
            await part(log)
            await failpoint("visit")
        logs.append("".join(log))

    explore(scenario, faults={"visit": ["off"] * 20, "*": []})
    assert len(logs) == 21
    return set(logs)


async def write(log: list[str], name: str) -> str:
    log.append(name)
    await failpoint("write")
    return name


async def write_when_cancelled(log: list[str], name: str) -> None:
    try:
        await asyncio.sleep(10)
    finally:
        log.append(name)


def test_as_completed(factory: Any) -> None:
    """`asyncio.as_completed` starts its coroutines in the order in which it got them."""

    async def part(log: list[str]) -> None:
        for one in asyncio.as_completed([write(log, name) for name in SIX]):
            await one

    assert orders_of(part, factory) == {"abcdef"}


def test_as_completed_is_explored(backend: Any) -> None:
    """Every order of the coroutines is tried, as with `gather`."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            got = [await one for one in asyncio.as_completed([write([], name) for name in "abc"])]
        assert sorted(got) == ["a", "b", "c"]

    if backend == "asyncio":
        for _ in range(3):
            assert str(explore(scenario, interleavings=True)) == "6 runs, every order of 3 tasks: no failure"


@pytest.mark.parametrize("collect", [list, set, tuple], ids=["list", "set", "tuple"])
def test_wait_for_an_executor(collect: Callable[[Iterable[Any]], Any]) -> None:
    """What `asyncio.wait` returns is in order, also if the program gave it a set of futures."""

    async def part(log: list[str]) -> None:
        loop = asyncio.get_running_loop()
        done, pending = await asyncio.wait(collect(loop.run_in_executor(None, str, name) for name in SIX))
        log.extend(one.result() for one in done)
        assert not pending

    assert orders_of(part) == {"abcdef"}


def test_wait_for_tasks(factory: Any) -> None:
    """The tasks that are done, and those that are pending, are in the order in which they were given."""

    async def part(log: list[str]) -> None:
        async def wait(name: str) -> str:
            await asyncio.sleep(1 if name in "bce" else 2)
            return name

        tasks = {asyncio.create_task(wait(name)): name for name in SIX}
        done, pending = await asyncio.wait(list(tasks), timeout=1.5)
        log.extend(tasks[one] for one in done)
        log.extend(tasks[one].upper() for one in pending)
        log.extend(tasks[one].upper() for one in pending - {pending.pop()})
        await asyncio.wait(tasks)

    assert orders_of(part, factory) == {"bceADFDF"}


def test_wait_for_groups_of_futures() -> None:
    """Futures of `gather` and `shield` are in order, too."""

    async def part(log: list[str]) -> None:
        groups: dict[Any, str] = {}
        for name in SIX[:3]:
            groups[asyncio.gather(write([], name))] = name
        for name in SIX[3:]:
            groups[asyncio.shield(write([], name))] = name
        done, _ = await asyncio.wait(list(groups))
        log.extend(groups[one] for one in done)

    assert orders_of(part) == {"abcdef"}


@pytest.mark.parametrize("library", ["asyncio", "anyio"])
def test_a_task_group_cancels_in_order(factory: Any, library: str) -> None:
    """A task group that fails cancels its tasks in the order in which they were started."""

    async def part(log: list[str]) -> None:
        try:
            if library == "asyncio":
                async with asyncio.TaskGroup() as tasks:
                    for name in SIX:
                        tasks.create_task(write_when_cancelled(log, name))
                    await asyncio.sleep(1)
                    raise KeyError
            async with anyio.create_task_group() as group:
                for name in SIX:
                    group.start_soon(write_when_cancelled, log, name)
                await anyio.sleep(1)
                raise KeyError
        except* KeyError:
            pass

    assert orders_of(part, factory) == {"abcdef"}


def test_faults_while_a_group_is_cancelled(factory: Any) -> None:
    """Faults are tried at the visits of all tasks that a group cancels, and the scenario is deterministic."""

    async def work() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            await failpoint("clean.up")

    async def scenario(run: Run) -> None:
        asyncio.get_running_loop().set_task_factory(factory)
        move_addresses()
        async with run.injecting():
            try:
                async with asyncio.TaskGroup() as tasks:
                    for _ in SIX:
                        tasks.create_task(work())
                    await asyncio.sleep(1)
                    raise KeyError("enough")
            except* KeyError:
                pass

    for _ in range(3):
        assert str(explore(scenario)) == "7 runs, every fault at 6 visits, one at a time: no failure"


def test_the_place_of_a_task_in_the_tree(factory: Any) -> None:
    """Tasks are known by their place, whatever makes them: every order is tried, and each task draws its own ids."""
    drawn: set[tuple[str, str]] = set()

    async def work(name: str) -> None:
        drawn.add((name, uuid.uuid4().hex))
        await failpoint("work")
        drawn.add((f"{name} again", uuid.uuid4().hex))

    async def group(name: str) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(work, f"{name} 1")
            tasks.start_soon(work, f"{name} 2")

    async def scenario(run: Run) -> None:
        asyncio.get_running_loop().set_task_factory(factory)
        move_addresses()
        async with run.injecting():
            await asyncio.gather(group("first"), group("second"))

    exploration = explore(scenario, interleavings=True)
    assert str(exploration) == "24 runs, every order of 4 tasks: no failure"
    assert len(drawn) == 8


@pytest.mark.parametrize("name", ["asyncio", "asyncio.tasks"])
def test_all_tasks(factory: Any, name: str) -> None:
    """`asyncio.all_tasks` returns the tasks in the order in which they were started, however many have ended."""
    module: Any = sys.modules[name]

    async def part(log: list[str]) -> None:
        names = {asyncio.current_task(): "main"}
        for number in range(40):
            task = asyncio.create_task(asyncio.sleep(1 if number % 8 else 2))
            names[task] = f" {number}"
        await asyncio.sleep(1.5)
        log.extend(names[task] for task in module.all_tasks())
        await asyncio.sleep(1)

    assert orders_of(part, factory) == {"main 0 8 16 24 32"}


@pytest.mark.parametrize("factory", [None, own_factory])
def test_a_staggered_race_cancels_in_order(factory: Any) -> None:
    """The losers of a race, such as that of two addresses of a host, are cancelled in the order of their start."""

    async def part(log: list[str]) -> None:
        async def win() -> None:
            await asyncio.sleep(10)

        racers = [lambda name=name: write_when_cancelled(log, name) for name in SIX]
        await asyncio.staggered.staggered_race([*racers, win], 0.1)

    assert orders_of(part, factory) == {"abcdef"}


def test_async_generators_are_closed_in_order() -> None:
    """Async generators that are left open are closed in the order in which they were begun."""

    async def part(log: list[str]) -> None:
        async def generate(name: str) -> AsyncGenerator[None]:
            try:
                yield
            finally:
                log.append(name)

        generators = [generate(name) for name in SIX]
        for one in generators:
            await anext(one)
        await asyncio.get_running_loop().shutdown_asyncgens()

    assert orders_of(part) == {"abcdef"}


@pytest.mark.skipif(sys.version_info < (3, 13), reason="close_clients() is new in Python 3.13")
def test_a_server_closes_its_clients_in_order() -> None:
    """`Server.close_clients()` closes the connections in the order in which they were accepted."""

    async def part(log: list[str]) -> None:
        class Logged(asyncio.Protocol):
            def connection_made(self, transport: Any) -> None:
                self.name = SIX[len(connected)]
                connected.append(self)
                made.set()

            def connection_lost(self, error: object) -> None:
                log.append(self.name)

        connected: list[Logged] = []
        made = asyncio.Event()
        server = await asyncio.get_running_loop().create_server(Logged, "127.0.0.1", 0)
        writers: list[asyncio.StreamWriter] = []
        for _ in SIX:
            made.clear()
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writers.append(writer)
            await made.wait()
        server.close()
        server.close_clients()  # type: ignore[attr-defined,unused-ignore]
        await server.wait_closed()
        for writer in writers:
            writer.close()

    assert orders_of(part) == {"abcdef"}


def test_sets_of_futures() -> None:
    """A set that the program itself makes of the loop's futures has the same order in every run."""

    async def part(log: list[str]) -> None:
        loop = asyncio.get_running_loop()
        names = {loop.create_future(): name for name in SIX}
        log.extend(names[future] for future in set(names))

    assert len(orders_of(part)) == 1


def test_other_threads_and_the_time_after() -> None:
    """Event loops of other threads keep plain sets. After the exploration, all sets are plain ones."""
    kinds: list[type] = []

    async def elsewhere() -> None:
        done, _ = await asyncio.wait([asyncio.create_task(asyncio.sleep(0))])
        async with asyncio.TaskGroup() as group:
            kinds.extend((type(done), type(asyncio.all_tasks()), type(group._tasks)))

    async def scenario(run: Run) -> None:
        thread = threading.Thread(target=asyncio.run, args=(elsewhere(),))
        thread.start()
        thread.join(10)
        async with run.injecting():
            await failpoint("visit")

    explore(scenario)
    asyncio.run(elsewhere())
    assert kinds == [set] * 9
    for module in (asyncio.tasks, asyncio.taskgroups, asyncio.staggered, anyio_asyncio):
        assert not hasattr(module, "set")
    assert asyncio.all_tasks is asyncio.tasks.all_tasks
    assert asyncio.all_tasks.__module__ != "failpoints._explore.loops.asyncio_order"


# The sets themselves


OPERATIONS: dict[str, Callable[[Any, list[int]], Any]] = {
    "add": lambda s, other: [s.add(element) for element in other],
    "discard": lambda s, other: [s.discard(element) for element in other],
    "remove": lambda s, other: [s.remove(element) for element in other if element in s],
    "clear": lambda s, other: s.clear(),
    "update": lambda s, other: s.update(other, other),
    "difference_update": lambda s, other: s.difference_update(other),
    "intersection_update": lambda s, other: s.intersection_update(other),
    "symmetric_difference_update": lambda s, other: s.symmetric_difference_update(other),
    "|=": lambda s, other: s.__ior__(set(other)),
    "-=": lambda s, other: s.__isub__(set(other)),
    "&=": lambda s, other: s.__iand__(set(other)),
    "^=": lambda s, other: s.__ixor__(set(other)),
    "copy": lambda s, other: s.copy(),
    "union": lambda s, other: s.union(other),
    "difference": lambda s, other: s.difference(other),
    "intersection": lambda s, other: s.intersection(other),
    "symmetric_difference": lambda s, other: s.symmetric_difference(other),
    "|": lambda s, other: s | set(other),
    "-": lambda s, other: s - set(other),
    "&": lambda s, other: s & set(other),
    "^": lambda s, other: s ^ set(other),
    "reflected |": lambda s, other: set(other) | s,
    "reflected -": lambda s, other: set(other) - s,
    "reflected &": lambda s, other: set(other) & s,
    "reflected ^": lambda s, other: set(other) ^ s,
    "with itself": lambda s, other: (s.update(s), s | s, s - s, s & s, s ^ s),
    "compared": lambda s, other: (s == set(other), s <= set(other), s.isdisjoint(other), len(s), bool(s)),
}


@given(st.lists(st.tuples(st.sampled_from(sorted(OPERATIONS)), st.lists(st.integers(0, 50), max_size=8))))
def test_an_ordered_set_is_a_set(steps: list[tuple[str, list[int]]]) -> None:
    """Each operation does what it does with a `set`, and what it makes is in order of insertion."""
    plain: set[int] = set()
    ordered = OrderedSet()
    for name, other in steps:
        before = list(ordered)
        expected, got = OPERATIONS[name](plain, other), OPERATIONS[name](ordered, other)
        assert got == expected
        assert ordered == plain
        assert len(ordered) == len(list(ordered)) == len(plain)
        if isinstance(expected, set):
            assert isinstance(got, OrderedSet)
            assert set(got) == expected
            first = before if not name.startswith("reflected") else list(set(other))
            assert [element for element in got if element in first] == [element for element in first if element in got]
        left = [element for element in before if element in ordered]
        if name != "clear":
            assert list(ordered)[: len(left)] == left


def test_more_of_an_ordered_set() -> None:
    """It pops its first element, can be copied and pickled, and refuses what a set refuses."""
    made = OrderedSet("cab")
    assert list(pickle.loads(pickle.dumps(made))) == list(copy.copy(made)) == list("cab")
    assert (made.pop(), list(made)) == ("c", ["a", "b"])
    with pytest.raises(KeyError):
        made.remove("c")
    with pytest.raises(KeyError, match="empty"):
        OrderedSet().pop()
    for operate in (made.__or__, made.__ror__, made.__sub__, made.__rsub__, made.__and__, made.__xor__, made.__rxor__):
        assert operate([1]) is NotImplemented  # type: ignore[arg-type]
    assert made.__rand__([1]) is NotImplemented  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        made |= [1]  # type: ignore[arg-type]


def test_an_ordered_weak_set() -> None:
    """It is in order, copies are too, and it does not keep its elements alive."""

    class Element:
        def __init__(self, name: str) -> None:
            self.name = name

    elements = [Element(name) for name in "cabd"]
    made = OrderedWeakSet(elements)
    del elements[1]
    gc.collect()
    assert [element.name for element in made] == [element.name for element in made.copy()] == list("cbd")
