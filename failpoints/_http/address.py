"""Where the standalone control plane listens: `HOST:PORT`, and the socket that is bound there."""

from __future__ import annotations

import os
import re
import socket
from typing import NamedTuple

from .._core.messages import safe_repr
from ..errors import FailpointUsageError
from .guard import is_loopback

_ADDRESS = re.compile(r"(\[(?P<six>[^\[\]\s]+)\]|(?P<host>[^\[\]:/\s]+)):(?P<port>[0-9]{1,5})", re.ASCII)
_EXPECTED = "expected HOST:PORT, such as 127.0.0.1:22381, localhost:22381 or [::1]:0 (0 takes a free port)"


class Address(NamedTuple):
    """A host, by its address or its name, and a port; 0 for any that is free."""

    host: str
    port: int


def read_address(text: str, source: str = "FAILPOINTS_HTTP") -> Address:
    """What `source` says, which a message names; raises `FailpointUsageError`."""
    found = _ADDRESS.fullmatch(text)
    if not found or int(found["port"]) > 65535:
        raise FailpointUsageError(f"{source} is {safe_repr(text)}: {_EXPECTED}")
    host = found["six"] or found["host"]
    try:
        host.encode("idna")  # as it is when it is looked up
    except UnicodeError:
        raise FailpointUsageError(
            f"{source} is {safe_repr(text)}, where the host can be neither an address nor a name: {_EXPECTED}"
        ) from None
    return Address(host, int(found["port"]))


def bind(address: Address, *, anywhere: bool) -> socket.socket:
    """A socket that listens there; raises `FailpointUsageError`, also for other than loopback unless `anywhere`."""
    try:
        family, name = _resolved(address)
    except OSError as error:
        raise FailpointUsageError(
            f"FAILPOINTS_HTTP names the host {safe_repr(address.host)}: {error.strerror}"
        ) from None
    if not anywhere and not is_loopback(name[0]):
        raise FailpointUsageError(
            f"FAILPOINTS_HTTP would let other machines reach {name[0]}: listen on 127.0.0.1, or set FAILPOINTS_TOKEN"
        )
    # The protocol by its name: only so asyncio sends small answers at once.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # elsewhere it would share the port with whoever has it
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(name)
        listener.listen(128)
    except OSError as error:
        listener.close()
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise FailpointUsageError(
            f"FAILPOINTS_HTTP: cannot listen on {_authority(name)}: {reason}; give another port, or 0 for a free one"
        ) from None
    return listener


def _resolved(address: Address) -> tuple[socket.AddressFamily, tuple[str, int]]:
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    # Of two for one name the older: clients that are given a name try both.
    family, _, _, _, name = min(found, key=lambda each: each[0] != socket.AF_INET)
    return family, name  # type: ignore[return-value]  # the stubs know more kinds of names than getaddrinfo gives


def url_of(listener: socket.socket) -> str:
    """Where its clients find it."""
    return f"http://{_authority(listener.getsockname())}"


def _authority(name: tuple[str, int]) -> str:
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
