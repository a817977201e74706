"""Explore each program twice: as it was, until a run fails, and mended, to the end.

python -m examples.exploration
"""

from __future__ import annotations

from typing import Any

from examples.exploration import locks, settings, stock, transfer
from failpoints.explore import ExplorationFailed, explore

PROGRAMS: list[tuple[str, Any, dict[str, Any]]] = [
    ("a file that is written in place", settings, {}),
    ("a transfer of two writes", transfer, {"max_faults": 2}),
    ("a sale that is taken back", stock, {"interleavings": True, "max_faults": 1}),
    ("two locks in opposite order", locks, {"interleavings": True}),
]


def main() -> None:
    """Print what is found, and how many runs it took."""
    for title, program, given in PROGRAMS:
        print(f"== {title}\n")
        try:
            explore(program.first, **given)
        except ExplorationFailed as failed:
            print(failed)
        print(f"\nmended: {explore(program.second, **given)}\n")


if __name__ == "__main__":
    main()
