"""A fork: the lock is made anew, and the child sees nobody who waits in threads that it does not have."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no os.fork")

ROOT = Path(__file__).parents[2]

PREAMBLE = """
import os, signal, sys, threading
import anyio
import failpoints
from failpoints import *
from failpoints._core import store as _store

def in_child(function):
    '''Run the function in a forked child: whether it came to its end in time, without an error.'''
    child = os.fork()
    if not child:
        signal.alarm(10)  # a child that hangs is killed
        try:
            function()
        except BaseException as error:
            print(type(error).__name__, error, file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def started(function):
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread

def use_everything():
    configure("mine", "return(7)")
    assert failpoint("mine").hit() == Return("7")
    assert status("mine").hits == 1
    configure_all([("mine", "off"), ("x", "off")])
    assert failpoint("x").hit() == Continue()
    assert resume("x") == 0
    remove("x")
    reset()
    assert statuses() == []
    configure("mine", "pause")
    visitor = started(failpoint("mine").hit)
    wait_until_paused_sync("mine", timeout=5)
    assert resume("mine") == 1
    visitor.join(5)
    assert not visitor.is_alive()
"""


def run(script: str) -> None:
    """Run the script in a process of its own; it must end well and print nothing."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FAILPOINTS")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PREAMBLE + textwrap.dedent(script)],
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_child_keeps_what_is_configured() -> None:
    """The child has the configurations and counts of the fork, and what it changes does not reach the parent."""
    run("""
        configure("x", "2*return->off", context={"k": "v"})
        failpoint("x", context={"k": "v"}).hit()

        def child():
            assert (status("x").hits, status("x").triggers) == (1, 1)
            assert failpoint("x", context={"k": "v"}).hit() == Return()
            assert failpoint("x", context={"k": "v"}).hit() == Continue()
            reset()

        assert in_child(child) == 0
        assert (status("x").hits, status("x").triggers) == (1, 1)
    """)


def test_a_child_can_do_everything() -> None:
    """The child can configure, visit, wait and wake, and so can the parent afterwards, and the child's child."""
    run("""
        def child():
            use_everything()
            assert in_child(use_everything) == 0
            use_everything()

        assert in_child(child) == 0
        use_everything()
    """)


def test_the_lock_is_made_anew() -> None:
    """The child's lock is another one than the parent's, and free."""
    run("""
        lock = _store._guard.lock

        def child():
            assert _store._guard.lock is not lock
            acquired = []
            thread = started(lambda: acquired.append(_store._guard.lock.acquire(timeout=5)))
            thread.join(5)
            assert acquired == [True]

        assert in_child(child) == 0
        assert _store._guard.lock is lock
    """)


@pytest.mark.parametrize(
    "busy",
    [
        'configure("busy", "pause")',
        '(configure("busy", "off"), failpoint("busy").hit(), remove("busy"))',
        "_store._guard.lock.acquire(), os.getpid(), _store._guard.lock.release()",
        "statuses()",
    ],
    ids=["configure", "visit", "hold the lock", "statuses"],
)
def test_a_fork_while_another_thread_holds_the_lock(busy: str) -> None:
    """The child's lock is free, however busy another thread is with it at the moment of the fork."""
    run(f"""
        over = threading.Event()

        def keep_busy():
            while not over.is_set():
                {busy}

        thread = started(keep_busy)
        results = [in_child(use_everything) for _ in range(10)]
        over.set()
        thread.join(5)
        assert results == [0] * 10
        assert not thread.is_alive()
    """)


def test_the_child_sees_no_waiters_of_other_threads() -> None:
    """Who waits in other threads, and on their loops, is not in the child; in the parent they wait on."""
    run("""
        configure("x", "pause")

        async def visit():
            await failpoint("x")

        threads = [
            started(failpoint("x").hit),
            started(lambda: anyio.run(visit)),
            started(lambda: anyio.run(visit, backend="trio")),
        ]
        wait_until_paused_sync("x", 3, timeout=5)

        def child():
            assert status("x").waiting == ()
            assert resume("x") == 0
            try:
                wait_until_paused_sync("x", timeout=0)
            except FailpointTimeout:
                pass
            else:
                raise AssertionError("sees a pause")
            visitor = started(failpoint("x").hit)
            wait_until_paused_sync("x", timeout=5)
            assert len(status("x").waiting) == resume("x") == 1
            visitor.join(5)
            assert not visitor.is_alive()

        assert in_child(child) == 0
        assert len(status("x").waiting) == 3
        assert resume("x") == 3
        for thread in threads:
            thread.join(5)
            assert not thread.is_alive()
    """)


def test_the_child_of_a_registry_sees_no_waiters_of_other_threads() -> None:
    """The same holds in a registry of one's own."""
    run("""
        import contextvars
        with Registry() as own:
            own.configure("x", "pause")
            thread = started(lambda context=contextvars.copy_context(): context.run(failpoint("x").hit))
            own.wait_until_paused_sync("x", timeout=5)

            def child():
                assert own.status("x").waiting == ()
                own.configure("x", "return")
                assert failpoint("x").hit() == Return()

            assert in_child(child) == 0
            assert len(own.status("x").waiting) == 1
        thread.join(5)
        assert not thread.is_alive()
    """)


@pytest.mark.parametrize("end", ['failpoint("x").hit()', 'remove("x")'], ids=["hit", "remove"])
def test_the_child_wakes_nobody_who_watches_in_another_thread(end: str) -> None:
    """Who waits for a hit in other threads is not in the child, which does not touch what belongs to them."""
    run(f"""
        from failpoints._core import wakeups as _waiting
        configure("x", "off")
        watchers = [
            started(lambda: wait_until_hit_sync("x")),
            started(lambda: anyio.run(wait_until_hit, "x", backend="trio")),
        ]
        while len(_store.PROCESS_STORE._watches._watches.under("x")) < 2:
            watchers[0].join(0.001)
        woken = []
        _waiting.ThreadWakeup.set = lambda wakeup: woken.append(wakeup)
        _waiting._call_soon = lambda loop, wakeups: woken.extend(wakeups)

        def child():
            {end}
            assert woken == [], woken

        assert in_child(child) == 0
    """)


def test_a_fork_in_a_task_that_others_wait_beside() -> None:
    """Forked in a task, the child goes on with its own thread's waiters: they are its own too."""
    run("""
        configure("x", "pause")

        async def main():
            async with anyio.create_task_group() as group:
                async def visit():
                    await failpoint("x")
                group.start_soon(visit)
                await wait_until_paused("x")
                assert in_child(lambda: len(status("x").waiting) == resume("x") == 1 or sys.exit(1)) == 0
                assert resume("x") == 1

        anyio.run(main)
    """)
