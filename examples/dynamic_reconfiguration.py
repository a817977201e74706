"""A failpoint that is reconfigured while a task is paused there.

python -m examples.dynamic_reconfiguration
"""

from __future__ import annotations

import anyio

from failpoints import Return, configure, configured, failpoint


async def copy_file(visit: str) -> None:
    """Copy a file, unless the failpoint returns early."""
    match await failpoint("copy.file"):
        case Return(value):
            print(f"{visit}: the outcome is Return({value!r}), so it returns early")
        case outcome:
            print(f"{visit}: the outcome is {outcome!r}, so the file is copied")


async def main() -> None:
    """Pause a task, reconfigure the failpoint, and visit it again."""
    with configured("copy.file", "pause") as handle:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(copy_file, "first visit")

            await handle.wait_paused()  # returns once the task is paused: no sleep, no polling
            print("main: the first visit is paused, now configuring return(42)")

            # This wakes the task. The new actions apply to later visits, so the first one continues.
            configure("copy.file", "return(42)")

        await copy_file("second visit")


if __name__ == "__main__":
    anyio.run(main)
