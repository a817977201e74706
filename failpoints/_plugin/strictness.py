"""What one test set, whether it came to that, and what to say if it did not."""

from __future__ import annotations

from collections.abc import Iterable
from types import FrameType
from typing import NamedTuple

from .._core.actions import Actions, Off
from .._core.configuration import Configuration
from .._core.context import GivenMatchers
from .._core.grammar import check_name
from .._core.handle import Handle
from .._core.known_sites import Site
from .._core.messages import safe_repr
from .._core.registry import PROCESS_WIDE
from .._core.status import FailpointStatus
from .._core.store import PROCESS_STORE
from ..errors import FailpointError, FailpointUsageError

_ADVICE = """\
Mend the name, the actions, the matchers or the test. Where this is meant, say expect_hit=False;
failpoints_strict = false in the ini file says it for all tests."""


class _Setting(NamedTuple):
    configuration: Configuration
    expect_hit: bool | None  # None: whether or not, but if, then as it was told
    where: Site | str


class Settings:
    """The failpoints that a test sets in the process; waits and pauses in it last so many seconds at most."""

    def __init__(self, timeout: float | None = None, pause_limit: float | None = None) -> None:
        self._timeout = timeout
        self._pause_limit = pause_limit
        self._settings: list[_Setting] = []
        self._has_own_seed = False
        self._closed = False

    def set(
        self, name: str, actions: Actions, context: GivenMatchers | None, expect_hit: bool, where: Site | str
    ) -> Handle:
        """Configure a failpoint, and remember where that was asked for, and whether it is to be hit."""
        __tracebackhide__ = True
        try:
            check_expect_hit(expect_hit)
            if self._closed:
                raise FailpointUsageError(f"failpoint {name!r} was set after the test whose fixture this is")
            configuration = PROCESS_STORE.install(name, actions, context, pause_limit=self._pause_limit)
        except FailpointError as error:
            raise error.with_traceback(None) from None  # whoever reads the test has no use for it
        self._settings.append(_Setting(configuration, expect_hit, where))
        return Handle(PROCESS_STORE, name, configuration, self._timeout)

    def seed(self, seed: int | None) -> None:
        """Draw the chances from a seed of the test's own."""
        PROCESS_WIDE.seed(seed)
        self._has_own_seed = True

    def close(self) -> None:
        """The test is over: what a task or thread that outlives it sets would meet other tests."""
        self._closed = True

    def handle(self, name: str) -> Handle:
        """The handle of what is configured, by whomever."""
        __tracebackhide__ = True
        configuration = PROCESS_STORE.current(check_name(name))
        if configuration is None:
            raise FailpointUsageError(f"failpoint {name!r} is not configured, so there is nothing to watch: set it")
        return Handle(PROCESS_STORE, name, configuration, self._timeout)

    def untested(self, others: Iterable[Configuration]) -> str:
        """Why a test that passed did not test what it says; empty if it did.

        `others` are configured for all tests: they need not be hit here.
        """
        judged = [setting for place, setting in enumerate(self._settings) if not self._is_moot(place)]
        judged += [_Setting(configuration, None, "") for configuration in others]
        return "\n\n".join(filter(None, map(_complaint, judged)))

    def _is_moot(self, place: int) -> bool:
        """Whether the test itself set something else in its place: before anything came by, or `off` after a hit."""
        configuration = self._settings[place].configuration
        before, after = (
            [other.configuration for other in others if other.configuration.name == configuration.name]
            for others in (self._settings[:place], self._settings[place + 1 :])
        )
        if after and not configuration.misses and configuration.refusal is None:
            return True
        is_off = all(isinstance(term.action, Off) for term in configuration.terms)
        return is_off and any(earlier.hits for earlier in before)

    def section(self, seed: int) -> str:
        """What a failing test's failpoints did, and whatever else is configured; empty if that is nothing."""
        settings = list(self._settings)
        ours = {setting.configuration for setting in settings}
        for status in PROCESS_STORE.statuses():
            configuration = PROCESS_STORE.current(status.name)
            if configuration is not None and configuration not in ours:
                settings.append(_Setting(configuration, None, ""))
        said = [f"{setting.configuration.name}\n{_told(setting)}" for setting in settings]
        if not self._has_own_seed and any(
            0 < term.probability < 1 for setting in settings for term in setting.configuration.terms
        ):
            said.append(f"The chances come from the run's seed: --failpoints-seed={seed} draws them again.")
        return "\n".join(said)


def _complaint(setting: _Setting) -> str:
    name, refusal = setting.configuration.name, setting.configuration.refusal
    if refusal is not None and setting.expect_hit is not False:
        problem = "could not do what it was set to"
    elif setting.expect_hit and not setting.configuration.hits:
        problem = "was set and never hit"
    else:
        return ""
    told = _told(setting, elsewhere=PROCESS_STORE.statuses())
    advice = "It is configured for the whole run." if setting.expect_hit is None else _ADVICE
    return f"failpoint {name!r} {problem}: the test passed, but it did not test what it says.\n{told}\n{advice}"


def _told(setting: _Setting, elsewhere: Iterable[FailpointStatus] = ()) -> str:
    """What came of a setting."""
    from .._core.declared import place  # only ever needed on the way to a message
    from .._core.diagnosis import diagnosis

    configuration = setting.configuration
    facts: list[tuple[str, str]] = []
    if isinstance(configuration.refusal, FailpointError):
        facts.append(("refused", str(configuration.refusal)))
    elif configuration.refusal is not None:
        facts.append(("raised", f"{safe_repr(configuration.refusal)}, by a matcher or the site's context="))
    if configuration.ended_by is not None:
        again = PROCESS_STORE.current(configuration.name) is not None
        facts.append(("ended", "configured anew since" if again else "not configured any more"))
        facts += [("", f"{waiting.name!r} waited there until then") for waiting in configuration.waited]
    where = place(setting.where) if isinstance(setting.where, Site) else setting.where
    status = PROCESS_STORE.status_of(configuration)
    try:
        return diagnosis(status, where=where, elsewhere=elsewhere, facts=facts)
    except Exception as error:  # what a user's own objects can do must not end the run
        return f"  it cannot be told: {safe_repr(error)}"


def check_expect_hit(expect_hit: object) -> None:
    """Raise `FailpointUsageError` for what is neither true nor false."""
    if not isinstance(expect_hit, bool):
        raise FailpointUsageError(f"expect_hit= is True or False; got {safe_repr(expect_hit)}")


def called_at(frame: FrameType | None) -> Site | str:
    """The place from which the function of this frame was called."""
    caller = frame.f_back if frame is not None else None
    if caller is None:
        return "a place that is not known"
    return Site(caller.f_code.co_filename, caller.f_lineno, caller.f_code.co_qualname)
