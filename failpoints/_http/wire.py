"""Configurations and statuses as JSON, and back: the messages between the control plane and its client. Pure."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn, TypeGuard, TypeVar, cast

from .._core.actions import Actions, Call, Hit, Off, Term, Then
from .._core.context import CompiledPattern, GivenMatchers, Matchers
from .._core.formatting import action_label, format_actions
from .._core.grammar import as_terms, parse_actions
from .._core.messages import did_you_mean, safe_repr
from .._core.status import FailpointStatus, Stray, Waiting
from .._core.validation import check_name
from ..errors import FailpointError, FailpointUsageError
from .budget import Budget, TooMuchWork

MAX_BODY = 1024 * 1024  # bytes
MAX_WAIT = 86_400  # seconds
MAX_COUNT = 2**53 - 1  # the largest whole number that every JSON parser reads exactly
NOT_CONFIGURED = "is not configured"
"""Part of the `msg` of a 404 for a failpoint: the only wording that the client depends on."""

_T = TypeVar("_T")

_MAX_TEXT = 1000  # characters of a value

# Units of the budget. Beside what it takes to parse these, they are installed and logged.
_ENTRY_COST = 10
_TERM_COST = 5
_MATCHER_COST = 10

_MAX_HANDLE = 100  # characters

_KEYS = ("name", "actions", "context_matchers", "handle")
_FLAGS = {re.ASCII: "a", re.IGNORECASE: "i", re.MULTILINE: "m", re.DOTALL: "s", re.VERBOSE: "x"}


def to_json(document: object) -> bytes:
    """Return compact JSON in UTF-8. A document with lone surrogates, which UTF-8 cannot encode, is escaped instead."""
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(document, allow_nan=False, separators=(",", ":")).encode()


def check_token(token: object) -> str:
    """Return *token* if a header can carry it. Raises `FailpointUsageError`, whose message does not show it."""
    if not isinstance(token, str) or not re.fullmatch(r"[!-~]+", token):
        raise FailpointUsageError("a token must be a non-empty str of printable ASCII characters without spaces")
    return token


# configurations


class Entry(NamedTuple):
    """One configuration in a request body."""

    name: str
    actions: str
    matchers: dict[str, Any]
    handle: str | None


def entry_document(
    name: str, actions: Actions, context: GivenMatchers | None = None, *, handle: str | None = None
) -> dict[str, Any]:
    """Return one configuration as JSON.

    Raises what `configure` raises, and `FailpointUsageError` for actions or matchers that have no JSON form.
    """
    document: dict[str, Any] = {"name": check_name(name), "actions": format_actions(as_terms(actions))}
    if context is not None:
        document["context_matchers"] = matchers_document(context)
    if handle is not None:
        document["handle"] = handle
    return document


def matchers_document(context: GivenMatchers) -> dict[str, Any]:
    """Return matchers as JSON. Raises what `configure` raises, and `FailpointUsageError` for what has no JSON form."""
    return {key: _matcher_to_json(key, matcher) for key, matcher in Matchers(context).given.items()}


def _matcher_to_json(key: str, matcher: object) -> str | int | float | bool | None:
    if isinstance(matcher, re.Pattern):
        pattern = cast("re.Pattern[str]", matcher)
        flags = "".join(letter for flag, letter in _FLAGS.items() if pattern.flags & flag)
        return f"(?{flags}){pattern.pattern}" if flags else pattern.pattern
    if isinstance(matcher, str):
        return str.__str__(matcher)  # the value of a str enum's member, where str() may give its name
    if _is_json_scalar(matcher):
        return matcher
    raise FailpointUsageError(
        f"the matcher for {key!r} cannot be sent to another process: use a pattern, a number, a bool or None;"
        f" got {safe_repr(matcher)}"
    )


def parse_entries(body: bytes, budget: Budget, prepare: Callable[[Entry], _T]) -> list[_T]:
    """Pass each entry in a request body to *prepare*, and return its results.

    Raises a `FailpointError` with the reason if the body or an entry is malformed, or if *prepare* raises one. The
    message starts with the number of the entry if there are several. Raises `TooMuchWork` once *budget* is spent.
    """
    entries = _parse_array(body)
    prepared: list[_T] = []
    for number, entry in enumerate(entries, start=1):
        try:
            parsed = _parse_entry(entry)
            terms, matchers = _most_actions(parsed.actions), len(parsed.matchers)
            budget.spend(_ENTRY_COST + _TERM_COST * terms + _MATCHER_COST * matchers)
            prepared.append(prepare(parsed))
        except FailpointError as error:
            if len(entries) == 1 or isinstance(error, TooMuchWork):
                raise
            raise FailpointUsageError(f"entry {number}: {error}", code=error.code) from None
    return prepared


def _most_actions(text: str) -> int:
    """Return how many actions a text can have at most."""
    return 1 + text.count("->") + text.count("+")


def parse_matchers(text: str, what: str) -> dict[str, Any]:
    """Return matchers given as the text of a JSON object. Raises `FailpointUsageError`, whose message names *what*."""
    return _matchers(_parse_json(text, what), what)


def parse_object(body: bytes) -> dict[str, Any]:
    """Return the object in a request body. Raises `FailpointUsageError` for anything else."""
    document = _parse_body(body)
    if not _is_object(document):
        raise FailpointUsageError(f"the body must be an object; got {_json_type(document)}")
    return document


def _parse_body(body: bytes) -> object:
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise FailpointUsageError(f"the body is not UTF-8: {error.reason} at byte {error.start}") from None
    return _parse_json(text, "the body")


def _parse_array(body: bytes) -> list[object]:
    document = _parse_body(body)
    if not isinstance(document, list):
        raise FailpointUsageError(
            'the body must be an array of objects, such as [{"name": "backup", "actions": "pause"}];'
            f" got {_json_type(document)}"
        )
    return cast(list[object], document)


def _parse_json(text: str, what: str) -> object:
    def reject_constant(constant: str) -> NoReturn:
        raise FailpointUsageError(f"{what} is not JSON: JSON has no {constant}")

    try:
        return json.loads(text, object_pairs_hook=_reject_duplicate_keys, parse_constant=reject_constant)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise FailpointUsageError(f"{what} is not JSON: {error.msg} at {where}") from None
    except RecursionError:
        raise FailpointUsageError(f"{what} is nested too deeply") from None
    except ValueError:  # an int of more digits than Python parses
        raise FailpointUsageError(f"{what} contains a number with too many digits") from None


def _parse_entry(entry: Any) -> Entry:
    if not _is_object(entry):
        raise FailpointUsageError(f"an entry must be an object with name and actions; got {_json_type(entry)}")
    for key in entry:
        if key not in _KEYS:
            raise FailpointUsageError(
                f"unknown key {safe_repr(key)}; an entry has {', '.join(_KEYS)}{did_you_mean(key, _KEYS)}"
            )
    for key in _KEYS[:2]:
        if key not in entry:
            raise FailpointUsageError(f"{key} is missing")
        if not isinstance(entry[key], str):
            raise FailpointUsageError(f"{key} must be a string; got {_json_type(entry[key])}")
    matchers = entry.get("context_matchers")
    matchers = {} if matchers is None else _matchers(matchers, "context_matchers")
    handle = entry.get("handle")
    if handle is not None and not (isinstance(handle, str) and 0 < len(handle) <= _MAX_HANDLE):
        raise FailpointUsageError(f"handle must be a string of 1 to {_MAX_HANDLE} characters; got {safe_repr(handle)}")
    return Entry(cast(str, entry["name"]), cast(str, entry["actions"]), matchers, handle)


def _matchers(document: object, what: str) -> dict[str, Any]:
    if not _is_object(document):
        raise FailpointUsageError(
            f'{what} must be an object, such as {{"tenant_id": "test_.*"}}; got {_json_type(document)}'
        )
    for key, matcher in document.items():
        if not _is_json_scalar(matcher):
            raise FailpointUsageError(
                f"the matcher for {safe_repr(key)} must be a pattern, a number, true, false or null;"
                f" got {_json_type(matcher)}"
            )
    return document


def _reject_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for key, value in pairs:
        if key in document:
            raise FailpointUsageError(f"the key {safe_repr(key)} appears twice")
        document[key] = value
    return document


def _is_object(document: Any) -> TypeGuard[dict[str, object]]:
    return isinstance(document, dict)


def _is_json_scalar(value: object) -> TypeGuard[str | int | float | bool | None]:
    """Return whether a value passes through JSON unchanged.

    A number too large for a float is parsed as infinity, which does not.
    """
    if type(value) is float:
        return value - value == 0
    return value is None or type(value) in {str, bool, int}


def _json_type(value: Any) -> str:
    match value:
        case dict():
            return "an object"
        case list():
            return "an array"
        case str():
            return "a string"
        case bool() | None:
            return json.dumps(value)
        case _:
            return "a number" if _is_json_scalar(value) else "a number that is too large"


# statuses


@dataclass(frozen=True, slots=True, repr=False)
class _RemoteAction(Call):
    """An action of another process that has no text form. It can be displayed, but not carried out."""

    text: str = field(default="")

    def __repr__(self) -> str:
        return self.text


def _refuse_to_run(hit: Hit) -> NoReturn:
    raise FailpointUsageError(
        f"the action of {hit.name!r} came from another process and has no text form: only that process can run it"
    )


def status_document(status: FailpointStatus) -> dict[str, Any]:
    """Return a status as JSON, with the status of each configuration.

    Actions are text. Values that JSON does not have are shown as their `repr`. Paths of files do not reveal the
    machine's directories.
    """
    return {
        "name": status.name,
        "actions": "->".join(map(_term_text, status.actions)),
        "matchers": {key: _shown_matcher(matcher) for key, matcher in (status.matchers or {}).items()},
        "hits": status.hits,
        "misses": status.misses,
        "last_miss": None if status.last_miss is None else shown_context(status.last_miss),
        "last_mismatch": status.last_mismatch,
        "triggers": status.triggers,
        "waiting": [
            {"name": each.name, "context": shown_context(each.context), "since": each.since.isoformat()}
            for each in status.waiting
        ],
        "sites": [shown_site(site) for site in status.sites],
        "configurations": list(map(status_document, status.configurations)),
        "strays": [
            {
                "thread": each.thread,
                "context": shown_context(each.context),
                "count": each.count,
                "since": each.since.isoformat(),
            }
            for each in status.strays
        ],
    }


def _term_text(term: Term) -> str:
    try:
        return format_actions(term)
    except FailpointUsageError:
        modifiers = format_actions(Term(Off(), term.probability, term.times)).removesuffix("off")
        return modifiers + (action_label(term.action) if type(term.action) in (Call, Then) else safe_repr(term.action))


def _shown_matcher(matcher: object) -> str | int | float | bool | None:
    if isinstance(matcher, re.Pattern):
        return _matcher_to_json("", cast(object, matcher))
    if callable(matcher):
        return str(getattr(matcher, "__qualname__", None) or type(matcher).__qualname__)
    return _shown(str(matcher) if isinstance(matcher, CompiledPattern) else matcher)


def shown_context(context: Mapping[str, Any]) -> dict[str, Any]:
    """Return a context with values that JSON has. Other values are shown as their `repr`, and long ones are cut."""
    return {key if isinstance(key, str) else safe_repr(key): _shown(value) for key, value in dict(context).items()}


def _shown(value: object) -> str | int | float | bool | None:
    if type(value) is int and abs(value) >= 2**63:  # too large for an integer in other languages
        return safe_repr(value)
    if type(value) is str and len(value) > _MAX_TEXT:
        return f"{value[:_MAX_TEXT]}…"
    return value if _is_json_scalar(value) else safe_repr(value)


def shown_site(site: str) -> str:
    """Return `file:line` with the file relative to the folder it was imported from."""
    for folder in _import_folders(tuple(sys.path), _current_directory()):
        if site.startswith(folder):
            return site.removeprefix(folder)
    return os.path.basename(site) if os.path.isabs(site) else site


def _current_directory() -> str:
    try:
        return os.getcwd()
    except OSError:  # it has been deleted
        return os.sep


@lru_cache(maxsize=8)
def _import_folders(path: tuple[str, ...], current: str) -> tuple[str, ...]:
    folders = {os.path.join(current, folder, "") for folder in (current, *path)}
    return tuple(sorted(folders - {os.sep}, key=len, reverse=True))  # relative to the root, a path hides nothing


def parse_status(document: object) -> FailpointStatus:
    """Return the status that `status_document` encoded. Raises `FailpointUsageError` for any other document."""
    try:
        return _status(cast(Any, document))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, FailpointError) as error:
        raise FailpointUsageError(f"this is not a status of a failpoint: {safe_repr(document)}") from error


def _status(document: Any) -> FailpointStatus:
    return FailpointStatus(
        name=check_name(document["name"]),
        actions=tuple(_parse_terms(document["actions"])),
        matchers=dict(document["matchers"]),
        hits=int(document["hits"]),
        misses=int(document["misses"]),
        last_miss=None if document["last_miss"] is None else dict(document["last_miss"]),
        last_mismatch=None if document["last_mismatch"] is None else str(document["last_mismatch"]),
        triggers=int(document["triggers"]),
        waiting=tuple(
            Waiting(str(each["name"]), dict(each["context"]), datetime.fromisoformat(each["since"]))
            for each in document["waiting"]
        ),
        sites=tuple(map(str, document["sites"])),
        configurations=tuple(map(_status, document["configurations"])),
        strays=tuple(
            Stray(
                thread=str(each["thread"]),
                context=dict(each["context"]),
                count=int(each["count"]),
                since=datetime.fromisoformat(each["since"]),
            )
            for each in document["strays"]
        ),
    )


def _parse_terms(text: str) -> Iterator[Term]:
    if not text:
        return
    try:
        yield from parse_actions(text)
    except FailpointError:  # one of the terms has no text form
        yield Term(_RemoteAction(_refuse_to_run, text))
