"""The proxies of Python's own containers, which note what is done item by item where they can."""

from __future__ import annotations

import operator
from collections import OrderedDict, defaultdict, deque
from collections.abc import (
    Callable,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    MutableMapping,
    MutableSequence,
    MutableSet,
    ValuesView,
)
from typing import Any, Final, Self

from .proxy import (
    Proxy,
    inserts,
    is_proxy,
    label_of,
    object_of,
    part,
    reads,
    reads_everything,
    reads_whole,
    space_of,
    unwrapped,
    writes,
    writes_whole,
)
from .values import class_of, is_atomic, is_dict, is_set


class Container(Proxy):
    """The proxy of a container: what does not depend on its kind."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]
    _self_kind: Callable[..., Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:  # type(items)(…), as `dataclasses.asdict` has it
        return cls._self_kind(*args, **kwargs)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return class_of(object_of(self))

    def __getattr__(self, name: str) -> Any:  # such as the `maxlen` of a deque, or the `move_to_end` of an OrderedDict
        reads_whole(self)
        value = getattr(object_of(self), name)
        return _mutating(name).__get__(self) if callable(value) else value

    def __len__(self) -> int:
        reads_whole(self)
        return len(object_of(self))

    def __iter__(self) -> Iterator[Any]:
        return self._self_iterate(iter)

    def __reversed__(self) -> Iterator[Any]:
        return self._self_iterate(reversed)

    def _self_iterate(self, begin: Callable[[Any], Iterator[Any]]) -> Iterator[Any]:
        reads_whole(self)
        for item in begin(object_of(self)):
            yield space_of(self).wrap(item, part(self, "item"))
            reads_whole(self)  # in the step that goes on with the iteration

    def __repr__(self) -> str:
        _reads_deeply(self)
        return repr(object_of(self))

    def __contains__(self, item: object) -> bool:
        _reads_deeply(self)
        return unwrapped(item) in object_of(self)

    def __eq__(self, other: object) -> bool:
        _reads_deeply(self)
        if is_proxy(other):
            _reads_deeply(other)
        return bool(object_of(self) == unwrapped(other))

    def copy(self) -> Any:
        """Return a copy that is not shared. What is in it still is."""
        reads_whole(self)
        copied = object_of(self).copy()
        wrap = space_of(self).wrap
        if is_dict(copied):
            copied.update({key: wrap(value, part(self, label_of(key))) for key, value in copied.items()})
            return copied
        items = [wrap(item, part(self, "item")) for item in copied]
        return deque(items, copied.maxlen) if isinstance(copied, deque) else type(copied)(items)

    __copy__ = copy


def _reads_deeply(proxy: Any) -> None:
    """Note that all items are read, and what they consist of."""
    reads_whole(proxy)
    items = object_of(proxy) if isinstance(proxy, Container) else [object_of(proxy)]
    values = items.values() if is_dict(items) else ()
    if not (all(map(is_atomic, items)) and all(map(is_atomic, values))):
        reads_everything(proxy)


def _copied(value: Any) -> Any:
    """Return a copy of a shared container, since C functions want the container itself."""
    return value.copy() if issubclass(type(value), Container) else value


def _computing(name: str) -> Any:
    """Make a method that makes something new of the items."""

    def compute(self: Container, *args: Any) -> Any:
        return getattr(self.copy(), name)(*map(_copied, args))

    return compute


def _comparing(name: str) -> Any:
    """Make a method that compares the items, and what they consist of."""

    def compare(self: Container, *args: Any) -> Any:
        _reads_deeply(self)
        return getattr(object_of(self), name)(*map(_copied, args))

    return compare


def _mutating(name: str) -> Any:
    """Make a method that may change any item, and gets no items to add."""

    def mutate(self: Container, *args: Any, **kwargs: Any) -> Any:
        writes_whole(self)
        result = getattr(object_of(self), name)(*map(_copied, args), **kwargs)
        return self if result is object_of(self) else space_of(self).wrap(result, part(self, "item"))

    return mutate


def _adding(name: str) -> Any:
    """Make a method that may change any item, and adds those of its last argument."""

    def add(self: Container, *args: Any) -> Any:
        *where, items = args
        attached = [space_of(self).attach(item, part(self, "item")) for item in items]
        writes_whole(self)
        result = getattr(object_of(self), name)(*where, attached)
        return self if result is object_of(self) else result

    return add


class DictProxy(Container):
    """The proxy of a `dict`, a `defaultdict` or an `OrderedDict`."""

    __slots__ = ()
    _self_kind = dict

    def __contains__(self, key: object) -> bool:
        _reads_item(self, key)
        return unwrapped(key) in object_of(self)

    def __getitem__(self, key: Any) -> Any:
        items, key, label = object_of(self), unwrapped(key), label_of(key)
        is_inserted = isinstance(items, defaultdict) and items.default_factory is not None and key not in items
        inserts(self, label) if is_inserted else _reads_item(self, key)
        return space_of(self).wrap(items[key], part(self, label))

    def __setitem__(self, key: Any, value: Any) -> None:
        items, key, label = object_of(self), unwrapped(key), label_of(key)
        writes(self, label) if key in items else inserts(self, label)
        items[key] = space_of(self).attach(value, part(self, label))

    def __delitem__(self, key: Any) -> None:
        writes(self, label_of(key))
        del object_of(self)[unwrapped(key)]

    def get(self, key: Any, default: Any = None) -> Any:
        known = key in self
        return self[key] if known else default

    def setdefault(self, key: Any, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def pop(self, key: Any, *default: Any) -> Any:
        if key in self:
            writes(self, label_of(key))
        return space_of(self).wrap(object_of(self).pop(unwrapped(key), *default), part(self, label_of(key)))

    def popitem(self, **options: Any) -> Any:
        writes_whole(self)
        key, value = object_of(self).popitem(**options)
        return key, space_of(self).wrap(value, part(self, label_of(key)))

    def update(self, *given: Any, **more: Any) -> None:
        for key, value in dict(*given, **more).items():
            self[key] = value

    def __ior__(self, other: Any) -> Self:  # type: ignore[misc]
        self.update(other)
        return self

    def keys(self) -> KeysView[Any]:
        return KeysView(self)

    def values(self) -> ValuesView[Any]:
        return ValuesView(self)

    def items(self) -> ItemsView[Any, Any]:
        return ItemsView(self)

    clear = _mutating("clear")
    __or__ = _computing("__or__")
    __ror__ = _computing("__ror__")


class SetProxy(Container):
    """The proxy of a `set`."""

    __slots__ = ()
    _self_kind = set

    def __contains__(self, item: object) -> bool:
        _reads_item(self, item)
        return unwrapped(item) in object_of(self)

    def add(self, item: Any) -> None:
        if item not in self:
            inserts(self, label_of(unwrapped(item)))
            object_of(self).add(space_of(self).attach(item, part(self, "item")))

    def remove(self, item: Any) -> None:
        if item in self:
            writes(self, label_of(unwrapped(item)))
        object_of(self).remove(unwrapped(item))

    def discard(self, item: Any) -> None:
        if item in self:
            self.remove(item)

    def update(self, *given: Iterable[Any]) -> None:
        for items in given:
            for item in list(items):
                self.add(item)

    def __ior__(self, other: Any) -> Self:
        if not is_set(other):
            return NotImplemented
        self.update(other)
        return self


class _Sequence(Container):
    """What the proxies of a `list` and of a `deque` have in common."""

    __slots__ = ()

    def __getitem__(self, index: Any) -> Any:
        items = object_of(self)
        if isinstance(index, slice):
            return self.copy()[index]
        index = operator.index(index)
        reads(self, index) if index >= 0 else reads_whole(self)
        return space_of(self).wrap(items[index], part(self, "item"))

    def __setitem__(self, index: Any, value: Any) -> None:
        items, attach = object_of(self), space_of(self).attach
        if isinstance(index, slice):
            attached = [attach(each, part(self, "item")) for each in value]
            writes_whole(self)
            items[index] = attached
            return
        index = operator.index(index)
        writes(self, index) if index >= 0 else writes_whole(self)
        items[index] = attach(value, part(self, "item"))

    def append(self, item: Any) -> None:
        items = object_of(self)
        if len(items) == getattr(items, "maxlen", None):
            writes_whole(self)  # the first item is lost
        inserts(self, len(items))
        items.append(space_of(self).attach(item, part(self, "item")))

    def insert(self, index: Any, item: Any) -> None:
        writes_whole(self)
        object_of(self).insert(index, space_of(self).attach(item, part(self, "item")))

    extend = _adding("extend")
    __iadd__ = _adding("__iadd__")


class ListProxy(_Sequence):
    """The proxy of a `list`."""

    __slots__ = ()
    _self_kind = list

    def sort(self, **options: Any) -> None:
        ordered = sorted(self, **options)
        writes_whole(self)
        object_of(self)[:] = map(unwrapped, ordered)

    def __radd__(self, other: Any) -> Any:
        return other + self.copy()


class DequeProxy(_Sequence):
    """The proxy of a `deque`."""

    __slots__ = ()
    _self_kind = deque

    def appendleft(self, item: Any) -> None:
        writes_whole(self)
        object_of(self).appendleft(space_of(self).attach(item, part(self, "item")))

    extendleft = _adding("extendleft")


def _reads_item(proxy: Container, item: Any) -> None:
    """Note that the item, or the key, is looked up. Comparing objects may read what they consist of."""
    reads(proxy, label_of(unwrapped(item)))
    if not is_atomic(item):
        reads_everything(proxy)


def _add_methods(kind: type, make: Callable[[str], Any], names: str) -> None:
    for name in names.split():
        setattr(kind, name, make(name))


_add_methods(SetProxy, _mutating, "pop clear __iand__ __isub__ __ixor__")
_add_methods(SetProxy, _mutating, "intersection_update difference_update symmetric_difference_update")
_add_methods(SetProxy, _computing, "union intersection difference symmetric_difference issubset issuperset isdisjoint")
_add_methods(SetProxy, _computing, "__or__ __and__ __sub__ __xor__ __ror__ __rand__ __rsub__ __rxor__")
_add_methods(SetProxy, _comparing, "__lt__ __le__ __gt__ __ge__")
_add_methods(_Sequence, _mutating, "pop remove reverse clear __delitem__ __imul__")
_add_methods(_Sequence, _computing, "__add__ __mul__ __rmul__")
_add_methods(_Sequence, _comparing, "index count __lt__ __le__ __gt__ __ge__")
_add_methods(DequeProxy, _mutating, "popleft rotate")

# So that `match` and `isinstance` know them as what they stand for.
abc: Any
for abc, kind in ((MutableMapping, DictProxy), (MutableSet, SetProxy), (MutableSequence, _Sequence)):
    abc.register(kind)

CONTAINERS: Final[dict[type, type[Container]]] = {
    dict: DictProxy,
    defaultdict: DictProxy,
    OrderedDict: DictProxy,
    set: SetProxy,
    list: ListProxy,
    deque: DequeProxy,
}
