"""Exchanging the code of decorated functions, so that they cost nothing while their failpoint is not configured.

A decorated function is a plain copy of the given function, and runs the same code. When its failpoint is configured,
the copy gets the code of a trampoline, which takes the same parameters and passes them to the visits. When the
failpoint is removed, the copy gets its own code back. So a call costs nothing while there is nothing to visit, a bound
method that was stored early is visited too, and introspection finds the function's name, location and parameters.
"""

from __future__ import annotations

import functools
import sys
import weakref
from collections.abc import Callable, Mapping
from inspect import CO_VARARGS, CO_VARKEYWORDS
from sys import _getframe  # pyright: ignore[reportPrivateUsage]
from types import CellType, CodeType, FunctionType
from typing import Any, Final, Protocol, Self

from ..errors import FailpointUsageError
from .functions import annotations_of
from .locks import guard
from .log import logger
from .making import function_of
from .reentrancy import transparent
from .switches import Member
from .tracebacks import hide_own_frames, one_line

# Exchanging code relies on CPython's code objects, and is tested on these versions. docs/internals.md has the reasons
# why it is safe without the GIL, too. The first builds without it end the process at a constant such as a `_Gate`.
_EXCHANGES: Final = (
    sys.implementation.name == "cpython"
    and sys.version_info < (3, 16)
    and not ("free-threading build" in sys.version and sys.version_info < (3, 13, 3))
)

_failures: list[tuple[str, Exception]] = []


class Visits(Protocol):
    """The visits around the calls of one function."""

    @property
    def only_start(self) -> bool:
        """Whether a call of the function only makes a coroutine or a generator."""
        ...

    def start(self, args: tuple[Any, ...], keyword_only: tuple[Any, ...], more: dict[str, Any]) -> Any:
        """Make the coroutine or generator of a call, given a value for each parameter."""
        ...

    def prepare_call(
        self, args: tuple[Any, ...], keyword_only: tuple[Any, ...], more: dict[str, Any]
    ) -> Callable[[], Any]:
        """Return a function that makes the call with its visits, given a value for each parameter."""
        ...

    def replace_function(self, function: FunctionType) -> None:
        """Run another function from now on: a tool has given the code of this one to the decorated function."""
        ...


def can_arm(function: object) -> bool:
    """Return whether the code of this object can be exchanged: it is a plain function, on a tested Python."""
    return _EXCHANGES and type(function) is FunctionType


def armed_copy(function: FunctionType, name: str, visits: Visits, *, shows_function: bool = True) -> FunctionType:
    """Return a copy of the function that is visited while *name* is configured. The original stays as it is.

    Unless the copy shows the function without failpoints, as its `__wrapped__`, it shares the attributes of the
    original.
    """
    code = own_code(function)
    trampolines = _Trampolines(code, visits, function)
    closure = _Closure(function.__closure__, trampolines)
    copy = copied(function, code, closure)
    if shows_function and (not hasattr(function, "__wrapped__") or is_armed_copy(function)):
        copy.__dict__ = dict(function.__dict__)
        trampolines.show(copy, copied(function, code, closure))
    elif not shows_function:
        _unshown[copy] = trampolines
    under = _trampolines_in(function)
    trampolines.member = Member(copy, _exchange, name, code, None if under is None else under.member)
    return copy


def is_armed_copy(function: object) -> bool:
    """Return whether a function was made by `armed_copy`."""
    return type(getattr(function, "__closure__", None)) is _Closure


def visits_of(thing: object) -> Visits | None:
    """Return the visits around the calls of a function that `armed_copy` has made; `None` for anything else."""
    trampolines = _trampolines_in(thing)
    return None if trampolines is None else trampolines.visits


def copied_from(thing: object) -> FunctionType | None:
    """Return the function of which `armed_copy` has made this one; `None` for anything else."""
    trampolines = _trampolines_in(thing)
    return None if trampolines is None else trampolines.original


