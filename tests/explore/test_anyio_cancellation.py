"""A cancellation of anyio reaches tasks that are held, in runs whose orders are reduced as in others."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from failpoints import failpoint
from failpoints.explore import Run, explore


@pytest.mark.parametrize("reduction", ["sound", "declared", None])
def test_a_scope_that_is_cancelled_while_tasks_are_held(backend: Any, reduction: Any) -> None:
    """A task that is held inside a scope is cancelled as soon as the scope is, although another task is held, too."""
    logs: set[str] = set()

    async def scenario(run: Run) -> None:
        log: list[str] = []

        async def other() -> None:
            await failpoint("other")

        async def work() -> None:
            with anyio.move_on_after(0):
                await failpoint("work")
                log.append("not cancelled")

        async with run.injecting(), anyio.create_task_group() as tasks:
            tasks.start_soon(other)
            await anyio.lowlevel.checkpoint()
            tasks.start_soon(work)
        logs.add("".join(log))

    exploration = explore(scenario, backend=backend, interleavings=True, reduction=reduction)
    assert exploration.exhaustive
    assert logs == {""}
