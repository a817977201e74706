"""The one-time tokens that this process has obeyed. Pure."""

from __future__ import annotations

from typing import Final

from .._core.locks import ForkSafeLock
from .tokens import Refused

MOST: Final = 10_000
"""How many living tokens are remembered at most. Beyond that, one-time tokens are refused: none is ever forgotten."""


class UsedTokens:
    """Remembers one-time tokens until they expire."""

    def __init__(self) -> None:
        self._safe = ForkSafeLock()
        self._expires: dict[str, int] = {}

    def use(self, once: str, expires: int, now: float) -> None:
        """Use a token. Raises `Refused` if it was used before."""
        with self._safe.lock:
            if once in self._expires:
                raise Refused("the failpoints header was signed with once=True, and has been used")
            if len(self._expires) >= MOST:
                self._expires = {each: until for each, until in self._expires.items() if until >= now}
            if len(self._expires) >= MOST:
                raise Refused("too many one-time tokens are valid at the moment: wait until some have expired")
            self._expires[once] = expires
