"""`failpoints scan` lists the failpoints in source code, and `--check` refuses some."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

Run = Callable[..., Any]


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Write files into the working directory. Each starts with the import of failpoints."""
    monkeypatch.chdir(tmp_path)

    def write(**files: str) -> None:
        for name, text in files.items():
            file = tmp_path / f"{name.replace('__', '/')}.py"
            file.parent.mkdir(exist_ok=True)
            file.write_text(f"from failpoints import failpoint, failpoint_scope\n{dedent(text)}", encoding="utf-8")

    return write


def test_listing(run: Run, source: Callable[..., None]) -> None:
    """Each site has a line, in columns and ordered by file and line. Paths are as given."""
    source(
        shop__stock="""
            async def reserve():
                async with failpoint_scope("stock.commit"):
                    await failpoint("stock.reserve")
        """,
        shop__gateway="""
            @failpoint("gateway.charge")
            def charge(): ...
        """,
    )
    listing = (
        "shop/gateway.py:3  decorator  gateway.charge\n"
        "shop/stock.py:4    scope      stock.commit\n"
        "shop/stock.py:5    inline     stock.reserve\n"
    )
    assert run("scan", "shop") == (0, listing, "")
    assert run("scan", "shop/stock.py", "shop", "--check") == (0, listing, "")
    assert run("scan", "./shop/stock.py").output.splitlines()[0] == "shop/stock.py:4  scope   stock.commit"
    assert run("scan", str(Path("shop").absolute())).output.startswith(str(Path("shop/gateway.py").absolute()))


def test_quickfix(run: Run, source: Callable[..., None]) -> None:
    """`--quickfix` prints a line for each place, as a compiler does. What `--check` refuses is an error."""
    source(
        app="""
            async def work(name):
                await failpoint("sent")
                await failpoint(name)
                failpoint("forgotten")
            async def again():
                await failpoint("sent")
        """,
        broken="def",
    )
    listed = [
        "app.py:4: info: sent (inline)",
        "app.py:6: info: forgotten (inline)",
        "app.py:8: info: sent (inline)",
        "app.py:5: warning: failpoint(name): the name is unknown before the program runs",
        "app.py:6: error: failpoint('forgotten') is neither awaited nor hit",
        "broken.py:2: error: not valid Python: invalid syntax",
    ]
    done = run("scan", ".", "--quickfix")
    assert (done.status, done.output.splitlines()) == (0, listed)
    why = "2 unrelated places share this name, so configuring it affects all of them"
    done = run("scan", ".", "--quickfix", "--check")
    assert (done.status, done.output.splitlines()) == (
        1,
        [*listed, f"app.py:4: error: sent: {why}", f"app.py:8: error: sent: {why}"],
    )
    assert run("scan", ".", "--quickfix", "--json") == (2, "", "Error: give --json or --quickfix, not both\n")


def test_places_to_look_at(run: Run, source: Callable[..., None]) -> None:
    """Unresolved names and failpoints that are never awaited follow the listing. Only `--check` exits with 1 for it."""
    source(
        app="""
            async def work(name):
                await failpoint(name)
                failpoint("forgotten")
                failpoint_scope("idle")
        """,
        broken="def",
    )
    done = run("scan", ".")
    assert (done.status, done.errors) == (0, "")
    assert done.output == dedent("""\
        app.py:5  inline  forgotten
        app.py:6  scope   idle

        could not be read:
          broken.py:2: not valid Python: invalid syntax

        could not be resolved:
          app.py:4: failpoint(name): the name is unknown before the program runs

        never awaited, hit or entered:
          app.py:5: failpoint('forgotten') is neither awaited nor hit
          app.py:6: failpoint_scope('idle') is never entered with `with`
    """)
    assert run("scan", ".", "--check") == done._replace(status=1)
    source(app="async def work(name): await failpoint(name)")
    assert run("scan", "app.py", "--check") == (
        0,
        "could not be resolved:\n  app.py:2: failpoint(name): the name is unknown before the program runs\n",
        "no failpoints found\n",
    )
    source(app="", broken="failpoint(")
    assert run("scan", ".", "--check").status == 1


