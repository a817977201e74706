"""Random programs of threads: run by real threads under `explore`, and by a model that tries all orders.

The model knows nothing of the package. It is a machine whose instructions are the operations of the primitives.

    python -m tests.explore.threads_model --programs 1000 --seed 1
"""

from __future__ import annotations

import argparse
import queue
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from failpoints import failpoint
from failpoints._explore.runner import Runner
from failpoints.explore import Run, explore

Op = tuple[Any, ...]
Program = tuple[tuple[Op, ...], ...]  # the operations of each thread
REDUCTIONS = ("declared", "sound")

LOCKS, RLOCKS, EVENTS, CONDITIONS, SEMAPHORES = ("L", "M"), ("R",), ("E", "F"), ("C",), ("S",)
QUEUES, SIMPLE = ("Q",), ("P",)  # Q has room for one item
KINDS = ("locks", "tries", "events", "timeouts", "conditions", "queues", "simple", "semaphores", "none")
TIMED = ("sleeps", "timeouts", "timed locks", "timed queues", "timed semaphores", "timed conditions", "joins")


def random_program(seed: int) -> Program:
    """Return a program of two or three threads, with a few kinds of operations."""
    random = Random(seed)
    kinds = random.sample(KINDS, 2) if seed % 2 else ["sleeps", random.choice(TIMED), random.choice(KINDS)]
    threads = random.choice((2, 2, 3))
    return tuple(tuple(_ops(random, kinds, random.randint(1, 5 - threads), 1)) for _ in range(threads))


def _ops(random: Random, kinds: list[str], count: int, depth: int) -> Iterator[Op]:
    for _ in range(count):
        yield _op(random, kinds, depth)


def _op(random: Random, kinds: list[str], depth: int) -> Op:
    inner = tuple(_ops(random, kinds, random.randint(0, 2), depth - 1)) if depth else ()
    choices: list[Op] = [("read", "x"), ("write", "x"), ("write", random.choice("xy"))]
    for kind in kinds:
        if kind == "locks":
            choices += [("with", random.choice(LOCKS + RLOCKS), inner)] * 3
        elif kind == "tries":
            choices += [("try", random.choice(LOCKS), inner), ("locked", "L"), ("with", "L", inner)]
        elif kind == "events":
            event = random.choice(EVENTS)
            choices += [("set", event), ("set", event), ("clear", event), ("wait", event), ("is_set", event)]
        elif kind == "timeouts":
            choices += [("wait in time", "E", random.choice((1, 2))), ("set", "E"), ("sleep", random.choice((1, 2)))]
        elif kind == "sleeps":
            choices += [("sleep", random.choice((1, 1, 2))), ("sleep", 1), ("now", "")]
        elif kind == "timed locks":
            choices += [("take in time", "L", random.choice((1, 2)), inner), ("with", "L", (("sleep", 1), *inner))]
        elif kind == "timed queues":
            choices += [("get in time", "Q", 1), ("put in time", "Q", 1), ("put", "Q"), ("get in time", "P", 1)]
        elif kind == "timed semaphores":
            choices += [("down in time", "S", 1, inner), ("with", "S", (("sleep", 1), *inner)), ("more", "S")]
        elif kind == "timed conditions":
            choices += [("await in time", "C", 1), ("notify", "C", 1), ("notify and sleep", "C", 1)]
        elif kind == "joins":
            choices += [("join in time", "", random.choice((1, 2))), ("is_alive", "")]
        elif kind == "conditions":
            choices += [("await", "C"), ("notify", "C", random.choice((1, 1, 2))), ("await in time", "C", 1)]
        elif kind == "queues":
            choices += [("put", "Q"), ("put", "Q"), ("get", "Q"), ("get at once", "Q"), ("size", "Q")]
        elif kind == "simple":
            choices += [("put", "P"), ("put", "P"), ("get", "P"), ("get at once", "P")]
        elif kind == "semaphores":
            choices += [("with", "S", inner), ("with", "S", inner), ("more", "S")]
    return random.choice(choices)


# Run by threads


