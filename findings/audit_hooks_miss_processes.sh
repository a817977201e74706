#!/usr/bin/env bash
# Expected: an audit hook sees every process that Python code starts. The documentation lists the events subprocess.Popen,
#     os.fork, os.posix_spawn and os.spawn, and says that os.spawnv and its kin raise os.spawn.
# Happens: on Linux `multiprocessing` raises no event at all for the start methods spawn and forkserver, and os.spawnv
#     raises os.fork only.
# Why it matters: whoever counts, forbids or instruments the children of a test by an audit hook (sandboxes, leak checks)
#     misses every worker of a ProcessPoolExecutor, by default from Python 3.14 on, where forkserver is the default.
# Source: Lib/multiprocessing/util.py, spawnv_passfds calls _posixsubprocess.fork_exec, which has no event: that of
#     subprocess is raised in Python, in Popen._execute_child; Lib/os.py, _spawnvef.
set -euo pipefail
EXPECTED="multiprocessing, fork: os.fork
multiprocessing, spawn: nothing
multiprocessing, forkserver: nothing
os.spawnv: os.fork
subprocess.run: subprocess.Popen"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/program.py" <<'PROGRAM'
import multiprocessing
import os
import subprocess
import sys

EVENTS = ("subprocess.Popen", "os.fork", "os.posix_spawn", "os.spawn", "os.system", "os.exec")
seen = []


def show(what):
    print(f"{what}: {', '.join(seen) or 'nothing'}")
    seen.clear()


def idle():
    pass


if __name__ == "__main__":
    sys.addaudithook(lambda event, arguments: seen.append(event) if event in EVENTS else None)
    for method in ("fork", "spawn", "forkserver"):
        process = multiprocessing.get_context(method).Process(target=idle)
        process.start()
        process.join()
        show(f"multiprocessing, {method}")
    os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", ""])
    show("os.spawnv")
    subprocess.run([sys.executable, "-c", ""], check=True)
    show("subprocess.run")
PROGRAM
output=$(python3 "$work/program.py")
python3 --version
echo "$output"
[ "$output" = "$EXPECTED" ] || { echo "this has changed: audit hooks see other processes than they did"; exit 1; }
