"""The faults to try at a visit: the exceptions that its site declares, or the actions that `faults=` gives instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, TypeAlias, cast

from ..._core.actions import Action, Actions, Call, Cancel, Exit, Raise, steps
from ..._core.formatting import describe_actions
from ..._core.functions import signature_of
from ..._core.grammar import as_terms
from ..._core.messages import did_you_mean, safe_repr
from ..._core.raising import is_cancellation
from ...errors import FailpointUsageError

GivenFaults: TypeAlias = Mapping[str, Sequence[Actions]]
"""The type of `explore(faults=…)`: alternatives by failpoint name, or by a pattern with `*`, `?` and `[…]`."""


Declared: TypeAlias = tuple[type[BaseException], ...] | tuple[Action, ...]
"""What a site declares: the exceptions that it can raise, or the faults to inject."""


def parse_faults(given: GivenFaults | None) -> dict[str, tuple[Action, ...]]:
    """Return the actions of `explore(faults=…)` by name or pattern.

    Raises `FailpointUsageError` for anything that cannot be tried, and `ActionSyntaxError` for a text that is not an
    action.
    """
    if given is not None and not isinstance(given, Mapping):
        raise FailpointUsageError(
            'faults= must be a mapping of names or patterns to lists of actions, such as {"a.*": ["raise"]};'
            f" got {safe_repr(given)}"
        )
    return {
        _check_pattern(pattern): _parse_alternatives(pattern, actions) for pattern, actions in (given or {}).items()
    }


class Alternatives:
    """The faults to try at each visit, looked up by failpoint name and by what the site declares."""

    def __init__(self, parsed_faults: Mapping[str, tuple[Action, ...]], *, cancellations: bool = False) -> None:
        self._parsed_faults = parsed_faults
        self._cancellations = cancellations
        self._known: dict[tuple[str, Declared, bool], tuple[Action, ...]] = {}
        self._visited: dict[str, None] = {}
        self._matched: set[str] = set()

    def of(self, name: str, declared: Declared, *, is_async: bool) -> tuple[Action, ...]:
        """Return the faults to try at a visit of failpoint *name*, whose site declares exceptions or faults."""
        known = self._known.get((name, declared, is_async))
        if known is None:
            self._visited[name] = None
            known = self._find(name, declared)
            if is_async and self._cancellations and Cancel() not in known:
                known = (*known, Cancel())
            self._known[name, declared, is_async] = known
        return known

    def at_wakeup(self) -> tuple[Action, ...]:
        """Return the faults to try where a task goes on that is not at a visit."""
        return (Cancel(),) if self._cancellations else ()

    def _find(self, name: str, declared: Declared) -> tuple[Action, ...]:
        matching = [pattern for pattern in self._parsed_faults if pattern == name or fnmatchcase(name, pattern)]
        self._matched.update(matching)
        if not matching:
            return tuple(Raise(each) if isinstance(each, type) else each for each in declared) or (Raise(),)
        return self._parsed_faults[name if name in matching else matching[0]]

    def check_all_matched(self) -> None:
        """Raise `FailpointUsageError` if a name or pattern of `faults=` matched no visit, since it may be a typo."""
        for pattern in self._parsed_faults:
            if pattern not in self._matched:
                visited = sorted(self._visited)
                raise FailpointUsageError(
                    f"faults= names {pattern!r}, but no failpoint of that name was visited inside run.injecting()"
                    f" (visited: {', '.join(visited) or 'none'}){did_you_mean(pattern, visited)}"
                )


def fault_text(action: Action) -> str:
    """Format a fault for messages, in the syntax of `FAILPOINTS` if that can express it."""
    if isinstance(action, Raise) and isinstance(action.error, type) and action.message is None:
        return f"raise({action.error.__name__})"
    return describe_actions(action)


def _check_pattern(pattern: Any) -> str:
    if not isinstance(pattern, str):
        raise FailpointUsageError(f"faults= must have names or patterns as its keys; got {safe_repr(pattern)}")
    return pattern


def _parse_alternatives(pattern: str, actions: Any) -> tuple[Action, ...]:
    if isinstance(actions, str) or not isinstance(actions, Sequence):
        raise FailpointUsageError(
            f"faults={{{pattern!r}: …}} must be a list of actions, each tried in a run of its own;"
            f" did you mean [{safe_repr(actions)}]?"
        )
    return tuple(_parse_alternative(pattern, action) for action in cast(Any, actions))


def _parse_alternative(pattern: str, given: Any) -> Action:
    terms = as_terms(given)
    term = terms[0]
    if len(terms) > 1 or term.probability < 1 or term.times is not None:
        raise FailpointUsageError(
            f"faults={{{pattern!r}: …}} takes single actions without a count or a probability, since explore()"
            f" decides when each one is injected; got {describe_actions(terms)}"
        )
    for step in steps(term.action):
        _check_step(pattern, step)
    return term.action


def _check_step(pattern: str, step: Action) -> None:
    where = f"faults={{{pattern!r}: …}}"
    if isinstance(step, Exit):
        raise FailpointUsageError(
            f"{where}: 'exit' would end the exploring process; use 'panic', which passes through `except Exception`"
        )
    if isinstance(step, Raise) and not isinstance(step.error, str) and is_cancellation(step.error):
        raise FailpointUsageError(
            f"{where}: {fault_text(step)} raises the error of a cancellation, but cancels nothing; use 'cancel', which"
            " cancels the task as its event loop does"
        )
    if isinstance(step, Call):
        try:
            signature_of(step.function).bind(object())
        except TypeError as error:
            raise FailpointUsageError(
                f"{where}: {describe_actions(step)} is called with the hit as its only argument: {error}"
            ) from None
        except ValueError:  # a C function without a signature
            pass