def test_no_failpoints(run: Run, source: Callable[..., None]) -> None:
    """Without any failpoint the listing is empty, with a note on stderr."""
    source(app="")
    assert run("scan", ".", "--check") == (0, "", "no failpoints found\n")


RELATED = {
    "two branches of a function": """
        async def work(x):
            if x:
                await failpoint("x")
            else:
                await failpoint("x")
    """,
    "a function within a function": """
        async def work(x):
            async def inner():
                await failpoint("x")
            failpoint("x").hit()
    """,
    "one kept object": """
        POINT = failpoint("x")
        async def work():
            await POINT
        def other():
            POINT.hit()
    """,
    "one kept object in a class": """
        class Work:
            point = failpoint("x")
            async def one(self):
                await Work.point
            async def other(self):
                await Work.point
    """,
    "two definitions of one function": """
        import sys
        if sys.platform == "win32":
            @failpoint("x")
            def work(): ...
        else:
            @failpoint("x")
            def work(): ...
    """,
    "a decorated function and a place within a function": """
        def make():
            @failpoint("x")
            def inner(): ...
            failpoint("x").hit()
            return inner
    """,
    "two decorated functions in one": """
        def make():
            @failpoint("x")
            def one(): ...
            @failpoint("x")
            def other(): ...
    """,
    "a decorated function and a place in it": """
        @failpoint("x")
        def work():
            failpoint("x").hit()
    """,
    "definitions in two branches": """
        try:
            import fast
        except ImportError:
            async def work():
                await failpoint("x")
        else:
            async def work():
                await failpoint("x")
    """,
    "two branches of a class": """
        if a:
            class Work:
                @failpoint("x")
                def work(self): ...
        else:
            class Work:
                @failpoint("x")
                def work(self): ...
    """,
    "getter and setter": """
        class Work:
            @property
            @failpoint("x")
            def value(self): ...
            @value.setter
            @failpoint("x")
            def value(self, value): ...
    """,
    "one of two definitions": """
        def work(): ...
        @failpoint("x")
        def work():
            failpoint("x").hit()
    """,
    "one object and a place beside its use": """
        POINT = failpoint("x")
        async def work():
            await POINT
            await failpoint("x")
        async def other():
            await POINT
    """,
    "two names": """
        @failpoint("x")
        def work(): ...
        @failpoint("y")
        def other(): ...
    """,
}

UNRELATED = {
    "two functions": """
        async def work():
            await failpoint("x")
        async def other():
            await failpoint("x")
    """,
    "two decorated functions": """
        @failpoint("x")
        def work(): ...
        @failpoint("x")
        def other(): ...
    """,
    "two methods": """
        class Work:
            @failpoint("x")
            def one(self): ...
            @failpoint("x")
            def other(self): ...
    """,
    "a decorator and an inline call elsewhere": """
        @failpoint("x")
        def work(): ...
        def other():
            failpoint("x").hit()
    """,
    "a definition that takes the place of another": """
        @failpoint("x")
        def work(): ...
        @failpoint("x")
        def work(): ...
    """,
    "a method that takes the place of another": """
        class Work:
            async def work(self):
                await failpoint("x")
            async def work(self):
                def inner():
                    failpoint("x").hit()
    """,
    "functions that are registered": """
        @singledispatch
        def work(a): ...
        @work.register
        @failpoint("x")
        def _(a: int): ...
        @work.register
        @failpoint("x")
        def _(a: str): ...
    """,
    "two kept objects": """
        ONE = failpoint("x")
        OTHER = failpoint("x")
        async def work():
            await ONE
        async def other():
            await OTHER
    """,
    "a constant": """
        NAME = "x"
        async def work():
            await failpoint(NAME)
        async def other():
            await failpoint(f"{NAME}")
    """,
}


