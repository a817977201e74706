#!/usr/bin/env bash
# Expected: a cache entry whose file is damaged is a miss, as one that is empty or has expired is.
# Happens: cache.get() of FileBasedCache raises zlib.error, each time, until the key is set again or expires. An empty
#     file is a miss. Files are written to a temporary name and renamed, without any fsync. So a power loss can leave a
#     file that has its name, and half of its data.
# Why it matters: a view that calls cache.get() answers 500 after a power loss, although a cache may lose everything.
# Source: django/core/cache/backends/filebased.py, FileBasedCache.get catches FileNotFoundError only, and
#     FileBasedCache.set does not sync.
set -euo pipefail
VERSION=5.2.19
EXPECTED="fsyncs of a set: 0
0 bytes left: None
8 bytes left: error
half left: error"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "django==$VERSION" 2>/dev/null
cat >"$work/program.py" <<'PROGRAM'
import os

from django.conf import settings

BACKEND = "django.core.cache.backends.filebased.FileBasedCache"
settings.configure(CACHES={"default": {"BACKEND": BACKEND, "LOCATION": os.path.abspath("cache")}})
from django.core.cache import cache

synced = []
fsync = os.fsync
os.fsync = lambda descriptor: (synced.append(descriptor), fsync(descriptor))
cache.set("key", "value" * 20, None)
print("fsyncs of a set:", len(synced))
file = os.path.join("cache", os.listdir("cache")[0])
for title, size in (("0 bytes", 0), ("8 bytes", 8), ("half", os.path.getsize(file) // 2)):
    cache.set("key", "value" * 20, None)
    os.truncate(file, size)
    try:
        print(f"{title} left:", cache.get("key"))
    except Exception as error:
        print(f"{title} left:", type(error).__name__)
PROGRAM
output=$(cd "$work" && venv/bin/python program.py)
echo "django $VERSION"
echo "$output"
[ "$output" = "$EXPECTED" ] || { echo "this has changed: damaged files are misses, or are synced"; exit 1; }
