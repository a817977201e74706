"""Finding the function that a path such as `httpx:AsyncClient.send` leads to. Changes nothing."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any, NamedTuple, cast

from .._core.functions import is_method_object, makes_methods
from .._core.messages import nearest, safe_repr
from ..errors import FailpointUsageError

ABSENT: Any = object()
"""In place of an attribute that an object does not have."""

_IMMUTABLE = 1 << 8  # Py_TPFLAGS_IMMUTABLETYPE


class Path(NamedTuple):
    """A path `module:Class.method` in its parts."""

    module: str
    attributes: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.module}:{'.'.join(self.attributes)}"

    @property
    def dotted(self) -> str:
        """The name of the failpoint if none is given."""
        return ".".join((self.module, *self.attributes))


class PathProblem(Exception):
    """A problem with the text of a path, at an index."""

    def __init__(self, problem: str, position: int) -> None:
        super().__init__(problem)
        self.position = position


def parse_path(text: str) -> Path:
    """Parse the text of a path; raise `PathProblem`."""
    module, colon, function = text.partition(":")
    if not colon:
        meant = _with_colon(text)
        hint = f"; did you mean {meant!r}?" if meant else ""
        raise PathProblem(f"expected module:function, found no ':'{hint}", len(text))
    at = 0
    for side, what in ((module, "a module's name before ':'"), (function, "a function's name after ':'")):
        for part in side.split("."):
            if not part.isidentifier():
                found = f"found {part!r}" if part else "found nothing"
                raise PathProblem(f"expected {what}, {found}", at)
            at += len(part) + 1
    if module.partition(".")[0] == __name__.partition(".")[0]:
        raise PathProblem("the functions of this package cannot be instrumented", 0)
    return Path(module, tuple(function.split(".")))


def _with_colon(text: str) -> str | None:
    """Guess the path that is meant by one with a dot for the colon."""
    parts = text.split(".")
    if len(parts) < 2 or not all(map(str.isidentifier, parts)):
        return None
    classes = [index for index, part in enumerate(parts) if part[0].isupper()]
    split = classes[0] if classes else len(parts) - 1
    for count in range(len(parts) - 1, 0, -1):
        if ".".join(parts[:count]) in sys.modules:
            split = count
            break
    return f"{'.'.join(parts[:split])}:{'.'.join(parts[split:])}" if split else None


class Target(NamedTuple):
    """A function and where it is: the attribute of an owner, which is a module or a class.

    `found` is the function, class method or static method. `replaced` is the owner's own attribute: the same, or
    `ABSENT` if `found` comes from a base class or from a module's `__getattr__`.
    """

    owner: Any
    attribute: str
    replaced: Any
    found: Any

    @property
    def function(self) -> Any:
        """The function that a call runs: for a class or static method, the one inside."""
        return callable_of(self.found)

    def set(self, thing: Any) -> None:
        """Set the owner's attribute, or delete it for `ABSENT`."""
        if thing is ABSENT:
            (type.__delattr__ if isinstance(self.owner, type) else delattr)(self.owner, self.attribute)
        else:  # not by way of a metaclass, which may keep its classes from being changed
            (type.__setattr__ if isinstance(self.owner, type) else setattr)(self.owner, self.attribute, thing)

    def current(self) -> Any:
        """Return what the owner's attribute is now."""
        return _own_attribute(self.owner, self.attribute)


def callable_of(thing: Any) -> Any:
    """Return the function inside a class or static method, and anything else as it is."""
    method: Any = thing
    return method.__func__ if is_method_object(thing) else thing


def _own_attribute(owner: Any, attribute: str) -> Any:
    return cast(Mapping[str, Any], vars(owner)).get(attribute, ABSENT)


def find_target(path: Path, module: Any) -> Target:
    """Find the function that *path* leads to in its module; raise `FailpointUsageError` if it cannot be replaced."""
    owner: Any = module
    for index, attribute in enumerate(path.attributes[:-1]):
        owner = _inner_owner(path, index, owner, attribute)
    target = _find(path, owner)
    _check_replaceable(path, target)
    return target


def _inner_owner(path: Path, index: int, owner: Any, attribute: str) -> Any:
    """Return the class or module that the path passes through."""
    inner = getattr(owner, attribute, ABSENT)
    if inner is ABSENT:
        raise _not_found(path, index, owner)
    if not isinstance(inner, (type, ModuleType)):
        here = _up_to(path, index)
        cls = inner.__class__
        rest = ".".join(path.attributes[index + 1 :])
        raise FailpointUsageError(
            f"{str(path)!r}: {here} is not a class but an instance of {cls.__qualname__}; instrument the function in"
            f" its class{_did_you_mean_in(cls, rest)}",
            code="FP021",
        )
    return inner


