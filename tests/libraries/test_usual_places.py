"""The table of docs/instrumenting.md: what `instrument` makes of the places that people name first."""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

import pytest

from failpoints import FailpointUsageError
from failpoints._sites.disguise import Disguise, Expected
from failpoints.instrument import instrument

pytestmark = pytest.mark.anyio

PAGE = Path(__file__).parents[2] / "docs" / "instrumenting.md"
PLACES = [
    (path.strip().strip("`"), kind.strip(), remark.strip())
    for line in PAGE.read_text(encoding="utf-8").partition("| path | kind | remarks |")[2].splitlines()[2:]
    for _, path, kind, remark, _ in [line.split("|")]
]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def kind_of_place(path: str) -> str:
    """Return the kind that a visit on the thread of an event loop would decide for."""
    module, _, names = path.partition(":")
    owner: Any = None
    function: Any = importlib.import_module(module)
    for name in names.split("."):
        owner, function = function, getattr(function, name)
    with instrument(path, "x"):
        instrumented = functools.reduce(getattr, names.split("."), importlib.import_module(module))
        if inspect.iscoroutinefunction(instrumented):
            return "async"
    # redis-py's methods return values for one class and awaitables for the other.
    args = (object.__new__(owner),) if module == "redis" else ()
    expected = Disguise().expected(function, args, {})
    return "sync" if expected is Expected.PLAIN else "awaitable"


def test_the_table_is_complete() -> None:
    """The table has a place of each kind, and none twice."""
    assert len({path for path, _, _ in PLACES}) == len(PLACES) > 70
    assert {kind for _, kind, _ in PLACES} == {"sync", "async", "awaitable", "task", "refused"}


@pytest.mark.parametrize(("path", "kind", "remark"), PLACES, ids=[path for path, _, _ in PLACES])
async def test_a_usual_place(path: str, kind: str, remark: str) -> None:
    """Each place is of the kind that the page gives, or is refused for the reason that it gives."""
    pytest.importorskip(path.partition(":")[0])
    if path.startswith("django.core.cache"):
        from django.conf import settings

        if not settings.configured:
            settings.configure()
    if kind == "refused":
        with pytest.raises(FailpointUsageError, match=remark.partition(";")[0]):
            instrument(path, "x")
    else:
        if remark.startswith("async from Python 3.12") and sys.version_info >= (3, 12):
            kind = "async"
        assert kind_of_place(path) == ("sync" if kind == "task" else kind)
