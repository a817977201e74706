"""The base of the proxies, and how they note what is read and written.

An object has a key, which is the same in every run, and parts: its attributes and its items. What touches one part
meets what touches the same part, or all of them. What touches it in a way that is not known meets all that is shared.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable
from enum import Enum
from typing import Any, Final, Protocol, TypeAlias

Key: TypeAlias = Hashable
"""Identifies an object in every run."""

_OTHER: Final = ("other",)
"""The label of every item whose key might not be equal in another run."""

_LABELS: Final = frozenset((str, int, bool, bytes, type(None)))

_ALL_READS: Final = "shared, reads"
_ALL_WRITES: Final = "shared, writes"


class Space(Protocol):
    """The shared objects of one run."""

    touch: Callable[[Hashable, Any], object]

    def wrap(self, value: Any, key: Key) -> Any:
        """Return the proxy of an object that was found in another one. *key* names it if it has no key yet."""

    def attach(self, value: Any, key: Key) -> Any:
        """Return what to store in a shared object for a value, which may be a proxy."""


class Proxy:
    """Stands in for an object, and notes what is done with it.

    Each object has one proxy in a run, which is equal to it and has its class for `isinstance`.
    """

    __slots__ = ("__weakref__", "_self_key", "_self_object", "_self_space")

    _self_object: Any
    _self_key: Key
    _self_space: Space

    def __eq__(self, other: object) -> Any:
        return True if object_of(self) is unwrapped(other) else NotImplemented

    def __hash__(self) -> int:
        return hash(object_of(self))

    def __copy__(self) -> Any:
        reads_everything(self)  # what the copy consists of is still shared
        return space_of(self).wrap(copy.copy(object_of(self)), part(self, "copy"))

    def __deepcopy__(self, memo: Any) -> Any:
        reads_everything(self)
        return copy.deepcopy(object_of(self), memo)

    def __reduce_ex__(self, protocol: Any) -> Any:
        reads_everything(self)
        return object_of(self).__reduce_ex__(protocol)


object_of: Final[Callable[[Proxy], Any]] = Proxy.__dict__["_self_object"].__get__
key_of: Final[Callable[[Proxy], Key]] = Proxy.__dict__["_self_key"].__get__
space_of: Final[Callable[[Proxy], Space]] = Proxy.__dict__["_self_space"].__get__


def make_proxy(kind: type[Proxy], value: Any, key: Key, space: Space) -> Proxy:
    """Make the proxy of an object."""
    proxy = object.__new__(kind)
    for name, given in (("_self_object", value), ("_self_key", key), ("_self_space", space)):
        object.__setattr__(proxy, name, given)
    return proxy


def is_proxy(value: object) -> bool:
    """Return whether a value is a proxy, whatever its class presents itself as."""
    return issubclass(type(value), Proxy)


def unwrapped(value: Any) -> Any:
    """Return the object behind a proxy, and any other value as it is."""
    return object_of(value) if is_proxy(value) else value


def label_of(key: object) -> Hashable:
    """Return what the item under this key has in common with items under equal keys, in every run."""
    kind = type(key)
    if kind in _LABELS or isinstance(key, Enum):
        return key
    if kind is float:
        return key if key == key else _OTHER  # a NaN
    if kind is tuple:
        labels = tuple(map(label_of, key))  # type: ignore[call-overload]
        return _OTHER if _OTHER in labels else labels
    return _OTHER


def part(proxy: Proxy, label: Hashable) -> Key:
    """Return the key of what is found in an object under a label, unless that has a key already."""
    return key_of(proxy), label


# One part of an object.


def reads(proxy: Proxy, label: Hashable) -> None:
    """Note that an attribute or an item is read."""
    touch, key = space_of(proxy).touch, key_of(proxy)
    touch((key, "part", label), "r")
    touch((key, "parts"), "r")
    touch(_ALL_READS, "r")


def writes(proxy: Proxy, label: Hashable) -> None:
    """Note that an attribute or an item is replaced or removed."""
    touch, key = space_of(proxy).touch, key_of(proxy)
    touch((key, "part", label), "w")
    touch((key, "whole"), "u")
    touch(_ALL_WRITES, "u")


def inserts(proxy: Proxy, label: Hashable) -> None:
    """Note that there is an item more. The order of two of these shows when the container is iterated."""
    touch, key = space_of(proxy).touch, key_of(proxy)
    touch((key, "part", label), "w")
    touch((key, "whole"), "w")
    touch(_ALL_WRITES, "u")


# All of its parts.


def reads_whole(proxy: Proxy) -> None:
    """Note that all parts of an object are read, or their number."""
    space_of(proxy).touch((key_of(proxy), "whole"), "r")
    space_of(proxy).touch(_ALL_READS, "r")


def writes_whole(proxy: Proxy) -> None:
    """Note that any part of an object may be written."""
    touch, key = space_of(proxy).touch, key_of(proxy)
    touch((key, "whole"), "w")
    touch((key, "parts"), "w")
    touch(_ALL_WRITES, "u")


# All that is shared.


def reads_everything(proxy: Proxy) -> None:
    """Note that any shared object may be read."""
    space_of(proxy).touch(_ALL_WRITES, "r")


def writes_everything(proxy: Proxy) -> None:
    """Note that any shared object may be written."""
    space_of(proxy).touch(_ALL_WRITES, "w")
    space_of(proxy).touch(_ALL_READS, "w")
