"""Watches: waits for an event at a failpoint, for N hits or for N tasks paused there.

Nothing here takes a lock. The caller of each method holds the store's.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Literal

from ..errors import FailpointUsageError
from .configuration import Configuration
from .messages import did_you_mean
from .multimap import Multimap
from .validation import check_count, check_name
from .wakeups import Wakeup, owe


class Watch:
    """One wait, until a failpoint has been hit *target* times or has *target* tasks and threads paused there.

    With a *configuration* it is only about that one, else about all that its name has at the time.
    Raises `FailpointNameError` or `FailpointUsageError` for a wrong name or target.
    """

    __slots__ = ("_event", "_hopeless", "_reached", "_target", "_wakeup", "configuration", "name", "thread")

    def __init__(
        self, name: str, event: Literal["hit", "paused"], target: int, configuration: Configuration | None = None
    ) -> None:
        self.name = check_name(name)
        self._event = event
        self._target = check_count("hits" if event == "hit" else "tasks", target)
        self.configuration = configuration
        self._reached = False
        self._hopeless = ""  # why the event will not happen any more
        self._wakeup: Wakeup | None = None
        self.thread = threading.get_ident()

    def has_ended(self, current: Sequence[Configuration], names: Iterable[str], wakeup: Wakeup | None) -> bool:
        """Return whether the event has happened. If not, `changed` wakes *wakeup* once it may have.

        Raises `FailpointUsageError` if it never will.

        Args:
            current: The configurations of its name that are in force.
            names: All configured names, for the message.
            wakeup: What the waiting task or thread sleeps on next.
        """
        self._wakeup = wakeup
        if self._reached and self._event == "hit":
            return True  # a hit stays true whatever comes after it, a pause that is over does not
        if self._hopeless:
            awaited = "it to be hit" if self._event == "hit" else "a pause there"
            raise FailpointUsageError(f"{self._hopeless} while a task was waiting for {awaited}", code="FP016")
        counted = self._counted(current)
        if not counted:
            raise FailpointUsageError(self._never(current, names), code="FP016")
        for configuration in counted:
            configuration.dismiss_abandoned()
        return self._holds(counted)

    def changed(self, current: Sequence[Configuration]) -> None:
        """Note a hit, a pause, or other configurations in force. If that may end the wait, owe it a wake-up."""
        counted = self._counted(current)
        if not counted:
            self._hopeless = self._hopeless or (
                f"this configuration of failpoint {self.name!r} was replaced"
                if current
                else f"failpoint {self.name!r} was removed"
            )
        elif self._holds(counted):
            self._reached = True
        else:
            return
        if self._wakeup is not None:
            owe(self._wakeup)

    def _counted(self, current: Sequence[Configuration]) -> Sequence[Configuration]:
        if self.configuration is None:
            return current
        return [self.configuration] if self.configuration in current else []

    def _holds(self, counted: Sequence[Configuration]) -> bool:
        if self._event == "hit":
            return sum(each.hits + each.elsewhere.hits for each in counted) >= self._target
        return sum(len(each.parked) + each.elsewhere.paused for each in counted) >= self._target

    def _never(self, current: Sequence[Configuration], names: Iterable[str]) -> str:
        never = "it will never be hit" if self._event == "hit" else "no task will ever be paused there"
        if current:
            return (
                f"this configuration of failpoint {self.name!r} was replaced, so {never}: use the handle of the newer"
                " one, or wait for the name with failpoints.wait_until_hit or wait_until_paused"
            )
        return (
            f"failpoint {self.name!r} is not configured, so {never}: configure it first, with 'off' to count hits"
            f" only{did_you_mean(self.name, names)}"
        )

    def shortfall(self) -> str:
        """Describe what has not happened: `failpoint 'x' was not hit 3 times`."""
        if self._event == "hit":
            return f"failpoint {self.name!r} was not hit{'' if self._target == 1 else f' {self._target} times'}"
        tasks = "no task was" if self._target == 1 else f"fewer than {self._target} tasks were"
        return f"{tasks} paused at failpoint {self.name!r}"


class Watches:
    """The watches of one store."""

    def __init__(self) -> None:
        self._watches: Multimap[Watch] = Multimap()
        self.names = self._watches.names

    def add(self, watch: Watch) -> None:
        """Keep the watch informed of changes."""
        self._watches.add(watch.name, watch)

    def discard(self, watch: Watch) -> None:
        """Forget the watch. Does nothing if it is not known."""
        self._watches.discard(watch.name, watch)

    def forget_other_threads(self) -> None:
        """Forget, after a fork, the watches of threads that this process does not have."""
        for _, watch in self._watches.all():
            if watch.thread != threading.get_ident():
                self.discard(watch)

    def changed(self, name: str, current: Sequence[Configuration]) -> None:
        """Inform the watches of this failpoint of a change."""
        for watch in self._watches.under(name):
            watch.changed(current)
