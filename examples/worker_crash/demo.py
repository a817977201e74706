"""Carries out the same jobs in both versions, each with new databases, and shows the results side by side."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import anyio
from rich.console import Console
from rich.table import Table

from failpoints import format_actions, statuses
from failpoints.fleet import Fleet

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
    console = Console(highlight=False, markup=False, soft_wrap=True)
    preset = [f"{status.name}={format_actions(status.actions)}" for status in statuses()]
    if preset:
        console.print(f"Failpoints from FAILPOINTS, for all workers together: {';'.join(preset)}")
    else:
        console.print(f"One worker dies after it has charged: {'='.join(DEATH)}")
    books: dict[str, Books] = {}

    async def run(version: str) -> None:
        books[version] = await bill_all(version, folder / version, carry_out)

    async with anyio.create_task_group() as tasks:
        for version in VERSIONS:
            tasks.start_soon(run, version)

    first, second = (books[version] for version in VERSIONS)
    _show(console, {"first version": first, "with idempotency keys": second})
    for name in sorted(first.never_hit & second.never_hit):
        console.print(f"Failpoint {name} was never hit.")
    console.print(f"Another way to break it: {HINT}")
    as_expected = (first.verdict, second.verdict) == ("charged twice", "correct")
    return 0 if as_expected or preset else 1


def _show(console: Console, versions: dict[str, Books]) -> None:
    table = Table("", *versions)
    table.add_row("jobs", *(str(len(JOBS)) for _ in versions))
    table.add_row("finished", *(str(len(books.finished)) for books in versions.values()))
    table.add_row("attempts", *(str(books.attempts) for books in versions.values()))
    table.add_row("charges made", *(str(len(books.charges)) for books in versions.values()))
    charged = (sum(amount for _, amount in books.charges) for books in versions.values())
    table.add_row("charged in total", *(f"{cents / 100:.2f}" for cents in charged))
    table.add_row("owed in total", *(f"{books.owed / 100:.2f}" for books in versions.values()))
    table.add_row("verdict", *(books.verdict for books in versions.values()))
    console.print(table)
