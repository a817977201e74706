"""Configurations and statuses as JSON, and back."""

from __future__ import annotations

import enum
import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from failpoints import (
    Actions,
    ActionSyntaxError,
    Call,
    FailpointError,
    FailpointNameError,
    FailpointStatus,
    FailpointUsageError,
    Off,
    Pause,
    Raise,
    Registry,
    Return,
    Term,
    Waiting,
    failpoint,
)
from failpoints._core.formatting import describe_actions
from failpoints._http.wire import check_token, entry_document, parse_entries, parse_status, status_document, to_json


def through_json(document: object) -> Any:
    """What arrives at the other end."""
    return json.loads(to_json(document))


def parsed(body: bytes) -> list[tuple[str, str, dict[str, Any]]]:
    """The entries of a body, as they are passed to the registry."""
    return parse_entries(body, lambda *entry: entry)


def shout(value: object) -> None:
    """An action, or a predicate, that has no text."""


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
    """Patterns with their flags, numbers, bools and None arrive as what they ask for."""
    document = entry_document("x", "2*off->return(é)", given)
    assert parsed(to_json([document])) == [("x", "2*off->return(é)", arrives)]


@pytest.mark.parametrize("actions", [Term(Return("42"), 0.25, 3), [Off(), Pause(500)], Raise(OSError("disk full"))])
def test_actions_arrive(actions: Actions) -> None:
    """Actions given in Python arrive as their text."""
    [(_, text, _)] = parsed(to_json([entry_document("x", actions)]))
    assert text == entry_document("x", text)["actions"]


@pytest.mark.parametrize(
    ("name", "actions", "context", "error", "says"),
    [
        ("a b", "off", None, FailpointNameError, "without white space"),
        ("x", "retrun(1)", None, ActionSyntaxError, "did you mean 'return'?"),
        ("x", Call(shout), None, FailpointUsageError, "no text"),
        ("x", "off", {"key": "("}, FailpointNameError, "no regular expression"),
        ("x", "off", {"key": shout}, FailpointUsageError, "cannot be sent to another process"),
        ("x", "off", {"key": [1]}, FailpointUsageError, "cannot be sent to another process"),
        ("x", "off", {"key": float("nan")}, FailpointUsageError, "cannot be sent to another process"),
        ("x", "off", "key=value", FailpointUsageError, "mapping of context keys"),
    ],
)
def test_what_cannot_be_configured_is_not_sent(
    name: str, actions: Actions, context: Any, error: type[FailpointError], says: str
) -> None:
    """Whoever writes an entry gets the registry's own errors, and a usage error for what JSON has not."""
    with pytest.raises(error, match=re.escape(says)):
        entry_document(name, actions, context)


@pytest.mark.parametrize(
    ("body", "says"),
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
def test_a_body_that_is_none_says_why(body: bytes, says: str) -> None:
    """Whatever is wrong with a body is one usage error, which names the entry where there are several."""
    with pytest.raises(FailpointUsageError, match=re.escape(says)):
        parsed(body)


def test_no_matchers_may_be_null() -> None:
    """`context_matchers` is optional, and `null` is none."""
    assert parsed(b'[{"name": "x", "actions": "off", "context_matchers": null}]') == [("x", "off", {})]
    assert parsed(b" [ ] ") == []


# statuses


SINCE = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def test_a_status_arrives() -> None:
    """A status of plain values arrives equal."""
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
        ([Term(Return(5), 0.5, 2), Pause()], "50%2*Return(value=5)->pause"),
        ([Off(), Return(b"x")], "off->Return(value=b'x')"),
    ],
)
def test_an_action_without_a_text_can_be_looked_at(actions: Actions, text: str) -> None:
    """What has no text arrives as an action that is shown as it is there, and can do nothing here."""
    with Registry() as registry:
        registry.configure("x", actions)
        document = through_json(status_document(registry.status("x")))
        assert document["actions"] == text
        status = parse_status(document)
        assert (describe_actions(status.actions), status_document(status)) == (text, document)
        registry.configure("x", status.actions)
        with pytest.raises(FailpointUsageError, match="only that process can run it"):
            failpoint("x").hit()


def test_values_that_json_has_not_are_shown() -> None:
    """Contexts and matchers are shown as Python shows them where JSON has no such value, cut where long."""
    miss = {"bytes": b"x", "far": 10**30, "infinite": float("inf"), 3: [1], "long": ["x" * 1000], "lone": "\ud800"}
    asked = {"shape": re.compile("a", re.IGNORECASE), "check": shout, "parts": (1, 2)}
    document = through_json(status_document(FailpointStatus("x", last_miss=miss, matchers=asked)))
    assert {**document["last_miss"], "long": None} == {
        "bytes": "b'x'", "far": str(10**30), "infinite": "inf", "3": "[1]", "long": None, "lone": "\ud800"
    }  # fmt: skip
    assert len(document["last_miss"]["long"]) < 250
    assert len(status_document(FailpointStatus("x", last_miss={"text": "x" * 10**6}))["last_miss"]["text"]) < 1100
    assert document["matchers"] == {"shape": "(?i)a", "check": "shout", "parts": "(1, 2)"}


def test_sites_name_no_directory_of_the_machine(tmp_path: Path) -> None:
    """A site is told from the folder that it is imported from; elsewhere only its file is."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "till.py").write_text("from failpoints import *\nfailpoint('x').hit()\n")
    script = f"""
import os, sys
sys.path.insert(0, {str(tmp_path)!r})
from failpoints import configure, status
from failpoints._http.wire import status_document
configure("x", "off")
import shop.till
told = lambda: status_document(status("x"))["sites"]
print(told())
sys.path.pop(0)
print(told())
os.chdir({str(tmp_path)!r})
print(told())
if os.name == "posix":  # elsewhere nobody can stand in a folder that is no more
    os.mkdir("gone")
    os.chdir("gone")
    os.rmdir("../gone")
print(told())
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
def test_a_foreign_answer_is_refused(document: object) -> None:
    """What is no status is a usage error that shows it."""
    with pytest.raises(FailpointUsageError, match="this is not a status of a failpoint: "):
        parse_status(document)


# tokens


@pytest.mark.parametrize("token", ["", " ", "a b", "a\n", "é", None, b"x", 3])
def test_what_can_be_no_token_is_refused(token: object) -> None:
    """A token that a header cannot carry, or an empty one, is a usage error that does not repeat it."""
    with pytest.raises(FailpointUsageError, match="a token must be a non-empty str of printable ASCII characters"):
        check_token(token)


def test_a_token_may_hold_any_printable_character() -> None:
    """Printable ASCII makes a token."""
    assert check_token("s3cret!~") == "s3cret!~"
