"""Configurations and statuses as JSON, and back."""

from __future__ import annotations

import enum
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from failpoints import (
    Actions,
    ActionSyntaxError,
    Call,
    Cancel,
    FailpointError,
    FailpointNameError,
    FailpointStatus,
    FailpointUsageError,
    Off,
    Pause,
    Print,
    Raise,
    Registry,
    Return,
    Term,
    Waiting,
    failpoint,
)
from failpoints._core.formatting import describe_actions
from failpoints._core.status import Stray
from failpoints._http.budget import Budget
from failpoints._http.wire import check_token, entry_document, parse_entries, parse_status, status_document, to_json


def through_json(document: object) -> Any:
    """Encode and decode a document as JSON."""
    return json.loads(to_json(document))


def parsed(body: bytes) -> list[tuple[str, str, dict[str, Any]]]:
    """Return the entries of a body, without their handles."""
    return parse_entries(body, Budget("too much"), lambda entry: (entry.name, entry.actions, entry.matchers))


def shout(value: object) -> None:
    """Serve as an action or a predicate that has no text form."""


class Shard(enum.StrEnum):
    FIRST = "first"


class OldShard(str, enum.Enum):  # noqa: UP042 - whose str() is not its text
    FIRST = "first"


# configurations


@pytest.mark.parametrize(
    ("given", "arrives"),
    [
        (None, {}),
        ({}, {}),
        ({"tenant_id": "test_.*"}, {"tenant_id": "test_.*"}),
        ({"shard": 3, "part": 0.5, "big": True, "none": None}, {"shard": 3, "part": 0.5, "big": True, "none": None}),
        ({"name": re.compile("a.*b", re.IGNORECASE | re.DOTALL)}, {"name": "(?is)a.*b"}),
        ({"name": re.compile("a")}, {"name": "a"}),
        ({"shard": Shard.FIRST, "old": OldShard.FIRST}, {"shard": "first", "old": "first"}),
    ],
)
def test_matchers_arrive(given: Any, arrives: dict[str, Any]) -> None:
    """Matchers keep their meaning: patterns with their flags, numbers, bools and `None`."""
    document = entry_document("x", "2*off->return(é)", given)
    assert parsed(to_json([document])) == [("x", "2*off->return(é)", arrives)]


@pytest.mark.parametrize(
    "actions",
    [
        Term(Return("42"), 0.25, 3),
        [Off(), Pause(500)],
        Raise(OSError("disk full")),
        Pause() + Cancel(),
        Term(Print("a+b") + Raise(OSError), times=2),
    ],
)
def test_actions_arrive(actions: Actions) -> None:
    """Actions given as Python objects arrive as text."""
    [(_, text, _)] = parsed(to_json([entry_document("x", actions)]))
    assert text == entry_document("x", text)["actions"]


@pytest.mark.parametrize(
    ("name", "actions", "context", "error", "message"),
    [
        ("a b", "off", None, FailpointNameError, "without white space"),
        ("x", "retrun(1)", None, ActionSyntaxError, "did you mean 'return'?"),
        ("x", Call(shout), None, FailpointUsageError, "no text"),
        ("x", "off", {"key": "("}, FailpointNameError, "is not a valid regular expression"),
        ("x", "off", {"key": shout}, FailpointUsageError, "cannot be sent to another process"),
        ("x", "off", {"key": [1]}, FailpointUsageError, "cannot be sent to another process"),
        ("x", "off", {"key": float("nan")}, FailpointUsageError, "cannot be sent to another process"),
        ("x", "off", "key=value", FailpointUsageError, "mapping of context keys"),
    ],
)
def test_what_cannot_be_configured_is_not_sent(
    name: str, actions: Actions, context: Any, error: type[FailpointError], message: str
) -> None:
    """Writing an entry raises the registry's own errors, and a usage error for values that JSON does not have."""
    with pytest.raises(error, match=re.escape(message)):
        entry_document(name, actions, context)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is not JSON: Expecting value at line 1, column 1"),
        (b"\xff", "the body is not UTF-8: invalid start byte at byte 0"),
        (b"[" * 200_000, "the body is nested too deeply"),
        (b"[1" + b"0" * 5000 + b"]", "the body contains a number with too many digits"),
        (b"[NaN]", "the body is not JSON: JSON has no NaN"),
        (b"[-Infinity]", "the body is not JSON: JSON has no -Infinity"),
        (b'{"name": "x", "actions": "off"}', 'such as [{"name": "backup", "actions": "pause"}]; got an object'),
        (b'"off"', "the body must be an array of objects"),
        (b"[null]", "an entry must be an object with name and actions; got null"),
        (b'[{"actions": "off"}]', "name is missing"),
        (b'[{"name": "x"}]', "actions is missing"),
        (b'[{"name": 1, "actions": "off"}]', "name must be a string; got a number"),
        (b'[{"name": "x", "actions": ["off"]}]', "actions must be a string; got an array"),
        (b'[{"name": "x", "action": "off"}]', "unknown key 'action'; an entry has"),
        (b'[{"name": "x", "action": "off"}]', "did you mean 'actions'?"),
        (b'[{"name": "x", "name": "y", "actions": "off"}]', "the key 'name' appears twice"),
        (
            b'[{"name": "x", "actions": "off", "context_matchers": false}]',
            "context_matchers must be an object, such as",
        ),
        (b'[{"name": "x", "actions": "off", "context_matchers": {"a": []}}]', "the matcher for 'a' must be a pattern"),
        (b'[{"name": "x", "actions": "off", "context_matchers": {"a": 1e999}}]', "a number that is too large"),
        (b'[{"name": "x", "actions": "off"}, {"name": "y"}]', "entry 2: actions is missing"),
    ],
    ids=lambda value: ascii(value[:60]),
)
def test_an_invalid_body(body: bytes, message: str) -> None:
    """Anything wrong with a body is a usage error, which has the number of the entry if there are several."""
    with pytest.raises(FailpointUsageError, match=re.escape(message)):
        parsed(body)


