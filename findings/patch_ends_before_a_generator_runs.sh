#!/usr/bin/env bash
# Expected: a function under `@mock.patch(…)`, `@freeze_time(…)` or another such decorator runs patched, whatever kind
#     of function it is.
# Happens: a call of a generator function only makes a generator. The decorator patches for the length of that call, and
#     the body runs later, without the patch. A mock is passed to it all the same. Only freezegun deals with
#     generators, and none of them with async generators. A context manager made by `@contextmanager` and used as a
#     decorator ends before the body of a *coroutine* runs, too.
# Why it matters: helpers of failure tests are often generators. `@contextmanager` above `@mock.patch("os.fsync",
#     side_effect=…)` injects nothing, so the test passes without its failure. Use `with` inside the body.
# Source: unittest/mock.py, _patch.decorate_callable and _patch_dict.__call__; time_machine/__init__.py,
#     travel.__call__; freezegun/api.py, _freeze_time.__call__; contextlib.py, ContextDecorator.__call__.
set -euo pipefail
FREEZEGUN=1.5.5
TIME_MACHINE=3.6.0
EXPECTED="mock.patch: in force in a function, a coroutine
mock.patch.dict: in force in a function, a coroutine
freeze_time: in force in a function, a coroutine, a generator
time_machine.travel: in force in a function, a coroutine
of @contextmanager: in force in a function
@contextmanager above @mock.patch: fsync works
mock.patch inside @contextmanager: fsync raises OSError"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "freezegun==$FREEZEGUN" "time-machine==$TIME_MACHINE" \
    2>/dev/null
cat >"$work/program.py" <<'PROGRAM'
import asyncio
import contextlib
import os
import tempfile
import time
from unittest import mock

import time_machine
from freezegun import freeze_time


@contextlib.contextmanager
def degraded():
    os.environ["MODE"] = "degraded"
    yield
    del os.environ["MODE"]


def in_force():
    return "MODE" in os.environ or os.fsync is None or time.gmtime().tm_year == 2001


async def first(values):
    async for value in values:
        return value


def report(label, decorator):
    @decorator
    def function():
        return in_force()

    @decorator
    async def coroutine():
        return in_force()

    @decorator
    def generator():
        yield in_force()

    @decorator
    async def async_generator():
        yield in_force()

    found = {
        "a function": function(),
        "a coroutine": asyncio.run(coroutine()),
        "a generator": list(generator())[0],
        "an async generator": asyncio.run(first(async_generator())),
    }
    print(f"{label}: in force in {', '.join(kind for kind in found if found[kind])}")


@contextlib.contextmanager
@mock.patch("os.fsync", side_effect=OSError("disk full"))
def full_disk_above(fsync):
    yield


@contextlib.contextmanager
def full_disk_inside():
    with mock.patch("os.fsync", side_effect=OSError("disk full")):
        yield


def write(label, condition):
    with condition, tempfile.TemporaryFile() as file:
        try:
            os.fsync(file)
            print(f"{label}: fsync works")
        except OSError:
            print(f"{label}: fsync raises OSError")


report("mock.patch", mock.patch("os.fsync", None))
report("mock.patch.dict", mock.patch.dict(os.environ, MODE="degraded"))
report("freeze_time", freeze_time("2001-01-01"))
report("time_machine.travel", time_machine.travel("2001-01-01"))
report("of @contextmanager", degraded())
write("@contextmanager above @mock.patch", full_disk_above())
write("mock.patch inside @contextmanager", full_disk_inside())
PROGRAM
output=$("$work/venv/bin/python" "$work/program.py")
echo "$("$work/venv/bin/python" --version), freezegun $FREEZEGUN, time-machine $TIME_MACHINE"
echo "$output"
[ "$output" = "$EXPECTED" ] || { echo "this has changed: these decorators treat generators differently"; exit 1; }
