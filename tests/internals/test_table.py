"""The table in docs/internals.md lists every private name that the package uses, and a test for each."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "failpoints"
DOCUMENTED = {"_exit", "_replace"}  # of os, and of named tuples


class Row(NamedTuple):
    """One row of the table."""

    names: list[str]
    files: list[str]
    test: str


def rows() -> list[Row]:
    """Read the table."""
    _, _, table = (ROOT / "docs" / "internals.md").read_text(encoding="utf-8").partition("\n| name | used in |")
    found = []
    for line in table.splitlines()[2:]:
        if not line.startswith("|"):
            break
        names, files, _, test = (re.findall(r"`([^`]+)`", cell) for cell in line.strip("|").split("|"))
        found.append(Row(names, files, *test))
    return found


ROWS = rows()


def marked_tests() -> set[str]:
    """Return the tests in this folder that have the marker."""
    return {
        f"{file.name}::{node.name}"
        for file in Path(__file__).parent.glob("test_*.py")
        if "\npytestmark = pytest.mark.internals\n" in (text := file.read_text(encoding="utf-8"))
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def test_every_row_has_a_marked_test_and_every_marked_test_a_row() -> None:
    """The last column lists exactly the tests that `nox -s canary` runs."""
    assert {row.test for row in ROWS} == marked_tests()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.names[0])
def test_every_name_is_used_where_the_table_says(row: Row) -> None:
    """Each name of a row is in each of its files."""
    for file in row.files:
        text = (PACKAGE / file).read_text(encoding="utf-8")
        assert [name for name in row.names if name not in text and name.rpartition(".")[2] not in text] == [], file


def private_names(file: Path) -> Iterator[str]:
    """Yield the names that a file reads from objects and modules."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        match node:
            case ast.Attribute(attr=name):
                yield name
            case ast.Call(
                func=ast.Name(id="getattr" | "hasattr" | "setattr"), args=[_, ast.Constant(value=str(name)), *_]
            ):
                yield name
            case ast.ImportFrom(names=names, level=0):
                yield from (each.name for each in names)
            case _:
                pass


def own_names() -> set[str]:
    """Return the names that the package itself defines."""
    found: set[str] = set()
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            match node:
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                    found.add(name)
                case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name, ctx=ast.Store()):
                    found.add(name)
                case ast.Name(id=name, ctx=ast.Store()):
                    found.add(name)
                case ast.Assign(targets=[ast.Name(id="__slots__")], value=ast.Tuple(elts=slots)):
                    found.update(slot.value for slot in slots if isinstance(slot, ast.Constant))
                case _:
                    pass
    return found


def test_every_private_name_of_another_project_has_a_row() -> None:
    """A private name that the package uses and does not define is in the table, in the row of that file."""
    own = own_names()
    missing = [
        (str(file.relative_to(PACKAGE)), name)
        for file in sorted(PACKAGE.rglob("*.py"))
        for name in sorted(set(private_names(file)))
        if re.fullmatch(r"_[A-Za-z]\w*", name) and name not in own | DOCUMENTED
        if not any(name in row.names and str(file.relative_to(PACKAGE)) in row.files for row in ROWS)
    ]
    assert missing == []
