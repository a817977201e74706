"""The work that one request causes: measured in steps, and in processor time only with a wide margin."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from failpoints import FailpointError, Registry
from failpoints._core.messages import nearest
from failpoints._core.registry import store_of
from failpoints._http.budget import Budget
from failpoints._http.paths import undecoded_path
from failpoints._http.wire import MAX_BODY, _reject_duplicate_keys, parse_entries
from failpoints.admin import admin_app

pytestmark = pytest.mark.anyio

AT = "/v1/failpoints"


@pytest.fixture
def anyio_backend() -> str:
    """Run the tests on one event loop: this is about what happens between two suspensions."""
    return "asyncio"


def client_of(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1")


def steps(call: Callable[[], object]) -> int:
    """Count the calls, of Python functions and of built-in ones, and the lines that a call runs."""
    counted = 0

    def count(*event: object) -> Any:
        nonlocal counted
        counted += 1
        return count

    before = sys.gettrace()  # of coverage
    sys.setprofile(count)
    sys.settrace(count)
    try:
        call()
    finally:
        sys.settrace(before)
        sys.setprofile(None)
    return counted


def read(body: bytes) -> None:
    """Read a request body as the control plane does, and ignore what is wrong with it."""
    try:
        store = store_of(Registry())
        parse_entries(body, Budget("too much"), lambda entry: store.prepare(entry.name, entry.actions, entry.matchers))
    except FailpointError:
        pass


def entries(number: int, **entry: object) -> bytes:
    """Encode the same entry *number* times."""
    return json.dumps([{"name": "x", "actions": "off", **entry}] * number).encode()


def actions(text: str) -> bytes:
    return entries(1, actions=text)


# Each makes a body whose size grows with the number.
GROWING: dict[str, Callable[[int], bytes]] = {
    "one key twice": lambda n: ("[{" + ",".join(f'"{i:06}":1' for i in range(n)) + f',"{n - 1:06}":1}}]').encode(),
    "one key always": lambda n: ("[{" + ",".join('"a":1' for _ in range(n)) + "}]").encode(),
    "unknown keys": lambda n: json.dumps([{f"{i:06}": 1 for i in range(n)}]).encode(),
    "one name": lambda n: entries(n),
    "many names": lambda n: json.dumps([{"name": f"n{i:06}", "actions": "off"} for i in range(n)]).encode(),
    "many wrong entries": lambda n: entries(n, name=""),
    "nested arrays": lambda n: b"[" * n,
    "nested objects": lambda n: b'{"a":' * n,
    "empty objects": lambda n: b"[" + b"{}," * n + b"{}]",
    "a long number": lambda n: b"[" + b"1" * n + b"]",
    "a long name": lambda n: entries(1, name="n" * n),
    "a long wrong name": lambda n: entries(1, name="n" * n + " "),
    "a long action": lambda n: actions("a" * n),
    "a long near action": lambda n: actions("pause" * n),
    "many actions": lambda n: actions("off->" * n + "off"),
    "many wrong actions": lambda n: actions("off->" * n + "of"),
    "spaces": lambda n: actions(" " * n + "of"),
    "digits": lambda n: actions("1" * n),
    "decimals": lambda n: actions("0." + "1" * n + "%of"),
    "a long duration": lambda n: actions(f"sleep({'1' * n}x)"),
    "a long exception": lambda n: actions(f"raise({'a.' * n})"),
    "open parentheses": lambda n: actions("return(" + "(" * n),
    "balanced parentheses": lambda n: actions("return(" + "()" * n + ")"),
    "a quoted argument": lambda n: actions('return("' + r"\n" * n + '")'),
    "an open quote": lambda n: actions('return("' + "a" * n),
    "many matchers": lambda n: entries(1, context_matchers={f"{i:06}": 1 for i in range(n)}),
    "a long key": lambda n: entries(1, context_matchers={"k" * n: []}),
}


@pytest.mark.parametrize("body", GROWING.values(), ids=GROWING)
def test_reading_a_body_is_linear(body: Callable[[int], bytes]) -> None:
    """Four times the body takes at most some four times the steps: no key, text or error is read over and over."""
    small, large = body(200), body(800)
    read(large)  # what is made once for the process
    assert steps(lambda: read(large)) <= 5 * steps(lambda: read(small)) + 500


def test_duplicate_keys_are_found_by_looking_each_up_once() -> None:
    """Whether a key appears twice is looked up once for each key, and not by comparing all keys with all others."""
    compared = 0

    class Key(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

    pairs = [(Key(number), number) for number in range(1_000)]
    with pytest.raises(FailpointError, match="the key '999' appears twice"):
        _reject_duplicate_keys([*pairs, (Key(999), 0)])
    assert compared <= 2_000


@pytest.mark.parametrize("body", GROWING.values(), ids=GROWING)
async def test_the_largest_request_is_answered_soon(body: Callable[[int], bytes]) -> None:
    """A request of almost 1 MiB, and a list of what it configured, take far less than a minute of processor time.

    They take half a second at most where nothing else runs. The limit here also allows for tracing and busy machines.
    """
    per_item = (len(body(1_000)) - len(body(500))) / 500
    largest = body(int((MAX_BODY - 2_000) / (per_item + 1)))
    assert MAX_BODY / 4 < len(largest) <= MAX_BODY
    registry = Registry()
    async with client_of(admin_app(registry)) as client:
        started = time.process_time()
        answer = await client.put(AT, content=largest, headers={"Content-Type": "application/json"})
        listed = await client.get(AT)
        assert time.process_time() - started < 10
    assert answer.status_code in {200, 400, 413}
    assert listed.status_code in {200, 413}
    if answer.status_code != 200:
        assert len(answer.json()["msg"]) < 1_000
        assert registry.statuses() == []


@pytest.mark.parametrize(
    "body", [entries(31_700), actions("off->" * 100_000 + "off"), entries(1, context_matchers=dict.fromkeys("abcdefg"))]
)
async def test_too_much_work(monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    """A request with more entries, actions or matchers than are read in a moment is refused, and changes nothing."""
    if len(body) < 1_000:
        monkeypatch.setattr("failpoints._http.budget.UNITS", 60)
    registry = Registry()
    async with client_of(admin_app(registry)) as client:
        answer = await client.put(AT, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    assert answer.json() == {"msg": "these entries are too much work for one request: split them over several requests"}
    assert registry.statuses() == []


async def test_too_many_statuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of more than can be sent in a moment is refused. Each failpoint has a status all the same."""
    registry = Registry()
    async with client_of(admin_app(registry)) as client:
        registry.configure_all([(f"n{number}", f"return({'x' * 1_000})") for number in range(4)])
        assert (await client.get(AT)).status_code == 200
        for units in 20, 100:  # too many of them, and too large ones
            monkeypatch.setattr("failpoints._http.budget.UNITS", units)
            answer = await client.get(AT)
            assert answer.status_code == 413
            assert answer.json() == {"msg": "there are too many statuses for one answer: ask for each by its name"}
        assert (await client.get(f"{AT}/n1")).json()["name"] == "n1"


