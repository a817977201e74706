"""Terms that no visit gets to, because an earlier one takes every hit: `sleep(200)->raise(OSError)`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..errors import FailpointUsageError
from .actions import ENDS_VISIT, Actions, Off, Term, Then, steps
from .formatting import describe_actions, format_actions
from .grammar import as_terms
from .messages import safe_repr

_MAX_SUGGESTED = 10  # terms
_CANNOT_JOIN = (*ENDS_VISIT, Off)  # an `off` in front of another action would be pointless


def reachable_terms(name: object, actions: Actions) -> tuple[Term, ...]:
    """Return the terms of the actions for the failpoint *name*.

    Raises `FailpointUsageError` if nothing can reach one of them, and for values that are not actions. Raises
    `ActionSyntaxError` for a text that cannot be parsed.
    """
    terms = as_terms(actions)
    problem = unreachable(terms)
    if problem is not None:
        raise FailpointUsageError(f"failpoint {safe_repr(name)}: {problem}", code="FP015")
    return terms


def unreachable(terms: Sequence[Term]) -> str | None:
    """Return a sentence about the first term that nothing can reach, with what was probably meant; else `None`."""
    last = next((index for index, term in enumerate(terms[:-1]) if takes_every_hit(term)), None)
    if last is None:
        return None
    before, after = (safe_repr(describe_actions(term)) for term in terms[last : last + 2])
    return f"nothing can reach {after}, because {before} takes every hit{meant_instead(terms, last)}"


def takes_every_hit(term: Term) -> bool:
    """Return whether no hit gets past the term: it has neither a chance below 100 % nor a count."""
    return term.probability == 1 and term.times is None


def meant_instead(terms: Sequence[Term], last: int) -> str:
    """Return the end of a message about the terms after the one with the index *last*.

    It has the terms joined by `+` instead of `->`, or with counts where that is not possible.
    """
    rest = terms[last:]
    if len(rest) > _MAX_SUGGESTED:
        return ""
    ends = [steps(term.action)[-1] for term in rest[:-1]]
    if all(map(takes_every_hit, rest)) and not any(isinstance(action, _CANNOT_JOIN) for action in ends):
        meant = [Term(Then(tuple(term.action for term in rest)))]
    else:
        meant = [*(replace(term, times=1) if takes_every_hit(term) else term for term in rest[:-1]), rest[-1]]
    try:
        return f"; did you mean {safe_repr(format_actions([*terms[:last], *meant]))}?"
    except FailpointUsageError:  # an action without a text, such as a Call
        return "; give it a chance or a count, or join what belongs to the same visit by '+'"
