"""Making a function out of its parts, such that the interpreter specializes its calls."""

from __future__ import annotations

import functools
import sys
from opcode import opmap
from types import CodeType, FunctionType
from typing import Any, Final

from .tracebacks import one_line

# Without the GIL no function may be specialized whose code is exchanged. docs/internals.md has the reason.
_SPECIALIZES: Final = sys.version_info >= (3, 13) and "free-threading build" not in sys.version


def function_of(
    code: CodeType,
    namespace: dict[str, Any],
    defaults: tuple[Any, ...] | None,
    keyword_defaults: dict[str, Any] | None,
    closure: tuple[Any, ...],
) -> FunctionType:
    """Return a new function.

    Since CPython 3.13 the calls of a function are specialized only if a `def` or a `lambda` has made it, and nothing
    was assigned to its code or its defaults. `FunctionType` makes one whose calls take up to 1.2 times as long. So this
    runs the instructions of a `def`, with the parts that the compiler would give them.
    """
    if _SPECIALIZES and len(closure) == len(code.co_freevars):  # which the instructions do not check
        maker = FunctionType(_maker(defaults is not None, keyword_defaults is not None), namespace)
        made: FunctionType = maker(code, defaults, keyword_defaults, closure)
    else:
        made = FunctionType(code, namespace, code.co_name, defaults, closure)
        made.__kwdefaults__ = keyword_defaults
    return made


@functools.cache
def _maker(has_defaults: bool, has_keyword_defaults: bool) -> CodeType:
    """Assemble code that takes the code of a function and its other parts, and returns the function.

    It is that of `maker`, which gets the code of the function as a parameter instead of as a constant.
    """

    def maker(code: Any, defaults: Any, keyword_defaults: Any, closure: Any) -> Any:
        return lambda: None

    parts = [(3, 8)]  # the place of each among the parameters, and the number that the instruction has for it
    if has_keyword_defaults:
        parts.append((2, 2))
    if has_defaults:
        parts.append((1, 1))
    own, make = maker.__code__, bytes([opmap["MAKE_FUNCTION"], 0])
    before, after = own.co_code.split(make)
    instructions = b"".join(
        [
            before[:-2],  # without the instruction that loads the code of the lambda
            *(bytes([opmap["LOAD_FAST"], place]) for place, _ in [*parts, (0, None)]),
            make,
            *(bytes([opmap["SET_FUNCTION_ATTRIBUTE"], number]) for _, number in reversed(parts)),
            after,
        ]
    )
    size = own.co_stacksize + len(parts)
    return own.replace(co_code=instructions, co_linetable=one_line(len(instructions) // 2), co_stacksize=size)