@pytest.mark.parametrize("text", RELATED.values(), ids=RELATED)
def test_related_places_pass(text: str, run: Run, source: Callable[..., None]) -> None:
    """Places in one function, and uses of one object, may share a name."""
    source(app=text)
    done = run("scan", "--check", ".")
    assert (done.status, "refused" in done.output, "app.py:" in done.output) == (0, False, True)


@pytest.mark.parametrize("text", UNRELATED.values(), ids=UNRELATED)
def test_unrelated_places_fail(text: str, run: Run, source: Callable[..., None]) -> None:
    """A name that unrelated places share is refused, with all of them."""
    source(app=text)
    done = run("scan", "--check", ".")
    assert done.status == 1
    places = [line.split()[0] for line in done.output.splitlines() if line.startswith("app.py:")]
    assert len(places) == 2
    assert done.output.endswith(
        "\nrefused:\n  x: 2 unrelated places share this name, so configuring it affects all of them\n"
        + "".join(f"    {place}\n" for place in places)
    )
    assert run("scan", ".").status == 0


def test_related_places_count_as_one(run: Run, source: Callable[..., None]) -> None:
    """The objection counts groups of related places, and lists every place."""
    source(
        app="""
            ONE, OTHER = failpoint("x"), failpoint("x")
            async def first():
                await ONE
            async def second():
                await ONE
            async def third():
                await OTHER
        """
    )
    assert run("scan", "--check", ".").output.endswith(
        "refused:\n  x: 2 unrelated places share this name, so configuring it affects all of them\n"
        "    app.py:5\n    app.py:7\n    app.py:9\n"
    )


def test_warnings_of_the_source_are_not_shown(source: Callable[..., None], in_a_shell: Run) -> None:
    """Python's warnings about the source are not printed."""
    source(
        app=r"""
        async def one():
            await failpoint("x"), "\d"
        async def other():
            await failpoint("x")
    """
    )
    done = in_a_shell("scan --check .")
    assert (done.status, "2 unrelated places" in done.output, done.errors) == (1, True, "")


def test_each_file_is_read_once(run: Run, source: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """`--check` reads each file only once."""
    source(app="".join(f'async def f{n}(): await failpoint("x{n % 5}")\n' for n in range(10)))
    read: list[Path] = []
    read_bytes = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path) or read_bytes(path))
    assert run("scan", "--check", ".").output.count("2 unrelated places") == 5
    assert read == [Path("app.py")]


def test_unrelated_places_in_two_files_fail(run: Run, source: Callable[..., None]) -> None:
    """A name that two files share is refused, even if their functions have the same name."""
    text = 'async def work(): await failpoint("x")'
    source(one=text, other=text)
    assert run("scan", "--check", ".").status == 1
    assert run("scan", "--check", "one.py").status == 0


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("a b", "a failpoint's name must be printable, without white space, '=', ';', '[' or ']'; got 'a b'"),
        ("", "a failpoint's name cannot be empty"),
        ("a:after", "names ending in ':after' are reserved for decorated functions and scopes"),
    ],
)
def test_invalid_names_fail(name: str, why: str, run: Run, source: Callable[..., None]) -> None:
    """`--check` refuses the names that the library refuses at run time."""
    source(app=f"async def work(): await failpoint({name!r})")
    assert run("scan", ".").status == 0
    done = run("scan", "--check", ".")
    assert (done.status, done.output.splitlines()[-2:]) == (1, [f"  {name}: {why}", "    app.py:2"])


