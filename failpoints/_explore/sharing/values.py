"""Which values are shared as they are: those that cannot change, and those that explorations see anyway."""

from __future__ import annotations

import datetime
import decimal
import enum
import fractions
import functools
import pathlib
import re
import sys
import types
import uuid
from collections import deque
from collections.abc import Set as AbstractSet
from typing import Any, Final, TypeGuard, cast

_SCALARS: Final = frozenset(
    (
        *(bool, bytes, complex, float, int, range, slice, str, type(None), type(...), type(NotImplemented), object),
        *(datetime.date, datetime.datetime, datetime.time, datetime.timedelta, datetime.timezone),
        *(decimal.Decimal, fractions.Fraction, re.Pattern, uuid.UUID),
    )
)

_RAW: Final = (
    *(type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType, types.CodeType, types.FrameType),
    *(enum.Enum, pathlib.PurePath, BaseException),
)

_SEEN_ANYWAY: Final = frozenset(
    (
        *("asyncio", "anyio", "concurrent", "contextvars", "failpoints", "logging", "queue", "thread", "threading"),
        *("trio", "weakref"),
    )
)
"""The packages whose objects an exploration sees itself, or which are about threads."""


_HEAP_TYPE: Final = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class that a program has made


def class_of(value: object) -> Any:
    """Return the class of an object, also of a proxy, which presents itself as another one."""
    return type(value)


def attributes_of(value: object) -> dict[str, Any]:
    """Return the attributes that an object has by itself, in its dictionary and its slots."""
    attributes: dict[str, Any] = dict(getattr(value, "__dict__", {}))
    for name, slot in _slots(class_of(value)):
        try:
            attributes[name] = slot.__get__(value)
        except AttributeError:
            pass
    return attributes


@functools.lru_cache(maxsize=256)
def _slots(kind: type) -> tuple[tuple[str, types.MemberDescriptorType], ...]:
    """Return the slots that a class has, and the classes that it inherits from, if a program has made them."""
    return tuple(
        (name, slot)
        for base in kind.__mro__
        if base.__flags__ & _HEAP_TYPE
        for name, slot in vars(base).items()
        if isinstance(slot, types.MemberDescriptorType)
    )


def is_dict(value: object) -> TypeGuard[dict[Any, Any]]:
    """Return whether a value is a dictionary of any kind."""
    return isinstance(value, dict)


def is_sequence(value: object) -> TypeGuard[list[Any] | tuple[Any, ...] | deque[Any]]:
    """Return whether a value is a list, a tuple or a deque of any kind."""
    return isinstance(value, (list, tuple, deque))


def is_set(value: object) -> TypeGuard[AbstractSet[Any]]:
    """Return whether a value is a set or a frozen set of any kind."""
    return isinstance(value, (set, frozenset))


def is_scalar(value: object) -> bool:
    """Return whether a value consists of nothing."""
    return type(value) in _SCALARS


def is_atomic(value: object) -> bool:
    """Return whether a value consists of nothing that can change."""
    return is_scalar(value) or (type(value) in (tuple, frozenset) and all(map(is_atomic, cast(Any, value))))


def is_raw(value: Any) -> bool:
    """Return whether a value is found as it is where it is shared: what is done with it is not noted."""
    kind = class_of(value)
    if kind in _SCALARS or isinstance(value, _RAW):
        return True
    return kind.__module__.partition(".")[0].lstrip("_") in _SEEN_ANYWAY or _is_sentinel(value, kind)


def _is_sentinel(value: Any, kind: type) -> bool:
    """Return whether an object is there to be compared by `is`: it has no state, and a name in its module."""
    if kind.__basicsize__ > _Empty.__basicsize__ or getattr(value, "__dict__", None):
        return False
    module = sys.modules.get(kind.__module__)
    return module is not None and any(value is each for each in list(vars(module).values()))


class _Empty:
    pass
