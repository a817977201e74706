"""Random programs of visits and one lock: `explore` runs exactly the orders that a model of them predicts."""

from __future__ import annotations

from typing import Any

import anyio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from failpoints import failpoint
from failpoints.explore import Run, explore

# A task is a list of parts: 0 is a visit without the lock, n is n visits while it holds the lock.
TASKS = st.lists(st.lists(st.integers(0, 2), max_size=2), min_size=1, max_size=3)
MOST_ORDERS = 400


def steps(task: list[int]) -> list[str]:
    """Return the steps of a task."""
    return [
        step for section in task for step in (["visit"] if not section else ["lock", *["visit"] * section, "unlock"])
    ]


class Model:
    """The state between two turns: the position of each task, the owner of the lock, and its queue."""

    def __init__(self, programs: list[list[str]]) -> None:
        self.programs = programs
        self.at = [0] * len(programs)
        self.owner: int | None = None
        self.queue: list[int] = []
        for task in range(len(programs)):
            self.run(task)

    def copy(self) -> Model:
        other = Model([])
        other.programs, other.at = self.programs, list(self.at)
        other.owner, other.queue = self.owner, list(self.queue)
        return other

    def run(self, task: int) -> None:
        """Run a task until its next visit, its end, or a lock that another task has."""
        program = self.programs[task]
        woken: list[int] = []
        while self.at[task] < len(program) and program[self.at[task]] != "visit":
            if program[self.at[task]] == "unlock":
                self.owner = self.queue.pop(0) if self.queue else None
                if self.owner is not None:
                    woken.append(self.owner)
            elif self.owner is None:
                self.owner = task
            elif self.owner != task:
                self.queue.append(task)
                break
            self.at[task] += 1
        for other in woken:
            self.at[other] += 1
            self.run(other)

    def at_visits(self) -> list[int]:
        return [
            task
            for task, program in enumerate(self.programs)
            if self.at[task] < len(program) and program[self.at[task]] == "visit"
        ]


def orders_of_model(model: Model, so_far: str = "") -> list[str]:
    options = model.at_visits()
    if not options:
        return [so_far]
    orders: list[str] = []
    for task in options:
        after = model.copy()
        after.at[task] += 1
        after.run(task)
        orders += orders_of_model(after, so_far + "abc"[task])
    return orders


@given(TASKS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_orders_are_those_of_the_model(backend: Any, tasks: list[list[int]]) -> None:
    """No order is missing, none is added, and none comes twice."""
    programs = [steps(task) for task in tasks]
    expected = orders_of_model(Model(programs))
    seen: list[str] = []

    async def scenario(run: Run) -> None:
        seen.append("")
        lock = anyio.Lock()

        async def follow(name: str, program: list[str]) -> None:
            for step in program:
                if step == "lock":
                    await lock.acquire()
                elif step == "unlock":
                    lock.release()
                else:
                    await failpoint("visit")
                    seen[-1] += name

        async with run.injecting(), anyio.create_task_group() as group:
            for name, program in zip("abc", programs, strict=False):
                group.start_soon(follow, name, program)

    exploration = explore(scenario, backend=backend, interleavings=True, max_runs=MOST_ORDERS)
    assert len(seen) == len(set(seen)) == exploration.runs == min(len(expected), MOST_ORDERS)
    assert set(seen) <= set(expected)
    assert exploration.exhaustive == (len(expected) <= MOST_ORDERS)
