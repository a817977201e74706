"""The processes that tests start, as members of a fleet: `failpoints_processes = true`. Imports no pytest."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .._fleet.visits import Visits

_VARIABLE = "FAILPOINTS_FLEET"


class Processes:
    """Makes the processes that tests start members of a fleet, which has what is configured in this process."""

    def __init__(self) -> None:
        self._undo = ExitStack()
        from .._fleet.folder import Folder  # imported here because most runs do without
        from .._fleet.source import Source

        folder = tempfile.mkdtemp(prefix="failpoints-")  # of mode 0700
        self._folder = Path(folder)
        self._undo.callback(shutil.rmtree, folder, ignore_errors=True)
        self._undo.callback(Source(Folder(self._folder)).end)
        self._undo.callback(_restore, os.environ.get(_VARIABLE))
        os.environ[_VARIABLE] = folder

    def count_visits(self) -> None:
        """Let the processes that are started from now on count their visits."""
        from .._fleet.visits import count_visits

        count_visits(self._folder)

    def visits(self) -> Visits:
        """Return what they have counted so far."""
        from .._fleet.visits import read_visits

        return read_visits(self._folder)

    def end(self) -> None:
        """End what is configured in them, and remove the folder."""
        self._undo.close()


def _restore(before: str | None) -> None:
    if before is None:
        os.environ.pop(_VARIABLE, None)
    else:
        os.environ[_VARIABLE] = before
