"""The wrapper around a decorated function whose code cannot be exchanged."""

from __future__ import annotations

from typing import Any, cast

from .._core.switches import Flag
from .decorated import Decorated, decorated
from .wrapper import Wrapper


class DecoratedWrapper(Wrapper):
    """Takes the place of a decorated function whose code cannot be exchanged."""

    def __init__(self, function: Any, visits: Decorated) -> None:
        armed = Flag(visits.site.name, visits.source_code)
        super().__init__(function, visits.call, armed, binds=hasattr(function, "__get__"))
        self._self_given = function, visits.site

    def __set_name__(self, owner: type, name: str) -> None:
        if name in ("__init_subclass__", "__class_getitem__"):  # Python makes class methods of plain functions only
            setattr(owner, name, classmethod(self))
        cast(Any, super()).__set_name__(owner, name)

    def __reduce_ex__(self, protocol: Any) -> Any:  # pickled as a function is, by its name
        function: Any = self.__wrapped__
        return getattr(function, "__qualname__", None) or (decorated, self._self_given)