def _find(path: Path, owner: Any) -> Target:
    attribute = path.attributes[-1]
    found: Any = ABSENT
    if not isinstance(owner, type):
        found = getattr(owner, attribute, ABSENT)  # first: some modules load an attribute when it is asked for
    replaced = _own_attribute(owner, attribute)
    if replaced is not ABSENT:
        found = replaced
    elif isinstance(owner, type):
        bases = cast(type[Any], owner).__mro__
        found = next((thing for base in bases if (thing := _own_attribute(base, attribute)) is not ABSENT), ABSENT)
    if found is ABSENT:
        raise _not_found(path, len(path.attributes) - 1, owner)
    return Target(owner, attribute, replaced, found)


def _check_replaceable(path: Path, target: Target) -> None:
    function = target.function
    cls = function.__class__
    what = f"{str(path)!r} is not a function but"
    if isinstance(function, type):
        constructor = _constructor_in_python(function, "__init__", "__new__", "__call__")
        hint = f"; did you mean '{path}.{constructor}'?" if constructor else ""
        raise FailpointUsageError(f"{what} a class: instrument one of its methods{hint}", code="FP021")
    if isinstance(function, ModuleType):
        raise FailpointUsageError(
            f"{what} a module: instrument one of its functions, '{function.__name__}:…'", code="FP021"
        )
    if isinstance(function, (property, functools.cached_property)):
        raise FailpointUsageError(f"{what} a property: instrument a function that it calls", code="FP021")
    if not callable(function) and not makes_methods(function):
        raise FailpointUsageError(f"{what} {safe_repr(function)}, which cannot be called", code="FP021")
    if not (inspect.isroutine(function) or isinstance(function, functools.partial)):
        hint = _did_you_mean_in(cls, "__call__")
        raise FailpointUsageError(f"{what} a callable instance of {cls.__qualname__}{hint}", code="FP021")
    if isinstance(target.owner, type) and function is vars(object).get(target.attribute):
        constructor = _constructor_in_python(target.owner, "__init__", "__new__")
        method = ".".join((*path.attributes[:-1], constructor or ""))
        hint = f"; did you mean '{path.module}:{method}'?" if constructor else ""
        raise FailpointUsageError(
            f"{str(path)!r} is the method of object, which behaves differently once a class has its own: instrument a"
            f" method of the class{hint}",
            code="FP021",
        )
    if cls is type(vars(dict)["fromkeys"]):
        raise FailpointUsageError(
            f"{str(path)!r} is a class method written in C, which cannot be wrapped: instrument a function that calls"
            " it",
            code="FP021",
        )
    if isinstance(target.owner, type) and target.owner.__flags__ & _IMMUTABLE:
        raise FailpointUsageError(
            f"{str(path)!r} is a method of a class written in C, which Python does not allow to be changed: instrument"
            " the method of a subclass, or a Python function that calls it",
            code="FP021",
        )


def _constructor_in_python(cls: type[Any], *names: str) -> str | None:
    """Return the first of these methods of the class that is written in Python."""
    methods = ((name, callable_of(inspect.getattr_static(cls, name, None))) for name in names)
    return next((name for name, method in methods if inspect.isfunction(method)), None)


def _not_found(path: Path, index: int, owner: Any) -> FailpointUsageError:
    """Make the error for a path with an attribute that its owner does not have. It suggests the nearest one."""
    attribute = path.attributes[index]
    if isinstance(owner, type) and hasattr(owner, attribute):
        return FailpointUsageError(
            f"{str(path)!r}: {attribute!r} is not a method of the class but of its metaclass"
            f"{_did_you_mean_in(type(owner), attribute)}",
            code="FP021",
        )
    near = next(_classes_with(owner, attribute), None) or nearest(attribute, dir(owner))
    before = f"{path.module}:{''.join(f'{part}.' for part in path.attributes[:index])}"
    hint = "" if near is None else f"; did you mean {before + '.'.join((near, *path.attributes[index + 1 :]))!r}?"
    where = _up_to(path, index - 1) if index else f"the module {path.module}"
    return FailpointUsageError(f"{str(path)!r}: there is no {attribute!r} in {where}{hint}", code="FP021")


def _classes_with(owner: Any, method: str) -> Iterator[str]:
    """Yield `Class.method` for the classes of a module that have a method of this name."""
    for name, thing in list(vars(owner).items()) if isinstance(owner, ModuleType) else ():
        if isinstance(thing, type) and method in vars(thing):
            yield f"{name}.{method}"


def _up_to(path: Path, index: int) -> str:
    return f"{path.module}:{'.'.join(path.attributes[: index + 1])}"


def _did_you_mean_in(cls: type[Any], rest: str) -> str:
    """Suggest *rest* in a class, if the class can be imported and has it."""
    has = all(char not in cls.__qualname__ for char in "<>") and hasattr(cls, rest.partition(".")[0])
    return f"; did you mean '{cls.__module__}:{cls.__qualname__}.{rest}'?" if has else ""
