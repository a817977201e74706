#!/usr/bin/env bash
# Expected: a function registered with keep_result=0 leaves no result behind, however its job ends, so that the same job
#     id can be used again at once.
# Happens: a job that is dropped because it used up its tries, for example because its worker was stopped or killed each
#     time, leaves a result under the worker's own setting: one hour. Until then `enqueue_job` with that id returns None
#     and enqueues nothing, without an error. After a success or an exception nothing is kept, as asked.
# Why it matters: a test that kills the worker during every try and then enqueues the job again tests nothing. Ask for a
#     Job in the return value, or delete `arq:result:ID` in between.
# Source: arq/worker.py, Worker.run_job, where it calls finish_failed_job for "max retries exceeded" with
#     Worker.keep_result_s.
set -euo pipefail
VERSION=0.28.0
EXPECTED="ends well: ran 1 times, keys left: none, enqueued again: True
raises OSError: ran 1 times, keys left: none, enqueued again: True
cancelled in each try: ran 3 times, keys left: arq:result:order-1 (3600 s), enqueued again: False"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "arq==$VERSION" "fakeredis==2.41.0" 2>/dev/null
cat >"$work/program.py" <<'PROGRAM'
import asyncio
import logging
import os
import sys
import threading

import arq.worker
from arq import Worker, create_pool, func
from arq.connections import RedisSettings
from fakeredis import TcpFakeServer

logging.disable()
server = TcpFakeServer(("127.0.0.1", 0))
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
settings = RedisSettings(port=server.server_address[1])
tries = []


async def no_info(*arguments):  # the fake server has no INFO command, which arq calls for a log line
    pass


arq.worker.log_redis_info = no_info


async def bill(context, ending):
    tries.append(context["job_try"])
    if ending == "raises OSError":
        raise OSError("disk full")
    if ending == "cancelled in each try":
        raise asyncio.CancelledError  # as if the worker were stopped meanwhile


async def main():
    pool = await create_pool(settings)
    for ending in ("ends well", "raises OSError", "cancelled in each try"):
        await pool.flushall()
        tries.clear()
        await pool.enqueue_job("bill", ending, _job_id="order-1")
        worker = Worker(
            [func(bill, name="bill", max_tries=3, keep_result=0)],
            redis_settings=settings, burst=True, poll_delay=0.05, handle_signals=False,
        )
        await worker.async_run()
        await worker.close()
        keys = [key for key in await pool.keys("arq:*") if not key.endswith(b"health-check")]
        left = ", ".join([f"{key.decode()} ({await pool.ttl(key)} s)" for key in keys]) or "none"
        again = await pool.enqueue_job("bill", ending, _job_id="order-1")
        print(f"{ending}: ran {len(tries)} times, keys left: {left}, enqueued again: {again is not None}")


asyncio.run(main())
sys.stdout.flush()
os._exit(0)  # the fake server's threads do not end
PROGRAM
output=$("$work/venv/bin/python" "$work/program.py" 2>&1 | sed 's/(3[56][0-9][0-9] s)/(3600 s)/')
echo "arq $VERSION"
echo "$output"
[ "$output" = "$EXPECTED" ] || { echo "this has changed: arq keeps other results than it did"; exit 1; }
