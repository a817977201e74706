"""The policy: its arguments, what it signs, and what it refuses."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from itsdangerous import Signer, URLSafeSerializer, URLSafeTimedSerializer

import failpoints
from failpoints import Call, FailpointError, FailpointUsageError, Panic, Raise, Return, Sleep
from failpoints._core import environment
from failpoints._core.store import Store, stores_in_force
from failpoints._request import once, rules, tokens
from failpoints._request.policy import rules_of
from failpoints._request.tokens import Refused
from failpoints.request import RequestFailpoints

from .conftest import OTHER_SECRET, SECRET, policy_of

ENTRIES = [("stock.reserve", "raise(TimeoutError)", {"shard": 3, "tenant": "t.*"})]
SOON = 4_000_000_000  # seconds since the epoch


def accepted(policy: RequestFailpoints, token: str) -> list[tuple[str, str, dict[str, Any]]]:
    configurations = rules_of(policy).accept(token, Store()).configurations
    return [(each.name, failpoints.format_actions(each.terms), dict(each.matchers.given)) for each in configurations]


def signed(claims: object, entries: object, *, secret: str = SECRET, key: str = "k1") -> str:
    """Sign what `sign` would never make."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (claims, entries)]
    encoded = [base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts]
    signer = Signer(secret, salt=b"failpoints.request", key_derivation="hmac", digest_method=hashlib.sha256)
    return signer.sign(".".join([key, *encoded])).decode()


def test_a_token_comes_back_as_what_was_signed(policy: RequestFailpoints) -> None:
    """A policy accepts the entries that it signed, with their matchers."""
    ((name, actions, context),) = accepted(policy, policy.sign(ENTRIES))
    assert (name, actions, context["shard"], str(context["tenant"])) == (
        "stock.reserve",
        "raise(TimeoutError)",
        3,
        "t.*",
    )


def test_keys_are_rotated() -> None:
    """The first key signs, and all of them verify."""
    old = policy_of()
    new = policy_of(keys={"k2": OTHER_SECRET, "k1": SECRET})
    assert accepted(new, old.sign([("a", "off")])) == accepted(new, new.sign([("a", "off")])) == [("a", "off", {})]
    with pytest.raises(Refused, match="not signed with a key of this service"):
        rules_of(old).accept(new.sign([("a", "off")]), Store())


def test_keys_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `keys=`, they are those of FAILPOINTS_REQUEST_KEYS. Where that is empty, the policy is off."""
    monkeypatch.setattr(environment, "REQUEST_KEYS", f"k1:{SECRET}, k2:{OTHER_SECRET}")
    assert accepted(policy_of(), policy_of(keys=None).sign([("a", "off")])) == [("a", "off", {})]
    monkeypatch.setattr(environment, "REQUEST_KEYS", "")
    assert not rules_of(policy_of(keys=None)).keys
    with pytest.raises(FailpointUsageError, match="there is no key to sign with"):
        policy_of(keys=None).sign(ENTRIES)


@pytest.mark.parametrize("text", ["k1", "k1:short", f"k1:{SECRET},k1:{SECRET}", f"k 1:{SECRET}", f":{SECRET}"])
def test_a_mistake_in_the_environment_is_a_usage_error(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that cannot be read are refused at the start, in a message without a secret."""
    monkeypatch.setattr(environment, "REQUEST_KEYS", text)
    with pytest.raises(FailpointUsageError) as raised:
        policy_of(keys=None)
    assert SECRET not in str(raised.value)


