#!/usr/bin/env bash
# Expected: `await pipe.incr("n")` on a pipeline of redis.asyncio sends the command, or is an error, because commands of
#     a pipeline are sent by `execute()`.
# Happens: it sends nothing and returns the pipeline. If the block ends without `execute()`, the command is dropped
#     without an error or a warning. After `watch()`, the same line sends the command and returns its reply.
# Why it matters: code that passes a pipeline where a client is expected loses its writes in
#     silence. A test that patches or wraps `Redis.incr` to lose a reply after `await` loses nothing here, since nothing
#     was sent.
# Source: redis/asyncio/client.py, Pipeline.__await__, Pipeline.execute_command and Pipeline.__aexit__.
set -euo pipefail
VERSION=8.1.0
EXPECTED="client: await incr returned 1, the counter is 1
pipeline: await incr returned Pipeline, the counter is missing
pipeline after watch(): await incr returned 1, the counter is 1"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "redis==$VERSION" "fakeredis==2.41.0" 2>/dev/null
cat >"$work/program.py" <<'PROGRAM'
import asyncio

import fakeredis


def shown(value):
    return value if isinstance(value, int) else type(value).__name__


async def main():
    client = fakeredis.FakeAsyncRedis()

    async def report(label, returned):
        counter = await client.get("n")
        state = "missing" if counter is None else int(counter)
        print(f"{label}: await incr returned {shown(returned)}, the counter is {state}")
        await client.flushall()

    await report("client", await client.incr("n"))
    async with client.pipeline() as pipeline:
        returned = await pipeline.incr("n")
    await report("pipeline", returned)
    async with client.pipeline() as pipeline:
        await pipeline.watch("m")
        returned = await pipeline.incr("n")
    await report("pipeline after watch()", returned)


asyncio.run(main())
PROGRAM
output=$("$work/venv/bin/python" -W error "$work/program.py")
echo "redis-py $VERSION"
echo "$output"
[ "$output" = "$EXPECTED" ] || { echo "this has changed: redis-py treats awaited commands of a pipeline differently"; exit 1; }
