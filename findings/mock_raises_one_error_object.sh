#!/usr/bin/env bash
# Expected: `client.send.side_effect = ConnectionError("reset")` raises an error as a real client does: a new one in each
#     call, with the traceback of that call.
# Happens: a Mock raises the object that it was given. Each raise adds its frames to those from before, so the traceback
#     of the third try shows all three. The object keeps their frames alive, with the local variables, as long as the
#     mock lives. A note that one caller adds is on the error that the next one catches. With a class as `side_effect`
#     each error is new. `result()` of a Future of concurrent.futures adds to the traceback in the same way; that of
#     asyncio does not.
# Why it matters: a test of retries logs tracebacks that no real failure has. A test that looks for what is left after a
#     failure finds what the mock keeps. Give the class, or a function that returns or raises a new error.
# Source: unittest/mock.py, CallableMixin._execute_mock_call (`raise effect`); concurrent/futures/_base.py,
#     Future.__get_result.
set -euo pipefail
EXPECTED="Mock, an instance: 1, 2, 3 times in the traceback, 1, 2, 3 notes, 3 orders alive
Mock, a class: 1, 1, 1 times in the traceback, 1, 1, 1 notes, 0 orders alive
Mock, a function: 1, 1, 1 times in the traceback, 1, 1, 1 notes, 0 orders alive
AsyncMock, an instance: 1, 2, 3 times in the traceback, 1, 2, 3 notes, 3 orders alive
concurrent.futures.Future: 1, 2, 3 times in the traceback, 1, 2, 3 notes, 3 orders alive
asyncio.Future: 1, 1, 1 times in the traceback, 1, 2, 3 notes, 1 orders alive"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/program.py" <<'PROGRAM'
import asyncio
import concurrent.futures
import gc
import traceback
import weakref
from unittest import mock


class Order:
    pass


async def submit(call, orders):
    order = Order()
    orders.add(order)
    outcome = call()
    if asyncio.iscoroutine(outcome):
        await outcome


async def report(label, call):
    orders, times, notes = weakref.WeakSet(), [], []
    for number in range(3):
        try:
            await submit(call, orders)
        except ConnectionError as error:
            times.append([frame.name for frame in traceback.extract_tb(error.__traceback__)].count("submit"))
            error.add_note(f"try {number}")
            notes.append(len(error.__notes__))
    gc.collect()
    shown = ", ".join(map(str, times))
    noted = ", ".join(map(str, notes))
    print(f"{label}: {shown} times in the traceback, {noted} notes, {len(orders)} orders alive")


def new(*args):
    raise ConnectionError("reset")


async def main():
    await report("Mock, an instance", mock.Mock(side_effect=ConnectionError("reset")))
    await report("Mock, a class", mock.Mock(side_effect=ConnectionError))
    await report("Mock, a function", mock.Mock(side_effect=new))
    await report("AsyncMock, an instance", mock.AsyncMock(side_effect=ConnectionError("reset")))
    for label, future in {
        "concurrent.futures.Future": concurrent.futures.Future(),
        "asyncio.Future": asyncio.get_running_loop().create_future(),
    }.items():
        future.set_exception(ConnectionError("reset"))
        await report(label, future.result)


asyncio.run(main())
PROGRAM
output=$(python3 "$work/program.py")
python3 --version
echo "$output"
[ "$output" = "$EXPECTED" ] || { echo "this has changed: the errors of mocks and futures are other objects"; exit 1; }
