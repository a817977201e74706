"""The place that a URL names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

from ..errors import FailpointUsageError
from .folder import Folder
from .place import Place


def parse_url(url: object, source: str) -> Place:
    """Return the place that a URL names. Raises `FailpointUsageError`, whose message names *source*."""
    given: object = os.fspath(cast("os.PathLike[str]", url)) if isinstance(url, os.PathLike) else url
    if not isinstance(given, str) or not given or "\0" in given:
        raise FailpointUsageError(f"{source} is {given!r}: expected the absolute path of a folder, such as /run/shop")
    scheme, separator, _ = given.partition("://")
    if separator:
        known = scheme in ("redis", "rediss", "valkey", "valkeys")
        problem = "this version has no fleets on a server" if known else "this is not the URL of a fleet"
        raise FailpointUsageError(
            f"{source} begins with {scheme}://: {problem}; give the absolute path of a folder, such as /run/shop"
        )
    if not os.path.isabs(given):
        raise FailpointUsageError(
            f"{source} is {given!r}: the path must be absolute, since processes have different working directories;"
            f" did you mean {os.path.abspath(given)!r}?",
            code="FP026",
        )
    return Folder(Path(given))
