#!/usr/bin/env bash
# Expected: frozen time does not move, so no timeout can expire inside `freeze_time()`, least of all when it freezes the
#     present moment.
# Happens: freezegun also replaces time.monotonic(), the clock of asyncio, and the replacement counts seconds since 1970
#     instead of since some start of the machine. Entering the block moves the monotonic clock by decades. Each timer
#     that an event loop set before is due at once: sleep(3600) returns and asyncio.timeout(3600) expires. Leaving the
#     block moves the clock back. With real_asyncio=True the loop keeps its own time, but other code that compares
#     monotonic times still sees the jump. time-machine leaves the monotonic clock alone.
# Why it matters: freezing the time for a part of a test fires every timeout, lease and heartbeat that is pending, which
#     looks like the failure that the test injected, or hides it. Freeze before anything sets a timer.
# Source: freezegun/api.py, _get_fake_monotonic and freeze_time (real_asyncio).
set -euo pipefail
VERSION=1.5.5
EXPECTED="freezegun, now: asyncio.sleep(3600) has returned, the monotonic clock has jumped
freezegun, real_asyncio=True: asyncio.sleep(3600) is waiting, the monotonic clock has jumped
time-machine, now: asyncio.sleep(3600) is waiting, the monotonic clock has not jumped"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "freezegun==$VERSION" time-machine==3.6.0 2>/dev/null
cat >"$work/program.py" <<'PROGRAM'
import asyncio
import datetime
import time

import freezegun
import time_machine

HOUR = 3600


async def freeze(label, frozen):
    sleeper = asyncio.create_task(asyncio.sleep(HOUR))
    await asyncio.sleep(0)  # the sleeper sets its timer
    before = time.monotonic()
    with frozen:
        jumped = abs(time.monotonic() - before) > HOUR
        for _ in range(5):
            await asyncio.sleep(0)
        returned = sleeper.done()
    sleeper.cancel()
    print(
        f"{label}: asyncio.sleep({HOUR}) {'has returned' if returned else 'is waiting'}, "
        f"the monotonic clock has {'' if jumped else 'not '}jumped"
    )


now = datetime.datetime.now(datetime.timezone.utc)
asyncio.run(freeze("freezegun, now", freezegun.freeze_time()))
asyncio.run(freeze("freezegun, real_asyncio=True", freezegun.freeze_time(real_asyncio=True)))
asyncio.run(freeze("time-machine, now", time_machine.travel(now, tick=False)))
PROGRAM
output=$("$work/venv/bin/python" "$work/program.py")
echo "freezegun $VERSION, time-machine 3.6.0"
echo "$output"
[ "$output" = "$EXPECTED" ] || { echo "this has changed: freezing the time moves other clocks than it did"; exit 1; }
