#!/usr/bin/env bash
# Expected: what a function raises in a thread is raised by `await asyncio.to_thread(function)`. In a TaskGroup it ends
#     the group with an error.
# Happens: `concurrent.futures.CancelledError`, an Exception that means that *another* future was cancelled, comes out as
#     `asyncio.CancelledError`, a BaseException that means that *this* task was cancelled. `except Exception` does not
#     catch it. A TaskGroup takes the task for one that was cancelled on purpose: the group ends without an error, and
#     the work is not done. `run_in_executor` does the same. anyio's threads raise the error as it is.
# Why it matters: a pool that is shut down with `cancel_futures=True` while threads wait for its results is an ordinary
#     failure, and here it leaves no trace. Convert the error in the thread.
# Source: asyncio/futures.py, _convert_future_exc and _set_state; asyncio/taskgroups.py, TaskGroup._on_task_done
#     (`if task.cancelled(): return`).
set -euo pipefail
ANYIO=4.16.0
EXPECTED="in the thread: concurrent.futures.CancelledError, an Exception: True
await asyncio.to_thread: asyncio.CancelledError, an Exception: False, task.cancelling() is 0
await anyio.to_thread.run_sync: concurrent.futures.CancelledError, an Exception: True
TaskGroup, a thread that raises OSError: ExceptionGroup
TaskGroup, a thread whose future was cancelled: ended without an error, the order was not shipped"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "anyio==$ANYIO" 2>/dev/null
cat >"$work/program.py" <<'PROGRAM'
import asyncio
import concurrent.futures
import threading

import anyio.to_thread

shipped = []


def ship():
    """Wait for a pool that is shut down meanwhile."""
    busy = threading.Event()
    pool = concurrent.futures.ThreadPoolExecutor(1)
    pool.submit(busy.wait)
    label = pool.submit(str, 5)
    pool.shutdown(wait=False, cancel_futures=True)
    busy.set()
    shipped.append(label.result())


def refuse():
    raise OSError("refused")


def shown(error):
    kind = type(error)
    package = "asyncio" if kind is asyncio.CancelledError else "concurrent.futures"
    return f"{package}.{kind.__name__}, an Exception: {isinstance(error, Exception)}"


async def group(function):
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(asyncio.to_thread(function))
    except BaseException as error:
        return type(error).__name__
    return f"ended without an error, the order was {'shipped' if shipped else 'not shipped'}"


async def main():
    try:
        ship()
    except BaseException as error:
        print(f"in the thread: {shown(error)}")
    try:
        await asyncio.to_thread(ship)
    except BaseException as error:
        print(f"await asyncio.to_thread: {shown(error)}, task.cancelling() is {asyncio.current_task().cancelling()}")
    try:
        await anyio.to_thread.run_sync(ship)
    except BaseException as error:
        print(f"await anyio.to_thread.run_sync: {shown(error)}")
    print(f"TaskGroup, a thread that raises OSError: {await group(refuse)}")
    print(f"TaskGroup, a thread whose future was cancelled: {await group(ship)}")


asyncio.run(main())
PROGRAM
output=$("$work/venv/bin/python" "$work/program.py")
echo "$("$work/venv/bin/python" --version), anyio $ANYIO"
echo "$output"
[ "$output" = "$EXPECTED" ] || { echo "this has changed: asyncio passes on other errors of threads"; exit 1; }
