#!/usr/bin/env bash
# Expected: an exception that a function raises in a ProcessPoolExecutor's worker is raised by `result()`.
# Happens: an exception that can be pickled but not *unpickled* is taken for the death of the worker: `result()` raises
#     BrokenProcessPool, as do all other pending calls, and the pool takes no more. The workers were alive until then;
#     the pool ends them. One that cannot be pickled is handled: its own caller gets the error of pickle. An exception
#     whose `__init__` has a required keyword argument is of the first kind, such as httpx.HTTPStatusError.
# Why it matters: one answer 503 in one worker ends the work of all. A test that raises ValueError or OSError there does
#     not show it: let it raise the errors of the client in use. Convert them in the worker, or define `__reduce__`.
# Source: concurrent/futures/process.py, _ExecutorManagerThread.wait_result_broken_or_wakeup (takes any error of
#     `recv()` for a broken pipe); httpx/_exceptions.py, HTTPStatusError.__init__.
set -euo pipefail
VERSION=0.28.1
EXPECTED="ValueError: ValueError, the other call: done, the next call: done
cannot be pickled: TypeError, the other call: done, the next call: done
httpx.ReadTimeout: ReadTimeout, the other call: done, the next call: done
httpx.HTTPStatusError: BrokenProcessPool, the other call: BrokenProcessPool, the next call: BrokenProcessPool"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "httpx==$VERSION" 2>/dev/null
cat >"$work/program.py" <<'PROGRAM'
import multiprocessing
import os
import threading
import time
from concurrent.futures import ProcessPoolExecutor

import httpx

KINDS = ("ValueError", "cannot be pickled", "httpx.ReadTimeout", "httpx.HTTPStatusError")


def fails(kind):
    request = httpx.Request("GET", "http://shop/")
    if kind == "httpx.ReadTimeout":
        raise httpx.ReadTimeout("late", request=request)
    if kind == "httpx.HTTPStatusError":
        httpx.Response(503, request=request).raise_for_status()
    error = ValueError("bad")
    if kind == "cannot be pickled":
        error.lock = threading.Lock()
    raise error


def done_when_there_is(path):
    while not os.path.exists(path):
        time.sleep(0.01)
    return "done"


def outcome(future):
    try:
        return future.result()
    except Exception as error:
        return type(error).__name__


def submitted(pool, function, argument):
    try:
        return outcome(pool.submit(function, argument))
    except Exception as error:
        return type(error).__name__


def main():
    for number, kind in enumerate(KINDS):
        path = f"go {number}"
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
            other = pool.submit(done_when_there_is, path)
            own = submitted(pool, fails, kind)
            with open(path, "w"):
                pass
            following = submitted(pool, done_when_there_is, path)
            print(f"{kind}: {own}, the other call: {outcome(other)}, the next call: {following}")


if __name__ == "__main__":
    main()
PROGRAM
output=$(cd "$work" && venv/bin/python program.py)
echo "$("$work/venv/bin/python" --version), httpx $VERSION"
echo "$output"
[ "$output" = "$EXPECTED" ] || { echo "this has changed: a pool of processes treats such errors differently"; exit 1; }
