"""The proxies of objects: those whose methods run with the proxy as `self`, and those whose methods cannot.

The methods of a class that is written in Python get the proxy, so what they read and write is noted. Those of a class
that is written in C, or inherits from one, need the object itself. Each such call counts as writing all that is shared.
"""

from __future__ import annotations

import abc
import functools
import types
import typing
from collections.abc import Callable, Generator
from typing import Any, Final, cast

from .proxy import (
    Proxy,
    key_of,
    object_of,
    part,
    reads,
    reads_everything,
    reads_whole,
    space_of,
    unwrapped,
    writes,
    writes_everything,
)
from .values import class_of

_MISSING: Any = object()

_C_METHODS: Final = (
    *(types.WrapperDescriptorType, types.MethodDescriptorType, types.ClassMethodDescriptorType),
    types.GetSetDescriptorType,
)

_HARMLESS: Final = frozenset((object, typing.Generic, typing.Protocol, types.SimpleNamespace))
"""Classes written in C that have no state but attributes."""

_METACLASSES: Final = (type, abc.ABCMeta, type(typing.Protocol))
"""The classes of classes whose objects are known to be no more than their attributes."""

_ARITHMETIC: Final = "add sub mul matmul truediv floordiv mod divmod pow lshift rshift and xor or"
_SPECIAL: Final = frozenset(
    f"__{name}__"
    for names in (
        "call len length_hint bool hash eq ne lt le gt ge repr str format bytes int float complex index fspath",
        "getitem setitem delitem contains iter next reversed missing round trunc floor ceil neg pos abs invert",
        "enter exit aenter aexit await aiter anext instancecheck subclasscheck buffer release_buffer dir",
        *(f"{prefix}{f' {prefix}'.join(_ARITHMETIC.split())}" for prefix in ("", "r", "i")),
    )
    for name in names.split()
)
"""The methods that Python looks up in the class of an object. Others are found through the proxy."""

_ONLY_READ: Final = frozenset(
    (
        *("__len__", "__bool__", "__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__hash__", "__repr__"),
        *("__str__", "__format__", "__contains__", "__int__", "__float__", "__index__", "__bytes__", "__dir__"),
    )
)


def class_attribute(kind: type, name: str) -> Any:
    """Return what a class or its bases define under a name, as it is there."""
    return next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), _MISSING)


def runs_with_proxy(kind: type) -> bool:
    """Return whether the methods of a class can run with a proxy as `self`."""
    bases = [base for base in kind.__mro__ if base not in _HARMLESS]
    if type(kind) not in _METACLASSES or any("__getattribute__" in vars(base) for base in bases):
        return False
    return not any(
        isinstance(value, _C_METHODS) and name not in ("__dict__", "__weakref__") and not _is_of_object(value)
        for base in bases
        for name, value in vars(base).items()
    )


def _is_of_object(value: object) -> bool:
    return any(value is each for each in vars(object).values())


class _Kind(type):
    """The class of the classes of proxies, which behave as the classes that they stand for."""

    _self_kind: type

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:  # type(self)(…), in a method
        return cls._self_kind(*args, **kwargs)

    def __getattr__(cls, name: str) -> Any:
        return getattr(cls._self_kind, name)

    def __setattr__(cls, name: str, value: Any) -> None:
        setattr(cls._self_kind, name, value)

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, cls._self_kind)


class ObjectProxy(Proxy, metaclass=_Kind):
    """The proxy of an object whose class is written in Python."""

    __slots__ = ()
    _self_kind = object

    def __getattribute__(self, name: str) -> Any:
        value = object_of(self)
        kind = class_of(value)
        if name == "__class__":
            return kind
        if name == "__dict__":  # its items are the attributes
            return space_of(self).wrap(value.__dict__, key_of(self))
        found = class_attribute(kind, name)
        described = class_of(found)
        if described is types.MemberDescriptorType:  # a slot
            reads(self, name)
            return space_of(self).wrap(found.__get__(value, kind), part(self, name))
        is_data = hasattr(described, "__set__") or hasattr(described, "__delete__")
        if is_data and not isinstance(found, _C_METHODS):  # a property
            return found.__get__(self, kind)
        reads(self, name)
        attributes = getattr(value, "__dict__", {})
        if name in attributes:
            return space_of(self).wrap(attributes[name], part(self, name))
        if isinstance(found, _C_METHODS):
            return getattr(value, name)
        if hasattr(described, "__get__"):
            return found.__get__(self, kind)
        if found is not _MISSING:
            return found if name.startswith("__") else space_of(self).wrap(found, part(self, name))
        fallback = class_attribute(kind, "__getattr__")
        return getattr(value, name) if fallback is _MISSING else fallback.__get__(self, kind)(name)

    def __setattr__(self, name: str, given: Any) -> None:
        value = object_of(self)
        kind = class_of(value)
        found = class_attribute(kind, name)
        if class_attribute(kind, "__setattr__") is not object.__setattr__:
            writes_everything(self)
            setattr(value, name, unwrapped(given))
        elif hasattr(class_of(found), "__set__") and not isinstance(found, types.MemberDescriptorType):
            found.__set__(self, given)
        else:
            writes(self, name)
            setattr(value, name, space_of(self).attach(given, part(self, name)))

    def __delattr__(self, name: str) -> None:
        value = object_of(self)
        kind = class_of(value)
        found = class_attribute(kind, name)
        if class_attribute(kind, "__delattr__") is not object.__delattr__:
            writes_everything(self)
            delattr(value, name)
        elif hasattr(class_of(found), "__delete__") and not isinstance(found, types.MemberDescriptorType):
            found.__delete__(self)
        else:
            writes(self, name)
            delattr(value, name)

    def __repr__(self) -> str:
        return repr(object_of(self))

    def __dir__(self) -> list[str]:
        reads_whole(self)
        return dir(object_of(self))


