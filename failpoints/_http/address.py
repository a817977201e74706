"""The address of the standalone control plane: parses `HOST:PORT` and binds a socket to it."""

from __future__ import annotations

import errno
import os
import re
import socket
from typing import NamedTuple

from .._core.messages import safe_repr
from ..errors import FailpointUsageError
from .guard import is_loopback
from .port_owner import listening_process

_ADDRESS = re.compile(r"(\[(?P<six>[^\[\]\s]+)\]|(?P<host>[^\[\]:/\s]+)):(?P<port>[0-9]{1,5})", re.ASCII)
_EXPECTED = "expected HOST:PORT, such as 127.0.0.1:22381, localhost:22381 or [::1]:0 (0 takes a free port)"


class PortInUse(FailpointUsageError):
    """Another socket already listens at the address. The program can run on, without a control plane."""


class Address(NamedTuple):
    """A host, as an address or a name, and a port (0 for any free one)."""

    host: str
    port: int


def parse_address(text: str, source: str = "FAILPOINTS_HTTP") -> Address:
    """Parse `HOST:PORT`. `source` is the variable or option that the error message names.

    Raises `FailpointUsageError`.
    """
    found = _ADDRESS.fullmatch(text)
    if not found or int(found["port"]) > 65535:
        raise FailpointUsageError(f"{source} is {safe_repr(text)}: {_EXPECTED}", code="FP020")
    host = found["six"] or found["host"]
    try:
        host.encode("idna")  # as getaddrinfo encodes it
    except UnicodeError:
        raise FailpointUsageError(
            f"{source} is {safe_repr(text)}, whose host is neither an address nor a host name: {_EXPECTED}",
            code="FP020",
        ) from None
    return Address(host, int(found["port"]))


def bind(address: Address, *, allow_remote: bool) -> socket.socket:
    """Return a socket that listens at *address*.

    Raises `PortInUse`, or another `FailpointUsageError` if that fails, or if the address is not loopback and
    *allow_remote* is false.
    """
    try:
        family, name = _resolve(address)
    except OSError as error:
        raise FailpointUsageError(
            f"FAILPOINTS_HTTP: cannot resolve the host {safe_repr(address.host)}: {error.strerror}",
            code="FP020",
        ) from None
    if not allow_remote and not is_loopback(name[0]):
        raise FailpointUsageError(
            f"FAILPOINTS_HTTP would let other machines connect to {name[0]}: use 127.0.0.1, or set FAILPOINTS_TOKEN",
            code="FP020",
        )
    # Without an explicit protocol, asyncio does not set TCP_NODELAY, and small answers are delayed.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # on Windows this would share the port with its present owner
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(name)
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(_port_in_use(name)) from None
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise FailpointUsageError(
            f"FAILPOINTS_HTTP: cannot listen on {_authority(name)}: {reason}; choose another port, or 0 for a free one",
            code="FP020",
        ) from None
    return listener


def _port_in_use(name: tuple[str, int]) -> str:
    process = listening_process(name[1])
    if process is None:
        owner = "another process"
    elif process == os.getpid():
        owner = "this process itself"
    else:
        owner = f"process {process}{', its parent,' if process == os.getppid() else ''}"
    free = _authority((name[0], 0))
    return (
        f"{owner} already listens on {_authority(name)}."
        f" With FAILPOINTS_HTTP={free}, each process takes a free port and logs it."
    )


def _resolve(address: Address) -> tuple[socket.AddressFamily, tuple[str, int]]:
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    # Prefer IPv4 if the name has both: clients that use the name try both.
    family, _, _, _, name = min(found, key=lambda each: each[0] != socket.AF_INET)
    return family, name  # type: ignore[return-value]  # the stubs know more kinds of names than getaddrinfo gives


def url_of(listener: socket.socket) -> str:
    """Return the URL at which clients reach this socket."""
    return f"http://{_authority(listener.getsockname())}"


def _authority(name: tuple[str, int]) -> str:
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
