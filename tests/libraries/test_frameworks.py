"""The tables of docs/frameworks.md: each path can be instrumented, and a call of it hits the failpoint."""

from __future__ import annotations

import functools
import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from failpoints import InjectedFault
from failpoints.instrument import instrument
from failpoints.pytest_plugin import Failpoints

pytestmark = pytest.mark.anyio

PAGE = (Path(__file__).parents[2] / "docs" / "frameworks.md").read_text(encoding="utf-8")
PATHS = re.findall(r"^\| [^|]+ \| `([\w.]+:[\w.]+)` \|", PAGE, re.MULTILINE)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def found(path: str) -> Any:
    """Return what *path* names."""
    module, _, names = path.partition(":")
    return functools.reduce(getattr, names.split("."), importlib.import_module(module))


def required(function: Any) -> tuple[list[None], dict[str, None]]:
    """Return arguments for each parameter that has no default, `self` included."""
    parameters = [each for each in inspect.signature(function).parameters.values() if each.default is each.empty]
    positional = [None for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    return positional, {each.name: None for each in parameters if each.kind is each.KEYWORD_ONLY}


def test_the_page_has_every_library() -> None:
    """The page has a path for each of the libraries that it is about."""
    named = {path.split(":")[0].split(".")[0] for path in PATHS}
    assert named >= {"starlette", "django", "flask", "aiohttp", "celery", "rq", "arq", "sqlalchemy"}
    assert named >= {"asyncpg", "psycopg", "redis", "httpx", "requests", "aiobotocore"}


@pytest.mark.parametrize("path", sorted(set(PATHS)))
async def test_a_path_of_the_page_is_hit(path: str, failpoints: Failpoints) -> None:
    """A call raises what is configured before anything of it runs, so it needs no server."""
    pytest.importorskip(path.partition(":")[0], exc_type=ImportError)
    with instrument(path, "x"):
        hit = failpoints.set("x", "raise")
        function = found(path)
        positional, named = required(function)
        with pytest.raises(InjectedFault):
            result = function(*positional, **named)
            await result  # not at the call: an awaited call is taken for one of an async function
        assert hit.triggers == 1
