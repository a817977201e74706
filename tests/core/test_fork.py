"""Forking: the child has a new lock, and no waiters of threads that exist only in the parent."""

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
    '''Run the function in a forked child, and return the exit status: 0 if it returned in time.'''
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
    """Run the script in a new process, which must exit with status 0 and print nothing."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FAILPOINTS")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PREAMBLE + textwrap.dedent(script)],
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_child_keeps_the_configurations() -> None:
    """A child starts with the parent's configurations and counts, and its changes do not affect the parent."""
    run("""
        configure("x", "2*return->off", context={"k": "v"})
        assert failpoint("x", context={"k": "v"}).hit() == Return()

        def child():
            assert (status("x").hits, status("x").triggers) == (1, 1)
            assert failpoint("x", context={"k": "v"}).hit() == Return()
            assert failpoint("x", context={"k": "v"}).hit() == Continue()
            reset()

        assert in_child(child) == 0
        assert (status("x").hits, status("x").triggers) == (1, 1)
    """)


def test_a_child_can_do_everything() -> None:
    """After a fork, the child, its own child and the parent can configure, visit, wait and wake."""
    run("""
        def child():
            use_everything()
            assert in_child(use_everything) == 0
            use_everything()

        assert in_child(child) == 0
        use_everything()
    """)


def test_a_child_has_a_new_lock() -> None:
    """A child has a new lock, which is not held."""
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
    """The child's lock is free even if another thread held the lock during the fork."""
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
    """Waiters of other threads and their loops stay in the parent and are not in the child."""
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


def test_a_registry_in_the_child_has_no_waiters_of_other_threads() -> None:
    """In a child, a `Registry` has no waiters of other threads either."""
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
def test_the_child_does_not_wake_watchers_of_other_threads(end: str) -> None:
    """A child does not wake tasks or threads of the parent that wait for a hit."""
    run(f"""
        from failpoints._core import wakeups as _wakeups
        configure("x", "off")
        watchers = [
            started(lambda: wait_until_hit_sync("x")),
            started(lambda: anyio.run(wait_until_hit, "x", backend="trio")),
        ]
        while len(_store.PROCESS_STORE._watches._watches.under("x")) < 2:
            watchers[0].join(0.001)
        woken = []
        _wakeups.ThreadWakeup.set = lambda wakeup: woken.append(wakeup)
        _wakeups._call_soon = lambda loop, wakeups: woken.extend(wakeups)

        def child():
            {end}
            assert woken == [], woken

        assert in_child(child) == 0
    """)


def test_a_fork_in_a_task_keeps_the_waiters_of_its_thread() -> None:
    """After a fork in a task, the child keeps the waiters of the forking thread."""
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


def test_children_draw_differently_unless_the_draws_are_seeded() -> None:
    """Two children and their parent have draws of their own. With a seed, each of them repeats the same ones."""
    run("""
        def draws():
            return "".join(str(int(bool(failpoint("x").hit()))) for _ in range(64))

        def draws_in_child():
            reading, writing = os.pipe()
            assert in_child(lambda: os.write(writing, draws().encode())) == 0
            return os.read(reading, 64).decode()

        for seed, different in [(None, 3), (7, 1)]:
            failpoints.seed(seed)
            configure("x", "50%return")
            assert len({draws_in_child(), draws_in_child(), draws()}) == different
    """)
