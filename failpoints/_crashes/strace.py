"""The recorder that runs strace, beside the process of the program: it sees the system calls of any code."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from .._core.clock import monotonic
from ..errors import FailpointUsageError
from .disk import Disk
from .processes import Child, Ending
from .syscalls import calls
from .traced import MARKER, TRACED, Traced

_ATTACHING: Final = 10.0  # seconds
_ENDING: Final = 10.0
_INTERVAL: Final = 0.001
_SET_TRACER: Final = 0x59616D61  # PR_SET_PTRACER: Linux may let only parents trace, and strace is not this one's


def check_strace() -> None:
    """Raise `FailpointUsageError` if strace cannot be used here."""
    if sys.platform != "linux":
        raise FailpointUsageError("recorder='strace' needs Linux; recorder='python' does not")
    if shutil.which("strace") is None:
        raise FailpointUsageError(
            "recorder='strace' needs the program strace, which is not installed: apt-get install strace, or the like"
        )


def trace(function: Callable[[int], object], timeout: float, root: str, start: Disk) -> tuple[Ending, Traced]:
    """Run a function in a child process under strace. Return how it ended, and what it did to a folder.

    The function is given a descriptor of `MARKER`.
    """
    marker = os.memfd_create(MARKER)
    traced = Traced(root, start)
    with tempfile.NamedTemporaryFile(prefix="failpoints-strace-") as output:
        child = Child(lambda _: function(marker), prepare=_allow_tracing)
        try:
            strace = _attach(child.pid, output.name)
            child.start()
            ending = child.wait(timeout)
        finally:
            child.end()
            os.close(marker)
        has_ended = _end(strace)
        traced.follow(calls(_lines(output.name)))
    if not has_ended and not traced.refused:
        traced.refused = (
            f"strace did not end within {_ENDING:g} s after the program. A process that the program leaves behind"
            " may go on writing: end it first"
        )
    return ending, traced


def _attach(process: int, output: str) -> subprocess.Popen[bytes]:
    names = ",".join(f"?{name}" for name in TRACED)  # not every system has all of them
    command = ["strace", "-f", "-q", "-q", "-y", "-xx", "-s", str(2**28), "-e", f"trace={names}", "-e", "signal=none"]
    strace = subprocess.Popen([*command, "-o", output, "-p", str(process)], stderr=subprocess.PIPE)
    deadline = monotonic() + _ATTACHING
    while not os.path.getsize(output):  # a call shows that it traces: it is the process's tracer some time before
        if strace.poll() is not None or monotonic() > deadline:
            strace.kill()
            _, errors = strace.communicate()
            raise FailpointUsageError(f"recorder='strace' cannot trace here: {errors.decode(errors='replace').strip()}")
        time.sleep(_INTERVAL)
    return strace


def _end(strace: subprocess.Popen[bytes]) -> bool:
    """Wait for strace, which ends with the last process that it traces. Return whether it has ended in time."""
    try:
        strace.communicate(timeout=_ENDING)
    except subprocess.TimeoutExpired:
        strace.terminate()
        strace.communicate()
        return False
    return True


def _allow_tracing() -> None:
    libc: Any = ctypes.CDLL(None)
    libc.prctl(_SET_TRACER, ctypes.c_ulong(-1 & (2**64 - 1)), 0, 0, 0)


def _lines(path: str) -> Iterator[str]:
    with open(path, encoding="ascii", errors="replace") as file:
        for line in file:
            yield line.rstrip("\n")
