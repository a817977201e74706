"""The command line of the demo: `python -m examples.worker_crash`."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

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

    try:
        # Imported here, because an invalid FAILPOINTS makes the import of `failpoints` fail.
        import anyio

        from failpoints import FailpointUsageError

        from .demo import run_demo

        if uses_rq:
            from .rq_jobs import carry_out
        else:
            from .jobs import carry_out
    except (ValueError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in EXTRA:
            raise
        print(f'This example needs {missing}: pip install -e ".[examples]" rq', file=sys.stderr)
        return 1

    with tempfile.TemporaryDirectory() as folder:
        try:
            return anyio.run(run_demo, Path(folder), carry_out)
        except FailpointUsageError as error:
            print(error, file=sys.stderr)
            return 1


if __name__ == "__main__":
    sys.exit(main())