def copied(function: FunctionType, code: CodeType, closure: tuple[Any, ...]) -> FunctionType:
    """Copy a function with other code and another closure. The copy shares the attribute dictionary."""
    copy = function_of(code, function.__globals__, function.__defaults__, function.__kwdefaults__, closure)
    for name in ("__name__", "__doc__", "__module__", "__qualname__", "__dict__"):
        setattr(copy, name, getattr(function, name))
    if sys.version_info >= (3, 12):
        copy.__type_params__ = function.__type_params__
    if sys.version_info >= (3, 14) and function.__annotate__ is not None:
        copy.__annotate__ = functools.partial(annotations_of, function)
    else:
        copy.__annotations__ = function.__annotations__
    return copy


def appearance_of(function: FunctionType) -> dict[str, Any]:
    """Return what `copied` copies and tools may set, by the name of the attribute. Evaluates no annotations."""
    names = ["__defaults__", "__kwdefaults__", "__doc__", "__module__", "__name__", "__qualname__"]
    is_lazy = sys.version_info >= (3, 14) and function.__annotate__ is not None
    names.append("__annotate__" if is_lazy else "__annotations__")
    return {"__code__": own_code(function), **{name: getattr(function, name) for name in names}}


def own_code(function: FunctionType) -> CodeType:
    """Return the function's own code, even while a trampoline replaces it."""
    code = function.__code__
    gate = _gate(code)
    return code if gate is None else gate.code


def report_failures() -> None:
    """Log the functions that have lost their failpoint. The caller does not hold the lock of the registries."""
    while _failures:
        function, error = _failures.pop()
        logger.warning(
            "%s has lost its failpoint, because its code cannot be exchanged: %s. If another tool has replaced parts of"
            " the function, reload its module",
            function,
            error,
        )


def _exchange(function: FunctionType, member: Member) -> None:
    """Give a function the code that it should have now, in one thread at a time: two would release the old code twice.

    A signal handler or a finalizer that reconfigures can come in between, so it is checked again for a change.
    """
    try:
        with guard.lock:
            while True:
                code = function.__code__
                gate = _gate(code)
                own = code if gate is None else gate.code
                member.look_at(own)
                armed = member.is_armed
                wanted = _trampoline_of(function, own) if armed else own
                if wanted is not code:
                    function.__code__ = wanted
                if armed is member.is_armed:
                    return
    except Exception as error:  # another tool has taken it apart, which must not stop the others
        member.forget()
        _failures.append((f"{function.__module__}.{function.__qualname__}", error))


def _trampoline_of(function: FunctionType, own: CodeType) -> CodeType:
    trampolines = _trampolines_of(function)
    if trampolines is None:
        raise FailpointUsageError("its closure and its attributes were replaced")
    return trampolines.for_code(own, function)


def _trampolines_of(function: FunctionType) -> _Trampolines | None:
    trampolines = _trampolines_in(function)
    if trampolines is not None:
        return trampolines
    # IPython's autoreload replaces the closure, and gives the function the attributes of a newly decorated one.
    plain = function.__dict__.get("__wrapped__")
    trampolines = _trampolines_in(plain)
    return trampolines if trampolines is not None and trampolines.shows(plain) else None


def _trampolines_in(thing: object) -> _Trampolines | None:
    if type(thing) is not FunctionType:  # a proxy presents the closure of what it wraps as its own
        return None
    closure = thing.__closure__
    return closure.trampolines if type(closure) is _Closure else _unshown.get(thing)


class _Closure(tuple[Any, ...]):  # noqa: SLOT001 - a tuple has no slots, and this needs some
    """The closure of a copy. It keeps the visits alive as long as the function.

    A code object must not refer to them: the garbage collector does not traverse it, so a function that refers to
    itself would never be collected.
    """

    trampolines: _Trampolines

    def __new__(cls, cells: tuple[CellType, ...] | None, trampolines: _Trampolines) -> Self:
        closure = super().__new__(cls, cells or ())
        closure.trampolines = trampolines
        return closure

    def __reduce__(self) -> tuple[Any, ...]:
        return tuple, (tuple(self),)  # cloudpickle takes functions apart, and rebuilds plain ones elsewhere


