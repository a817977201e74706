#!/usr/bin/env bash
# Expected: `HTTPAdapter(max_retries=3)` repeats a request only if it never reached the server. Its documentation says
#     so: "never to requests where data has made it to the server".
# Happens: if the server answers 413, 429 or 503 with a `Retry-After` header, a GET, PUT or DELETE is sent four times,
#     with the pauses that the header asks for. Without the header, or with POST, it is sent once.
# Why it matters: a number that was passed for refused connections makes a call last as long as an overloaded server
#     wishes, whatever `timeout=` is, and a DELETE that reached it is repeated. A failure test that answers a plain
#     503 shows none of this: send the header too. `Retry(3, respect_retry_after_header=False)` turns it off.
# Source: urllib3/util/retry.py, Retry.is_retry (RETRY_AFTER_STATUS_CODES); requests/adapters.py, HTTPAdapter.
set -euo pipefail
REQUESTS=2.34.2
URLLIB3=2.8.0
EXPECTED="GET, 503: status 503 after 1 request
GET, 503 with Retry-After: status 503 after 4 requests
PUT, 503 with Retry-After: status 503 after 4 requests
DELETE, 429 with Retry-After: status 429 after 4 requests
POST, 503 with Retry-After: status 503 after 1 request
GET, 503 with Retry-After, not respected: status 503 after 1 request
GET, 503 with Retry-After: 1, timeout=0.1: status 503 after 4 requests and more than 3 s"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "requests==$REQUESTS" "urllib3==$URLLIB3" 2>/dev/null
cat >"$work/program.py" <<'PROGRAM'
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

received = []


class Overloaded(BaseHTTPRequestHandler):
    def answer(self):
        received.append(self.command)
        status, _, seconds = self.path[1:].partition("/")
        self.send_response(int(status))
        if seconds:
            self.send_header("Retry-After", seconds)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_PUT = do_POST = do_DELETE = answer

    def log_message(self, *args):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Overloaded)
threading.Thread(target=server.serve_forever, daemon=True).start()


def report(label, method, path, max_retries=3, slow=False):
    received.clear()
    began = time.monotonic()
    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", HTTPAdapter(max_retries=max_retries))
        try:
            answer = session.request(method, f"http://127.0.0.1:{server.server_port}/{path}", timeout=0.1 if slow else 5)
            outcome = f"status {answer.status_code}"
        except requests.RequestException as error:
            outcome = type(error).__name__
    spent = " and more than 3 s" if slow and time.monotonic() - began > 2.9 else ""
    print(f"{method}, {label}: {outcome} after {len(received)} request{'s' * (len(received) > 1)}{spent}")


report("503", "GET", "503")
report("503 with Retry-After", "GET", "503/0")
report("503 with Retry-After", "PUT", "503/0")
report("429 with Retry-After", "DELETE", "429/0")
report("503 with Retry-After", "POST", "503/0")
report("503 with Retry-After, not respected", "GET", "503/0", Retry(3, respect_retry_after_header=False))
report("503 with Retry-After: 1, timeout=0.1", "GET", "503/1", slow=True)
PROGRAM
output=$("$work/venv/bin/python" "$work/program.py")
echo "requests $REQUESTS, urllib3 $URLLIB3"
echo "$output"
[ "$output" = "$EXPECTED" ] || { echo "this has changed: requests repeats other requests than it did"; exit 1; }
