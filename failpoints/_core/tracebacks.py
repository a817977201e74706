"""Tracebacks that show the program's own frames and the site, instead of the frames of this package in between.

Python adds no entry to a traceback when an exception is raised again. So whatever is taken out on the way stays out.
"""

from __future__ import annotations

from collections.abc import Generator
from types import CodeType, FunctionType, TracebackType
from typing import Any, Final

from .environment import DEBUG
from .reentrancy import PACKAGE


class OwnFramesHidden:
    """A context manager around all that a site does: an exception that leaves it loses the frames of this package.

    Args:
        code: The code of the decorated function, if the site is one. An exception that did not come out of its body
            then gets an entry for its first line, which is the site.
        namespace: The globals of that function.
    """

    __slots__ = ("_code", "_namespace")

    def __init__(self, code: CodeType | None = None, namespace: dict[str, Any] | None = None) -> None:
        self._code = code
        self._namespace = namespace or {}

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is not None:
            self.hide(error)

    def hide(self, error: BaseException) -> None:
        """Do it to an error that is about to be raised again, where a context manager costs too much."""
        if not DEBUG:
            hide_own_frames(error)
            if self._code is not None and not _is_in(error.__traceback__, self._code):
                _show(error, _entry(self._code, self._namespace, error.__traceback__))


own_frames_hidden: Final = OwnFramesHidden()
"""For a scope or an inline visit. The line that contains it is the site."""


def hide_own_frames(error: BaseException, *, first: bool = False) -> None:
    """Take the frames of this package off the beginning of a traceback, and of those of the error's causes.

    With *first*, the first entry goes as well, whatever its frame is.
    """
    while not DEBUG:
        given = kept = error.__traceback__
        if kept is not None and first:
            kept, first = kept.tb_next, False
        while kept is not None and kept.tb_frame.f_code.co_filename.startswith(PACKAGE):
            kept = kept.tb_next
        if kept is given:
            return  # so its causes have none either: they were raised earlier, and passed the same sites
        _show(error, kept)
        cause = error.__cause__ or error.__context__
        if cause is None:
            return
        error = cause


def _show(error: BaseException, traceback: TracebackType | None) -> None:
    BaseException.with_traceback(error, traceback)  # a frozen dataclass refuses to have __traceback__ set


def _is_in(traceback: TracebackType | None, code: CodeType) -> bool:
    """Return whether the first entry is one of the function with this code."""
    return traceback is not None and _place(traceback.tb_frame.f_code) == _place(code)


def _place(code: CodeType) -> tuple[object, ...]:
    return code.co_filename, code.co_firstlineno, code.co_qualname


def _entry(code: CodeType, namespace: dict[str, Any], rest: TracebackType | None) -> TracebackType:
    """Make an entry for the first line of a function that did not run. Its frame is one of a generator."""
    stub = _stub.__code__.replace(
        co_filename=code.co_filename,
        co_name=code.co_name,
        co_qualname=code.co_qualname,
        co_firstlineno=code.co_firstlineno,
        co_linetable=one_line(len(_stub.__code__.co_code) // 2),
    )
    frame = FunctionType(stub, namespace)().gi_frame
    return TracebackType(rest, frame, frame.f_lasti, code.co_firstlineno)


def _stub() -> Generator[None]:
    yield


def one_line(instructions: int) -> bytes:
    """Make a line table that puts all instructions on the first line, without columns for a traceback to mark."""
    no_column = 0x80 | 13 << 3  # CPython's Objects/locations.md
    lengths = [min(8, instructions - start) for start in range(0, instructions, 8)]
    return b"".join(bytes([no_column | length - 1, 0]) for length in lengths)
