"""Which process listens on a port, for the message of another one that cannot."""

from __future__ import annotations

import os
from collections.abc import Iterator
from glob import iglob

_LISTEN = "0A"  # the state in /proc/net/tcp


def listening_process(port: int) -> int | None:
    """Return the id of the process that listens on a TCP port of this machine.

    `None` if that is unknown: on systems other than Linux, or if the process belongs to another user.
    """
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    # Children can have inherited the socket: the process that opened it is most likely the oldest.
    return min((process for process, file in _open_files() if file in sockets), default=None) if sockets else None


def _listening_inodes(port: int) -> Iterator[str]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table, encoding="ascii") as lines:
                for line in lines:
                    _, local, _, state, *_, inode = line.split()[:10]
                    if state == _LISTEN and int(local.rpartition(":")[2], 16) == port:
                        yield inode
        except OSError:
            pass


def _open_files() -> Iterator[tuple[int, str]]:
    for file in iglob("/proc/[0-9]*/fd/*"):
        try:
            yield int(file.split("/")[2]), os.readlink(file)
        except OSError:  # it has just been closed, or its process has ended
            pass
