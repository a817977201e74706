"""`instrument_files`: failpoints on Python's functions that change the files of a folder."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager

from .._core import environment, known_sites
from .._core.messages import safe_repr
from ..errors import FailpointUsageError
from .faults import SITES


@contextmanager
def instrument_files(folder: str | os.PathLike[str]) -> Generator[None]:
    """Put failpoints on the functions that change files, for the files of a folder, until the block ends.

    They are visited before a file is changed by `open`, a function of `os`, or whatever is made of these: `pathlib`,
    `shutil`, `tempfile`. Files elsewhere are not touched, nor what C code or another process does. Each has the `path`
    in its context, relative to *folder*.

    | failpoint | visited before | `explore` tries |
    |---|---|---|
    | `files.open` | a file is created | `ENOSPC` |
    | `files.write` | bytes are written; the context has their number as `size` | `ENOSPC:half`, `short_write` |
    | `files.truncate` | a file is truncated, or space is reserved for it | `EIO`, or `ENOSPC` |
    | `files.fsync` | an fsync or fdatasync of a file or folder | `EIO` |
    | `files.rename`, `files.link` | a file gets a name; the context has the other one as `source` | `EXDEV`, or `EIO` |
    | `files.symlink`, `files.mkdir` | a symbolic link or a folder is made | `ENOSPC` |
    | `files.remove` | a file or folder is removed | `EIO` |

    What they are told to return is what the system call does instead: `return(EIO)` is any error by its name, and at
    `files.write` there is `return(short_write:3)` as well. docs/crashes.md has the details.

    Args:
        folder: An existing folder.

    Raises:
        FailpointUsageError: *folder* is not a folder, or this is not Linux.

    >>> import tempfile
    >>> from failpoints.files import instrument_files
    >>> with tempfile.TemporaryDirectory() as folder, instrument_files(folder):
    ...     with configured("files.write", "return(ENOSPC:2)"):
    ...         with open(f"{folder}/state", "w") as file:
    ...             file.write("12345678")
    Traceback (most recent call last):
    OSError: [Errno 28] No space left on device
    """
    root = os.path.realpath(folder)
    if not os.path.isdir(root):
        raise FailpointUsageError(f"instrument_files() takes a folder that exists; got {safe_repr(folder)}")
    if not os.path.isdir("/proc/self/fd"):
        raise FailpointUsageError("instrument_files() needs Linux: it looks up descriptors in /proc/self/fd")
    if not environment.ENABLED:
        yield
        return
    from .faulty import FUNCTIONS, Folder  # imported here because it needs modules that Windows does not have

    instrumented = Folder(root)
    for site in SITES:
        path = f"os:{site.name.partition('.')[2]}"
        known_sites.register_path(site.name, path, f"for the files in {root}", instrumented, site.raises)
    FUNCTIONS.enter(instrumented)
    try:
        yield
    finally:
        FUNCTIONS.leave(instrumented)
        for site in SITES:
            known_sites.unregister(site.name, instrumented)