# paths, queries and names


def test_a_path_below_a_mount_is_found_in_linear_time() -> None:
    """A path that could not be split at its mount point is looked through once."""

    def scope(length: int) -> dict[str, Any]:
        rest = "/" * length
        return {"path": f"/debug/{rest}", "root_path": "/debug", "raw_path": f"/debug%2F{rest}".encode()}

    assert undecoded_path(scope(10)) == ""
    assert steps(lambda: undecoded_path(scope(8_000))) <= 5 * steps(lambda: undecoded_path(scope(2_000))) + 500


@pytest.mark.parametrize(
    "path",
    [
        "/" * 60_000,
        "a" * 60_000,
        "%61" * 20_000,
        "%" * 60_000,
        "%FF" * 20_000,
        "x?hits=" + "1" * 60_000,
        "x?" + "a&" * 30_000,
    ],
)
async def test_a_long_path(path: str) -> None:
    """The longest path and query take far less than a second of processor time, mounted or not."""
    registry = Registry()
    registry.configure_all([(f"{'a' * 90}{number}", "off") for number in range(5_000)])
    app = Starlette(routes=[Mount("/debug", app=admin_app(registry)), Mount("/", app=admin_app(registry))])
    async with client_of(app) as client:
        for prefix in "", "/debug", "/debug%2F":
            raw = f"{prefix}{AT}/{path}".encode()
            started = time.process_time()
            answer = await client.get(httpx.URL("http://127.0.0.1").copy_with(raw_path=raw))
            assert answer.status_code in {400, 404}
            assert time.process_time() - started < 5


def test_suggestions_compare_a_bounded_number_of_words() -> None:
    """However many and however long the names, “did you mean” compares only some of them letter by letter."""
    lengths: list[int] = []

    class Name(str):
        __slots__ = ()

        def lower(self) -> str:
            lengths.append(len(self))
            return super().lower()

    word = "ab" * 50
    names = [Name("ab" * length + str(number)) for number in range(100) for length in range(0, 200, 4)]
    assert nearest(word, names) is not None
    assert len(lengths) <= 2_000
    assert max(lengths) <= 240
    assert nearest("a" * 1_000_000, ["a"]) is None
    assert nearest("a" * 101, ["a" * 101]) is None
    few = steps(lambda: nearest(word, names[:2_000]))
    assert steps(lambda: nearest(word, names * 4)) <= 5 * few


def test_the_nearest_of_many() -> None:
    """The nearest name is found among thousands of names of other lengths, and of other letters."""
    others = [f"{'x' * 40}{number}" for number in range(5_000)] + [f"shop.{number:04}" for number in range(1_000)]
    assert nearest("shop.ordr", [*others, "shop.order"]) == "shop.order"
