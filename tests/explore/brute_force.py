"""Random programs, run in every order and in the reduced ones: both must end in the same states.

A program is data, and is interpreted as real async code: with the primitives of asyncio, of anyio or of trio. Its state
at the end has every value that a task has seen, so that two orders with a difference end differently.

    python -m tests.explore.brute_force --library trio --mode awaits --programs 1000 --seed 1
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import anyio
import anyio.lowlevel
import trio

from failpoints import failpoint
from failpoints._core.hooks import exploring
from failpoints._explore.runner import Runner
from failpoints.explore import Run, explore

Op: TypeAlias = tuple[Any, ...]
LIBRARIES = ("asyncio", "anyio", "trio", "anyio-on-trio")
MODES = ("visits", "awaits")
MOST_ORDERS = 1_000


@dataclass(frozen=True)
class Program:
    """Tasks, each a tuple of operations, with the names of the variables, locks and so on in them."""

    tasks: tuple[tuple[Op, ...], ...]
    library: str = "asyncio"
    mode: str = "visits"
    faults: int = 0

    @property
    def backend(self) -> Any:
        return "trio" if self.library.endswith("trio") else "asyncio"


# The primitives of the three libraries, under the same names.


class AsyncioPrimitives:
    """The primitives of asyncio."""

    lock, event, cancelled = asyncio.Lock, asyncio.Event, asyncio.CancelledError
    has_clear = True

    def semaphore(self) -> Any:
        return asyncio.Semaphore(1)

    def condition(self) -> Any:
        return asyncio.Condition()

    def queue(self, size: int) -> Any:
        return asyncio.Queue[int](size)

    async def put(self, queue: Any, value: int) -> None:
        await queue.put(value)

    async def get(self, queue: Any) -> int:
        return int(await queue.get())

    def put_nowait(self, queue: Any, value: int) -> object:
        try:
            queue.put_nowait(value)
        except asyncio.QueueFull:
            return "full"
        return "put"

    def get_nowait(self, queue: Any) -> object:
        try:
            return queue.get_nowait()
        except asyncio.QueueEmpty:
            return "empty"

    def size(self, queue: Any) -> object:
        return queue.qsize()

    def notify(self, condition: Any) -> None:
        condition.notify()

    async def checkpoint(self) -> None:
        await asyncio.sleep(0)

    async def sleep(self) -> None:
        await asyncio.sleep(1)

    async def together(self, *bodies: Callable[[], Awaitable[None]], register: Any = None) -> None:
        async with asyncio.TaskGroup() as group:
            for number, body in enumerate(bodies):
                task = group.create_task(body())  # type: ignore[arg-type]
                if register is not None:
                    register(number, task.cancel)

    async def within(self, body: Callable[[], Awaitable[None]]) -> bool:
        try:
            async with asyncio.timeout(1):
                await body()
        except TimeoutError:
            return True
        return False

    async def first(self, *bodies: Callable[[], Awaitable[None]]) -> object:
        tasks = [asyncio.create_task(body()) for body in bodies]  # type: ignore[arg-type, var-annotated]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return tuple(task.done() for task in tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def gather(self, *bodies: Callable[[], Awaitable[None]]) -> None:
        tasks = [asyncio.create_task(body()) for body in bodies]  # type: ignore[arg-type, var-annotated]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


class AnyioPrimitives(AsyncioPrimitives):
    """The primitives of anyio, on either backend."""

    lock, event = anyio.Lock, anyio.Event
    has_clear = False

    @property
    def cancelled(self) -> Any:  # type: ignore[override]
        return anyio.get_cancelled_exc_class()

    def semaphore(self) -> Any:
        return anyio.Semaphore(1)

    def condition(self) -> Any:
        return anyio.Condition()

    def queue(self, size: int) -> Any:
        return anyio.create_memory_object_stream[int](size or float("inf"))

    async def put(self, queue: Any, value: int) -> None:
        await queue[0].send(value)

    async def get(self, queue: Any) -> int:
        return int(await queue[1].receive())

    def put_nowait(self, queue: Any, value: int) -> object:
        try:
            queue[0].send_nowait(value)
        except anyio.WouldBlock:
            return "full"
        return "put"

    def get_nowait(self, queue: Any) -> object:
        try:
            return queue[1].receive_nowait()
        except anyio.WouldBlock:
            return "empty"

    def size(self, queue: Any) -> object:
        return queue[0].statistics().current_buffer_used

    async def checkpoint(self) -> None:
        await anyio.lowlevel.checkpoint()

    async def sleep(self) -> None:
        await anyio.sleep(1)

    async def together(self, *bodies: Callable[[], Awaitable[None]], register: Any = None) -> None:
        async def scoped(number: int, body: Callable[[], Awaitable[None]]) -> None:
            with scopes[number]:
                await body()

        scopes = [anyio.CancelScope() for _ in bodies]
        async with anyio.create_task_group() as group:
            for number, body in enumerate(bodies):
                if register is not None:
                    register(number, scopes[number].cancel)
                group.start_soon(scoped, number, body)

    async def within(self, body: Callable[[], Awaitable[None]]) -> bool:
        with anyio.move_on_after(1) as scope:
            await body()
        return scope.cancelled_caught

    async def first(self, *bodies: Callable[[], Awaitable[None]]) -> object:
        await self.together(*bodies)
        return None

    gather = together  # type: ignore[assignment]


class TrioPrimitives(AnyioPrimitives):
    """The primitives of trio."""

    lock, event, cancelled = trio.Lock, trio.Event, trio.Cancelled  # type: ignore[assignment]

    def semaphore(self) -> Any:
        return trio.Semaphore(1)

    def condition(self) -> Any:
        return trio.Condition()

    def queue(self, size: int) -> Any:
        return trio.open_memory_channel[int](size or float("inf"))

    def put_nowait(self, queue: Any, value: int) -> object:
        try:
            queue[0].send_nowait(value)
        except trio.WouldBlock:
            return "full"
        return "put"

    def get_nowait(self, queue: Any) -> object:
        try:
            return queue[1].receive_nowait()
        except trio.WouldBlock:
            return "empty"

    async def checkpoint(self) -> None:
        await trio.lowlevel.checkpoint()

    async def sleep(self) -> None:
        await trio.sleep(1)

    async def together(self, *bodies: Callable[[], Awaitable[None]], register: Any = None) -> None:
        async def scoped(number: int, body: Callable[[], Awaitable[None]]) -> None:
            with scopes[number]:
                await body()

        scopes = [trio.CancelScope() for _ in bodies]
        async with trio.open_nursery() as nursery:
            for number, body in enumerate(bodies):
                if register is not None:
                    register(number, scopes[number].cancel)
                nursery.start_soon(scoped, number, body)

    async def within(self, body: Callable[[], Awaitable[None]]) -> bool:
        with trio.move_on_after(1) as scope:
            await body()
        return scope.cancelled_caught

    gather = together  # type: ignore[assignment]


PRIMITIVES: dict[str, Any] = {
    "asyncio": AsyncioPrimitives,
    "anyio": AnyioPrimitives,
    "trio": TrioPrimitives,
    "anyio-on-trio": AnyioPrimitives,
}


class World:
    """One run of a program: its variables and primitives, and what each task has seen."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.primitives = PRIMITIVES[program.library]()
        self.memory: Counter[str] = Counter()
        self.things: dict[Any, Any] = {}
        self.logs: dict[tuple[int, ...], list[Any]] = {}
        self.cancels: dict[int, Callable[[], object]] = {}
        make = self.primitives
        for name in "LM":
            self.things[name] = make.lock()
        for name in "EF":
            self.things[name] = make.event()
        self.things.update(Q=make.queue(0), B=make.queue(1), S=make.semaphore(), C=make.condition())

    @property
    def state(self) -> Any:
        return tuple(sorted(self.memory.items())), tuple(sorted((who, tuple(log)) for who, log in self.logs.items()))

    def close(self) -> None:
        """Keep the streams of anyio from warning that they were never closed."""
        for queue in (self.things["Q"], self.things["B"]):
            if isinstance(queue, tuple):
                for end in queue:
                    end._closed = True

    def touch(self, name: str, mode: Any) -> None:
        execution: Any = exploring.get()
        if execution.steps is not None:
            execution.steps.touch(execution.loop.current_node(), name, mode)

    async def main(self) -> None:
        def register(number: int, cancel: Callable[[], object]) -> None:
            self.cancels[number] = cancel

        bodies = [Task(self, (number,), ops).run for number, ops in enumerate(self.program.tasks)]
        await self.primitives.together(*bodies, register=register)


