#!/usr/bin/env bash
# Expected: an assignment that cannot be stored raises, and after a commit() that raised, nothing is stored.
# Happens: sqlitedict queues each assignment for its thread and returns. An error is kept there and raised by a later
#     call. If that call is commit(), the other assignments of the transaction are stored or not, depending on timing:
#     commit() raises before it does anything if the error is already known. Otherwise it commits first, then raises.
# Why it matters: a test that makes a write fail sees no error at that line. A test that expects "commit() raised, so
#     nothing was stored" fails only sometimes, and code that repeats the work after the error may do it twice. Before
#     the commit, read any key: that waits for the thread and raises the error.
# Source: sqlitedict.py, SqliteMultithread.execute, check_raise_error and commit.
set -euo pipefail
VERSION=2.1.0
EXPECTED="error before commit(): the assignment returned, commit() raised, stored: {}
error during commit(): the assignment returned, commit() raised, stored: {'good': 1}
error before a read: the assignment returned, the read raised, stored: {}"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "sqlitedict==$VERSION" 2>/dev/null
cat >"$work/program.py" <<'PROGRAM'
import logging
import time

from sqlitedict import SqliteDict

logging.disable(logging.CRITICAL)  # sqlitedict logs the error that it keeps
NO_PICKLE = {"encode": lambda value: value, "decode": lambda value: value}


class Unstorable:
    """A value that SQLite refuses, once *ready* returns true."""

    def __init__(self, ready):
        self.ready = ready

    def __conform__(self, protocol):  # called by sqlite3 in sqlitedict's thread
        while not self.ready():
            time.sleep(0.001)
        raise ValueError


def run(label, *, in_queue, then):
    """Store a good and a bad value. The bad one fails once another call is queued if *in_queue*, else at once."""
    file = f"{label}.sqlite"
    db = SqliteDict(file, **NO_PICKLE)
    db["good"] = 1
    db["bad"] = Unstorable(lambda: not in_queue or not db.conn.reqs.empty())
    while not in_queue and db.conn.exception is None:
        time.sleep(0.001)
    try:
        then(db)
        outcome = "returned"
    except ValueError:
        outcome = "raised"
    with SqliteDict(file, flag="r", **NO_PICKLE) as stored:
        name = "the read" if "read" in label else "commit()"
        print(f"{label}: the assignment returned, {name} {outcome}, stored: {dict(stored)}")
    db.close()


run("error before commit()", in_queue=False, then=SqliteDict.commit)
run("error during commit()", in_queue=True, then=SqliteDict.commit)
run("error before a read", in_queue=True, then=lambda db: db.get("good"))
PROGRAM
output=$(cd "$work" && venv/bin/python program.py)
echo "sqlitedict $VERSION"
echo "$output"
[ "$output" = "$EXPECTED" ] || { echo "this has changed: a failed assignment is reported elsewhere"; exit 1; }
