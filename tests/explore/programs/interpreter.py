"""Runs a random program, which is data, as real async code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from failpoints import failpoint
from failpoints._core.hooks import exploring

from .libraries import PRIMITIVES, Cancels

Op: TypeAlias = tuple[Any, ...]


def texts_in(ops: tuple[Any, ...]) -> Iterator[str]:
    """Generate all texts in operations."""
    for each in ops:
        if isinstance(each, str):
            yield each
        elif isinstance(each, tuple):
            yield from texts_in(each)  # pyright: ignore[reportUnknownArgumentType]


@dataclass(frozen=True)
class Program:
    """Tasks, each a tuple of operations, with the names of the variables, locks and so on in them.

    *declares* is whether each step of a task is declared: to read something that only this task has.
    """

    tasks: tuple[tuple[Op, ...], ...]
    library: str = "asyncio"
    mode: str = "visits"
    faults: int = 0
    cancellations: bool = False
    declares: bool = False

    @property
    def hides(self) -> bool:
        """Whether a step uses a variable that it does not declare."""
        return "hidden" in set(texts_in(self.tasks))

    @property
    def backend(self) -> Any:
        return "trio" if self.library.endswith("trio") else "asyncio"


class OnPurpose(Exception):
    """An error that ends a task."""


class World:
    """One run of a program: its variables and primitives, and what each task has seen."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.primitives = PRIMITIVES[program.library]()
        self.memory: Counter[str] = Counter()
        self.things: dict[Any, Any] = {}
        self.logs: dict[tuple[int, ...], list[Any]] = {}
        self.cancels: Cancels = []
        used = set(texts_in(program.tasks))
        for name, make in self.primitives.makers.items():
            if name in used or name.lower() in used:
                self.things[name] = make()
            if name.lower() in used:  # a stream
                self.things[name.lower()] = tuple(end.clone() for end in self.things[name])

    @property
    def state(self) -> Any:
        return tuple(sorted(self.memory.items())), tuple(sorted((who, tuple(log)) for who, log in self.logs.items()))

    def close(self) -> None:
        """Keep the streams of anyio from warning that they were never closed."""
        for thing in self.things.values():
            if isinstance(thing, tuple):
                for end in thing:  # pyright: ignore[reportUnknownVariableType]
                    end._closed = True

    def touch(self, name: str, mode: Any) -> None:
        execution: Any = exploring.get()
        execution.touch(name, mode)

    async def main(self) -> None:
        bodies = [Task(self, (number,), ops, self.cancels).run for number, ops in enumerate(self.program.tasks)]
        try:
            await self.primitives.together(bodies, self.cancels)
        finally:
            await self.primitives.finish()


