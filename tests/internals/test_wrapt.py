"""What decorated and instrumented functions take for granted about wrapt."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

import pytest
import wrapt

pytestmark = pytest.mark.internals


def test_a_wrapper_is_asked_whether_it_is_enabled() -> None:
    """`FunctionWrapper` calls its wrapper only if `enabled()` is true, and keeps attributes named `_self_…`."""
    armed: dict[str, None] = {}
    called: list[tuple[Any, ...]] = []

    def wrapper(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        called.append((instance, args, kwargs))
        return wrapped(*args, **kwargs)

    class Wrapper(wrapt.FunctionWrapper[..., Any]):
        def __init__(self, function: Any) -> None:
            super().__init__(function, wrapper, cast(Any, armed.__len__))
            self._self_kept = "kept"

    def double(number: int) -> int:
        return 2 * number

    wrapped = Wrapper(double)
    assert wrapped(2) == 4
    assert called == []
    armed["name"] = None
    assert wrapped(2) == 4
    assert called == [(None, (2,), {})]
    assert wrapped._self_kept == "kept"
    assert not hasattr(double, "_self_kept")
    assert wrapped.__wrapped__ is double


def test_an_import_hook_runs_at_the_end_of_the_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A post-import hook is called once the module has been executed, and at once if it is imported already."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "imported_by_a_hook.py").write_text("early = 1\nlate = 2\n")
    called: list[Any] = []

    def hook(module: Any) -> None:
        called.append((module.late, sys.modules["imported_by_a_hook"] is module))

    register: Any = wrapt.register_post_import_hook
    register(hook, "imported_by_a_hook")
    assert called == []
    import imported_by_a_hook  # noqa: F401

    assert called == [(2, True)]
    register(hook, "imported_by_a_hook")
    assert called == [(2, True)] * 2
    monkeypatch.delitem(sys.modules, "imported_by_a_hook")


def test_a_proxy_looks_like_what_it_wraps() -> None:
    """A `BaseObjectProxy` has the class and the attributes of the object, and keeps attributes named `_self_…`."""

    class Thing:
        part = "part"

        def __await__(self) -> Any:
            raise NotImplementedError

    class Proxy(wrapt.BaseObjectProxy[Any]):
        def __init__(self, thing: Any) -> None:
            super().__init__(thing)
            self._self_visits = "kept"

    thing = Thing()
    proxy = Proxy(thing)
    assert isinstance(proxy, Thing)
    assert (proxy.part, proxy._self_visits) == ("part", "kept")
    assert vars(thing) == {}
    assert not hasattr(Proxy, "__await__")
