"""A real folder: read as a disk, compared with one, and made from a state."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from .content import Content
from .disk import Disk, File, Names
from .operations import ROOT, Kind


def read_disk(folder: str) -> tuple[Disk, dict[tuple[int, int], int]]:
    """Return a folder as a disk on which everything is certain, and the number of each file by its device and inode."""
    status = os.stat(folder)
    numbers = {(status.st_dev, status.st_ino): ROOT}
    files = {ROOT: File(Kind.FOLDER)}
    names: dict[str, int] = {}
    for path, status in _walk(folder):
        key = (status.st_dev, status.st_ino)
        if key not in numbers:
            numbers[key] = len(numbers)
            files[numbers[key]] = _read(os.path.join(folder, path), status)
        names[path] = numbers[key]
    return Disk(files, names, names), numbers


def difference(folder: str, disk: Disk, unseen: set[int]) -> str:
    """Return in what a folder differs from what a program sees of a disk, or "" if it does not.

    The content of the files in *unseen* is not compared.
    """
    found = dict(_walk(folder))
    for path in sorted({*found, *disk.current}):
        if path not in disk.current:
            return f"{path!r} was not seen to be made"
        if path not in found:
            return f"{path!r} was not seen to be removed"
        expected = disk.files[disk.current[path]].synced()
        there = _read(os.path.join(folder, path), found[path])
        is_equal = disk.current[path] in unseen or there.content.to_bytes() == expected.content.to_bytes()
        if (there.kind, there.target) != (expected.kind, expected.target) or not is_equal:
            return f"{path!r} has content that was not seen to be written"
    return ""


def _walk(folder: str, below: str = "") -> Iterator[tuple[str, os.stat_result]]:
    """Yield every file, folder and symbolic link with its path, but no sockets and the like."""
    for entry in sorted(os.scandir(os.path.join(folder, below)), key=lambda entry: entry.name):
        path = f"{below}/{entry.name}" if below else entry.name
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
            yield path, status
        if stat.S_ISDIR(status.st_mode):
            yield from _walk(folder, path)


def _read(path: str, status: os.stat_result) -> File:
    if stat.S_ISDIR(status.st_mode):
        return File(Kind.FOLDER)
    if stat.S_ISLNK(status.st_mode):
        return File(Kind.LINK, os.readlink(path))
    return File(content=Content.of(Path(path).read_bytes()))


def write_folder(folder: str, names: Names, files: Mapping[int, tuple[Kind, str, Content]]) -> None:
    """Make a folder have exactly these names and files, and nothing else."""
    os.makedirs(folder, exist_ok=True)
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)
    made: dict[int, str] = {}
    for name in sorted(names):  # a folder before what is in it
        path, number = os.path.join(folder, name), names[name]
        kind, target, content = files[number]
        if kind is Kind.FOLDER:
            os.mkdir(path)
        elif number in made:
            os.link(made[number], path, follow_symlinks=False)
        elif kind is Kind.LINK:
            os.symlink(target, path)
        else:
            with open(path, "wb", buffering=0) as file:
                file.write(content.to_bytes())
        made[number] = path
