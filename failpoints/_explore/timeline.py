"""A run that failed, for a person to read: who visited what, in which order, and what was injected."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import FrameType

from .._core.actions import Action
from .._core.grammar import parse_actions
from .._core.known_sites import known_sites
from ..errors import FailpointError
from .plan.faults import fault_text
from .plan.places import Place, Visit
from .problem import Blocked, Problem
from .program_frames import is_programs, shown_place

_MOST_SHOWN = 80  # visits; of more the middle is left out


@dataclass(frozen=True, slots=True)
class _Event:
    path: tuple[int, ...]
    visit: Visit
    site: str
    is_inside: bool
    fault: Action | None = None


class Timeline:
    """Takes down the visits of one run as they go on."""

    def __init__(self, scenario: str) -> None:
        self._scenario = scenario
        self._events: list[_Event] = []
        self._names: dict[tuple[int, ...], str] = {}

    # what a run tells

    def visited(self, path: tuple[int, ...], visit: Visit, *, inside: bool) -> None:
        """A visit goes on."""
        self._events.append(_Event(path, visit, _site(visit.name), inside))

    def injected(self, path: tuple[int, ...], action: Action) -> None:
        """A fault is injected at the visit that went on last."""
        index = next(i for i in reversed(range(len(self._events))) if self._events[i].path == path)
        self._events[index] = replace(self._events[index], fault=action)

    def finish(self, places: Sequence[Place]) -> None:
        """The run has ended: these were its tasks."""
        plain = {place.path: _plain_name(place, self._scenario) for place in places}
        for event in self._events:
            if event.path not in plain:  # a worker thread
                plain[event.path] = f"{plain.get(event.path[:-1], 'a task')} (thread)"
        self._names = _numbered(plain)

    # what it tells

    @property
    def visits(self) -> list[Visit]:
        """The visits that were explored, in order."""
        return [event.visit for event in self._events if event.is_inside]

    @property
    def tasks(self) -> int:
        """How many tasks visited anything that was explored."""
        return len({event.path for event in self._events if event.is_inside})

    def name(self, path: tuple[int, ...]) -> str:
        """What a task is called here."""
        return self._names.get(path) or "a task that has ended"

    def lines(self) -> list[str]:
        """The visits, one a line, indented by task."""
        events = [event for event in self._events if event.is_inside]
        columns: dict[tuple[int, ...], int] = {}
        for event in events:
            columns.setdefault(event.path, len(columns))
        tasks = [f"{'  ' * columns[event.path]}{self.name(event.path)}" for event in events]
        what = [f"{event.visit.name} {event.visit.context}".rstrip() for event in events]
        task_width, width = max(map(len, tasks), default=0), max(map(len, what), default=0)
        lines = [
            f"{task:<{task_width}}  {visited:<{width}}  {event.site}{_injected(event.fault)}".rstrip()
            for task, visited, event in zip(tasks, what, events, strict=True)
        ]
        if len(lines) > _MOST_SHOWN:
            half = _MOST_SHOWN // 2
            lines[half:-half] = [f"… {len(lines) - 2 * half} more visits …"]
        return lines

    def blocked_lines(self, problem: Problem) -> list[str]:
        """What each task waits for, and the cycle in which they hold each other up."""
        if not problem.blocked:
            return []
        names = [self.name(blocked.path) for blocked in problem.blocked]
        width = max(map(len, names))
        lines = [
            f"{name:<{width}}  {self._waits(blocked)}" for name, blocked in zip(names, problem.blocked, strict=True)
        ]
        cycle = _cycle(problem.blocked)
        if cycle:
            lines.append(f"the cycle: {' → '.join(map(self.name, [*cycle, cycle[0]]))}")
        return lines

    def _waits(self, blocked: Blocked) -> str:
        if blocked.lock:
            holder = "nobody that lives" if blocked.holder is None else self.name(blocked.holder)
            holder = "itself" if blocked.holder == blocked.path else holder
            what = f"waits for the lock {blocked.lock}, held by {holder}"
        elif blocked.awaited is not None:
            what = f"waits for {self.name(blocked.awaited)} to end"
        else:
            what = f"waits in {blocked.waits_in}" if blocked.waits_in else "waits"
        return f"{what}, at {blocked.where}: {blocked.line}" if blocked.where else what

    def configuration(self, *, holding: bool) -> str | None:
        """The faults of the run as `FAILPOINTS` takes them, where it can express them."""
        if not any(event.fault for event in self._events) or (holding and self.tasks > 1):
            return None
        terms: dict[str, list[list[str | int]]] = {}
        for event in self._events:
            text = "off" if event.fault is None else fault_text(event.fault)
            of_name = terms.setdefault(event.visit.name, [])
            if of_name and of_name[-1][0] == text:
                of_name[-1][1] = int(of_name[-1][1]) + 1
            else:
                of_name.append([text, 1])
        entries: list[str] = []
        for name, counted in terms.items():
            if counted[-1][0] == "off":
                counted.pop()
            if counted:
                actions = "->".join(f"{count}*{text}" for text, count in counted)
                if not _is_text(actions):
                    return None
                entries.append(f"{name}={actions}")
        return ";".join(entries)


def _is_text(actions: str) -> bool:
    try:
        parse_actions(actions)
    except FailpointError:  # a Call, or a Return of what is no text
        return False
    return True


def _injected(fault: Action | None) -> str:
    return "" if fault is None else f"  <- {fault_text(fault)} injected"


def _site(name: str) -> str:
    sites = known_sites(name)
    if len(sites) == 1:
        return shown_place(sites[0].file, sites[0].line)
    frame: FrameType | None = sys._getframe()  # pyright: ignore[reportPrivateUsage] # noqa: SLF001 - inspect.currentframe, without its checks
    while frame is not None:
        if is_programs(frame):
            return shown_place(frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back
    return shown_place(sites[0].file, sites[0].line) if sites else ""


def _numbered(plain: dict[tuple[int, ...], str]) -> dict[tuple[int, ...], str]:
    """Each task's name, with a number where several have the same."""
    by_name: dict[str, list[tuple[int, ...]]] = {}
    for path in sorted(plain):
        by_name.setdefault(plain[path], []).append(path)
    return {
        path: f"{name} {number}" if len(paths) > 1 else name
        for name, paths in by_name.items()
        for number, path in enumerate(paths, 1)
    }


def _plain_name(place: Place, scenario: str) -> str:
    if not place.path:
        return scenario
    return place.name.rpartition(">.")[2].rpartition(".")[2] or place.name or "a callback"


def _cycle(blocked: Sequence[Blocked]) -> list[tuple[int, ...]]:
    waits = {each.path: each.holder for each in blocked if each.lock and each.holder is not None}
    for start in waits:
        seen: list[tuple[int, ...]] = []
        path: tuple[int, ...] | None = start
        while path is not None and path not in seen:
            seen.append(path)
            path = waits.get(path)
        if path == start:
            return seen
    return []
