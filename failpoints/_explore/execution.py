"""One run of a scenario: the visits in it, who is held and who goes on, and what is injected."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Protocol

from .._core.actions import Action
from .._core.context import Context
from ..errors import FailpointUsageError
from .plan.faults import Alternatives
from .plan.guide import MOST_TURNS_AT_A_VISIT, Guide, by_continuing
from .plan.places import IN_THREAD, Labels, Place, Visit, context_text, current_place
from .watchdog import Watched


class World(Protocol):
    """The event loop of a run."""

    def current(self) -> Place:
        """The running task."""
        ...

    def hold(self, place: Place) -> Awaitable[object]:
        """What the running task is to await until it is let go."""
        ...

    def let_go(self, place: Place) -> None:
        """Let a task go on that is held."""

    def turn_away(self, place: Place) -> None:
        """The running task is cancelled, and held no longer."""


@dataclass(frozen=True, slots=True)
class Injected:
    """A fault that a run injected: at which visit, and what.

    `number` counts the visits of the run at which a fault was possible, `alternative` those that were, from 1.
    """

    visit: Visit
    action: Action
    number: int
    alternative: int
    label: int


class Recorder(Protocol):
    """Who wants to know of each visit as it goes on, to show it."""

    def visited(self, path: tuple[int, ...], visit: Visit, *, inside: bool) -> None:
        """A visit goes on."""

    def injected(self, path: tuple[int, ...], action: Action) -> None:
        """A fault is injected at the visit that went on last in this task."""

    def finish(self, places: Sequence[Place]) -> None:
        """The run has ended; these were its tasks."""


class Execution:
    """One run, as the sites see it and as its event loop drives it."""

    def __init__(
        self,
        watched: Watched,
        guide: Guide,
        alternatives: Alternatives,
        labels: Labels,
        *,
        holding: bool,
        faults: bool,
        recorder: Recorder | None = None,
    ) -> None:
        self.watched = watched
        self.guide = guide
        self.root = Place((), "")
        self.thread = threading.get_ident()
        self.world: World
        self.active = False
        self.entered = False
        self.expect: tuple[type[BaseException], ...] = ()
        self.injected: list[Injected] = []
        self.errors: list[BaseException] = []
        self.refusal: FailpointUsageError | None = None
        self.tasks = 0  # that were let go at least once
        self._alternatives = alternatives
        self._labels = labels
        self._holding = holding
        self._faults = faults
        self._looks = faults or recorder is not None
        self.recorder = recorder
        self._counts: dict[tuple[tuple[int, ...], str, str], int] = {}
        self._held: dict[Place, int] = {}
        self._step = 0
        self._last: Place | None = None
        self.choices: list[int] = []  # whose turn it was, each time, counted with the task first that would go on
        self.preemptions = 0
        self._faultable = 0

    # what sites call

    def arrive(self, name: str, context: Context) -> Awaitable[object] | None:
        """Hold the task until it is its turn."""
        if not self.active or threading.get_ident() != self.thread:
            return None
        place = self.world.current()
        place.arrived = label = self._identify(place, name, context)
        if not self._holding:
            return None
        self._held[place] = label
        return self.world.hold(place)

    def turn_away(self) -> None:
        """The running task is cancelled: it is not its turn any more."""
        place = self.world.current()
        place.arrived = -1
        self._held.pop(place, None)
        self.world.turn_away(place)

    def choose(self, name: str, context: Context, raises: tuple[type[BaseException], ...]) -> Action | None:
        """Choose what to inject at a visit that goes on."""
        if not self.active or threading.get_ident() != self.thread:
            return self.choose_sync(name, context, raises)  # on another loop, perhaps, in a thread of the run
        if not self._looks:
            return None
        place = self.world.current()
        return self._go_on(place, place.arrived, raises)

    def choose_sync(self, name: str, context: Context, raises: tuple[type[BaseException], ...]) -> Action | None:
        """Choose what to inject at a visit in sync code, or in a thread."""
        place = self._place() if self.active or self.recorder is not None else self.root
        if not self.active and self.recorder is not None:
            visit = Visit(place.path, name, context_text(context), 0)
            self.recorder.visited(place.path, visit, inside=False)
        if not self.active:
            return None
        label = self._identify(place, name, context)
        return self._go_on(place, label, raises) if self._looks else None

    def raised(self, error: BaseException) -> None:
        """An injected action raised this."""
        if isinstance(error, FailpointUsageError):
            self.refusal = error  # it could not be carried out, and the program may swallow it
        else:
            self.errors.append(error)

    def _place(self) -> Place:
        if threading.get_ident() == self.thread:
            return self.world.current() if hasattr(self, "world") else self.root  # no loop yet: a coroutine is made
        started_from = current_place.get() or self.root
        return Place((*started_from.path, IN_THREAD), "thread")

    def _identify(self, place: Place, name: str, context: Context) -> int:
        key = (place.path, name, context_text(context) if context else "")
        occurrence = self._counts[key] = self._counts.get(key, 0) + 1
        if occurrence > MOST_TURNS_AT_A_VISIT:
            self.guide.repeats()
        return self._labels.visit_number(key, occurrence)

    def _go_on(self, place: Place, label: int, raises: tuple[type[BaseException], ...]) -> Action | None:
        visit = self._labels.visit(label)
        if self.recorder is not None:
            self.recorder.visited(place.path, visit, inside=True)
        alternatives = self._alternatives.of(visit.name, raises) if self._faults else ()
        if not alternatives:
            return None
        self._faultable += 1
        chosen = self.guide.fault(label, visit[:3], len(alternatives))
        if not chosen:
            return None
        action = alternatives[chosen - 1]
        self.injected.append(Injected(visit, action, self._faultable, chosen, label))
        if self.recorder is not None:
            self.recorder.injected(place.path, action)
        return action

    # what the event loop calls

    @property
    def held(self) -> dict[Place, int]:
        """The tasks that are held, and the labels of the visits they are held at."""
        return self._held

    def let_one_go(self) -> None:
        """At rest: let one of the tasks go on that are held."""
        held = self._held
        if len(held) == 1:
            place = next(iter(held))
        else:
            options = sorted(held, key=_turn)
            place = self.guide.turn(options, held, self._last)
            if self.recorder is not None:
                last = self._last if self._last in held else None
                self.choices.append(by_continuing(options, last).index(place))
                self.preemptions += last is not None and place is not last
        self._let_go(place)

    def _let_go(self, place: Place) -> None:
        del self._held[place]
        step, path = place.turn
        if not step:
            self.tasks += 1
        self._step += 1
        place.turn = (self._step, path)
        self._last = place
        self.world.let_go(place)

    def hits(self) -> Iterator[tuple[str, int]]:
        """How often each failpoint was visited, by name; one may come more than once."""
        for (_, name, _), count in self._counts.items():
            yield name, count

    # what run.injecting() calls

    def begin(self, expect: tuple[type[BaseException], ...]) -> None:
        """From here on visits are held and faults injected."""
        if self.entered:
            raise FailpointUsageError("run.injecting() is entered once in a run: put everything into one block")
        self.entered = True
        self.active = True
        self.expect = expect

    def end(self) -> None:
        """Up to here."""
        self.active = False
        for place in sorted(self._held, key=_turn):
            self._let_go(place)

    def is_surfaced(self, error: BaseException) -> bool:
        """Whether the error is a fault of this run, or what the program made of it."""
        if not self.injected:
            return False
        if isinstance(error, self.expect) or any(error is raised for raised in self.errors):
            return True
        if isinstance(error, BaseExceptionGroup):
            leaves: tuple[BaseException, ...] = error.exceptions  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
            if all(self.is_surfaced(leaf) for leaf in leaves):
                return True
        return error.__cause__ is not None and self.is_surfaced(error.__cause__)


_turn = attrgetter("turn")
