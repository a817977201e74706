"""Several configurations of one failpoint over HTTP: their statuses, and resuming some of the waiters."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from urllib.parse import quote

import anyio
import httpx
import pytest

import failpoints
from failpoints import (
    Continue,
    FailpointNameError,
    FailpointUsageError,
    Registry,
    Return,
    configure,
    failpoint,
    format_actions,
    status,
)
from failpoints.admin import admin_app
from failpoints.client import FailpointsClient

pytestmark = pytest.mark.anyio

AT = "/v1/failpoints"


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    """Return a plain client of an application for the process-wide registry."""
    transport = httpx.ASGITransport(admin_app())
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client


@pytest.fixture(scope="module")
def url(serve: Callable[..., Any]) -> Iterator[str]:
    """Serve the process-wide registry."""
    with serve(admin_app()) as url:
        yield url


@pytest.fixture
async def client(url: str) -> AsyncIterator[FailpointsClient]:
    async with FailpointsClient(url) as client:
        yield client


def entry(actions: str, **matchers: object) -> dict[str, Any]:
    return {"name": "buy", "actions": actions, "context_matchers": matchers}


def resume(**query: object) -> str:
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in query.items()}
    return f"{AT}/buy/resume?" + "&".join(f"{key}={quote(text, safe='')}" for key, text in texts.items())


class Customers:
    """Tasks that pause at the failpoint `buy`, one after the other."""

    def __init__(self, tasks: anyio.abc.TaskGroup) -> None:
        self._tasks = tasks
        self._number = 0
        self.gone: list[str] = []

    async def come(self, *customers: str) -> None:
        for customer in customers:
            self._tasks.start_soon(self._buy, customer)
            self._number += 1
            await failpoints.wait_until_paused("buy", self._number, timeout=10)

    async def _buy(self, customer: str) -> None:
        await failpoint("buy", context={"customer": customer})
        self.gone.append(customer)

    async def left(self, *customers: str) -> None:
        """Wait until exactly these have gone on, in any order."""
        with anyio.fail_after(10):
            while len(self.gone) < len(customers):
                await anyio.lowlevel.checkpoint()
        assert sorted(self.gone) == sorted(customers)


async def test_a_batch_of_several_configurations(http: httpx.AsyncClient) -> None:
    """Entries of one name with different matchers are configurations of their own, and the last one comes first."""
    body = [entry("return(rest)"), entry("return(Ada)", customer="Ada"), entry("return(A)", customer="A.*")]
    assert (await http.put(AT, json=body)).status_code == 200
    outcomes = [failpoint("buy", context={"customer": name}).hit() for name in ("Ada", "Grace")]
    assert [outcome.value for outcome in outcomes] == ["A", "rest"]  # type: ignore[union-attr]
    document = (await http.get(f"{AT}/buy")).json()
    assert (document["actions"], document["matchers"]) == ("return(A)", {"customer": "A.*"})
    assert (document["hits"], document["misses"]) == (2, 2)
    assert [
        (each["actions"], each["matchers"], each["hits"], each["misses"], each["configurations"])
        for each in document["configurations"]
    ] == [
        ("return(A)", {"customer": "A.*"}, 1, 1, []),
        ("return(Ada)", {"customer": "Ada"}, 0, 1, []),
        ("return(rest)", {}, 1, 0, []),
    ]
    assert (await http.get(AT)).json() == [document]


async def test_an_entry_without_matchers_replaces_all(http: httpx.AsyncClient) -> None:
    """As with `configure`, no matchers replace all configurations of the name, and equal ones replace one."""
    await http.put(AT, json=[entry("off"), entry("off", customer="Ada"), entry("pause", customer="Ada")])
    shown = (await http.get(f"{AT}/buy")).json()["configurations"]
    assert [(each["actions"], each["matchers"]) for each in shown] == [("pause", {"customer": "Ada"}), ("off", {})]
    await http.put(AT, json=[{"name": "buy", "actions": "yield"}])
    assert [each["actions"] for each in (await http.get(f"{AT}/buy")).json()["configurations"]] == ["yield"]


async def test_the_client_knows_the_configurations(client: FailpointsClient) -> None:
    """A status of the client has the configurations that the registry has."""
    configure("buy", "off")
    configure("buy", "return(1)", context={"customer": "Ada"})
    failpoint("buy", context={"customer": "Grace"}).hit()
    ours, theirs = status("buy"), await client.status("buy")
    for mine, yours in zip((ours, *ours.configurations), (theirs, *theirs.configurations), strict=True):
        assert (mine.actions, mine.matchers, mine.hits, mine.misses) == (
            yours.actions,
            yours.matchers,
            yours.hits,
            yours.misses,
        )
    assert [len(each.configurations) for each in await client.statuses()] == [2]


# resume


async def test_resuming_one_at_a_time(http: httpx.AsyncClient) -> None:
    """`tasks` limits how many are woken, and those that have waited longest come first."""
    configure("buy", "pause")
    async with anyio.create_task_group() as tasks:
        customers = Customers(tasks)
        await customers.come("Ada", "Grace", "Alan")
        assert (await http.post(resume(tasks=1))).json() == {"resumed": 1}
        await customers.left("Ada")
        assert (await http.post(resume(tasks=9))).json() == {"resumed": 2}
    assert (await http.post(resume(tasks=1))).json() == {"resumed": 0}


async def test_resuming_by_context(http: httpx.AsyncClient) -> None:
    """`context` has matchers, and only the visits that they match are woken, in every configuration."""
    configure("buy", "pause")
    configure("buy", "pause", context={"customer": "A.*"})
    async with anyio.create_task_group() as tasks:
        customers = Customers(tasks)
        await customers.come("Ada", "Grace", "Alan")
        assert (await http.post(resume(context={"customer": "Bob"}))).json() == {"resumed": 0}
        assert (await http.post(resume(context={"other": None}))).json() == {"resumed": 0}
        assert (await http.post(resume(context={"customer": "G.*"}))).json() == {"resumed": 1}
        await customers.left("Grace")
        assert (await http.post(resume(context={"customer": "A.*"}, tasks=1))).json() == {"resumed": 1}
        await customers.left("Grace", "Ada")
        assert (await http.post(resume(context={}))).json() == {"resumed": 1}


@pytest.mark.parametrize(
    ("query", "msg"),
    [
        ({"tasks": "0"}, "tasks must be a whole number from 1 to 9007199254740991; got '0'"),
        ({"tasks": "two"}, "tasks must be a whole number from 1 to 9007199254740991; got 'two'"),
        ({"task": "1"}, "unknown parameter 'task': expected context, tasks, handle; did you mean 'tasks'?"),
        ({"context": ""}, "context is not JSON: Expecting value at line 1, column 1"),
        ({"context": "customer=Ada"}, "context is not JSON: Expecting value at line 1, column 1"),
        ({"context": "NaN"}, "context is not JSON: JSON has no NaN"),
        ({"context": [1]}, 'context must be an object, such as {"tenant_id": "test_.*"}; got an array'),
        (
            {"context": {"a": [1]}},
            "the matcher for 'a' must be a pattern, a number, true, false or null; got an array",
        ),
        ({"context": {"a": "("}}, "the pattern for 'a' is not a valid regular expression: '('"),
        ({"context": {"a": "(?!b)c"}}, "the pattern for 'a' is not accepted from outside, because"),
        ({"context": '{"a": 1, "a": 2}'}, "the key 'a' appears twice"),
    ],
    ids=str,
)
async def test_a_wrong_query(http: httpx.AsyncClient, query: dict[str, Any], msg: str) -> None:
    """A query that cannot limit the waiters is a 400 in words, and wakes nothing."""
    configure("buy", "pause")
    async with anyio.create_task_group() as tasks:
        customers = Customers(tasks)
        await customers.come("Ada")
        answer = await http.post(resume(**query))
        assert answer.status_code == 400
        assert answer.json()["msg"].startswith(msg)
        assert len(status("buy").waiting) == 1
        failpoints.resume("buy")


async def test_the_client_resumes_some(client: FailpointsClient) -> None:
    """The client's `resume` takes what that of the registry takes."""
    configure("buy", "pause")
    async with anyio.create_task_group() as tasks:
        customers = Customers(tasks)
        await customers.come("Ada & Co=1", "Grace", "Alan")
        assert await client.resume("buy", context={"customer": "Ada & Co=1"}) == 1
        await customers.left("Ada & Co=1")
        assert await client.resume("buy", tasks=1) == 1
        await customers.left("Ada & Co=1", "Grace")
        assert await client.resume("buy", context={"customer": "Grace"}, tasks=2) == 0
        assert await client.resume("buy", context={}, tasks=2) == 1


