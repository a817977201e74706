"""Signed tokens: `KEYID.CLAIMS.ENTRIES.SIGNATURE`. Pure.

Claims and entries are JSON in base64. Nothing of them is read before the signature, an HMAC-SHA256 over everything in
front of it, was verified. They are never compressed, so a token cannot contain more than its size.
"""

from __future__ import annotations

import hashlib
import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, cast

from .._core.messages import missing_extra, safe_repr
from ..errors import FailpointUsageError

try:
    from itsdangerous import BadSignature, Signer
except ModuleNotFoundError as error:
    raise missing_extra(error, "failpoints.request", "request") from error

MAX_TOKEN: Final = 4_096
"""The largest token, in bytes."""
MIN_SECRET: Final = 16
"""The shortest secret of a key, in bytes."""

_KEY_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SHAPE: Final = re.compile(r"(?P<key>[A-Za-z0-9_-]{1,64})\.(?P<claims>[\w-]+)\.(?P<entries>[\w-]+)\.[\w-]+", re.ASCII)
_SALT: Final = b"failpoints.request"


class Refused(Exception):
    """A token that is not obeyed. The message is for the client, and contains no secret."""


class Claims(NamedTuple):
    """For whom and for how long a token is.

    Attributes:
        audience: The environment whose services obey it.
        expires: The end of its lifetime, in whole seconds since the epoch.
        once: The identity of a token that is obeyed once, or an empty string.
    """

    audience: str
    expires: int
    once: str


class Verified(NamedTuple):
    """A token whose signature is right. *entries* is JSON that was not looked at."""

    claims: Claims
    entries: bytes


def sign(key: tuple[str, str], claims: Claims, entries: bytes) -> str:
    """Return a token, signed with a key, which is an id and a secret."""
    id_, secret = key
    parts = (id_, _encoded(json.dumps(claims, separators=(",", ":")).encode()), _encoded(entries))
    return _signer(secret).sign(".".join(parts)).decode()


def verify(token: str, keys: Mapping[str, str]) -> Verified:
    """Return what a token contains, after its size and its signature are verified. Raises `Refused`."""
    if len(token) > MAX_TOKEN:
        raise Refused(f"the failpoints header is larger than {MAX_TOKEN} bytes")
    shape = _SHAPE.fullmatch(token)
    if shape is None:
        raise Refused("the failpoints header is not a token that RequestFailpoints.sign() has made")
    secret = keys.get(shape["key"])
    if secret is None:
        raise Refused("the failpoints header is not signed with a key of this service")
    try:
        _signer(secret).unsign(token)
    except BadSignature:
        raise Refused("the failpoints header is not signed with a key of this service") from None
    try:
        return Verified(_claims(json.loads(_decoded(shape["claims"]))), _decoded(shape["entries"]))
    except (ValueError, TypeError, RecursionError):
        raise Refused("the failpoints header is signed, but it is not a token of this version of failpoints") from None


def _signer(secret: str) -> Signer:
    return Signer(secret, salt=_SALT, sep=".", key_derivation="hmac", digest_method=hashlib.sha256)


def _claims(document: Any) -> Claims:
    audience, expires, once = document
    if not (isinstance(audience, str) and type(expires) is int and isinstance(once, str)):
        raise TypeError
    return Claims(audience, expires, once)


def _encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


# keys


def check_keys(given: object) -> dict[str, str]:
    """Return keys, by id. Raises `FailpointUsageError`, whose message contains no secret."""
    if not isinstance(given, Mapping):
        raise FailpointUsageError(
            'keys= must be a mapping of ids to secrets, such as {"2026-11": SECRET};'
            f" got a value of the type {type(given).__name__}"
        )
    keys: dict[str, str] = {}
    for id_, secret in cast("Mapping[object, object]", given).items():
        keys[check_key_id(id_)] = _check_secret(id_, secret)
    if not keys:
        raise FailpointUsageError(
            "keys= is empty: give it a key, or None to take the keys from FAILPOINTS_REQUEST_KEYS"
        )
    return keys


def parse_keys(text: str, source: str) -> dict[str, str]:
    """Return the keys of a text, `id:secret,id:secret`; none for an empty one. *source* is named in messages."""
    keys: dict[str, str] = {}
    for number, entry in enumerate([entry for entry in map(str.strip, text.split(",")) if entry], start=1):
        id_, colon, secret = entry.partition(":")
        if not colon or not _KEY_ID.fullmatch(id_):  # not shown: it may be a secret
            raise FailpointUsageError(
                f"{source}: key {number} is not ID:SECRET, with an id of letters, digits, - and _"
            )
        if id_ in keys:
            raise FailpointUsageError(f"{source}: the key {id_!r} appears twice")
        keys[id_] = _check_secret(id_, secret)
    return keys


def check_key_id(given: object) -> str:
    """Return the id of a key. Raises `FailpointUsageError`."""
    if not isinstance(given, str) or not _KEY_ID.fullmatch(given):
        raise FailpointUsageError(
            f"the id of a key has 1 to 64 letters, digits, '-' and '_', such as '2026-11'; got {safe_repr(given)}"
        )
    return given


def _check_secret(id_: object, given: object) -> str:
    if not isinstance(given, str):
        raise FailpointUsageError(f"the secret of the key {safe_repr(id_)} must be a str")
    try:
        size = len(given.encode())
    except UnicodeEncodeError:
        raise FailpointUsageError(f"the secret of the key {safe_repr(id_)} has characters that UTF-8 lacks") from None
    if size < MIN_SECRET:
        raise FailpointUsageError(
            f"the secret of the key {safe_repr(id_)} has {size} {'byte' if size == 1 else 'bytes'}, and needs"
            f" {MIN_SECRET} or more:"
            " python -c 'import secrets; print(secrets.token_urlsafe())' makes one"
        )
    return given
