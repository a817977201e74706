"""Importing the library that an integration is for, when it is used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ..errors import FailpointUsageError


def optional(module: str, feature: str, package: str) -> Any:
    """Return a module. Raises `FailpointUsageError`, with what to install, if its *package* is missing."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):  # a dependency of its own
            raise
        raise FailpointUsageError(
            f"{feature} needs {package}, which is not installed: pip install {package}", code="FP018"
        ) from error
