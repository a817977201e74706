#!/usr/bin/env bash
# Expected: a process that dies while it creates a DuckDB database leaves a file that the next connect() opens, as SQLite
#     does, which takes an empty file for a new database.
# Happens: the file has its final name before its headers are written. If the process dies in between, every later
#     connect() raises "exists, but it is not a valid DuckDB database file", until the file is removed by hand.
# Why it matters: a service that is killed during its very first start does not start any more. Tests with a database
#     that exists already do not see it.
# Source: SingleFileBlockManager::CreateNewDatabase. The program here is killed by its limit on the size of files, at its
#     first write.
set -euo pipefail
VERSION=2.0.1
EXPECTED="killed by SIGXFSZ, and the file has 0 bytes
IOException: exists, but it is not a valid DuckDB database file"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "duckdb==$VERSION" 2>/dev/null
cat >"$work/program.py" <<'PROGRAM'
import os
import resource
import signal

import duckdb

child = os.fork()
if not child:
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    duckdb.connect("new.duckdb")
    os._exit(0)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print(f"killed by {signal.Signals(-code).name}, and the file has {os.path.getsize('new.duckdb')} bytes")
try:
    duckdb.connect("new.duckdb")
    print("opened")
except duckdb.IOException as error:
    text = "exists, but it is not a valid DuckDB database file"
    print(f"IOException: {text if text in str(error) else error}")
PROGRAM
output=$(cd "$work" && venv/bin/python program.py)
echo "duckdb $VERSION"
echo "$output"
[ "$output" = "$EXPECTED" ] || { echo "this has changed: an unfinished database can be opened, or is not left"; exit 1; }
