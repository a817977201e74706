"""Resolving the names in a module's source, as far as that is possible without running it.

It finds the names of `failpoint`, `failpoint_scope` and `instrument` in the source, and the strings that are constant.
It follows Python's rules of scope. A name that is bound more than once has the value that was bound last before its
use, and any value that is bound later under a condition. A name bound to two different strings has no known value.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal, TypeAlias, cast

_MOST = 50  # values of an expression, or bindings of a name: more are not followed
_LONGEST = 1_000  # characters of a string: one that doubles line by line must not fill the memory


class Symbol(Enum):
    """A value of an expression, other than a string, a number, a class, or a call that makes a site."""

    PACKAGE = "failpoints"
    FAILPOINT = "failpoint"
    SCOPE = "failpoint_scope"
    INSTRUMENT_MODULE = "failpoints.instrument"
    INSTRUMENT = "instrument"
    NOT_A_STRING = "not a string"
    UNKNOWN = "unknown before the program runs"


_Value: TypeAlias = "str | int | Symbol | _Scope | ast.Call"
_Values: TypeAlias = frozenset[_Value]

_UNKNOWN: _Values = frozenset({Symbol.UNKNOWN})
_NOT_A_STRING: _Values = frozenset({Symbol.NOT_A_STRING})
MAKERS = frozenset({Symbol.FAILPOINT, Symbol.SCOPE})
_EXPORTED: dict[Symbol, dict[str, Symbol]] = {  # the names in the modules of the package
    Symbol.PACKAGE: {**{maker.value: maker for maker in MAKERS}, "instrument": Symbol.INSTRUMENT_MODULE},
    Symbol.INSTRUMENT_MODULE: {"instrument": Symbol.INSTRUMENT},
}
_MODULES = {module.value: module for module in _EXPORTED}


@dataclass(slots=True, eq=False)
class _Binding:
    """One binding of a name: to an expression, or to a value that is known at once."""

    value: ast.expr | Symbol | _Scope
    end: tuple[int, int] = (0, 0)  # the line and column where the binding ends
    certain: bool = True  # not under a condition


@dataclass(slots=True, eq=False)
class _Scope:
    """A scope of names: a module, a class, a function or a comprehension."""

    kind: Literal["module", "class", "function", "comprehension"] = "module"
    around: _Scope | None = None
    qualname: str = "<module>"
    prefix: str | None = None  # of the qualified names of functions and classes in it
    bindings: dict[str, list[_Binding]] = field(default_factory=dict[str, list[_Binding]])
    attributes: dict[str, list[_Binding]] = field(default_factory=dict[str, list[_Binding]])  # set on a class
    elsewhere: dict[str, _Scope] = field(default_factory=dict["str", "_Scope"])  # for global and nonlocal names

    def qualified(self, name: str) -> str:
        """Return the qualified name of a function, class or comprehension in this scope."""
        prefix = f"{self.qualname}." if self.prefix is None else self.prefix
        return name if name in self.elsewhere else prefix + name


_CONDITIONS = {ast.If, ast.For, ast.AsyncFor, ast.While, ast.Try, ast.TryStar, ast.Match}
_NOT_BINDING = {ast.Attribute, ast.Call, ast.Expr, ast.Return, ast.arg, ast.keyword}  # and frequent


class Resolver:
    """Resolves the names in a parsed module.

    Source can be nested more deeply than Python calls can be. The tree is therefore walked without recursion. A value
    that `values` cannot follow to its end counts as unknown.
    """

    def __init__(self, tree: ast.Module) -> None:
        self.scopes: dict[ast.AST, _Scope] = {}  # in which each node is evaluated, in source order
        self.inner: dict[ast.AST, _Scope] = {}  # of each function, class or comprehension
        self._module = _Scope(prefix="")
        self._assigned: dict[ast.AST, ast.expr] = {}  # to each target with a single value
        self._values: dict[ast.expr, _Values] = {}
        to_do: list[tuple[ast.AST, _Scope, bool]] = [(tree, self._module, True)]
        while to_do:
            node, scope, certain = to_do.pop()
            self.scopes[node] = scope
            if type(node) in _NOT_BINDING:
                to_do.extend([(part, scope, certain) for part in _children(node)][::-1])
                continue
            self._bind(node, scope, certain)
            certain = certain and type(node) not in _CONDITIONS  # from here on: of its parts
            parts = [(part, inner, certain or inner is not scope) for part, inner in self._parts(node, scope)]
            to_do.extend(parts[::-1])
        for attribute in [node for node in self.scopes if isinstance(node, ast.Attribute)]:
            self._bind_attribute(attribute)

    def values(self, node: ast.expr) -> _Values:
        """Return the possible values of an expression."""
        if node not in self._values:
            self._values[node] = _UNKNOWN  # while it is being resolved: it may refer to itself
            try:
                found = self._resolve(node)
            except RecursionError:
                found = _UNKNOWN
            self._values[node] = found if len(found) <= _MOST else _UNKNOWN
        return self._values[node]

    def _resolve(self, node: ast.expr) -> _Values:
        match node:
            case ast.Constant(value=str() | int() as value):
                return frozenset({value})
            case ast.Constant() | ast.List() | ast.Tuple() | ast.Set() | ast.Dict() | ast.Lambda():
                return _NOT_A_STRING
            case ast.Name():
                return self._values_of_name(node)
            case ast.Attribute(value=value, attr=name):
                return _union(self._values_of_attribute(symbol, name) for symbol in self.values(value))
            case ast.Call(func=func) if MAKERS & self.values(func):
                return frozenset({node})
            case ast.NamedExpr(value=value):
                return self.values(value)
            case ast.IfExp(body=one, orelse=other):
                return self.values(one) | self.values(other)
            case ast.BoolOp(values=parts):
                return _union(map(self.values, parts))
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return _concatenations([self.values(left), self.values(right)])
            case ast.JoinedStr(values=parts):
                return _concatenations(map(self.values, parts))
            case ast.FormattedValue(value=value, conversion=-1 | 115, format_spec=None):  # 115 is !s
                return frozenset(str(v) if isinstance(v, (str, int)) else Symbol.UNKNOWN for v in self.values(value))
            case _:
                return _UNKNOWN

    def _values_of_name(self, node: ast.Name) -> _Values:
        use = self.scopes[node]
        scope: _Scope | None = use
        while scope is not None:
            bindings = before = scope.bindings.get(node.id, [])
            if scope is use:
                before = [binding for binding in bindings if binding.end <= (node.lineno, node.col_offset)]
            if scope.kind == "class":
                bindings = before if scope is use else []  # before it is bound here, the name is an outer one
            if bindings:
                return self._values_of_bindings(bindings, before or bindings)
            scope = scope.elsewhere.get(node.id, scope.around)
        return _UNKNOWN

    def _values_of_attribute(self, symbol: _Value, name: str) -> _Values:
        if isinstance(symbol, Symbol) and name in _EXPORTED.get(symbol, {}):
            return frozenset({_EXPORTED[symbol][name]})
        if isinstance(symbol, _Scope):
            bindings = symbol.bindings.get(name, []) + symbol.attributes.get(name, [])
            return self._values_of_bindings(bindings, bindings)
        return _UNKNOWN

    def _values_of_bindings(self, bindings: list[_Binding], before: list[_Binding]) -> _Values:
        """Return the possible values of a name with these bindings, some of which come before its use."""
        if len(bindings) > _MOST:
            return _UNKNOWN
        values = {binding: self._values_of_binding(binding) for binding in bindings}
        if len(set(values.values())) == 1:
            return values[bindings[0]]
        last = max((index for index, binding in enumerate(before) if binding.certain), default=0)
        live = _union(values[binding] for binding in before[last:])
        return frozenset(value for value in live if not isinstance(value, (str, int))) | _UNKNOWN

    def _values_of_binding(self, binding: _Binding) -> _Values:
        return self.values(binding.value) if isinstance(binding.value, ast.expr) else frozenset({binding.value})

    def _bind(self, node: ast.AST, scope: _Scope, certain: bool) -> None:
        """Record what a node itself binds."""

        def bind(name: str, value: ast.expr | Symbol | _Scope, at: Any = node) -> None:
            owner = scope.elsewhere.get(name, scope)
            _add(owner.bindings, name, _Binding(value, (at.end_lineno, at.end_col_offset), certain and owner is scope))

        match node:
            case ast.Name(id=name, ctx=ctx):
                if not isinstance(ctx, ast.Load):
                    bind(name, self._assigned.get(node, Symbol.UNKNOWN), self._assigned.get(node, node))
            case ast.Import(names=aliases):
                for alias in aliases:
                    bound = alias.name if alias.asname else alias.name.partition(".")[0]
                    bind(alias.asname or bound, _MODULES.get(bound, Symbol.UNKNOWN))
            case ast.ImportFrom(module=module, names=aliases, level=level):
                exported = _EXPORTED[_MODULES[module]] if module in _MODULES and not level else {}
                every = [name for name, symbol in exported.items() if symbol is not Symbol.INSTRUMENT_MODULE]
                for alias in aliases:
                    for name in every if alias.name == "*" else [alias.name]:
                        bind(alias.asname or name, exported.get(name, Symbol.UNKNOWN))
            case ast.Global(names=names):
                scope.elsewhere.update(dict.fromkeys(names, self._module))
            case ast.Nonlocal(names=names):
                scope.elsewhere.update(dict.fromkeys(names, scope.around or scope))
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    self._assigned.update(_pairs(target, value))
            case ast.AnnAssign(target=target, value=ast.expr() as value) | ast.NamedExpr(target=target, value=value):
                self._assigned[target] = value
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                bind(name, Symbol.UNKNOWN if node.decorator_list else Symbol.NOT_A_STRING)
                self.inner[node] = _function(node, scope)
            case ast.Lambda():
                self.inner[node] = _function(node, scope)
            case ast.ClassDef(name=name):
                self.inner[node] = _Scope("class", scope, scope.qualified(name))
                bind(name, self.inner[node])
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                self.inner[node] = _comprehension(node, scope)
            case ast.ExceptHandler(name=str(name)) | ast.MatchMapping(rest=str(name)):
                bind(name, Symbol.UNKNOWN)
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                bind(name, Symbol.UNKNOWN)
            case _:
                pass

    def _bind_attribute(self, node: ast.Attribute) -> None:
        """Record the binding of an attribute: `self.name = …`."""
        is_set = isinstance(node.value, ast.Name) and not isinstance(node.ctx, ast.Load)
        for symbol in self.values(node.value) if is_set else ():
            if isinstance(symbol, _Scope):
                _add(symbol.attributes, node.attr, _Binding(self._assigned.get(node, Symbol.UNKNOWN), certain=False))

    def _parts(self, node: ast.AST, scope: _Scope) -> Iterator[tuple[ast.AST, _Scope]]:
        """Yield the parts of a node, each with the scope in which it is evaluated."""
        inner = self.inner.get(node, scope)
        match node:
            case ast.FunctionDef(body=body) | ast.AsyncFunctionDef(body=body) | ast.ClassDef(body=body):
                inside: set[ast.AST] = set(body)
                yield from ((part, inner if part in inside else scope) for part in _children(node))
            case ast.Lambda(args=parameters, body=body):
                yield from ((parameters, scope), (body, inner))
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                yield node.generators[0].iter, scope
                yield from ((part, inner) for part in _children(node))
            case ast.comprehension(target=target, iter=iterated, ifs=ifs):
                parts = [target, *ifs] if iterated in self.scopes else [target, iterated, *ifs]
                yield from ((part, scope) for part in parts)
            case ast.NamedExpr(target=target, value=value):
                owner = scope
                while owner.kind == "comprehension" and owner.around is not None:
                    owner = owner.around
                yield from ((target, owner), (value, scope))
            case ast.AnnAssign(annotation=annotation, value=None):  # binds nothing
                yield annotation, scope
            case _:
                yield from ((part, scope) for part in _children(node))


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the parts of a node, except those that cannot matter here."""
    for name in node._fields:
        value = getattr(node, name, None)
        for part in cast("list[object]", value) if isinstance(value, list) else (value,):
            if isinstance(part, ast.AST) and part._fields and type(part) is not ast.Constant:
                yield part


