"""What one test configured and expects to be hit, and the messages when that did not happen. Imports no pytest."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable
from contextlib import contextmanager
from typing import NoReturn

from .._core.actions import Actions, Off
from .._core.configuration import Configuration
from .._core.context import GivenMatchers
from .._core.handle import Handle
from .._core.known_sites import Location
from .._core.messages import safe_repr
from .._core.reachability import reachable_terms
from .._core.registry import PROCESS_WIDE
from .._core.store import PROCESS_STORE
from .._core.validation import check_name
from ..errors import FailpointError, FailpointUsageError
from .children import started, was_hit
from .messages import Advice, Expectation, State, facts_on_processes, problem_of, section, state_of, verdict

__unittest = True  # so that unittest leaves the frames of this module out of tracebacks


class Expectations:
    """The failpoints that one test configures, in the order in which it does.

    Args:
        fail: Fails the test with a message.
        advice: What the messages advise, in the words of the framework that runs the test.
        timeout: The default timeout of the handles' waits, in seconds.
        pause_limit: How long a pause without a limit of its own lasts, in seconds.
        strict: Whether a test fails if it did not exercise the failpoints that it set.
        for_all_tests: Configurations that need not be hit, but must do what they were configured to do.
    """

    def __init__(
        self,
        fail: Callable[[str], NoReturn],
        advice: Advice,
        timeout: float | None = None,
        pause_limit: float | None = None,
        *,
        strict: bool = True,
        for_all_tests: Collection[Configuration] = (),
    ) -> None:
        self._fail = fail
        self._advice = advice
        self._timeout = timeout
        self._pause_limit = pause_limit
        self._strict = strict
        self._for_all_tests = for_all_tests
        self._expectations: list[Expectation] = []
        self._has_own_seed = False
        self._closed = False
        self._started = started()
        self._reported = set[Configuration]()  # in the verdict, which the section need not repeat
        self._kept: list[State] | None = None  # at the failure, if what was configured then may have ended since

    def set(
        self,
        name: str,
        actions: Actions,
        context: GivenMatchers | None,
        expect_hit: bool,
        where: Location | str,
        *,
        for_block: bool = False,
    ) -> Handle:
        """Configure a failpoint, and expect a hit unless *expect_hit* is false.

        *where* is shown in messages. With *for_block*, what it replaces returns when it is removed.
        """
        __tracebackhide__ = True
        try:
            check_expect_hit(expect_hit)
            if self._closed:
                raise FailpointUsageError(f"cannot set failpoint {name!r}: the test that has this fixture has ended")
            terms = reachable_terms(name, actions)
            configuration = PROCESS_STORE.prepare(
                name, terms, context, pause_limit=self._pause_limit, for_block=for_block
            )
            PROCESS_STORE.install(configuration)
        except FailpointError as error:
            raise error.with_traceback(None) from None  # the frames below do not help the reader of the test
        self._expectations.append(Expectation(configuration, expect_hit, where))
        return Handle(PROCESS_STORE, configuration, self._timeout)

    def seed(self, seed: int | None) -> None:
        """Seed the random draws for the rest of the test."""
        PROCESS_WIDE.seed(seed)
        self._has_own_seed = True

    def close(self) -> None:
        """Refuse later calls of `set`: a task or thread that outlives the test would affect other tests."""
        self._closed = True

    def handle(self, name: str) -> Handle:
        """Return a handle of the newest configuration of *name*, which need not come from the test."""
        __tracebackhide__ = True
        current = PROCESS_STORE.current(check_name(name))
        if not current:
            raise FailpointUsageError(f"failpoint {name!r} is not configured, so it has no handle: set it first")
        return Handle(PROCESS_STORE, current[0], self._timeout)

    def judge(self) -> None:
        """Fail the test, which has passed, if it did not exercise the failpoints that it set."""
        __tracebackhide__ = True
        if not self._strict:
            return
        judged = [*self._not_superseded(), *(Expectation(each, None, "") for each in self._for_all_tests)]
        unmet = [expected for expected in judged if problem_of(expected)]
        if unmet:
            self._reported = {expected.configuration for expected in unmet}
            processes = self._processes()
            self._fail(verdict((state_of(expected, processes) for expected in unmet), self._advice.never_hit))

    def _processes(self) -> list[tuple[str, str]]:
        """Return facts on the processes that the test started or used."""
        replaced = self._replaced()
        configured = [each.configuration for each in self._expectations if each.configuration not in replaced]
        return facts_on_processes(configured, self._started, self._advice.processes)

    def _not_superseded(self) -> Iterable[Expectation]:
        """Yield the expectations, except those that the test replaced before any visit, and `off` set after a hit."""
        gone = self._replaced()
        hit = set[str]()
        for expected in self._expectations:
            configuration = expected.configuration
            replaced = configuration in gone
            is_off = all(isinstance(term.action, Off) for term in configuration.terms)
            if not (
                (replaced and not configuration.misses and configuration.error is None)
                or (is_off and configuration.name in hit)
            ):
                yield expected
            if was_hit(configuration):
                hit.add(configuration.name)

    def _replaced(self) -> Collection[Configuration]:
        """Return the configurations that the test replaced for good."""
        newer: dict[str, list[Configuration]] = {}
        replaced = set[Configuration]()
        for configuration in (expected.configuration for expected in reversed(self._expectations)):
            others = newer.setdefault(configuration.name, [])
            if any(other.replaces(configuration) for other in others):
                replaced.add(configuration)
            elif not configuration.for_block:
                others.append(configuration)
        return replaced

    @contextmanager
    def example(self, *, includes_set_up: bool) -> Generator[None]:
        """Treat the block, one example of a property, as a test of its own.

        The counts and draws of what is configured begin again, and the block's own configuration is removed after it.
        A block that passes is judged by what it sets itself and, with *includes_set_up*, by what was set before it.
        """
        __tracebackhide__ = True
        set_up, had_own_seed, before = self._expectations, self._has_own_seed, self._started
        self._started = started()
        self._expectations = list(set_up) if includes_set_up else []
        self._kept, self._reported = None, set[Configuration]()
        go_on = PROCESS_STORE.start_over()
        try:
            yield
            self.judge()
        except BaseException as error:
            if not type(error).__module__.startswith("hypothesis."):  # those only end an example, or all of them
                self.keep_state(others=() if includes_set_up else set_up)
            raise
        finally:
            go_on()
            self._expectations, self._has_own_seed, self._started = set_up, had_own_seed, before

    def keep_state(self, others: Collection[Expectation] = ()) -> None:
        """Keep the present state for the section of the report, unless an earlier one is kept."""
        if self._kept is None:
            self._kept = self._states([*others, *self._expectations])

    def section(self, seed: int) -> str:
        """Describe what the test configured and what else is configured, for the report of a failing test.

        This is the state that was kept at the failure or, if there is none, the present one. *seed* is the seed of the
        run.
        """
        states = self._states(self._expectations) if self._kept is None else self._kept
        parts = [section(state for state in states if state.configuration not in self._reported)]
        if not self._has_own_seed and any(
            0 < term.probability < 1 for state in states for term in state.status.actions
        ):
            others = "" if PROCESS_STORE.others is None else ", but not those of other processes"
            parts.append(f"The random draws depend on the run's seed: --failpoints-seed={seed} repeats them{others}.")
        return "\n".join(filter(None, parts))

    def _states(self, expectations: list[Expectation]) -> list[State]:
        own = {expected.configuration for expected in expectations}
        others = [each for each in PROCESS_STORE.configurations() if each not in own]
        shown = [*expectations, *(Expectation(each, None, "") for each in others)]
        processes = self._processes()
        return [state_of(each, processes) for each in shown]


def check_expect_hit(expect_hit: object) -> None:
    """Raise `FailpointUsageError` unless *expect_hit* is a bool."""
    if not isinstance(expect_hit, bool):
        raise FailpointUsageError(f"expect_hit= must be True or False; got {safe_repr(expect_hit)}")
