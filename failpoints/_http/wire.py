"""Configurations and statuses as JSON, and back: what the control plane and its client say to each other. Pure."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn, TypeGuard, cast

from .._core.actions import Actions, Call, Hit, Off, Term
from .._core.context import GivenMatchers, Matchers
from .._core.grammar import as_terms, check_name, format_actions, kind_of_action, parse_actions
from .._core.messages import did_you_mean, safe_repr
from .._core.status import FailpointStatus, Waiting
from ..errors import FailpointError, FailpointUsageError

LARGEST_BODY = 1024 * 1024  # bytes
LONGEST_WAIT = 86_400  # seconds
MOST = 2**53 - 1  # the largest whole number that every reader of JSON has
NOT_CONFIGURED = "is not configured"
"""What the `msg` says where a name is not: the one thing that a client makes out of words."""

_MOST_TEXT = 1000  # characters of a value

_KEYS = ("name", "actions", "context_matchers")
_FLAGS = {re.ASCII: "a", re.IGNORECASE: "i", re.MULTILINE: "m", re.DOTALL: "s", re.VERBOSE: "x"}


def written(document: object) -> bytes:
    """JSON as it is sent: compact, in UTF-8; what is no text (half a surrogate pair) is escaped."""
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(document, allow_nan=False, separators=(",", ":")).encode()


def check_token(token: object) -> str:
    """The token, if a header can carry it; raises `FailpointUsageError`, which does not show it."""
    if not isinstance(token, str) or not re.fullmatch(r"[!-~]+", token):
        raise FailpointUsageError("a token is a text of printable ASCII characters without spaces, one at least")
    return token


# what is configured


def entry_document(name: str, actions: Actions, context: GivenMatchers | None = None) -> dict[str, Any]:
    """One configuration as JSON; raises what `configure` raises, and `FailpointUsageError` for what JSON has not."""
    document: dict[str, Any] = {"name": check_name(name), "actions": format_actions(as_terms(actions))}
    if context is not None:
        given = Matchers(context).given
        document["context_matchers"] = {key: _sent_matcher(key, matcher) for key, matcher in given.items()}
    return document


def _sent_matcher(key: str, matcher: object) -> str | int | float | bool | None:
    if isinstance(matcher, re.Pattern):
        pattern = cast("re.Pattern[str]", matcher)
        flags = "".join(letter for flag, letter in _FLAGS.items() if pattern.flags & flag)
        return f"(?{flags}){pattern.pattern}" if flags else pattern.pattern
    if isinstance(matcher, str):
        return str.__str__(matcher)  # a member of a str enum is the text that it stands for
    if _is_plain(matcher):
        return matcher
    raise FailpointUsageError(
        f"the matcher for {key!r} cannot be sent to another process: give a pattern, a number, a bool or None;"
        f" got {safe_repr(matcher)}"
    )


def read_entries(body: bytes) -> list[tuple[str, str, dict[str, Any]]]:
    """The `(name, actions, matchers)` of a request; raises a `FailpointError` that says what is wrong with it.

    That each of them can be configured is for the registry to say.
    """
    try:
        document = json.loads(body.decode(), object_pairs_hook=_once, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise FailpointUsageError(f"the body is not UTF-8: {error.reason} at byte {error.start}") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise FailpointUsageError(f"the body is no JSON: {error.msg} at {where}") from None
    except RecursionError:
        raise FailpointUsageError("the body is nested too deeply") from None
    except ValueError:  # an int of more digits than Python reads
        raise FailpointUsageError("the body holds a number that is too long") from None
    if not isinstance(document, list):
        raise FailpointUsageError(
            'the body is an array of objects, such as [{"name": "backup", "actions": "pause"}];'
            f" got {_json_kind(document)}"
        )
    entries = cast(list[object], document)
    return [_entry(entry, at_entry(number, entries)) for number, entry in enumerate(entries, start=1)]


def at_entry(number: int, entries: list[Any]) -> str:
    """The beginning of a message on one of several entries, counted from 1."""
    return f"entry {number}: " if len(entries) > 1 else ""


def _entry(entry: Any, at: str) -> tuple[str, str, dict[str, Any]]:
    if not _is_object(entry):
        raise FailpointUsageError(f"{at}an entry is an object with name and actions; got {_json_kind(entry)}")
    for key in entry:
        if key not in _KEYS:
            raise FailpointUsageError(
                f"{at}unknown key {safe_repr(key)}; an entry has {', '.join(_KEYS)}{did_you_mean(key, _KEYS)}"
            )
    for key in _KEYS[:2]:
        if key not in entry:
            raise FailpointUsageError(f"{at}{key} is missing")
        if not isinstance(entry[key], str):
            raise FailpointUsageError(f"{at}{key} is a text; got {_json_kind(entry[key])}")
    matchers = entry.get("context_matchers")
    if matchers is None:
        matchers = {}
    if not _is_object(matchers):
        raise FailpointUsageError(
            f'{at}context_matchers is an object, such as {{"tenant_id": "test_.*"}}; got {_json_kind(matchers)}'
        )
    for key, matcher in matchers.items():
        if not _is_plain(matcher):
            raise FailpointUsageError(
                f"{at}the matcher for {safe_repr(key)} is a pattern, a number, true, false or null;"
                f" got {_json_kind(matcher)}"
            )
    return cast(str, entry["name"]), cast(str, entry["actions"]), matchers


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise FailpointUsageError(f"the key {safe_repr(twice)} is given twice")
    return document


def _no_constant(text: str) -> NoReturn:
    raise FailpointUsageError(f"the body is no JSON: it has no {text}")


def _is_object(document: Any) -> TypeGuard[dict[str, object]]:
    return isinstance(document, dict)


def _is_plain(value: object) -> TypeGuard[str | int | float | bool | None]:
    """Whether JSON has it, and gives it back equal; infinity is what a number too large for a float is read as."""
    if type(value) is float:
        return value - value == 0
    return value is None or type(value) in {str, bool, int}


def _json_kind(value: Any) -> str:
    match value:
        case dict():
            return "an object"
        case list():
            return "an array"
        case str():
            return "a text"
        case bool() | None:
            return json.dumps(value)
        case _:
            return "a number" if _is_plain(value) else "a number that is too large"


# what is known


@dataclass(frozen=True, slots=True, repr=False)
class _OnlyThere(Call):
    """An action that has no text, as another process shows it: it can only be looked at."""

    text: str = field(default="")

    def __repr__(self) -> str:
        return self.text


def _only_there(hit: Hit) -> NoReturn:
    raise FailpointUsageError(f"what {hit.name!r} is to do there has no text: only that process can do it")


def status_document(status: FailpointStatus) -> dict[str, Any]:
    """A status as JSON: actions as text, values that JSON has not as Python shows them, no directory of the machine."""
    return {
        "name": status.name,
        "actions": "->".join(map(_term_text, status.actions)),
        "matchers": {key: _told_matcher(matcher) for key, matcher in (status.matchers or {}).items()},
        "hits": status.hits,
        "misses": status.misses,
        "last_miss": None if status.last_miss is None else _told_context(status.last_miss),
        "last_mismatch": status.last_mismatch,
        "triggers": status.triggers,
        "waiting": [
            {"name": each.name, "context": _told_context(each.context), "since": each.since.isoformat()}
            for each in status.waiting
        ],
        "sites": [_told_place(site) for site in status.sites],
    }


def _term_text(term: Term) -> str:
    try:
        return format_actions(term)
    except FailpointUsageError:
        modifiers = format_actions(Term(Off(), term.probability, term.times)).removesuffix("off")
        return modifiers + (kind_of_action(term.action) if type(term.action) is Call else safe_repr(term.action))


def _told_matcher(matcher: object) -> str | int | float | bool | None:
    if isinstance(matcher, re.Pattern):
        return _sent_matcher("", cast(object, matcher))
    if callable(matcher):
        return str(getattr(matcher, "__qualname__", None) or type(matcher).__qualname__)
    return _told(matcher)


def _told_context(context: Mapping[str, Any]) -> dict[str, Any]:
    return {key if isinstance(key, str) else safe_repr(key): _told(value) for key, value in dict(context).items()}


def _told(value: object) -> str | int | float | bool | None:
    if type(value) is int and abs(value) >= 2**63:  # beyond what other languages read
        return safe_repr(value)
    if type(value) is str and len(value) > _MOST_TEXT:
        return f"{value[:_MOST_TEXT]}…"
    return value if _is_plain(value) else safe_repr(value)


def _told_place(site: str) -> str:
    """`file:line`, the file as an import sees it: from the folder that its package was found in."""
    for folder in _import_folders(tuple(sys.path), _here()):
        if site.startswith(folder):
            return site.removeprefix(folder)
    return os.path.basename(site) if os.path.isabs(site) else site


def _here() -> str:
    try:
        return os.getcwd()
    except OSError:  # it is no more
        return os.sep


@lru_cache(maxsize=8)
def _import_folders(path: tuple[str, ...], here: str) -> tuple[str, ...]:
    folders = {os.path.join(here, folder, "") for folder in (here, *path)}
    return tuple(sorted(folders - {os.sep}, key=len, reverse=True))  # from the root every path is a whole one


def read_status(document: object) -> FailpointStatus:
    """The status that `status_document` wrote; raises `FailpointUsageError` for what is none."""
    try:
        return _status(cast(Any, document))
    except (KeyError, TypeError, ValueError, AttributeError, FailpointError) as error:
        raise FailpointUsageError(f"this is no answer of failpoints: {safe_repr(document)}") from error


def _status(document: Any) -> FailpointStatus:
    return FailpointStatus(
        name=check_name(document["name"]),
        actions=tuple(_read_terms(document["actions"])),
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
    )


def _read_terms(text: str) -> Iterator[Term]:
    if not text:
        return
    try:
        yield from parse_actions(text)
    except FailpointError:  # one of them has no text
        yield Term(_OnlyThere(_only_there, text))
