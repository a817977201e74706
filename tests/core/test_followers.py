"""A follower of a store learns which failpoints have changed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from failpoints import configure, failpoint, remove, reset, resume, wait_until_paused_sync
from failpoints._core.followers import Follower
from failpoints._core.store import PROCESS_STORE
from failpoints._core.wakeups import Ended, ThreadWakeup

LIMIT = 20


@pytest.fixture
def follower() -> Iterator[Follower]:
    follower = Follower()
    PROCESS_STORE.follow(follower)
    yield follower
    PROCESS_STORE.unfollow(follower)


def taken(follower: Follower) -> list[str]:
    return PROCESS_STORE.changes(follower, ThreadWakeup())


@pytest.mark.parametrize(
    "change",
    [
        lambda: failpoint("a", context={"n": 1}).hit(),
        lambda: failpoint("a", context={"n": 2}).hit(),
        lambda: configure("a", "return(1)"),
        lambda: remove("a"),
        reset,
    ],
    ids=["a hit", "a miss", "another configuration", "a removal", "a reset"],
)
def test_each_kind_of_change(follower: Follower, change: Callable[[], object]) -> None:
    """A hit, a miss, and every change of the configuration are noted, each once however many there were."""
    configure("a", "off", context={"n": 1})
    configure("b", "off")
    assert taken(follower) == ["a", "b"]
    assert taken(follower) == []
    change()
    assert "a" in taken(follower)
    assert taken(follower) == []


def test_hits_are_noted_once(follower: Follower) -> None:
    """Any number of visits is one change."""
    configure("a", "off")
    taken(follower)
    for _ in range(3):
        failpoint("a").hit()
    assert taken(follower) == ["a"]


def test_a_wait_begins_and_ends(follower: Follower) -> None:
    """A task or thread that begins to wait is a change, and so is one that goes on."""
    configure("a", "pause")
    thread = threading.Thread(target=failpoint("a").hit)
    thread.start()
    wait_until_paused_sync("a", timeout=LIMIT)
    assert taken(follower) == ["a"]
    assert resume("a") == 1
    assert taken(follower) == ["a"]
    thread.join(LIMIT)
    taken(follower)
    assert PROCESS_STORE.parked("a", 10) == (0, {})


def test_the_wakeup(follower: Follower) -> None:
    """A change sets the wakeup that was given when there was none, also if another thread makes it."""
    wakeup = ThreadWakeup()
    assert PROCESS_STORE.changes(follower, wakeup) == []
    thread = threading.Thread(target=configure, args=("a", "off"))
    thread.start()
    assert wakeup.wait(LIMIT) is Ended.WOKEN
    thread.join(LIMIT)
    assert taken(follower) == ["a"]


def test_only_the_store_that_is_followed(follower: Follower) -> None:
    """What happens in another registry is not noted, and nothing after the follower has left."""
    from failpoints import Registry

    with Registry() as registry:
        registry.configure("a", "off")
        failpoint("a").hit()
    assert taken(follower) == []
    PROCESS_STORE.unfollow(follower)
    configure("a", "off")
    assert taken(follower) == []


def test_one_waiter_is_resumed() -> None:
    """The number of a waiter resumes it alone, although another one has the same context and has waited longer."""
    configure("a", "pause")
    ended: list[str] = []

    def visit(name: str) -> None:
        failpoint("a").hit()
        ended.append(name)

    threads = [threading.Thread(target=visit, args=(name,), name=name) for name in ("first", "second", "third")]
    for number, thread in enumerate(threads, start=1):
        thread.start()
        wait_until_paused_sync("a", number, timeout=LIMIT)
    count, parked = PROCESS_STORE.parked("a", 2)
    assert (count, [waiting.name for waiting in parked.values()]) == (3, ["first", "second"])
    _, number = parked
    assert PROCESS_STORE.resume("a", arrival=int(number)) == 1
    threads[1].join(LIMIT)
    assert ended == ["second"]
    assert PROCESS_STORE.resume("a", arrival=int(number)) == 0
    assert resume("a") == 2
    for thread in threads:
        thread.join(LIMIT)
