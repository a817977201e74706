#!/usr/bin/env bash
# Expected: `async with asyncio.timeout(…)` in an async generator limits the generator: a slow source raises TimeoutError
#     in the `async for` that reads from it.
# Happens: it does. But the limit is on while the generator is suspended at its `yield`, so it also counts the time that
#     the consumer spends on each item, and then cancels the consumer's task wherever it is. Nothing turns that into
#     TimeoutError: the consumer gets CancelledError although no task cancelled it. In a TaskGroup the task counts as
#     cancelled, and the group ends without an error, with items left.
# Why it matters: a failure test that makes the source slow sees a clean TimeoutError. One that makes the consumer slow,
#     such as a database behind it, sees work vanish. Put the limit around each step: `asyncio.timeout` without a `yield`
#     inside.
# Source: asyncio/timeouts.py, Timeout._on_timeout (task.cancel()) and __aexit__; PEP 789.
set -euo pipefail
EXPECTED="slow source: TimeoutError, stored 1 of 3
slow consumer: CancelledError, stored 0 of 3
slow consumer in a TaskGroup: ended without an error, stored 0 of 3
slow consumer, a limit around each step: ended without an error, stored 3 of 3"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/program.py" <<'PROGRAM'
import asyncio
from contextlib import aclosing

stored = []


async def rows(pause):
    async with asyncio.timeout(0.2):
        for row in range(3):
            yield row
            await asyncio.sleep(pause)


async def rows_by_step(pause):
    for row in range(3):
        yield row
        async with asyncio.timeout(0.2):
            await asyncio.sleep(pause)


async def store(source, pause):
    async with aclosing(source):
        async for row in source:
            await asyncio.sleep(pause)
            stored.append(row)


async def store_in_group(source, pause):
    async with asyncio.TaskGroup() as group:
        group.create_task(store(source, pause))


def report(label, work):
    async def main():
        try:
            await work
            return "ended without an error"
        except BaseException as error:
            return type(error).__name__

    stored.clear()
    outcome = asyncio.run(main())
    print(f"{label}: {outcome}, stored {len(stored)} of 3")


report("slow source", store(rows(0.5), 0))
report("slow consumer", store(rows(0), 0.5))
report("slow consumer in a TaskGroup", store_in_group(rows(0), 0.5))
report("slow consumer, a limit around each step", store(rows_by_step(0), 0.5))
PROGRAM
output=$(python3 "$work/program.py")
python3 --version
echo "$output"
[ "$output" = "$EXPECTED" ] || { echo "this has changed: a limit in a generator has another effect"; exit 1; }
