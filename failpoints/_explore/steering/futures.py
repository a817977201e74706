"""Makes `concurrent.futures` go through futures in the order in which the threads of a run have made them.

It keeps the futures of `wait` and `as_completed` in sets, and locks them in the order of their addresses, which differ
from run to run.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Any, cast

from ..ordered_set import OrderedSet
from .control import Steering, steering

_module: Any = cast(Any, concurrent.futures)._base  # noqa: SLF001
_Result: Any = _module.DoneAndNotDoneFutures


def globals_of_module() -> list[tuple[dict[str, Any], str, Any]]:
    """Return the globals of the module, a name, and what takes its place, each. A builtin is looked up there first."""
    names = {"set": _set, "sorted": _sorted, "DoneAndNotDoneFutures": _result}
    return [(vars(_module), name, function) for name, function in names.items()]


def _set(elements: Iterable[Any] = ()) -> set[Any]:
    found = steering()
    if found is None:
        return set(elements)
    # A set of the program has the order of addresses.
    return OrderedSet(_in_order(found, elements) if isinstance(elements, AbstractSet) else elements)


def _sorted(elements: Iterable[Any], *, key: Any) -> list[Any]:
    """Sort futures, by `id` in the original. All threads need the same order, so that they cannot block each other."""
    found = steering()
    return sorted(elements, key=key) if found is None else _in_order(found, elements)


def _result(done: set[Any], not_done: set[Any]) -> Any:
    found = steering()
    if found is None:
        return _Result(done, not_done)
    return _Result(OrderedSet(_in_order(found, done)), OrderedSet(_in_order(found, not_done)))


def _in_order(found: Steering, futures: Iterable[Any]) -> list[Any]:
    return sorted(futures, key=lambda future: _place(found, future))


def _place(found: Steering, future: Any) -> tuple[Any, ...]:
    name = found.name(future)
    return ((), id(future)) if name is future else cast(tuple[Any, ...], name)  # the first was made before the run