class Task:
    """One task of a program, which interprets its operations. Each has a method of its own."""

    def __init__(self, world: World, who: tuple[int, ...], ops: tuple[Op, ...], cancels: Cancels) -> None:
        self.world = world
        self.things = world.things
        self.primitives = world.primitives
        self.who = who
        self.ops = ops
        self.cancels = cancels  # of the tasks of its group
        self.last: Any = 0
        self.held: list[str] = []
        self.clones: list[Any] = []
        self.children = 0

    def log(self, what: Any) -> None:
        execution: Any = exploring.get()
        if execution.active:
            self.world.logs.setdefault(self.who, []).append(what)

    def see(self, value: Any) -> None:
        self.last = value
        self.log(value)

    async def run(self) -> None:
        try:
            self.declare()
            await self.perform_all(self.ops)
            self.log("end")
        except self.primitives.cancelled:
            self.log("cancelled")
            raise
        except OSError:
            self.log("fault")
        finally:
            self.declare()
            for clone in self.clones:
                clone._closed = True
            while self.held:
                self.things[self.held.pop()].release()

    async def perform(self, op: Op) -> None:
        try:
            await getattr(self, "_" + op[0])(*op[1:])
        except self.primitives.expected as error:
            self.log(type(error).__name__)
        except (OnPurpose, ExceptionGroup):
            if op[0] == "raise":
                raise
            self.log("error of another task")
        self.declare()

    def declare(self) -> None:
        if self.world.program.declares:
            self.world.touch(f"own {self.who}", "r")

    async def perform_all(self, ops: tuple[Op, ...]) -> None:
        for op in ops:
            await self.perform(op)

    # Visits and variables

    async def _visit(self) -> None:
        await failpoint("visit", raises=(OSError,))

    async def _read(self, name: str) -> None:
        self.world.touch(name, "r")
        self.see(self.world.memory[name])

    async def _write(self, name: str, value: int) -> None:
        self.world.touch(name, "w")
        self.assign(name, value)

    async def _add(self, name: str, value: int) -> None:
        self.world.touch(name, "u")
        self.world.memory[name] += value

    def assign(self, name: str, value: int) -> None:
        self.world.memory[name] = (self.last if isinstance(self.last, int) else 7) * 2 + value

    async def _visit_write(self, name: str, value: int, *between: Op) -> None:
        await failpoint("visit.write", writes=(name,))
        await self.perform_all(between)  # which must not suspend
        self.assign(name, value)

    async def _visit_read(self, name: str, *between: Op) -> None:
        await failpoint("visit.read", reads=(name,))
        await self.perform_all(between)
        self.see(self.world.memory[name])

    async def _hidden(self, value: int, *before: Op) -> None:
        """Use a variable in a step of which nothing is declared."""
        await failpoint("visit.hidden", raises=(OSError,))
        await self.perform_all(before)
        memory = self.world.memory
        memory["hidden"] = memory["hidden"] * 2 + value
        await failpoint("visit.hidden", raises=(OSError,))

    async def _region(self, *ops: Op) -> None:
        await region(self, ops)

    async def _if(self, *ops: Op) -> None:
        if self.last:
            await self.perform_all(ops)

    async def _raise(self) -> None:
        raise OnPurpose

    # Time

    async def _checkpoint(self) -> None:
        await self.primitives.checkpoint()

    async def _sleep(self, seconds: int = 1) -> None:
        await self.primitives.sleep(seconds)

    async def _timeout(self, *ops: Op) -> None:
        self.see(await self.primitives.within(lambda: self.perform_all(ops)))

    async def _deadline(self, *ops: Op) -> None:
        self.see(await self.primitives.before_deadline(self.child(ops).run))

    # Locks, semaphores, limiters and conditions

    async def _acquire(self, name: str) -> None:
        if name not in self.held:
            await self.things[name].acquire()
            self.held.append(name)

    async def _acquire_if_free(self, name: str) -> None:
        if not self.things[name].locked():
            await self._acquire(name)  # which does not suspend on asyncio

    async def _acquire_nowait(self, name: str) -> None:
        if name not in self.held:
            self.things[name].acquire_nowait()
            self.held.append(name)
            self.log("acquired")

    async def _release(self) -> None:
        if self.held:
            self.things[self.held.pop()].release()

    async def _release_more(self, name: str) -> None:
        self.things[name].release()

    async def _locked(self, name: str) -> None:
        self.see(self.things[name].locked())

    async def _tokens(self, name: str) -> None:
        self.see(self.primitives.tokens(self.things[name]))

    async def _resize(self, name: str, tokens: int) -> None:
        self.things[name].total_tokens = tokens

    async def _condition(self, what: str, *count: int) -> None:
        condition = self.things["C"]
        if "C" in self.held:
            await self._on_condition(what, *count)
            return
        async with condition:
            await self._on_condition(what, *count)

    async def _on_condition(self, what: str, *count: int) -> None:
        condition = self.things["C"]
        if what == "wait":
            await condition.wait()
        elif what == "notify":
            condition.notify(*count)
        else:
            condition.notify_all()

    async def _barrier(self) -> None:
        self.see(await self.things["P"].wait())

    async def _at_barrier(self, what: str) -> None:
        if what == "reset":
            await self.things["P"].reset()
        elif what == "abort":
            await self.things["P"].abort()
        else:
            self.see((self.things["P"].n_waiting, self.things["P"].broken))

    # Events and futures

    async def _set(self, name: str) -> None:
        self.things[name].set()

    async def _clear(self, name: str) -> None:
        self.things[name].clear()

    async def _is_set(self, name: str) -> None:
        self.see(self.things[name].is_set())

    async def _wait_if_set(self, name: str) -> None:
        if self.things[name].is_set():
            await self.things[name].wait()  # which does not suspend on asyncio

    async def _wait(self, name: str) -> None:
        await self.things[name].wait()

    async def _future(self, what: str, value: int = 0) -> None:
        future = self.things["U"]
        if what == "wait":
            self.see(await future)
        elif what == "set":
            future.set_result(value)
        elif what == "cancel":
            future.cancel()
        else:
            self.see(future.done() and not future.cancelled() and future.result())

    # Queues and streams

    async def _put(self, name: str, value: int) -> None:
        await self.primitives.put(self.things[name], value)

    async def _get(self, name: str) -> None:
        self.see(await self.primitives.get(self.things[name]))

    async def _put_nowait(self, name: str, value: int) -> None:
        self.see("full")
        self.primitives.put_nowait(self.things[name], value)
        self.see("put")

    async def _get_nowait(self, name: str) -> None:
        self.see("empty")
        self.see(self.primitives.get_nowait(self.things[name]))

    async def _size(self, name: str) -> None:
        self.see(self.primitives.size(self.things[name]))

    async def _task_done(self, name: str) -> None:
        self.things[name].task_done()

    async def _join(self, name: str) -> None:
        await self.things[name].join()

    async def _shutdown(self, name: str) -> None:
        self.things[name].shutdown()

    async def _close(self, name: str, end: int) -> None:
        self.things[name][end].close()

    async def _clone(self, name: str, end: int) -> None:
        self.clones.append(self.things[name][end].clone())

    async def _close_clone(self) -> None:
        if self.clones:
            self.clones.pop().close()

    # Tasks

    async def _cancel(self, number: int) -> None:
        self._cancel_one(self.world.cancels, number)

    async def _cancel_sibling(self, number: int) -> None:
        self._cancel_one(self.cancels, number)

    def _cancel_one(self, cancels: Cancels, number: int) -> None:
        if -len(cancels) <= number < len(cancels):
            cancels[number]()

    async def _await(self, number: int) -> None:
        if self.who != (number,):
            await self.primitives.task_of(self.world.cancels[number])

    async def _is_done(self, number: int) -> None:
        self.see(self.primitives.task_of(self.world.cancels[number]).done())

    def child(self, ops: tuple[Op, ...], cancels: Cancels | None = None) -> Task:
        self.children += 1
        return Task(self.world, (*self.who, self.children), ops, [] if cancels is None else cancels)

    async def _group(self, *children: tuple[Op, ...]) -> None:
        cancels: Cancels = []
        await self.primitives.together([self.child(ops, cancels).run for ops in children], cancels)

    async def _start(self, *children: tuple[Op, ...]) -> None:
        cancels: Cancels = []
        bodies = [self.child(ops, cancels).run for ops in children]
        await self.primitives.together(bodies, cancels, is_started=True)

    async def _shield(self, *ops: Op) -> None:
        await self.primitives.shielded(self.child(ops).run)

    async def _gather(self, *children: tuple[Op, ...]) -> None:
        await self.primitives.gather([self.child(ops).run for ops in children])

    async def _first(self, *children: tuple[Op, ...]) -> None:
        await self._wait_for("FIRST_COMPLETED", None, *children)

    async def _wait_for(self, return_when: str, timeout: int | None, *children: tuple[Op, ...]) -> None:
        self.see(await self.primitives.wait([self.child(ops).run for ops in children], return_when, timeout))

    async def _as_completed(self, *children: tuple[Op, ...]) -> None:
        self.see(await self.primitives.as_completed([self.child(ops).run for ops in children]))


@failpoint("region", writes=("x",))
async def region(task: Task, ops: tuple[Op, ...]) -> None:
    """Every step in here is declared to write x."""
    task.assign("x", 1)
    await task.perform_all(ops)
    task.see(task.world.memory["x"])
