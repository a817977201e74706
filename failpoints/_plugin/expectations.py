"""What one test configured and expects to be hit, and the messages when that did not happen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from .._core.actions import Actions, Off
from .._core.configuration import Configuration
from .._core.context import GivenMatchers
from .._core.handle import Handle
from .._core.known_sites import Location
from .._core.messages import safe_repr
from .._core.registry import PROCESS_WIDE
from .._core.status import FailpointStatus
from .._core.store import PROCESS_STORE
from .._core.validation import check_name
from ..errors import FailpointError, FailpointUsageError

_ADVICE = """\
Check the name, the actions and the matchers. If this is intentional, pass expect_hit=False, or set
failpoints_strict = false in the ini file for all tests."""


class _Expectation(NamedTuple):
    configuration: Configuration
    expect_hit: bool | None  # None: configured outside the test, which need not hit it
    where: Location | str


class Expectations:
    """The failpoints that one test configures, in the order in which it does.

    Args:
        timeout: The default timeout of the handles' waits, in seconds.
        pause_limit: How long a pause without a limit of its own lasts, in seconds.
    """

    def __init__(self, timeout: float | None = None, pause_limit: float | None = None) -> None:
        self._timeout = timeout
        self._pause_limit = pause_limit
        self._expectations: list[_Expectation] = []
        self._has_own_seed = False
        self._closed = False

    def set(
        self, name: str, actions: Actions, context: GivenMatchers | None, expect_hit: bool, where: Location | str
    ) -> Handle:
        """Configure a failpoint, and expect a hit unless *expect_hit* is false. *where* is shown in messages."""
        __tracebackhide__ = True
        try:
            check_expect_hit(expect_hit)
            if self._closed:
                raise FailpointUsageError(f"cannot set failpoint {name!r}: the test that has this fixture has ended")
            configuration = PROCESS_STORE.install(name, actions, context, pause_limit=self._pause_limit)
        except FailpointError as error:
            raise error.with_traceback(None) from None  # the frames below do not help the reader of the test
        self._expectations.append(_Expectation(configuration, expect_hit, where))
        return Handle(PROCESS_STORE, name, configuration, self._timeout)

    def seed(self, seed: int | None) -> None:
        """Seed the random draws for the rest of the test."""
        PROCESS_WIDE.seed(seed)
        self._has_own_seed = True

    def close(self) -> None:
        """Refuse later calls of `set`: a task or thread that outlives the test would affect other tests."""
        self._closed = True

    def handle(self, name: str) -> Handle:
        """Return a handle of the configuration of *name*, which need not come from the test."""
        __tracebackhide__ = True
        configuration = PROCESS_STORE.current(check_name(name))
        if configuration is None:
            raise FailpointUsageError(f"failpoint {name!r} is not configured, so it has no handle: set it first")
        return Handle(PROCESS_STORE, name, configuration, self._timeout)

    def unmet(self, for_all_tests: Iterable[Configuration]) -> str:
        """Describe what the test did not exercise, or return an empty string.

        The configurations *for_all_tests* need not be hit, but they must do what they were configured to do.
        """
        judged = [expected for index, expected in enumerate(self._expectations) if not self._is_superseded(index)]
        judged += [_Expectation(configuration, None, "") for configuration in for_all_tests]
        return "\n\n".join(filter(None, map(_complaint, judged)))

    def _is_superseded(self, index: int) -> bool:
        """Return whether the test replaced a configuration before any visit, or set `off` after a hit."""
        configuration = self._expectations[index].configuration
        before, after = (
            [other.configuration for other in others if other.configuration.name == configuration.name]
            for others in (self._expectations[:index], self._expectations[index + 1 :])
        )
        if after and not configuration.misses and configuration.error is None:
            return True
        is_off = all(isinstance(term.action, Off) for term in configuration.terms)
        return is_off and any(earlier.hits for earlier in before)

    def section(self, seed: int) -> str:
        """Describe what the test configured and what else is configured, for the report of a failing test.

        *seed* is the seed of the run.
        """
        shown = list(self._expectations)
        own = {expected.configuration for expected in shown}
        for status in PROCESS_STORE.statuses():
            configuration = PROCESS_STORE.current(status.name)
            if configuration is not None and configuration not in own:
                shown.append(_Expectation(configuration, None, ""))
        parts = [f"{expected.configuration.name}\n{_details(expected)}" for expected in shown]
        if not self._has_own_seed and any(
            0 < term.probability < 1 for expected in shown for term in expected.configuration.terms
        ):
            parts.append(f"The random draws depend on the run's seed: --failpoints-seed={seed} repeats them.")
        return "\n".join(parts)


def _complaint(expected: _Expectation) -> str:
    name, error = expected.configuration.name, expected.configuration.error
    if error is not None and expected.expect_hit is not False:
        problem = "could not do what it was configured to do"
    elif expected.expect_hit and not expected.configuration.hits:
        problem = "was set and never hit"
    else:
        return ""
    details = _details(expected, elsewhere=PROCESS_STORE.statuses())
    advice = "It is configured for the whole run." if expected.expect_hit is None else _ADVICE
    return f"failpoint {name!r} {problem}: the test passed without exercising it.\n{details}\n{advice}"


def _details(expected: _Expectation, elsewhere: Iterable[FailpointStatus] = ()) -> str:
    from .._core.declared import describe_location  # imported here because only messages need them
    from .._core.diagnosis import diagnosis

    configuration = expected.configuration
    facts: list[tuple[str, str]] = []
    if isinstance(configuration.error, FailpointError):
        facts.append(("error", str(configuration.error)))
    elif configuration.error is not None:
        facts.append(("error", f"{safe_repr(configuration.error)}, raised by a matcher or the site's context="))
    if configuration.ended_by is not None:
        replaced = PROCESS_STORE.current(configuration.name) is not None
        facts.append(("ended", "configured again since" if replaced else "no longer configured"))
        facts += [("", f"{waiting.name!r} was waiting there until then") for waiting in configuration.waiting_at_end]
    where = describe_location(expected.where) if isinstance(expected.where, Location) else expected.where
    status = PROCESS_STORE.status_of(configuration)
    try:
        return diagnosis(status, where=where, elsewhere=elsewhere, facts=facts)
    except Exception as error:  # an object of the user's, such as a context key, must not end the run
        return f"  the details cannot be shown: {safe_repr(error)}"


def check_expect_hit(expect_hit: object) -> None:
    """Raise `FailpointUsageError` unless *expect_hit* is a bool."""
    if not isinstance(expect_hit, bool):
        raise FailpointUsageError(f"expect_hit= must be True or False; got {safe_repr(expect_hit)}")
