"""Whether the program awaits or enters what it calls: the instruction after its call shows it."""

from __future__ import annotations

from opcode import opmap
from sys import _getframe  # pyright: ignore[reportPrivateUsage]
from types import CodeType, FrameType
from typing import Final

from .._core.arming import is_trampoline
from .._core.reentrancy import PACKAGE

_CACHE: Final = opmap.get("CACHE")  # which PyPy lacks
_GET_AWAITABLE: Final = opmap["GET_AWAITABLE"]
_BEFORE_WITH: Final = opmap.get("BEFORE_WITH")  # until Python 3.13
_BEFORE_ASYNC_WITH: Final = opmap.get("BEFORE_ASYNC_WITH")
_LOAD_SPECIAL: Final = opmap.get("LOAD_SPECIAL")  # from Python 3.14 on, after a COPY
_AENTER_AND_AEXIT: Final = (2, 3)


def caller_awaits() -> bool:
    """Return whether the program awaits the result of the call that led here, or enters it with `async with`."""
    frame: FrameType | None = _getframe(1)
    while frame is not None and _is_ours(frame.f_code):
        frame = frame.f_back
    return frame is not None and awaits_result(frame)


def awaits_result(frame: FrameType) -> bool:
    """Return whether a frame awaits the result of the call that it is making, or enters it with `async with`."""
    following = _after_call(frame)
    if not following or following[0] in (_GET_AWAITABLE, _BEFORE_ASYNC_WITH):
        return bool(following)
    return len(following) == 4 and following[2] == _LOAD_SPECIAL and following[3] in _AENTER_AND_AEXIT


def enters_result(frame: FrameType) -> bool:
    """Return whether a frame enters the result of the call that it is making with `with` or `async with`."""
    opcodes = list(_after_call(frame)[::2])
    return opcodes[:1] in ([_BEFORE_WITH], [_BEFORE_ASYNC_WITH]) or opcodes[1:] == [_LOAD_SPECIAL]


def _after_call(frame: FrameType) -> bytes:
    """Return the two instructions that follow the one that a frame is at."""
    code, at = frame.f_code.co_code, frame.f_lasti + 2
    while at < len(code) and code[at] == _CACHE:
        at += 2
    return code[at : at + 4]


def _is_ours(code: CodeType) -> bool:
    return code.co_filename.startswith(PACKAGE) or is_trampoline(code)
