"""The processes of a run of pytest as one: `failpoints_processes = true`."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import pytest

from _failpoints_pytest.workers import is_worker

_VARIABLE = "FAILPOINTS_FLEET"


class Processes:
    """Makes the processes that tests start members of a fleet, which has what is configured in this process.

    Each worker of pytest-xdist has a fleet of its own. The process that starts them has none.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._undo = ExitStack()
        if not is_worker(config) and cast(Any, config.option).__dict__.get("dist", "no") != "no":
            return
        from .._fleet.folder import Folder  # imported here because most runs do without
        from .._fleet.source import Source

        folder = tempfile.mkdtemp(prefix="failpoints-")  # of mode 0700
        self._undo.callback(shutil.rmtree, folder, ignore_errors=True)
        self._undo.callback(Source(Folder(Path(folder))).end)
        self._undo.callback(_restore, os.environ.get(_VARIABLE))
        os.environ[_VARIABLE] = folder

    def end(self) -> None:
        """End what is configured in them, and remove the folder."""
        self._undo.close()


def _restore(before: str | None) -> None:
    if before is None:
        os.environ.pop(_VARIABLE, None)
    else:
        os.environ[_VARIABLE] = before
