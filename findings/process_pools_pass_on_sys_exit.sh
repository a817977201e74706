#!/usr/bin/env bash
# Expected: sys.exit(3) in a worker process ends that process, and the pool reports a worker that died.
# Happens: the worker catches SystemExit like any other error and goes on. The pool raises it in the caller, so the
#     *parent* exits, with status 3. This holds for concurrent.futures, joblib's default backend and anyio.to_process.
# Why it matters: a test that wants to see a dead worker and injects SystemExit ends the program under test instead, and
#     never reaches the code that handles BrokenProcessPool. `except Exception` around the result does not stop it. A
#     worker only dies by os._exit() or a signal.
# Source: concurrent/futures/process.py, _process_worker (except BaseException); joblib/externals/loky/
#     process_executor.py, _process_worker; anyio/to_process.py, process_worker.
set -euo pipefail
JOBLIB=1.6.0
ANYIO=4.16.0
EXPECTED="ProcessPoolExecutor, sys.exit(3): SystemExit in the caller
ProcessPoolExecutor, os._exit(3): BrokenProcessPool in the caller
joblib.Parallel, sys.exit(3): SystemExit in the caller
joblib.Parallel, os._exit(3): TerminatedWorkerError in the caller
anyio.to_process, sys.exit(3): SystemExit in the caller
anyio.to_process, os._exit(3): BrokenWorkerProcess in the caller
a program that asks for the result ends with status 3"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "joblib==$JOBLIB" "anyio==$ANYIO" 2>/dev/null
cat >"$work/program.py" <<'PROGRAM'
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor

import anyio
import anyio.to_process
import joblib

PROGRAM = """
import sys
from concurrent.futures import ProcessPoolExecutor

if __name__ == "__main__":
    with ProcessPoolExecutor(1) as pool:
        try:
            pool.submit(sys.exit, 3).result()
        except Exception:
            print("handled")
"""


def futures(function, status):
    with ProcessPoolExecutor(1) as pool:
        pool.submit(function, status).result()


def parallel(function, status):
    joblib.Parallel(n_jobs=2)([joblib.delayed(function)(status)] * 2)


def to_process(function, status):
    anyio.run(anyio.to_process.run_sync, function, status)


def main():
    runners = {"ProcessPoolExecutor": futures, "joblib.Parallel": parallel, "anyio.to_process": to_process}
    for name, runner in runners.items():
        for function in (sys.exit, os._exit):
            label = "sys.exit" if function is sys.exit else "os._exit"
            try:
                runner(function, 3)
                outcome = "nothing"
            except BaseException as error:
                outcome = type(error).__name__
            print(f"{name}, {label}(3): {outcome} in the caller", flush=True)
    with open("caller.py", "w") as file:
        file.write(PROGRAM)
    status = subprocess.run([sys.executable, "caller.py"], check=False).returncode
    print(f"a program that asks for the result ends with status {status}")


if __name__ == "__main__":
    main()
PROGRAM
output=$(cd "$work" && venv/bin/python program.py 2>/dev/null)
echo "$("$work/venv/bin/python" --version), joblib $JOBLIB, anyio $ANYIO"
echo "$output"
[ "$output" = "$EXPECTED" ] || { echo "this has changed: SystemExit in a worker has another effect on the caller"; exit 1; }
