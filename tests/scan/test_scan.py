"""Scanning source code for failpoints without running it."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import os
import runpy
import sys
import tempfile
import textwrap
import time
from collections.abc import Awaitable, Iterable
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from failpoints import configure_all, reset
from failpoints._core.known_sites import known_names, known_sites
from failpoints._scan.scan import Remark, Scan, scan_paths, scan_source

ROOT = Path(__file__).parents[2]
IMPORT = "from failpoints import failpoint, failpoint_scope\n"


def scan(source: str, before: str = IMPORT) -> Scan:
    """Scan a piece of source, with an import as its first line."""
    return scan_source(before + textwrap.dedent(source).lstrip("\n"), "file.py")


def sites(found: Scan) -> list[str]:
    assert all(site.file == "file.py" for site in found.declared)
    return [f"{site.line} {site.kind} {site.name} {site.function}" for site in found.declared]


def remarks(found: Iterable[Remark]) -> list[str]:
    return [f"{remark.line} {remark.function}: {remark.text}" for remark in found]


def check(source: str, *expected: str, before: str = IMPORT) -> None:
    """Check that exactly these sites are found, and that nothing else is reported."""
    found = scan(source, before)
    assert (sites(found), remarks(found.unresolved), remarks(found.never_awaited)) == (list(expected), [], [])


# Each piece of source begins at line 2, and is followed by its sites: line, kind, name, function.

DECORATORS = {
    "function": ('@failpoint("x")\ndef f(): ...', "2 decorator x f"),
    "async function": ('@failpoint("x")\nasync def f(): ...', "2 decorator x f"),
    "options": ('@failpoint("x", context=["a"], raises=(OSError,))\ndef f(a): ...', "2 decorator x f"),
    "between others": ('@first\n@failpoint("x")\n@last\ndef f(): ...', "2 decorator x f"),
    "two": ('@failpoint("x")\n@failpoint("y")\ndef f(): ...', "2 decorator x f", "2 decorator y f"),
    "many lines": ('@(\n    failpoint(\n        "x",\n    )\n)\ndef f(): ...', "3 decorator x f"),
    "methods": (
        """
        class A:
            @failpoint("x")
            def method(self): ...
            @classmethod
            @failpoint("y")
            def of_class(cls): ...
            @failpoint("z")
            @staticmethod
            def static(): ...
            class B:
                @failpoint("b")
                async def method(self): ...
        """,
        "3 decorator x A.method",
        "5 decorator y A.of_class",
        "8 decorator z A.static",
        "12 decorator b A.B.method",
    ),
    "nested": (
        """
        def outer():
            @failpoint("x")
            def inner():
                class A:
                    @failpoint("y")
                    def f(self): ...
        """,
        "3 decorator x outer.<locals>.inner",
        "6 decorator y outer.<locals>.inner.<locals>.A.f",
    ),
    "made global": ('def f():\n    global g\n    @failpoint("x")\n    def g(): ...', "4 decorator x g"),
    "under a condition": ('if a:\n    @failpoint("x")\n    def f(): ...', "3 decorator x f"),
    "called": ('g = failpoint("x")(f)', "2 decorator x f"),
    "called on more than a name": (
        'def g():\n    return (\n        failpoint("x")(f.a),\n        failpoint("y")(lambda: 1),\n    )',
        "4 decorator x g",
        "5 decorator y g",
    ),
    "of the name that it decorates": (
        'class A:\n    @failpoint("x")\n    def failpoint(self): ...',
        "3 decorator x A.failpoint",
    ),
}

INLINE = {
    "awaited": ('async def f():\n    await failpoint("x")', "3 inline x f"),
    "outcome": ('async def f():\n    if (outcome := await failpoint("x")): ...', "3 inline x f"),
    "matched": ('async def f():\n    match await failpoint("x"):\n        case _: ...', "3 inline x f"),
    "hit": ('failpoint("x").hit()', "2 inline x <module>"),
    "hit in a lambda": ('f = lambda: failpoint("x").hit()', "2 inline x <lambda>"),
    "hit in a class": ('class A:\n    a = failpoint("x").hit()', "3 inline x A"),
    "hit in a generator": (
        'def f():\n    return list(failpoint("x").hit() for _ in a)',
        "3 inline x f.<locals>.<genexpr>",
    ),
    "hit in a default": ('def f(a=failpoint("x").hit()): ...', "2 inline x <module>"),
    "awaited on many lines": ('async def f():\n    a = (await\n        failpoint(\n            "x"))', "3 inline x f"),
    "hit on many lines": ('(failpoint(\n    "x"\n)\n.\nhit\n())', "6 inline x <module>"),
    "twice": ('failpoint("x").hit()\nfailpoint("x").hit()', "2 inline x <module>", "3 inline x <module>"),
    "twice on a line": ('failpoint("x").hit(); failpoint("x").hit()', "2 inline x <module>"),
    "passed on": ('async def f():\n    await wait_for(failpoint("x"), 1)', "3 inline x f"),
    "returned": ('def f():\n    return failpoint("x")', "3 inline x f"),
    "its method passed on": ('run(failpoint("x").hit)', "2 inline x <module>"),
    "in an f-string": ('f"{failpoint("x").hit()}"'.replace('("x")', "('x')"), "2 inline x <module>"),
}

SCOPES = {
    "with": ('def f():\n    with failpoint_scope("x"): ...', "3 scope x f"),
    "async with": ('async def f():\n    async with failpoint_scope("x", context={}) as a: ...', "3 scope x f"),
    "several": ('with a, failpoint_scope("x"), failpoint_scope("y"): ...', "2 scope x <module>", "2 scope y <module>"),
    "many lines": ('with failpoint_scope(\n    "x"\n): ...', "2 scope x <module>"),
    "on a stack": ('s.enter_context(failpoint_scope("x"))', "2 scope x <module>"),
    "on an async stack": (
        'async def f():\n    await s.enter_async_context(\n        failpoint_scope("x"))',
        "4 scope x f",
    ),
    "passed on": ('f(failpoint_scope("x"))', "2 scope x <module>"),
}

KEPT = {
    "not used": ('a = failpoint("x")\nb = failpoint_scope("y")', "2 inline x <module>", "3 scope y <module>"),
    "used in all ways": (
        """
        point = failpoint("x")
        async def f():
            await point
            point.hit()
        @point
        def g(): ...
        h = point(g)
        """,
        "4 inline x f",
        "5 inline x f",
        "6 decorator x g",
        "8 decorator x g",
    ),
    "scope": (
        'a = failpoint_scope("x")\nwith a: ...\nstack.enter_context(a)',
        "3 scope x <module>",
        "4 scope x <module>",
    ),
    "passed on": ('a = failpoint("x")\nf(a)', "2 inline x <module>"),
    "local": ('def f():\n    a = failpoint("x")\n    return a.hit()', "4 inline x f"),
    "class attribute": (
        """
        class A:
            point = failpoint("x")
            @point
            def f(self):
                self.point.hit()
            @classmethod
            async def g(cls):
                await cls.point
        A.point.hit()
        """,
        "4 decorator x A.f",
        "6 inline x A.f",
        "9 inline x A.g",
        "10 inline x <module>",
    ),
    "attribute": (
        """
        class A:
            def __init__(this):
                this.point, this.other = failpoint("x"), 1
                this.section: object = failpoint_scope("y")
            def f(self):
                with self.section:
                    run(lambda: self.point.hit())
        """,
        "7 scope y A.f",
        "8 inline x A.f.<locals>.<lambda>",
    ),
    "attribute that is None at first": (
        'class A:\n    p = None\n    def f(self):\n        self.p = failpoint("x")\n        self.p.hit()',
        "6 inline x A.f",
    ),
    "a static method has no self": (
        'class A:\n    p = failpoint("x")\n    @staticmethod\n    def f(self):\n        self.p.hit()',
        "3 inline x A",
    ),
    "walrus": ('if (a := failpoint("x")) is not None:\n    a.hit()', "3 inline x <module>"),
    "walrus in a comprehension": ('[(a := failpoint("x")) for _ in b]\na.hit()', "3 inline x <module>"),
    "one of two": (
        'a = failpoint("x") if b else failpoint("y")\na.hit()',
        "3 inline x <module>",
        "3 inline y <module>",
    ),
    "one or none": ('a = failpoint("x") if b else None\na.hit()', "3 inline x <module>"),
    "another later": (
        'a = failpoint("x")\na.hit()\na = failpoint("y")\na.hit()',
        "3 inline x <module>",
        "5 inline y <module>",
    ),
    "another under a condition": (
        'a = failpoint("x")\nif b:\n    a = failpoint("y")\na.hit()',
        "5 inline x <module>",
        "5 inline y <module>",
    ),
    "another later, under a condition": (
        'if b:\n    def f():\n        a = failpoint("x")\n        a = failpoint("y")\n        a.hit()',
        "4 inline x f",
        "6 inline y f",
    ),
    "under another name": ('a = failpoint("x")\nb = a\nb.hit()', "4 inline x <module>"),
    "in a container": ('a = [failpoint("x"), failpoint_scope("y")]', "2 inline x <module>", "2 scope y <module>"),
    "set where nobody looks": ('class A: ...\nA.p = failpoint("x")\nA.p.hit()', "4 inline x <module>"),
}

NAMES = {
    "constant": ('N = "x"\nfailpoint(N).hit()', "3 inline x <module>"),
    "annotated": ('N: Final = "x"\nfailpoint(N).hit()', "3 inline x <module>"),
    "several at once": (
        'A, (B, C) = "a", ("b", "c")\nD = E = "d"\nfailpoint(A + B + C + E).hit()',
        "4 inline abcd <module>",
    ),
    "announced": ('N: str\nN = "x"\nfailpoint(N).hit()', "4 inline x <module>"),
    "global in between": (
        """
        N = "x"
        def f():
            N = "y"
            def g():
                global N
                failpoint(N).hit()
                def h():
                    failpoint(N).hit()
        """,
        "7 inline x f.<locals>.g",
        "9 inline x f.<locals>.g.<locals>.h",
    ),
    "constant below": ('def f():\n    failpoint(N).hit()\nN = "x"', "3 inline x f"),
    "local": ('def f():\n    n = "x"\n    failpoint(n).hit()', "4 inline x f"),
    "of an outer function": (
        'def f():\n    n = "x"\n    def g():\n        failpoint(n).hit()',
        "5 inline x f.<locals>.g",
    ),
    "twice the same": ('if a:\n    N = "x"\nelse:\n    N = "x"\nfailpoint(N).hit()', "6 inline x <module>"),
    "in a class": (
        """
        class A:
            N = "x"
            @failpoint(N)
            def f(self):
                failpoint(self.N).hit()
                failpoint(A.N).hit()
            @classmethod
            def g(cls):
                failpoint(cls.N + ".y").hit()
            class B:
                N = "b"
        failpoint(A.B.N).hit()
        """,
        "4 decorator x A.f",
        "6 inline x A.f",
        "7 inline x A.f",
        "10 inline x.y A.g",
        "13 inline b <module>",
    ),
    "of the module, not of the class": (
        'N = "m"\nclass A:\n    N = "c"\n    def f(self):\n        failpoint(N).hit()',
        "6 inline m A.f",
    ),
    "of the module, until the class has one": (
        'N = "m"\nclass A:\n    failpoint(N).hit()\n    N = "c"\n    failpoint(N).hit()',
        "4 inline m A",
        "6 inline c A",
    ),
    "put together": ('P = "a"\nfailpoint(P + ".b" ".c").hit()', "3 inline a.b.c <module>"),
    "formatted": (
        'P = "a"\nn = 3\nfailpoint(f"{P}.{n}.{"c"!s}").hit()'.replace('{"c"', "{'c'"),
        "4 inline a.3.c <module>",
    ),
    "one of two": (
        'failpoint(("a" if w else "b") + ".c").hit()\nN = "d" if w else "e"\nfailpoint(N).hit()',
        "2 inline a.c <module>",
        "2 inline b.c <module>",
        "4 inline d <module>",
        "4 inline e <module>",
    ),
    "global": ('def f():\n    global N\n    N = "x"\ndef g():\n    failpoint(N).hit()', "6 inline x g"),
    "escaped": (r'failpoint("\x78").hit()', "2 inline x <module>"),
    "the start of an iteration in a class": (
        'class A:\n    N = "x"\n    a = list(i for i in failpoint(N).hit())',
        "4 inline x A",
    ),
}

ALIASES = {
    "as": ('from failpoints import failpoint as fp, failpoint_scope as fs\nfp("x").hit()\nwith fs("y"): ...', "2 xy"),
    "package": (
        'import failpoints\nfailpoints.failpoint("x").hit()\nwith failpoints.failpoint_scope("y"): ...',
        "2 xy",
    ),
    "package as": ('import failpoints as f\nf.failpoint("x").hit()\nwith f.failpoint_scope("y"): ...', "2 xy"),
    "submodule": (
        'import failpoints.errors\nfailpoints.failpoint("x").hit()\nwith failpoints.failpoint_scope("y"): ...',
        "2 xy",
    ),
    "star": ('from failpoints import *\nfailpoint("x").hit()\nwith failpoint_scope("y"): ...', "2 xy"),
}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        pytest.param(source, expected, id=f"{what}: {case}")
        for what, cases in [
            ("decorator", DECORATORS),
            ("inline", INLINE),
            ("scope", SCOPES),
            ("kept", KEPT),
            ("name", NAMES),
        ]
        for case, (source, *expected) in cases.items()
    ],
)
def test_sites_are_found(source: str, expected: list[str]) -> None:
    """Each site is found with its line, kind, name and function, without remarks."""
    check(source, *expected)


@pytest.mark.parametrize(("source", "expected"), ALIASES.values(), ids=list(ALIASES))
def test_other_names(source: str, expected: str) -> None:
    """`failpoint` and `failpoint_scope` are found under whatever name they are imported."""
    check(source, "2 inline x <module>", "3 scope y <module>", before="")


OURS = {
    "in a function": 'def f():\n    from failpoints import failpoint\n    failpoint("x").hit()',
    "in an outer function": 'def f():\n    import failpoints as p\n    def g():\n        p.failpoint("x").hit()',
    "in a class": 'class A:\n    from failpoints import failpoint\n    def f(self):\n        self.failpoint("x").hit()',
    "in a try": 'try:\n    from failpoints import failpoint\nexcept E:\n    failpoint = None\nfailpoint("x").hit()',
    "or a stand-in": (
        "try:\n    from failpoints import failpoint\nexcept ImportError:\n    def failpoint(name): ...\n"
        'def f():\n    failpoint("x").hit()'
    ),
    "under a condition": 'if a:\n    from failpoints import failpoint\nfailpoint("x").hit()',
    "assigned": 'from failpoints import failpoint\nfp = failpoint\nfp("x").hit()',
    "assigned from the package": 'import failpoints\nfp: Any = failpoints.failpoint\nfp("x").hit()',
    "assigned, or none": 'import failpoints as f\nfp = f.failpoint if a else none\nfp("x").hit()',
    "global": 'def f():\n    global p\n    import failpoints as p\np.failpoint("x").hit()',
    "past a class": (
        'from failpoints import failpoint\nclass A:\n    failpoint = 1\n    def f(self):\n        failpoint("x").hit()'
    ),
    "bound by others before": 'from a import failpoint\nfrom failpoints import failpoint\nfailpoint("x").hit()',
    "bound by others if at all": (
        'from failpoints import failpoint\ndef f():\n    global failpoint\n    failpoint = 1\nfailpoint("x").hit()'
    ),
    "bound by others later": 'from failpoints import failpoint\nfailpoint("x").hit()\nfrom a import failpoint',
}


@pytest.mark.parametrize("source", OURS.values(), ids=list(OURS))
def test_ours(source: str) -> None:
    """Names are resolved by Python's scoping rules, wherever they are bound."""
    found = scan(source, before="")
    assert [site.name for site in found.declared] == ["x"]
    assert (found.unresolved, found.never_awaited) == ((), ())


