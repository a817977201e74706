"""A file that is overwritten: if the disk is full, the old text is lost and the new one incomplete."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import anyio

from failpoints import failpoint
from failpoints.explore import Run

OLD, NEW = "colour = blue\n", "colour = green\nfont = large\n"


class FirstSettings:
    """Settings that are saved by overwriting the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def save(self, text: str) -> None:
        """Replace the text of the file."""
        await self.write(self.path, text)

    async def write(self, path: Path, text: str) -> None:
        """Write a file line by line. Each line may be the one for which the disk is full."""
        async with await anyio.open_file(path, "w") as file:
            for line in text.splitlines(keepends=True):
                await failpoint("settings.write", context={"line": line}, raises=(OSError,))
                await file.write(line)


class SecondSettings(FirstSettings):
    """Settings that are saved to another file, which replaces the first one when it is complete."""

    async def save(self, text: str) -> None:
        """Replace the text of the file, or leave it unchanged."""
        other = self.path.with_suffix(".new")
        await self.write(other, text)
        await failpoint("settings.replace", raises=(OSError,))
        os.replace(other, self.path)


async def save_settings(run: Run, settings_class: type[FirstSettings]) -> None:
    """Save, and check that the file has the old text or the new one."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "settings"
        path.write_text(OLD)
        async with run.injecting():
            await settings_class(path).save(NEW)
        text = path.read_text()
    assert text in (OLD, NEW), f"the file holds {text!r}"
    assert text == NEW or run.faults


async def first(run: Run) -> None:
    """Save with the bug."""
    await save_settings(run, FirstSettings)


async def second(run: Run) -> None:
    """Save, fixed."""
    await save_settings(run, SecondSettings)
