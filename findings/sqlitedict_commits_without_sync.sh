#!/usr/bin/env bash
# Expected: what commit() of sqlitedict has returned for survives a power loss, as with SQLite's own commit.
# Happens: each connection sets synchronous=OFF, so SQLite syncs nothing. A power loss can take the commit back, and can
#     leave "database disk image is malformed": the pages of the database and its journal persist in any order.
# Why it matters: a program that kills itself after commit() finds its data again, since the operating system has it. Only
#     a test that drops what was not synced shows the difference.
# Source: sqlitedict.py, SqliteMultithread._connect: conn.execute('PRAGMA synchronous=OFF').
set -euo pipefail
VERSION=2.1.0
EXPECTED="synchronous: 0, journal_mode: delete
sqlite3 by itself: synchronous: 2"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "sqlitedict==$VERSION" 2>/dev/null
cat >"$work/program.py" <<'PROGRAM'
import sqlite3

from sqlitedict import SqliteDict

with SqliteDict("saved.db") as saved:
    synchronous, journal = (saved.conn.select_one(f"PRAGMA {name}")[0] for name in ("synchronous", "journal_mode"))
    print(f"synchronous: {synchronous}, journal_mode: {journal}")
print("sqlite3 by itself: synchronous:", sqlite3.connect("other.db").execute("PRAGMA synchronous").fetchone()[0])
PROGRAM
output=$(cd "$work" && venv/bin/python program.py)
echo "sqlitedict $VERSION"
echo "$output"
[ "$output" = "$EXPECTED" ] || { echo "this has changed: sqlitedict syncs its commits"; exit 1; }