class Task:
    """One task of a program, which interprets its operations."""

    def __init__(self, world: World, who: tuple[int, ...], ops: tuple[Op, ...]) -> None:
        self.world = world
        self.primitives = world.primitives
        self.who = who
        self.ops = ops
        self.last: Any = 0
        self.held: list[str] = []
        self.children = 0

    def log(self, what: Any) -> None:
        execution: Any = exploring.get()
        if execution.active:
            self.world.logs.setdefault(self.who, []).append(what)

    async def run(self) -> None:
        try:
            for op in self.ops:
                await self.perform(op)
            self.log("end")
        except self.primitives.cancelled:
            self.log("cancelled")
            raise
        except OSError:
            self.log("fault")
        finally:
            while self.held:
                self.world.things[self.held.pop()].release()

    async def perform(self, op: Op) -> None:
        world, things, kind = self.world, self.world.things, op[0]
        name = op[1] if len(op) > 1 else ""
        if kind == "visit":
            await failpoint("visit", raises=(OSError,))
        elif kind == "checkpoint":
            await self.primitives.checkpoint()
        elif kind == "sleep":
            await self.primitives.sleep()
        elif kind == "read":
            world.touch(name, "r")
            self.see(world.memory[name])
        elif kind == "write":
            world.touch(name, "w")
            world.memory[name] = (self.last if isinstance(self.last, int) else 7) * 2 + op[2]
        elif kind == "if":
            if self.last:
                for inner in op[1:]:
                    await self.perform(inner)
        elif kind == "acquire":
            if name not in self.held:
                await things[name].acquire()
                self.held.append(name)
        elif kind == "release":
            if self.held:
                things[self.held.pop()].release()
        elif kind == "locked":
            self.see(things[name].locked())
        elif kind == "set":
            things[name].set()
        elif kind == "clear":
            things[name].clear()
        elif kind == "is_set":
            self.see(things[name].is_set())
        elif kind == "wait":
            await things[name].wait()
        elif kind == "put":
            await self.primitives.put(things[name], op[2])
        elif kind == "get":
            self.see(await self.primitives.get(things[name]))
        elif kind == "put_nowait":
            self.see(self.primitives.put_nowait(things[name], op[2]))
        elif kind == "get_nowait":
            self.see(self.primitives.get_nowait(things[name]))
        elif kind == "size":
            self.see(self.primitives.size(things[name]))
        elif kind == "condition":
            async with things["C"]:
                if name == "wait":
                    await things["C"].wait()
                else:
                    self.primitives.notify(things["C"])
        elif kind == "cancel":
            if name in world.cancels:
                world.cancels[name]()
        elif kind == "raise":
            raise ValueError("on purpose")
        else:
            await self.nest(kind, op)

    async def nest(self, kind: str, op: Op) -> None:
        if kind == "timeout":

            async def body() -> None:
                for inner in op[1:]:
                    await self.perform(inner)

            self.see(await self.primitives.within(body))
            return
        bodies = [self.child(ops).run for ops in op[1:]]
        try:
            if kind == "group":
                await self.primitives.together(*bodies)
            elif kind == "gather":
                await self.primitives.gather(*bodies)
            else:
                self.see(await self.primitives.first(*bodies))
        except (ValueError, ExceptionGroup):
            self.log("error of a child")

    def child(self, ops: tuple[Op, ...]) -> Task:
        self.children += 1
        return Task(self.world, (*self.who, self.children), ops)

    def see(self, value: Any) -> None:
        self.last = value
        self.log(value)


