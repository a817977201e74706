"""The visits of the members of a fleet, counted by name and action for a report, no matter who has configured what.

The members count if there is a folder `visits`, which the process makes that wants the report. The file of a member has
a line for each different visit: how often it was made, in digits that are written again, and what it was. So what a
process has counted stays, however it ends. Further lines have the sites, and the files of its modules.
"""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

from .._core.actions import Action
from .._core.configuration import Configuration
from .._core.declared import user_files
from .._core.formatting import action_label
from .._core.hooks import observers
from .._core.known_sites import Location, known_names, known_sites
from . import files
from .files import VISITS, Held

_DIGITS: Final = 20


class VisitLog:
    """Counts the visits of this process in a file, until it is closed."""

    def __init__(self, folder: Path, member: str) -> None:
        self._file = Held(folder / VISITS / member)
        self._lock = threading.RLock()  # a signal handler may visit a failpoint, too
        self._end = 0  # of the file
        # By name, whether the context matched, and the label of the action: the position of the line, and its count.
        self._counts: dict[tuple[str, bool, str | None], tuple[int, int]] = {}
        self._sites: dict[str, int] = {}  # how many sites of a name are in the file
        self._files = set[str]()
        self._modules = 0
        observers.append(self)

    def close(self) -> None:
        """Count no longer. What was counted stays."""
        if self in observers:
            observers.remove(self)
        self._file.close()

    def __call__(self, configuration: Configuration, action: Action | None, matched: bool) -> None:
        """Count one visit."""
        key = configuration.name, matched, None if action is None else action_label(action)
        with self._lock:
            known = self._counts.get(key)
            if known is None:
                self._add_sites([configuration.name])
                position = self._end
                if self._add({"visit": key}, 1):
                    self._counts[key] = position, 1
            else:
                position, count = known
                self._counts[key] = position, count + 1
                self._write(b"%0*d" % (_DIGITS, count + 1), position)

    def note_modules(self) -> None:
        """Add the modules that were imported since the last time, and the sites that were seen."""
        if self._modules == len(sys.modules) and all(name in self._sites for name in known_names()):
            return
        with self._lock:
            self._modules = len(sys.modules)
            new = [file for file in user_files() if file not in self._files]
            if new and self._add({"files": new}):
                self._files.update(new)
            self._add_sites(known_names())

    def _add_sites(self, names: Iterable[str]) -> None:
        for name in names:
            sites = known_sites(name)
            places = [(site.file, site.line, site.function) for site in sites]
            if len(sites) == self._sites.get(name, 0) or self._add({"site": name, "at": places}):
                self._sites[name] = len(sites)

    def _add(self, what: dict[str, Any], count: int = 0) -> bool:
        """Add a line, and return whether it was written. If not, the next one is written in its place."""
        line = b"%0*d %s\n" % (_DIGITS, count, json.dumps(what).encode("ascii"))
        if not self._write(line, self._end):
            return False
        self._end += len(line)
        return True

    def _write(self, content: bytes, position: int) -> bool:
        try:
            return self._file.write(content, position)
        except OSError:  # the disk is full, which is not the fault of the code that visits
            return False


class Visits(NamedTuple):
    """The visits of all processes of a fleet, and where they can visit failpoints."""

    members: frozenset[str]
    counts: Counter[tuple[str, bool, str | None]]  # by name, whether the context matched, and the label of the action
    sites: dict[str, list[Location]]
    files: set[str]


def count_visits(folder: Path) -> None:
    """Let the members that join from now on count their visits."""
    (folder / VISITS).mkdir(mode=0o700, exist_ok=True)


def read_visits(folder: Path) -> Visits:
    """Return what the members have counted so far, those that have ended included."""
    members = frozenset(files.names_in(folder / VISITS))
    visits = Visits(frozenset(name.rpartition(":")[0] for name in members), Counter(), {}, set())
    for member in members:
        for line in (folder / VISITS / member).read_bytes().splitlines():
            try:
                count, document = int(line[:_DIGITS]), json.loads(line[_DIGITS:])
            except ValueError:  # its process has ended in the middle of the line
                continue
            match document:
                case {"visit": [name, matched, label]}:
                    visits.counts[name, matched, label] += count
                case {"site": name, "at": sites}:
                    visits.sites.setdefault(name, []).extend(Location(*site) for site in sites)
                case {"files": found}:
                    visits.files.update(found)
                case _:
                    pass
    return visits
