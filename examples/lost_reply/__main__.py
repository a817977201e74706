"""The command line of the demo: `python -m examples.lost_reply`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from . import __doc__ as description

EXTRA = {"httpx", "starlette", "uvicorn", "rich"}


def main() -> int:
    """Read the arguments, run the demo, and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.lost_reply",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio", help="the event loop")
    backend: str = parser.parse_args().backend
    if find_spec(backend) is None:
        parser.error(f"{backend} is not installed: pip install {backend}")

    try:
        # Imported here, because an invalid FAILPOINTS makes the import of `failpoints` fail.
        import anyio

        from failpoints import FailpointUsageError

        from .demo import run_demo
    except (ValueError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in EXTRA:
            raise
        print(f'This example needs {missing}: pip install -e ".[examples]"', file=sys.stderr)
        return 1

    with tempfile.TemporaryDirectory() as folder:
        try:
            return anyio.run(partial(run_demo, Path(folder)), backend=backend)
        except FailpointUsageError as error:
            print(error, file=sys.stderr)
            return 1


if __name__ == "__main__":
    sys.exit(main())
