"""Watches: waits for an event at a failpoint, for N hits or for N tasks paused there.

Nothing here takes a lock. The caller of each method holds the store's.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Literal

from ..errors import FailpointUsageError
from .configuration import Configuration
from .messages import did_you_mean
from .multimap import Multimap
from .validation import check_count, check_name
from .wakeups import Wakeup


class Watch:
    """One wait, until a failpoint has been hit *target* times or has *target* tasks and threads paused there.

    Raises `FailpointNameError` or `FailpointUsageError` for a wrong name or target.
    """

    __slots__ = ("_event", "_reached", "_removed", "_target", "_wakeup", "name", "thread")

    def __init__(self, name: str, event: Literal["hit", "paused"], target: int) -> None:
        self.name = check_name(name)
        self._event = event
        self._target = check_count("hits" if event == "hit" else "tasks", target)
        self._reached = False
        self._removed = False
        self._wakeup: Wakeup | None = None
        self.thread = threading.get_ident()

    def has_ended(self, configurations: Mapping[str, Configuration], wakeup: Wakeup | None) -> bool:
        """Return whether the event has happened. If not, `changed` returns *wakeup* once it may have.

        Raises `FailpointUsageError` if it never will, because the failpoint is not configured.
        """
        self._wakeup = wakeup
        if self._reached and self._event == "hit":
            return True  # a hit stays true whatever comes after it, a pause that is over does not
        if self._removed:
            awaited = "it to be hit" if self._event == "hit" else "a pause there"
            raise FailpointUsageError(f"failpoint {self.name!r} was removed while a task was waiting for {awaited}")
        configuration = configurations.get(self.name)
        if configuration is None:
            hopeless = "it will never be hit" if self._event == "hit" else "no task will ever be paused there"
            raise FailpointUsageError(
                f"failpoint {self.name!r} is not configured, so {hopeless}: configure it first, with 'off' to count"
                f" hits only{did_you_mean(self.name, configurations)}"
            )
        configuration.dismiss_abandoned()
        return self._holds(configuration)

    def changed(self, configuration: Configuration | None) -> list[Wakeup]:
        """Note a hit, a pause or, without a configuration, a removal. Return the wakeup, if it may end the wait."""
        if configuration is None:
            self._removed = True
        elif self._holds(configuration):
            self._reached = True
        else:
            return []
        return [self._wakeup] if self._wakeup is not None else []

    def _holds(self, configuration: Configuration) -> bool:
        count = configuration.hits if self._event == "hit" else len(configuration.parked)
        return count >= self._target

    def shortfall(self) -> str:
        """Describe what has not happened: `failpoint 'x' was not hit 3 times`."""
        if self._event == "hit":
            return f"failpoint {self.name!r} was not hit{'' if self._target == 1 else f' {self._target} times'}"
        tasks = "no task was" if self._target == 1 else f"fewer than {self._target} tasks were"
        return f"{tasks} paused at failpoint {self.name!r}"


class Watches:
    """The watches of one store."""

    def __init__(self) -> None:
        self._watches = Multimap[Watch]()

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

    def changed(self, name: str, configuration: Configuration | None) -> list[Wakeup]:
        """Inform the watches of this failpoint of a change. Return the wakeups of those that it may end."""
        return [wakeup for watch in self._watches.under(name) for wakeup in watch.changed(configuration)]
