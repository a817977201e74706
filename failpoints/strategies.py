"""Strategies of Hypothesis: which faults a property has to hold under (extra `hypothesis`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias, cast

from ._core.actions import Actions, Off, Term
from ._core.context import GivenMatchers, Matchers
from ._core.formatting import format_actions
from ._core.grammar import as_terms
from ._core.messages import missing_extra, safe_repr
from ._core.reachability import takes_every_hit
from ._core.validation import check_count, check_name
from .errors import FailpointUsageError

try:
    from hypothesis import strategies as st
except ModuleNotFoundError as error:
    if error.name != "hypothesis":
        raise
    raise missing_extra(error, "failpoints.strategies", "hypothesis") from error

__all__ = ["schedules"]

Entry: TypeAlias = tuple[str, Actions] | tuple[str, Actions, GivenMatchers]


def schedules(
    faults: Mapping[str, Sequence[Actions]],
    *,
    contexts: Mapping[str, Sequence[GivenMatchers]] | None = None,
    max_faults: int = 3,
    max_skipped: int = 3,
    max_times: int = 1,
) -> st.SearchStrategy[list[Entry]]:
    """Draw lists of entries for `configure_all`: which failpoints fail, how, and at which visit.

    Use it for a property that must hold whatever fails: no money is lost, every order has one invoice. Hypothesis
    shrinks a failing schedule to the fewest faults, each of them the first of its list, at the first visit. The empty
    schedule is the simplest one, so a property that does not need a fault to fail ends there.

    Args:
        faults: The failpoints, with the actions that are tried at each, the simplest first. An action without a count
            happens once, or up to *max_times*. Terms with a count or a chance stay as they are.
        contexts: For each failpoint, a list of matchers, the simplest first. One of them is drawn, and the entry then
            has three parts. A failpoint can be in a schedule once for each of them.
        max_faults: The most entries of a schedule.
        max_skipped: The most hits that pass before a fault happens.
        max_times: The most times that a fault happens.

    Raises:
        ActionSyntaxError: A text cannot be parsed as actions.
        FailpointNameError: A name is invalid.
        FailpointUsageError: Another argument is invalid, or Hypothesis is not installed.

    >>> from hypothesis import find
    >>> from failpoints.strategies import schedules
    >>> find(schedules({"gateway.charge": ["raise(TimeoutError)", "sleep(10)"]}), bool)
    [('gateway.charge', '1*raise(TimeoutError)')]
    """
    if not isinstance(cast(object, faults), Mapping) or not faults:
        raise FailpointUsageError(
            'schedules takes a mapping of names to lists of actions, such as {"gateway.charge": ["raise"]};'
            f" got {safe_repr(faults)}"
        )
    check_count("max_faults", max_faults)
    check_count("max_skipped", max_skipped, least=0)
    check_count("max_times", max_times)
    if contexts is not None and not isinstance(cast(object, contexts), Mapping):
        raise FailpointUsageError(
            'contexts= must be a mapping of names to lists of matchers, such as {"gateway.charge": [{"shard": 3}]};'
            f" got {safe_repr(contexts)}"
        )
    unknown = next((name for name in contexts or {} if name not in faults), None)
    if unknown is not None:
        raise FailpointUsageError(f"contexts= names {unknown!r}, which is not among the faults")
    choices: list[tuple[str, tuple[Term, ...], GivenMatchers | None]] = []
    for name, tried in faults.items():
        check_name(name)
        if isinstance(tried, str) or not isinstance(cast(object, tried), Sequence) or not tried:
            raise FailpointUsageError(
                f"faults={{{name!r}: …}} must be a list of actions, the simplest first; got {safe_repr(tried)}"
            )
        matchers: Sequence[GivenMatchers | None] = (contexts or {}).get(name, [None])
        if isinstance(matchers, str) or not isinstance(cast(object, matchers), Sequence) or not matchers:
            hint = f"; did you mean [{safe_repr(matchers)}]?" if isinstance(cast(object, matchers), Mapping) else ""
            raise FailpointUsageError(
                f"contexts={{{name!r}: …}} must be a list of matchers, the simplest first; got"
                f" {safe_repr(matchers)}{hint}"
            )
        for context in matchers:
            Matchers(context)  # refuses what configure would refuse
        choices += [(name, as_terms(actions), context) for actions in tried for context in matchers]

    def entry(choice: tuple[str, tuple[Term, ...], GivenMatchers | None], skipped: int, times: int) -> Entry:
        name, terms, context = choice
        if len(terms) == 1 and takes_every_hit(terms[0]):
            terms = (replace(terms[0], times=times),)
        if skipped:
            terms = (Term(Off(), times=skipped), *terms)
        actions = _as_text(terms)
        return (name, actions) if context is None else (name, actions, context)

    entries = st.builds(entry, st.sampled_from(choices), st.integers(0, max_skipped), st.integers(1, max_times))
    return st.lists(entries, max_size=max_faults, unique_by=_place)


def _place(entry: Entry) -> Any:
    """Return what only one entry of a schedule is about: a later one would replace the earlier one."""
    return entry[0], repr(entry[2]) if len(entry) == 3 else None


def _as_text(terms: tuple[Term, ...]) -> Actions:
    try:
        return format_actions(terms)
    except FailpointUsageError:  # an action without a text, such as a Call
        return terms
