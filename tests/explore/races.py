"""What scenarios with threads have in common."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from failpoints.explore import ExplorationFailed, Run, explore


def race(*targets: Callable[[], object]) -> None:
    """Run functions in threads, and wait for all."""
    threads = [threading.Thread(target=target) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def failure_of(scenario: Callable[[Run], object], **options: Any) -> ExplorationFailed:
    """Explore a scenario that fails, and return the error."""
    with pytest.raises(ExplorationFailed) as failed:
        explore(scenario, **options)
    return failed.value
