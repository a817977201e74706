"""Where a path such as `httpx:AsyncClient.send` leads: which function, and where it stands. Changes nothing."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any, NamedTuple, cast

from .._core.messages import nearest, safe_repr
from ..errors import FailpointUsageError

ABSENT: Any = object()
"""What stands where nothing stands."""

_IMMUTABLE = 1 << 8  # Py_TPFLAGS_IMMUTABLETYPE


class Path(NamedTuple):
    """`module:Class.method`, read."""

    module: str
    attributes: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.module}:{'.'.join(self.attributes)}"

    @property
    def dotted(self) -> str:
        """The failpoint's name where none is given."""
        return ".".join((self.module, *self.attributes))


class PathProblem(Exception):
    """What is wrong with a path, and at which index."""

    def __init__(self, problem: str, position: int) -> None:
        super().__init__(problem)
        self.position = position


def read_path(text: str) -> Path:
    """Read a path; raises `PathProblem`."""
    module, colon, function = text.partition(":")
    if not colon:
        meant = _with_colon(text)
        hint = f"; did you mean {meant!r}?" if meant else ""
        raise PathProblem(f"expected module:function, found no ':'{hint}", len(text))
    at = 0
    for side, what in ((module, "a module's name before ':'"), (function, "a function's name after ':'")):
        for part in side.split("."):
            if not part.isidentifier():
                found = f"found {part!r}" if part else "found none"
                raise PathProblem(f"expected {what}, {found}", at)
            at += len(part) + 1
    if module.partition(".")[0] == __name__.partition(".")[0]:
        raise PathProblem("the functions of this package cannot be instrumented", 0)
    return Path(module, tuple(function.split(".")))


def _with_colon(text: str) -> str | None:
    """The path that was meant by one with a dot for the colon, if that can be told."""
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
    """Where a function stands: under the name `attribute` in `owner`, a module or a class.

    `standing` is the very object that is in the owner's `__dict__`, `ABSENT` if what is `found` comes from elsewhere:
    from a base class, or out of a module's `__getattr__`.
    """

    owner: Any
    attribute: str
    standing: Any
    found: Any

    @property
    def function(self) -> Any:
        """What is called: of a class or static method its function."""
        return called(self.found)

    def put(self, thing: Any) -> None:
        """Have this stand there: `ABSENT` for nothing."""
        if thing is ABSENT:
            (type.__delattr__ if isinstance(self.owner, type) else delattr)(self.owner, self.attribute)
        else:  # past a metaclass, which may keep its classes from being changed
            (type.__setattr__ if isinstance(self.owner, type) else setattr)(self.owner, self.attribute, thing)

    def look(self) -> Any:
        """What stands there now."""
        return _own(self.owner, self.attribute)


def called(thing: Any) -> Any:
    """What is called by what stands somewhere: the function of a class or static method."""
    method: Any = thing
    return method.__func__ if isinstance(thing, (classmethod, staticmethod)) else thing


def _own(owner: Any, attribute: str) -> Any:
    return cast(Mapping[str, Any], vars(owner)).get(attribute, ABSENT)


def find_target(path: Path, module: Any) -> Target:
    """What the path leads to in its module; raises `FailpointUsageError` if that is no function to be replaced."""
    owner: Any = module
    for index, attribute in enumerate(path.attributes[:-1]):
        owner = _inner(path, index, owner, attribute)
    target = _target(path, owner)
    _check(path, target)
    return target


def _inner(path: Path, index: int, owner: Any, attribute: str) -> Any:
    """The class, or module, that the path goes through."""
    inner = getattr(owner, attribute, ABSENT)
    if inner is ABSENT:
        raise _nowhere(path, index, owner)
    if not isinstance(inner, (type, ModuleType)):
        here = _upto(path, index)
        cls = inner.__class__
        rest = ".".join(path.attributes[index + 1 :])
        raise FailpointUsageError(
            f"{str(path)!r}: {here} is no class, but an instance of {cls.__qualname__}; instrument the function where"
            f" its class has it{_did_you_mean_in(cls, rest)}"
        )
    return inner


