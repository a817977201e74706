"""The part of a task's run for which a decorated function or a scope declares what it reads and writes."""

from __future__ import annotations

from typing import Final, Self

from .accesses import Accesses
from .hooks import exploring
from .site import Site


class Region:
    """One call of a decorated function. The visit at its beginning enters it, if the site declares anything.

    As a context manager, it is left at the end of the block.
    """

    __slots__ = ("_suspended",)

    def __init__(self) -> None:
        self._suspended: Accesses | None = None

    def leave(self) -> None:
        """End the region, if it was entered."""
        leave_region(self)

    def suspend(self) -> None:
        """Leave the region until `resume`: a generator yields, and its consumer runs."""
        self._suspended = leave_region(self)

    def resume(self) -> None:
        """Enter the region again, in the task that has resumed the generator."""
        explorer = exploring.get()
        if explorer is not None and self._suspended is not None:
            explorer.enter_region(self, self._suspended)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        leave_region(self)


class _NoRegion(Region):
    """That of a call whose site declares nothing. All of them share it."""

    __slots__ = ()

    def suspend(self) -> None:
        pass

    def resume(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        pass


_NO_REGION: Final = _NoRegion()


def region_of_call(site: Site) -> Region:
    """Return the region for one call of a function with this site."""
    return Region() if site.reads or site.writes else _NO_REGION


def leave_region(region: object) -> Accesses | None:
    """End a region that a visit has entered. Return what it declared, or `None` if there is nothing to end."""
    explorer = exploring.get()
    return None if explorer is None else explorer.leave_region(region)
