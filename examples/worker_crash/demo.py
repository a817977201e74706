"""Carries out the same jobs in both versions, each with new databases, and shows the results side by side."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import anyio

from failpoints import statuses
from failpoints.fleet import Fleet

from .. import side_by_side
from .bank import Bank
from .billing import VERSIONS
from .jobs import Job

DEATH = ("job.bill:after", "1*exit(9)")
HINT = "FAILPOINTS='bank.charge:after=1*raise(TimeoutError)' python -m examples.worker_crash"
JOBS = [Job(1, 1250), Job(2, 800), Job(3, 2400)]

CarryOut = Callable[[str, Path, list[Job], Mapping[str, str]], Awaitable[tuple[list[int], int]]]


@dataclass(frozen=True)
class Books:
    """What there is after the last job: the finished orders, all attempts, and the charges, as order and cents."""

    finished: list[int]
    attempts: int
    charges: list[tuple[int, int]]
    never_hit: set[str]

    @property
    def owed(self) -> int:
        """The sum of all finished orders, in cents."""
        return sum(amount for order, amount in JOBS if order in self.finished)

    @property
    def verdict(self) -> str:
        """`correct`, or the worst thing that happened to an order."""
        charges = Counter(order for order, _ in self.charges)
        most = max(charges.values(), default=0)
        if most > 1:
            return "charged twice" if most == 2 else f"charged {most} times"
        if charges.keys() - set(self.finished):
            return "charged, but not finished"
        return "correct"


async def bill_all(version: str, folder: Path, carry_out: CarryOut) -> Books:
    """Carry out the jobs in one of the versions. Its workers are a fleet, and all databases are in *folder*."""
    await anyio.Path(folder).mkdir()
    bank = Bank(folder / "bank.sqlite")
    bank.create()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FAILPOINTS")}
    async with Fleet(folder / "fleet") as fleet:
        await fleet.configure_all([(each.name, each.actions, each.matchers) for each in statuses()] or [DEATH])
        finished, attempts = await carry_out(
            version, folder, JOBS, environment | {"FAILPOINTS_FLEET": str(folder / "fleet")}
        )
        never_hit = {status.name for status in await fleet.statuses() if not status.hits}
    return Books(finished, attempts, bank.charges(), never_hit)


async def run_demo(folder: Path, carry_out: CarryOut) -> int:
    """Carry out the jobs in both versions with the same failpoints, print the results, and return the exit status."""
    console, preset = side_by_side.new_console(), side_by_side.preset()
    if preset:
        console.print(f"Failpoints from FAILPOINTS, for all workers together: {preset}")
    else:
        console.print(f"One worker dies after it has charged: {'='.join(DEATH)}")
    books: dict[str, Books] = {}

    async def run(version: str) -> None:
        books[version] = await bill_all(version, folder / version, carry_out)

    async with anyio.create_task_group() as tasks:
        for version in VERSIONS:
            tasks.start_soon(run, version)

    first, second = (books[version] for version in VERSIONS)
    rows: dict[str, Callable[[Books], object]] = {
        "jobs": lambda books: len(JOBS),
        "finished": lambda books: len(books.finished),
        "attempts": lambda books: books.attempts,
        "charges made": lambda books: len(books.charges),
        "charged in total": lambda books: f"{sum(amount for _, amount in books.charges) / 100:.2f}",
        "owed in total": lambda books: f"{books.owed / 100:.2f}",
        "verdict": lambda books: books.verdict,
    }
    side_by_side.show(console, {"first version": first, "with idempotency keys": second}, rows)
    side_by_side.show_hints(console, first.never_hit & second.never_hit, HINT)
    return side_by_side.exit_status(first.verdict, second.verdict, is_preset=bool(preset))
