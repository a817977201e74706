"""Reconfigure failpoints while four threads call the functions that they are on: `reconfigurations.py 1000000`.

Each change exchanges the code of the functions of its name, at any moment of the calls in the other threads. The thread
that makes a change sees exactly what it has configured. The others see the body's result or a configured one.
"""

from __future__ import annotations

import functools
import random
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

from failpoints import FailpointUsageError, Registry, Return, configure, failpoint, failpoint_scope, remove, statuses

THREADS = 4
BODY, BEFORE, AFTER, PRIVATE = "the body's", "instead of the body's", "after the body", "of a registry"

offset = 1


class Owner:
    @failpoint("method")
    def method(self, number: int, *, more: int = 2) -> str:
        return BODY if number + more + offset == 5 else "wrong arguments"

    @failpoint("class-method")
    @classmethod
    def of_class(cls) -> str:
        return BODY if cls is Owner else "wrong class"


def make_closure() -> Callable[..., str]:
    free = [BODY]

    @failpoint("closure")
    def closure(index: int = 0, /, *rest: int, **more: int) -> str:
        return free[index] if (rest, more) == ((1,), {"two": 2}) else "wrong arguments"

    return closure


@failpoint("coroutine")
async def coroutine(depth: int = 3) -> str:
    return await coroutine(depth - 1) if depth else BODY


@failpoint("generator")
def generator() -> Iterator[int]:
    yield from (1, 2)
    return BODY


@failpoint("async-generator")
async def async_generator() -> AsyncIterator[str]:
    yield BODY


@failpoint("around-the-scope")
def holder() -> str:
    with failpoint_scope("scope"):
        return BODY


def in_order(*words: str, last: str) -> str:
    return last if words == ("in", "order") else "wrong arguments"


def exhaust(iterator: Iterator[int]) -> Any:
    while True:
        try:
            next(iterator)
        except StopIteration as stop:
            return stop.value


def run(awaitable: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that does not suspend, and return its result."""
    try:
        awaitable.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it suspended")


async def first_of(iterator: AsyncIterator[str]) -> str:
    async for each in iterator:
        return each
    return BEFORE  # ended by the failpoint: an async generator cannot return a value


def calls() -> list[tuple[str, Callable[[], object]]]:
    """Return the names that are configured, each with a call that visits it. Two of the functions are new each time."""
    owner, closure = Owner(), make_closure()
    stored = owner.method
    wrapper = failpoint("wrapper")(functools.partial(in_order, "in", "order"))
    return [
        ("closure", lambda: closure(0, 1, two=2)),
        ("method", lambda: owner.method(2)),
        ("method", lambda: stored(1, more=3)),
        ("class-method", Owner.of_class),
        ("coroutine", lambda: run(coroutine())),
        ("generator", lambda: exhaust(generator())),
        ("async-generator", lambda: run(first_of(async_generator()))),
        ("scope", holder),
        ("wrapper", lambda: wrapper(last=BODY)),
    ]


def call_until(done: threading.Event, counts: list[int], errors: list[BaseException]) -> None:
    """Call everything, again and again, and note a result that cannot be."""
    count = 0
    try:
        while not done.is_set():
            for name, call in calls():
                try:
                    seen = call()
                except FailpointUsageError:  # a scope that returns, in a call that began before it was configured
                    if name != "scope":
                        raise
                else:
                    assert seen in (BODY, BEFORE, AFTER), (name, seen)
                count += 1
    except BaseException as error:
        errors.append(error)
        done.set()
    counts.append(count)


def reconfigure(count: int, done: threading.Event, chosen: random.Random) -> None:
    """Configure and remove until *count* changes were made, and look at the effect of each."""
    of_name: dict[str, list[Callable[[], object]]] = {}
    for name, call in calls():
        of_name.setdefault(name, []).append(call)
    names = list(of_name)
    configured: dict[str, object] = {}
    for number in range(count):
        if done.is_set():
            return
        name = chosen.choice(names)
        before = Return(None if name == "async-generator" else BEFORE)
        after = "off" if name == "async-generator" else Return(AFTER)
        change = chosen.choice(["remove", "remove", "off", before, after])
        where = f"{name}:after" if change is after or (change in ("remove", "off") and chosen.random() < 0.3) else name
        if change == "remove":
            remove(where)
            configured.pop(where, None)
        else:
            configure(where, change)
            configured[where] = change
        expected = BODY
        if configured.get(f"{name}:after") not in (None, "off"):
            expected = AFTER
        if configured.get(name) not in (None, "off"):
            expected = BEFORE
        seen = [call() for call in of_name[name]]
        assert set(seen) == {expected}, (number, name, configured, seen)
        if number % 10 == 0 and name != "async-generator":
            with Registry() as registry:  # for this thread alone
                registry.configure(name, Return(PRIVATE))
                assert {call() for call in of_name[name]} == {PRIVATE}, (number, name)
    for name in configured:
        remove(name)
    assert statuses() == []
    assert {call() for _, call in calls()} == {BODY}


def main(count: int) -> None:
    """Make *count* changes beside the calling threads. The first wrong result ends the program with an error."""
    done = threading.Event()
    counts: list[int] = []
    errors: list[BaseException] = []
    threads = [threading.Thread(target=call_until, args=(done, counts, errors)) for _ in range(THREADS)]
    sys.setswitchinterval(1e-5)  # so that threads often change in the middle of an exchange
    began = time.monotonic()
    for thread in threads:
        thread.start()
    try:
        reconfigure(count, done, random.Random(count))
    finally:
        done.set()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]
    assert all(counts)
    version = sys.version.partition(" ")[0]
    report = f"{version}: {count} changes beside {sum(counts)} calls, {time.monotonic() - began:.0f} s"
    sys.stdout.write(f"{report}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
