"""The place that a URL names."""

from __future__ import annotations

import os
import re
import ssl
from pathlib import Path
from typing import Final, cast
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from .._core.messages import missing_extra
from ..errors import FailpointUsageError
from .folder import Folder
from .place import Place

_TLS: Final = {"redis": False, "rediss": True, "valkey": False, "valkeys": True, "unix": False}
_NAME: Final = re.compile(r"[\w.-]{1,100}")
_EXAMPLE: Final = "redis://HOST:6379/0?fleet=shop"


def without_password(url: str) -> str:
    """Return a URL, or what was meant as one, as messages show it."""
    return url if os.path.isabs(url) else re.sub(r"[^/\s]*@", "***@", url)


def parse_url(url: object, source: str) -> Place:
    """Return the place that a URL names. Raises `FailpointUsageError`, whose message names *source*."""
    given: object = os.fspath(cast("os.PathLike[str]", url)) if isinstance(url, os.PathLike) else url
    if not isinstance(given, str) or not given or "\0" in given:
        raise FailpointUsageError(
            f"{source} is {given!r}: expected the absolute path of a folder, such as /run/shop, or {_EXAMPLE}",
            code="FP026",
        )
    scheme, separator, _ = given.partition("://")
    if separator and scheme in _TLS:
        return _server_of(given, scheme, source)
    if separator:
        raise FailpointUsageError(
            f"{source} begins with {without_password(scheme)}://: this is not the URL of a fleet; give the absolute"
            f" path of a folder, such as /run/shop, or {_EXAMPLE}",
            code="FP026",
        )
    if not os.path.isabs(given):
        raise FailpointUsageError(
            f"{source} is {without_password(given)!r}: the path must be absolute, since processes have different"
            f" working directories; did you mean {os.path.abspath(os.path.expanduser(without_password(given)))!r}?",
            code="FP026",
        )
    return Folder(Path(given))


def _server_of(url: str, scheme: str, source: str) -> Place:
    try:
        # Imported here, so that a fleet in a folder does not need it.
        from .link import Server
        from .server import ServerPlace
    except ModuleNotFoundError as error:
        raise missing_extra(error, f"{source} with {scheme}://", "redis") from error
    try:
        parts = urlsplit(url)
        port = parts.port or 6379
    except ValueError as error:
        raise FailpointUsageError(f"{source} is not a URL: {error}", code="FP026") from None
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    known = {"fleet", "ssl_ca_certs", *(["db"] if scheme == "unix" else [])}
    for option in options:
        if option not in known:
            raise FailpointUsageError(
                f"{source} has the option {option!r}, which is not one of {', '.join(sorted(known))}", code="FP026"
            )
    if "ssl_ca_certs" in options and not _TLS[scheme]:
        raise FailpointUsageError(
            f"{source} has ssl_ca_certs, but {scheme}:// is not encrypted: use rediss:// or valkeys://", code="FP026"
        )
    name = options.get("fleet", "")
    if not _NAME.fullmatch(name):
        raise FailpointUsageError(
            f"{source} must name the fleet by letters, digits, '_', '.' and '-', as in {_EXAMPLE}; got {name!r}",
            code="FP026",
        )
    server = Server(
        user=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
    )
    location = parts.netloc.rpartition("@")[2]
    if scheme == "unix" and location:
        raise FailpointUsageError(
            f"{source} has {location!r} before the path of the socket: write the absolute path after three slashes, as"
            " in unix:///run/redis.sock?fleet=shop",
            code="FP026",
        )
    if scheme == "unix":
        server.path = unquote(parts.path)
        database = options.get("db", "")
    else:
        server.host, server.port = parts.hostname, port
        database = parts.path.strip("/")
    if server.host is None and not server.path:
        raise FailpointUsageError(f"{source} does not name a server: write it as {_EXAMPLE}", code="FP026")
    if not re.fullmatch(r"[0-9]*", database):
        raise FailpointUsageError(
            f"{source} has the database {database!r}, which is not a number: write {_EXAMPLE}", code="FP026"
        )
    server.database = int(database or 0)
    if _TLS[scheme]:
        server.tls = _tls(options.get("ssl_ca_certs"), source)
    return ServerPlace(server, name, _shown(parts, name))


def _tls(certificates: str | None, source: str) -> ssl.SSLContext:
    """Return a context that checks the server's certificate and its name."""
    try:
        return ssl.create_default_context(cafile=certificates)
    except OSError as error:  # an `ssl.SSLError` is one, too
        message = f"{source} has ssl_ca_certs={certificates!r}, which cannot be read: {error}"
        raise FailpointUsageError(message, code="FP026") from None


def _shown(parts: SplitResult, name: str) -> str:
    """Return the URL without a user and a password."""
    location = parts.netloc.rpartition("@")[2]
    return f"'{parts.scheme}://{location}{quote(parts.path)}?fleet={name}'"
