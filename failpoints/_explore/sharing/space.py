"""The shared objects of one run, their keys and their proxies."""

from __future__ import annotations

import types
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from typing import Any

from .containers import CONTAINERS
from .objects import proxy_class
from .proxy import Key, Proxy, is_proxy, label_of, make_proxy, unwrapped
from .values import attributes_of, class_of, is_dict, is_raw, is_sequence, is_set


class SharedObjects:
    """The objects that one run was given to share, and what they consist of.

    An object gets its key when it is first shared, or attached to one that is. So the key does not depend on the order
    in which tasks reach the object, and an object that is reached in two ways has one.

    Args:
        touch: Notes that the running task touches a resource.
    """

    def __init__(self, touch: Callable[[Hashable, Any], object]) -> None:
        self.touch = touch
        self.roots: dict[Any, Any] = {}  # what the scenario has given, by where it did
        self._keys: dict[int, tuple[Any, Key]] = {}  # by id, with the object, which is kept alive so that it stays that
        self._proxies: dict[int, Proxy] = {}

    def share(self, value: Any, key: Key) -> Any:
        """Return the proxy of an object that is given by the scenario."""
        value = unwrapped(value)
        if all(value is not each for each in self.roots.values()):
            self.roots[key] = value
        self._name(value, key)
        return self.wrap(value, key)

    def wrap(self, value: Any, key: Key) -> Any:
        """Return the proxy of an object that was found in another one. *key* names it if it has no key yet."""
        proxy = self._proxies.get(id(value))
        if proxy is not None:
            return proxy
        if is_proxy(value) or is_raw(value):
            return value
        if isinstance(value, types.MethodType):
            return types.MethodType(value.__func__, self.wrap(value.__self__, key))
        kind = class_of(value)
        if kind in (tuple, frozenset) or hasattr(kind, "_make"):  # or a named tuple
            return self._rebuilt(value, key)
        self._name(value, key)
        made = make_proxy(CONTAINERS.get(kind) or proxy_class(kind), value, self._keys[id(value)][1], self)
        self._proxies[id(value)] = made
        return made

    def attach(self, value: Any, key: Key) -> Any:
        """Return what to store in a shared object for a value, which may be a proxy."""
        value = unwrapped(value)
        self._name(value, key)
        return value

    def _rebuilt(self, value: Any, key: Key) -> Any:
        items = [self.wrap(item, (key, "item")) for item in value]
        if all(one is other for one, other in zip(items, value, strict=True)):
            return value
        return value._make(items) if hasattr(value, "_make") else class_of(value)(items)

    def _name(self, value: Any, key: Key) -> None:
        """Give keys to an object and all that it consists of, in an order that is the same in every run."""
        waiting = deque([(value, key)])
        while waiting:
            each, key = waiting.popleft()
            if is_proxy(each) or is_raw(each) or id(each) in self._keys:
                continue
            self._keys[id(each)] = each, key
            waiting.extend((unwrapped(child), (key, label)) for label, child in _children(each))


def _children(value: Any) -> Iterator[tuple[Hashable, Any]]:
    """Yield what an object consists of, with labels."""
    if is_dict(value):
        for key, child in list(value.items()):
            yield "key", key
            yield label_of(key), child
    elif is_sequence(value):
        yield from enumerate(value)
    elif is_set(value):  # which have no order
        yield from (("item", child) for child in value)
    elif isinstance(value, types.MethodType):
        yield "self", value.__self__
    yield from attributes_of(value).items()