OTHERS = {
    "not imported": '@failpoint("x")\ndef f(): ...',
    "imported from elsewhere": 'from other import failpoint\nfailpoint("x").hit()',
    "imported from a neighbour": 'from .failpoints import failpoint\nfailpoint("x").hit()',
    "imported from a package of that name": 'from .. import failpoints\nfailpoints.failpoint("x").hit()',
    "an attribute of others": 'import other\nother.failpoint("x").hit()',
    "a submodule": 'import failpoints.errors as failpoints\nfailpoints.failpoint("x").hit()',
    "something else of ours": 'from failpoints import configured as failpoint\nwith failpoint("x"): ...',
    "defined": IMPORT + 'def failpoint(name): ...\n@failpoint("x")\ndef f(): ...',
    "defined inside": IMPORT + 'def f():\n    def failpoint(name): ...\n    failpoint("x").hit()',
    "defined below, inside": IMPORT + 'def f():\n    failpoint("x").hit()\n    def failpoint(name): ...',
    "a class": IMPORT + 'class failpoint: ...\nfailpoint("x").hit()',
    "in a class": IMPORT + 'class A:\n    def failpoint(name): ...\n    a = failpoint("x").hit()',
    "a parameter": IMPORT + 'def f(failpoint):\n    failpoint("x").hit()',
    "a parameter of any kind": IMPORT + 'def f(*failpoint, **failpoint_scope):\n    failpoint("x").hit()\n'
    '    with failpoint_scope("x"): ...',
    "a parameter around": IMPORT + 'def f(a, /, *, failpoint):\n    def g():\n        failpoint("x").hit()',
    "a parameter of a lambda": IMPORT + 'lambda failpoint: failpoint("x").hit()',
    "the fixture": 'import failpoints\ndef test(failpoints):\n    failpoints.failpoint("x").hit()',
    "a variable": IMPORT + 'def f():\n    failpoint = print\n    failpoint("x").hit()',
    "a variable of a loop": IMPORT + 'def f():\n    for failpoint in a:\n        failpoint("x").hit()',
    "of a comprehension": IMPORT + '[failpoint("x").hit() for failpoint in a]',
    "of a with": IMPORT + 'def f():\n    with a as (failpoint, b):\n        failpoint("x").hit()',
    "of an except": IMPORT + 'def f():\n    try: ...\n    except E as failpoint:\n        failpoint("x").hit()',
    "of a match": IMPORT + 'def f():\n    match a:\n        case [failpoint, *_]:\n            failpoint("x").hit()',
    "of another match": IMPORT
    + 'def f():\n    match a:\n        case {**failpoint}:\n            failpoint("x").hit()',
    "made global": IMPORT + 'def f():\n    global failpoint\n    failpoint = 1\nfailpoint = 2\nfailpoint("x").hit()',
    "a text": 'a = """from failpoints import failpoint\nfailpoint("x").hit()"""',
    "a comment": '# from failpoints import failpoint\n# failpoint("x").hit()',
    "no use of it": IMPORT + "print(failpoint)\nfailpoint.__doc__",
    "other methods": IMPORT + 'ball("x").hit()\nwith open("x"): ...\nprint("x")',
}


