"""Frozen values: dataclasses that are as quick to make as any other class.

`dataclass(frozen=True, slots=True)` compiles the methods of each class when its module is imported, which takes longer
than everything else in a small module. These classes inherit their methods. Each writes its own `__slots__` and
`__init__`, which calls `set_field` for each field.
"""

from __future__ import annotations

import dataclasses
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any, NoReturn

set_field = object.__setattr__

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(*, frozen: bool) -> Any:
        """Make a subclass of `Value` a dataclass, for `dataclasses.replace`, `fields`, `asdict` and `match`."""

        def made(cls: type) -> type:
            # Made frozen here if it inherits from one that is, since `dataclasses` refuses the rest. It takes longer.
            inherits = any(dataclasses.is_dataclass(base) for base in cls.__mro__[1:])
            dataclasses.dataclass(init=False, repr=False, eq=False, frozen=inherits)(cls)
            # `Value` freezes it. `dataclasses` asks here whether a frozen dataclass may inherit from it.
            cls.__dataclass_params__.frozen = frozen
            return cls

        return made


class Value:
    """The base of frozen values, which are equal if they are of one class and all their fields are equal."""

    __slots__ = ()
    __match_args__: tuple[str, ...] = ()

    def _fields(self) -> list[Any]:
        return [getattr(self, name) for name in self.__match_args__]

    @recursive_repr()
    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__match_args__)
        return f"{type(self).__qualname__}({fields})"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Value) and type(other) is type(self):
            return self._fields() == other._fields()
        return NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self._fields()))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")

    # Otherwise copying and pickling would assign to the fields.

    def __getstate__(self) -> list[Any]:
        return self._fields()

    def __setstate__(self, state: list[Any]) -> None:
        for name, field in zip(self.__match_args__, state, strict=True):
            set_field(self, name, field)
