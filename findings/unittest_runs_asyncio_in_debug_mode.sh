#!/usr/bin/env bash
# Expected: a test in `unittest.IsolatedAsyncioTestCase` runs on an event loop like that of `asyncio.run`.
# Happens: it switches on asyncio's debug mode. Each coroutine records where it was created, so an `await` of a small one
#     takes 20 to 30 times as long. `call_soon` from another thread raises RuntimeError, where the program itself may
#     see its callback late, without an error. pytest-asyncio and anyio's plugin do not switch it on.
# Why it matters: a benchmark or a time limit in such a test measures the debug mode. A race is another race there, and
#     a fault in the use of threads that the test shows at once is silent in production. Call
#     `asyncio.get_running_loop().set_debug(False)` in `asyncSetUp` to see the program as it is.
# Source: unittest/async_case.py, IsolatedAsyncioTestCase._setupAsyncioRunner (Runner(debug=True)).
set -euo pipefail
EXPECTED="asyncio.run: debug is False, origins are tracked over 0 frames, call_soon in a thread returns
IsolatedAsyncioTestCase: debug is True, origins are tracked over 10 frames, call_soon in a thread raises RuntimeError
set_debug(False) in asyncSetUp: debug is False, origins are tracked over 0 frames, call_soon in a thread returns
an await takes more than 5 times as long in IsolatedAsyncioTestCase: True
an await takes more than 5 times as long after set_debug(False): False"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/program.py" <<'PROGRAM'
import asyncio
import sys
import time
import unittest

RUN, CASE, OFF = "asyncio.run", "IsolatedAsyncioTestCase", "set_debug(False) in asyncSetUp"
seconds = {}


async def nothing():
    pass


async def look(label):
    loop = asyncio.get_running_loop()

    def call_soon():
        try:
            loop.call_soon(lambda: None)
            return "returns"
        except RuntimeError:
            return "raises RuntimeError"

    called = await asyncio.to_thread(call_soon)
    frames = sys.get_coroutine_origin_tracking_depth()
    print(f"{label}: debug is {loop.get_debug()}, origins are tracked over {frames} frames, "
          f"call_soon in a thread {called}")
    rounds = []
    for _ in range(30):
        began = time.perf_counter()
        for _ in range(1000):
            await nothing()
        rounds.append(time.perf_counter() - began)
    seconds[label] = min(rounds)


class Case(unittest.IsolatedAsyncioTestCase):
    async def test(self):
        await look(CASE)


class WithoutDebug(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        asyncio.get_running_loop().set_debug(False)

    async def test(self):
        await look(OFF)


asyncio.run(look(RUN))
unittest.main(exit=False)
print(f"an await takes more than 5 times as long in IsolatedAsyncioTestCase: {seconds[CASE] > 5 * seconds[RUN]}")
print(f"an await takes more than 5 times as long after set_debug(False): {seconds[OFF] > 5 * seconds[RUN]}")
PROGRAM
output=$(python3 "$work/program.py" 2>/dev/null)
python3 --version
echo "$output"
[ "$output" = "$EXPECTED" ] || { echo "this has changed: unittest runs asyncio in another mode"; exit 1; }
