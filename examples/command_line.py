"""What the command lines of the demos have in common. Imports nothing that has to be installed."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Container
from pathlib import Path


def run(load: Callable[[], Callable[[Path], int]], extra: Container[str], install: str) -> int:
    """Run a demo in a temporary folder, and return its exit status.

    Args:
        load: Imports the demo and returns it. An invalid FAILPOINTS makes that fail, which is printed.
        extra: The libraries that the demo needs. If one is missing, it is printed how to install them.
        install: What to give to `pip install` for them.
    """
    try:
        demo = load()
        from failpoints import FailpointUsageError
    except (ValueError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in extra:
            raise
        print(f"This example needs {missing}: pip install {install}", file=sys.stderr)
        return 1

    with tempfile.TemporaryDirectory() as folder:
        try:
            return demo(Path(folder))
        except FailpointUsageError as error:
            print(error, file=sys.stderr)
            return 1
