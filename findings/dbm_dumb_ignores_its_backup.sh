#!/usr/bin/env bash
# Expected: a process that dies while dbm.dumb saves its index loses at most the newest changes. The index is renamed to
#     .bak before the new one is written, so one of the two is always there.
# Happens: nothing ever reads the .bak. If the process dies between the rename and the new index, opening the database
#     with the flag "c", which is also the default of shelve.open(), returns an empty database without an error. What
#     sync() had saved before is not found any more, and the next save overwrites the backup.
# Why it matters: shelve uses dbm.dumb where no other dbm is there. sync() and close() both pass this point, each time. A
#     test that only kills between calls never sees it.
# Source: Lib/dbm/dumb.py, _Database._commit and _Database._update.
set -euo pipefail
EXPECTED="files: d.bak, d.dat
opened with r: FileNotFoundError
opened with c: keys []"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/program.py" <<'PROGRAM'
import dbm.dumb
import os

with dbm.dumb.open("d", "c") as database:
    database["a"] = "saved"
    database.sync()
child = os.fork()
if not child:
    rename = os.rename

    def rename_and_die(source, target):
        rename(source, target)
        os._exit(9)

    os.rename = rename_and_die
    database = dbm.dumb.open("d", "c")
    database["b"] = "new"
    database.sync()
os.waitpid(child, 0)
print("files:", ", ".join(sorted(name for name in os.listdir() if name.startswith("d."))))
try:
    dbm.dumb.open("d", "r")
except OSError as error:
    print("opened with r:", type(error).__name__)
print("opened with c: keys", dbm.dumb.open("d", "c").keys())
PROGRAM
output=$(cd "$work" && python3 program.py)
python3 --version
echo "$output"
[ "$output" = "$EXPECTED" ] || { echo "this has changed: the backup is used, or not made"; exit 1; }
