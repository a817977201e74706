#!/usr/bin/env bash
# Expected: `opentelemetry-instrument python app.py` adds tracing to whatever else runs at the start of Python.
# Happens: it puts a folder with a module `sitecustomize` in front of PYTHONPATH. Python imports one module of that
#     name, and OpenTelemetry's does not import the one behind it. What that would do is missing, in the program and in
#     every Python that it starts, without a warning. Only the launcher runs it, so what it logs is there. `.pth` files
#     are not affected.
# Why it matters: a tool that measures, traces or injects failures from a sitecustomize is inactive in each process that
#     matters, and its log says otherwise. A sitecustomize should import the next one on the path.
# Source: opentelemetry/instrumentation/auto_instrumentation/__init__.py, run and initialize, and sitecustomize.py
#     beside it.
set -euo pipefail
VERSION=0.66b2
EXPECTED="python app.py:
  sitecustomize of the project ran in app.py
  sitecustomize in app.py: project
  sitecustomize of the project ran in child.py
  sitecustomize in child.py: project
opentelemetry-instrument python app.py:
  sitecustomize of the project ran in opentelemetry-instrument
  sitecustomize in app.py: opentelemetry
  sitecustomize in child.py: opentelemetry"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "opentelemetry-instrumentation==$VERSION" \
    opentelemetry-sdk==1.45.2 2>/dev/null
mkdir "$work/project"
cat >"$work/project/sitecustomize.py" <<'PROGRAM'
import os
import sys

print("  sitecustomize of the project ran in", os.path.basename(sys.orig_argv[1]), flush=True)
PROGRAM
cat >"$work/child.py" <<'PROGRAM'
import os
import sys

owner = "opentelemetry" if "opentelemetry" in sys.modules["sitecustomize"].__file__ else "project"
print(f"  sitecustomize in {os.path.basename(__file__)}: {owner}", flush=True)
PROGRAM
cp "$work/child.py" "$work/app.py"
cat >>"$work/app.py" <<'PROGRAM'

import subprocess

subprocess.run([sys.executable, "child.py"], check=True)
PROGRAM
cd "$work"
export PYTHONPATH="$work/project" PATH="$work/venv/bin:$PATH"
output=$(
    echo "python app.py:"
    python app.py
    echo "opentelemetry-instrument python app.py:"
    opentelemetry-instrument python app.py
)
echo "$(PYTHONPATH='' python --version), opentelemetry-instrumentation $VERSION"
echo "$output"
[ "$output" = "$EXPECTED" ] || { echo "this has changed: another sitecustomize runs, or runs elsewhere"; exit 1; }
