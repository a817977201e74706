"""Starts the standalone control plane where `FAILPOINTS_HTTP` asks for it: imported last by the package."""

from __future__ import annotations

from . import _environment
from ._messages import missing_extra

__all__: list[str] = []


def _start() -> None:
    if not _environment.HTTP:
        return
    try:
        # Here, so that a program that does not ask for it needs neither Starlette nor uvicorn.
        from ._server import start_from_environment
    except ModuleNotFoundError as error:
        raise missing_extra(error, "FAILPOINTS_HTTP", "http") from error
    start_from_environment(_environment.HTTP, _environment.TOKEN)


_start()