async def test_the_client_refuses_what_cannot_be_sent(client: FailpointsClient) -> None:
    """Arguments are checked before anything is sent."""
    with pytest.raises(FailpointUsageError, match="tasks must be a whole number of 1 or more; got 0"):
        await client.resume("buy", tasks=0)
    with pytest.raises(FailpointUsageError, match="the matcher for 'customer' cannot be sent to another process"):
        await client.resume("buy", context={"customer": len})
    with pytest.raises(FailpointNameError, match="is not a valid regular expression"):
        await client.resume("buy", context={"customer": "("})


# handles


def with_handle(handle: str, actions: str, **matchers: object) -> dict[str, Any]:
    return {**entry(actions, **matchers), "handle": handle}


async def test_a_handle_selects_a_configuration(http: httpx.AsyncClient) -> None:
    """`?handle=` makes the status, the resume and the removal about one configuration, whatever else the name has."""
    await http.put(AT, json=[entry("pause", customer="Ada"), with_handle("g", "pause", customer="Grace")])
    async with anyio.create_task_group() as tasks:
        customers = Customers(tasks)
        await customers.come("Ada", "Grace")
        shown = (await http.get(f"{AT}/buy?handle=g")).json()
        assert (shown["matchers"], shown["hits"], len(shown["waiting"])) == ({"customer": "Grace"}, 1, 1)
        assert shown["configurations"] == []
        assert (await http.get(f"{AT}/buy/wait?paused=1&handle=g")).json() == shown
        assert (await http.get(f"{AT}/buy/wait?paused=2&handle=g&timeout=0")).status_code == 408
        assert (await http.post(resume(handle="g", context={"customer": "A.*"}))).json() == {"resumed": 0}
        assert (await http.post(resume(handle="g"))).json() == {"resumed": 1}
        await customers.left("Grace")
        assert (await http.delete(f"{AT}/buy?handle=g")).json() is None
        assert [each.matchers for each in status("buy").configurations] == [{"customer": "Ada"}]
        failpoints.remove("buy")


