"""What one page has been sent, so that it is sent only what has changed since. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from .wire import to_json

_MOST_ABSENT = 1_000  # names that are remembered after they were removed

_ABSENT = b""
_UNKNOWN = b"?"  # what a page has of a name if the event that said so may not have arrived


class Feed:
    """The events of one page. Each has a position, with which the page goes on after its connection was cut."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._position = 0
        self._earliest = 0  # the position from which the feed can go on
        self._sent: dict[str, tuple[int, bytes]] = {}  # by failpoint: in which event, and the digest of its document

    @property
    def is_new(self) -> bool:
        """Whether the page has nothing yet."""
        return self._position == 0

    def names(self) -> list[str]:
        """Return the failpoints that the page may have."""
        return [name for name, (_, digest) in self._sent.items() if digest != _ABSENT]

    def after(self, position: int) -> Feed | None:
        """Return a feed that goes on after *position*, the last event that the page has received.

        It is another one, since the connection that was cut may still use this one. `None` if that is not possible: the
        page has to begin again.
        """
        if not self._earliest <= position <= self._position:
            return None
        feed = Feed(self.name)
        feed._position, feed._earliest = self._position, self._earliest
        feed._sent = {
            name: (sent_at, _UNKNOWN if sent_at > position else digest)
            for name, (sent_at, digest) in self._sent.items()
        }
        return feed

    def changes(self, documents: Mapping[str, bytes | None]) -> bytes | None:
        """Return the next event, with those failpoints that the page does not have like this, or `None`.

        *documents* are the JSON of failpoints by their names, `None` for one that does not exist any more.
        """
        changed: list[bytes] = []
        removed: list[str] = []
        at = self._position + 1
        for name, document in documents.items():
            digest = _ABSENT if document is None else hashlib.blake2b(document, digest_size=16).digest()
            if digest == self._sent.get(name, (0, _ABSENT))[1]:
                continue
            self._sent[name] = (at, digest)
            if document is None:
                removed.append(name)
            else:
                changed.append(document)
        if not changed and not removed:
            return None
        if removed:
            self._forget_absent()
        return self._event(b'{"changed":[%s],"removed":%s}' % (b",".join(changed), to_json(removed)))

    def complete(self) -> bytes:
        """Return an event that ends the first part of a connection: the page has everything."""
        return self._event(b'{"complete":true}')

    def _event(self, data: bytes) -> bytes:
        self._position += 1
        return b"id: %s-%d\ndata: %s\n\n" % (self.name.encode(), self._position, data)

    def _forget_absent(self) -> None:
        absent = [name for name, (_, digest) in self._sent.items() if digest == _ABSENT]
        if len(absent) > _MOST_ABSENT:
            self._earliest = self._position + 1  # a page with less than this would keep what was removed
            for name in absent:
                del self._sent[name]
