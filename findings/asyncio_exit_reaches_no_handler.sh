#!/usr/bin/env bash
# Expected: the error of a task is raised where the task is awaited, so `except SystemExit` around `await task` sees a
#     `sys.exit()` in the task and can handle it, and `gather(…, return_exceptions=True)` returns it.
# Happens: asyncio raises SystemExit and KeyboardInterrupt of a task through the event loop at once. `asyncio.run` then
#     cancels the tasks that are left, so code that awaits the task gets CancelledError. Around a TaskGroup the handler
#     does run, and the process exits all the same. On trio a nursery raises it in its parent, which can handle it.
# Why it matters: a test cannot catch the exit of a task: `pytest.raises(SystemExit)` around `await task` gets
#     CancelledError. Injected into a task, the error does not take the path that it takes in a plain call. What has to
#     be cleaned up on an exit belongs in `finally`.
# Source: asyncio/tasks.py, Task.__step (`except (KeyboardInterrupt, SystemExit)`: raise); asyncio/runners.py,
#     Runner.close and _cancel_all_tasks; asyncio/taskgroups.py, TaskGroup.__aexit__ (_base_error).
set -euo pipefail
TRIO=0.35.0
EXPECTED="await of a coroutine: the handler saw SystemExit, the program went on
await of a task: the handler saw CancelledError, the program ended with SystemExit(3)
gather with return_exceptions: the handler saw CancelledError, the program ended with SystemExit(3)
TaskGroup: the handler saw SystemExit, the program ended with SystemExit(3)
trio's nursery: the handler saw BaseExceptionGroup, the program went on"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "trio==$TRIO" 2>/dev/null
cat >"$work/program.py" <<'PROGRAM'
import asyncio
import sys

import trio


async def exits():
    sys.exit(3)


async def awaits():
    await exits()


async def awaits_task():
    await asyncio.create_task(exits())


async def gathers():
    await asyncio.gather(exits(), return_exceptions=True)


async def groups():
    async with asyncio.TaskGroup() as group:
        group.create_task(exits())


async def opens_nursery():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(exits)


def report(label, run, function):
    seen = []

    async def main():
        try:
            await function()
        except (SystemExit, BaseExceptionGroup) as error:
            seen.append(type(error).__name__)  # handled
        except BaseException as error:
            seen.append(type(error).__name__)
            raise

    try:
        run(main)
        end = "went on"
    except BaseException as error:
        end = f"ended with {error!r}"
    print(f"{label}: the handler saw {', '.join(seen)}, the program {end}")


def run_asyncio(function):
    asyncio.run(function())


report("await of a coroutine", run_asyncio, awaits)
report("await of a task", run_asyncio, awaits_task)
report("gather with return_exceptions", run_asyncio, gathers)
report("TaskGroup", run_asyncio, groups)
report("trio's nursery", trio.run, opens_nursery)
PROGRAM
output=$("$work/venv/bin/python" "$work/program.py")
echo "$("$work/venv/bin/python" --version), trio $TRIO"
echo "$output"
[ "$output" = "$EXPECTED" ] || { echo "this has changed: the exit of a task is raised elsewhere"; exit 1; }
