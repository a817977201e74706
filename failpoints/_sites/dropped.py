"""Finding a visit whose outcome the program drops: `await failpoint("x")` as a statement of its own.

Its bytecode shows it: the result is popped at once. What the bytecode does not show for certain is not reported.
"""

from __future__ import annotations

import dis
import functools
import inspect
from types import CodeType, FrameType
from typing import Any

_PADDING = {"CACHE", "END_SEND", "NOP", "PRECALL", "PUSH_NULL"}


def drops_outcome(frame: FrameType, point: object, make: object) -> bool:
    """Return whether a frame visits *point* in a statement, so that no variable or expression gets the outcome.

    Args:
        frame: The frame that awaits the failpoint or calls its `hit`, and waits for the result.
        point: The failpoint.
        make: What the program calls to make one.
    """
    path = _visited_by_statement(frame.f_code, frame.f_lasti)
    if not path:
        return False
    # The frame may instead wait for compiled code, whose own frames are not seen, and which visits the failpoint.
    found = _value(frame, path)
    return found is point or found is make


@functools.lru_cache(maxsize=256)
def _visited_by_statement(code: CodeType, offset: int) -> tuple[str, ...]:
    """Return the names that lead to the failpoint, or to `failpoint`, that a statement visits, or else nothing.

    The instruction at *offset* is that of the visit. `await self.point` gives `("self", "point")`, and
    `failpoints.failpoint("x").hit()` gives `("failpoints", "failpoint")`.
    """
    given = [instruction for instruction in dis.get_instructions(code) if instruction.opname not in _PADDING]
    # Python 3.11 gives the end of the inline cache of a call.
    at = max((index for index, instruction in enumerate(given) if instruction.offset <= offset), default=-1)
    if at < 0:
        return ()
    visiting = given[at]
    if visiting.opname == "SEND":
        result = next((index for index, one in enumerate(given) if one.offset >= visiting.argval), None)
        is_visit = given[at - 2].opname == "GET_AWAITABLE"
        last = at - 3
    elif visiting.opname == "CALL":
        result = at + 1
        is_visit = given[at - 1].opname in ("LOAD_ATTR", "LOAD_METHOD") and given[at - 1].argval == "hit"
        last = at - 2
    else:
        return ()
    if not is_visit or last < 0 or result is None or result >= len(given) or given[result].opname != "POP_TOP":
        return ()
    position = given[result].positions
    # A pop elsewhere is written differently: `case _:`, or a variable that is assigned twice.
    if position is None or position.col_offset is None or position != visiting.positions:
        return ()
    return _names(given, _start(given[last]))


def _names(given: list[dis.Instruction], start: tuple[int | None, int | None]) -> tuple[str, ...]:
    """Return the names, joined by dots in the source, at the beginning of the expression that starts there."""
    index = next((index for index, instruction in enumerate(given) if _start(instruction) == start), len(given))
    names: list[str] = []
    for instruction in given[index:]:
        is_attribute = instruction.opname in ("LOAD_ATTR", "LOAD_METHOD") and instruction.argval != "hit"
        is_first = not names and instruction.opname.startswith("LOAD_") and not is_attribute
        if not (is_attribute or is_first) or _start(instruction) != start or not isinstance(instruction.argval, str):
            break
        names.append(instruction.argval)
    return tuple(names)


def _start(instruction: dis.Instruction) -> tuple[int | None, int | None]:
    position = instruction.positions
    return (None, None) if position is None else (position.lineno, position.col_offset)


def _value(frame: FrameType, path: tuple[str, ...]) -> Any:
    local_names = frame.f_locals
    value: Any = (local_names if path[0] in local_names else frame.f_globals).get(path[0])
    for name in path[1:]:
        value = inspect.getattr_static(value, name, None)  # no property of the program runs
    return value