class _Trampolines:
    """Makes the trampoline of one decorated function, and a new one if a tool has given other code to the function."""

    member: Member  # kept alive by the function, as its switch is by the member

    def __init__(self, code: CodeType, visits: Visits, original: FunctionType) -> None:
        self.code = code
        self.visits = visits
        self.original = original
        self._trampoline: CodeType | None = None
        self._plain: weakref.ref[FunctionType] | None = None

    def for_code(self, code: CodeType, function: FunctionType) -> CodeType:
        """Return the trampoline in place of *code*, which is made when it is first needed."""
        if code is not self.code:
            plain = copied(function, code, _Closure(function.__closure__, self))
            if self.shows(function.__dict__.get("__wrapped__")):
                plain.__dict__ = {name: value for name, value in function.__dict__.items() if name != "__wrapped__"}
                self.show(function, plain)
            self.visits.replace_function(plain)
            self.code = code
            self._trampoline = None
        if self._trampoline is None:
            self._trampoline = _trampoline(_Gate(code, self), only_starts=self.visits.only_start)
        return self._trampoline

    def show(self, function: FunctionType, plain: FunctionType) -> None:
        """Let the decorated function show the function without failpoints, as any other decorator does.

        Tools look for it: without it, typeguard compiles the source of the function again, and puts that in its place.
        """
        function.__dict__["__wrapped__"] = plain
        self._plain = weakref.ref(plain)

    def shows(self, function: object) -> bool:
        """Return whether this is the function that was shown last."""
        return self._plain is not None and self._plain() is function


_unshown: Final = weakref.WeakKeyDictionary[FunctionType, _Trampolines]()
"""Of the copies made for a while, whose closure IPython's autoreload may replace, too. They show no other function."""


class _Gate:
    """The constant in a trampoline's code through which it finds the visits: code does not know its function."""

    __slots__ = ("_trampolines", "code")

    def __init__(self, code: CodeType, trampolines: _Trampolines | None = None) -> None:
        self.code = code
        self._trampolines = None if trampolines is None else weakref.ref(trampolines)

    @transparent
    def prepare_call(
        self,
        args: tuple[Any, ...],
        keyword_only: tuple[Any, ...],
        more: dict[str, Any],
        cells: tuple[CellType, ...] | None,
    ) -> Callable[[], Any]:
        """Return a function that makes the call, given a value for each parameter and the cells of free variables."""
        trampolines = None if self._trampolines is None else self._trampolines()
        if trampolines is not None and trampolines.code is self.code:
            return trampolines.visits.prepare_call(args, keyword_only, more)
        return self._plain_call(args, keyword_only, more, cells, _getframe(1).f_globals)

    @transparent
    def start(
        self,
        args: tuple[Any, ...],
        keyword_only: tuple[Any, ...],
        more: dict[str, Any],
        cells: tuple[CellType, ...] | None,
    ) -> Any:
        """Make the coroutine or generator of a call, which runs nothing yet."""
        trampolines = None if self._trampolines is None else self._trampolines()
        if trampolines is not None and trampolines.code is self.code:
            return trampolines.visits.start(args, keyword_only, more)
        return self._plain_call(args, keyword_only, more, cells, _getframe(1).f_globals)()

    def _plain_call(
        self,
        args: tuple[Any, ...],
        keyword_only: tuple[Any, ...],
        more: dict[str, Any],
        cells: tuple[CellType, ...] | None,
        namespace: dict[str, Any],
    ) -> Callable[[], Any]:
        # The code is on its own: in another process, in a copy that has outlived its function, or in one that a tool
        # made of the function while it was armed, to call it from the code that it gave to the function.
        function = FunctionType(self.code, namespace, self.code.co_name, None, cells)
        function.__qualname__ = self.code.co_qualname
        return functools.partial(function, *args, **keywords_of(self.code, keyword_only, more))

    @staticmethod
    def leave_traceback() -> None:
        """Take the trampoline out of the traceback of the exception that leaves it."""
        error = sys.exception()
        if error is not None:
            hide_own_frames(error, first=True)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Gate, (self.code,)  # cloudpickle takes code apart, too


