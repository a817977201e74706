"""Finding the failpoints that source code declares, without importing or running it."""

from __future__ import annotations

import ast
import errno
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar

from .name_resolution import MAKERS, Resolver, Symbol

Kind: TypeAlias = Literal["decorator", "scope", "inline", "instrument"]

_MOST_SHOWN = 80  # characters of source in a remark


@dataclass(frozen=True, slots=True)
class Declared:
    """One site, at the line where it is visited when the program runs.

    A failpoint that is kept in a variable has one site for each use of that variable. If it has no use, or is passed to
    a call, the site is where the failpoint is made. `failpoint("x")(function)` and `instrument("module:function", "x")`
    are sites where they are written, not where the function is.

    Attributes:
        name: The name in the source, without `:after`.
        kind: How the failpoint is used.
        file: The file, as it was given.
        line: The line of the function's first decorator, of the `await`, of the `.hit`, or of the `with` (on Python
            3.13 and later, of the item in it).
        function: The qualified name of the decorated function, or of the function that contains the site.
    """

    name: str
    kind: Kind
    file: str
    line: int
    function: str
    # These identify the sites that belong together. They are not shown.
    made: tuple[int, int] = field(default=(0, 0), compare=False, repr=False)  # where the failpoint is made
    redefined: int = field(default=0, compare=False, repr=False)  # the line of a function that replaces another, or 0

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the failpoints that the site visits."""
        return (self.name,) if self.kind == "inline" else (self.name, f"{self.name}:after")


@dataclass(frozen=True, slots=True)
class Remark:
    """A line that someone should look at, and the reason."""

    file: str
    line: int
    function: str
    text: str


@dataclass(frozen=True, slots=True)
class Scan:
    """The result of a scan, each part sorted by file and line.

    Attributes:
        declared: The sites.
        unresolved: Failpoints without a name, or with a name that only the running program knows.
        never_awaited: Failpoints that are made and then not used.
        unread: Files that cannot be read or parsed.
    """

    declared: tuple[Declared, ...] = ()
    unresolved: tuple[Remark, ...] = ()
    never_awaited: tuple[Remark, ...] = ()
    unread: tuple[Remark, ...] = ()

    @classmethod
    def merged(cls, scans: Iterable[Scan]) -> Scan:
        """Merge several scans, without duplicates."""
        scans = list(scans)
        return cls(
            _in_order(site for scan in scans for site in scan.declared),
            _in_order(remark for scan in scans for remark in scan.unresolved),
            _in_order(remark for scan in scans for remark in scan.never_awaited),
            _in_order(remark for scan in scans for remark in scan.unread),
        )


def scan_source(source: str | bytes, file: str) -> Scan:
    """Scan the source of a file.

    Source that cannot be parsed results in a remark. Source that does not contain "failpoint" is not parsed.
    """
    if not ("failpoint" in source if isinstance(source, str) else b"failpoint" in source):
        return Scan()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about escapes, for example, which do not concern the scan
            tree = ast.parse(source)
    except SyntaxError as error:
        return _unread(file, error.lineno or 1, f"not valid Python: {error.msg}")
    except (RecursionError, MemoryError):
        return _unread(file, 1, "nested too deeply to be parsed")
    except (ValueError, LookupError) as error:  # a null byte, or a wrong encoding
        return _unread(file, 1, f"not valid Python: {error}")
    return _SiteFinder(Resolver(tree), file).scan()


def scan_paths(paths: Iterable[Path]) -> Scan:
    """Scan files, and the `*.py` files in folders.

    Hidden folders, `__pycache__` and virtual environments inside a folder are skipped. Each file is scanned once. Files
    that cannot be read result in remarks. Raises `FileNotFoundError` for a path that does not exist.
    """
    scans: list[Scan] = []
    seen: set[str] = set()

    def unreadable(error: OSError, file: Path | None = None) -> None:
        scans.append(_unread(str(file or error.filename), 1, f"cannot be read: {error.strerror or error}"))

    for path in paths:
        if not path.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        for file in _python_files(path, unreadable) if path.is_dir() else [path]:
            real = os.path.realpath(file)
            if real not in seen:
                seen.add(real)
                try:
                    scans.append(scan_source(file.read_bytes(), str(file)))
                except OSError as error:
                    unreadable(error, file)
    return Scan.merged(scans)


def _python_files(folder: Path, unreadable: Callable[[OSError], None]) -> Iterator[Path]:
    for here, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = [
            name
            for name in sorted(folders)
            # `os.path`, because the methods of `Path` raise for what is in a folder that cannot be entered.
            if not name.startswith(".")
            and name != "__pycache__"
            and not os.path.exists(os.path.join(here, name, "pyvenv.cfg"))
        ]
        paths = (os.path.join(here, name) for name in sorted(files) if name.endswith(".py"))
        yield from (Path(path) for path in paths if os.path.isfile(path))


def _unread(file: str, line: int, why: str) -> Scan:
    return Scan(unread=(Remark(file, line, "<module>", why),))


_Place = TypeVar("_Place", Declared, Remark)


def _in_order(places: Iterable[_Place]) -> tuple[_Place, ...]:
    return tuple(sorted(dict.fromkeys(places), key=lambda place: (place.file, place.line, repr(place))))


def outermost(function: str) -> str:
    """Return the qualified name of the outermost function around a function."""
    return function.partition(".<locals>")[0]


def _redefinitions(resolver: Resolver) -> dict[str, list[tuple[int, int]]]:
    """Return the first and last lines of functions that replace another of the same name, by qualified name.

    Neither definition is under a condition, and the later one is not decorated by the earlier one, as setters are.
    """
    found: dict[str, list[tuple[int, int]]] = {}
    before: set[tuple[object, str]] = set()
    for node, inner in resolver.inner.items():
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        scope, end = resolver.scopes[node], (node.end_lineno or node.lineno, node.end_col_offset)
        if not any(binding.certain and binding.end == end for binding in scope.bindings.get(node.name, ())):
            continue
        if (scope, node.name) in before and not any(map(partial(_is_of, node.name), node.decorator_list)):
            first = node.decorator_list[0] if node.decorator_list else node
            found.setdefault(inner.qualname, []).append((first.lineno, end[0]))
        before.add((scope, node.name))
    return found


def _is_of(name: str, decorator: ast.expr) -> bool:
    match decorator:
        case ast.Attribute(value=ast.Name(id=owner)) | ast.Call(func=ast.Attribute(value=ast.Name(id=owner))):
            return owner == name
        case _:
            return False


_SKIPPED = {ast.Name, ast.Attribute, ast.Assign, ast.Return, ast.arg, ast.arguments, ast.keyword}  # frequent, no sites


class _SiteFinder:
    """Finds the failpoints that a module makes, and how it uses them."""

    def __init__(self, resolver: Resolver, file: str) -> None:
        self._resolver = resolver
        self._file = file
        self._redefinitions = _redefinitions(resolver)
        self._used: set[ast.Call] = set()
        self._declared: list[Declared] = []
        self._unresolved: list[Remark] = []
        self._never_awaited: list[Remark] = []

    def scan(self) -> Scan:
        """Return what the module declares."""
        for node, scope in self._resolver.scopes.items():
            if type(node) not in _SKIPPED:
                self._read(node, scope.qualname)
        for node, scope in self._resolver.scopes.items():
            if isinstance(node, ast.Call) and node in self._resolver.values(node):
                self._read_made(node, scope.qualname)
            elif isinstance(node, ast.Call) and Symbol.INSTRUMENT in self._resolver.values(node.func):
                self._read_instrumented(node, scope.qualname)
        return Scan(_in_order(self._declared), _in_order(self._unresolved), _in_order(self._never_awaited))

    def _read(self, node: ast.AST, function: str) -> None:
        match node:
            case ast.Await(value=value):
                self._use(value, "inline", node.lineno, function)
            case ast.Call(func=ast.Attribute(value=value, attr="hit") as method):
                self._use(value, "inline", method.end_lineno or method.lineno, function)
            case ast.Call(func=ast.Attribute(attr="enter_context" | "enter_async_context"), args=[value]):
                self._use(value, "scope", value.lineno, function)
            case ast.Call(func=value, args=[given]):
                self._use(value, "decorator", node.lineno, given.id if isinstance(given, ast.Name) else function)
            case ast.With(items=items) | ast.AsyncWith(items=items):
                for item in items:
                    where = item.context_expr if sys.version_info >= (3, 13) else node
                    self._use(item.context_expr, "scope", where.lineno, function)
            case ast.FunctionDef(decorator_list=[first, *_]) | ast.AsyncFunctionDef(decorator_list=[first, *_]):
                self._read_decorators(node, first.lineno, self._resolver.inner[node].qualname)
            case ast.Expr(value=value) | ast.Match(subject=value) | ast.UnaryOp(op=ast.Not(), operand=value):
                self._leave_idle(value, function)
            case ast.If(test=value) | ast.While(test=value) | ast.IfExp(test=value) | ast.Assert(test=value):
                self._leave_idle(value, function)
            case ast.BoolOp(values=[*tested, _]) | ast.comprehension(ifs=tested):
                for value in tested:
                    self._leave_idle(value, function)
            case ast.match_case(guard=ast.expr() as value):
                self._leave_idle(value, function)
            case ast.Compare(left=left, ops=[ast.Eq() | ast.NotEq()], comparators=[right]):
                self._leave_idle(left, function)
                self._leave_idle(right, function)
            case _:
                pass

    def _read_decorators(self, node: ast.FunctionDef | ast.AsyncFunctionDef, line: int, function: str) -> None:
        for decorator in node.decorator_list:
            self._use(decorator, "decorator", line, function)
            for symbol in MAKERS & self._resolver.values(decorator):
                text = f'@{symbol.value}: the name is missing; write @{symbol.value}("some.name")'
                self._unresolved.append(Remark(self._file, decorator.lineno, function, text))

    def _use(self, expression: ast.expr, kind: Kind, line: int, function: str) -> None:
        for site in self._sites(expression):
            if (self._maker(site) is Symbol.SCOPE) is (kind == "scope"):
                self._used.add(site)
                self._declare(site.args, kind, line, function)
            else:
                self._remark_idle(site, line, function)

    def _leave_idle(self, expression: ast.expr, function: str) -> None:
        while isinstance(expression, ast.BoolOp):
            expression = expression.values[-1]
        for site in self._sites(expression):
            self._remark_idle(site, expression.lineno, function)

    def _remark_idle(self, site: ast.Call, line: int, function: str) -> None:
        what = "is never entered with `with`" if self._maker(site) is Symbol.SCOPE else "is neither awaited nor hit"
        self._never_awaited.append(Remark(self._file, line, function, f"{self._shown(site)} {what}"))

    def _read_made(self, site: ast.Call, function: str) -> None:
        """Remark on a missing or unknown name, and declare the site here if the failpoint is used nowhere."""
        if not site.args:
            by_keyword = any(keyword.arg == "name" for keyword in site.keywords)
            problem = "pass the name without `name=`" if by_keyword else "the name is missing"
        elif Symbol.UNKNOWN in (values := self._resolver.values(site.args[0])):
            problem = "the name is unknown before the program runs"
        else:
            problem = "" if all(isinstance(value, str) for value in values) else "the name is not a string"
        if problem:
            self._unresolved.append(Remark(self._file, site.lineno, function, f"{self._shown(site)}: {problem}"))
        if site not in self._used:
            kind: Kind = "scope" if self._maker(site) is Symbol.SCOPE else "inline"
            self._declare(site.args, kind, site.lineno, function)

    def _read_instrumented(self, call: ast.Call, function: str) -> None:
        """Declare the failpoint of a call of `instrument`, at the line of the call."""
        if len(call.args) < 2:
            problem = "the name is missing"
        elif Symbol.UNKNOWN in (values := self._resolver.values(call.args[1])):
            problem = "the name is unknown before the program runs"
        else:
            problem = "" if all(isinstance(value, str) for value in values) else "the name is not a string"
        if problem:
            shown = self._written(Symbol.INSTRUMENT, call.args[:2])
            self._unresolved.append(Remark(self._file, call.lineno, function, f"{shown}: {problem}"))
        self._declare(call.args[1:2], "instrument", call.lineno, function)

    def _declare(self, given: list[ast.expr], kind: Kind, line: int, function: str) -> None:
        for name in self._resolver.values(given[0]) if given else ():
            if isinstance(name, str):
                made = (given[0].lineno, given[0].col_offset)
                redefined = self._redefined(line, function)
                self._declared.append(Declared(name, kind, self._file, line, function, made, redefined))

    def _redefined(self, line: int, function: str) -> int:
        spans = self._redefinitions.get(outermost(function), ())
        return next((first for first, last in spans if first <= line <= last), 0)

    def _sites(self, expression: ast.expr) -> list[ast.Call]:
        return [value for value in self._resolver.values(expression) if isinstance(value, ast.Call)]

    def _maker(self, site: ast.Call) -> Symbol:
        return Symbol.SCOPE if Symbol.SCOPE in self._resolver.values(site.func) else Symbol.FAILPOINT

    def _shown(self, site: ast.Call) -> str:
        return self._written(
            self._maker(site), [*site.args[:1], *(keyword for keyword in site.keywords if keyword.arg == "name")]
        )

    def _written(self, symbol: Symbol, given: Iterable[ast.AST]) -> str:
        try:
            text = ", ".join(map(ast.unparse, given))
        except RecursionError:
            text = "…"
        return f"{symbol.value}({text if len(text) <= _MOST_SHOWN else f'{text[:_MOST_SHOWN]}…'})"
