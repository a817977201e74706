#!/usr/bin/env bash
# Expected: an exception class that is a frozen dataclass can be raised and caught like any other.
# Happens: if it leaves a block whose context manager was made by `@contextmanager` or `@asynccontextmanager`, it is
#     replaced by FrozenInstanceError, because contextlib assigns `__traceback__` in Python. `except Refused` outside
#     the block does not catch it. An ExitStack replaces it if a callback raises another error, and `add_note` raises
#     too. What the interpreter itself sets does not ask the class: `raise … from`, tasks and threads work. pytest runs
#     each test in such a block, and so reports FrozenInstanceError for every test that fails with such an error.
# Why it matters: whether a failure is handled depends on what lies between the place that raises and the one that
#     catches it. A test that calls the function directly passes, and in production there is a `with span():` between
#     the two. A tool that copies, annotates or re-raises errors must use `object.__setattr__`.
# Source: contextlib.py, _GeneratorContextManager.__exit__ and _fix_exception_context; dataclasses.py,
#     _frozen_get_del_attr; _pytest/capture.py, CaptureManager.item_capture.
set -euo pipefail
PYTEST=9.2.0
EXPECTED="raised directly: Refused
raised with a cause: Refused
raised in a task: Refused
raised in a thread of a pool: Refused
raised in a block of a class with __exit__: Refused
raised in a block of @contextmanager: FrozenInstanceError for '__traceback__'
raised in a block of @asynccontextmanager: FrozenInstanceError for '__traceback__'
raised by a callback of ExitStack after another error: FrozenInstanceError for '__context__'
raised with a note: FrozenInstanceError for '__notes__'
raised in a test, pytest reports: FrozenInstanceError for '__traceback__'"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "pytest==$PYTEST" 2>/dev/null
cat >"$work/program.py" <<'PROGRAM'
import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError, dataclass

import pytest


@dataclass(frozen=True)
class Refused(Exception):
    code: int


class ByHand:
    def __enter__(self):
        pass

    def __exit__(self, *exc_info):
        pass


@contextlib.contextmanager
def span():
    yield


@contextlib.asynccontextmanager
async def async_span():
    yield


def directly():
    raise Refused(402)


def with_cause():
    raise Refused(402) from OSError()


async def in_coroutine():
    raise Refused(402)


async def in_task():
    await asyncio.create_task(in_coroutine())


def in_pool():
    with ThreadPoolExecutor() as pool:
        pool.submit(directly).result()


def in_class():
    with ByHand():
        raise Refused(402)


def in_span():
    with span():
        raise Refused(402)


async def in_async_span():
    async with async_span():
        raise Refused(402)


def in_callback():
    with contextlib.ExitStack() as stack:
        stack.callback(directly)
        raise OSError


def with_note():
    try:
        raise Refused(402)
    except Refused as error:
        error.add_note("order 7")
        raise


class Reports:
    def pytest_runtest_logreport(self, report):
        if report.failed:
            error, _, message = report.longrepr.reprcrash.message.partition(": ")
            print(f"raised in a test, pytest reports: {error.rpartition('.')[2]} for {message.split()[-1]}")


def test_raises():
    directly()


def report(label, function):
    try:
        function()
    except Refused:
        print(f"{label}: Refused")
    except FrozenInstanceError as error:
        print(f"{label}: FrozenInstanceError for {str(error).split()[-1]}")


if __name__ == "__main__":
    report("raised directly", directly)
    report("raised with a cause", with_cause)
    report("raised in a task", lambda: asyncio.run(in_task()))
    report("raised in a thread of a pool", in_pool)
    report("raised in a block of a class with __exit__", in_class)
    report("raised in a block of @contextmanager", in_span)
    report("raised in a block of @asynccontextmanager", lambda: asyncio.run(in_async_span()))
    report("raised by a callback of ExitStack after another error", in_callback)
    report("raised with a note", with_note)
    pytest.main(["-s", "-p", "no:terminal", "-p", "no:cacheprovider", __file__], plugins=[Reports()])
PROGRAM
output=$(cd "$work" && venv/bin/python program.py)
echo "$("$work/venv/bin/python" --version), pytest $PYTEST"
echo "$output"
[ "$output" = "$EXPECTED" ] || { echo "this has changed: a frozen exception passes through other places"; exit 1; }
