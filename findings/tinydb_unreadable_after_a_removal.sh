#!/usr/bin/env bash
# Expected: a process that dies while it removes a document leaves the database as it was before or after.
# Happens: no document can be read any more. The whole database is written over the file, synced, and the file is cut
#     to its new length only then. A process that dies in between, for example in the fsync, which takes milliseconds,
#     leaves the end of the old content behind the new one. Each later read raises JSONDecodeError ("Extra data").
# Why it matters: tests that only insert do not find it, since the file grows. Let a test remove a document, or make one
#     shorter, and end the process at each operation on files.
# Source: tinydb/storages.py, JSONStorage.write: write, flush, fsync, truncate.
set -euo pipefail
VERSION=4.9.0
EXPECTED="the process dies in an insert: 2 documents
the process dies in a removal: JSONDecodeError: Extra data"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "tinydb==$VERSION" 2>/dev/null
cat >"$work/program.py" <<'PROGRAM'
import os
import sys

from tinydb import TinyDB

name = f"{sys.argv[1]}.json"
if sys.argv[2] == "die":
    database = TinyDB(name)
    first = database.insert({"text": "x" * 50})
    if sys.argv[1] == "removal":
        database.insert({"text": "y" * 50})
    os.fsync = lambda descriptor: os._exit(1)  # once the data is written
    if sys.argv[1] == "removal":
        database.remove(doc_ids=[first])
    else:
        database.insert({"text": "y" * 50})
try:
    found = f"{len(TinyDB(name).all())} documents"
except Exception as error:
    found = f"{type(error).__name__}: {str(error).partition(':')[0]}"
article = "an" if sys.argv[1] == "insert" else "a"
print(f"the process dies in {article} {sys.argv[1]}: {found}")
PROGRAM
output=$(cd "$work" && for what in insert removal; do
    venv/bin/python program.py "$what" die || true
    venv/bin/python program.py "$what" read
done)
echo "tinydb $VERSION"
echo "$output"
[ "$output" = "$EXPECTED" ] || { echo "this has changed: the file is cut in time, or replaced"; exit 1; }