def test_optional_matchers() -> None:
    """`context_matchers` may be missing or `null`, and the array may be empty."""
    assert parsed(b'[{"name": "x", "actions": "off", "context_matchers": null}]') == [("x", "off", {})]
    assert parsed(b" [ ] ") == []


# statuses


SINCE = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def test_a_status_arrives() -> None:
    """A status with plain values is equal after a round trip."""
    status = FailpointStatus(
        name="a::b:after",
        actions=(Term(Return("42"), 0.25, 3), Term(Pause())),
        matchers={"tenant_id": "test_.*", "shard": 3},
        hits=3,
        misses=2,
        last_miss={"tenant_id": "t1", "size": 0.5, "ok": True, "none": None},
        last_mismatch="tenant_id='t1' does not match 'test_.*'",
        triggers=1,
        waiting=(Waiting("Task-1", {"shard": 3}, SINCE),),
        sites=("shop/client.py:26",),
    )
    assert parse_status(through_json(status_document(status))) == status
    assert parse_status(through_json(status_document(FailpointStatus("x")))) == FailpointStatus("x", matchers={})


@pytest.mark.parametrize(
    ("actions", "text"),
    [
        (Call(shout), "Call(shout)"),
        (Pause(1) + Call(shout), "pause(1)+Call(shout)"),
        ([Term(Return(5), 0.5, 2), Pause()], "50%2*Return(value=5)->pause"),
        ([Off(), Return(b"x")], "off->Return(value=b'x')"),
    ],
)
def test_an_action_without_a_text_form(actions: Actions, text: str) -> None:
    """An action without a text form arrives as one that looks the same, but cannot be carried out here."""
    with Registry() as registry:
        registry.configure("x", actions)
        document = through_json(status_document(registry.status("x")))
        assert document["actions"] == text
        status = parse_status(document)
        assert (describe_actions(status.actions), status_document(status)) == (text, document)
        registry.configure("x", status.actions)
        with pytest.raises(FailpointUsageError, match="only that process can run it"):
            failpoint("x").hit()


def test_values_without_a_json_form() -> None:
    """Values of contexts and matchers that JSON does not have are shown as their `repr`, shortened if long."""
    miss = {"bytes": b"x", "far": 10**30, "infinite": float("inf"), 3: [1], "long": ["x" * 1000], "lone": "\ud800"}
    asked = {"shape": re.compile("a", re.IGNORECASE), "check": shout, "parts": (1, 2)}
    document = through_json(status_document(FailpointStatus("x", last_miss=miss, matchers=asked)))
    assert {**document["last_miss"], "long": None} == {
        "bytes": "b'x'", "far": str(10**30), "infinite": "inf", "3": "[1]", "long": None, "lone": "\ud800"
    }  # fmt: skip
    assert len(document["last_miss"]["long"]) < 250
    assert len(status_document(FailpointStatus("x", last_miss={"text": "x" * 10**6}))["last_miss"]["text"]) < 1100
    assert document["matchers"] == {"shape": "(?i)a", "check": "shout", "parts": "(1, 2)"}


def test_sites_do_not_reveal_directories(tmp_path: Path) -> None:
    """The path of a site is relative to the folder it was imported from. Without one, only the file name is shown."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "till.py").write_text("from failpoints import *\nfailpoint('x').hit()\n")
    script = f"""
import os, sys
sys.path.insert(0, {str(tmp_path)!r})
from failpoints import configure, status
from failpoints._http.budget import Budget
from failpoints._http.wire import status_document
configure("x", "off")
import shop.till
shown = lambda: status_document(status("x"))["sites"]
print(shown())
sys.path.pop(0)
print(shown())
os.chdir({str(tmp_path)!r})
print(shown())
if os.name == "posix":  # elsewhere the current folder cannot be deleted
    os.mkdir("gone")
    os.chdir("gone")
    os.rmdir("../gone")
print(shown())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=50)
    assert done.stderr == ""
    whole, file = str(["shop/till.py:2"]), str(["till.py:2"])
    assert done.stdout.splitlines() == [whole, file, whole, file if os.name == "posix" else whole]


@pytest.mark.parametrize(
    "document",
    [None, [], "x", {}, {"name": "a b"}, {**status_document(FailpointStatus("x")), "waiting": 3}],
    ids=repr,
)
def test_a_document_that_is_not_a_status(document: object) -> None:
    """A document that is not a status is a usage error that shows it."""
    with pytest.raises(FailpointUsageError, match="this is not a status of a failpoint: "):
        parse_status(document)


# tokens


@pytest.mark.parametrize("token", ["", " ", "a b", "a\n", "é", None, b"x", 3])
def test_invalid_tokens(token: object) -> None:
    """A token that is empty, or that a header cannot carry, is a usage error that does not show it."""
    with pytest.raises(FailpointUsageError, match="a token must be a non-empty str of printable ASCII characters"):
        check_token(token)


def test_a_valid_token() -> None:
    """Printable ASCII characters make a token."""
    assert check_token("s3cret!~") == "s3cret!~"


def test_strays_arrive() -> None:
    """The visits in threads that no registry reaches are part of a status. Their values are shown as in any context."""
    stray = Stray(thread="pool-1", context={"shard": 3, "items": [1]}, count=2, since=datetime.now(UTC))
    arrived = parse_status(through_json(status_document(FailpointStatus("x", matchers={}, strays=(stray,)))))
    assert arrived.strays == (replace(stray, context={"shard": 3, "items": "[1]"}),)
