#!/usr/bin/env bash
# Expected: a plugin that is installed, and that no test uses, does not change what Hypothesis prints of a failing test.
# Happens: once schemathesis' pytest plugin is loaded, which pytest does by its entry point, Hypothesis prints the failing
#     example of every test of the run without its values: "n=," in place of "n=500,".
# Why it matters: the report of a shrunk failure is worth nothing without the input. `-p no:schemathesis` brings it back.
# Source: schemathesis/generation/hypothesis/__init__.py, setup() replaces hypothesis.core.RepresentationPrinter by a class
#     whose pretty() does nothing, for speed. It changes Hypothesis' BUFFER_SIZE for all tests as well.
set -euo pipefail
SCHEMATHESIS=4.32.5
HYPOTHESIS=6.170.17
EXPECTED="with schemathesis: n=,
without: n=500,"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "schemathesis==$SCHEMATHESIS" "hypothesis==$HYPOTHESIS" \
    "pytest==9.2.0" 2>/dev/null
cat >"$work/test_program.py" <<'PROGRAM'
from hypothesis import given, settings, strategies


@settings(database=None)
@given(n=strategies.integers(0, 1000))
def test_it(n):
    assert n < 500
PROGRAM
shown() {
    { "$work/venv/bin/python" -m pytest -q -p no:cacheprovider "$@" "$work/test_program.py" || true; } |
        sed -n 's/^E  *\(n=.*\)/\1/p'
}
output="with schemathesis: $(shown)
without: $(shown -p no:schemathesis)"
echo "schemathesis $SCHEMATHESIS, Hypothesis $HYPOTHESIS"
echo "$output"
[ "$output" = "$EXPECTED" ] || { echo "this has changed: schemathesis leaves the inputs of other tests alone"; exit 1; }