@pytest.mark.parametrize("source", OTHERS.values(), ids=list(OTHERS))
def test_others(source: str) -> None:
    """Unrelated objects of the same name give neither sites nor remarks."""
    assert scan_source(source, "file.py") == Scan()


UNRESOLVED = {
    "formatted": ('def f(n):\n    failpoint(f"a.{n}").hit()', "3 f: failpoint(f'a.{n}'): {unknown}"),
    "with a format": ('N = 1\nfailpoint(f"a.{N:02}").hit()', "3 <module>: failpoint(f'a.{N:02}'): {unknown}"),
    "with a conversion": ('N = "n"\nfailpoint(f"{N!r}").hit()', "3 <module>: failpoint(f'{N!r}'): {unknown}"),
    "a parameter": ('def f(n="x"):\n    @failpoint(n)\n    def g(): ...', "3 f: failpoint(n): {unknown}"),
    "of a loop": ('for n in a:\n    failpoint("a." + n).hit()', "3 <module>: failpoint('a.' + n): {unknown}"),
    "assigned twice": ('N = "x"\nif a:\n    N = "y"\nfailpoint(N).hit()', "5 <module>: failpoint(N): {unknown}"),
    "assigned again": ('N = "x"\nN = "y"\nfailpoint(N).hit()', "4 <module>: failpoint(N): {unknown}"),
    "augmented": ('N = "x"\nN += "y"\nfailpoint(N).hit()', "4 <module>: failpoint(N): {unknown}"),
    "deleted": ('N = "x"\ndel N\nfailpoint(N).hit()', "4 <module>: failpoint(N): {unknown}"),
    "changed from a function": (
        'N = "x"\ndef f():\n    global N\n    N = "y"\nfailpoint(N).hit()',
        "6 <module>: failpoint(N): {unknown}",
    ),
    "changed from an inner function": (
        'def f():\n    n = "x"\n    def g():\n        nonlocal n\n        n = "y"\n    failpoint(n).hit()',
        "7 f: failpoint(n): {unknown}",
    ),
    "changed in a comprehension": (
        'N = "x"\n[N := a for a in b]\nfailpoint(N).hit()',
        "4 <module>: failpoint(N): {unknown}",
    ),
    "changed by an instance": (
        'class A:\n    N = "x"\n    def f(self, n):\n        self.N = n\n        failpoint(self.N).hit()',
        "6 A.f: failpoint(self.N): {unknown}",
    ),
    "of itself": ('N = N + "x"\nfailpoint(N).hit()', "3 <module>: failpoint(N): {unknown}"),
    "of each other": ("M = N\nN = M\nfailpoint(N).hit()", "4 <module>: failpoint(N): {unknown}"),
    "a property": (
        "class A:\n    @property\n    def n(self): ...\n    def f(self):\n        failpoint(self.n).hit()",
        "6 A.f: failpoint(self.n): {unknown}",
    ),
    "called": ('failpoint("a".upper()).hit()', "2 <module>: failpoint('a'.upper()): {unknown}"),
    "imported": ("from names import N\nwith failpoint_scope(N): ...", "3 <module>: failpoint_scope(N): {unknown}"),
    "spread": ("failpoint(*names).hit()", "2 <module>: failpoint(*names): {unknown}"),
    "of a static method's argument": (
        'class A:\n    N = "x"\n    @staticmethod\n    def f(self):\n        failpoint(self.N).hit()',
        "6 A.f: failpoint(self.N): {unknown}",
    ),
    "unpacked from the end": (
        '*A, B, C = "a", "b", *c\nfailpoint(B).hit()',
        "3 <module>: failpoint(B): {unknown}",
    ),
    "unpacked": (
        'A, *B = "x", "y"\nC, D = a\nfailpoint(B).hit()\nfailpoint(C).hit()',
        "4 <module>: failpoint(B): {unknown}",
        "5 <module>: failpoint(C): {unknown}",
    ),
    "long": (f'failpoint(name("{"x" * 100}")).hit()', f"2 <module>: failpoint(name('{'x' * 74}…): {{unknown}}"),
    "missing": ("failpoint().hit()", "2 <module>: failpoint(): the name is missing"),
    "missing, with options": ("failpoint(context={}).hit()", "2 <module>: failpoint(): the name is missing"),
    "missing in a decorator": ("@failpoint()\ndef f(): ...", "2 <module>: failpoint(): the name is missing"),
    "missing in a scope": ("with failpoint_scope(): ...", "2 <module>: failpoint_scope(): the name is missing"),
    "bare": (
        "class A:\n    @property\n    @failpoint\n    def f(self): ...",
        '4 A.f: @failpoint: the name is missing; write @failpoint("some.name")',
    ),
    "around a function": ("def f(): ...\nf = failpoint(f)", "3 <module>: failpoint(f): {unknown}"),
    "by keyword": ('failpoint(name="x").hit()', "2 <module>: failpoint(name='x'): pass the name without `name=`"),
    "a number": ("failpoint(3).hit()", "2 <module>: failpoint(3): the name is not a string"),
    "a number by name": ("N = 3\nfailpoint(N).hit()", "3 <module>: failpoint(N): the name is not a string"),
    "bytes": ('failpoint(b"x").hit()', "2 <module>: failpoint(b'x'): the name is not a string"),
    "true": ("failpoint(True).hit()", "2 <module>: failpoint(True): the name is not a string"),
    "a list": ('failpoint(["x"]).hit()', "2 <module>: failpoint(['x']): the name is not a string"),
    "a function": ("def f(): ...\nfailpoint(f)", "3 <module>: failpoint(f): the name is not a string"),
    "a class": ("class A: ...\nfailpoint(A)", "3 <module>: failpoint(A): the name is not a string"),
    "a failpoint": ("failpoint(failpoint)", "2 <module>: failpoint(failpoint): the name is not a string"),
}