class World:
    """The objects of one run, and what its threads have seen."""

    def __init__(self, program: Program, *, declares: bool) -> None:
        self._program = program
        self._declares = declares
        self.variables = {"x": 0, "y": 0}
        self.logs: list[list[Any]] = [[] for _ in program]
        self.threads = [
            threading.Thread(target=self._run, args=(number, ops)) for number, ops in enumerate(self._program)
        ]
        self._began = time.monotonic()
        self._things: dict[str, Any] = {
            **{name: threading.Lock() for name in LOCKS},
            **{name: threading.RLock() for name in RLOCKS},
            **{name: threading.Event() for name in EVENTS},
            **{name: threading.Condition() for name in CONDITIONS},
            **{name: threading.Semaphore(1) for name in SEMAPHORES},
            **{name: queue.Queue[Any](1) for name in QUEUES},
            **{name: queue.SimpleQueue[Any]() for name in SIMPLE},
        }

    @property
    def state(self) -> Any:
        return tuple(map(tuple, self.logs)), tuple(self.variables.values())

    def _run(self, number: int, ops: tuple[Op, ...]) -> None:
        for op in ops:
            self._do(number, op)

    def _do(self, number: int, op: Op) -> None:
        thing, log = self._things.get(op[1]), self.logs[number]
        match op:
            case ("read", name):
                self._visit("read", name, reads=(name,))
                log.append(self.variables[name])
            case ("write", name):
                self._visit("write", name, writes=(name,))
                self.variables[name] = 10 * self.variables[name] + number + 1
            case ("with", _, inner):
                with thing:
                    self._run(number, inner)
            case ("try", _, inner):
                is_taken = thing.acquire(blocking=False)
                log.append(is_taken)
                if is_taken:
                    self._run(number, inner)
                    thing.release()
            case ("locked", _):
                log.append(thing.locked())
            case ("set", _):
                thing.set()
            case ("clear", _):
                thing.clear()
            case ("wait", _):
                log.append(thing.wait())
            case ("is_set", _):
                log.append(thing.is_set())
            case ("wait in time", _, seconds):
                log.append(thing.wait(seconds))
            case ("sleep", seconds):
                time.sleep(seconds)
            case ("now", _):
                log.append(round(time.monotonic() - self._began))
            case ("take in time" | "down in time", _, seconds, inner):
                is_taken = thing.acquire(timeout=seconds)
                log.append(is_taken)
                if is_taken:
                    self._run(number, inner)
                    thing.release()
            case ("get in time", _, seconds):
                try:
                    log.append(thing.get(timeout=seconds))
                except queue.Empty:
                    log.append(None)
            case ("put in time", _, seconds):
                try:
                    thing.put(number, timeout=seconds)
                except queue.Full:
                    log.append(None)
            case ("join in time", _, seconds):
                self.threads[number - 1].join(seconds)
            case ("is_alive", _):
                log.append(self.threads[number - 1].is_alive())
            case ("notify and sleep", _, seconds):
                with thing:
                    thing.notify()
                    time.sleep(seconds)
            case ("await", _):
                with thing:
                    log.append(thing.wait())
            case ("await in time", _, seconds):
                with thing:
                    log.append(thing.wait(seconds))
            case ("notify", _, count):
                with thing:
                    thing.notify(count)
            case ("put", _):
                thing.put(number)
            case ("get", _):
                log.append(thing.get())
            case ("get at once", _):
                try:
                    log.append(thing.get_nowait())
                except queue.Empty:
                    log.append(None)
            case ("size", _):
                log.append(thing.qsize())
            case ("more", _):
                thing.release()
            case _:
                raise AssertionError(op)

    def _visit(self, what: str, name: str, **declared: Any) -> None:
        failpoint(f"{what}.{name}", **(declared if self._declares else {})).hit()


@dataclass
class Result:
    """The states in which the runs of a program ended, and how many there were."""

    ends: set[Any]
    runs: int
    cut_short: int


