"""The timeline of a failed run, for a person to read: which task visited which failpoint, in which order."""

from __future__ import annotations

import enum
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import FrameType

from .._core.actions import Action, Raise
from .._core.grammar import parse_actions
from .._core.known_sites import known_sites
from .._core.raising import look_up
from ..errors import FailpointError
from .plan.faults import fault_text
from .plan.identity import TaskNode, TaskPath, Visit
from .problem import BlockedTask, Problem
from .user_frames import format_location, frame_location, is_user_frame

_MAX_WIDTH = 60  # of a source line in a timeline
_MAX_LINES = 80  # of a timeline; from a longer one the middle is left out


class _Kind(enum.Enum):
    ARRIVAL = "comes to a visit, and is held there"
    VISIT = "goes on at a visit"
    TURN = "goes on at a wake-up"


@dataclass(frozen=True, slots=True)
class _Event:
    path: TaskPath
    kind: _Kind
    visit: Visit  # without a name for a wake-up
    location: str
    line: str = ""  # the source text at which a task was suspended that goes on at a wake-up
    is_before: bool = False  # whether this line is still to be carried out
    is_inside: bool = True
    fault: Action | None = None
    raises: tuple[type[BaseException], ...] = ()  # of the site, if there is a fault


class Timeline:
    """Records the visits of one run, and formats them."""

    def __init__(self, scenario: str) -> None:
        self._scenario = scenario
        self._events: list[_Event] = []
        self._names: dict[TaskPath, str] = {}

    # Called during the run: see Recorder.

    def arrived(self, visit: Visit) -> None:
        """Record that a task is held at a visit."""
        self._events.append(_Event(visit.path, _Kind.ARRIVAL, visit, _site_location(visit.name)))

    def visited(self, visit: Visit, *, inside: bool) -> None:
        """Record a visit that goes on."""
        self._events.append(_Event(visit.path, _Kind.VISIT, visit, _site_location(visit.name), is_inside=inside))

    def resumed(self, wakeup: Visit, location: str, line: str, *, is_before: bool = False) -> None:
        """Record that a task goes on at a wake-up."""
        self._events.append(_Event(wakeup.path, _Kind.TURN, wakeup, location, line, is_before))

    def injected(self, path: TaskPath, action: Action, raises: tuple[type[BaseException], ...]) -> None:
        """Record that a fault is injected where this task went on last, at a site that declares *raises*."""
        index = next(i for i in reversed(range(len(self._events))) if self._events[i].path == path)
        self._events[index] = replace(self._events[index], fault=action, raises=raises)

    def finish(self, tasks: Sequence[TaskNode]) -> None:
        """Name the tasks of the run, which has ended."""
        names = {task.path: _display_name(task, self._scenario) for task in tasks}
        for event in self._events:
            if event.path not in names:  # in a worker thread
                names[event.path] = f"{_nearest(event.path, names) or 'a task'} (thread)"
        self._names = _numbered(names)

    # Called once the run has ended.

    @property
    def visits(self) -> list[Visit]:
        """The visits that were explored, in order."""
        return [event.visit for event in self._explored if event.kind is _Kind.VISIT]

    @property
    def tasks(self) -> int:
        """The number of tasks that were held, or made a visit that was explored."""
        return len({event.path for event in self._explored})

    @property
    def _explored(self) -> list[_Event]:
        return [event for event in self._events if event.is_inside]

    def name(self, path: TaskPath) -> str:
        """Return the name of a task in this timeline."""
        return self._names.get(path) or "a task that has ended"

    def lines(self) -> list[str]:
        """Format the visits and the turns, one per line, with a column for each task.

        A task that goes on as soon as it has come to a visit has one line for both.
        """
        events = self._explored
        columns: dict[TaskPath, int] = {}
        rows: list[tuple[str, str, str]] = []
        held: dict[TaskPath, int] = {}  # the index of the arrival
        for index, event in enumerate(events):
            task = f"{'  ' * columns.setdefault(event.path, len(columns))}{self.name(event.path)}"
            location, mark = event.location, _fault_mark(event.fault)
            visit = f"{event.visit.name} {event.visit.context}".rstrip()
            if event.kind is _Kind.ARRIVAL:
                held[event.path] = index
                if _goes_on_at_once(events, index):
                    continue
                text = f"comes to {visit}, held"
            elif event.kind is _Kind.TURN:
                if index and events[index - 1].path == event.path and event.fault is None:
                    continue  # it goes on without a switch
                where = "at" if event.is_before else "after"
                text = f"goes on {where} {_cropped(event.line)}" if event.line else "starts"
            elif (arrival := held.pop(event.path, None)) is None or _goes_on_at_once(events, arrival):
                text = visit
            else:
                text, location = f"goes on at {visit}", ""
            rows.append((task, text, f"{location}{mark}"))
        task_width = max((len(task) for task, _, _ in rows), default=0)
        text_width = max((len(text) for _, text, _ in rows), default=0)
        lines = [f"{task:<{task_width}}  {text:<{text_width}}  {rest}".rstrip() for task, text, rest in rows]
        if len(lines) > _MAX_LINES:
            half = _MAX_LINES // 2
            lines[half:-half] = [f"… {len(lines) - 2 * half} more lines …"]
        return lines

    def blocked_lines(self, problem: Problem) -> list[str]:
        """Format what each task is waiting for, and the cycle in which they wait for each other if there is one."""
        if not problem.blocked:
            return []
        names = [self.name(blocked.path) for blocked in problem.blocked]
        width = max(map(len, names))
        lines = [
            f"{name:<{width}}  {self._describe_wait(blocked)}"
            for name, blocked in zip(names, problem.blocked, strict=True)
        ]
        cycle = _find_cycle(problem.blocked)
        if cycle:
            lines.append(f"the cycle: {' → '.join(map(self.name, [*cycle, cycle[0]]))}")
        return lines

    def _describe_wait(self, blocked: BlockedTask) -> str:
        if blocked.lock:
            holder = "a task that has ended" if blocked.holder is None else self.name(blocked.holder)
            holder = "itself" if blocked.holder == blocked.path else holder
            text = f"waits for the lock {blocked.lock}, held by {holder}"
        elif blocked.awaited is not None:
            text = f"waits for {self.name(blocked.awaited)} to end"
        else:
            text = f"waits in {blocked.waits_in}" if blocked.waits_in else "waits"
        return f"{text}, at {blocked.where}: {blocked.line}" if blocked.where else text

    def configuration(self, *, has_orders: bool) -> str | None:
        """Return the faults of the run as a value of `FAILPOINTS`, or `None` if that cannot express them.

        *has_orders* is whether the run depends on the order of its tasks, which `FAILPOINTS` cannot set.
        """
        faulty = [event for event in self._events if event.fault is not None]
        if not faulty or any(event.kind is _Kind.TURN for event in faulty) or (has_orders and self.tasks > 1):
            return None
        terms: dict[str, list[tuple[str, int]]] = {}
        for event in self._events:
            if event.kind is not _Kind.VISIT:
                continue
            if not _means_the_same_as_text(event.fault, event.raises):
                return None
            text = "off" if event.fault is None else fault_text(event.fault)
            of_name = terms.setdefault(event.visit.name, [])
            if of_name and of_name[-1][0] == text:
                of_name[-1] = (text, of_name[-1][1] + 1)
            else:
                of_name.append((text, 1))
        entries: list[str] = []
        for name, counted in terms.items():
            if counted[-1][0] == "off":
                counted.pop()
            if counted:
                actions = "->".join(f"{count}*{text}" for text, count in counted)
                if not _can_be_parsed(actions):
                    return None
                entries.append(f"{name}={actions}")
        return ";".join(entries)


