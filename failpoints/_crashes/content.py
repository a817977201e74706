"""The bytes of a file, as pieces of what was written to it: thousands of versions of a large file take little space."""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import Final, TypeAlias

_Piece: TypeAlias = tuple[int, int, bytes, int]
"""A part of a file: where it starts and ends, and the bytes it is from, with the position in these."""


class Content:
    """The bytes of a file. Cannot be changed. Where nothing was written, they are zero."""

    __slots__ = ("_hash", "_pieces", "size")

    def __init__(self, pieces: tuple[_Piece, ...] = (), size: int = 0) -> None:
        self._pieces = pieces
        self.size = size
        self._hash = hash((pieces, size))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Content) and self.size == other.size and self._pieces == other._pieces

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"Content({self.to_bytes()!r})"

    @classmethod
    def of(cls, data: bytes) -> Content:
        """Return a content with these bytes."""
        return EMPTY.written(0, data)

    def written(self, offset: int, data: bytes) -> Content:
        """Return the content once *data* is written at an offset."""
        if not data:
            return self
        end = offset + len(data)
        before = _cut(self._pieces, 0, offset)
        after = _cut(self._pieces, end, self.size)
        return Content((*before, (offset, end, data, 0), *after), max(self.size, end))

    def resized(self, size: int) -> Content:
        """Return the content once it has this size."""
        return Content(_cut(self._pieces, 0, size), size)

    def to_bytes(self) -> bytes:
        """Return the bytes."""
        data = bytearray(self.size)
        for start, end, source, position in self._pieces:
            data[start:end] = source[position : position + end - start]
        return bytes(data)


def _cut(pieces: tuple[_Piece, ...], low: int, high: int) -> tuple[_Piece, ...]:
    """Return those pieces, and parts of pieces, that are between two positions."""
    return tuple(
        piece if low <= piece[0] and piece[1] <= high else _part_of(piece, low, high)
        for piece in pieces
        if piece[0] < high and piece[1] > low
    )


def _part_of(piece: _Piece, low: int, high: int) -> _Piece:
    start, end, source, position = piece
    return max(start, low), min(end, high), source, position + max(0, low - start)


EMPTY: Final = Content()


@lru_cache(maxsize=4096)
def digest(content: Content) -> bytes:
    """Return a digest of the bytes, whatever they were written in."""
    return blake2b(content.to_bytes(), digest_size=16).digest()
