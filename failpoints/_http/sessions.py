"""The tickets and sessions that let the page in. Pure, but for the clock and the random numbers."""

from __future__ import annotations

import hashlib
import secrets
from typing import Final

from .._core.clock import monotonic
from .feed import Feed

TICKET_SECONDS: Final = 120
"""How long a ticket can be exchanged for a session."""

_IDLE_SECONDS = 12 * 3600  # that a session lasts after its last request
_MOST = 32  # tickets, and sessions: a new one takes the place of the oldest
_MOST_FEEDS = 4  # of one session, which several tabs have if one was duplicated


def _key(secret: bytes) -> bytes:
    """Return what a secret is kept under. The time that a look-up of its hash takes does not give the secret away."""
    return hashlib.sha256(secret).digest()


class Session:
    """The access of one page, from the exchange of its ticket until it is not used any more."""

    def __init__(self) -> None:
        self.used = monotonic()
        self._feeds: dict[str, Feed] = {}

    def feed(self, last_event_id: str) -> Feed:
        """Return the feed that a page goes on with, given the last event that it has received, or else a new one."""
        name, _, position = last_event_id.partition("-")
        known = self._feeds.pop(name, None)
        is_number = position.isascii() and position.isdecimal() and len(position) <= 15
        feed = known.after(int(position)) if known is not None and is_number else None
        if feed is None:
            feed = Feed(secrets.token_hex(8))
        self._feeds[feed.name] = feed
        for oldest in list(self._feeds)[:-_MOST_FEEDS]:
            del self._feeds[oldest]
        return feed


class Sessions:
    """The tickets that were handed out, and the sessions that were opened with them."""

    def __init__(self) -> None:
        self._tickets: dict[bytes, float] = {}  # by the hash of the ticket: when it expires
        self._sessions: dict[bytes, Session] = {}  # by the hash of its token

    def ticket(self) -> str:
        """Return a new ticket, which opens one session."""
        ticket = secrets.token_urlsafe(32)
        self._tickets[_key(ticket.encode())] = monotonic() + TICKET_SECONDS
        for oldest in list(self._tickets)[:-_MOST]:
            del self._tickets[oldest]
        return ticket

    def open(self, ticket: str) -> str | None:
        """Use up a ticket and return the token of a new session, or `None` if it is not a ticket, expired, or used."""
        expires = self._tickets.pop(_key(ticket.encode(errors="replace")), None)
        if expires is None or monotonic() > expires:
            return None
        token = secrets.token_urlsafe(32)
        self._sessions[_key(token.encode())] = Session()
        for oldest in sorted(self._sessions, key=lambda key: self._sessions[key].used)[:-_MOST]:
            del self._sessions[oldest]
        return token

    def find(self, token: bytes) -> Session | None:
        """Return the session with this token, if there is one that has not expired, and note that it was used."""
        key = _key(token)
        session = self._sessions.get(key)
        if session is None:
            return None
        now = monotonic()
        if now > session.used + _IDLE_SECONDS:
            del self._sessions[key]
            return None
        session.used = now
        return session
