"""Exchanging the code of decorated functions, so that they cost nothing while nothing is configured.

A decorated function is a plain copy of the given function, and runs the same code. When a failpoint is configured,
every copy gets the code of a trampoline, which takes the same parameters and passes them to the visits. When the last
failpoint is removed, every copy gets its own code back. So a call costs nothing while there is nothing to visit, a
bound method that was stored early is visited too, and introspection finds the function's name, location and parameters.
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
from .tracebacks import hide_own_frames, one_line

ARMED: Final[dict[str, None]] = {}
"""The names that are configured in any active registry. While it is empty, no site has anything to do."""

# Exchanging code relies on CPython's code objects and its global lock, and is tested on these versions.
_EXCHANGES: Final = (
    sys.implementation.name == "cpython"
    and sys.version_info < (3, 14)
    and getattr(sys, "_is_gil_enabled", lambda: True)()
)

_functions: set[weakref.ref[FunctionType]] = set()
_armed: bool | None = False  # None during an exchange


class Visits(Protocol):
    """The visits around the calls of one function."""

    def prepare_call(
        self, args: tuple[Any, ...], keyword_only: tuple[Any, ...], more: Mapping[str, Any]
    ) -> Callable[[], Any]:
        """Return a function that makes the call while something is configured, given a value for each parameter."""
        ...

    def replace_code(self, code: CodeType) -> None:
        """Run other code from now on, which something other than this module gave to the function."""
        ...


def can_arm(function: object) -> bool:
    """Return whether the code of this object can be exchanged: it is a plain function, on a tested Python."""
    return _EXCHANGES and type(function) is FunctionType


def armed_copy(function: FunctionType, visits: Visits) -> FunctionType:
    """Return a copy of the function that is visited while anything is configured. The original stays as it is."""
    code = own_code(function)
    copy = copied(function, code, _Closure(function, code, visits))
    _functions.add(weakref.ref(copy, _functions.discard))
    _settle(copy)
    return copy


def copied(function: FunctionType, code: CodeType, closure: tuple[Any, ...] | None) -> FunctionType:
    """Copy a function with other code and another closure. The copy shares the attribute dictionary."""
    copy = FunctionType(code, function.__globals__, function.__name__, function.__defaults__, closure)
    for name in ("__kwdefaults__", "__annotations__", "__doc__", "__module__", "__qualname__", "__dict__"):
        setattr(copy, name, getattr(function, name))
    if sys.version_info >= (3, 12):
        copy.__type_params__ = function.__type_params__
    return copy


def own_code(function: FunctionType) -> CodeType:
    """Return the function's own code, even while a trampoline replaces it."""
    code = function.__code__
    gate = _gate(code)
    return code if gate is None else gate.code


def arm_or_disarm() -> None:
    """Exchange the code of all functions if `ARMED` has become empty, or is no longer empty.

    The caller holds the lock of the registries. Safe to re-enter from a signal handler or a finalizer that
    reconfigures: it checks the actual state instead of remembering what it did.
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
    """Give a function the code that it should have now. Without a lock, so it checks again for a later change."""
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
    """The closure of a copy. It keeps the visits alive as long as the function.

    A code object must not refer to them: the garbage collector does not traverse it, so a function that refers to
    itself would never be collected.
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
        return tuple, (tuple(self),)  # cloudpickle takes functions apart, and rebuilds plain ones elsewhere

    def trampoline(self, code: CodeType) -> CodeType:
        """Return the trampoline for the function's own code, which is made when it is first needed."""
        if code is not self.code:  # replaced by something else, such as a reloader
            self.visits.replace_code(code)
            self.code = code
            self._trampoline = None
        trampoline = self._trampoline
        if trampoline is None:
            self._trampoline = trampoline = _trampoline(_Gate(code, self.visits))
        return trampoline


class _Gate:
    """The constant in a trampoline's code through which it finds the visits: code does not know its function."""

    __slots__ = ("_visits", "code")

    def __init__(self, code: CodeType, visits: Visits) -> None:
        self.code = code
        self._visits = weakref.ref(visits)

    def visits(self) -> Visits:
        visits = self._visits()
        if visits is None:
            raise FailpointUsageError(
                f"this copy of {self.code.co_qualname} was made from its code alone, while a failpoint was configured,"
                " and the function decorated with @failpoint is gone: copy it with its closure, or before configuring"
            )
        return visits

    @staticmethod
    def leave_traceback() -> None:
        """Take the trampoline out of the traceback of the exception that leaves it."""
        error = sys.exception()
        if error is not None:
            hide_own_frames(error, first=True)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{self.code.co_qualname}, decorated with @failpoint, can only be pickled by its name while a failpoint is"
            " configured: its code is then not its own, and no use to another process"
        )


def _gate(code: CodeType) -> _Gate | None:
    for constant in code.co_consts:
        if type(constant) is _Gate:
            return constant
    return None


_GATE: Final = "the gate"


def _trampoline(gate: _Gate) -> CodeType:
    """Make code that looks like the gate's code, with the same parameters and free variables."""
    code = gate.code
    parameters = code.co_argcount, code.co_kwonlyargcount
    rest, more = bool(code.co_flags & CO_VARARGS), bool(code.co_flags & CO_VARKEYWORDS)
    template = _template(*parameters, rest, more, len(code.co_freevars))
    return template.replace(
        co_name=code.co_name,
        co_qualname=code.co_qualname,
        co_filename=code.co_filename,
        co_firstlineno=code.co_firstlineno,
        # They make introspection see a coroutine or generator function. Whether a call makes a coroutine depends on
        # the instructions instead, and these return the one that the visits make.
        co_flags=code.co_flags,
        co_posonlyargcount=code.co_posonlyargcount,
        co_varnames=code.co_varnames[: sum(parameters) + rest + more],
        co_freevars=code.co_freevars,
        co_consts=tuple(gate if constant == _GATE else constant for constant in template.co_consts),
    )


@functools.cache
def _template(positional: int, named: int, rest: bool, more: bool, free: int) -> CodeType:
    """Compile the trampoline of all functions with these numbers of parameters and free variables.

    The free variables are mentioned, in a branch that never runs, so that the code sets them up as any closure does.
    A frame whose code only declares them crashes the process when its `f_locals` is read (CPython 3.11 and 3.12).
    """
    given = [f"p{number}" for number in range(positional)]
    keywords = [f"k{number}" for number in range(named)]
    parameters = [*given, *(["*rest"] if rest else ["*"] if keywords else []), *keywords, *(["**more"] if more else [])]
    args = "".join(f"{name}, " for name in ([*given, "*rest"] if rest else given))
    keyword_only = "".join(f"{name}, " for name in keywords)
    values = f"({args}), ({keyword_only}), {'more' if more else '{}'}"
    free_variables = [f"f{number}" for number in range(free)]
    source = [
        f"def enclosing({', '.join(free_variables)}):",
        f"    def trampoline({', '.join(parameters)}):",
        *(f"        if 0: {name}" for name in free_variables),
        f"        try: return {_GATE!r}.visits().prepare_call({values})()",
        f"        except: {_GATE!r}.leave_traceback(); raise",
    ]
    enclosing = _inner_code(compile("\n".join(source), "trampoline", "exec"))
    code = _inner_code(enclosing)
    return code.replace(co_linetable=one_line(len(code.co_code) // 2))


def _inner_code(code: CodeType) -> CodeType:
    return next(constant for constant in code.co_consts if isinstance(constant, CodeType))
