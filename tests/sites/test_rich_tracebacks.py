"""Tracebacks that Rich shows."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

import failpoints
from failpoints import configured, failpoint, failpoint_scope

PACKAGE = f"{Path(failpoints.__file__).parent}"


@failpoint("rich.charge")
def charge() -> None:
    pass


@failpoint("rich.charge")
async def charge_async() -> None:
    pass


async def inline() -> None:
    await failpoint("rich.charge")


def scope() -> None:
    with failpoint_scope("rich.charge"):
        pass


CALLS: list[Callable[[], object]] = [charge, lambda: anyio.run(charge_async), lambda: anyio.run(inline), scope]


def shown(error: BaseException, **options: object) -> str:
    console = pytest.importorskip("rich.console").Console(file=io.StringIO(), width=200)
    traceback = pytest.importorskip("rich.traceback").Traceback
    console.print(traceback.from_exception(type(error), error, error.__traceback__, **options))
    return console.file.getvalue()


@pytest.mark.parametrize("call", CALLS, ids=["decorated", "async", "inline", "scope"])
def test_an_injected_error(call: Callable[[], object]) -> None:
    """The traceback of an injected error has the line of the site, and no frame of this package."""
    with configured("rich.charge", "raise(TimeoutError)"), pytest.raises(TimeoutError) as caught:
        call()
    text = shown(caught.value)
    assert PACKAGE + "/" not in text
    assert "rich.charge" in text.rpartition("❱")[2]


def test_a_refused_call() -> None:
    """With `suppress`, the frames of this package are one line each."""
    with pytest.raises(failpoints.ActionSyntaxError) as caught:
        failpoints.configure("rich.charge", "raise TimeoutError")
    text = shown(caught.value, suppress=[failpoints])
    assert f"{PACKAGE}/_core/grammar.py" in text
    assert "❱" not in text.partition(f"{PACKAGE}/_core/registry.py")[2]
