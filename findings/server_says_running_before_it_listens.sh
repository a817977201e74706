#!/usr/bin/env bash
# Expected: once a server has written "Uvicorn running on http://…", a client can connect.
# Happens: that holds for uvicorn with one process. With `--reload` or `--workers`, the parent process writes the line
#     when it has bound the socket, and the workers listen after they have imported the application. Until then
#     connections are refused. granian does the same, always. hypercorn writes it when a worker listens.
# Why it matters: tests that start a server wait for this line. They pass with a small application, and fail now and
#     then with one that is slow to import, as if the injected failure had caused it. Wait until a connection is
#     accepted.
# Source: uvicorn/config.py, Config.bind_socket (writes the line, does not listen) and supervisors/; granian/server/
#     common.py; hypercorn/asyncio/run.py, worker_serve.
set -euo pipefail
UVICORN=0.54.0
HYPERCORN=0.18.0
GRANIAN=2.8.9
EXPECTED="uvicorn: accepted
uvicorn --reload: refused
uvicorn --workers 2: refused
granian: refused
hypercorn: accepted
hypercorn --workers 2: accepted"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "uvicorn==$UVICORN" "hypercorn==$HYPERCORN" \
    "granian==$GRANIAN" 2>/dev/null
cat >"$work/app.py" <<'PROGRAM'
import time

time.sleep(2)  # an application that is slow to import


async def app(scope, receive, send):
    raise NotImplementedError  # a server may ask whether the application has a lifespan
PROGRAM
cat >"$work/program.py" <<'PROGRAM'
import os
import signal
import socket
import subprocess
import sys


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def report(label, *arguments):
    port = free_port()
    at = [f"--bind=127.0.0.1:{port}"] if arguments[0] == "hypercorn" else [f"--port={port}"]
    server = subprocess.Popen(
        [sys.executable, "-m", *arguments, *at, "app:app"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )
    for line in server.stdout:
        if f"http://127.0.0.1:{port}" in line:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                print(f"{label}: accepted")
            except ConnectionRefusedError:
                print(f"{label}: refused")
            break
    os.killpg(server.pid, signal.SIGKILL)
    server.wait()


report("uvicorn", "uvicorn")
report("uvicorn --reload", "uvicorn", "--reload")
report("uvicorn --workers 2", "uvicorn", "--workers=2")
report("granian", "granian", "--interface=asgi")
report("hypercorn", "hypercorn")
report("hypercorn --workers 2", "hypercorn", "--workers=2")
PROGRAM
output=$(cd "$work" && timeout 120 venv/bin/python program.py)
echo "uvicorn $UVICORN, granian $GRANIAN, hypercorn $HYPERCORN"
echo "$output"
[ "$output" = "$EXPECTED" ] || { echo "this has changed: a server writes that it runs at another moment"; exit 1; }
