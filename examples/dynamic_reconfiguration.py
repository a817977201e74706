"""A failpoint that is reconfigured while a task waits at it.

python -m examples.dynamic_reconfiguration
"""

from __future__ import annotations

import anyio

from failpoints import Return, configure, configured, failpoint


async def copy_file(visit: str) -> None:
    """Copy a file, with a failpoint on the way, and say what it said."""
    match await failpoint("copy.file"):
        case Return(value):
            print(f"{visit}: the failpoint said Return({value!r}), so it ends early")
        case outcome:
            print(f"{visit}: the failpoint said {outcome!r}, so the file is copied")


async def main() -> None:
    """Let one task wait, reconfigure the failpoint, and visit it again."""
    with configured("copy.file", "pause") as handle:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(copy_file, "first visit")

            await handle.wait_paused()  # until the task really waits: no sleep, no polling
            print("main: the first visit waits, now the failpoint becomes return(42)")

            # Wakes who waits. The new actions are for later visits, so the first one goes on.
            configure("copy.file", "return(42)")

        await copy_file("second visit")


if __name__ == "__main__":
    anyio.run(main)
