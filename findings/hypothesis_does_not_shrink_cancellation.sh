#!/usr/bin/env bash
# Expected: when a property fails, Hypothesis shrinks the input and prints it. It does so for SystemExit too, so one
#     would expect it of any other exception that is not an Exception, except KeyboardInterrupt.
# Happens: for CancelledError and BaseExceptionGroup Hypothesis does neither. The test stops at the first input that
#     fails, whatever its size, and the report contains a seed instead of the input. The input is stored, so the next
#     run fails with it again, just as large. That the group also contains a ValueError makes no difference.
# Why it matters: cancellation that leaks out of the tested code, alone or in a group, is a typical result of failure
#     injection. The test fails without a readable counterexample. Convert these exceptions into an AssertionError
#     inside the test.
# Source: hypothesis/core.py, failure_exceptions_to_catch.
set -euo pipefail
VERSION=6.170.17
EXPECTED="ValueError: shrunk, printed, stored
SystemExit: shrunk, printed, stored
CancelledError: not shrunk, not printed, stored
ExceptionGroup: shrunk, printed, stored
BaseExceptionGroup: not shrunk, not printed, stored"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "hypothesis==$VERSION" 2>/dev/null
cat >"$work/program.py" <<'PROGRAM'
import asyncio
import contextlib
import io

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.database import InMemoryExampleDatabase


def run(error):
    database = InMemoryExampleDatabase()
    failed = []

    @settings(database=database, derandomize=False)
    @given(st.lists(st.integers()))
    def prop(numbers):
        if numbers:
            failed.append(numbers)
            raise error

    report = io.StringIO()
    try:
        with contextlib.redirect_stdout(report):
            prop()
    except BaseException as raised:
        text = report.getvalue() + "".join(getattr(raised, "__notes__", ()))
        shrunk = len(failed) > 1 and failed[-1] == [0]
        facts = {"shrunk": shrunk, "printed": "prop(" in text, "stored": bool(database.data)}
        print(f"{type(error).__name__}: {', '.join(name if so else f'not {name}' for name, so in facts.items())}")


run(ValueError())
run(SystemExit())
run(asyncio.CancelledError())
run(ExceptionGroup("group", [ValueError()]))
run(BaseExceptionGroup("group", [ValueError(), asyncio.CancelledError()]))
PROGRAM
output=$(cd "$work" && venv/bin/python program.py)
echo "hypothesis $VERSION"
echo "$output"
[ "$output" = "$EXPECTED" ] || { echo "this has changed: other exceptions lead to a counterexample"; exit 1; }