@pytest.mark.parametrize(
    ("source", "expected"), [(source, expected) for source, *expected in UNRESOLVED.values()], ids=list(UNRESOLVED)
)
def test_unresolved(source: str, expected: list[str]) -> None:
    """A name that is unknown or invalid is reported as a remark and not guessed."""
    found = scan(source)
    assert found.declared == ()
    unknown = "the name is unknown before the program runs"
    assert remarks(found.unresolved) == [line.replace("{unknown}", unknown) for line in expected]
    assert len({place.line for place in (*found.unresolved, *found.never_awaited)}) == len(expected)


def test_partly_known() -> None:
    """If one of two names is known, that one is declared and the other is reported as a remark."""
    found = scan('def f(n=None):\n    failpoint(n or "x").hit()')
    assert sites(found) == ["3 inline x f"]
    assert remarks(found.unresolved) == ["3 f: failpoint(n or 'x'): the name is unknown before the program runs"]


IDLE = {
    "statement": 'failpoint("x")',
    "match": 'match failpoint("x"):\n    case _: ...',
    "if": 'if failpoint("x"): ...',
    "walrus": 'if a := failpoint("x"): ...',
    "while": 'while not failpoint("x"): ...',
    "assert": 'assert failpoint("x")',
    "choice": '1 if failpoint("x") else 2',
    "and": 'a = failpoint("x") and b',
    "last of and, on another line": 'if (a and\n    failpoint("x")): ...',
    "last of and": 'if a and (b or failpoint("x")): ...',
    "equal": 'a = failpoint("x") == b',
    "equal, on the right": 'a = b != failpoint("x")',
    "filter": '[a for a in b if failpoint("x")]',
    "guard": 'match a:\n    case _ if failpoint("x"): ...',
    "with": 'with failpoint("x"): ...',
    "async with": 'async def f():\n    async with failpoint("x"): ...',
}


