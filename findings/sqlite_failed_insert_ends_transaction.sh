#!/usr/bin/env bash
# Expected: a statement that fails is undone alone, as SQLite does for a violated constraint, or it makes the whole
#     transaction unusable, as in PostgreSQL.
# Happens: SQLite does either, depending on the error. After a violated constraint, an error in an SQL function or a
#     value that is too big, the transaction goes on. After a full disk or an interrupted INSERT it has been rolled back
#     and ended. With Python's sqlite3 nothing shows this: code that catches the error and continues starts a new
#     transaction, and its commit() keeps the second half of the work only.
# Why it matters: a test that raises OperationalError in place of a statement leaves the transaction open, so it cannot
#     find this bug. Cause the real error (PRAGMA max_page_count, a progress handler), or roll back when injecting it.
#     Code under test can check in_transaction.
# Source: SQLite, "Response To Errors Within A Transaction" (lang_transaction.html) and sqlite3_interrupt().
set -euo pipefail
VERSION=3.54.1.0
EXPECTED="constraint: ConstraintError, the transaction goes on
function: ValueError, the transaction goes on
too big: TooBigError, the transaction goes on
disk full: FullError, the transaction has ended
interrupted: InterruptError, the transaction has ended
sqlite3, inserted 1, failed: database or disk is full, inserted 2, committed: [(2,)]"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "apsw==$VERSION" 2>/dev/null
cat >"$work/program.py" <<'PROGRAM'
import sqlite3

import apsw


def fail_in_transaction(label, prepare, statement):
    db = apsw.Connection(":memory:")
    db.execute("CREATE TABLE items (id UNIQUE)")
    db.execute("BEGIN")
    db.execute("INSERT INTO items VALUES (1)")
    prepare(db)
    try:
        db.execute(statement)
    except Exception as error:
        state = "goes on" if db.in_transaction else "has ended"
        print(f"{label}: {type(error).__name__}, the transaction {state}")


def add_failing_function(db):
    def fail():
        raise ValueError

    db.create_scalar_function("fail", fail)


def fill_disk(db):
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    db.execute(f"PRAGMA max_page_count = {pages}")


BIG = "INSERT INTO items VALUES (zeroblob(100000))"
fail_in_transaction("constraint", lambda db: None, "INSERT INTO items VALUES (1)")
fail_in_transaction("function", add_failing_function, "INSERT INTO items VALUES (fail())")
fail_in_transaction("too big", lambda db: db.limit(apsw.SQLITE_LIMIT_LENGTH, 1000), BIG)
fail_in_transaction("disk full", fill_disk, BIG)
fail_in_transaction("interrupted", lambda db: db.set_progress_handler(lambda: True, 1), "INSERT INTO items VALUES (2)")

db = sqlite3.connect(":memory:")
db.execute("CREATE TABLE items (id)")
db.execute("INSERT INTO items VALUES (1)")
fill_disk(db)
try:
    db.execute(BIG)
except sqlite3.OperationalError as error:
    reason = error
db.execute("INSERT INTO items VALUES (2)")
db.commit()
rows = db.execute("SELECT id FROM items").fetchall()
print(f"sqlite3, inserted 1, failed: {reason}, inserted 2, committed: {rows}")
PROGRAM
output=$(cd "$work" && venv/bin/python program.py)
echo "apsw $VERSION (with SQLite 3.54.1), $(cd "$work" && venv/bin/python -c 'import sqlite3; print("sqlite3 with SQLite", sqlite3.sqlite_version)')"
echo "$output"
[ "$output" = "$EXPECTED" ] || { echo "this has changed: other errors end a transaction"; exit 1; }