def test_json(run: Run, source: Callable[..., None]) -> None:
    """`--json` prints the same as a JSON document, with the key `refused` if `--check` is given."""
    source(
        app="""
            @failpoint("x")
            def work(): ...
            async def other(name):
                await failpoint("x")
                await failpoint(name)
                failpoint("y")
        """
    )
    document = {
        "declared": [
            {
                "name": "x",
                "names": ["x", "x:after"],
                "kind": "decorator",
                "file": "app.py",
                "line": 3,
                "function": "work",
            },
            {"name": "x", "names": ["x"], "kind": "inline", "file": "app.py", "line": 6, "function": "other"},
            {"name": "y", "names": ["y"], "kind": "inline", "file": "app.py", "line": 8, "function": "other"},
        ],
        "unresolved": [
            {
                "file": "app.py",
                "line": 7,
                "function": "other",
                "text": "failpoint(name): the name is unknown before the program runs",
            }
        ],
        "never_awaited": [
            {"file": "app.py", "line": 8, "function": "other", "text": "failpoint('y') is neither awaited nor hit"}
        ],
        "unread": [],
    }
    done = run("scan", "--json", ".")
    assert (done.status, json.loads(done.output), done.errors) == (0, document, "")
    done = run("scan", "--json", "--check", ".")
    assert done.status == 1
    assert json.loads(done.output) == {
        **document,
        "refused": [
            {
                "name": "x",
                "why": "2 unrelated places share this name, so configuring it affects all of them",
                "places": ["app.py:3", "app.py:6"],
            }
        ],
    }


def described_shapes(text: str) -> dict[str, dict[str, str]]:
    """Return the types that the help gives, by the name of the shape and the key."""
    shapes: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        if heading := re.fullmatch(r"  (With --json|Each (\w+)).*:", line):
            shapes[heading[2] or "DOCUMENT"] = shape = {}
        elif row := re.match(r"    (\w+) +([\w\[\]]+)(  .*)?$", line):
            shape[row[1]] = row[2]
        elif not line.strip():
            shape = {}
    return shapes


def check_shape(value: Any, kind: str, shapes: dict[str, dict[str, str]]) -> None:
    if kind.endswith("[]"):
        assert isinstance(value, list)
        for each in value:
            check_shape(each, kind.removesuffix("[]"), shapes)
    elif kind in shapes:
        assert value.keys() == shapes[kind].keys()
        for key, each in value.items():
            check_shape(each, shapes[kind][key], shapes)
    else:
        assert type(value) is {"string": str, "integer": int}[kind]


def test_the_json_is_as_the_help_describes_it(run: Run, source: Callable[..., None]) -> None:
    """The help lists each key of the JSON document with its type, and the document has no other keys."""
    source(
        app="""
            @failpoint("x")
            def work(): ...
            async def other(name):
                with failpoint_scope("x"): await failpoint(name)
                failpoint("y")
            from failpoints.instrument import instrument
            instrument("json:loads", "z")
        """,
        broken="def",
    )
    shapes = described_shapes(run("scan", "--help").output)
    assert shapes.keys() == {"DOCUMENT", "SITE", "REMARK", "REFUSAL"}
    document = json.loads(run("scan", "--json", "--check", ".").output)
    assert all(document.values())
    check_shape(document, "DOCUMENT", shapes)


def test_no_path(run: Run) -> None:
    """A missing path is a usage error that names it."""
    done = run("scan")
    assert (done.status, done.output) == (2, "")
    assert "Missing argument 'PATH'" in done.errors


def test_a_path_that_does_not_exist(run: Run, source: Callable[..., None]) -> None:
    """If a path does not exist, nothing is listed."""
    source(app="")
    assert run("scan", "app.py", "nowhere") == (2, "", "Error: nowhere: No such file or directory\n")


def test_control_characters_do_not_reach_the_terminal(run: Run, source: Callable[..., None], tmp_path: Path) -> None:
    """Control characters in names, paths and source are shown as escapes."""
    source(app='async def work():\n  await failpoint("\\x1b[2J")\n  await failpoint("\x85" + x)\n')
    (tmp_path / "app.py").rename(tmp_path / "a\x1bp.py")
    done = run("scan", "--check", ".")
    assert done.status == 1
    assert "a\\x1bp.py:3  inline  \\x1b[2J\n" in done.output
    assert done.output.replace("\n", "").isprintable()
