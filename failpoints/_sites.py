"""The places in the code that bear a failpoint's name, as far as this process has seen them.

Decorated functions are known from their decoration on; scopes and inline calls from the first visit while
anything is configured.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import CodeType, FrameType

__all__ = ["Site", "declare", "is_known", "known_names", "known_sites", "note"]

_MOST_NAMES = 10_000  # names made at run time, one a shard or a user, must not fill the memory


@dataclass(frozen=True, slots=True)
class Site:
    """One place: `file`, `line` and the name of the `function` it is in."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


_sites: dict[str, dict[tuple[CodeType, int], Site]] = {}


def declare(name: str, function: str, code: CodeType) -> None:
    """A function was decorated with this name."""
    _add(name, code, code.co_firstlineno, function)


def note(name: str, frame: FrameType) -> None:
    """A scope or an inline call bears this name, at the place where this frame is."""
    _add(name, frame.f_code, frame.f_lineno, frame.f_code.co_qualname)


def is_known(name: str, frame: FrameType) -> bool:
    """Whether the place where this frame is has been noted."""
    places = _sites.get(name)
    return places is not None and (frame.f_code, frame.f_lineno) in places


def _add(name: str, code: CodeType, line: int, function: str) -> None:
    if name in _sites or len(_sites) < _MOST_NAMES:
        _sites.setdefault(name, {})[code, line] = Site(code.co_filename, line, function)


def known_sites(name: str) -> tuple[Site, ...]:
    """The sites that bear this name, in the order in which they were met."""
    return tuple(dict.fromkeys(list(_sites.get(name, {}).values())))


def known_names() -> tuple[str, ...]:
    """Every name that a site bears."""
    return tuple(_sites)