def ends_of(program: Program, reduction: Any, most: int = 3_000) -> Result | None:
    """Run a program in the orders of a reduction. Return `None` if there are too many."""
    worlds: list[World] = []
    ends: set[Any] = set()

    def scenario(run: Run) -> None:
        worlds.append(World(program, declares=reduction == "declared"))
        threads = worlds[-1].threads
        for thread in threads:
            thread.start()
        with run.injecting():
            for thread in threads:
                thread.join()

    cut_short = 0
    run_once = Runner.run

    def run_and_keep(self: Runner, *args: Any, **kwargs: Any) -> Any:
        nonlocal cut_short
        outcome = run_once(self, *args, **kwargs)
        problem, world = outcome.problem, worlds.pop()
        if problem is not None and problem.kind == "asleep":
            cut_short += 1
            return outcome
        if problem is not None and problem.kind != "deadlock":
            return outcome
        ends.add(("" if problem is None else problem.kind, *world.state))
        return replace(outcome, problem=None)

    Runner.run = run_and_keep  # type: ignore[method-assign]
    try:
        exploration = explore(scenario, interleavings=True, reduction=reduction, max_runs=most)
    finally:
        Runner.run = run_once  # type: ignore[method-assign]
    if "max_runs" in "".join(exploration.bounds):
        return None
    assert exploration.exhaustive, str(exploration)
    return Result(ends, exploration.runs, cut_short)


# The model

OPEN = ("read", "write", "now", "sleep")  # what a thread goes on after, without a point


def _compiled(number: int, ops: tuple[Op, ...], code: list[Op]) -> list[Op]:
    for op in ops:
        kind = op[0]
        if kind == "with" and op[1] in RLOCKS:
            code.append(("enter", op[1]))
            _compiled(number, op[2], code)
            code.append(("leave", op[1]))
        elif kind == "with":
            code.append(("down" if op[1] in SEMAPHORES else "acquire", op[1]))
            _compiled(number, op[2], code)
            code.append(("up" if op[1] in SEMAPHORES else "release", op[1]))
        elif kind == "try":
            inner = _compiled(number, op[2], [])
            code.append(("try", op[1], len(inner) + 1))
            code.extend(inner)
            code.append(("release", op[1]))
        elif kind in ("take in time", "down in time"):
            inner = _compiled(number, op[3], [])
            code.append((kind, op[1], op[2], len(inner) + 1))
            code.extend(inner)
            code.append(("up" if op[1] in SEMAPHORES else "release", op[1]))
        elif kind == "notify and sleep":
            code += [("acquire", "C"), ("notify", "C", 1), ("sleep", op[2]), ("release", "C")]
        elif kind in ("await", "await in time"):
            seconds = op[2] if len(op) > 2 else None
            code += [("acquire", "C"), ("begin to wait", "C", seconds), ("wake", "C"), ("release", "C")]
        elif kind == "notify":
            code += [("acquire", "C"), op, ("release", "C")]
        elif kind == "more":
            code.append(("up", op[1]))
        else:
            code.append(op)
    return code


@dataclass(frozen=True)
class _State:
    """A state of the machine. `held` has the owners of locks and their depths, and `waiters` those of the condition."""

    at: tuple[int, ...]
    logs: tuple[tuple[Any, ...], ...]
    variables: tuple[tuple[str, int], ...] = (("x", 0), ("y", 0))
    held: tuple[tuple[str, tuple[int, int]], ...] = ()
    set_events: frozenset[str] = frozenset()
    queues: tuple[tuple[str, tuple[int, ...]], ...] = (("P", ()), ("Q", ()))
    tokens: int = 1
    waiters: tuple[int, ...] = ()
    notified: frozenset[int] = frozenset()
    now: int = 0
    deadlines: tuple[tuple[int, int], ...] = ()
    late: frozenset[int] = frozenset()  # threads whose time is up
    ended: frozenset[int] = frozenset()


def ends_of_model(program: Program) -> set[Any]:
    """Return the states in which a program ends, in any order of its operations."""
    codes = [[*_compiled(number, ops, []), ("end", "")] for number, ops in enumerate(program)]
    first = _State((0,) * len(codes), ((),) * len(codes))
    known, todo, ends = {first}, [first], set[Any]()
    while todo:
        state = todo.pop()
        following = [
            found
            for number, code in enumerate(codes)
            if state.at[number] < len(code)
            for found in _turns(state, number, code)
        ]
        is_over = all(at == len(code) for at, code in zip(state.at, codes, strict=True))
        if not following and not is_over:
            following = _pass_time(state)
        if not following:
            ends.add(("" if is_over else "deadlock", state.logs, tuple(dict(state.variables).values())))
        for each in following:
            if each not in known:
                known.add(each)
                todo.append(each)
    return ends


