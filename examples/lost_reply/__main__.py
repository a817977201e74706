"""The command line of the demo: `python -m examples.lost_reply`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from ..command_line import run
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

    def load() -> Callable[[Path], int]:
        import anyio

        from .demo import run_demo

        return lambda folder: anyio.run(run_demo, folder, backend=backend)

    return run(load, EXTRA, '-e ".[examples]"')


if __name__ == "__main__":
    sys.exit(main())
