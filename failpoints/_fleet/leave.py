"""What a fleet on a server may do in a process only if the environment of that process says so."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Final

from .._core.actions import Break, Delay, Exit, Term, steps
from ..errors import FailpointUsageError

_KINDS: Final[dict[str, type[Any]]] = {"exit": Exit, "delay": Delay, "break": Break}


def parse_leave(text: str, source: str) -> frozenset[str]:
    """Return the words of a list such as `exit,delay`. Raises `FailpointUsageError`, whose message names *source*."""
    words = frozenset(word.strip() for word in text.split(",") if word.strip())
    for word in sorted(words):
        if word not in _KINDS:
            raise FailpointUsageError(
                f"{source} has the word {word!r}: expected some of {', '.join(_KINDS)}, with commas in between"
            )
    return words


def refusal(terms: Iterable[Term], leave: Collection[str]) -> str | None:
    """Return why a process does not carry out these terms; `None` if it does."""
    needed = [
        word
        for word, kind in _KINDS.items()
        if word not in leave and any(isinstance(step, kind) for term in terms for step in steps(term.action))
    ]
    if not needed:
        return None
    return (
        f"{' and '.join(needed)} would be carried out for anyone who can write to the server: start the process with"
        f" FAILPOINTS_FLEET_ALLOW={','.join(sorted({*needed, *leave}))}"
    )
