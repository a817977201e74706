"""Several configurations of one failpoint over HTTP: their statuses, and resuming some of the waiters."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from urllib.parse import quote

import anyio
import httpx
import pytest

import failpoints
from failpoints import FailpointNameError, FailpointUsageError, configure, failpoint, status
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
        ({"task": "1"}, "unknown parameter 'task': expected context, tasks; did you mean 'tasks'?"),
        ({"context": ""}, "context is not JSON: Expecting value at line 1, column 1"),
        ({"context": "customer=Ada"}, "context is not JSON: Expecting value at line 1, column 1"),
        ({"context": "NaN"}, "context is not JSON: JSON has no NaN"),
        ({"context": "[" * 9_000}, "context is nested too deeply"),
        ({"context": [1]}, 'context must be an object, such as {"tenant_id": "test_.*"}; got an array'),
        (
            {"context": {"a": [1]}},
            "the matcher for 'a' must be a pattern, a number, true, false or null; got an array",
        ),
        ({"context": {"a": "("}}, "the pattern for 'a' is not a valid regular expression: '('"),
        ({"context": {"a": "(?!b)c"}}, "the pattern for 'a' is not accepted from outside, because a look-around"),
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
