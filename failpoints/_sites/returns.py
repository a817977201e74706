"""What the source of a function returns, and what the names in it stand for. Nothing is evaluated."""

from __future__ import annotations

import ast
import builtins
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from types import CellType, CodeType, FunctionType, MemberDescriptorType, MethodType
from typing import Any, Final, NamedTuple, TypeAlias, cast

from .._core.arming import own_code

UNKNOWN: Final = object()
"""In place of an object that cannot be found without running the program."""

_Definition: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


class Body(NamedTuple):
    """What the source of a function returns."""

    returned: tuple[ast.expr, ...]
    """The expressions after `return`."""

    bound: Mapping[str, tuple[ast.expr | _Definition | None, ...]]
    """What the body binds to its own names: an expression, a function that is defined in it, or `None` otherwise."""

    always_returns: bool
    """Whether the body cannot end without a `return` or `raise`."""

    is_plain: bool
    """Whether it returns nothing but literals and the like, whatever the names in it stand for."""


# By the id of the code, since its hash takes a look at all of it.
_bodies: dict[int, tuple[CodeType, Body | None]] = {}


def body_of(code: CodeType) -> Body | None:
    """Return what the source of a function returns, or `None` if its source cannot be found or is another one's."""
    key = id(code)
    if key not in _bodies:
        _bodies[key] = code, _read(code)
    return _bodies[key][1]


def _read(code: CodeType) -> Body | None:
    is_lambda = code.co_name == "<lambda>"
    try:
        # The lines of a lambda need not be a statement.
        lines = inspect.findsource(code)[0] if is_lambda else inspect.getsourcelines(code)[0]
        tree = ast.parse("".join(lines) if is_lambda else textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    found = [node for node in ast.walk(tree) if isinstance(node, _LAMBDA_OR_DEF) and _is_of(node, code)]
    return _body(found[0]) if found and (len(found) == 1 or not is_lambda) else None


_LAMBDA_OR_DEF: Final = (ast.FunctionDef, ast.Lambda)


def _is_of(node: ast.FunctionDef | ast.Lambda, code: CodeType) -> bool:
    """Return whether a function in the source is the one with this code. Of lambdas, one line can have several."""
    if isinstance(node, ast.FunctionDef):
        found = node.name == code.co_name
    else:
        found = code.co_name == "<lambda>" and node.lineno == code.co_firstlineno
    arguments = node.args
    written = tuple(one.arg for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs))
    return found and written == code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def _body(node: ast.FunctionDef | ast.Lambda) -> Body:
    if isinstance(node, ast.Lambda):
        return Body((node.body,), {}, always_returns=True, is_plain=_is_plain([node.body]))
    returned: list[ast.expr] = []
    bound: dict[str, tuple[ast.expr | _Definition | None, ...]] = {}
    for part in _own_parts(node):
        if isinstance(part, ast.Return):
            returned.append(part.value or ast.Constant(None))
        for name, value in _bindings(part):
            bound[name] = (*bound.get(name, ()), value)
    return Body(tuple(returned), bound, _always_returns(node.body), _is_plain(returned))


def _is_plain(returned: list[ast.expr]) -> bool:
    plain = (ast.Constant, ast.JoinedStr, ast.List, ast.Tuple, ast.Dict, ast.Set, ast.Compare, ast.BinOp, ast.UnaryOp)
    return all(isinstance(one, (*plain, ast.ListComp, ast.DictComp, ast.SetComp, ast.GeneratorExp)) for one in returned)


