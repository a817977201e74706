"""Scopes and inline failpoints that are made for each visit, mostly with nothing but a name: one object serves a name.

To find it by its name costs less than to make another one. Names that are built at run time must not fill the memory,
so the objects are forgotten when there are too many. Those that are in use are not affected.
"""

from __future__ import annotations

from collections.abc import Callable
from sys import _getframe  # pyright: ignore[reportPrivateUsage]
from typing import Any, Final, Generic, TypeVar, cast

from .._core import known_sites
from .._core.functions import callable_name
from .._core.switches import Switch, may_contain_scope, switch_of
from .._core.validation import check_name
from ..errors import FailpointUsageError

MISSING: Any = object()
"""The name that was not given."""

_MOST: Final = 1_000


T = TypeVar("T")


class Made(Generic[T]):
    """The objects of one kind that have nothing but a name.

    Args:
        kind: The function that programs call to make one.
        make: Makes one, given its name and its switch.
    """

    def __init__(self, kind: str, make: Callable[[str, Switch], T]) -> None:
        self.by_name: dict[str, T] = {}
        self._kind = kind
        self._make = make

    def plain(self, name: Any) -> T:
        """Return the one with this name. Called by the function of this kind, which a program has called."""
        if name.__class__ is not str:
            _refuse_name(self._kind, name)
        try:
            return self.by_name[name]
        except KeyError:
            pass
        plain = self._make(name, switch_of(name))
        self._note(name)
        if len(self.by_name) >= _MOST:
            self.by_name.clear()
        self.by_name[name] = plain
        return plain

    def _note(self, name: str) -> None:
        frame = _getframe(3)
        code = frame.f_code
        shows_scope = may_contain_scope(code) and name in code.co_consts
        known_sites.note_made(name, frame, loose=self._kind == "failpoint_scope" and not shows_scope)


def _refuse_name(kind: str, name: Any) -> None:
    """Raise the error for a first argument that is not a plain `str`. Accepts instances of subclasses of `str`."""
    functions = (classmethod, staticmethod, property)
    if name is MISSING or isinstance(name, functions) or (callable(name) and not isinstance(name, str)):
        above = "" if name is MISSING else f", above {callable_name(cast(Any, name))}"
        raise FailpointUsageError(f'{kind} needs a name first: write {kind}("some.name"){above}')
    check_name(name)