async def test_a_handle_restores_what_it_replaced(http: httpx.AsyncClient) -> None:
    """Once a configuration with a handle is removed, what it had replaced is in force again, its counts going on."""
    configure("buy", "off")
    failpoint("buy").hit()
    await http.put(AT, json=[with_handle("outer", "return(1)")])
    await http.put(AT, json=[with_handle("inner", "return(2)")])
    assert [failpoint("buy").hit()] == [Return("2")]
    await http.delete(f"{AT}/buy?handle=outer")
    assert [failpoint("buy").hit()] == [Return("2")]
    await http.delete(f"{AT}/buy?handle=inner")
    assert (format_actions(status("buy").actions), status("buy").hits) == ("off", 1)


async def test_an_ended_handle(http: httpx.AsyncClient) -> None:
    """After its configuration was replaced or removed, a handle still has the counts, and nothing else to do."""
    await http.put(AT, json=[with_handle("h", "off")])
    failpoint("buy").hit()
    await http.put(AT, json=[entry("pause")])
    assert (await http.get(f"{AT}/buy?handle=h")).json()["hits"] == 1
    assert (await http.get(f"{AT}/buy/wait?hits=2&handle=h")).status_code == 404
    assert (await http.post(resume(handle="h"))).json() == {"resumed": 0}
    assert (await http.delete(f"{AT}/buy?handle=h")).status_code == 200
    assert format_actions(status("buy").actions) == "pause"
    assert (await http.put(AT, json=[with_handle("h", "yield")])).status_code == 200  # it is free again


async def test_unknown_handles(http: httpx.AsyncClient) -> None:
    """A handle that no configuration of this name was given is a 404."""
    await http.put(AT, json=[{**with_handle("h", "off"), "name": "other"}, entry("off")])
    for method, path in ("GET", "?"), ("DELETE", "?"), ("POST", "/resume?"), ("GET", "/wait?"):
        answer = await http.request(method, f"{AT}/buy{path}handle=h")
        assert answer.status_code == 404
        assert answer.json() == {"msg": "failpoint 'buy' is not configured with the handle 'h'"}