def keywords_of(code: CodeType, keyword_only: tuple[Any, ...], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments of a call, given the values of the keyword-only parameters, and all others."""
    return {**dict(zip(code.co_varnames[code.co_argcount :], keyword_only, strict=False)), **more}


def is_trampoline(code: CodeType) -> bool:
    """Return whether this code takes the place of a decorated function's own code."""
    return _gate(code) is not None


def _gate(code: CodeType) -> _Gate | None:
    for constant in code.co_consts:
        if type(constant) is _Gate:
            return constant
    return None


_GATE: Final = "the gate"


def _trampoline(gate: _Gate, *, only_starts: bool) -> CodeType:
    """Make code that looks like the gate's code, with the same parameters and free variables."""
    code = gate.code
    parameters = code.co_argcount, code.co_kwonlyargcount
    rest, more = bool(code.co_flags & CO_VARARGS), bool(code.co_flags & CO_VARKEYWORDS)
    template = _template(*parameters, rest, more, len(code.co_freevars), only_starts)
    return template.replace(
        co_name=code.co_name,
        co_qualname=code.co_qualname,
        co_filename=code.co_filename,
        co_firstlineno=code.co_firstlineno,
        # They make introspection see a coroutine or generator function. Whether a call makes a coroutine depends on
        # the instructions instead, and these return the one that the visits make.
        co_flags=code.co_flags,
        # A generator is made as large as the code that its function has by then, for the frame of the code that the
        # call began with (`make_gen` in CPython). In between another thread, or a finalizer, may arm the function.
        co_stacksize=template.co_stacksize + _size(code),
        co_posonlyargcount=code.co_posonlyargcount,
        co_varnames=code.co_varnames[: sum(parameters) + rest + more],
        co_freevars=code.co_freevars,
        # Also the code itself: cloudpickle sends along the globals that a code and its constants mention.
        co_consts=(*(gate if constant == _GATE else constant for constant in template.co_consts), code),
    )


@functools.cache
def _template(positional: int, named: int, rest: bool, more: bool, free: int, only_starts: bool) -> CodeType:
    """Compile the trampoline of all functions with these numbers of parameters and free variables.

    The free variables are mentioned, so that the code sets them up as any closure does. A frame whose code only
    declares them crashes the process when its `f_locals` is read (CPython 3.11 and 3.12).
    """
    given = [f"p{number}" for number in range(positional)]
    keywords = [f"k{number}" for number in range(named)]
    parameters = [*given, *(["*rest"] if rest else ["*"] if keywords else []), *keywords, *(["**more"] if more else [])]
    args = "".join(f"{name}, " for name in ([*given, "*rest"] if rest else given))
    keyword_only = "".join(f"{name}, " for name in keywords)
    free_variables = [f"f{number:03}" for number in range(free)]  # which a closure has in the order of their names
    cells = f"(lambda: ({', '.join(free_variables)})).__closure__" if free else None
    values = f"({args}), ({keyword_only}), {'more' if more else '{}'}, {cells}"
    call = f"{_GATE!r}.start({values})" if only_starts else f"{_GATE!r}.prepare_call({values})()"
    source = [
        f"def enclosing({', '.join(free_variables)}):",
        f"    def trampoline({', '.join(parameters)}):",
        f"        try: return {call}",
        f"        except: {_GATE!r}.leave_traceback(); raise",
    ]
    enclosing = _inner_code(compile("\n".join(source), "trampoline", "exec"))
    code = _inner_code(enclosing)
    return code.replace(co_linetable=one_line(len(code.co_code) // 2))


def _size(code: CodeType) -> int:
    """Return a size that the frames of this code do not exceed."""
    return code.co_nlocals + len(code.co_cellvars) + len(code.co_freevars) + code.co_stacksize


def _inner_code(code: CodeType) -> CodeType:
    return next(constant for constant in code.co_consts if isinstance(constant, CodeType))