# Random programs

_LOOKS = {"is_set", "clear", "locked", "size", "put_nowait", "get_nowait"}


def random_program(seed: int, library: str, mode: str) -> Program:
    rng = random.Random(f"{seed} {library} {mode}")
    native = library == "asyncio"
    kinds = ["locks", "events", "queues", "more", "groups", "cancel", "memory"]
    is_narrow = rng.random() < 0.6  # a few things, which are used again and again
    is_plain = is_narrow and rng.random() < 0.6  # and without a look at their state, which meets most other operations
    names = ["memory", *rng.sample(kinds, 1 if is_narrow else 2)]

    def leaf() -> Op:
        kind = rng.choice(names)
        if kind == "locks":
            return rng.choice(
                [("acquire", "L"), ("acquire", "L"), ("acquire", "M"), ("release",), ("release",), ("locked", "L")]
            )
        if kind == "events":
            event = rng.choice("E" if is_narrow else "EEF")
            return rng.choice([("set", event), ("set", event), ("wait", event), ("is_set", event),
                               ("clear", event) if native else ("set", event)])  # fmt: skip
        if kind == "queues":
            queue = rng.choice("QB" if not is_narrow else "QBB"[seed % 3])
            return rng.choice(
                [
                    ("put", queue, rng.randint(1, 9)),
                    ("put", queue, rng.randint(1, 9)),
                    ("get", queue),
                    ("get", queue),
                    ("put_nowait", queue, 5),
                    ("get_nowait", queue),
                    ("size", queue),
                ]
            )
        if kind == "more":
            return rng.choice(
                [
                    ("acquire", "S"),
                    ("acquire", "S"),
                    ("release",),
                    ("condition", "wait"),
                    ("condition", "notify"),
                    ("condition", "notify"),
                    ("checkpoint",),
                    ("sleep",),
                ]
            )
        variable = rng.choice("x" if is_narrow else "xy")
        return rng.choice([("read", variable), ("write", variable, rng.randint(1, 3)), ("write", variable, 1)])

    def op(depth: int) -> Op:
        chance = rng.random()
        if is_plain and chance > 0.6:
            found = leaf()
            while found[0] in _LOOKS:
                found = leaf()
            return found
        if chance < 0.45 if mode == "visits" else chance < 0.1:
            return ("visit",)
        if "cancel" in names and chance > 0.85:
            return rng.choice([("cancel", rng.randrange(3)), ("timeout", *ops(depth + 1, 2))])
        if "groups" in names and depth == 0 and chance > 0.7:
            kind = rng.choice(["group", "group", "gather", "first"] if native else ["group"])
            children = [ops(1, 2), ops(1, 2)]
            if rng.random() < 0.3:
                children[0] = (*children[0], ("raise",))
            return (kind, *children)
        if chance > 0.6 and depth < 2 and chance < 0.68:
            return ("if", leaf(), leaf())
        return leaf()

    def ops(depth: int, most: int) -> tuple[Op, ...]:
        return tuple(op(depth) for _ in range(rng.randint(1, most)))

    most = 4 if mode == "visits" else 3
    tasks = tuple(ops(0, most + is_plain) for _ in range(2 if is_plain else rng.choice((2, 2, 3))))
    return Program(tasks, library, mode, faults=int(rng.random() < 0.1))