class OpaqueProxy(Proxy, metaclass=_Kind):
    """The proxy of an object of which it is not known what its methods do."""

    __slots__ = ()
    _self_kind = object

    def __getattribute__(self, name: str) -> Any:
        value = object_of(self)
        if name == "__class__":
            return class_of(value)
        is_stored = name in getattr(value, "__dict__", ())
        reads_everything(self) if is_stored else writes_everything(self)  # a property may do anything
        found = getattr(value, name)
        is_method = callable(found) and getattr(found, "__self__", None) is value
        return _opaque_method(self, found) if is_method else space_of(self).wrap(found, part(self, name))

    def __setattr__(self, name: str, given: Any) -> None:
        writes_everything(self)
        setattr(object_of(self), name, unwrapped(given))

    def __delattr__(self, name: str) -> None:
        writes_everything(self)
        delattr(object_of(self), name)

    def __repr__(self) -> str:
        reads_everything(self)
        return repr(object_of(self))


@functools.lru_cache(maxsize=256)
def proxy_class(kind: type) -> type[Proxy]:
    """Return the class of the proxies for objects of a class, with the special methods that this has."""
    base: Any = ObjectProxy if runs_with_proxy(kind) else OpaqueProxy
    make = _forwarding if base is ObjectProxy else _opaque

    def new(_: type, *args: Any, **kwargs: Any) -> Any:  # cls.__new__(cls), in a method that makes a copy
        return cast(Any, kind).__new__(kind, *args, **kwargs)

    methods: dict[str, Any] = {"__slots__": (), "_self_kind": kind, "__module__": kind.__module__, "__new__": new}
    inherited: dict[str, Any] = dict(vars(object)) if base is ObjectProxy else {}
    for each in reversed(kind.__mro__[:-1]):
        for name in vars(each):
            if name in _SPECIAL:
                found = class_attribute(kind, name)
                if found is None:
                    methods[name] = None
                elif found is not inherited.get(name):
                    methods[name] = make(name)
    return cast(type[Proxy], type.__new__(_Kind, kind.__name__, (base,), methods))


def _forwarding(name: str) -> Any:
    def forward(self: Proxy, *args: Any, **kwargs: Any) -> Any:
        value = object_of(self)
        found = class_attribute(class_of(value), name)
        if isinstance(found, _C_METHODS):
            reads_everything(self)
            return found.__get__(value, class_of(value))(*map(unwrapped, args), **kwargs)
        return found.__get__(self, class_of(value))(*args, **kwargs)

    return forward


def _opaque(name: str) -> Any:
    def forward(self: Proxy, *args: Any, **kwargs: Any) -> Any:
        value = object_of(self)
        method = class_attribute(class_of(value), name).__get__(value, class_of(value))
        if name in _ONLY_READ:
            reads_everything(self)
            return method(*map(unwrapped, args), **kwargs)
        return _opaque_method(self, method)(*args, **kwargs)

    return forward


def _opaque_method(proxy: Proxy, method: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        writes_everything(proxy)
        result = method(*map(unwrapped, args), **{name: unwrapped(value) for name, value in kwargs.items()})
        if hasattr(class_of(result), "__await__"):
            return _step_by_step(proxy, result)
        return space_of(proxy).wrap(result, part(proxy, "result"))

    return call


async def _step_by_step(proxy: Proxy, awaitable: Any) -> Any:
    result = await _Stepping(proxy, awaitable)
    return space_of(proxy).wrap(result, part(proxy, "result"))


class _Stepping:
    """Awaits what an opaque method has returned. Each step of it may write all that is shared."""

    def __init__(self, proxy: Proxy, awaitable: Any) -> None:
        self._proxy = proxy
        self._awaitable = awaitable

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self._awaitable.__await__()
        writes_everything(self._proxy)
        try:
            yielded = next(steps)
            while True:
                try:
                    sent = yield yielded
                except BaseException as error:
                    writes_everything(self._proxy)
                    yielded = steps.throw(error)
                else:
                    writes_everything(self._proxy)
                    yielded = steps.send(sent) if sent is not None else next(steps)
        except StopIteration as stop:
            return stop.value