@pytest.mark.parametrize("source", IDLE.values(), ids=list(IDLE))
def test_never_awaited(source: str) -> None:
    """An inline failpoint that is never awaited, hit, stored or passed on is declared, with a remark."""
    found = scan(source)
    assert [(site.name, site.kind) for site in found.declared] == [("x", "inline")]
    [remark] = found.never_awaited
    assert (remark.text, remark.line) == ("failpoint('x') is neither awaited nor hit", found.declared[0].line)
    assert found.unresolved == ()


def test_kept_and_never_awaited() -> None:
    """A stored failpoint that is used like an outcome is reported as a remark."""
    found = scan('a = failpoint("x")\nif a: ...\na.hit()\nb = failpoint_scope("y")\nb')
    assert sites(found) == ["4 inline x <module>", "5 scope y <module>"]
    assert remarks(found.never_awaited) == [
        "3 <module>: failpoint('x') is neither awaited nor hit",
        "6 <module>: failpoint_scope('y') is never entered with `with`",
    ]


@pytest.mark.parametrize("use", ["{}", "async def f():\n    await {}", "{}.hit()", "@{}\ndef f(): ..."])
def test_never_entered(use: str) -> None:
    """A scope that is unused, or used like a failpoint, is reported as a remark."""
    found = scan(use.format('failpoint_scope("x")'))
    assert [(site.name, site.kind) for site in found.declared] == [("x", "scope")]
    assert [remark.text for remark in found.never_awaited] == ["failpoint_scope('x') is never entered with `with`"]


# the result of a scan


def test_names() -> None:
    """Decorators and scopes also have a failpoint after them, but inline calls do not."""
    [decorator, scope, inline] = scan(
        '@failpoint("x")\ndef f(): ...\nwith failpoint_scope("y"): failpoint("z").hit()'
    ).declared
    assert [decorator.names, scope.names, inline.names] == [("x", "x:after"), ("y", "y:after"), ("z",)]


