"""Texts that are equal if two states are: to compare what two runs have left behind."""

from __future__ import annotations

import types
from collections.abc import Iterable
from typing import Any

from ..._core.messages import without_addresses
from .proxy import is_proxy, object_of, reads_everything
from .values import attributes_of, class_of, is_dict, is_raw, is_scalar, is_sequence, is_set


def snapshot(value: Any) -> str:
    """Describe a value and all that it consists of, without addresses, and without the order of what has none."""
    return _described(_behind(value), {})


def _behind(value: Any) -> Any:
    if not is_proxy(value):
        return value
    reads_everything(value)
    return object_of(value)


def _described(value: Any, around: dict[int, int]) -> str:
    kind = class_of(value)
    if is_scalar(value):
        return without_addresses(repr(value))
    if isinstance(value, BaseException):
        return f"{kind.__qualname__}({', '.join(_described(_behind(each), around) for each in value.args)})"
    if is_raw(value):
        return _named(value, kind)
    if id(value) in around:
        return f"<{len(around) - around[id(value)]} up>"  # it contains itself
    around = {**around, id(value): len(around)}

    def described(each: object) -> str:
        return _described(_behind(each), around)

    attributes = ", ".join(f"{name}={described(each)}" for name, each in sorted(attributes_of(value).items()))
    if is_dict(value):
        items = value.items()
        inside = f"{{{', '.join(sorted(f'{described(key)}: {described(each)}' for key, each in items))}}}"
    elif is_set(value):
        inside = f"{{{', '.join(sorted(map(described, value)))}}}"
    elif is_sequence(value):
        inside = f"[{', '.join(map(described, value))}]" if kind is not tuple else _in_tuple(map(described, value))
    elif attributes or isinstance(kind.__repr__, types.FunctionType) or "__repr__" not in _defined(kind):
        inside = ""
    else:  # an object of a class written in C
        inside = without_addresses(repr(value))
    if kind in (dict, list, set, tuple):
        return inside
    return f"{kind.__qualname__}({', '.join(filter(None, (inside, attributes)))})"


def _defined(kind: type) -> set[str]:
    return {name for base in kind.__mro__[:-1] for name in vars(base)}


def _in_tuple(items: Iterable[str]) -> str:
    texts = list(items)
    return f"({', '.join(texts)}{',' if len(texts) == 1 else ''})"


def _named(value: Any, kind: type) -> str:
    name = getattr(value, "__qualname__", None)
    return f"<{name}>" if isinstance(name, str) else f"<{kind.__module__}.{kind.__qualname__}>"
