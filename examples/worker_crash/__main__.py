"""The command line of the demo: `python -m examples.worker_crash`."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from ..command_line import run
from . import __doc__ as description

EXTRA = {"rich", "redis", "rq"}


def main() -> int:
    """Read the arguments, run the demo, and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.worker_crash",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rq", action="store_true", help="queue the jobs in rq, with a redis-server that this starts")
    uses_rq: bool = parser.parse_args().rq
    if uses_rq and shutil.which("redis-server") is None:
        parser.error("redis-server is not installed")

    def load() -> Callable[[Path], int]:
        import anyio

        from .demo import run_demo

        if uses_rq:
            from .rq_jobs import carry_out
        else:
            from .jobs import carry_out
        return lambda folder: anyio.run(run_demo, folder, carry_out)

    return run(load, EXTRA, '-e ".[examples]" rq')


if __name__ == "__main__":
    sys.exit(main())
