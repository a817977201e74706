"""Who may speak to the control plane: judged by the connection and the headers alone. Pure."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Mapping
from ipaddress import IPv6Address, ip_address
from typing import Any, NamedTuple

_HOST = re.compile(r"(?P<name>\[[^\[\]]+\]|[^\[\]:]+)(:[0-9]{0,5})?", re.ASCII)

# What proxies add. The header is there whoever wrote it: a server that takes `client` from it can be told anything.
_OF_PROXIES = frozenset(
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
    """Why a request is not answered: the status, the reason, and the headers that the status asks for."""

    status: int
    msg: str
    headers: Mapping[str, str] = {}


def refusal(scope: Mapping[str, Any], token: str | None) -> Refusal | None:
    """Why this request is not to be answered; `None` if it is.

    `scope` is ASGI's. Who has no right to speak learns nothing else, not even which paths there are.
    """
    headers: list[tuple[bytes, bytes]] = [(name.lower(), value) for name, value in scope["headers"]]
    if _is_of_a_page(headers):
        return Refusal(403, "a web page asks: failpoints do not answer requests that carry Origin or Sec-Fetch-Site")
    if token is not None:
        return None if _has_token(headers, token) else _NO_TOKEN
    if not _is_local(scope) or _came_through_a_proxy(headers):
        return Refusal(
            403,
            "without a token failpoints answer only where both ends of the connection are loopback, and no proxy is"
            " between: give the control plane a token",
        )
    bound: str = scope["server"][0]
    # No name that is looked up leads to a Unix socket: its clients write any Host.
    if _is_address(bound) and not _names_this_host(_values(headers, b"host"), bound):
        return Refusal(
            421, "the Host of this request is not this server: ask for it by its address, or as 127.0.0.1 or localhost"
        )
    return None


_NO_TOKEN = Refusal(401, "this control plane asks for Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"})


def _is_of_a_page(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    # A page of the same origin, too: where the application is mounted, that is a page of the program under test,
    # which may show what strangers wrote. What a person types into the address bar comes from no site: `none`.
    return any(
        name == b"origin" or (name == b"sec-fetch-site" and value.strip().lower() != b"none") for name, value in headers
    )


def _has_token(headers: Iterable[tuple[bytes, bytes]], token: str) -> bool:
    given = _values(headers, b"authorization")
    if len(given) != 1:
        return False
    scheme, _, credentials = given[0].strip().partition(b" ")
    return scheme.lower() == b"bearer" and hmac.compare_digest(credentials.strip(), token.encode())


def _is_local(scope: Mapping[str, Any]) -> bool:
    """Whether both ends are this machine: loopback, or a Unix socket."""
    client, server = scope.get("client"), scope.get("server")
    if not server:
        return False
    if not client or not client[0]:  # as it is at the other end of a Unix socket, which ASGI tells as (path, None)
        return server[1] is None and not _is_address(server[0])
    return is_loopback(client[0]) and is_loopback(server[0])


def _came_through_a_proxy(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(name in _OF_PROXIES or name.startswith(b"x-forwarded") for name, _ in headers)


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
    """Whether an address in numbers is of this machine alone: 127.0.0.0/8 or ::1; a name is none."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return parsed.is_loopback


def _values(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    return [value for given, value in headers if given == name]