def _target(path: Path, owner: Any) -> Target:
    attribute = path.attributes[-1]
    found: Any = ABSENT
    if not isinstance(owner, type):
        found = getattr(owner, attribute, ABSENT)  # some modules load a thing when it is asked for
    standing = _own(owner, attribute)
    if standing is not ABSENT:
        found = standing
    elif isinstance(owner, type):
        bases = cast(type[Any], owner).__mro__
        found = next((thing for base in bases if (thing := _own(base, attribute)) is not ABSENT), ABSENT)
    if found is ABSENT:
        raise _nowhere(path, len(path.attributes) - 1, owner)
    return Target(owner, attribute, standing, found)


def _check(path: Path, target: Target) -> None:
    function = target.function
    cls = function.__class__
    what = f"{str(path)!r} is no function, but"
    if isinstance(function, type):
        inits = [name for name in ("__init__", "__new__", "__call__") if inspect.isfunction(_static(function, name))]
        hint = f"; did you mean '{path}.{inits[0]}'?" if inits else ""
        raise FailpointUsageError(f"{what} a class: instrument one of its methods{hint}")
    if isinstance(function, ModuleType):
        raise FailpointUsageError(f"{what} a module: instrument one of its functions, '{function.__name__}:…'")
    if isinstance(function, (property, functools.cached_property)):
        raise FailpointUsageError(f"{what} a property: instrument a function that it calls")
    if not callable(function):
        raise FailpointUsageError(f"{what} {safe_repr(function)}, which cannot be called")
    if not (inspect.isroutine(function) or isinstance(function, functools.partial)):
        hint = _did_you_mean_in(cls, "__call__")
        raise FailpointUsageError(f"{what} an instance of {cls.__qualname__} that can be called{hint}")
    if isinstance(target.owner, type) and function is vars(object).get(target.attribute):
        raise FailpointUsageError(
            f"{str(path)!r} is what every object has, which behaves otherwise where a class has its own: instrument a"
            f" method of the class{_own_constructor(path, target.owner)}"
        )
    if cls is type(vars(dict)["fromkeys"]):
        raise FailpointUsageError(
            f"{str(path)!r} is a class method written in C, which nothing can stand in for: instrument a function that"
            " calls it"
        )
    if isinstance(target.owner, type) and target.owner.__flags__ & _IMMUTABLE:
        raise FailpointUsageError(
            f"{str(path)!r} is a method of a class written in C, which Python does not let anybody change: instrument"
            " the method of a subclass, or a Python function that calls it"
        )


def _own_constructor(path: Path, cls: type[Any]) -> str:
    own = [name for name in ("__init__", "__new__") if inspect.isfunction(_static(cls, name))]
    return f"; did you mean '{path.module}:{'.'.join((*path.attributes[:-1], own[0]))}'?" if own else ""


def _static(cls: type, name: str) -> Any:
    found = inspect.getattr_static(cls, name, None)
    return called(found)


def _nowhere(path: Path, index: int, owner: Any) -> FailpointUsageError:
    """What to raise where the path ends too soon: it names the nearest one."""
    attribute = path.attributes[index]
    before = f"{path.module}:{''.join(f'{part}.' for part in path.attributes[:index])}"
    near = next(_methods(owner, attribute), None) or nearest(attribute, dir(owner))
    meant = None if near is None else f"{before}{'.'.join((near, *path.attributes[index + 1 :]))}"
    if isinstance(owner, type) and hasattr(owner, attribute):
        meta = type(owner)
        return FailpointUsageError(
            f"{str(path)!r}: {attribute!r} is no method of the class, but one of its metaclass"
            f"{_did_you_mean_in(meta, attribute)}"
        )
    hint = "" if meant is None else f"; did you mean {meant!r}?"
    where = _upto(path, index - 1) if index else f"the module {path.module}"
    return FailpointUsageError(f"{str(path)!r}: there is no {attribute!r} in {where}{hint}")


def _methods(owner: Any, attribute: str) -> Iterator[str]:
    """What a name that was taken for a function is a method of."""
    for name, thing in list(vars(owner).items()) if isinstance(owner, ModuleType) else ():
        if isinstance(thing, type) and attribute in vars(thing):
            yield f"{name}.{attribute}"


def _upto(path: Path, index: int) -> str:
    return f"{path.module}:{'.'.join(path.attributes[: index + 1])}"


def _did_you_mean_in(cls: type[Any], rest: str) -> str:
    has = all(char not in cls.__qualname__ for char in "<>") and hasattr(cls, rest.partition(".")[0])
    return f"; did you mean '{cls.__module__}:{cls.__qualname__}.{rest}'?" if has else ""
