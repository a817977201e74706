"""Random programs, run in every order and in the reduced ones: both must end in the same states.

A program is data, and is interpreted as real async code: with the primitives of asyncio, of anyio or of trio. Its state
at the end has every value that a task has seen, so that two orders with a difference end differently.

    python -m tests.explore.brute_force --library trio --mode awaits --programs 1000 --seed 1
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from failpoints._explore.runner import Runner
from failpoints.explore import Run, explore

from .programs.generator import KINDS, OF_TASKS, random_program
from .programs.interpreter import Op, Program, World
from .programs.libraries import LIBRARIES

MODES = ("visits", "awaits")
REDUCTIONS = ("declared", "sound")
MOST_ORDERS = 1_000


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
            cancellations=program.cancellations,
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
    runs: Counter[str] = field(default_factory=Counter[str])  # by reduction
    cut_short: Counter[str] = field(default_factory=Counter[str])
    missed: int = 0

    def __str__(self) -> str:
        runs = ", ".join(
            f"{self.runs[each]} {each} runs, {self.cut_short[each]} of them cut short"
            f" ({self.cut_short[each] / max(self.runs[each], 1):.2%})"
            for each in REDUCTIONS
        )
        return (
            f"{self.programs} programs ({self.skipped} skipped, with too many orders): {self.orders} orders, {runs};"
            f" {self.missed} wrong"
        )


def check(program: Program, totals: Totals, most: int = MOST_ORDERS) -> str:
    """Return what the reduced searches of a program have missed, or ""."""
    every = ends_of(program, None, most)
    if not every.is_complete:
        totals.skipped += 1
        return ""
    totals.programs += 1
    totals.orders += every.runs
    reductions = ("sound",) if program.hides else REDUCTIONS
    problems = [problem for each in reductions if (problem := _compare(program, every, each, totals, most))]
    totals.missed += bool(problems)
    return "\n".join(problems)


def _compare(program: Program, every: Result, reduction: str, totals: Totals, most: int) -> str:
    try:
        reduced = ends_of(program, reduction, 10 * most)
    except Exception as error:
        return f"{reduction}: {type(error).__name__}: {error}"
    totals.runs[reduction] += reduced.runs
    totals.cut_short[reduction] += reduced.cut_short
    missed, added = every.ends.keys() - reduced.ends.keys(), reduced.ends.keys() - every.ends.keys()
    if not missed and not added:
        return ""
    lines = [f"{reduction}: {len(missed)} of {len(every.ends)} ends missed ({every.runs} orders, {reduced.runs} runs)"]
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
    if program.cancellations:
        yield replace(program, cancellations=False)
    if program.faults:
        yield replace(program, faults=0, cancellations=False)


def _smaller_ops(ops: tuple[Op, ...]) -> Iterator[tuple[Op, ...]]:
    for index, op in enumerate(ops):
        before, after = ops[:index], ops[index + 1 :]
        yield before + after
        first = next((number for number, each in enumerate(op) if isinstance(each, tuple)), len(op))
        start, inside = op[:first], op[first:]
        if op[0] in OF_TASKS:
            for number, child in enumerate(inside):
                yield before + child + after
                for inner in _smaller_ops(child):
                    yield (*before, (*start, *inside[:number], inner, *inside[number + 1 :]), *after)
        elif inside:
            yield before + inside + after
            for inner in _smaller_ops(inside):
                yield (*before, (*start, *inner), *after)


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
    parser.add_argument("--kind", choices=KINDS, action="append", help="the kind of operations that each program has")
    parser.add_argument("--in-turn", action="store_true", help="stop at the first failing program of any library")
    given = parser.parse_args()
    kinds = [(library, mode) for library in given.library or LIBRARIES for mode in given.mode or MODES]
    seeds = range(given.seed, given.seed + given.programs)
    if given.in_turn:
        for seed in seeds:
            for library, mode in kinds:
                problem = check(random_program(seed, library, mode, given.kind or ()), Totals(), given.most)
                if problem:
                    sys.exit(f"{library}, {mode}, seed {seed}: {problem}")
        return
    for library, mode in kinds:
        totals, started = Totals(), time.perf_counter()
        for seed in seeds:
            program = random_program(seed, library, mode, given.kind or ())
            problem = check(program, totals, given.most)
            if problem:
                small = shrink(program, is_missed)
                print(f"--- seed {seed}: {problem}\n{small!r}\n{check(small, Totals(), 3_000)}", flush=True)
                if totals.missed >= given.stop:
                    break
        print(f"{library}, {mode}: {totals}, {time.perf_counter() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
