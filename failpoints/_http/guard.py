"""Decides from its connection and headers whether a request is answered. Pure."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Mapping
from ipaddress import IPv6Address, ip_address
from typing import Any, Final, NamedTuple

_HOST = re.compile(r"(?P<name>\[[^\[\]]+\]|[^\[\]:]+)(:[0-9]{0,5})?", re.ASCII)

# Headers that proxies add. One of them is enough to refuse a request, no matter who wrote it. A server that takes
# `client` from such a header can be made to believe any address.
_PROXY_HEADERS = frozenset(
    {
        b"cf-connecting-ip",
        b"client-ip",
        b"fastly-client-ip",
        b"forwarded",
        b"true-client-ip",
        b"via",
        b"x-client-ip",
        b"x-cluster-client-ip",
        b"x-original-forwarded-for",
        b"x-original-host",
        b"x-real-ip",
    }
)


class Refusal(NamedTuple):
    """The answer to a request that is refused: a status, a reason, and the headers that the status requires."""

    status: int
    msg: str
    headers: Mapping[str, str] = {}


def check_request(
    scope: Mapping[str, Any], token: str | None, *, path: str = "", has_session: bool = False
) -> Refusal | None:
    """Return why the request must be refused, or `None` if it may be answered.

    A client without access learns nothing else, not even which paths exist.

    Args:
        scope: The ASGI scope.
        token: The token that clients must send, if there is one.
        path: The path below the mount point.
        has_session: Whether the request has the token of a session, which the page was given.
    """
    headers: list[tuple[bytes, bytes]] = [(name.lower(), value) for name, value in scope["headers"]]
    if path.startswith(FOR_PAGE):
        if _is_from_another_page(headers):
            return _WEB_PAGE
        if not has_session and path != OPENS_SESSION:
            return NO_SESSION
    elif not _is_a_visit(headers) if path == PAGE else _is_from_web_page(headers):
        return _WEB_PAGE
    elif token is not None and path != PAGE:
        return None if _has_token(headers, token) else _NO_TOKEN
    # The page itself has no secret, and a browser sends no token for it.
    if token is not None:
        return None
    if not _is_local(scope) or _came_through_proxy(headers):
        return Refusal(
            403,
            "without a token, failpoints answers only if both ends of the connection are loopback and no proxy is in"
            " between: give the control plane a token",
        )
    bound: str = scope["server"][0]
    # A Unix socket cannot be reached through a name that someone else controls, and its clients write any Host.
    if _is_address(bound) and not _names_this_host(_values(headers, b"host"), bound):
        return Refusal(
            421, "the Host header of this request is not this server: use its address, or 127.0.0.1 or localhost"
        )
    return None


PAGE: Final = "/"
FOR_PAGE: Final = "/v1/page/"
"""Where the requests of the page go. Web pages, this one included, are refused everywhere else."""

OPENS_SESSION: Final = f"{FOR_PAGE}session"

_WEB_PAGE = Refusal(403, "requests from web pages are refused: this one has an Origin or Sec-Fetch-Site header")
NO_SESSION = Refusal(
    401,
    "this page has no access, or not any more: open it again with the command `failpoints page`",
    {"WWW-Authenticate": "Failpoints-Session"},
)
_NO_TOKEN = Refusal(401, "this control plane requires Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"})


def _is_from_web_page(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    # Pages of the same origin are refused as well: where the application is mounted, such a page belongs to the
    # program under test, and may show text that strangers wrote. An address typed into the browser has the site `none`.
    return any(
        name == b"origin" or (name == b"sec-fetch-site" and value.strip().lower() != b"none") for name, value in headers
    )


def _is_from_another_page(headers: list[tuple[bytes, bytes]]) -> bool:
    """Return whether a request for the page was made by another one. Requests of programs have none of the headers."""
    sites = [value.strip().lower() for value in _values(headers, b"sec-fetch-site")]
    origins = _values(headers, b"origin")
    if sites:
        return sites != [b"same-origin"] or len(origins) > 1
    # Browsers leave Sec-Fetch-Site out where a page comes over plain HTTP from another machine.
    host = _values(headers, b"host")
    return bool(origins) and [origin.partition(b"://")[2].lower() for origin in origins] != [h.lower() for h in host]


def _is_a_visit(headers: list[tuple[bytes, bytes]]) -> bool:
    """Return whether a document is asked for in a tab of its own: not for a frame, an image, or another site's link.

    A page that has called `history.replaceState` is reloaded as if it had followed a link of its own (Chromium 156).
    """
    sites, kinds = (
        [value.strip().lower() for value in _values(headers, name)] for name in (b"sec-fetch-site", b"sec-fetch-dest")
    )
    if _values(headers, b"origin") or kinds not in ([], [b"document"]):
        return False
    return sites in ([], [b"none"]) or (sites == [b"same-origin"] and kinds == [b"document"])


def _has_token(headers: Iterable[tuple[bytes, bytes]], token: str) -> bool:
    given = _values(headers, b"authorization")
    if len(given) != 1:
        return False
    scheme, _, credentials = given[0].strip().partition(b" ")
    return scheme.lower() == b"bearer" and hmac.compare_digest(credentials.strip(), token.encode())


def _is_local(scope: Mapping[str, Any]) -> bool:
    """Return whether both ends are on this machine: loopback addresses, or a Unix socket."""
    client, server = scope.get("client"), scope.get("server")
    if not server:
        return False
    if not client or not client[0]:  # the peer of a Unix socket; ASGI gives its server as (path, None)
        return server[1] is None and not _is_address(server[0])
    return is_loopback(client[0]) and is_loopback(server[0])


def _came_through_proxy(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(name in _PROXY_HEADERS or name.startswith(b"x-forwarded") for name, _ in headers)


def _names_this_host(given: list[bytes], bound: str) -> bool:
    if len(given) != 1:
        return False
    found = _HOST.fullmatch(given[0].decode("latin-1").strip())
    if not found:
        return False
    name = found["name"].lower()
    if name.startswith("["):
        name = name[1:-1]
        return ":" in name and (is_loopback(name) or name == bound.lower())
    return name == "localhost" or is_loopback(name) or name == bound.lower()


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def is_loopback(address: str) -> bool:
    """Return whether a numeric address is loopback: 127.0.0.0/8 or ::1. A host name never is."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return parsed.is_loopback


def _values(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    return [value for given, value in headers if given == name]
