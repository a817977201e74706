"""The public names, their attributes, docstrings and examples."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import pkgutil
import re
import textwrap
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import pytest

import failpoints
from failpoints import (
    admin,
    asgi,
    client,
    errors,
    explore,
    files,
    fleet,
    instrument,
    pytest_plugin,
    request,
    strategies,
    unittest,
    wsgi,
)
from failpoints._sites.failpoint import Failpoint
from failpoints._sites.scope import Scope
from failpoints.pytest_plugin import Failpoints
from failpoints.request import accept, forward

ROOT = Path(__file__).parents[1]
MODULES = [
    importlib.import_module(module.name)
    for module in pkgutil.walk_packages(failpoints.__path__, "failpoints.")
    if module.name != "failpoints._request.grpc" or find_spec("grpc")  # which has no wheels for Python 3.15
]
FACES: list[Any] = [
    failpoints, accept, admin, asgi, client, errors, explore, files, fleet, forward, instrument, pytest_plugin,
    request, strategies, unittest, wsgi,
]  # fmt: skip
PUBLIC: dict[str, Any] = {name: getattr(face, name) for face in FACES for name in face.__all__}
EXAMPLES = [
    test
    for module in MODULES
    for test in doctest.DocTestFinder().find(module, globs=dict(vars(failpoints)))
    if test.examples
]

ATTRIBUTES = {
    "ActionSyntaxError": "code position problem source text",
    "Break": "",
    "Call": "function",
    "Cancel": "",
    "Cancelled": "",
    "Continue": "",
    "CrashExploration": "bounds broken disk exhaustive failures folder operations replayed states",
    "CrashProgress": "broken max_states states",
    "Delay": "duration",
    "Exit": "status",
    "Exploration": (
        "are_threads audited bounds cut_short exhaustive failures hits interleavings max_faults replayed runs tasks"
        " threads visits"
    ),
    "ExplorationFailed": "code exploration failure replay",
    "Failpoint": "hit name",
    "FailpointCancelled": "code name",
    "FailpointError": "code",
    "FailpointNameError": "code",
    "FailpointPanic": "code",
    "FailpointStatus": "actions configurations hits last_mismatch last_miss matchers misses name sites strays"
    " triggers waiting",
    "FailpointTimeout": "code status",
    "FailpointUsageError": "code",
    "Failpoints": "handle paused remove reset resume seed set status statuses",
    "FailpointsClient": "configure configure_all configured page_url remove reset resume status statuses"
    " wait_until_hit wait_until_paused",
    "FailpointsMixin": "debug doCleanups failpoints failpoints_pause_limit failpoints_processes failpoints_strict"
    " failpoints_timeout run setUpClass",
    "FailpointsMiddleware": "",
    "Failure": "configuration faults kind replay summary timeline",
    "Fleet": "configure configure_all configured members remove reset resume status statuses"
    " wait_until_hit wait_until_paused",
    "FleetHandle": "name remove resume status wait_hit wait_paused",
    "FleetStatus": "actions configurations hits last_mismatch last_miss matchers members misses name sites strays"
    " triggers waiting",
    "FleetTimeout": "code members status",
    "FleetWaiting": "context member name since",
    "Handle": "hits misses name remove resume status triggers"
    " wait_hit wait_hit_sync wait_paused wait_paused_sync waiting",
    "Hit": "context name result",
    "Injected": "action alternative label number visit",
    "InjectedFault": "code",
    "Injecting": "",
    "Instrumentation": "",
    "Job": "report",
    "Off": "",
    "Panic": "message",
    "Pause": "limit",
    "Print": "message",
    "Progress": "failed faults max_runs queued runs",
    "Raise": "error message",
    "Registry": "bound configure configure_all configured remove reset resume seed status statuses"
    " wait_until_hit wait_until_hit_sync wait_until_paused wait_until_paused_sync",
    "RemoteHandle": "name remove resume status wait_hit wait_paused",
    "RequestFailpoints": "sign",
    "Return": "value",
    "Run": "error faults injecting observe observed shared",
    "Scenario": "headers hits misses read services triggers",
    "Scope": "name",
    "Sleep": "duration",
    "Stray": "context count since thread",
    "Term": "action probability times",
    "Then": "actions",
    "Waiting": "context name since",
    "Yield": "",
    "failpoint_context": "",
}
"""The public attributes of every public class and its instances. Any other attribute needs an underscore."""


@pytest.mark.parametrize(
    "face",
    [failpoints, accept, admin, asgi, explore, forward, instrument, request, wsgi],
    ids=lambda face: face.__name__,
)
def test_all_lists_every_public_name(face: Any) -> None:
    """`__all__` is sorted and lists every public name of the module."""
    has = [name for name, thing in vars(face).items() if not name.startswith("_") and not isinstance(thing, ModuleType)]
    assert sorted(has) == face.__all__ == sorted(face.__all__)


def test_every_exception_is_exported_twice() -> None:
    """Every exception is in `failpoints.errors` and in `failpoints`."""
    assert set(errors.__all__) <= set(failpoints.__all__)
    assert all(getattr(errors, name) is getattr(failpoints, name) for name in errors.__all__)


def test_public_classes_have_only_the_listed_attributes() -> None:
    """Every public class has exactly the attributes listed in `ATTRIBUTES`."""
    public = {**PUBLIC, "Failpoint": Failpoint, "Scope": Scope}  # what failpoint() and failpoint_scope() return
    shown = {name: " ".join(attributes(thing)) for name, thing in public.items() if inspect.isclass(thing)}
    assert dict(sorted(shown.items())) == {name: " ".join(sorted(text.split())) for name, text in ATTRIBUTES.items()}


def attributes(cls: type) -> list[str]:
    """Return the public attributes of the class and its instances, without those of foreign base classes."""
    names: set[str] = set()
    for each in cls.__mro__:
        if each.__module__.partition(".")[0] == "failpoints":
            names |= {*vars(each), *inspect.get_annotations(each), *set_on_self(each)}
    return sorted(name for name in names if not name.startswith("_"))


def set_on_self(cls: type) -> set[str]:
    return {
        node.attr
        for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(cls))))
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }


@pytest.mark.parametrize(("name", "thing"), PUBLIC.items(), ids=PUBLIC)
def test_everything_public_is_documented(name: str, thing: Any) -> None:
    """Every public class, function and method has a docstring."""
    if not (inspect.isclass(thing) or inspect.isroutine(thing)):
        return
    assert thing.__doc__, name
    for method, function in vars(thing).items() if inspect.isclass(thing) else ():
        if not method.startswith("_") and (inspect.isroutine(function) or isinstance(function, property)):
            assert inspect.getdoc(function), f"{name}.{method}"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_the_examples_in_docstrings_run(example: doctest.DocTest, failpoints: Failpoints) -> None:
    """Examples in docstrings run and print the output shown."""
    example.globs.update(anyio=anyio, failpoints=failpoints, Failpoints=Failpoints)
    assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example).failed == 0


def test_ci_runs_the_readme_command() -> None:
    """`.ci/run` takes its test command from the README."""
    commands = [line for line in (ROOT / "README.md").read_text().splitlines() if "python -m pytest -n auto" in line]
    assert len(commands) == 1
    assert commands[0].endswith('python -m pytest -n auto -m "not slow"')
    ci = (ROOT / ".ci" / "run").read_text()
    assert "grep -m 1 'python -m pytest -n auto' README.md" in ci
    assert "-m pytest -n auto -m slow" in ci


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/internals.md"])
def test_the_files_that_a_document_names_exist(document: str) -> None:
    """Each path in backticks is in the checkout, or below `failpoints/`."""
    text = (ROOT / document).read_text(encoding="utf-8")
    paths = re.findall(r"`([\w./]+(?:\.py|\.md|/))`", text)
    assert [path for path in paths if not ((ROOT / path).exists() or (ROOT / "failpoints" / path).exists())] == []
