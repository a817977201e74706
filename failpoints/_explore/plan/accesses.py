"""What a step touches, and when two steps meet: then their order may matter."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Final, Literal, TypeAlias

Mode: TypeAlias = Literal["r", "w", "u"]
"""How a resource is touched: read, written, or updated in a way that commutes with other updates."""

Accesses: TypeAlias = dict[Hashable, Mode]
"""The resources that a step touches."""

EVERYTHING: Final = "*"
"""A resource that every step touches: a step that is not declared writes it, any other step updates it."""

PROGRAM: Final = "program"
"""The same for the steps of threads, of which the operations of primitives are steps of their own, without it."""


def add_access(accesses: Accesses, resource: Hashable, mode: Mode) -> None:
    """Add an access. A resource that is touched in two ways counts as written."""
    known = accesses.setdefault(resource, mode)
    if known != mode:
        accesses[resource] = "w"


def meet(one: Mapping[Hashable, Mode], other: Mapping[Hashable, Mode]) -> bool:
    """Return whether two steps touch the same resource, in ways that do not commute."""
    if len(other) < len(one):
        one, other = other, one
    for resource, mode in one.items():
        found = other.get(resource)
        if found is not None and (found != mode or mode == "w"):
            return True
    return False


def merge(into: Accesses, accesses: Mapping[Hashable, Mode]) -> None:
    """Add the accesses of one step to those of another."""
    for resource, mode in accesses.items():
        add_access(into, resource, mode)
