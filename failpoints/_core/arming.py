"""What lets a decorated function cost nothing while nothing is configured: its code is exchanged when something is.

A decorated function is a plain copy of the one that was given, and runs the same code. Once anything is configured,
every copy is given the code of a trampoline, which takes the same parameters and hands them to the visits; after
the last failpoint is removed, its own again. So a call costs nothing while there is nothing to visit, a bound method
stored early fires, and whoever looks sees a function with its name, its place and its parameters.
"""

from __future__ import annotations

import functools
import sys
import weakref
from collections.abc import Callable, Mapping
from inspect import CO_VARARGS, CO_VARKEYWORDS
from types import CodeType, FunctionType
from typing import Any, Final, NoReturn, Protocol, Self, cast

from ..errors import FailpointUsageError

ARMED: Final[dict[str, None]] = {}
"""What is configured in any registry in force. Empty means that no site has anything to do."""

# Where exchanging code is known to work: it is CPython's code objects, and the lock of its interpreter, that it
# rests on.
_EXCHANGES: Final = (
    sys.implementation.name == "cpython"
    and sys.version_info < (3, 14)
    and getattr(sys, "_is_gil_enabled", lambda: True)()
)

_functions: set[weakref.ref[FunctionType]] = set()
_armed: bool | None = False  # None while an exchange is under way


class Visits(Protocol):
    """The visits around the calls of one function."""

    def ready(self, args: tuple[Any, ...], keyword_only: tuple[Any, ...], more: Mapping[str, Any]) -> Callable[[], Any]:
        """A call while anything is configured, with a value for each parameter: what is to be called for it."""
        ...

    def rewrite(self, code: CodeType) -> None:
        """The function was given this code by somebody else."""
        ...


def can_arm(function: object) -> bool:
    """Whether this is a plain function, whose code can be exchanged."""
    return _EXCHANGES and type(function) is FunctionType


def armed_copy(function: FunctionType, visits: Visits) -> FunctionType:
    """The function, visited while anything is configured; the one that was given stays as it is."""
    code = own_code(function)
    copy = copied(function, code, _Closure(function, code, visits))
    _functions.add(weakref.ref(copy, _functions.discard))
    _settle(copy)
    return copy


def copied(function: FunctionType, code: CodeType, closure: tuple[Any, ...] | None) -> FunctionType:
    """The function with another code and closure; what is set on the one is set on the other."""
    copy = FunctionType(code, function.__globals__, function.__name__, function.__defaults__, closure)
    for name in ("__kwdefaults__", "__annotations__", "__doc__", "__module__", "__qualname__", "__dict__"):
        setattr(copy, name, getattr(function, name))
    if sys.version_info >= (3, 12):
        copy.__type_params__ = function.__type_params__
    return copy


def own_code(function: FunctionType) -> CodeType:
    """The code that a function has of itself, armed or not."""
    code = function.__code__
    gate = _gate(code)
    return code if gate is None else gate.code


def arm_or_disarm() -> None:
    """Exchange the code of all functions if there is now something to visit, or nothing any more.

    Right also when a signal handler or a finalizer reconfigures between any two lines: it asks what is so, not what
    this call has done. The caller holds the lock of the registries.
    """
    global _armed
    while _armed is not (armed := bool(ARMED)):
        _armed = None
        for reference in list(_functions):
            function = reference()
            if function is not None:
                _settle(function)
        _armed = armed


def _settle(function: FunctionType) -> None:
    """Give a function the code that is due; without a lock, so a change of mind meanwhile is looked for."""
    closure = cast(_Closure, function.__closure__)
    while True:
        armed = bool(ARMED)
        code = function.__code__
        gate = _gate(code)
        if armed and gate is None:
            function.__code__ = closure.trampoline(code)
        elif gate is not None and not armed:
            function.__code__ = gate.code
        if armed is bool(ARMED):
            return


