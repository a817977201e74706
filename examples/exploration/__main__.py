"""Explore each program twice: the version with the bug, until a run fails, and the fixed one, to the end.

python -m examples.exploration
"""

from __future__ import annotations

from typing import Any

from examples.exploration import locks, pool, settings, stock, threads, transfer
from failpoints.explore import ExplorationFailed, explore

PROGRAMS: list[tuple[str, Any, dict[str, Any]]] = [
    ("a file that is overwritten", settings, {}),
    ("a transfer of two writes", transfer, {"max_faults": 2}),
    ("a sale that is undone", stock, {"interleavings": True, "max_faults": 1}),
    ("two locks in opposite order", locks, {"interleavings": True}),
    ("a last item that is sold twice", threads, {"interleavings": True, "reduction": "declared"}),
    ("a connection that is not given back", pool, {"interleavings": "awaits", "cancellations": True, "max_faults": 1}),
]


def main() -> None:
    """Print the failure of each first version, and the verdict on each second one."""
    for title, program, given in PROGRAMS:
        print(f"== {title}\n")
        try:
            explore(program.first, **given)
        except ExplorationFailed as failed:
            print(failed)
        print(f"\nfixed: {explore(program.second, **given)}\n")


if __name__ == "__main__":
    main()