BAD_ARGUMENTS: list[tuple[dict[str, Any], str]] = [
    ({"keys": {}}, "keys= is empty"),
    ({"keys": {"k1": "0123456789abcde"}}, "has 15 bytes, and needs 16 or more"),
    ({"keys": {"k1": "0"}}, "has 1 byte, and needs 16 or more"),
    ({"keys": {"k1": b"0123456789abcdef"}}, "must be a str"),
    ({"keys": {"k1": "\ud800" * 16}}, "characters that UTF-8 lacks"),
    ({"keys": {"k.1": SECRET}}, "the id of a key has 1 to 64 letters"),
    ({"keys": SECRET}, "keys= must be a mapping of ids to secrets"),
    ({"allow": "stock.*"}, r"allow= must be a list .*; did you mean \['stock\.\*'\]\?"),
    ({"allow": [1]}, "allow= has names and patterns"),
    ({"allow": [""]}, "allow= has names and patterns"),
    ({"service": 1}, "service= must be a printable str"),
    ({"service": "..."}, "service= cannot be '...', which has another meaning in reports"),
    ({"audience": "x" * 101}, "audience= must be a printable str"),
    ({"max_pause": "5 parsecs"}, "max_pause= must be a duration"),
    ({"max_pause": "1)->exit(1"}, "max_pause= must be a duration"),
    ({"max_pause": -1}, "max_pause= must be a duration"),
    ({"max_pause": None}, "max_pause= must be a duration"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_ARGUMENTS, ids=lambda each: str(each)[:40])
def test_bad_arguments_are_usage_errors(arguments: dict[str, Any], message: str) -> None:
    """A wrong argument of a policy is refused when it is made, and no secret is in the message."""
    with pytest.raises(FailpointUsageError, match=message) as raised:
        policy_of(**arguments)
    assert SECRET not in str(raised.value)


def test_a_policy_does_not_show_its_secrets() -> None:
    """The `repr` of a policy has the ids of its keys only."""
    assert SECRET not in repr(policy_of()) and "k1" in repr(policy_of())


def claims(audience: str = "", expires: int | None = None, once: str = "") -> list[object]:
    soon = int(datetime.now(UTC).timestamp()) + 60
    return [audience, soon if expires is None else expires, once]


def tampered(token: str) -> str:
    key, first, entries, signature = token.split(".")
    return f"{key}.{first}.{entries[:-1]}{'A' if entries[-1] != 'A' else 'B'}.{signature}"


GOOD = [{"name": "a", "actions": "off"}]
BAD_TOKENS: dict[str, Callable[[], str]] = {
    "empty": lambda: "",
    "words": lambda: "raise(TimeoutError)",
    "unsigned": lambda: ".".join(policy_of().sign(ENTRIES).split(".")[:3]),
    "a forged signature": lambda: policy_of().sign(ENTRIES)[:-2] + "xx",
    "changed entries": lambda: tampered(policy_of().sign(ENTRIES)),
    "an unknown key": lambda: policy_of(keys={"k2": OTHER_SECRET}).sign(ENTRIES),
    "a known id with another secret": lambda: policy_of(keys={"k1": OTHER_SECRET}).sign(ENTRIES),
    "another key id": lambda: "k2" + policy_of().sign(ENTRIES)[2:],
    "another audience": lambda: policy_of(audience="production").sign(ENTRIES),
    "expired": lambda: signed(claims(expires=1_000_000_000), GOOD),
    "valid for too long": lambda: signed(claims(expires=SOON), GOOD),
    "too large": lambda: policy_of().sign(ENTRIES) + "A" * 4096,
    "too large, and signed": lambda: signed(claims(), b"[" + b" " * 4096 + b"]"),
    "not ASCII": lambda: policy_of().sign(ENTRIES) + "\u00e9",
    "two tokens in one header": lambda: ", ".join([policy_of().sign(ENTRIES)] * 2),
    "a line break": lambda: policy_of().sign(ENTRIES) + "\n",
    "another serializer's": lambda: URLSafeTimedSerializer(SECRET, salt="failpoints.request").dumps(ENTRIES),
    "compressed": lambda: URLSafeSerializer(SECRET, salt="failpoints.request").dumps(["a" * 10_000]),
    "compressed claims": lambda: signed(zlib.compress(b"[" * 100_000), GOOD),
    "claims of another kind": lambda: signed({"audience": ""}, GOOD),
    "claims of wrong types": lambda: signed(["", "4000000000", ""], GOOD),
    "a lifetime that is a bool": lambda: signed(["", True, ""], GOOD),
    "SHA-1": lambda: Signer(SECRET, salt=b"failpoints.request", key_derivation="hmac").sign("k1.W10.W10").decode(),
    "the salt of others": lambda: Signer(
        SECRET, salt=b"cookies", key_derivation="hmac", digest_method=hashlib.sha256
    ).sign("k1.W10.W10").decode(),
}  # fmt: skip


@pytest.mark.parametrize("token", BAD_TOKENS.values(), ids=BAD_TOKENS)
def test_a_bad_token_is_refused_before_its_entries_are_read(
    token: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of a token's entries is parsed unless it is signed, for this audience and not expired."""
    read: list[bytes] = []
    monkeypatch.setattr(rules, "parse_entries", lambda entries, *_: read.append(entries))
    used, in_force = policy_of(), list(stores_in_force)
    with pytest.raises(Refused):
        rules_of(used).accept(token(), Store())
    assert read == []
    assert list(stores_in_force) == in_force and rules_of(used).used._expires == {}


BAD_ENTRIES: dict[str, tuple[object, str]] = {
    "not JSON": (b"[", "is not JSON"),
    "not UTF-8": (b"\xff", "not UTF-8"),
    "not an array": ({"name": "a"}, "must be an array"),
    "nested": (b"[" * 2000, "is nested too deeply|is not JSON"),
    "an unknown key": ([{"name": "a", "actions": "off", "once": True}], "unknown key 'once'"),
    "a bad name": ([{"name": "a b", "actions": "off"}], "must be printable"),
    "bad actions": ([{"name": "a", "actions": "explode"}], "expected an action"),
    "a bad pattern": ([{"name": "a", "actions": "off", "context_matchers": {"x": "("}}], "regular expression"),
    "a slow pattern": (
        [{"name": "a", "actions": "off", "context_matchers": {"x": r"(a+)+\1"}}], "pattern",
    ),
    "an unreachable term": ([{"name": "a", "actions": "off->pause"}], "nothing can reach"),
    "exit": ([{"name": "a", "actions": "exit"}], "is not allowed in a request"),
    "exit in another service": ([{"name": "not.here", "actions": "exit(9)"}], "is not allowed in a request"),
    "exit at the end": ([{"name": "a", "actions": "1*sleep(1)+exit"}], "is not allowed in a request"),
    "panic": ([{"name": "a", "actions": "panic(x)"}], "is not allowed in a request"),
    "break": ([{"name": "a", "actions": "break"}], "is not allowed in a request"),
    "delay": ([{"name": "a", "actions": "delay(1)"}], "is not allowed in a request"),
    "SystemExit": ([{"name": "a", "actions": "raise(SystemExit)"}], "is not an Exception"),
    "KeyboardInterrupt": ([{"name": "a", "actions": "1%raise(builtins.KeyboardInterrupt: x)"}], "is not an Exception"),
    "CancelledError": ([{"name": "a", "actions": "raise(asyncio.CancelledError)"}], "is not an Exception"),
    "FailpointPanic": ([{"name": "a", "actions": "raise(FailpointPanic)"}], "is not an Exception"),
    "a long sleep": ([{"name": "a", "actions": "sleep(5001)"}], "waits longer than this service allows, which is 5 s"),
    "a long pause": ([{"name": "a", "actions": "off->1%pause(1m)"}], "nothing can reach|waits longer"),
    "a long sum": ([{"name": "a", "actions": "sleep(3s)+sleep(3s)"}], "waits longer"),
}  # fmt: skip


@pytest.mark.parametrize(("entries", "message"), BAD_ENTRIES.values(), ids=BAD_ENTRIES)
def test_bad_entries_of_a_signed_token_are_refused(entries: object, message: str) -> None:
    """A token with one bad entry is refused as a whole, with the reason, and a one-time token is not used up."""
    used = policy_of(allow=["a"])
    with pytest.raises(Refused, match=message):
        rules_of(used).accept(signed(claims(once="x"), entries), Store())
    assert rules_of(used).used._expires == {}


REFUSED_TO_SIGN: list[tuple[Any, dict[str, Any], str]] = [
    ([("a", Call(print))], {}, "has no text form|Call"),
    ([("a", Panic())], {}, "is not allowed in a request"),
    ([("a", Raise(KeyboardInterrupt))], {}, "is not an Exception"),
    ([("a", Return(object()))], {}, "text"),
    ([("a", "explode")], {}, "expected an action"),
    ([("a", "off", {"x": lambda value: True})], {}, "cannot be sent"),
    ([], {}, "there is nothing to sign"),
    ([("a", f"return({'x' * 4096})")], {}, "the token would have"),
    ([("a", "off")], {"seconds": 0}, "seconds must be a whole number from 1 to 3600"),
    ([("a", "off")], {"seconds": 3601}, "seconds must be a whole number from 1 to 3600"),
    ([("a", "off")], {"once": 1}, "once must be True or False"),
    ("a=off", {}, "an entry of configure_all"),
]


@pytest.mark.parametrize(("entries", "options", "message"), REFUSED_TO_SIGN, ids=lambda each: str(each)[:40])
def test_what_no_service_would_obey_is_not_signed(
    policy: RequestFailpoints, entries: Any, options: dict[str, Any], message: str
) -> None:
    """`sign` raises for what cannot be sent, or is refused everywhere."""
    with pytest.raises(FailpointError, match=message):
        policy.sign(entries, **options)


def test_names_that_are_not_allowed_are_not_configured() -> None:
    """A token may name failpoints of other services, which have no effect here."""
    token = policy_of().sign([("stock.reserve", "off"), ("mail.send", "sleep(1m)"), ("stock.free", "pause")])
    allowed = accepted(policy_of(allow=["stock.*"], max_pause="2s"), token)
    assert allowed == [("stock.reserve", "off", {}), ("stock.free", "pause(2000)", {})]


@pytest.mark.parametrize("given", ["1.5s", 1500, timedelta(seconds=1.5), "1500"])
def test_a_pause_gets_the_limit_of_the_policy(given: Any) -> None:
    """A pause without a limit of its own ends after the longest pause that the policy allows, as a part of `+`, too."""
    used = policy_of(max_pause=given)
    assert accepted(used, used.sign([("a", "2*pause+raise(OSError)")])) == [("a", "2*pause(1500)+raise(OSError)", {})]
    assert accepted(used, used.sign([("a", Sleep(1500))])) == [("a", "sleep(1500)", {})]


def test_the_limit_is_for_all_waits_of_a_visit_together() -> None:
    """A pause gets what the sleeps beside it leave, several share that, and if there is nothing left it is refused."""
    used = policy_of(max_pause="5s", allow=["a"])
    given = ["sleep(3s)+pause", "pause+sleep(1s)+pause"]
    left = ["sleep(3000)+pause(2000)", "pause(2000)+sleep(1000)+pause(2000)"]
    for actions, expected in zip(given, left, strict=True):
        assert [each[1] for each in accepted(used, used.sign([("a", actions)]))] == [expected]
    exact = policy_of(max_pause="300ms", allow=["a"])
    assert accepted(exact, exact.sign([("a", "sleep(100)+sleep(200)")]))[0][1] == "sleep(100)+sleep(200)"
    assert accepted(exact, exact.sign([("a", "sleep(100)+pause")]))[0][1] == "sleep(100)+pause(200)"
    for actions in ("sleep(5s)+pause", "pause+sleep(5s)", "sleep(3s)+sleep(3s)", "pause(3s)+sleep(3s)"):
        with pytest.raises(Refused, match="waits longer than this service allows, which is 5 s for all waits of a"):
            rules_of(used).accept(used.sign([("a", actions)]), Store())


def test_a_one_time_token_is_obeyed_once(policy: RequestFailpoints) -> None:
    """A token that was signed with `once=True` is refused the second time, and any other one is not."""
    first, second = policy.sign(ENTRIES, once=True), policy.sign(ENTRIES, once=True)
    rules_of(policy).accept(first, Store())
    rules_of(policy).accept(second, Store())
    for token in (first, second):
        with pytest.raises(Refused, match="has been used"):
            rules_of(policy).accept(token, Store())
    again = policy.sign(ENTRIES)
    rules_of(policy).accept(again, Store())
    rules_of(policy).accept(again, Store())


def test_one_time_tokens_take_bounded_memory(policy: RequestFailpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    """Used tokens are remembered until they expire. Where too many are, more are refused and none is forgotten."""
    monkeypatch.setattr(once, "MOST", 2)
    used = once.UsedTokens()
    used.use("a", expires=10, now=0)
    used.use("b", expires=20, now=0)
    with pytest.raises(Refused, match="too many one-time tokens"):
        used.use("c", expires=30, now=5)
    used.use("c", expires=30, now=11)
    assert used._expires == {"b": 20, "c": 30}


def test_a_token_expires(policy: RequestFailpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token is refused once its lifetime is over, to the second."""
    start = datetime(2026, 11, 27, tzinfo=UTC)
    monkeypatch.setattr("failpoints._request.rules.now", lambda: start)
    token = policy.sign(ENTRIES, seconds=60)
    monkeypatch.setattr("failpoints._request.rules.now", lambda: start + timedelta(seconds=59.9))
    rules_of(policy).accept(token, Store())
    monkeypatch.setattr("failpoints._request.rules.now", lambda: start + timedelta(seconds=60))
    with pytest.raises(Refused, match="has expired"):
        rules_of(policy).accept(token, Store())


def test_the_limit_of_a_token_is_that_of_a_header() -> None:
    """A token has 4 KiB at most."""
    assert tokens.MAX_TOKEN == 4096
