"""One order of the turns of a program, given by the labels of the tasks that go on."""

from __future__ import annotations

from collections.abc import Sequence


class FixedOrder:
    """An order that is run once. After its end, the first option goes on.

    Attributes:
        is_followed: Whether each of its tasks could go on when it was their turn.
    """

    is_reduced = True  # so that each turn is asked for, also that of a single task
    queued = 0
    planned = None

    def __init__(self, labels: Sequence[int]) -> None:
        self._labels = labels
        self._turn = 0
        self.is_done = False
        self.is_followed = True

    def begin(self) -> None:
        self._turn = 0

    def choose(self, options: Sequence[int], touched: object) -> int:
        label = self._labels[self._turn] if self._turn < len(self._labels) else options[0]
        self._turn += 1
        if label in options:
            return label
        self.is_followed = False
        return options[0]

    def finish(self, segments: object = ()) -> None:
        self.is_done = True

    skip = finish
