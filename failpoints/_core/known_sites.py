"""The places in the code that bear a failpoint's name, as far as this process has seen them.

Decorated functions are known from their decoration on; scopes and inline calls from the first visit while
anything is configured; functions of others as long as they are instrumented.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import CodeType, FrameType

_MOST_NAMES = 10_000  # names made at run time, one a shard or a user, must not fill the memory


@dataclass(frozen=True, slots=True)
class Location:
    """One place: `file`, `line` and the name of the `function` it is in.

    What has no source that is known has the line 0, and its path, such as `sqlite3:connect`, for the file.
    """

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


_sites: dict[str, dict[tuple[object, int], Location]] = {}


def declare(name: str, function: str, code: CodeType) -> None:
    """A function was decorated with this name."""
    _add(name, code, code.co_firstlineno, function)


def declare_path(name: str, path: str, function: str, by: object) -> None:
    """What this path leads to bears this name, `by` somebody's doing; `function` says what it is."""
    if name in _sites or len(_sites) < _MOST_NAMES:
        _sites.setdefault(name, {})[by, 0] = Location(path, 0, function)


def withdraw(name: str, by: object) -> None:
    """The function with this code, or by this doing, does not bear this name any more; no error if it did not."""
    places = _sites.get(name, {})
    places.pop((by, by.co_firstlineno if isinstance(by, CodeType) else 0), None)
    if not places:
        _sites.pop(name, None)


def note(name: str, frame: FrameType) -> None:
    """A scope or an inline call bears this name, at the place where this frame is."""
    _add(name, frame.f_code, frame.f_lineno, frame.f_code.co_qualname)


def is_known(name: str, frame: FrameType) -> bool:
    """Whether the place where this frame is has been noted."""
    places = _sites.get(name)
    return places is not None and (frame.f_code, frame.f_lineno) in places


def _add(name: str, code: CodeType, line: int, function: str) -> None:
    if name in _sites or len(_sites) < _MOST_NAMES:
        _sites.setdefault(name, {})[code, line] = Location(code.co_filename, line, function)


def known_sites(name: str) -> tuple[Location, ...]:
    """The sites that bear this name, in the order in which they were met."""
    return tuple(dict.fromkeys(list(_sites.get(name, {}).values())))


def known_names() -> tuple[str, ...]:
    """Every name that a site bears."""
    return tuple(_sites)
