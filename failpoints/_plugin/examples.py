"""Examples of Hypothesis: each call of a function under `@given`, and each run of a state machine. Imports no pytest.

Hypothesis calls `PrimitiveProvider.per_test_case_context_manager` around each example, on the thread that runs the
test, outside the event loop of an async test. That method is replaced once Hypothesis is imported, which is not done
here.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final

import wrapt

from .expectations import Expectations


class running:  # noqa: N801 - used like a function
    """Make the examples that run in the block examples of a test. A class, because it surrounds every test of a run.

    Args:
        expectations: Returns the expectations of the test, once it has any.
        is_property: Whether the test itself is a property, so that its marker and its fixtures belong to each example.
    """

    __slots__ = ("expectations", "is_property", "thread")

    def __init__(self, expectations: Callable[[], Expectations | None], *, is_property: bool) -> None:
        self.expectations = expectations
        self.is_property = is_property
        self.thread = threading.get_ident()

    def __enter__(self) -> None:
        _running.append(self)

    def __exit__(self, *_: object) -> None:
        _running.pop()


_running: Final[list[running]] = []


def _example() -> AbstractContextManager[None]:
    if not _running or _running[-1].thread != threading.get_ident():
        return nullcontext()
    expectations = _running[-1].expectations()
    if expectations is None:
        return nullcontext()
    return _within(expectations, includes_set_up=_running[-1].is_property)


@contextmanager
def _within(expectations: Expectations, *, includes_set_up: bool) -> Generator[None]:
    __tracebackhide__ = True
    with (
        expectations.example(includes_set_up=includes_set_up),
        running(lambda: expectations, is_property=False),  # for a function under `@given` that the example calls
    ):
        yield


def follow_hypothesis() -> None:
    """Have Hypothesis report its examples, now or once it is imported."""
    wrapt.register_post_import_hook(_follow, "hypothesis.internal.conjecture.providers")


def _follow(providers: Any) -> None:
    base: Any = providers.PrimitiveProvider
    if _is_followed(base):
        return

    def follow_later(backend: Any, /, **keywords: Any) -> None:
        super(base, backend).__init_subclass__(**keywords)  # pyright: ignore[reportUnknownMemberType]
        _follow_class(backend)

    base.__init_subclass__ = classmethod(follow_later)
    classes: list[Any] = [base]
    while classes:
        backend = classes.pop()
        _follow_class(backend)
        classes += backend.__subclasses__()


def _follow_class(backend: Any) -> None:
    """Surround the examples of a backend, if it has a context manager of its own."""
    if "per_test_case_context_manager" not in vars(backend):
        return
    original: Any = backend.per_test_case_context_manager

    @contextmanager
    def per_test_case_context_manager(provider: Any) -> Generator[None]:
        __tracebackhide__ = True
        with original(provider), _example():
            yield

    backend.per_test_case_context_manager = per_test_case_context_manager


def _is_followed(base: Any) -> bool:
    return bool(base.per_test_case_context_manager.__module__ == __name__)


@contextmanager
def accepted_under_given(item: Any) -> Generator[None]:
    """Make Hypothesis accept the fixture `failpoints` of a test under `@given`, in the block.

    Hypothesis refuses fixtures with the scope of a function, because they are not set up again for each example. What
    this one has is reset for each.
    """
    providers = sys.modules.get("hypothesis.internal.conjecture.providers")
    if providers is None or not _is_followed(providers.PrimitiveProvider):  # an old version: it refuses with reason
        yield
        return
    definition = item._request._get_active_fixturedef("failpoints") if "failpoints" in item.funcargs else None  # noqa: SLF001 - as Hypothesis does
    if definition is None or definition.func.__module__ != "_failpoints_pytest":  # of a user, who overrides it
        yield
        return
    scope = definition._scope  # noqa: SLF001 - pytest has no public way to change it
    definition._scope = type(scope)("class")  # noqa: SLF001
    try:
        yield
    finally:
        definition._scope = scope  # noqa: SLF001
