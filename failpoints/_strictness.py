"""What one test set, whether it came to that, and what to say if it did not."""

from __future__ import annotations

from collections.abc import Iterator
from types import FrameType
from typing import NamedTuple

from ._actions import Actions
from ._configuration import Configuration
from ._context import GivenMatchers
from ._grammar import check_name
from ._handle import Handle
from ._registry import PROCESS_WIDE
from ._sites import Site
from .errors import FailpointUsageError

__all__ = ["Settings", "called_at"]

_UNTESTED = "the test passed, but it did not test what it says"
_ADVICE = """\
Mend the name, the matchers or the test. Where a hit is not needed, say expect_hit=False;
failpoints_strict = false in the ini file says it for all tests."""


class _Setting(NamedTuple):
    configuration: Configuration
    expect_hit: bool
    where: Site | str


class Settings:
    """The failpoints that a test sets in the process; waits and pauses in it last so many seconds at most."""

    def __init__(self, timeout: float | None = None, pause_limit: float | None = None) -> None:
        self._timeout = timeout
        self._pause_limit = pause_limit
        self._settings: list[_Setting] = []

    def set(
        self, name: str, actions: Actions, context: GivenMatchers | None, expect_hit: bool, where: Site | str
    ) -> Handle:
        """Configure a failpoint, and remember where that was asked for, and whether it is to be hit."""
        configuration = PROCESS_WIDE.install(name, actions, context, pause_limit=self._pause_limit)
        self._settings.append(_Setting(configuration, expect_hit, where))
        return Handle(PROCESS_WIDE, name, configuration, self._timeout)

    def handle(self, name: str) -> Handle:
        """The handle of what is configured, by whomever."""
        configuration = PROCESS_WIDE.current(check_name(name))
        if configuration is None:
            raise FailpointUsageError(f"failpoint {name!r} is not configured, so there is nothing to watch: set it")
        return Handle(PROCESS_WIDE, name, configuration, self._timeout)

    def untested(self) -> str:
        """Why a test that passed did not test what it says; empty if it did."""
        return "\n\n".join(self._complaints())

    def _complaints(self) -> Iterator[str]:
        for setting in self._settings:
            name, refusal = setting.configuration.name, setting.configuration.refusal
            if refusal is not None:
                yield f"failpoint {name!r} could not do what it was set to: {_UNTESTED}.\n{_told(setting)}"
            elif setting.expect_hit and not setting.configuration.hits:
                yield f"failpoint {name!r} was set and never hit: {_UNTESTED}.\n{_told(setting)}\n{_ADVICE}"

    def section(self, seed: int) -> str:
        """What a failing test's failpoints did, and whatever else is configured; empty if that is nothing."""
        settings = list(self._settings)
        ours = {setting.configuration for setting in settings}
        for status in PROCESS_WIDE.statuses():
            configuration = PROCESS_WIDE.current(status.name)
            if configuration is not None and configuration not in ours:
                settings.append(_Setting(configuration, False, ""))
        said = [f"{setting.configuration.name}\n{_told(setting)}" for setting in settings]
        if any(0 < term.probability < 1 for setting in settings for term in setting.configuration.terms):
            said.append(f"The chances come from the run's seed: --failpoints-seed={seed} draws them again.")
        return "\n".join(said)


def _told(setting: _Setting) -> str:
    """What came of a setting."""
    from ._declared import place  # only ever needed on the way to a message
    from ._diagnosis import diagnosis

    configuration = setting.configuration
    facts: list[tuple[str, str]] = []
    if configuration.refusal is not None:
        facts.append(("refused", str(configuration.refusal)))
    if configuration.ended_by is not None:
        again = PROCESS_WIDE.current(configuration.name) is not None
        facts.append(("ended", "configured anew since" if again else "removed since"))
        facts += [("", f"{waiting.name!r} waited there until then") for waiting in configuration.waited]
    where = place(setting.where) if isinstance(setting.where, Site) else setting.where
    return diagnosis(PROCESS_WIDE.status_of(configuration), where=where, facts=facts)


def called_at(frame: FrameType | None) -> Site | str:
    """The place from which the function of this frame was called."""
    caller = frame.f_back if frame is not None else None
    if caller is None:
        return "a place that is not known"
    return Site(caller.f_code.co_filename, caller.f_lineno, caller.f_code.co_qualname)
