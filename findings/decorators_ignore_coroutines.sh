#!/usr/bin/env bash
# Expected: a transaction, lock, circuit breaker or timer that can be used as a decorator refuses an async function, or
#     lasts until its body has ended.
# Happens: in these libraries it lasts for the call that makes the coroutine. Nothing warns, at definition or later.
#     What an async function wrote with peewee before it raised is *kept*. The lock of filelock is free while the body
#     runs. pybreaker counts each failed call as a success. prometheus_client measures microseconds and counts no error.
# Why it matters: the error paths of such a function are not what they look like, and only an injected failure shows it:
#     half an order is kept. Use `with` inside the function, or a library that knows coroutines.
# Source: peewee.py, _callable_context_manager; filelock/_core/_lock.py, BaseFileLock (a contextlib.ContextDecorator);
#     pybreaker/__init__.py, CircuitBreaker.__call__; prometheus_client/context_managers.py, Timer.__call__.
set -euo pipefail
PEEWEE=4.5.3
FILELOCK=4.3.1
PYBREAKER=1.4.1
PROMETHEUS=0.26.0
EXPECTED="peewee, @db.atomic(), rows left after an error: 0 if sync, 1 if async
filelock, @lock, held in the body: True if sync, False if async
pybreaker, @breaker, of 6 calls that fail are made: 2 if sync, 6 if async
prometheus_client, @histogram.time(), measured at least 0.1 s: True if sync, False if async
prometheus_client, @counter.count_exceptions(), counted: 1 if sync, 0 if async"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "peewee==$PEEWEE" "filelock==$FILELOCK" \
    "pybreaker==$PYBREAKER" "prometheus_client==$PROMETHEUS" 2>/dev/null
cat >"$work/program.py" <<'PROGRAM'
import asyncio
import time

import filelock
import peewee
import prometheus_client
import pybreaker

db = peewee.SqliteDatabase("shop.db")


class Order(peewee.Model):
    class Meta:
        database = db


db.create_tables([Order])


def outcome(function):
    """Call a function, or run it if it is async."""
    try:
        result = function()
        return asyncio.run(result) if asyncio.iscoroutine(result) else result
    except Exception as error:
        return error


def both(decorator, body):
    """Put the decorator around a sync and an async function with that body, and return functions that call them."""

    @decorator
    def sync_function():
        return body()

    @decorator
    async def async_function():
        return body()

    return (lambda: outcome(sync_function)), (lambda: outcome(async_function))


def report(label, decorator, body, result):
    found = [result(call) for call in both(decorator, body)]
    print(f"{label}: {found[0]} if sync, {found[1]} if async")


def order():
    Order.create()
    raise OSError("refused")


def rows_left(call):
    call()
    return Order.delete().execute()


report("peewee, @db.atomic(), rows left after an error", db.atomic(), order, rows_left)

lock = filelock.FileLock("shop.lock")
report("filelock, @lock, held in the body", lock, lambda: lock.is_locked, lambda call: call())

made = []


def failing():
    made.append(1)
    raise OSError("refused")


def calls_made(call):
    made.clear()
    for _ in range(6):
        call()
    return len(made)


def breaker(function):
    return pybreaker.CircuitBreaker(fail_max=2)(function)


report("pybreaker, @breaker, of 6 calls that fail are made", breaker, failing, calls_made)

histogram = prometheus_client.Histogram("seconds", "of a call")


def measured(call):
    before = histogram._sum.get()
    call()
    return histogram._sum.get() - before >= 0.1


report("prometheus_client, @histogram.time(), measured at least 0.1 s", histogram.time(), lambda: time.sleep(0.2),
       measured)

counter = prometheus_client.Counter("errors", "of a call")


def counted(call):
    before = counter._value.get()
    call()
    return int(counter._value.get() - before)


report("prometheus_client, @counter.count_exceptions(), counted", counter.count_exceptions(), failing, counted)
PROGRAM
output=$(cd "$work" && venv/bin/python -W error program.py)
echo "peewee $PEEWEE, filelock $FILELOCK, pybreaker $PYBREAKER, prometheus_client $PROMETHEUS"
echo "$output"
[ "$output" = "$EXPECTED" ] || { echo "this has changed: these decorators treat async functions differently"; exit 1; }
