"""Five versions of a store that keeps counters in a folder. Only the last one survives every crash."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    place = os.open(folder, os.O_RDONLY)
    os.fsync(place)
    os.close(place)


class Overwriting:
    """Overwrites its file: a crash comes between the truncation and the data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "counters.json"
        self.counters: dict[str, int] = self.load()

    def load(self) -> dict[str, int]:
        """Read the counters."""
        return json.loads(self.file.read_text()) if self.file.exists() else {}

    def count(self, name: str) -> int:
        """Add one to a counter, save it, and return its value."""
        self.counters[name] = self.counters.get(name, 0) + 1
        self.save(name)
        return self.counters[name]

    def save(self, name: str) -> None:
        """Save all counters, of which one has changed."""
        self.file.write_text(json.dumps(self.counters))


class Renaming(Overwriting):
    """Writes another file and renames it. The rename may persist before the data does."""

    def save(self, name: str) -> None:
        """Save all counters, of which one has changed."""
        other = self.file.with_suffix(".new")
        other.write_text(json.dumps(self.counters))
        other.replace(self.file)


class Syncing(Overwriting):
    """Syncs the file before it renames it. Until the folder is synced, too, the old file may come back."""

    def save(self, name: str) -> None:
        """Save all counters, of which one has changed."""
        other = self.file.with_suffix(".new")
        with open(other, "w") as file:
            file.write(json.dumps(self.counters))
            file.flush()
            os.fsync(file.fileno())
        other.replace(self.file)


class Appending(Overwriting):
    """Appends each change to a log, and syncs it. It does not expect a last line that is incomplete."""

    def load(self) -> dict[str, int]:
        """Read the counters."""
        if not self.file.exists():
            self.file.touch()
            sync_folder(self.folder)
        return dict(self.parse(line) for line in self.file.read_text().splitlines())

    def save(self, name: str) -> None:
        """Append a counter that has changed."""
        with open(self.file, "a") as log:
            log.write(self.format(name, self.counters[name]))
            log.flush()
            os.fsync(log.fileno())

    def format(self, name: str, value: int) -> str:
        """Return a line of the log."""
        return f"{name} {value}\n"

    def parse(self, line: str) -> tuple[str, int]:
        """Return what a line of the log contains."""
        name, value = line.split()
        return name, int(value)


class Durable(Appending):
    """Appends each change with a checksum, and cuts off a last line that is incomplete."""

    def load(self) -> dict[str, int]:
        """Read the counters, up to the first damaged line."""
        counters: dict[str, int] = {}
        if not self.file.exists():
            self.file.touch()
            sync_folder(self.folder)
        with open(self.file, "r+b") as log:
            end = 0
            for line in log:
                text, _, checksum = line.rstrip(b"\n").rpartition(b" ")
                if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(text):
                    break
                name, value = self.parse(text.decode())
                counters[name] = value
                end += len(line)
            log.truncate(end)
            os.fsync(log.fileno())
        return counters

    def format(self, name: str, value: int) -> str:
        """Return a line of the log."""
        text = f"{name} {value}"
        return f"{text} {zlib.crc32(text.encode()):08x}\n"
