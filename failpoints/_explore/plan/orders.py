"""The orders of the turns of a program, each class of equivalent ones once: source sets with sleep sets.

A turn runs one of the tasks that are held, until nothing can run any more. Two orders are equivalent if they differ
only in turns that do not meet. The search goes depth first. Each run shows which of its turns meet, and for each
such pair, the tasks that have to be tried in another order.

The algorithm is that of Abdulla, Aronis, Jonsson and Sagonas (Source Sets, JACM 2017).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from .accesses import Accesses, meet, merge
from .races import HappensBefore, Segment, go_with_their_turns, turns_before


class Orders(Protocol):
    """The orders that are still to be run, of a program whose other decisions are fixed.

    For each run, call `begin`, then `choose` for each turn, then `finish` or `skip`, until `is_done`. Without the
    latter, the next `begin` repeats the run.

    Attributes:
        is_reduced: Whether equivalent orders are left out. It takes the segments of each run.
    """

    is_reduced: bool

    @property
    def is_done(self) -> bool:
        """Whether there is nothing left to run."""
        ...

    @property
    def planned(self) -> tuple[int, ...] | None:
        """The options that the next turn must have, or `None` if that is not known."""
        ...

    @property
    def queued(self) -> int:
        """The number of further runs that are known to be needed."""
        ...

    def begin(self) -> None:
        """Begin a run."""

    def choose(self, options: Sequence[int], touched: Callable[[], Accesses]) -> int | None:
        """Return the task whose turn it is, or `None` if all of them are asleep.

        *options* has the tasks that are held, by the labels of their visits or wake-ups, the preferred one first.
        *touched* returns what the last turn touched.
        """
        ...

    def finish(self, segments: Sequence[Segment] = ()) -> None:
        """Take note of what a run did, and go on to the next one."""

    def skip(self) -> None:
        """Go on to the next run, although the last one did not follow its plan."""


class _Node:
    """A point of a run at which tasks are held. Tasks are given by labels: of the visits or wake-ups they are held at.

    Attributes:
        options: The tasks that are held.
        todo: The ones to choose, now or later.
        asleep: The ones that need not be chosen, since the same orders were run before, with what their turns touched.
        chosen: The one that was chosen in the current run.
        is_full: Whether all have to be chosen, with everything that follows.
    """

    __slots__ = ("asleep", "chosen", "done", "is_full", "options", "todo")

    def __init__(self, options: tuple[int, ...], asleep: dict[int, Accesses], chosen: int, *, is_full: bool) -> None:
        self.options = options
        self.todo = set(options) if is_full else {chosen}
        self.asleep = asleep
        self.done: set[int] = set()
        self.chosen = chosen
        self.is_full = is_full

    def next(self) -> int | None:
        """Return what to choose next, in the order of the options."""
        for option in self.options:
            if option in self.todo and option not in self.done and (self.is_full or option not in self.asleep):
                return option
        return None


class EveryOrder:
    """All orders, or each class of equivalent ones once.

    Args:
        is_reduced: Whether equivalent orders are left out.
        needs_declaration: Whether no order is left out of a program that declares nothing.
    """

    def __init__(self, *, is_reduced: bool, needs_declaration: bool = False) -> None:
        self.is_reduced = is_reduced
        self._needs_declaration = needs_declaration
        self.is_done = False
        self._nodes: list[_Node] = []
        self._depth = 0
        self._analysed = 0  # turns of which all races with earlier ones are known
        self._is_asleep = False  # the current run, since all that could follow has been run

    def begin(self) -> None:
        self._depth = 0
        self._is_asleep = False

    @property
    def planned(self) -> tuple[int, ...] | None:
        return self._nodes[self._depth].options if self._depth < len(self._nodes) else None

    @property
    def queued(self) -> int:
        return sum(len(node.todo - node.done - {node.chosen}) for node in self._nodes)

    def choose(self, options: Sequence[int], touched: Callable[[], Accesses]) -> int | None:
        depth = self._depth
        if depth < len(self._nodes):
            self._depth += 1
            return self._nodes[depth].chosen
        asleep = self._asleep_after(touched()) if self.is_reduced and depth else {}
        chosen = next((option for option in options if option not in asleep), None)
        if chosen is None:
            self._is_asleep = True
            return None
        self._nodes.append(_Node(tuple(options), asleep, chosen, is_full=not self.is_reduced))
        self._depth += 1
        return chosen

    def _asleep_after(self, touched: Accesses) -> dict[int, Accesses]:
        node = self._nodes[-1]
        if node.is_full:
            return {}
        return {
            option: accesses
            for option, accesses in node.asleep.items()
            if option != node.chosen and not meet(accesses, touched)
        }

    def finish(self, segments: Sequence[Segment] = ()) -> None:
        if self.is_reduced and self._needs_declaration and not any(segment.is_declared for segment in segments):
            self._stop_reducing()
        if self.is_reduced:
            if self._nodes and not self._is_asleep:  # a task that is still held may come before the end
                self._nodes[-1].todo.update(self._nodes[-1].options)
            labels = [node.chosen for node in self._nodes]
            labels += [segment.pending for segment in segments if segment.pending is not None]
            touched = touched_by_turn(segments, len(labels))
            self._add_races(segments, touched, labels)
            self._remember(touched[: len(self._nodes)])
        self._next()

    def _stop_reducing(self) -> None:
        self.is_reduced = False
        self._nodes = [node for node in self._nodes if len(node.options) > 1]
        for node in self._nodes:
            node.is_full = True
            node.todo.update(node.options)

    def skip(self) -> None:
        del self._nodes[self._depth :]
        for node in self._nodes:
            node.is_full = True  # nothing is known about its turns
            node.todo.update(node.options)
        self._next()

    def _next(self) -> None:
        nodes = self._nodes
        while nodes:
            node = nodes[-1]
            node.done.add(node.chosen)
            chosen = node.next()
            if chosen is not None:
                node.chosen = chosen
                break
            nodes.pop()
        self._analysed = len(nodes) - 1
        self.is_done = not nodes

    def _remember(self, touched: Sequence[Accesses]) -> None:
        """Put the tasks to sleep that were chosen in this run."""
        for node, accesses in list(zip(self._nodes, touched, strict=True))[max(self._analysed, 0) :]:
            node.asleep[node.chosen] = accesses

    def _add_races(self, segments: Sequence[Segment], touched: Sequence[Accesses], labels: Sequence[int]) -> None:
        """Plan runs in which races go the other way. *labels* has those of the turns, then of what is pending."""
        nodes = self._nodes
        order = HappensBefore(segments)
        before = turns_before(segments, order.before, len(labels)) if order.races else []
        go_with_turns = go_with_their_turns(segments) if order.races else []
        for first, second in (*order.races, *_behind(segments, order)):
            earlier, later = segments[first], segments[second]
            if earlier.turn < 0 or earlier.turn >= len(nodes) or later.turn >= len(labels):
                continue
            is_known = later.turn < self._analysed
            if not (go_with_turns[first] and go_with_turns[second]):
                if not is_known:
                    self._expand(min(later.turn, len(nodes) - 1))
            elif earlier.turn < later.turn and not nodes[earlier.turn].is_full:
                if not is_known:
                    self._reverse(earlier.turn, later.turn, before, labels)
                self._wake(earlier.turn, later.turn, before, touched, labels)

    def _reverse(self, earlier: int, later: int, before: list[int], labels: Sequence[int]) -> None:
        """Plan a run in which the later one of two turns that meet comes first."""
        between = [turn for turn in range(earlier + 1, later) if not before[turn] >> earlier & 1]
        self._plan_one_of(earlier, [*between, later], before, labels)

    def _wake(
        self, earlier: int, later: int, before: list[int], touched: Sequence[Accesses], labels: Sequence[int]
    ) -> None:
        """Plan a run for a task that sleeps where its turn would be reversed, in which it is woken by other turns.

        The runs that it has been tried in begin with its turn, so what comes before that must not meet it. Whatever the
        earlier one of the two turns has changed, what it would touch is known.
        """
        node = self._nodes[earlier]
        accesses = node.asleep.get(labels[later])
        if accesses is None or labels[later] in node.todo:
            return
        others = [turn for turn in range(earlier + 1, len(before)) if not before[turn] >> earlier & 1]
        if any(meet(touched[turn], accesses) for turn in others):
            self._plan_one_of(earlier, others, before, labels)

    def _plan_one_of(self, number: int, turns: Sequence[int], before: list[int], labels: Sequence[int]) -> None:
        """Plan a run in which one of these turns comes at a node, unless there is one already."""
        node = self._nodes[number]
        bits = sum(1 << turn for turn in turns)
        firsts = [labels[turn] for turn in turns if not before[turn] & bits]
        firsts = [label for label in firsts if label in node.options]
        if not firsts:
            node.todo.update(node.options)
        elif not any(label in node.todo or label in node.asleep for label in firsts):
            node.todo.add(firsts[0])

    def _expand(self, last: int) -> None:
        """Plan all orders up to a turn, for a race of steps that can be in another turn: no single turn reverses it."""
        for node in self._nodes[: last + 1]:
            node.is_full = True
            node.todo.update(node.options)


def _behind(segments: Sequence[Segment], order: HappensBefore) -> Iterator[tuple[int, int]]:
    """Generate the pairs that meet behind a race, with an operation that may wait.

    What such an operation has a race with may be what it was waiting for. So it could not come right before that, but
    maybe before what made it wait.
    """
    for second, later in enumerate(segments):
        if later.may_wait:
            for first, earlier in enumerate(segments[:second]):
                is_fixed = earlier.task == later.task or order.caused[second] >> first & 1
                if earlier.is_chosen and not is_fixed and meet(earlier.accesses, later.accesses):
                    yield first, second


def touched_by_turn(segments: Sequence[Segment], turns: int) -> list[Accesses]:
    """Return what each turn touched."""
    touched: list[Accesses] = [{} for _ in range(turns)]
    for segment in segments:
        if 0 <= segment.turn < turns:
            merge(touched[segment.turn], segment.accesses)
    return touched
