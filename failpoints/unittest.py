"""Failpoints in tests of `unittest`, for the runners of `unittest`, Django, pytest and others.

`FailpointsMixin` has for a test case what the pytest plugin has for a test function. It does not import pytest.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn
from unittest import TestCase, TestResult

from ._core import environment
from ._core.messages import safe_repr
from ._core.store import PROCESS_STORE
from ._plugin.children import follow_children
from ._plugin.examples import follow_hypothesis, running
from ._plugin.expectations import Expectations
from ._plugin.fixture import Failpoints
from ._plugin.messages import Advice
from .errors import FailpointUsageError

__all__ = ["FailpointsMixin"]

__unittest = True  # so that unittest leaves the frames of this module out of tracebacks

_ADVICE = Advice(
    """\
Check the name, the actions, the matchers and the place of the decorator. If this is intentional, pass
expect_hit=False, or set failpoints_strict = False in the class for all its tests.""",
    "failpoints_processes = True in the class",
)

if TYPE_CHECKING:
    from ._plugin.processes import Processes

    _Base = TestCase
else:
    _Base = object  # a test case would be collected wherever it is imported


class FailpointsMixin(_Base):
    """Failpoints for each test of a test case: `class TestPay(FailpointsMixin, TestCase)`.

    `self.failpoints` is the object that pytest tests get from the fixture `failpoints`. It can be used in `setUp`, in
    the test, in `tearDown` and in cleanups, which all are part of the test. Afterwards the previous configuration is
    restored, and everything that still waits is woken. A test that passes without hitting a failpoint that it set
    fails. It works with `IsolatedAsyncioTestCase`, with Django's test cases, and under pytest.

    Attributes:
        failpoints: Configures failpoints for the test that is running.
        failpoints_strict: Whether a failpoint that a test sets must be hit.
        failpoints_timeout: The limit of a handle's waits, in seconds; `math.inf` for none.
        failpoints_pause_limit: How long a pause lasts before it raises `FailpointTimeout`, in seconds.
        failpoints_processes: Whether the processes that the tests or `setUpClass` start have what a test sets, and
            their hits count. For what `setUpClass` starts, it has to call `super().setUpClass()` first.

    >>> from unittest import TestCase
    >>> from failpoints.unittest import FailpointsMixin
    >>> class TestPay(FailpointsMixin, TestCase):
    ...     def test_a_lost_reply(self) -> None:
    ...         reply = self.failpoints.set("gateway.charge:after", "1*raise(TimeoutError)")
    ...         self.assertEqual(pay("order-1"), "pay later")
    ...         self.assertEqual(reply.triggers, 1)

    Raises `FailpointUsageError` if the class names `TestCase` before the mixin, and when a test begins if one of these
    attributes is not a `bool` or a number of seconds above 0.
    """

    failpoints: Failpoints
    failpoints_strict: bool = True
    failpoints_timeout: float = 10
    failpoints_pause_limit: float = 30
    failpoints_processes: bool = False
    _failpoints_expectations: Expectations | None = None  # of the last run, and read by the pytest plugin

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        order = [base for base in cls.__mro__ if base in (FailpointsMixin, TestCase)]
        if order[0] is TestCase:
            raise FailpointUsageError(
                f"{cls.__name__} must name FailpointsMixin before its test case:"
                f" class {cls.__name__}(FailpointsMixin, …, TestCase)"
            )

    @classmethod
    def setUpClass(cls) -> None:
        """Follow the processes that are started from now on, if *failpoints_processes* is set. `unittest` calls it."""
        processes = cls._new_processes()
        if processes is not None:
            cls.addClassCleanup(processes.end)
        super().setUpClass()

    def _check_settings(self) -> None:
        cls = type(self).__name__
        for name in ("failpoints_strict", "failpoints_processes"):
            flag = getattr(self, name)
            if not isinstance(flag, bool):
                raise FailpointUsageError(f"{cls}.{name}: expected True or False; got {safe_repr(flag)}")
        for name in ("failpoints_timeout", "failpoints_pause_limit"):
            given: object = getattr(self, name)
            if not isinstance(given, (int, float)) or isinstance(given, bool) or not given > 0:
                raise FailpointUsageError(
                    f"{cls}.{name}: expected a number of seconds greater than 0, or math.inf; got {safe_repr(given)}"
                )

    @classmethod
    def _new_processes(cls) -> Processes | None:
        if not cls.failpoints_processes or not environment.ENABLED or PROCESS_STORE.others is not None:
            return None
        from ._plugin.processes import Processes  # imported here because most tests do without

        return Processes()

    def __getstate__(self) -> object:
        # Django pickles a test to send the failure of a subtest to another process.
        state: Any = super().__getstate__()
        return {key: value for key, value in state.items() if key not in ("failpoints", "_failpoints_expectations")}

    def run(self, result: TestResult | None = None) -> TestResult | None:
        """Run the test with failpoints of its own. `unittest` calls it."""
        try:
            self._check_settings()
        except FailpointUsageError:
            if result is None:
                raise
            result.startTest(self)
            result.addError(self, sys.exc_info())  # of this test: an exception would end the whole run
            result.stopTest(self)
            return result
        with self._own_failpoints():
            return super().run(result)

    def debug(self) -> None:
        """Run the test with failpoints of its own, and let its exceptions through."""
        self._check_settings()
        with self._own_failpoints() as expectations:
            super().debug()
            expectations.judge()

    def doCleanups(self) -> None:  # noqa: N802 - the name of unittest
        """Run the cleanups, and judge the test after the last one if it has passed so far. `unittest` calls it."""
        super().doCleanups()
        # Each part of a test, a cleanup for one, begins with a fresh outcome. Only between them is it that of the test.
        outcome: Any = getattr(self, "_outcome", None)
        expectations = self._failpoints_expectations
        if outcome is None or expectations is None or outcome.expectedFailure is not None:
            return
        if outcome.success:
            self.addCleanup(expectations.judge)
            super().doCleanups()
        if not outcome.success:
            expectations.keep_state()

    @contextmanager
    def _own_failpoints(self) -> Generator[Expectations]:
        processes = self._new_processes()  # of this test alone, if setUpClass of the class was not called
        follow_children()
        follow_hypothesis()
        failure = self.failureException

        def fail(
            message: str,
        ) -> NoReturn:  # without a reference to the test, which Django pickles attribute by attribute
            __tracebackhide__ = True
            raise failure(message)

        expectations = Expectations(
            fail,
            _ADVICE,
            self.failpoints_timeout,
            self.failpoints_pause_limit,
            strict=self.failpoints_strict,
        )
        self.failpoints = Failpoints(expectations)
        self._failpoints_expectations = expectations
        restore = PROCESS_STORE.save()
        is_property = getattr(getattr(self, self._testMethodName), "is_hypothesis_test", False)
        try:
            with running(lambda: expectations, is_property=is_property):
                yield expectations
        finally:
            expectations.close()
            restore()
            if processes is not None:
                processes.end()