def _turns(state: _State, number: int, code: list[Op]) -> Iterator[_State]:
    """Generate what follows if a thread goes on. There is no point after a visit, nor before the end."""
    op = code[state.at[number]]
    for found in _step(state, number, op):
        is_done = found.at[number] > state.at[number]
        if is_done and op[0] in OPEN and code[found.at[number]][0] in ("now", "end"):
            yield from _turns(found, number, code)
        else:
            yield found


def _pass_time(state: _State) -> list[_State]:
    waiting = [(deadline, number) for number, deadline in state.deadlines if number not in state.late]
    if not waiting:
        return []
    now = min(waiting)[0]
    late = frozenset(number for deadline, number in waiting if deadline <= now)
    return [replace(state, now=now, late=state.late | late)]


def _step(state: _State, number: int, op: Op) -> Iterator[_State]:
    held, events = dict(state.held), state.set_events

    def go_on(*seen: Any, by: int = 1, **changes: Any) -> _State:
        at, logs = list(state.at), list(state.logs)
        at[number] += by
        logs[number] += seen
        deadlines = tuple(each for each in state.deadlines if each[0] != number)
        plain = {"deadlines": deadlines, "late": state.late - {number}}
        return replace(state, at=tuple(at), logs=tuple(logs), **{**plain, **changes})

    def now_held(name: str, owner: tuple[int, int] | None) -> tuple[tuple[str, tuple[int, int]], ...]:
        others = {other: by for other, by in held.items() if other != name}
        return tuple(sorted(({**others, name: owner} if owner else others).items()))

    def timed(seconds: int, *late: Any, by: int = 1) -> Iterator[_State]:
        if number in state.late:
            yield go_on(*late, by=by)
        elif number not in dict(state.deadlines):
            deadlines = tuple(sorted((*state.deadlines, (number, state.now + seconds))))
            yield replace(state, deadlines=deadlines)

    match op:
        case ("read", name):
            yield go_on(dict(state.variables)[name])
        case ("write", name):
            values = dict(state.variables)
            values[name] = 10 * values[name] + number + 1
            yield go_on(variables=tuple(values.items()))
        case ("acquire", name):
            if name not in held:
                yield go_on(held=now_held(name, (number, 1)))
        case ("release", name):
            yield go_on(held=now_held(name, None))
        case ("enter", name):
            owner, depth = held.get(name, (number, 0))
            if owner == number:
                yield go_on(held=now_held(name, (number, depth + 1)))
        case ("leave", name):
            depth = held[name][1] - 1
            yield go_on(held=now_held(name, (number, depth) if depth else None))
        case ("try", name, length):
            if name in held:
                yield go_on(False, by=length + 1)
            else:
                yield go_on(True, held=now_held(name, (number, 1)))
        case ("locked", name):
            yield go_on(name in held)
        case ("down", _):
            if state.tokens:
                yield go_on(tokens=state.tokens - 1)
        case ("up", _):
            yield go_on(tokens=state.tokens + 1)
        case ("set", name):
            yield go_on(set_events=events | {name})
        case ("clear", name):
            yield go_on(set_events=events - {name})
        case ("is_set", name):
            yield go_on(name in events)
        case ("wait", name):
            if name in events:
                yield go_on(True)
        case ("wait in time", name, seconds):
            if name in events:
                yield go_on(True)
            else:
                yield from timed(seconds, False)
        case ("sleep", seconds):
            yield from timed(seconds)
        case ("now", _):
            yield go_on(state.now)
        case ("end", _):
            yield go_on(ended=state.ended | {number})
        case ("is_alive", _):
            yield go_on((number - 1) % len(state.at) not in state.ended)
        case ("join in time", _, seconds):
            if (number - 1) % len(state.at) in state.ended:
                yield go_on()
            else:
                yield from timed(seconds)
        case ("take in time", name, seconds, length):
            if name not in held:
                yield go_on(True, held=now_held(name, (number, 1)))
            else:
                yield from timed(seconds, False, by=length + 1)
        case ("down in time", _, seconds, length):
            if state.tokens:
                yield go_on(True, tokens=state.tokens - 1)
            else:
                yield from timed(seconds, False, by=length + 1)
        case ("get in time", name, seconds):
            items = dict(state.queues)
            if items[name]:
                yield go_on(items[name][0], queues=tuple(sorted({**items, name: items[name][1:]}.items())))
            else:
                yield from timed(seconds, None)
        case ("put in time", name, seconds):
            items = dict(state.queues)
            if not items[name]:
                yield go_on(queues=tuple(sorted({**items, name: (number,)}.items())))
            else:
                yield from timed(seconds, None)
        case ("begin to wait", name, seconds):
            changes: dict[str, Any] = {"waiters": (*state.waiters, number), "held": now_held(name, None)}
            if seconds is not None:
                changes["deadlines"] = tuple(sorted((*state.deadlines, (number, state.now + seconds))))
            yield go_on(**changes)
        case ("wake", name):
            if number in state.late and number in state.waiters:  # it leaves the queue, and then takes the lock
                yield replace(state, waiters=tuple(each for each in state.waiters if each != number))
            elif name not in held and (number in state.notified or number in state.late):
                is_notified = number in state.notified
                yield go_on(is_notified, held=now_held(name, (number, 1)), notified=state.notified - {number})
        case ("notify", _, count):
            woken, waiters = state.waiters[:count], state.waiters[count:]
            yield go_on(waiters=waiters, notified=state.notified | frozenset(woken))
        case ("put", name):
            items = dict(state.queues)
            if name == "P" or not items[name]:
                yield go_on(queues=tuple(sorted({**items, name: (*items[name], number)}.items())))
        case ("get", name):
            items = dict(state.queues)
            if items[name]:
                yield go_on(items[name][0], queues=tuple(sorted({**items, name: items[name][1:]}.items())))
        case ("get at once", name):
            items = dict(state.queues)
            if items[name]:
                yield go_on(items[name][0], queues=tuple(sorted({**items, name: items[name][1:]}.items())))
            else:
                yield go_on(None)
        case ("size", name):
            yield go_on(len(dict(state.queues)[name]))
        case _:
            raise AssertionError(op)