def test_values() -> None:
    """Sites are immutable, hashable values that compare equal."""
    one, other = scan('failpoint("x")'), scan('failpoint("x")')
    assert one == other
    assert len({one, other, *one.declared, *other.declared, *one.never_awaited}) == 3
    for value, field in ((one, "declared"), (one.declared[0], "line"), (one.never_awaited[0], "line")):
        with pytest.raises(FrozenInstanceError):
            setattr(value, field, ())


def test_uses_of_one_object() -> None:
    """Uses of a stored object are marked as such, which does not affect equality."""
    source = 'p = failpoint("x")\nasync def f():\n    await p\n    p.hit()\n    await failpoint("x")'
    first, second, other = scan(source).declared
    assert first.made == second.made == (2, 14)
    assert other.made == (6, 20)
    [moved] = scan('async def f():\n    await (  failpoint("x"))', before=f"{IMPORT}\n\n").declared
    assert moved == replace(moved, made=(1, 1), redefined=1)
    assert "made" not in repr(moved)


def test_a_function_that_replaces_another() -> None:
    """Sites in a function that replaces another one of the same name are marked as such."""
    source = """
        @failpoint("a")
        def f(): ...
        @first
        @failpoint("b")
        def f():
            failpoint("c").hit()
            @failpoint("d")
            def g(): ...
        if a:
            @failpoint("e")
            def f(): ...
        failpoint("f").hit()
    """
    assert {site.name: site.redefined for site in scan(source).declared} == dict.fromkeys("aef", 0) | dict.fromkeys(
        "bcd", 4
    )


def test_merged() -> None:
    """Merged scans are sorted by file and line, without duplicates."""
    a, b = (scan_source(f'{IMPORT}failpoint("x")\nfailpoint(n).hit()', file) for file in "ab")
    both = Scan.merged([b, a, b])
    assert [site.file for site in both.declared] == ["a", "b"]
    assert both == Scan(a.declared + b.declared, a.unresolved + b.unresolved, a.never_awaited + b.never_awaited)
    assert Scan.merged([]) == Scan()


# other input than Python source


@pytest.mark.parametrize("source", ["", "\n", "def (", b"\0\xff", "\0"])
def test_nothing_to_find(source: str | bytes) -> None:
    """Source without the word `failpoint` is not parsed, even if it is invalid."""
    assert scan_source(source, "file.py") == Scan()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "cp1252", "utf-7"])
def test_encodings(encoding: str) -> None:
    """Bytes are decoded as Python does, by their byte order mark or encoding declaration."""
    source = f'# coding: {encoding}\n{IMPORT}failpoint("é").hit()'
    expected = ("é", 3)
    for form in (source, source.encode(encoding)):
        [site] = scan_source(form, "file.py").declared
        assert (site.name, site.line) == expected


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_ends_of_lines(end: str) -> None:
    """Lines are counted as Python counts them."""
    source = f'{IMPORT}\x0c\nfailpoint("x").hit()'.replace("\n", end)
    for form in (source, source.encode()):
        [site] = scan_source(form, "file.py").declared
        assert site.line == 3


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ('failpoint("x")\n(', 2),
        ("failpoint\nif a:\npass", 3),
        ("failpoint\n\0", 1),
        (b"failpoint\n\0", 1),
        (b"failpoint = '\xff'", 1),
        (b"# coding: nonsense\nfailpoint", 1),
        (b"# coding: rot13\nfailpoint", 1),
        (b"\xef\xbb\xbf# coding: latin-1\nfailpoint", 1),
        (b"# coding: ascii\nfailpoint = '\xc3\xa9'", 1),
        ("failpoint = '\ud800'", 1),
        ("failpoint = " + "9" * 5000, 1),
        ("failpoint = " + "(" * 1000 + ")" * 1000, 1),
    ],
)
def test_invalid_python(source: str | bytes, line: int) -> None:
    """Invalid Python is reported as a remark with the line of the error."""
    found = scan_source(source, "file.py")
    assert found.declared == found.never_awaited == ()
    [remark] = found.unread
    assert (remark.file, remark.function) == ("file.py", "<module>")
    assert remark.line in (line, 1)
    assert remark.text.startswith("not valid Python: ")


DEEP = {
    "sum": "a = " + "+".join(["b"] * 20_000),
    "calls": "a" + ".b()" * 20_000,
    "not": "a = " + "not " * 20_000 + "b",
    "minus": "a = " + "-" * 20_000 + "b",
    "elif": "if a: ...\n" + "elif a: ...\n" * 20_000,
    "lambda": "a = " + "lambda: " * 20_000 + "0",
    "choices": "a = " + "b if c else " * 20_000 + "d",
    "powers": "a = " + "**".join(["b"] * 20_000),
}


@pytest.mark.parametrize("source", DEEP.values(), ids=list(DEEP))
def test_nested_too_deeply(source: str) -> None:
    """Source that is too deeply nested for Python is reported as a remark, without a crash."""
    found = scan(source + '\nfailpoint("x").hit()')
    if found.declared:
        assert (len(found.declared), found.unresolved) == (1, ())
    else:
        assert remarks(found.unread) == ["1 <module>: nested too deeply to be parsed"]


@pytest.mark.parametrize(
    "source",
    [
        "if a: ...\n" + "elif a: ...\n" * 300,
        "N = " + "+".join(["''"] * 600) + "\nfailpoint(N).hit()",
        "failpoint(" + "+".join(["n"] * 600) + ").hit()",
        "\n".join(f"a{n + 1} = a{n}" for n in range(2_000)) + "\nfailpoint(a2000).hit()",
        "\n".join(f"if a{n}: ..." for n in range(5_000)),
        "\n".join("a = a\nif a: ..." for _ in range(5_000)),
    ],
)
def test_nested_deeply(source: str) -> None:
    """Source that Python can parse is scanned, however deeply it is nested."""
    assert "x <module>" in sites(scan(source + '\nfailpoint("x").hit()'))[0]


