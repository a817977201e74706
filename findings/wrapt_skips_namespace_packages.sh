#!/usr/bin/env bash
# wrapt never calls a post-import hook for a namespace package (a folder without __init__.py).
set -euo pipefail
VERSION=2.5.2
EXPECTED="package: called
namespace: not called"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "wrapt==$VERSION" 2>/dev/null
mkdir "$work/package" "$work/namespace"
touch "$work/package/__init__.py" "$work/namespace/module.py"
cat >"$work/program.py" <<'PROGRAM'
import importlib

import wrapt

for name in ("package", "namespace"):
    called = []
    wrapt.register_post_import_hook(called.append, name)
    importlib.import_module(name)
    print(f"{name}: {'called' if called else 'not called'}")
PROGRAM
output=$(cd "$work" && venv/bin/python program.py)
echo "wrapt $VERSION"
echo "$output"
[ "$output" = "$EXPECTED" ] || { echo "this has changed"; exit 1; }