# Comparing


@dataclass
class Totals:
    """The figures of many programs."""

    programs: int = 0
    skipped: int = 0
    ends: int = 0
    runs: int = 0
    cut_short: int = 0
    wrong: int = 0


def check(program: Program, totals: Totals, most: int = 3_000) -> str:
    """Return what the reduced searches of a program have missed or invented, or ""."""
    expected = ends_of_model(program)
    problems: list[str] = []
    for reduction in REDUCTIONS:
        try:
            result = ends_of(program, reduction, most)
        except AssertionError as error:
            problems.append(f"{reduction}: {error}")
            continue
        if result is None:
            totals.skipped += 1
            continue
        totals.runs += result.runs
        totals.cut_short += result.cut_short
        missed, added = expected - result.ends, result.ends - expected
        if missed or added:
            lines = [
                f"{reduction}: {len(missed)} of {len(expected)} ends missed, {len(added)} added, {result.runs} runs"
            ]
            lines += [f"  missed: {end}" for end in sorted(map(repr, missed))[:2]]
            lines += [f"  added: {end}" for end in sorted(map(repr, added))[:2]]
            problems.append("\n".join(lines))
    totals.programs += 1
    totals.ends += len(expected)
    totals.wrong += bool(problems)
    return "\n".join(problems)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most", type=int, default=3_000)
    parser.add_argument("--stop", type=int, default=5, help="the number of failing programs to show")
    given = parser.parse_args()
    totals = Totals()
    for seed in range(given.seed, given.seed + given.programs):
        program = random_program(seed)
        problem = check(program, totals, given.most)
        if problem:
            print(f"seed {seed}: {program!r}\n{problem}")
        if totals.wrong >= given.stop:
            break
    print(totals)
    sys.exit(bool(totals.wrong))


if __name__ == "__main__":
    main()
