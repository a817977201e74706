"""Pairs of turns that were said not to meet, and the orders in which they are exchanged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .races import HappensBefore, Segment, turns_before


@dataclass(frozen=True, slots=True)
class Swap:
    """Two turns of a run, of which the later one could have come before the earlier one.

    `order` has the labels of the turns of the run, and `moved` the turns that come right before the earlier one if the
    two are exchanged: those that the later one needs, and itself.
    """

    order: tuple[int, ...]
    earlier: int
    moved: tuple[int, ...]

    @property
    def labels(self) -> tuple[int, int]:
        """The labels of the two turns, as they were run."""
        return self.order[self.earlier], self.order[self.moved[-1]]

    @property
    def distance(self) -> int:
        """The number of exchanges of neighbours that this takes."""
        return sum(turn - self.earlier - number for number, turn in enumerate(self.moved))

    def exchanges(self) -> Iterator[tuple[tuple[int, ...], tuple[int, int]]]:
        """Yield the orders on the way, each with the labels of the neighbours that it exchanges. The last is `swapped`.

        An exchanged order is the one before it, but for these two.
        """
        turns = list(range(len(self.order)))
        for number, turn in enumerate(self.moved):
            for place in range(turns.index(turn), self.earlier + number, -1):
                turns[place - 1], turns[place] = turns[place], turns[place - 1]
                labels = tuple(self.order[each] for each in turns)
                yield labels, (labels[place], labels[place - 1])

    @property
    def swapped(self) -> tuple[int, ...]:
        """The order in which the two turns are exchanged."""
        *_, (order, _) = self.exchanges()
        return order


def swaps_of(order: tuple[int, ...], segments: Sequence[Segment]) -> list[Swap]:
    """Return the swaps of turns that nothing puts in order, the smallest first."""
    before = turns_before(segments, _before(segments), len(order))
    swaps: list[Swap] = []
    for later in range(len(order)):
        for earlier in range(later):
            if not before[later] >> earlier & 1:
                needed = [turn for turn in range(earlier + 1, later) if before[later] >> turn & 1]
                swaps.append(Swap(order, earlier, (*needed, later)))
    return sorted(swaps, key=lambda swap: swap.distance)


def _before(segments: Sequence[Segment]) -> list[int]:
    """Return, for each segment, a bit for each one that keeps its turn from coming first.

    A turn can have steps of further tasks, which it has woken. If such a task waited for a step of another turn as
    well, it goes on in that turn once the two are exchanged. So that is not a reason to keep their order.
    """
    order = HappensBefore(segments)
    chosen = {segment.turn: segment.task for segment in segments if segment.is_chosen}
    return [
        bits if segment.task == chosen.get(segment.turn) else bits & ~caused
        for segment, bits, caused in zip(segments, order.before, order.caused, strict=True)
    ]
