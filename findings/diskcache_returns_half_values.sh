#!/usr/bin/env bash
# Expected: a cached value is the one that was set, or a miss.
# Happens: a value of 32 KiB or more is stored in a file, which is not synced before its key is committed to SQLite. So
#     a power loss can leave the key with half of its value. Reading it does not compare the size of the file with the
#     one that the database has: `cache[key]` returns half of the bytes or of the text without an error. A pickled value
#     raises, each time, until it expires. `check()` finds the difference, and `check(fix=True)` keeps the half.
# Why it matters: a cache may lose everything, and so may be used without a thought about crashes. But this one can
#     return a value that was never set. Store a checksum with large values, or clear the cache when a machine starts.
# Source: diskcache/core.py, Disk._write (no fsync), Disk.fetch (no look at the column `size`), and Cache.check.
set -euo pipefail
VERSION=5.6.3
EXPECTED="fsyncs of three values: 0
bytes: 20000 of 40000
text: 20000 of 40000
pickled: UnpicklingError
check() warns 3 times, check(fix=True) keeps 20000 bytes"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "diskcache==$VERSION" 2>/dev/null
cat >"$work/program.py" <<'PROGRAM'
import os

import diskcache

synced = []
fsync = os.fsync
os.fsync = lambda descriptor: (synced.append(descriptor), fsync(descriptor))
cache = diskcache.Cache("cache")
values = {"bytes": b"v" * 40_000, "text": "v" * 40_000, "pickled": ["v" * 40_000]}
for key, value in values.items():
    cache[key] = value
print("fsyncs of three values:", len(synced))
for folder, _, files in os.walk("cache"):
    for file in files:
        if file.endswith(".val"):  # the half of it that a power loss leaves
            path = os.path.join(folder, file)
            os.truncate(path, os.path.getsize(path) // 2)
for key, value in values.items():
    try:
        print(f"{key}: {len(cache[key])} of {len(value)}")
    except Exception as error:
        print(f"{key}: {type(error).__name__}")
found = [each for each in cache.check() if "wrong file size" in str(each.message)]
cache.check(fix=True)
print(f"check() warns {len(found)} times, check(fix=True) keeps {len(cache['bytes'])} bytes")
PROGRAM
output=$(cd "$work" && venv/bin/python program.py)
echo "diskcache $VERSION"
echo "$output"
[ "$output" = "$EXPECTED" ] || { echo "this has changed: half of a value is noticed, or values are synced"; exit 1; }
