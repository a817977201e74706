"""Making the exception that the action `raise` raises."""

from __future__ import annotations

import builtins
import inspect
from collections.abc import Iterable, Iterator
from typing import Any, Final

from ..errors import FailpointUsageError, InjectedFault
from .actions import Raise, RaiseForRequest, Term, builtin_exception, steps
from .known_sites import known_sites
from .messages import did_you_mean


def default_message(name: str) -> str:
    """Return the message of an exception for which none is configured."""
    return f"injected by failpoint {name!r}"


def make_exception(action: Raise, name: str, raises: tuple[type[BaseException], ...]) -> BaseException:
    """Make a new exception for a visit of the failpoint *name*.

    Args:
        action: What to raise. An exception type in it may be a name from text.
        name: The failpoint, for messages.
        raises: The exception types that the site declares. A name is looked up among them, then among the builtins.

    Raises:
        FailpointUsageError: The name is unknown, or the type cannot be made from a message alone, or it is not an
            `Exception` and came with a request.
    """
    error = InjectedFault if action.error is None else action.error
    if isinstance(error, BaseException):
        return _copy(error)
    kind = _named(error, name, raises) if isinstance(error, str) else error
    if isinstance(action, RaiseForRequest) and not issubclass(kind, Exception):
        raise FailpointUsageError(
            f"failpoint {name!r} does not raise {kind.__name__} for a request: it is not an Exception, so it could end"
            " the whole service"
        )
    message = default_message(name) if action.message is None else action.message
    try:
        return kind(message)
    except Exception as problem:
        raise FailpointUsageError(
            f"failpoint {name!r} cannot make {kind.__name__} from a message alone ({problem});"
            f" configure Raise({kind.__name__}(…)) in Python",
            code="FP014",
        ) from problem


def is_cancellation(error: type[BaseException] | BaseException | str | None) -> bool:
    """Return whether what a `Raise` raises is the error with which asyncio or trio cancels a task, or is named so."""
    if isinstance(error, str):
        return error.rpartition(".")[2] in ("Cancelled", "CancelledError")
    kind = error if isinstance(error, type) else type(error)
    package = kind.__module__.partition(".")[0]
    return (package, kind.__name__) in {("asyncio", "CancelledError"), ("trio", "Cancelled")}


def check_raisable(name: str, terms: Iterable[Term]) -> None:
    """Raise `FailpointUsageError` if no site of the failpoint *name* can raise an exception that the terms only name.

    That is known if all sites of the name that were seen are functions, and the imported modules declare no other one.
    """
    named = [step for term in terms for step in steps(term.action) if isinstance(step, Raise)]
    sites = known_sites(name) if named else ()
    declared = [site.raises for site in sites if site.raises is not None]
    if not sites or len(declared) < len(sites):
        return
    for action in named:
        if isinstance(action.error, str):
            try:
                _named(action.error, name, tuple(dict.fromkeys(kind for raises in declared for kind in raises)))
            except FailpointUsageError:
                # Imported here, because it brings in the scanner of source code.
                from .declared import may_have_other_sites

                if not may_have_other_sites(name, sites):
                    raise


def look_up(text: str, raises: tuple[type[BaseException], ...]) -> type[BaseException] | None:
    """Return the exception type that a name means at a site which declares *raises*, or `None` if it has no meaning."""
    for kind in raises:
        if text in (kind.__name__, kind.__qualname__, f"{kind.__module__}.{kind.__qualname__}"):
            return kind
    return builtin_exception(text)


def _named(text: str, name: str, raises: tuple[type[BaseException], ...]) -> type[BaseException]:
    found = look_up(text, raises)
    if found is not None:
        return found
    declared = [kind.__name__ for kind in raises]
    known = [word for word in dir(builtins) if builtin_exception(word)]
    if is_cancellation(text):
        hint = "; did you mean the action 'cancel'?"
    else:
        hint = f": declare it there, or pass Raise(…){did_you_mean(text, [*declared, *known])}"
    raise FailpointUsageError(
        f"failpoint {name!r} cannot raise {text}, which is neither a builtin exception nor declared at the site"
        f" (raises={', '.join(declared) or 'nothing'}){hint}",
        code="FP014",
    )


def _copy(error: BaseException) -> BaseException:
    """Copy an exception, without calling its `__init__` and without the traceback of an earlier raise."""
    kind: Any = type(error)
    builtin = next(base for base in kind.__mro__ if base.__module__ == "builtins")
    copy: BaseException = builtin.__new__(kind, *error.args)
    for name in _fields(kind):
        value = getattr(error, name, None)
        if value is not None:  # one that is not set reads as None, too
            try:
                _set(copy, name, value)
            except (AttributeError, TypeError):
                pass  # read-only, such as a group's exceptions: __new__ has set it
    vars(copy).update(vars(error))
    if "__notes__" in vars(error):
        _set(copy, "__notes__", list(error.__notes__))
    _set(copy, "__cause__", error.__cause__)
    _set(copy, "__suppress_context__", error.__suppress_context__)
    return copy


_set: Final = object.__setattr__  # a frozen dataclass refuses to have any attribute set by its own


def _fields(kind: type) -> Iterator[str]:
    """Yield the attributes that an exception keeps outside its `__dict__`: slots, and C fields like `filename`."""
    for base in kind.__mro__:
        for name, thing in vars(base).items():
            if not name.startswith("__") and (inspect.ismemberdescriptor(thing) or inspect.isgetsetdescriptor(thing)):
                yield name
