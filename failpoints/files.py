"""Failpoints on the functions that change files: `from failpoints.files import instrument_files`."""

from ._crashes.instrumented import instrument_files

__all__ = ["instrument_files"]