class _Closure(tuple[Any, ...]):  # noqa: SLOT001 - a tuple has no slots, and this needs some
    """The closure of a copy, which keeps the visits alive as long as the function lives, and no longer.

    A code object must not hold them: the garbage collector does not look into one, and a function that refers to
    itself would live for ever.
    """

    code: CodeType
    visits: Visits
    _trampoline: CodeType | None

    def __new__(cls, function: FunctionType, code: CodeType, visits: Visits) -> Self:
        closure = super().__new__(cls, function.__closure__ or ())
        closure.code = code
        closure.visits = visits
        closure._trampoline = None
        return closure

    def __reduce__(self) -> tuple[Any, ...]:
        return tuple, (tuple(self),)  # cloudpickle takes functions apart: what it makes elsewhere is a plain one

    def trampoline(self, code: CodeType) -> CodeType:
        """What stands in for this code, which is the function's own: made when it is wanted."""
        if code is not self.code:  # somebody else exchanged it: a reloader, say
            self.visits.rewrite(code)
            self.code = code
            self._trampoline = None
        trampoline = self._trampoline
        if trampoline is None:
            self._trampoline = trampoline = _trampoline(_Gate(code, self.visits))
        return trampoline


class _Gate:
    """The constant in a trampoline's code, which knows nothing of its function, that leads to the visits."""

    __slots__ = ("_visits", "code")

    def __init__(self, code: CodeType, visits: Visits) -> None:
        self.code = code
        self._visits = weakref.ref(visits)

    def visits(self) -> Visits:
        visits = self._visits()
        if visits is None:
            raise FailpointUsageError(
                f"this copy of {self.code.co_qualname} was made of its code alone, while a failpoint was configured,"
                " and the function decorated with @failpoint is gone: copy it with its closure, or before configuring"
            )
        return visits

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{self.code.co_qualname}, decorated with @failpoint, is pickled by its name while a failpoint is"
            " configured: its code, which is not its own then, is nothing for another process"
        )


def _gate(code: CodeType) -> _Gate | None:
    for constant in code.co_consts:
        if type(constant) is _Gate:
            return constant
    return None


_GATE: Final = "the gate"


def _trampoline(gate: _Gate) -> CodeType:
    """Code that looks like the gate's, and takes the same parameters and free variables."""
    code = gate.code
    parameters = code.co_argcount, code.co_kwonlyargcount
    rest, more = bool(code.co_flags & CO_VARARGS), bool(code.co_flags & CO_VARKEYWORDS)
    template = _template(*parameters, rest, more, len(code.co_freevars))
    return template.replace(
        co_name=code.co_name,
        co_qualname=code.co_qualname,
        co_filename=code.co_filename,
        co_firstlineno=code.co_firstlineno,
        # Among them what kind of function this is to whoever looks. What makes a call a coroutine or a generator
        # is in the instructions, and this returns the one that the visits make.
        co_flags=code.co_flags,
        co_posonlyargcount=code.co_posonlyargcount,
        co_varnames=code.co_varnames[: sum(parameters) + rest + more],
        co_freevars=code.co_freevars,
        co_consts=tuple(gate if constant == _GATE else constant for constant in template.co_consts),
    )


@functools.cache
def _template(positional: int, keyword_only: int, rest: bool, more: bool, free: int) -> CodeType:
    """Compile the trampoline of all functions with these numbers of parameters and free variables.

    The free variables are mentioned, in a branch that never runs, so that the code sets them up as any closure does.
    A frame whose code only declares them crashes the process when its `f_locals` is read (CPython 3.11 and 3.12).
    """
    given = [f"p{number}" for number in range(positional)]
    named = [f"k{number}" for number in range(keyword_only)]
    parameters = [*given, *(["*rest"] if rest else ["*"] if named else []), *named, *(["**more"] if more else [])]
    args = "".join(f"{name}, " for name in ([*given, "*rest"] if rest else given))
    keyword_only_values = "".join(f"{name}, " for name in named)
    free_variables = [f"f{number}" for number in range(free)]
    source = [
        f"def enclosing({', '.join(free_variables)}):",
        f"    def trampoline({', '.join(parameters)}):",
        *(f"        if 0: {name}" for name in free_variables),
        f"        return {_GATE!r}.visits().ready(({args}), ({keyword_only_values}), {'more' if more else '{}'})()",
    ]
    enclosing = _inner_code(compile("\n".join(source), "trampoline", "exec"))
    code = _inner_code(enclosing)
    return code.replace(co_linetable=_one_line(len(code.co_code) // 2))


def _inner_code(code: CodeType) -> CodeType:
    return next(constant for constant in code.co_consts if isinstance(constant, CodeType))


def _one_line(instructions: int) -> bytes:
    """The table that says of all instructions: on the first line, in no column that a traceback could mark."""
    no_column = 0x80 | 13 << 3  # CPython's Objects/locations.md
    lengths = [min(8, instructions - start) for start in range(0, instructions, 8)]
    return b"".join(bytes([no_column | length - 1, 0]) for length in lengths)