# The check


@dataclass
class Result:
    """What the runs of a program ended in, and how many there were."""

    ends: dict[Any, int]
    runs: int
    cut_short: int
    is_complete: bool


def ends_of(program: Program, reduction: Any, most: int = MOST_ORDERS) -> Result:
    """Run a program in all orders, or in the reduced ones, and return all the states in which it ends."""
    worlds: list[World] = []
    ends: dict[Any, int] = {}

    async def scenario(run: Run) -> None:
        async with run.injecting():
            worlds.append(World(program))
            await worlds[-1].main()

    cut_short = 0
    run_once = Runner.run

    def run_and_keep(self: Runner, *args: Any, **kwargs: Any) -> Any:
        nonlocal cut_short
        outcome = run_once(self, *args, **kwargs)
        problem, world = outcome.problem, worlds.pop()
        world.close()
        if problem is not None and problem.kind == "asleep":
            cut_short += 1
            return outcome
        kind = "" if problem is None else problem.kind + type(problem.error).__name__
        end = (kind, len(outcome.execution.injected), world.state)
        ends[end] = ends.get(end, 0) + 1
        return replace(outcome, problem=None)

    Runner.run = run_and_keep  # type: ignore[method-assign]
    try:
        exploration = explore(
            scenario,
            backend=program.backend,
            interleavings=program.mode,  # type: ignore[arg-type]
            reduction=reduction,
            max_faults=program.faults,
            max_runs=most,
        )
    finally:
        Runner.run = run_once  # type: ignore[method-assign]
    return Result(ends, exploration.runs, cut_short, "max_runs" not in "".join(exploration.bounds))


