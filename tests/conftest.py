"""Fixtures for every test: the event loops, and a process-wide registry that is empty before and after."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import failpoints

BACKENDS: list[Any] = [
    pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
    pytest.param(("trio", {}), id="trio"),
]
if sys.platform != "win32":  # uvloop does not support Windows
    BACKENDS.insert(1, pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"))


# A shell starts its background jobs with SIGINT ignored, and child processes inherit that. The tests of Ctrl-C need it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Let garbage collections look only at objects that tests create: the tests themselves take a tenth of a second."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> object:
    """Run a test with the marker `apart` in a process of its own: an exploration would wait for its threads."""
    if pyfuncitem.get_closest_marker("apart") is None or "TESTED_APART" in os.environ:
        return None
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n0", "-rs", "-p", "no:cacheprovider", pyfuncitem.nodeid],
        cwd=pyfuncitem.config.rootpath,
        env={**os.environ, "TESTED_APART": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    if "SKIPPED" in done.stdout:
        pytest.skip(done.stdout.rpartition("SKIPPED")[2])
    return True


@pytest.fixture(autouse=True, scope="module")
def unmeasured_children(request: pytest.FixtureRequest) -> Iterator[None]:
    """Keep coverage out of the processes that some tests start: it takes a tenth of a second in each.

    What these processes run is measured elsewhere.
    """
    with pytest.MonkeyPatch.context() as patch:
        if request.path.parent.name in {"benchmarks", "examples", "explore", "instrument", "sites"}:
            patch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
        yield


@pytest.fixture(params=BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Select the backend and options of the event loop that runs an async test."""
    return request.param


@pytest.fixture(autouse=True)
def tracer_kept() -> Iterator[None]:
    """Give coverage its tracer back. Python takes it out if an exception of a signal handler comes while it runs."""
    tracer = sys.gettrace()
    yield
    if sys.gettrace() is not tracer:
        sys.settrace(tracer)


@pytest.fixture(autouse=True)
def nothing_configured() -> Iterator[None]:
    """Check that nothing is configured before the test, and reset the registry and seed after it."""
    assert failpoints.statuses() == []
    yield
    failpoints.reset()
    failpoints.seed(None)
