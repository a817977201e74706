"""Paths as they were sent: a name in one may hold whatever a path means something by. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote, unquote_to_bytes

from ..errors import FailpointNameError

_ESCAPED = re.compile(r"[^%]*(%[0-9A-Fa-f]{2}[^%]*)*")


def undecoded_path(scope: Mapping[str, Any]) -> str:
    """The path below the place where the application is mounted, percent-encoded as the client sent it.

    `scope` is ASGI's. Its `raw_path` holds the prefixes of the mounts, too, and a server need not give it, or may
    have rewritten `path` alone: then `path` itself counts, and a `/` in a name cannot be told from one between.
    """
    path = _below_the_mount(scope)
    raw = quote(scope.get("raw_path") or b"", safe="%!\"#$&'()*+,/:;<=>?@[\\]^`{|}")
    if unquote(raw) == scope["path"]:
        for at, character in enumerate(raw):
            if character == "/" and unquote(raw[at:]) == path:
                return raw[at:]
        return raw if path == scope["path"] else ""  # the mount's own prefix was escaped: no path of ours is
    return quote(path)


def _below_the_mount(scope: Mapping[str, Any]) -> str:
    path: str = scope["path"]
    root: str = scope.get("root_path") or ""
    # A server's own root path is not in `path` where a proxy has taken it away.
    mounted = root.removeprefix(scope.get("app_root_path") or "")
    for prefix in (root, mounted):
        if prefix and path.startswith(prefix) and path[len(prefix) :][:1] in {"", "/"}:
            return path[len(prefix) :]
    return path


def name_in(segment: str) -> str:
    """The name that a segment of a path encodes; raises `FailpointNameError`."""
    if not _ESCAPED.fullmatch(segment):
        raise FailpointNameError("a % in a path begins an escape of two hexadecimal digits: write %25 for the % itself")
    try:
        return unquote_to_bytes(segment).decode()
    except UnicodeDecodeError:
        raise FailpointNameError(f"the name in the path is not UTF-8: {segment}") from None