@pytest.mark.parametrize(
    ("body", "code", "msg"),
    [
        ([with_handle("", "off")], 400, "handle must be a string of 1 to 100 characters; got ''"),
        ([{**entry("off"), "handle": 1}], 400, "handle must be a string of 1 to 100 characters; got 1"),
        ([with_handle("h", "off"), with_handle("h", "off")], 409, "the handle 'h' is in use: choose another one"),
        ([with_handle("used", "off")], 409, "the handle 'used' is in use: choose another one"),
    ],
)
async def test_wrong_handles(http: httpx.AsyncClient, body: list[Any], code: int, msg: str) -> None:
    """A handle that cannot be one is a 400, one that another configuration has a 409. Neither changes anything."""
    await http.put(AT, json=[with_handle("used", "pause")])
    answer = await http.put(AT, json=body)
    assert (answer.status_code, answer.json()) == (code, {"msg": msg})
    assert format_actions(status("buy").actions) == "pause"


async def test_ended_handles_are_forgotten(http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the configurations that have ended, only the last ones are kept."""
    monkeypatch.setattr("failpoints._http.targets._MOST_ENDED", 2)
    for number in range(5):
        await http.put(AT, json=[with_handle(f"h{number}", "off")])
        await http.delete(f"{AT}/buy")
    known = [(await http.get(f"{AT}/buy?handle=h{number}")).status_code for number in range(5)]
    assert known == [404, 404, 200, 200, 200]


async def test_blocks_of_the_client(client: FailpointsClient) -> None:
    """Leaving a block of `configured` takes away its own configuration, and puts back what it had replaced."""
    configure("buy", "return(before)")
    async with client.configured("buy", "off") as everybody:
        async with client.configured("buy", "return(Ada)", context={"customer": "Ada"}) as ada:
            failpoint("buy", context={"customer": "Grace"}).hit()
            assert failpoint("buy", context={"customer": "Ada"}).hit() == Return("Ada")
            await ada.wait_hit(timeout=10)
            counts = [(each.hits, each.misses) for each in (await everybody.status(), await ada.status())]
            assert counts == [(1, 0), (1, 1)]
        assert len(status("buy").configurations) == 1
        assert (await ada.status()).hits == 1
        with pytest.raises(FailpointUsageError, match="was replaced"):
            await ada.wait_hit(2, timeout=10)
        assert failpoint("buy").hit() == Continue()
    assert [failpoint("buy").hit()] == [Return("before")]


async def test_handles_of_the_client_release_their_own(client: FailpointsClient) -> None:
    """Two handles of one name each wait for, and release, what waits at their own configuration."""
    async with (
        client.configured("buy", "pause", context={"customer": "Ada"}) as ada,
        client.configured("buy", "pause", context={"customer": "Grace"}) as grace,
        anyio.create_task_group() as tasks,
    ):
        customers = Customers(tasks)
        await customers.come("Ada", "Grace")
        await ada.wait_paused(timeout=10)
        assert await grace.resume(tasks=5) == 1
        await customers.left("Grace")
        assert await ada.resume(context={"customer": "Grace"}) == 0
        assert await ada.resume() == 1


async def test_a_block_whose_failpoint_was_reset(client: FailpointsClient) -> None:
    """If the failpoint was removed meanwhile, leaving the block puts nothing back."""
    configure("buy", "return(before)")
    async with client.configured("buy", "off"):
        failpoints.reset()
    assert failpoints.statuses() == []


# strays


async def test_visits_that_the_registry_does_not_reach() -> None:
    """A status has the visits in plain threads, of a name that the control plane's own registry configures."""
    with Registry() as registry:
        registry.configure("buy", "off")
        thread = threading.Thread(target=lambda: failpoint("buy", context={"customer": "Ada"}).hit(), name="stray")
        thread.start()
        thread.join()
        transport = httpx.ASGITransport(admin_app(registry))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            document = (await http.get(f"{AT}/buy")).json()
    [stray] = document["strays"]
    assert (stray["thread"], stray["context"], stray["count"]) == ("stray", {"customer": "Ada"}, 1)
    assert document["hits"] == 0
