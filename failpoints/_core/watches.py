"""Those who wait for something to happen at a failpoint: for so many hits, or so many waiting there now.

Holds no lock: the registry's is held whenever a method is called.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Literal

from ..errors import FailpointTimeout, FailpointUsageError
from .configuration import Configuration
from .messages import did_you_mean
from .multimap import Multimap
from .status import FailpointStatus
from .validation import check_count, check_name
from .wakeups import Wakeup


class Watch:
    """Somebody who waits until a failpoint is `"hit"` or `"paused"`, so many times or by so many."""

    __slots__ = ("_reached", "_removed", "_target", "_wakeup", "_what", "name", "thread")

    def __init__(self, name: str, what: Literal["hit", "paused"], target: int) -> None:
        self.name = check_name(name)
        self._what = what
        self._target = check_count("hits" if what == "hit" else "tasks", target)
        self._reached = False
        self._removed = False
        self._wakeup: Wakeup | None = None
        self.thread = threading.get_ident()

    def has_ended(self, configurations: Mapping[str, Configuration], wakeup: Wakeup | None) -> bool:
        """Whether it is so; if not, `wakeup` is what to set next. Raises if it never will be."""
        self._wakeup = wakeup
        if self._reached and self._what == "hit":
            return True  # it has happened, whatever came after; a pause that is over again is none
        if self._removed:
            raise FailpointUsageError(
                f"failpoint {self.name!r} was removed while somebody waited until it is {self._what}"
            )
        configuration = configurations.get(self.name)
        if configuration is None:
            raise FailpointUsageError(
                f"failpoint {self.name!r} is not configured, so it will never be {self._what}; configure it first,"
                f" with 'off' if it should only count{did_you_mean(self.name, configurations)}"
            )
        configuration.forget_the_gone()
        return self._holds(configuration)

    def changed(self, configuration: Configuration | None) -> list[Wakeup]:
        """The failpoint was hit, waited at, or removed: the wake-up, if that ends the wait."""
        if configuration is None:
            self._removed = True
        elif self._holds(configuration):
            self._reached = True
        else:
            return []
        return [self._wakeup] if self._wakeup is not None else []

    def _holds(self, configuration: Configuration) -> bool:
        count = configuration.hits if self._what == "hit" else len(configuration.parked)
        return count >= self._target

    def timed_out(
        self, timeout: float | None, status: FailpointStatus, statuses: Iterable[FailpointStatus]
    ) -> FailpointTimeout:
        """What to raise when it has not come to it in time: with what is known of it, and of who waits elsewhere."""
        from .diagnosis import diagnosis  # only ever needed on the way to an error

        wanted = (
            f"was not hit {'once' if self._target == 1 else f'{self._target} times'}"
            if self._what == "hit"
            else f"did not have {self._target} waiting at it"
        )
        return FailpointTimeout(
            f"failpoint {self.name!r} {wanted} within {timeout:g} s\n{diagnosis(status, elsewhere=statuses)}",
            status,
        )


class Watches:
    """The watches of one registry."""

    def __init__(self) -> None:
        self._watches = Multimap[Watch]()

    def add(self, watch: Watch) -> None:
        """It wants to be told of changes."""
        self._watches.add(watch.name, watch)

    def discard(self, watch: Watch) -> None:
        """It does not any more."""
        self._watches.discard(watch.name, watch)

    def keep_this_thread(self) -> None:
        """After a fork: the other threads, and whoever watches in them, are not in this process."""
        for _, watch in self._watches.all():
            if watch.thread != threading.get_ident():
                self.discard(watch)

    def changed(self, name: str, configuration: Configuration | None) -> list[Wakeup]:
        """The wake-ups of those whose wait a change of this failpoint may have ended."""
        return [wakeup for watch in self._watches.under(name) for wakeup in watch.changed(configuration)]
