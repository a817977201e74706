#!/usr/bin/env bash
# Expected: a job of RQ with `job_timeout=1` does not run longer, or is at least recorded as failed.
# Happens: the limit is an *Exception*, JobTimeoutException, raised once in the code of the job. `except Exception` or a
#     decorator that retries takes it for an error of the call that it interrupted. What follows has no limit, and the
#     job ends as finished. A worker that forks kills the job only a minute after the limit.
# Why it matters: the code that handles a slow dependency is the code that removes the limit. Test a job with a slow call,
#     not only with one that fails, and let JobTimeoutException pass: `retry_if_not_exception_type(JobTimeoutException)`.
#     Dramatiq's TimeLimitExceeded is a BaseException.
# Source: rq/timeouts.py, JobTimeoutException and UnixSignalDeathPenalty; rq/worker/worker_classes.py,
#     Worker.monitor_work_horse (`job.timeout + 60`).
set -euo pipefail
RQ=3.0.0
DRAMATIQ=2.2.1
EXPECTED="plain: status failed, calls ended by JobTimeoutException
except Exception: status finished, calls ended by JobTimeoutException, nothing
tenacity: status finished, calls ended by JobTimeoutException, nothing
tenacity, if not JobTimeoutException: status failed, calls ended by JobTimeoutException
the limit is an Exception: True in RQ, False in Dramatiq"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "rq==$RQ" fakeredis==2.41.0 tenacity==9.2.1 \
    "dramatiq==$DRAMATIQ" 2>/dev/null
cat >"$work/jobs.py" <<'PROGRAM'
import time

import tenacity
from rq.timeouts import JobTimeoutException

calls = []


def slow_call():
    try:
        time.sleep(1.3)
        calls.append("nothing")
    except BaseException as error:
        calls.append(type(error).__name__)
        raise


def except_exception():
    for _ in range(3):
        try:
            return slow_call()
        except Exception:
            pass  # try again


with_tenacity = tenacity.retry(stop=tenacity.stop_after_attempt(3))(slow_call)
letting_it_pass = tenacity.retry(
    stop=tenacity.stop_after_attempt(3), retry=tenacity.retry_if_not_exception_type(JobTimeoutException),
)(slow_call)


def plain():
    slow_call()


def tenacious():
    with_tenacity()


def tenacious_letting_it_pass():
    letting_it_pass()
PROGRAM
cat >"$work/program.py" <<'PROGRAM'
import logging

import dramatiq.middleware
import fakeredis
import jobs
from rq import Queue, SimpleWorker
from rq.timeouts import JobTimeoutException

logging.disable()
connection = fakeredis.FakeStrictRedis()
queue = Queue(connection=connection)
for label, function in {
    "plain": jobs.plain,
    "except Exception": jobs.except_exception,
    "tenacity": jobs.tenacious,
    "tenacity, if not JobTimeoutException": jobs.tenacious_letting_it_pass,
}.items():
    jobs.calls.clear()
    job = queue.enqueue(function, job_timeout=1)
    SimpleWorker([queue], connection=connection).work(burst=True)
    print(f"{label}: status {job.get_status().value}, calls ended by {', '.join(jobs.calls)}")
in_rq = issubclass(JobTimeoutException, Exception)
in_dramatiq = issubclass(dramatiq.middleware.TimeLimitExceeded, Exception)
print(f"the limit is an Exception: {in_rq} in RQ, {in_dramatiq} in Dramatiq")
PROGRAM
output=$(cd "$work" && venv/bin/python program.py 2>/dev/null)
echo "rq $RQ, dramatiq $DRAMATIQ, tenacity 9.2.1"
echo "$output"
[ "$output" = "$EXPECTED" ] || { echo "this has changed: the timeout of a job has another effect"; exit 1; }
