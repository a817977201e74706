#!/usr/bin/env bash
# Expected: a retry ends when its task is cancelled. CancelledError is not an Exception, so that no ordinary handler
#     catches it.
# Happens: tenacity offers every BaseException to its condition. A condition that excludes some errors, such as
#     retry_if_not_exception_type(ValueError), therefore includes CancelledError. The cancelled task calls the function
#     again and returns a result, and an asyncio.timeout() around it expires without a TimeoutError. Conditions that
#     name Exception are safe, and so is the default. stamina's on= may be a function, which gets CancelledError too.
# Why it matters: a test that cancels a task at a failpoint sees the work done twice and no error. A test tool's own
#     exceptions that derive from BaseException are swallowed and retried in the same way.
# Source: tenacity/asyncio/__init__.py, AsyncRetrying.__call__ (except BaseException); tenacity/retry.py,
#     retry_if_not_exception_type.
set -euo pipefail
VERSION=9.2.1
EXPECTED="tenacity, default: cancelled, 1 call
tenacity, retry_if_exception_type(Exception): cancelled, 1 call
tenacity, retry_if_not_exception_type(ValueError): returned a result, 2 calls
stamina, on=Exception: cancelled, 1 call
stamina, on=lambda error: not isinstance(error, ValueError): returned a result, 2 calls
asyncio.timeout() around retry_if_not_exception_type(ValueError): returned a result, 2 calls, expired"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "tenacity==$VERSION" stamina==26.1.0 2>/dev/null
cat >"$work/program.py" <<'PROGRAM'
import asyncio

import stamina
import tenacity


class Work:
    """A call that waits forever the first time, and returns the second time."""

    def __init__(self):
        self.calls = 0
        self.waiting = asyncio.Event()

    async def __call__(self):
        self.calls += 1
        if self.calls == 1:
            self.waiting.set()
            await asyncio.Event().wait()
        return "result"

    def report(self, label, outcome):
        print(f"{label}: {outcome}, {self.calls} call{'s' * (self.calls > 1)}", end="")


def retrying(decorate, work):
    @decorate
    async def call():
        return await work()

    return call


async def cancel(label, decorate):
    work = Work()
    task = asyncio.create_task(retrying(decorate, work)())
    await work.waiting.wait()
    task.cancel()
    await asyncio.wait([task])
    work.report(label, "cancelled" if task.cancelled() else f"returned a {task.result()}")
    print()


async def time_out(label, decorate):
    work = Work()
    try:
        async with asyncio.timeout(0) as timeout:
            outcome = f"returned a {await retrying(decorate, work)()}"
    except TimeoutError:
        outcome = "timed out"
    work.report(label, outcome)
    print(", expired" if timeout.expired() else "")


unless_value_error = tenacity.retry(retry=tenacity.retry_if_not_exception_type(ValueError))
on_exception = tenacity.retry(retry=tenacity.retry_if_exception_type(Exception))


def not_value_error(error):
    return not isinstance(error, ValueError)


asyncio.run(cancel("tenacity, default", tenacity.retry))
asyncio.run(cancel("tenacity, retry_if_exception_type(Exception)", on_exception))
asyncio.run(cancel("tenacity, retry_if_not_exception_type(ValueError)", unless_value_error))
stamina.set_testing(True, attempts=2)  # no waiting between the attempts
stamina.instrumentation.set_on_retry_hooks([])  # no log lines
asyncio.run(cancel("stamina, on=Exception", stamina.retry(on=Exception)))
asyncio.run(
    cancel("stamina, on=lambda error: not isinstance(error, ValueError)", stamina.retry(on=not_value_error))
)
asyncio.run(time_out("asyncio.timeout() around retry_if_not_exception_type(ValueError)", unless_value_error))
PROGRAM
output=$("$work/venv/bin/python" "$work/program.py")
echo "tenacity $VERSION, stamina 26.1.0"
echo "$output"
[ "$output" = "$EXPECTED" ] || { echo "this has changed: other conditions retry a cancelled call"; exit 1; }
