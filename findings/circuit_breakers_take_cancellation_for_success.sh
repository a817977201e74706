#!/usr/bin/env bash
# Expected: a circuit breaker opens after some calls that timed out, and a call that times out does not close it.
# Happens: a limit from outside, such as `asyncio.timeout`, ends the call with CancelledError, which is not an Exception.
#     circuitbreaker takes every error that it does not count for a success: it resets its count of failures, and closes
#     a circuit that is half open. aiobreaker and hyx do not count such a call at all. purgatory counts it.
# Why it matters: a dependency that hangs is what a breaker is for. A test that injects an error sees the circuit open,
#     so nothing shows that it stays closed when the dependency hangs. Put the limit inside the call that is guarded.
# Source: circuitbreaker.py, CircuitBreaker.__exit__; aiobreaker/state.py, CircuitBreakerState.call_async (except
#     Exception); hyx/circuitbreaker/managers.py, ConsecutiveCircuitBreaker.__call__; purgatory/domain/model.py,
#     Context.__exit__.
set -euo pipefail
CIRCUITBREAKER=2.1.3
AIOBREAKER=1.2.0
HYX=0.0.2
PURGATORY=0.7.2
EXPECTED="circuitbreaker: 6 of 6 calls that hang are made, 2 of 6 that raise OSError
aiobreaker: 6 of 6 calls that hang are made, 2 of 6 that raise OSError
hyx: 6 of 6 calls that hang are made, 2 of 6 that raise OSError
purgatory: 2 of 6 calls that hang are made, 2 of 6 that raise OSError
circuitbreaker, alternately: 6 of 6 calls are made
circuitbreaker, half_open, then a call that hangs: closed"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "circuitbreaker==$CIRCUITBREAKER" \
    "aiobreaker==$AIOBREAKER" "hyx==$HYX" "purgatory-circuitbreaker==$PURGATORY" \
    typing_extensions==4.16.0 2>/dev/null
cat >"$work/program.py" <<'PROGRAM'
import asyncio

import aiobreaker
import circuitbreaker
import purgatory
from hyx.circuitbreaker import consecutive_breaker

made = []


async def hangs():
    made.append("hangs")
    await asyncio.Event().wait()


async def raises():
    made.append("raises")
    raise OSError("refused")


async def alternates():
    await (hangs() if len(made) % 2 else raises())


async def calls(guarded):
    """Make six calls with a limit, and return how many of them reached the function."""
    made.clear()
    for _ in range(6):
        try:
            async with asyncio.timeout(0.02):
                await guarded()
        except Exception:
            pass
    return len(made)


BREAKERS = {
    "circuitbreaker": lambda: circuitbreaker.CircuitBreaker(failure_threshold=2, recovery_timeout=60),
    "aiobreaker": lambda: aiobreaker.CircuitBreaker(fail_max=2),
    "hyx": lambda: consecutive_breaker(failure_threshold=2, recovery_time_secs=60),
    "purgatory": lambda: purgatory.AsyncCircuitBreakerFactory(default_threshold=2)("shop"),
}


async def main():
    for name, new in BREAKERS.items():
        hanging, raising = await calls(new()(hangs)), await calls(new()(raises))
        print(f"{name}: {hanging} of 6 calls that hang are made, {raising} of 6 that raise OSError")
    guarded = BREAKERS["circuitbreaker"]()(alternates)
    print(f"circuitbreaker, alternately: {await calls(guarded)} of 6 calls are made")
    breaker = circuitbreaker.CircuitBreaker(failure_threshold=1, recovery_timeout=0.1)
    await calls(breaker(raises))
    await asyncio.sleep(0.2)
    state = breaker.state
    await calls(breaker(hangs))
    print(f"circuitbreaker, {state}, then a call that hangs: {breaker.state}")


asyncio.run(main())
PROGRAM
output=$("$work/venv/bin/python" "$work/program.py")
echo "circuitbreaker $CIRCUITBREAKER, aiobreaker $AIOBREAKER, hyx $HYX, purgatory $PURGATORY"
echo "$output"
[ "$output" = "$EXPECTED" ] || { echo "this has changed: a circuit breaker treats cancelled calls differently"; exit 1; }
