"""Start what the environment variables ask for: the last thing that importing the package does."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Sequence

from ._core import environment
from ._core.configuration import Configuration
from ._core.grammar import parse_entries
from ._core.known_sites import known_sites
from ._core.log import logger
from ._core.messages import missing_extra
from ._core.store import PROCESS_STORE
from ._core.tracebacks import own_frames_hidden
from ._core.uncaught import print_only_message
from .errors import FailpointError


def start() -> None:
    """Configure, instrument, join a fleet and serve, as the environment variables say.

    A mistake in one of them is one message. Where it is shown is in the variable, and not in the code that reads it.
    """
    __tracebackhide__ = True  # in pytest
    try:
        with own_frames_hidden:
            _configure()
            _instrument()
            _join_fleet()
            _serve()
    except FailpointError as error:
        if not environment.DEBUG:
            print_only_message(error)
        raise
    _join_pytest()


def _configure() -> None:
    entries = parse_entries(environment.CONFIGURATION, "FAILPOINTS")
    if entries and not environment.ENABLED:
        logger.warning("FAILPOINTS is ignored, because FAILPOINTS_ENABLED=0: %s", environment.CONFIGURATION)
    elif entries:
        configurations = [PROCESS_STORE.prepare(*entry) for entry in entries]
        PROCESS_STORE.install_all(configurations)
        logger.warning("FAILPOINTS is in force: %s", environment.CONFIGURATION.strip())
        atexit.register(_report_unknown_names, os.getpid(), configurations)


def _report_unknown_names(process: int, configurations: Sequence[Configuration]) -> None:
    """Log each name in `FAILPOINTS` that is still configured when the process ends, and that no site had."""
    if os.getpid() != process:  # a forked child, whose parent reports it
        return
    for name in dict.fromkeys(each.name for each in configurations if each.ended_by is None):
        if known_sites(name):
            continue
        # Imported here, because it brings in the scanner of source code.
        from ._core.declared import declared_sites, where_declared

        if name not in declared_sites():
            logger.warning(
                "FAILPOINTS names %r, but no site had that name; declared: %s",
                name,
                where_declared(name),
                extra={"failpoint": name, "failpoint_event": "unknown"},
            )


def _instrument() -> None:
    if environment.INSTRUMENT.strip("; "):
        # Imported here, so that a program that instruments nothing does not pay for it.
        from ._instrument.variable import instrument_from_environment

        instrument_from_environment()


def _join_fleet() -> None:
    if not environment.FLEET:
        return
    if not environment.ENABLED:
        logger.warning("FAILPOINTS_FLEET is ignored, because FAILPOINTS_ENABLED=0")
        return
    # Imported here, so that a program that is not a member does not pay for it.
    from ._fleet.leave import parse_leave
    from ._fleet.member import join
    from ._fleet.urls import parse_url

    leave = parse_leave(environment.FLEET_ALLOW, "FAILPOINTS_FLEET_ALLOW")
    join(parse_url(environment.FLEET, "FAILPOINTS_FLEET"), leave)


def _serve() -> None:
    if not environment.HTTP:
        return
    try:
        # Imported here, so that a program without a control plane needs neither Starlette nor uvicorn.
        from ._http.server import start_from_environment
    except ModuleNotFoundError as error:
        raise missing_extra(error, "FAILPOINTS_HTTP", "http") from error
    start_from_environment(environment.HTTP, environment.TOKEN, environment.HTTP_ALLOW)


def _join_pytest() -> None:
    """Load the rest of the pytest plugin, if pytest runs and has not needed this package so far."""
    plugin = sys.modules.get("_failpoints_pytest")
    if plugin is not None:
        plugin.failpoints_was_imported()
