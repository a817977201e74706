#!/usr/bin/env bash
# Expected: each gunicorn has a control socket of its own, or the second one of a user says that the place is taken.
# Happens: all of them listen at ~/.gunicorn/gunicorn.ctl. The second one removes the socket of the first without a word,
#     and `gunicornc` then speaks to the second. When the second ends, the first goes on, but cannot be reached any more.
# Why it matters: a test that starts gunicorn takes the socket from the server that one has running, and two servers in
#     one test answer for each other. Start each with `--no-control-socket`, a `--control-socket` or a HOME of its own.
# Source: gunicorn/ctl/server.py, ControlSocketServer; gunicorn/config.py, ControlSocket.
set -euo pipefail
VERSION=27.0.1
EXPECTED="one server: gunicornc speaks to the first
two servers: gunicornc speaks to the second
the second has ended: gunicornc speaks to none
the first runs: True
warnings in the logs: 0"

work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "gunicorn==$VERSION" 2>/dev/null
export HOME="$work" # of the socket
cd "$work"
cat >app.py <<'PROGRAM'
def app(environ, start_response):
    start_response("200 OK", [])
    return []
PROGRAM
start() { # a server, and wait until it listens at its control socket
    venv/bin/gunicorn --bind 127.0.0.1:0 app:app 2>"$1.log" &
    until grep -qs "Control socket listening" "$1.log"; do sleep 0.1; done
}
ask() {
    local pid
    pid=$(venv/bin/gunicornc -c "show stats" 2>/dev/null | sed -n 's/^PID: *//p') || true
    case $pid in "$first") echo "the first" ;; "${second:-none}") echo "the second" ;; *) echo "none" ;; esac
}
output=$(
    start first && first=$!
    echo "one server: gunicornc speaks to $(ask)"
    start second && second=$!
    echo "two servers: gunicornc speaks to $(ask)"
    kill "$second" && wait "$second" || true
    echo "the second has ended: gunicornc speaks to $(ask)"
    kill -0 "$first" && echo "the first runs: True"
    kill "$first" && wait "$first" || true
    echo "warnings in the logs: $(cat first.log second.log | grep -cE 'WARN|ERROR' || true)"
)
echo "gunicorn $VERSION"
echo "$output"
[ "$output" = "$EXPECTED" ] || { echo "this has changed: gunicorn's control socket is another"; exit 1; }
