#!/usr/bin/env bash
# Expected: with pytest-timeout's method `signal`, a test that takes too long fails when its time is up.
# Happens: the signal handler raises in whatever code the main thread is running. If that is an asyncio task of the
#     program under test, the failure ends that task and is kept as its exception. The test continues without a limit,
#     and passes. On trio it fails, because a nursery does not keep the error of a task to itself.
# Why it matters: a task that blocks its event loop is what such a limit should find, and a run in which it found one is
#     green. Await the program's tasks in the test, use `asyncio.timeout` inside it, or the method `thread`, which ends
#     the whole run.
# Source: pytest_timeout.py, timeout_sigalrm (calls pytest.fail); asyncio/tasks.py, Task.__step (sets every
#     BaseException except KeyboardInterrupt and SystemExit as the task's exception).
set -euo pipefail
VERSION=2.4.0
EXPECTED="FAILED test_blocks.py::test_blocks[asyncio]
FAILED test_blocks.py::test_task_blocks[trio]
PASSED test_blocks.py::test_task_blocks[asyncio]
the task ended with Failed, and the test went on"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "pytest-timeout==$VERSION" pytest==9.2.0 anyio==4.16.0 \
    trio==0.35.0 2>/dev/null
cat >"$work/test_blocks.py" <<'TESTS'
import asyncio
import time

import pytest
import trio

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(1, method="signal")]


async def poll():
    time.sleep(1.5)  # blocks the event loop


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_blocks(anyio_backend):
    await poll()


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_task_blocks(anyio_backend):
    if anyio_backend == "trio":
        async with trio.open_nursery() as nursery:
            nursery.start_soon(poll)
    else:
        task = asyncio.create_task(poll())
        await asyncio.sleep(0.1)
        await asyncio.sleep(3)
        print(f"\nthe task ended with {type(task.exception()).__name__}, and the test went on")
TESTS
output=$(cd "$work" && venv/bin/python -m pytest -q -s -rpf --tb=no -p no:cacheprovider test_blocks.py 2>&1 || true)
output=$(grep -E "^(FAILED|PASSED|the task)" <<<"$output" | sed "s/ - .*//" | LC_ALL=C sort)
echo "pytest-timeout $VERSION, pytest 9.2.0"
echo "$output"
[ "$output" = "$EXPECTED" ] || { echo "this has changed: a timeout in a task of asyncio has another effect"; exit 1; }