def _own_parts(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the parts of a function, without those of the functions and classes inside it."""
    for part in ast.iter_child_nodes(node):
        yield part
        if not isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            yield from _own_parts(part)


def _bindings(part: ast.AST) -> Iterator[tuple[str, ast.expr | _Definition | None]]:
    match part:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            yield name, None if part.decorator_list else part
        case ast.ClassDef(name=name):
            yield name, None
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            yield name, value
        case (
            ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
            | ast.NamedExpr(target=ast.Name(id=name), value=value)
        ):
            yield name, value
        case ast.Assign(targets=targets):
            yield from (
                (name.id, None) for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)
            )
        case ast.For(target=target) | ast.AugAssign(target=target) | ast.withitem(optional_vars=ast.expr() as target):
            yield from ((name, None) for name in _names(target))
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            yield name, None
        case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
            yield from ((alias.asname or alias.name.partition(".")[0], None) for alias in aliases)
        case _:
            pass


def _names(target: ast.AST) -> Iterator[str]:
    return (name.id for name in ast.walk(target) if isinstance(name, ast.Name))


def _always_returns(statements: list[ast.stmt]) -> bool:
    match statements[-1]:
        case ast.Return() | ast.Raise():
            return True
        case ast.If(body=body, orelse=[_, *_] as orelse):
            return _always_returns(body) and _always_returns(orelse)
        case ast.Try(body=body, handlers=handlers, orelse=orelse, finalbody=final):
            tried = _always_returns(orelse or body) and all(_always_returns(handler.body) for handler in handlers)
            return tried or bool(final and _always_returns(final))
        case _:
            return False


class Scope:
    """The names that a function can see at a call, and what they stand for.

    Args:
        function: The function.
        values: The arguments of the call, by parameter, as far as they are known.
        bound: What the body binds: these names are not looked up.
    """

    def __init__(self, function: FunctionType, values: Mapping[str, Any], bound: Mapping[str, Any]) -> None:
        self.function = function
        self._values = values
        self._bound = bound

    def look_up(self, expression: ast.expr) -> Any:
        """Return what a name, or an attribute of it, stands for; `UNKNOWN` if that takes more than looking it up."""
        match expression:
            case ast.Name(id=name):
                return self._look_up_name(name)
            case ast.Attribute(value=ast.Call(func=ast.Name(id="super"), args=[]), attr=attribute):
                return self._look_up_in_bases(attribute)
            case ast.Attribute(value=value, attr=attribute) if not attribute.startswith("__"):
                owner = self.look_up(value)
                return UNKNOWN if owner is UNKNOWN else attribute_of(owner, attribute)
            case _:
                return UNKNOWN

    def _look_up_name(self, name: str) -> Any:
        if name in self._bound:
            return UNKNOWN
        code = own_code(self.function)
        if name in code.co_varnames:
            return self._values.get(name, UNKNOWN)
        if name in code.co_freevars:
            cells: tuple[CellType, ...] = self.function.__closure__ or ()
            return _contents(cells[code.co_freevars.index(name)])
        return self.function.__globals__.get(name, getattr(builtins, name, UNKNOWN))

    def _look_up_in_bases(self, attribute: str) -> Any:
        own, names = self._look_up_name("__class__"), own_code(self.function).co_varnames
        instance = self._values.get(names[0], UNKNOWN) if names else UNKNOWN
        mro: tuple[type, ...] = type(instance).__mro__
        if own not in mro:
            return UNKNOWN
        for base in mro[mro.index(own) + 1 :]:
            if attribute in vars(base):
                return _bound(vars(base)[attribute], instance)
        return UNKNOWN


def attribute_of(owner: Any, attribute: str) -> Any:
    """Return an attribute of an object, if that takes no more than looking it up, else `UNKNOWN`."""
    found: Any = inspect.getattr_static(owner, attribute, UNKNOWN)
    kind: Any = type(cast(object, owner))
    if isinstance(owner, type):
        method: Any = found
        return method.__func__ if isinstance(found, (staticmethod, classmethod)) else found
    if inspect.ismodule(owner):
        return found
    if isinstance(found, MemberDescriptorType):  # a slot
        try:
            return found.__get__(owner)
        except AttributeError:
            return UNKNOWN
    in_class = inspect.getattr_static(kind, attribute, UNKNOWN)
    return _bound(found, owner) if found is in_class else found


def _bound(found: Any, instance: Any) -> Any:
    method: Any = found
    if isinstance(found, staticmethod):
        return method.__func__
    if isinstance(found, classmethod):
        return MethodType(method.__func__, type(cast(object, instance)))
    if inspect.isroutine(found):
        return MethodType(cast(Any, found), instance)
    return UNKNOWN if hasattr(type(cast(object, found)), "__get__") else found


def _contents(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return UNKNOWN
