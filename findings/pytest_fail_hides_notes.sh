#!/usr/bin/env bash
# Expected: pytest shows the notes of every exception (`add_note`, PEP 678), as it does since 7.3.
# Happens: it drops those of `pytest.fail("…", pytrace=False)`: only the message is shown. Hypothesis adds the failing
#     example as a note, so a property that fails this way does not show its input, although it was shrunk.
# Why it matters: libraries report with `pytrace=False` to spare the reader their own frames. A failure test with
#     Hypothesis then says what failed, but not for which fault, order or size.
# Source: _pytest/nodes.py, Node._repr_failure_py: style "value", which is str(exception).
set -euo pipefail
PYTEST=9.2.0
HYPOTHESIS=6.170.17
EXPECTED="fail(): Failed: too large| n=500,|a note
fail(pytrace=False): too large"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "pytest==$PYTEST" "hypothesis==$HYPOTHESIS" 2>/dev/null
cat >"$work/test_program.py" <<'PROGRAM'
import os

import pytest
from hypothesis import given, note, settings, strategies


@settings(database=None)
@given(n=strategies.integers(0, 1000))
def test_it(n):
    if n >= 500:
        note("a note")
        pytest.fail("too large", pytrace="SHOW" in os.environ)
PROGRAM
shown() {
    { "$work/venv/bin/python" -m pytest -q -p no:cacheprovider -rN "$work/test_program.py" || true; } |
        sed -nE 's/^(E +)?((Failed: )?too large|a note)$/\2/p; s/^E +(n=.*)/ \1/p' | paste -sd '|'
}
output="fail(): $(SHOW=1 shown)
fail(pytrace=False): $(shown)"
echo "pytest $PYTEST, Hypothesis $HYPOTHESIS"
echo "$output"
[ "$output" = "$EXPECTED" ] || { echo "this has changed: pytest shows other notes than it did"; exit 1; }
