"""Runs a function in a forked child process, which may crash, hang, or change the state of the process."""

from __future__ import annotations

import inspect
import os
import pickle
import select
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn

import anyio

from .._core.clock import monotonic
from .._core.reentrancy import runs_user_code
from .._explore.entropy import begin_run, same_in_every_run
from .._explore.plan.identity import TaskNode
from .._explore.user_frames import raised_at

_CHUNK = 1 << 20
_HEADER = 8  # bytes with the length of what follows


@dataclass(frozen=True, slots=True)
class Ending:
    """How a function in a child process ended.

    Attributes:
        kind: `returned`, `error` (it raised), `died` (its process ended), or `hang` (it exceeded its time limit).
        value: What it returned.
        sentence: What happened, if it did not return: of an error its type and its message.
        location: The user's line that raised.
        error: The exception, if it can be pickled.
    """

    kind: str
    value: Any = None
    sentence: str = ""
    location: str = ""
    error: BaseException | None = None

    def is_like(self, other: Ending) -> bool:
        """Return whether another call ended in the same way, as far as one can see."""
        return (self.kind, self.location) == (other.kind, other.location)


def run_in_child(function: Callable[[], object], timeout: float) -> Ending:
    """Run a function in a forked child process, and return how it ended. What it returns must be picklable.

    Processes that the child leaves behind in its process group are killed.
    """
    child = Child(lambda _: function())
    try:
        child.start()
        return child.wait(timeout)
    finally:
        child.end()


class Child:
    """A forked child process that runs a function of one argument, once that is given to it.

    It calls *prepare* before.
    """

    def __init__(self, function: Callable[[Any], object], prepare: Callable[[], None] | None = None) -> None:
        self._answers, answering = os.pipe()
        held, self._starting = os.pipe()
        self.pid = _fork()
        if not self.pid:
            os.close(self._answers)
            os.close(self._starting)
            _run_and_exit(function, prepare, held, answering)
        if prepare is not None:
            os.read(self._answers, 1)
        os.close(answering)
        os.close(held)

    def start(self, argument: object = None, *, is_error_needed: bool = True) -> None:
        """Let the function begin. Unless it is needed, the error that it raises is only described, which is faster."""
        os.write(self._starting, pickle.dumps((argument, is_error_needed)))
        self._close_start()

    def _close_start(self) -> None:
        if self._starting >= 0:
            os.close(self._starting)
            self._starting = -1

    def wait(self, timeout: float) -> Ending:
        """Wait until the function has ended, and return how."""
        deadline = monotonic() + timeout
        poll = select.poll()
        poll.register(self._answers, select.POLLIN)
        answer = bytearray()
        while len(answer) < _HEADER or len(answer) < _HEADER + int.from_bytes(answer[:_HEADER]):
            if not poll.poll(max(0.0, deadline - monotonic()) * 1000):
                return Ending("hang", sentence=f"did not end within {timeout:g} s")
            chunk = os.read(self._answers, _CHUNK)
            if not chunk:
                return Ending("died", sentence=self._describe_death())
            answer += chunk
        ending: Ending = pickle.loads(bytes(answer[_HEADER:]))
        return ending

    def _describe_death(self) -> str:
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        code = os.waitstatus_to_exitcode(status)
        if code < 0:
            return f"its process was killed by {signal.Signals(-code).name}"
        return f"its process ended by itself, with exit status {code}"

    def end(self) -> None:
        """Kill what is left of the process and of its process group."""
        self._close_start()
        os.close(self._answers)
        if self.pid:
            with suppress(OSError):
                os.killpg(self.pid, signal.SIGKILL)
            with suppress(OSError):
                os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0


def warm_up() -> None:
    """Do here for the first time what takes long only then, since each child would do it for the first time again."""
    try:
        raise AssertionError
    except AssertionError as error:
        _describe(error)


def _fork() -> int:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # closed, or `None`
            stream.flush()
    with warnings.catch_warnings():
        # Of Python 3.12 and newer, if there are threads: the child uses nothing that they may have locked.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _run_and_exit(
    function: Callable[[Any], object], prepare: Callable[[], None] | None, held: int, answering: int
) -> NoReturn:
    try:
        os.setpgid(0, 0)
        if prepare is not None:
            prepare()
            os.write(answering, b"\0")
        given = os.read(held, _CHUNK)  # once the parent starts it, else nothing
        os.close(held)
        if not given:
            os._exit(0)
        argument, is_error_needed = pickle.loads(given)
        try:
            answer = _pickled(Ending("returned", function(argument)))
        except BaseException as error:
            answer = _describe(error, is_needed=is_error_needed)
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        data = memoryview(len(answer).to_bytes(_HEADER) + answer)
        while data:
            data = data[os.write(answering, data) :]
    finally:
        os._exit(0)


def _pickled(ending: Ending) -> bytes:
    answer = pickle.dumps(ending)
    if ending.error is not None:
        pickle.loads(answer)
    return answer


def _describe(error: BaseException, *, is_needed: bool = True) -> bytes:
    kind = type(error).__name__
    message = str(error).strip()
    location = raised_at(error)
    sentence = f"{kind}: {message}" if message else kind
    if not is_needed:
        return _pickled(Ending("error", None, sentence, location))
    text = "".join(traceback.format_exception(error))
    error.__traceback__ = None
    error.add_note(f"\nIn the child process:\n{text}")
    try:
        return _pickled(Ending("error", None, sentence, location, error))
    except Exception:
        return _pickled(Ending("error", None, sentence, location))


def call(function: Callable[..., Any], *arguments: object, backend: str) -> Any:
    """Call a user's function, and run what it returns on an event loop if that is a coroutine.

    Random numbers and ids are the same in every call.
    """
    with same_in_every_run():
        begin_run(TaskNode((), "main"))
        return _call(function, arguments, backend)


@runs_user_code
def _call(function: Callable[..., Any], arguments: tuple[object, ...], backend: str) -> Any:
    result = function(*arguments)
    return anyio.run(_awaited, result, backend=backend) if inspect.isawaitable(result) else result


async def _awaited(awaitable: Any) -> Any:
    return await awaitable