@dataclass
class Totals:
    """The figures of many programs."""

    programs: int = 0
    skipped: int = 0
    orders: int = 0
    runs: int = 0
    cut_short: int = 0
    missed: int = 0

    def __str__(self) -> str:
        return (
            f"{self.programs} programs ({self.skipped} skipped, with too many orders): {self.orders} orders,"
            f" {self.runs} runs, {self.cut_short} cut short; missed in {self.missed}"
        )


def check(program: Program, totals: Totals, most: int = MOST_ORDERS) -> str:
    """Return what the reduced search of a program has missed, or ""."""
    every = ends_of(program, None, most)
    if not every.is_complete:
        totals.skipped += 1
        return ""
    try:
        reduced = ends_of(program, "declared", 10 * most)
    except Exception as error:
        totals.missed += 1
        return f"{type(error).__name__}: {error}"
    totals.programs += 1
    totals.orders += every.runs
    totals.runs += reduced.runs
    totals.cut_short += reduced.cut_short
    missed, added = every.ends.keys() - reduced.ends.keys(), reduced.ends.keys() - every.ends.keys()
    if not missed and not added:
        return ""
    totals.missed += 1
    lines = [f"{len(missed)} of {len(every.ends)} ends missed ({every.runs} orders, {reduced.runs} runs)"]
    lines += [f"  missed: {end}" for end in sorted(map(repr, missed))[:2]]
    lines += [f"  not among all: {end}" for end in sorted(map(repr, added))[:2]]
    return "\n".join(lines)


def shrink(program: Program, fails: Callable[[Program], bool]) -> Program:
    """Return the smallest program that still fails."""
    while True:
        for smaller in _smaller(program):
            if fails(smaller):
                program = smaller
                break
        else:
            return program


def _smaller(program: Program) -> Iterator[Program]:
    for index in range(len(program.tasks)):
        if len(program.tasks) > 2:
            yield replace(program, tasks=program.tasks[:index] + program.tasks[index + 1 :])
    for index, ops in enumerate(program.tasks):
        for fewer in _smaller_ops(ops):
            yield replace(program, tasks=(*program.tasks[:index], fewer, *program.tasks[index + 1 :]))
    if program.faults:
        yield replace(program, faults=0)


def _smaller_ops(ops: tuple[Op, ...]) -> Iterator[tuple[Op, ...]]:
    for index, op in enumerate(ops):
        before, after = ops[:index], ops[index + 1 :]
        yield before + after
        if op[0] in ("if", "timeout"):
            yield before + op[1:] + after
            for inner in _smaller_ops(op[1:]):
                yield (*before, (op[0], *inner), *after)
        if op[0] in ("group", "gather", "first"):
            for child in op[1:]:
                yield before + child + after
            for number in range(1, len(op)):
                for inner in _smaller_ops(op[number]):
                    yield (*before, (*op[:number], inner, *op[number + 1 :]), *after)


def is_missed(program: Program) -> bool:
    return bool(check(program, Totals(), 3_000))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--library", choices=LIBRARIES, action="append")
    parser.add_argument("--mode", choices=MODES, action="append")
    parser.add_argument("--programs", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most", type=int, default=MOST_ORDERS)
    parser.add_argument("--stop", type=int, default=5, help="the number of failing programs to show")
    given = parser.parse_args()
    for library in given.library or LIBRARIES:
        for mode in given.mode or MODES:
            totals, started = Totals(), time.perf_counter()
            for seed in range(given.seed, given.seed + given.programs):
                program = random_program(seed, library, mode)
                problem = check(program, totals, given.most)
                if problem:
                    small = shrink(program, is_missed)
                    print(f"--- seed {seed}: {problem}\n{small!r}\n{check(small, Totals(), 3_000)}", flush=True)
                    if totals.missed >= given.stop:
                        break
            print(f"{library}, {mode}: {totals}, {time.perf_counter() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
