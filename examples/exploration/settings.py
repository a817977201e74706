"""A file that is written in place: when the disk is full, the old text is gone and the new one is not there."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import anyio

from failpoints import failpoint
from failpoints.explore import Run

OLD, NEW = "colour = blue\n", "colour = green\nfont = large\n"


class FirstSettings:
    """Writes over the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def save(self, text: str) -> None:
        """Make this the text of the file."""
        await self.write(self.path, text)

    async def write(self, path: Path, text: str) -> None:
        """Write line by line, as a disk does block by block."""
        async with await anyio.open_file(path, "w") as file:
            for line in text.splitlines(keepends=True):
                await failpoint("settings.write", context={"line": line}, raises=(OSError,))
                await file.write(line)


class SecondSettings(FirstSettings):
    """Writes another file, and puts it in the place of the first one when it is whole."""

    async def save(self, text: str) -> None:
        """Make this the text of the file, or leave it as it was."""
        other = self.path.with_suffix(".new")
        await self.write(other, text)
        await failpoint("settings.replace", raises=(OSError,))
        os.replace(other, self.path)


async def save_settings(run: Run, settings_class: type[FirstSettings]) -> None:
    """Whatever fails, the file holds the old text or the new one."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "settings"
        path.write_text(OLD)
        async with run.injecting():
            await settings_class(path).save(NEW)
        text = path.read_text()
    assert text in (OLD, NEW), f"the file holds {text!r}"
    assert text == NEW or run.faults


async def first(run: Run) -> None:
    """Save in the first way."""
    await save_settings(run, FirstSettings)


async def second(run: Run) -> None:
    """Save in the second way."""
    await save_settings(run, SecondSettings)
