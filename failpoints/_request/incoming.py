"""Finding the token of a request: in its own header, or as a member of W3C baggage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote

from .rules import HEADER, Rules
from .tokens import Refused

BAGGAGE: Final = "baggage"


def header_names(rules: Rules) -> tuple[str, ...]:
    """Return the headers in which a token may be. There are none if the policy is off."""
    if not rules.keys:
        return ()
    return (HEADER, BAGGAGE) if rules.baggage else (HEADER,)


def token_of(headers: Sequence[tuple[str, str]], rules: Rules) -> str | None:
    """Return the token among the headers with one of these names, or `None`. Raises `Refused` if there are several."""
    names = header_names(rules)
    found = [value for name, value in headers if name == HEADER and HEADER in names]
    if not found and BAGGAGE in names:
        found = [token for name, value in headers if name == BAGGAGE for token in _members(value)]
    if len(found) > 1:
        raise Refused("the request has more than one failpoints header")
    return found[0] if found else None


def _members(baggage: str) -> list[str]:
    members = (member.partition("=") for member in baggage.split(","))
    return [unquote(value.partition(";")[0].strip()) for name, _, value in members if name.strip() == HEADER]
