#!/usr/bin/env bash
# Expected: a job whose worker was killed is carried out by the next worker that starts, as arq's "pessimistic execution"
#     says: "jobs are not removed from the queue until they have either succeeded or failed".
# Happens: it stays in the queue, but no worker touches it while the key `arq:in-progress:ID` of the dead worker is there:
#     until its time limit and 10 more seconds are over, which is 310 seconds by default. Workers say nothing about it.
# Why it matters: a test that kills a worker, starts another one and looks whether the job was done twice sees it done
#     once, and passes. Delete that key in between, or set a short `job_timeout`.
# Source: arq/worker.py, Worker.in_progress_timeout_s and Worker.start_jobs.
set -euo pipefail
VERSION=0.28.0
EXPECTED="the worker was killed: started 1 times, in the queue: True, in progress for 310 s
another worker was idle for 3 s: started 1 times, logged: starting
arq:in-progress:order-1 was deleted: started 2 times"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "arq==$VERSION" "fakeredis==2.41.0" 2>/dev/null
cat >"$work/program.py" <<'PROGRAM'
import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
import time

import arq.worker
from arq import create_pool, run_worker
from arq.connections import RedisSettings

STARTS = "starts.txt"


async def no_info(*arguments):  # the fake server has no INFO command, which arq calls for a log line
    pass


async def bill(context):
    with open(STARTS, "a") as file:
        file.write(".")
    if os.path.getsize(STARTS) == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def work():
    logging.basicConfig(level=logging.INFO, format="%(message).8s", stream=sys.stdout)
    arq.worker.log_redis_info = no_info

    class Settings:
        functions = [bill]
        redis_settings = RedisSettings(port=int(sys.argv[1]))

    run_worker(Settings)


def starts():
    return f"started {os.path.getsize(STARTS)} times"


def wait_until(happened):
    for _ in range(600):
        if happened():
            return
        time.sleep(0.05)


async def main():
    from fakeredis import TcpFakeServer

    server = TcpFakeServer(("127.0.0.1", 0))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_address[1]
    open(STARTS, "w").close()

    def worker():
        return subprocess.Popen([sys.executable, __file__, str(port)], stdout=subprocess.PIPE, text=True)

    pool = await create_pool(RedisSettings(port=port))
    await pool.enqueue_job("bill", _job_id="order-1")
    await asyncio.to_thread(worker().wait, 30)
    queued = await pool.zscore("arq:queue", "order-1") is not None
    left = round(await pool.pttl("arq:in-progress:order-1"), -4) // 1000
    print(f"the worker was killed: {starts()}, in the queue: {queued}, in progress for {left} s")

    other = worker()
    logged = (await asyncio.to_thread(other.stdout.readline)).strip()
    await asyncio.sleep(3)
    print(f"another worker was idle for 3 s: {starts()}, logged: {logged.lower()}")
    await pool.delete("arq:in-progress:order-1")
    await asyncio.to_thread(wait_until, lambda: os.path.getsize(STARTS) == 2)
    print(f"arq:in-progress:order-1 was deleted: {starts()}")
    other.kill()
    other.wait()


if len(sys.argv) > 1:
    work()
else:
    asyncio.run(main())
    sys.stdout.flush()
    os._exit(0)  # the fake server's threads do not end
PROGRAM
output=$(cd "$work" && venv/bin/python program.py 2>&1)
echo "arq $VERSION"
echo "$output"
[ "$output" = "$EXPECTED" ] || { echo "this has changed: arq treats the jobs of killed workers otherwise"; exit 1; }
