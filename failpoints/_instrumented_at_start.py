"""Instruments what `FAILPOINTS_INSTRUMENT` names: imported last by the package."""

from __future__ import annotations

from . import _environment

__all__: list[str] = []

if _environment.INSTRUMENT.strip("; "):
    # Here, so that a program that instruments nothing does not even read it.
    from ._instrument_variable import instrument_from_environment

    instrument_from_environment()
