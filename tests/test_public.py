"""The public names, and what is said of them."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import pytest

import failpoints
from failpoints import errors, explore
from failpoints.instrument import Instrumentation
from failpoints.pytest_plugin import Failpoints

ROOT = Path(__file__).parents[1]
MODULES = [importlib.import_module(module.name) for module in pkgutil.walk_packages(failpoints.__path__, "failpoints.")]
PUBLIC = [(name, getattr(package, name)) for package in (failpoints, explore) for name in package.__all__]
EXAMPLES = [
    test
    for module in MODULES
    for test in doctest.DocTestFinder().find(module, globs=dict(vars(failpoints)))
    if test.examples
]


@pytest.mark.parametrize("package", [failpoints, explore])
def test_what_is_exported_is_what_the_package_has(package: Any) -> None:
    """`__all__` is sorted and names everything public, and nothing else."""
    has = [
        name for name, thing in vars(package).items() if not name.startswith("_") and not isinstance(thing, ModuleType)
    ]
    assert sorted(has) == package.__all__ == sorted(package.__all__)


def test_every_exception_is_exported_twice() -> None:
    """All errors are in `failpoints.errors` and in `failpoints`."""
    assert set(errors.__all__) <= set(failpoints.__all__)
    assert all(getattr(errors, name) is getattr(failpoints, name) for name in errors.__all__)


@pytest.mark.parametrize(("name", "thing"), PUBLIC)
def test_everything_public_says_what_it_is_for(name: str, thing: Any) -> None:
    """Each public class and function, and each of its public methods, has a docstring of its own."""
    if not (inspect.isclass(thing) or inspect.isroutine(thing)):
        return
    assert thing.__doc__, name
    for method, function in vars(thing).items() if inspect.isclass(thing) else ():
        if not method.startswith("_") and (inspect.isroutine(function) or isinstance(function, property)):
            assert inspect.getdoc(function), f"{name}.{method}"


ATTRIBUTES: dict[type, set[str]] = {
    failpoints.failpoint: {"name", "hit"},
    failpoints.failpoint_scope: {"name"},
    failpoints.failpoint_context: set(),
    Instrumentation: set(),
}


@pytest.mark.parametrize(("cls", "attributes"), ATTRIBUTES.items(), ids=lambda thing: getattr(thing, "__name__", ""))
def test_a_public_class_shows_only_what_is_meant_for_users(cls: type, attributes: set[str]) -> None:
    """The attributes without an underscore, of the class and its instances, are those of its reference."""
    assert {name for name in dir(cls) if not name.startswith("_")} == attributes


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_the_examples_in_docstrings_run(example: doctest.DocTest, failpoints: Failpoints) -> None:
    """What a docstring shows is what happens."""
    example.globs.update(anyio=anyio, failpoints=failpoints, Failpoints=Failpoints)
    assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example).failed == 0


def test_ci_runs_the_readme_command() -> None:
    """The README shows one test command, and `.ci/run` takes it from there."""
    commands = [line for line in (ROOT / "README.md").read_text().splitlines() if "coverage run -m pytest" in line]
    assert len(commands) == 1
    assert commands[0].endswith('coverage run -m pytest -n auto -m "not slow"')
    ci = (ROOT / ".ci" / "run").read_text()
    assert "grep -m 1 'coverage run -m pytest' README.md" in ci
    assert "coverage run -m pytest -n auto -m slow" in ci
