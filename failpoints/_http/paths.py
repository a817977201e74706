"""Request paths as they were sent, before percent-decoding. Pure.

A failpoint's name may contain a `/` and other characters that have a meaning in paths.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote, unquote_to_bytes

from ..errors import FailpointNameError

_ESCAPED = re.compile(r"[^%]*(%[0-9A-Fa-f]{2}[^%]*)*")


def undecoded_path(scope: Mapping[str, Any]) -> str:
    """Return the path below the mount point, percent-encoded as the client sent it.

    `scope` is the ASGI scope. Its `raw_path` includes the prefixes of the mounts. A server may leave `raw_path` out,
    and middleware may have rewritten `path` alone. The decoded `path` is used then, in which a `/` inside a name looks
    like a separator.
    """
    path = _path_below_mount(scope)
    raw = quote(scope.get("raw_path") or b"", safe="%!\"#$&'()*+,/:;<=>?@[\\]^`{|}")
    if unquote(raw) == scope["path"]:
        # A character of the prefix takes at most 12 of the raw path: four bytes, each with three characters.
        longest_prefix = 12 * (len(scope["path"]) - len(path))
        for at, character in enumerate(raw[: longest_prefix + 1]):
            if character == "/" and unquote(raw[at:]) == path:
                return raw[at:]
        return raw if path == scope["path"] else ""  # the prefix itself was escaped, so this is not one of our paths
    return quote(path)


def _path_below_mount(scope: Mapping[str, Any]) -> str:
    path: str = scope["path"]
    root: str = scope.get("root_path") or ""
    # A proxy may have removed the server's own root path from `path`, so try without it too.
    mounted = root.removeprefix(scope.get("app_root_path") or "")
    for prefix in (root, mounted):
        if prefix and path.startswith(prefix) and path[len(prefix) :][:1] in {"", "/"}:
            return path[len(prefix) :]
    return path


def decode_name(segment: str) -> str:
    """Return the failpoint name that a path segment encodes. Raises `FailpointNameError`."""
    if not _ESCAPED.fullmatch(segment):
        raise FailpointNameError("in a path, % is followed by two hexadecimal digits: write %25 for the % itself")
    try:
        return unquote_to_bytes(segment).decode()
    except UnicodeDecodeError:
        raise FailpointNameError(f"the name in the path is not UTF-8: {segment}") from None
