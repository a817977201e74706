"""Which faults are tried at a visit: what the site can raise, or what `faults=` says instead."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, TypeAlias, cast

from ..._core.actions import Action, Actions, Call, Exit, Raise
from ..._core.formatting import describe_actions
from ..._core.grammar import as_terms
from ..._core.messages import did_you_mean, safe_repr
from ...errors import FailpointUsageError

GivenFaults: TypeAlias = Mapping[str, Sequence[Actions]]
"""What `explore` takes as `faults`: alternatives by a name, or by a pattern with `*`, `?` and `[…]`."""


class Alternatives:
    """The faults to try at each visit, by the name of the failpoint and what its site raises."""

    def __init__(self, given: GivenFaults | None) -> None:
        """Read what `explore` was given; raises `FailpointUsageError`, `ActionSyntaxError`."""
        if given is not None and not isinstance(given, Mapping):
            raise FailpointUsageError(
                'faults= is a mapping of names or patterns to lists of actions, such as {"a.*": ["raise"]};'
                f" got {safe_repr(given)}"
            )
        entries = (given or {}).items()
        self._given = {_pattern(pattern): _alternatives(pattern, actions) for pattern, actions in entries}
        self._known: dict[tuple[str, tuple[type[BaseException], ...]], tuple[Action, ...]] = {}
        self._matched: set[str] = set()

    def of(self, name: str, raises: tuple[type[BaseException], ...]) -> tuple[Action, ...]:
        """The faults to try at a visit of this name."""
        known = self._known.get((name, raises))
        if known is None:
            known = self._known[name, raises] = self._find(name, raises)
        return known

    def _find(self, name: str, raises: tuple[type[BaseException], ...]) -> tuple[Action, ...]:
        matching = [pattern for pattern in self._given if pattern == name or fnmatchcase(name, pattern)]
        self._matched.update(matching)
        if not matching:
            return tuple(Raise(kind) for kind in raises) or (Raise(),)
        return self._given[name if name in matching else matching[0]]

    def check_all_matched(self) -> None:
        """Raise `FailpointUsageError` for a name or pattern that no visit bore: a typo must not pass."""
        for pattern in self._given:
            if pattern not in self._matched:
                visited = sorted({name for name, _ in self._known})
                raise FailpointUsageError(
                    f"faults= names {pattern!r}, which no failpoint bore that was visited inside run.injecting()"
                    f" (visited: {', '.join(visited) or 'none'}){did_you_mean(pattern, visited)}"
                )


def fault_text(action: Action) -> str:
    """A fault as a person reads it, and as `FAILPOINTS` takes it where it can."""
    if isinstance(action, Raise) and isinstance(action.error, type) and action.message is None:
        return f"raise({action.error.__name__})"
    return describe_actions(action)


def _pattern(pattern: Any) -> str:
    if not isinstance(pattern, str):
        raise FailpointUsageError(f"faults= is a mapping of names or patterns, each a str; got {safe_repr(pattern)}")
    return pattern


def _alternatives(pattern: str, actions: Any) -> tuple[Action, ...]:
    if isinstance(actions, str) or not isinstance(actions, Sequence):
        raise FailpointUsageError(
            f"faults={{{pattern!r}: …}} is a list of actions, each tried in a run of its own;"
            f" did you mean [{safe_repr(actions)}]?"
        )
    return tuple(_alternative(pattern, action) for action in cast(Any, actions))


def _alternative(pattern: str, given: Any) -> Action:
    terms = as_terms(given)
    term = terms[0]
    if len(terms) > 1 or term.probability < 1 or term.times is not None:
        raise FailpointUsageError(
            f"faults={{{pattern!r}: …}} takes plain actions, since exploring itself says when each is due;"
            f" got {describe_actions(terms)}"
        )
    if isinstance(term.action, Exit):
        raise FailpointUsageError(
            f"faults={{{pattern!r}: …}}: 'exit' would end the process that explores; take 'panic', which no"
            " `except Exception` sees"
        )
    if isinstance(term.action, Call):
        try:
            inspect.signature(term.action.function).bind(object())
        except TypeError as error:
            raise FailpointUsageError(
                f"faults={{{pattern!r}: …}}: {describe_actions(term.action)} is called with the hit: {error}"
            ) from None
        except ValueError:  # a function in C that tells no signature
            pass
    return term.action