@pytest.mark.parametrize(
    "source",
    [
        "n0 = 'x'\n" + "\n".join(f"n{n + 1} = n{n} + n{n}" for n in range(100)),
        "n0 = 'x'\n" + "\n".join(f"n{n + 1} = f'{{n{n}}}{{n{n}}}'" for n in range(100)),
        "n0 = 'x'\n" + "\n".join(f"n{n + 1} = n{n} + ('a' if b else 'c')" for n in range(100)),
        "a = 'x' if b else 'y'\nn100 = f'" + "{a}" * 100 + "'",
    ],
)
def test_exponential_names(source: str) -> None:
    """Names that grow exponentially with the possible values are not built."""
    found = scan(source + "\nfailpoint(n100).hit()")
    assert found.declared == ()
    assert [remark.text.partition(": ")[2] for remark in found.unresolved] == [
        "the name is unknown before the program runs"
    ]


def test_python_warnings_are_suppressed() -> None:
    """Python's warnings about the source are suppressed, even where warnings are errors."""
    check('a = "\\d" is 1\nfailpoint("x").hit()', "3 inline x <module>")


PIECES = [*"=@:,()[]{}+#'\0é;", "\n", "\n    ", "n", '"x"', " for n in ", "failpoint", "failpoint_scope", ".hit()"]
PIECES += ["\ndef f(): ", "\nclass A: ", "await ", "with ", "self.n", " if ", "lambda: ", "f'{n}'", "global n", "del n"]


@given(st.lists(st.sampled_from(PIECES)).map("".join))
@settings(max_examples=300, deadline=None)
def test_never_an_exception(text: str) -> None:
    """Scanning arbitrary text never raises."""
    assert isinstance(scan(text), Scan)
    assert isinstance(scan_source((IMPORT + text).encode()[:-1], "file.py"), Scan)


# files and folders


def write(file: Path, source: str | bytes = IMPORT + 'failpoint("x").hit()') -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(source if isinstance(source, bytes) else source.encode())
    return file


def files(*paths: Path) -> list[str]:
    return [site.file for site in scan_paths(paths).declared]


def test_folders(tmp_path: Path) -> None:
    """A folder is searched for Python files, except in subfolders that are not its own source."""
    found = [write(tmp_path / name) for name in ["a.py", "b/__init__.py", "b/c/d.py", "z.py"]]
    for name in [".git/a.py", "b/__pycache__/a.py", "env/pyvenv.cfg", "env/lib/a.py", "a.txt", "b/c.pyc", "apy"]:
        write(tmp_path / name)
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere")
    assert files(tmp_path) == [str(file) for file in found]
    assert scan_paths([tmp_path]).unresolved == ()


def test_explicit_paths(tmp_path: Path) -> None:
    """A path that is given explicitly is scanned, whatever its name."""
    hidden, text, env = (write(tmp_path / name) for name in [".hidden/a.py", "a.txt", "env/a.py"])
    write(tmp_path / "env/pyvenv.cfg", "")
    assert files(hidden.parent, text, env.parent) == sorted(map(str, [hidden, text, env]))


def test_each_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file reached by several paths is scanned once."""
    file = write(tmp_path / "a" / "b.py")
    (tmp_path / "a" / "link.py").symlink_to(file)
    (tmp_path / "a" / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert files(tmp_path, file, tmp_path / "a", tmp_path / "a" / ".." / "a" / "b.py") == [str(file)]
    monkeypatch.chdir(tmp_path)
    assert files(Path("a"), file) == [str(Path("a", "b.py"))]


def test_no_such_path(tmp_path: Path) -> None:
    """A path that does not exist is an error that names it."""
    with pytest.raises(FileNotFoundError) as caught:
        scan_paths([write(tmp_path / "a.py"), tmp_path / "b.py"])
    assert caught.value.filename == str(tmp_path / "b.py")


def test_unreadable_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is unreadable or not Python is reported as a remark, and the others are scanned."""
    bad, good, locked = (write(tmp_path / name) for name in ["bad.py", "good.py", "locked.py"])
    bad.write_text("\nfailpoint(")
    read = Path.read_bytes

    def read_bytes(self: Path) -> bytes:
        if self == locked:
            raise PermissionError(13, "Permission denied")
        return read(self)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    found = scan_paths([tmp_path])
    assert [site.file for site in found.declared] == [str(good)]
    assert found.unread == (
        Remark(str(bad), 2, "<module>", "not valid Python: '(' was never closed"),
        Remark(str(locked), 1, "<module>", "cannot be read: Permission denied"),
    )


def test_a_folder_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that cannot be listed is reported as a remark."""
    write(tmp_path / "a.py")

    def scandir(path: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", scandir)
    assert scan_paths([tmp_path]) == Scan(
        unread=(Remark(str(tmp_path), 1, "<module>", "cannot be read: Permission denied"),)
    )


def test_a_folder_that_cannot_be_entered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder in the tree that belongs to another user is reported as a remark, and the others are scanned."""
    good = write(tmp_path / "good.py")
    locked = tmp_path / "locked"
    locked.mkdir()
    scandir, stat = os.scandir, os.stat

    def no_scandir(path: Any) -> Any:
        if Path(path) == locked:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    def no_stat(path: Any, **options: Any) -> Any:
        if not isinstance(path, int) and locked in Path(os.fspath(path)).parents:
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(os, "scandir", no_scandir)
    monkeypatch.setattr(os, "stat", no_stat)
    found = scan_paths([tmp_path])
    assert [site.file for site in found.declared] == [str(good)]
    assert found.unread == (Remark(str(locked), 1, "<module>", "cannot be read: Permission denied"),)