def _add(bindings: dict[str, list[_Binding]], name: str, binding: _Binding) -> None:
    places = bindings.setdefault(name, [])
    if len(places) <= _MOST:
        places.append(binding)


def _function(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, scope: _Scope) -> _Scope:
    name, decorators = ("<lambda>", []) if isinstance(node, ast.Lambda) else (node.name, node.decorator_list)
    qualname = scope.qualified(name)
    inner = _Scope("function", scope, qualname, f"{qualname}.<locals>.")
    given = node.args
    first = [*given.posonlyargs, *given.args]
    for parameter in filter(None, [*first, *given.kwonlyargs, given.vararg, given.kwarg]):
        inner.bindings[parameter.arg] = [_Binding(Symbol.UNKNOWN)]
    is_static = any(isinstance(decorator, ast.Name) and decorator.id == "staticmethod" for decorator in decorators)
    if scope.kind == "class" and first and not is_static:
        inner.bindings[first[0].arg] = [_Binding(scope)]  # self or cls, with the attributes of the class
    return inner


def _comprehension(node: ast.expr, scope: _Scope) -> _Scope:
    kind = "genexpr" if isinstance(node, ast.GeneratorExp) else type(node).__name__.lower()
    if sys.version_info >= (3, 12) and kind != "genexpr":  # it is part of the enclosing code
        return _Scope("comprehension", scope, scope.qualname, scope.prefix)
    return _Scope("comprehension", scope, scope.qualified(f"<{kind}>"))


def _pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Yield the targets of an assignment with their values, as far as the source shows them."""
    if not isinstance(target, (ast.Tuple, ast.List)):
        yield target, value
    elif isinstance(value, (ast.Tuple, ast.List)) and len(target.elts) == len(value.elts):
        parts = [*target.elts, *value.elts]
        if not any(isinstance(part, ast.Starred) for part in parts):
            yield from (part for pair in zip(target.elts, value.elts, strict=True) for part in _pairs(*pair))


def _union(values: Iterable[_Values]) -> _Values:
    return frozenset(value for some in values for value in some)


def _concatenations(parts: Iterable[_Values]) -> _Values:
    """Return the possible strings that result from concatenation."""
    joined: _Values = frozenset({""})
    for part in parts:
        joined = frozenset(
            before + text if isinstance(before, str) and isinstance(text, str) else Symbol.UNKNOWN
            for before in joined
            for text in part
        )
        if len(joined) > _MOST or any(isinstance(text, str) and len(text) > _LONGEST for text in joined):
            return _UNKNOWN
    return joined
