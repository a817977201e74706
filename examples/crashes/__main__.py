"""Explore each version of the store: those that lose data until a crash breaks them, and the fixed one to the end.

python -m examples.crashes
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from examples.crashes.stores import Appending, Durable, Overwriting, Renaming, Syncing
from failpoints.explore import CrashExploration, ExplorationFailed, acknowledge, explore_crashes

LOSING: list[type[Overwriting]] = [Overwriting, Renaming, Syncing, Appending]


def act(folder: Path, store_class: type[Overwriting]) -> None:
    """Count, and acknowledge each value."""
    store = store_class(folder)
    for _ in range(3):
        acknowledge(store.count("visits"))


def check(folder: Path, acknowledged: list[int], store_class: type[Overwriting]) -> None:
    """Open the store again. It has what was acknowledged, or one more."""
    last = acknowledged[-1] if acknowledged else 0
    value = store_class(folder).counters.get("visits", 0)
    assert value in (last, last + 1), f"{last} was acknowledged, and the store has {value}"


def explore_store(store_class: type[Overwriting], depth: int = 1) -> CrashExploration:
    """Check every folder that a crash can leave."""
    return explore_crashes(partial(act, store_class=store_class), partial(check, store_class=store_class), depth=depth)


def main() -> None:
    """Print the first failure of each version that loses data, and the verdict on the fixed one."""
    for store_class in LOSING:
        print(f"== {store_class.__name__}: {store_class.__doc__}\n")
        try:
            explore_store(store_class)
        except ExplorationFailed as failed:
            print(f"{failed}\n")
    print(f"== {Durable.__name__}: {Durable.__doc__}\n\n{explore_store(Durable)}")


if __name__ == "__main__":
    main()