def test_nothing_is_run(tmp_path: Path) -> None:
    """The source is neither imported nor evaluated."""
    ran = tmp_path / "ran"
    file = write(
        tmp_path / "a.py", f'{IMPORT}failpoint(open({str(ran)!r}, "w").name).hit()\nimport a.b\nraise SystemExit'
    )
    modules = set(sys.modules)
    assert [remark.line for remark in scan_paths([file]).unresolved] == [2]
    assert not ran.exists()
    assert set(sys.modules) == modules


EXAMPLES = {
    "context_demo.py": ["backup"],
    "dynamic_reconfiguration.py": ["copy.file"],
    "lost_reply/client.py": ["gateway.charge"],
    "lost_reply/gateway.py": ["gateway.record"],
}


def test_the_examples() -> None:
    """The failpoints of the examples are found."""
    paths = [ROOT / "examples" / name for name in EXAMPLES]
    found = scan_paths(paths)
    assert (found.unresolved, found.never_awaited) == ((), ())
    assert {path: [site.name for site in found.declared if site.file == str(path)] for path in paths} == dict(
        zip(paths, EXAMPLES.values(), strict=True)
    )
    for site in found.declared:
        assert "failpoint(" in Path(site.file).read_text().splitlines()[site.line - 1]


# comparison with run time

# Each source makes one function to call. A line may be split at a |. A source with a $ occurs once in a module.
SOURCES = [
    """
    @failpoint(|"x$"|)
    def visit$(): ...
    """,
    """
    @(|(lambda function: function))
    @(|failpoint|("x$"))
    async def visit$(): ...
    """,
    """
    def visit$():
        (|failpoint|(|"x$"|)|.|hit|(|)|)
    """,
    """
    async def visit$():
        (|await| failpoint|(|"x$"|)|)
        match (|await| failpoint(|"x$"|)):
            case outcome: ...
    """,
    """
    def visit$():
        with failpoint_scope(|"x$"|): ...
        with (|failpoint_scope(|"y$"|),| failpoint_scope|(|"z$"|)|):
            return 1
    """,
    """
    async def visit$():
        async with (|failpoint_scope|(|"x$"|)| as section,| failpoint_scope(|"x$"|)|):
            await sleep(0)
    """,
    """
    point$, section$ = (|failpoint("x$"), failpoint_scope("y$"))
    @point$
    async def visit$():
        (|await| point$)
        (|point$|.|hit())
        with (|section$|):
            async with section$, section$: ...
    """,
    """
    class Visitor$:
        name = "x$"
        point, section = (|failpoint(name), failpoint_scope(name + "y"))
        a = [|failpoint("z$").hit()| for _ in [1]]
        b = list(i for i in [(|point|.hit())])
        with section: ...
        @point
        def __init__(self):
            self.own = failpoint(|f"{self.name}z"|)
        @classmethod
        @failpoint(|"x$"|)
        async def of_class(cls):
            (lambda: (|cls|.point.hit()))()
            with (|cls.section): ...
        async def visit(self):
            (|await| self.own)
            await self.of_class()
    visit$ = Visitor$().visit
    """,
    """
    def outer$():
        global visit$
        def inner():
            return [(lambda: (|failpoint("x$").hit()))() for _ in [1]]
        def visit$():
            inner()
            return {(|failpoint("x$").hit(|)): 1 for _ in [1]}
    outer$()
    """,
    """
    if (|failpoint("x$").hit()): ...
    try:
        def visit$(default=(|failpoint("x$").hit())): ...
    finally:
        failpoint("x$").hit()
    """,
]


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_same_sites_as_at_run_time(data: st.DataObject) -> None:
    """The scan finds the same sites, on the same lines, as visiting them at run time."""
    number = next(MODULES)
    source = IMPORT + "from asyncio import sleep"
    for index, part in enumerate(data.draw(st.lists(st.sampled_from(SOURCES), min_size=1, max_size=5))):
        pieces = textwrap.dedent(part).replace("$", f"_{number}_{index}").split("|")
        source += "".join(data.draw(st.sampled_from(["", "\n" + " " * 20])) + piece for piece in pieces)
    with tempfile.TemporaryDirectory() as folder:
        file = write(Path(folder, f"scanned_{number}.py"), source)
        found = scan_paths([file])
        configure_all([(name, "off") for site in found.declared for name in site.names])
        try:
            module = runpy.run_path(str(file))
            for name, visit in module.items():
                if name.startswith("visit") and inspect.isawaitable(result := visit()):
                    asyncio.run(as_coroutine(result))
        finally:
            reset()
    assert (found.unresolved, found.never_awaited) == ((), ())
    assert {(name, site.line, site.function) for site in found.declared for name in site.names} == {
        (name, site.line, site.function)
        for name in known_names()
        for site in known_sites(name)
        if site.file == str(file)
    }


MODULES = itertools.count()


async def as_coroutine(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


@pytest.mark.parametrize("decorated", ["def f(): ...", "f = lambda: None"])
def test_sites_whose_line_differs_at_run_time(decorated: str) -> None:
    """A function decorated by a call is found at the line of the call, not of the function."""
    check(f'{decorated}\ng = failpoint("x")(f)', "3 decorator x f")


def test_speed() -> None:
    """A long file with many failpoints is scanned quickly."""
    body = "".join(
        f'    @failpoint("speed.{n}")\n    async def f{n}(self, a):\n        if a: await failpoint(f"{{N}}.{n}")\n'
        for n in range(2_000)
    )
    started = time.perf_counter()
    found = scan(f'N = "x"\nclass A:\n{body}')
    assert len(found.declared) == 4_000
    assert time.perf_counter() - started < 10
