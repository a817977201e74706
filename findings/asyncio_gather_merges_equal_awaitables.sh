#!/usr/bin/env bash
# Expected: `asyncio.gather` awaits each object that it is given.
# Happens: it looks the objects up in a dict, so of those that are *equal* it awaits the first one only, and returns
#     its result for all of them. `as_completed` makes a set of them, and yields fewer results than it was given
#     objects. No error or warning. `anyio` and a TaskGroup take coroutines only, which are never equal.
# Why it matters: two equal requests, queries or commands that are awaitable dataclasses become one. A test with two
#     different ones passes. A library whose objects have `__await__` must not give them value equality, or must return
#     a new hash each time.
# Source: asyncio/tasks.py, gather (arg_to_fut) and as_completed.
set -euo pipefail
EXPECTED="one after the other: sent 2, results [1, 2]
gather: sent 1, results [1, 1]
gather, other fields: sent 2, results [1, 2]
gather, equality of objects: sent 2, results [1, 2]
as_completed: sent 1, results [1]"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/program.py" <<'PROGRAM'
import asyncio
from dataclasses import dataclass

sent = []


class Command:
    def __await__(self):
        return self.send().__await__()

    async def send(self):
        sent.append(self)
        return len(sent)


@dataclass(frozen=True)
class Charge(Command):
    cents: int


@dataclass(frozen=True, eq=False)
class ChargeByIdentity(Command):
    cents: int


def report(label, results):
    print(f"{label}: sent {len(sent)}, results {sorted(results)}")
    sent.clear()


async def main():
    report("one after the other", [await Charge(5), await Charge(5)])
    report("gather", await asyncio.gather(Charge(5), Charge(5)))
    report("gather, other fields", await asyncio.gather(Charge(5), Charge(6)))
    report("gather, equality of objects", await asyncio.gather(ChargeByIdentity(5), ChargeByIdentity(5)))
    report("as_completed", [await result for result in asyncio.as_completed([Charge(5), Charge(5)])])


asyncio.run(main())
PROGRAM
output=$(python3 "$work/program.py")
python3 --version
echo "$output"
[ "$output" = "$EXPECTED" ] || { echo "this has changed: asyncio treats equal awaitables differently"; exit 1; }
