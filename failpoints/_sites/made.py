"""Scopes and inline failpoints that are made for each visit, mostly with nothing but a name: one object serves a name.

To find it by its name costs less than to make another one. Names that are built at run time must not fill the memory,
so the objects are forgotten when there are too many. Those that are in use are not affected.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from sys import _getframe  # pyright: ignore[reportPrivateUsage]
from typing import Any, Final, Generic, TypeVar, cast

from .._core import known_sites
from .._core.functions import callable_name
from .._core.messages import did_you_mean
from .._core.switches import switch_of
from .._core.validation import check_name
from ..errors import FailpointUsageError
from .awaiting import enters_result

MISSING: Any = object()
"""The name that was not given."""

_MOST: Final = 1_000


T = TypeVar("T")


class Made(Generic[T]):
    """The objects of one kind. Those that have nothing but a name are kept.

    Args:
        function: What programs call to make one. `help()` and `inspect` show its options.
        make: Makes one, given its name, its switch, and the options.
    """

    def __init__(self, function: Any, make: Callable[..., T]) -> None:
        self.by_name: dict[str, T] = {}
        self._kind: Final = str(function.__name__)
        self._make = make
        signature = inspect.signature(make)
        name, _, *options = signature.parameters.values()
        self._options: Final = [option.name for option in options]
        function.__signature__ = inspect.signature(function).replace(
            parameters=[
                name.replace(kind=name.POSITIONAL_ONLY),
                *(option.replace(kind=option.KEYWORD_ONLY) for option in options),
            ]
        )

    def made(self, name: Any, options: Mapping[str, Any]) -> T:
        """Return the one with this name and these options. Called by the function, which a program has called."""
        if name.__class__ is not str:
            _refuse_name(self._kind, name)
        try:
            plain = self.by_name[name]
        except KeyError:
            switch = switch_of(name)
            plain = self._make(name, switch)
            if not switch.is_of_no_name:
                self._note(name)
            if len(self.by_name) >= _MOST:
                self.by_name.clear()
            self.by_name[name] = plain
        if not options:
            return plain
        known: Any = plain
        try:
            return self._make(known.name, known._switch, **options)  # noqa: SLF001 - of the two classes here
        except TypeError:
            unknown = next(option for option in options if option not in self._options)
            raise TypeError(
                f"{self._kind}() has no option {unknown!r}{did_you_mean(unknown, self._options)}"
                f" (it has: {', '.join(self._options)})"
            ) from None

    def _note(self, name: str) -> None:
        frame = _getframe(3)
        code = frame.f_code
        shows_scope = name in code.co_consts and enters_result(frame)
        known_sites.note_made(name, frame, loose=self._kind == "failpoint_scope" and not shows_scope)


def _refuse_name(kind: str, name: Any) -> None:
    """Raise the error for a first argument that is not a plain `str`. Accepts instances of subclasses of `str`."""
    functions = (classmethod, staticmethod, property)
    if name is MISSING or isinstance(name, functions) or (callable(name) and not isinstance(name, str)):
        above = "" if name is MISSING else f", above {callable_name(cast(Any, name))}"
        raise FailpointUsageError(f'{kind} needs a name first: write {kind}("some.name"){above}')
    check_name(name)
