#!/usr/bin/env bash
# Expected: a process that pytest-subprocess fakes with `wait=2`, for two seconds, makes `subprocess.run(…, timeout=0.2)`
#     raise TimeoutExpired, as `Popen.wait(timeout=0.2)` does.
# Happens: only `wait` and what is made of it look at the limit. `communicate` ignores the remaining time, so `run`,
#     `check_output` and `communicate` itself return after 0.2 seconds with the whole output, as if the process had
#     ended. `wait` raises at once. The real module raises TimeoutExpired in all of them.
# Why it matters: the branch for a process that hangs is the one that such a test is written for, and it is not taken:
#     `run` succeeds. Make the fake raise the error: `callback=` with a function that raises TimeoutExpired.
# Source: pytest_subprocess/fake_popen.py, FakePopen.communicate and _finalize_thread (join with a limit, and no check
#     after it), FakePopen.wait.
set -euo pipefail
VERSION=1.6.0
EXPECTED="wait: a real process TimeoutExpired, a fake TimeoutExpired
call: a real process TimeoutExpired, a fake TimeoutExpired
communicate: a real process TimeoutExpired, a fake output 'done'
run: a real process TimeoutExpired, a fake output 'done'
check_output: a real process TimeoutExpired, a fake output 'done'"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "pytest-subprocess==$VERSION" pytest==9.2.0 2>/dev/null
cat >"$work/test_limits.py" <<'TESTS'
import subprocess
import sys

COMMAND = [sys.executable, "-c", "import time; time.sleep(2); print('done', end='')"]
LIMIT = 0.2


def on_popen(method):
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, text=True) as process:
        try:
            return getattr(process, method)(timeout=LIMIT)[0]
        finally:
            process.kill()


CALLS = {
    "wait": lambda: on_popen("wait"),
    "call": lambda: subprocess.call(COMMAND, stdout=subprocess.DEVNULL, timeout=LIMIT),
    "communicate": lambda: on_popen("communicate"),
    "run": lambda: subprocess.run(COMMAND, capture_output=True, text=True, timeout=LIMIT).stdout,
    "check_output": lambda: subprocess.check_output(COMMAND, text=True, timeout=LIMIT),
}


def outcome(call):
    try:
        return f"output {call()!r}"
    except subprocess.TimeoutExpired:
        return "TimeoutExpired"


def test_limits(fp):
    for name, call in CALLS.items():
        fp.allow_unregistered(True)
        real = outcome(call)
        fp.register(COMMAND, stdout="done", wait=2)
        print(f"\n{name}: a real process {real}, a fake {outcome(call)}")
TESTS
output=$(cd "$work" && venv/bin/python -m pytest -q -s -p no:cacheprovider test_limits.py | grep "a real process")
echo "pytest-subprocess $VERSION, pytest 9.2.0"
echo "$output"
[ "$output" = "$EXPECTED" ] || { echo "this has changed: pytest-subprocess treats timeouts differently"; exit 1; }
