"""The work that one request may cause: the loop of the control plane shares the processor with the program. Pure."""

from __future__ import annotations

from ..errors import FailpointUsageError

UNITS = 500_000
"""What one request may spend. A unit is about a microsecond of an ordinary processor."""


class TooMuchWork(FailpointUsageError):
    """A request that would keep the control plane busy for too long."""


class Budget:
    """Counts the work of one request, in estimates and not in time: a busy machine refuses nothing else.

    *too_much* is the message of the `TooMuchWork` that `spend` raises once there is nothing left.
    """

    def __init__(self, too_much: str) -> None:
        self._left = UNITS
        self._too_much = too_much

    def spend(self, units: int) -> None:
        """Count work that is about to be done."""
        self._left -= units
        if self._left < 0:
            raise TooMuchWork(self._too_much)
