"""Start what the environment variables ask for: the last thing that importing the package does."""

from __future__ import annotations

from ._core import environment
from ._core.grammar import parse_entries
from ._core.log import logger
from ._core.messages import missing_extra
from ._core.registry import configure_all


def start() -> None:
    """Configure, instrument and serve, as the environment variables say."""
    _configure()
    _instrument()
    _serve()


def _configure() -> None:
    entries = parse_entries(environment.CONFIGURATION, "FAILPOINTS")
    if entries and not environment.ENABLED:
        logger.warning("FAILPOINTS is ignored, because FAILPOINTS_ENABLED=0: %s", environment.CONFIGURATION)
    else:
        configure_all(entries)


def _instrument() -> None:
    if environment.INSTRUMENT.strip("; "):
        # Imported here, so that a program that instruments nothing does not pay for it.
        from ._instrument.variable import instrument_from_environment

        instrument_from_environment()


def _serve() -> None:
    if not environment.HTTP:
        return
    try:
        # Imported here, so that a program without a control plane needs neither Starlette nor uvicorn.
        from ._http.server import start_from_environment
    except ModuleNotFoundError as error:
        raise missing_extra(error, "FAILPOINTS_HTTP", "http") from error
    start_from_environment(environment.HTTP, environment.TOKEN, environment.HTTP_ALLOW)
