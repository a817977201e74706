"""The plugin's command line options and ini settings."""

from __future__ import annotations

import argparse
import math
import os
from typing import Any, NamedTuple, cast

import pytest

from .workers import is_worker


class Options(NamedTuple):
    """The options of one run. The times are in seconds, and *configured* is the text of `--failpoints`."""

    strict: bool
    timeout: float
    pause_limit: float
    seed: int
    configured: str
    report: bool
    report_json: str | None
    fail_under: float | None
    processes: bool
    explore: int | None
    replay: str | None

    @property
    def counts_visits(self) -> bool:
        """Whether something is said at the end about the visits of the whole run."""
        return self.report or self.report_json is not None or self.fail_under is not None


def add_options(parser: pytest.Parser) -> None:
    """Declare the options and settings."""
    group = parser.getgroup("failpoints")
    group.addoption(
        "--failpoints-seed",
        type=int,
        metavar="N",
        help="seed the random draws (25%%…) to repeat an earlier run, which printed its seed; chosen at random if not"
        " given",
    )
    group.addoption(
        "--failpoints",
        dest="failpoints_configured",
        metavar="TEXT",
        help="configure failpoints for the whole run: 'name=actions;name[key=pattern]=actions'; each test starts with"
        " counts of 0",
    )
    group.addoption(
        "--failpoints-report",
        action="store_true",
        help="at the end, list every failpoint that the imported modules declare; those never hit come first",
    )
    group.addoption("--failpoints-report-json", metavar="FILE", help="write that report to FILE, as JSON")
    group.addoption(
        "--failpoints-fail-under",
        type=parse_percentage,
        metavar="N",
        help="fail the run if less than N percent of the failpoints that the imported modules declare were hit",
    )
    group.addoption(
        "--failpoints-explore",
        nargs="?",
        const=100,
        type=_number_of_orders,
        metavar="N",
        help="run each async test also in N other orders of its tasks (100 if not given)",
    )
    group.addoption(
        "--failpoints-replay",
        metavar="TEXT",
        help="run the only selected test in the order that --failpoints-explore printed",
    )
    parser.addini(
        "failpoints_strict",
        "fail a test that passes without hitting the failpoints it sets (default: true)",
        type="bool",
        default=True,
    )
    parser.addini(
        "failpoints_processes",
        "configure the processes that the tests start, too, and count what they hit (default: false)",
        type="bool",
        default=False,
    )
    _add_seconds(parser, "failpoints_timeout", "seconds until a wait for a hit or a pause times out (default: 10)", 10)
    _add_seconds(parser, "failpoints_pause_limit", "seconds until a pause raises FailpointTimeout (default: 30)", 30)


def parse_percentage(text: str) -> float:
    """Return the percentage of `--failpoints-fail-under`."""
    try:
        percentage = float(text)
    except ValueError:
        percentage = math.nan
    if not 0 <= percentage <= 100:
        raise argparse.ArgumentTypeError(f"expected a percentage from 0 to 100; got {text!r}")
    return percentage


def _number_of_orders(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(
            f"expected a number of orders; got {text!r}. If this is a path, write --failpoints-explore=100 {text}"
        )
    return int(text)


def _add_seconds(parser: pytest.Parser, name: str, description: str, default: float) -> None:
    try:
        parser.addini(name, description, type="float", default=float(default))
    except (AssertionError, ValueError):  # pytest before 8.4 has no type "float"
        parser.addini(name, description, default=float(default))


def read_options(config: pytest.Config) -> Options:
    """Read the options of this run, and check all but the text of `--failpoints`, which `Run` parses.

    Raise `pytest.UsageError` for an invalid one.
    """
    return Options(
        strict=_setting(config, "failpoints_strict"),
        timeout=_seconds(config, "failpoints_timeout"),
        pause_limit=_seconds(config, "failpoints_pause_limit"),
        seed=_seed(config),
        configured=config.getoption("failpoints_configured") or "",
        report=bool(config.getoption("failpoints_report")),
        report_json=config.getoption("failpoints_report_json"),
        fail_under=config.getoption("failpoints_fail_under"),
        processes=_setting(config, "failpoints_processes"),
        explore=config.getoption("failpoints_explore"),
        replay=config.getoption("failpoints_replay"),
    )


def _setting(config: pytest.Config, name: str) -> Any:
    try:
        return config.getini(name)
    except (ValueError, TypeError, pytest.UsageError) as error:
        raise pytest.UsageError(f"{name} in the ini file: {error}") from None


def _seconds(config: pytest.Config, name: str) -> float:
    given = _setting(config, name)
    try:
        seconds = float(given)
    except (TypeError, ValueError):  # pytest before 8.4 returns the text
        seconds = math.nan
    if not seconds > 0:
        raise pytest.UsageError(
            f"{name} in the ini file: expected a number of seconds greater than 0, or inf; got {given}"
        )
    return seconds


def _seed(config: pytest.Config) -> int:
    given: int | None = config.getoption("failpoints_seed")
    if is_worker(config):
        given = cast(Any, config).workerinput.get("failpoints_seed")
    return int.from_bytes(os.urandom(4), "big") if given is None else given