def _can_be_parsed(actions: str) -> bool:
    try:
        parse_actions(actions)
    except FailpointError:  # a Call, or a Return of a value that is not text
        return False
    return True


def _means_the_same_as_text(fault: Action | None, raises: tuple[type[BaseException], ...]) -> bool:
    """Return whether the site finds the exception by its name, which is all that `FAILPOINTS` can contain of it."""
    if not isinstance(fault, Raise) or not isinstance(fault.error, type):
        return True
    return look_up(fault.error.__name__, raises) is fault.error


def _goes_on_at_once(events: Sequence[_Event], arrival: int) -> bool:
    """Return whether nothing happens between the arrival at a visit and the moment at which it goes on."""
    after = events[arrival + 1] if arrival + 1 < len(events) else None
    return after is not None and after.kind is _Kind.VISIT and after.path == events[arrival].path


def _cropped(line: str) -> str:
    return line if len(line) <= _MAX_WIDTH else f"{line[: _MAX_WIDTH - 1]}…"


def _fault_mark(fault: Action | None) -> str:
    return "" if fault is None else f"  <- {fault_text(fault)} injected"


def _site_location(name: str) -> str:
    sites = known_sites(name)
    if len(sites) == 1 and sites[0].line:  # else only what was instrumented is known, not where
        return format_location(sites[0].file, sites[0].line)
    frame: FrameType | None = sys._getframe()  # pyright: ignore[reportPrivateUsage] # noqa: SLF001 - inspect.currentframe, without its checks
    while frame is not None:
        if is_user_frame(frame):
            return frame_location(frame)
        frame = frame.f_back
    return format_location(sites[0].file, sites[0].line) if sites else ""


def _nearest(path: TaskPath, names: dict[TaskPath, str]) -> str:
    """Return the name of the closest task above this one in the tree, or "" if none has a name."""
    while path and path not in names:
        path = path[:-1]
    return names.get(path, "")


def _numbered(names: dict[TaskPath, str]) -> dict[TaskPath, str]:
    """Add a number to each name that several tasks have."""
    paths_by_name: dict[str, list[TaskPath]] = {}
    for path in sorted(names):
        paths_by_name.setdefault(names[path], []).append(path)
    return {
        path: f"{name} {number}" if len(paths) > 1 else name
        for name, paths in paths_by_name.items()
        for number, path in enumerate(paths, 1)
    }


def _display_name(task: TaskNode, scenario: str) -> str:
    if not task.path:
        return scenario
    return task.name.rpartition(">.")[2].rpartition(".")[2] or task.name or "a callback"


def _find_cycle(blocked: Sequence[BlockedTask]) -> list[TaskPath]:
    waits_for = {each.path: each.holder for each in blocked if each.lock and each.holder is not None}
    for start in waits_for:
        seen: list[TaskPath] = []
        path: TaskPath | None = start
        while path is not None and path not in seen:
            seen.append(path)
            path = waits_for.get(path)
        if path == start:
            return seen
    return []
