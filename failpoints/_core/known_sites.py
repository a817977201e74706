"""The sites that this process has seen so far.

A decorated function is registered when it is decorated, and an instrumented one for as long as it is instrumented. A
scope or an inline call is registered at its first visit while it is configured. Before that, only the place is known
where the first one of its name was made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import TypeAlias

Raises: TypeAlias = tuple[type[BaseException], ...]

_MOST_NAMES = 10_000  # names that are made at run time, one for each user for example, must not fill the memory


@dataclass(frozen=True, slots=True)
class Location:
    """Where a site is: the file, the line, and the qualified name of the function that contains it.

    A function without known source has line 0, and its path instead of the file, such as `sqlite3:connect`. Of a
    function that was seen, it also has the exception types that the site declares. Those of a line can be other ones
    at each visit.
    """

    file: str
    line: int
    function: str
    raises: Raises | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


_locations: dict[str, dict[tuple[object, int], Location]] = {}  # by name, then by what was registered, and its line

_made: dict[str, Location] = {}  # by name: where a scope or an inline call was made that was not visited yet

_loose: set[str] = set()  # the names of scopes that were made elsewhere than in the function that enters them

_remarks: dict[str, dict[object, Callable[[], str | None]]] = {}  # by name, then by the owner of the site


def register_function(name: str, function: str, code: CodeType, raises: Raises) -> None:
    """Register a decorated or instrumented function, with its qualified name and its code."""
    _add(name, code, code.co_firstlineno, function, raises)


def register_path(name: str, path: str, function: str, owner: object, raises: Raises) -> None:
    """Register an instrumented path whose source is not known. *function* describes what the path leads to."""
    if name in _locations or len(_locations) < _MOST_NAMES:
        _locations.setdefault(name, {})[owner, 0] = Location(path, 0, function, raises)


def register_line(name: str, frame: FrameType) -> None:
    """Register a scope or an inline call at the line that a frame is at."""
    _add(name, frame.f_code, frame.f_lineno, frame.f_code.co_qualname)


def note_made(name: str, frame: FrameType, *, loose: bool) -> None:
    """Note that a scope or an inline call was made at the line that a frame is at. It is loose if used elsewhere."""
    if name not in _made and len(_made) < _MOST_NAMES:
        code = frame.f_code
        _made[name] = Location(code.co_filename, frame.f_lineno, code.co_qualname)
    if loose:
        note_loose(name)


def note_loose(name: str) -> None:
    """Note that the code of a function may not show that it contains the scope *name*."""
    if len(_loose) < _MOST_NAMES:
        _loose.add(name)


def may_be_in_any_function(name: str) -> bool:
    """Return whether the code of the function that contains the scope *name* may not show it."""
    return name in _loose or len(_loose) >= _MOST_NAMES or not (name in _locations or name in _made)


def is_registered(name: str, frame: FrameType) -> bool:
    """Return whether the line that a frame is at is registered."""
    locations = _locations.get(name)
    return locations is not None and (frame.f_code, frame.f_lineno) in locations


def register_remark(name: str, owner: object, remark: Callable[[], str | None]) -> None:
    """Register what may have happened to a site. *remark* is called for messages, and returns a sentence or `None`."""
    _remarks.setdefault(name, {})[owner] = remark


def unregister_remark(name: str, owner: object) -> None:
    """Forget the remark of an owner. Does nothing if there is none."""
    remarks = _remarks.get(name, {})
    remarks.pop(owner, None)
    if not remarks:
        _remarks.pop(name, None)


def remarks(name: str) -> list[str]:
    """Return what has happened to the sites of a name, a sentence each."""
    found = [remark() for remark in list(_remarks.get(name, {}).values())]
    return [each for each in found if each is not None]


def unregister(name: str, owner: object) -> None:
    """Forget a function by its code, or a path by its owner. Does nothing if it is not registered."""
    locations = _locations.get(name, {})
    locations.pop((owner, owner.co_firstlineno if isinstance(owner, CodeType) else 0), None)
    if not locations:
        _locations.pop(name, None)


def _add(name: str, code: CodeType, line: int, function: str, raises: Raises | None = None) -> None:
    if name in _locations or len(_locations) < _MOST_NAMES:
        _locations.setdefault(name, {})[code, line] = Location(code.co_filename, line, function, raises)


def known_sites(name: str) -> tuple[Location, ...]:
    """Return the locations of a name's sites, in the order in which they were registered."""
    return tuple(dict.fromkeys(list(_locations.get(name, {}).values())))


def only_function(name: str) -> CodeType | None:
    """Return the code of the function that is the only known site of a name; `None` if there is another one or none."""
    keys = list(_locations.get(name, {}))
    if len(keys) != 1:
        return None
    [(owner, line)] = keys
    return owner if isinstance(owner, CodeType) and line == owner.co_firstlineno else None


def known_names() -> tuple[str, ...]:
    """Return the names of all registered sites."""
    return tuple(_locations)


def made_sites(name: str) -> tuple[Location, ...]:
    """Return where the first scope or inline call of a name was made, if there is one."""
    place = _made.get(name.removesuffix(":after"))
    return () if place is None else (place,)


def made() -> dict[str, Location]:
    """Return where the scopes and inline calls were made, by name, whether they were visited or not."""
    return dict(_made)
