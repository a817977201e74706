"""The failpoints on the functions that change files, the faults to try there, and what these mean."""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from typing import Any, Final

from .._core.actions import Return
from .._core.messages import did_you_mean, safe_repr
from .._core.site import Site


def _site(name: str, *faults: str) -> Site:
    site = Site(name, raises=(OSError,))
    site.faults = tuple(map(Return, faults))
    return site


OPEN: Final = _site("files.open", "ENOSPC")
WRITE: Final = _site("files.write", "ENOSPC:half", "short_write:half")
WRITE_BYTE: Final = _site("files.write", "ENOSPC")
TRUNCATE: Final = _site("files.truncate", "EIO")
RESERVE: Final = _site("files.truncate", "ENOSPC")
FSYNC: Final = _site("files.fsync", "EIO")
RENAME: Final = _site("files.rename", "EIO")
MOVE: Final = _site("files.rename", "EXDEV")  # to another folder, which may be on another device
LINK: Final = _site("files.link", "EIO")
LINK_ELSEWHERE: Final = _site("files.link", "EXDEV")
SYMLINK: Final = _site("files.symlink", "ENOSPC")
MKDIR: Final = _site("files.mkdir", "ENOSPC")
REMOVE: Final = _site("files.remove", "EIO")

SITES: Final = (OPEN, WRITE, TRUNCATE, FSYNC, RENAME, LINK, SYMLINK, MKDIR, REMOVE)
"""One site of each failpoint."""

FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""The errors after which nothing more fits."""

_REPEATED: Final = (OPEN.name, WRITE.name, TRUNCATE.name, FSYNC.name)  # by CPython, if a signal interrupts them
_SHORT: Final = "short_write"
_FAULT: Final = re.compile(r"(\w+)(?::(\d+|half))?")


@dataclass(frozen=True, slots=True)
class Fault:
    """What a system call does instead: the number of its error, and how many bytes it writes.

    If it writes any, it returns their number, and has no error.
    """

    code: int
    written: int = 0

    def error(self, *paths: Any) -> OSError:
        """Return the exception of a function whose system call fails. *paths* is what the function was given."""
        first, second = (*paths, None, None)[:2]
        if first is None:
            return OSError(self.code, os.strerror(self.code))
        return OSError(self.code, os.strerror(self.code), first, None, second)


def meaning(site: Site, value: object, size: int) -> Fault:
    """Return the fault that a value returned by a failpoint stands for, at a call that writes *size* bytes.

    Raises:
        FailpointUsageError: It stands for none, or for one that no program can see here.
    """
    found = _FAULT.fullmatch(value) if isinstance(value, str) else None
    word, number = (found[1], found[2]) if found else ("", None)
    code = 0 if word == _SHORT else getattr(errno, word, None)
    if not isinstance(code, int) or (word == _SHORT and site.name != WRITE.name):
        known = [*errno.errorcode.values(), *([_SHORT] if site.name == WRITE.name else [])]
        more = f", or {_SHORT} with a number of bytes ({_SHORT}:3)" if site.name == WRITE.name else ""
        raise site.usage_error(
            f"it returns what the system call does instead: the name of an error, such as EIO{more}; got"
            f" {safe_repr(value)}{did_you_mean(word, known)}"
        )
    if code == errno.EINTR:
        check_interrupted(site)
    if number is not None and (site.name != WRITE.name or (code and code not in FULL)):
        raise site.usage_error(f"a number of bytes has a meaning after ENOSPC and {_SHORT} of files.write only")
    if number is None:
        return Fault(code, 0 if code else max(1, size // 2))
    written = min(size, size // 2 if number == "half" else int(number))
    return Fault(code, written if code else max(1, written))


def check_interrupted(site: Site) -> None:
    """Raise `FailpointUsageError` for EINTR in a function that CPython calls again, so that no program sees it."""
    if site.name in _REPEATED:
        raise site.usage_error(
            "CPython repeats this system call after EINTR (PEP 475), so no program sees that error. What it may see of"
            f" a signal is a short write: return({_SHORT}) at files.write"
        )
