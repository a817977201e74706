"""Threads in libraries: SQLAlchemy's pool, the session of requests, cachetools and Django's get_or_create."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPMessage
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from failpoints import failpoint
from failpoints._explore.steering import control
from failpoints.explore import ExplorationFailed, Run, explore
from tests.explore.races import race

Scenario = Callable[[Run], None]


DECLARED: Any = {"interleavings": True, "reduction": "declared"}


# SQLAlchemy


class Connection:
    """What a pool needs of a connection."""

    def __init__(self) -> None:
        self.is_used = False

    def rollback(self) -> None:
        pass

    close = rollback


def checkouts(size: int, threads: int, use: Callable[[], object]) -> Scenario:
    """Return a scenario in which threads use the connections of a pool."""
    from sqlalchemy.pool import QueuePool

    def scenario(run: Run) -> None:
        made: list[Connection] = []

        def connect() -> Any:
            made.append(Connection())
            return made[-1]

        pool = QueuePool(connect, pool_size=size, max_overflow=0, timeout=5)

        def work() -> None:
            held = pool.connect()
            connection: Any = held.dbapi_connection
            assert not connection.is_used
            connection.is_used = True
            use()
            connection.is_used = False
            held.close()

        with run.injecting():
            race(*[work] * threads)
        assert len(made) <= size
        assert pool.checkedout() == 0

    return scenario


@pytest.mark.parametrize(("size", "threads", "runs"), [(1, 2, 6), (2, 3, 450)])
def test_the_pool_of_sqlalchemy(size: int, threads: int, runs: int) -> None:
    """It makes no more connections than its size, and lends each one to one thread at a time, in every order."""
    pytest.importorskip("sqlalchemy")
    exploration = explore(checkouts(size, threads, lambda: failpoint("use", reads=()).hit()), **DECLARED)
    assert (exploration.runs, exploration.exhaustive) == (runs, True)


def test_a_pool_of_sqlalchemy_in_which_a_thread_waits_too_long() -> None:
    """The time-out of the pool is noticed without waiting. A shorter use passes."""
    pytest.importorskip("sqlalchemy")
    began = time.monotonic()
    with pytest.raises(ExplorationFailed, match="QueuePool limit of size 1 overflow 0 reached, connection timed out"):
        explore(checkouts(1, 2, lambda: time.sleep(6)), **DECLARED)
    exploration = explore(checkouts(1, 2, lambda: time.sleep(4)), **DECLARED)
    assert (exploration.runs, exploration.exhaustive) == (2, True)
    assert time.monotonic() - began < 4


# requests


def answer(request: Any, **options: Any) -> Any:
    """Answer a request as a server would that logs a user in, and shows the cookie of each request."""
    import requests
    import urllib3

    failpoint("answer").hit()
    headers = HTTPMessage()
    if request.url.endswith("/login"):
        headers["Set-Cookie"] = "user=one"
    raw = urllib3.HTTPResponse(status=200, headers=dict(headers))
    vars(raw)["_original_response"] = SimpleNamespace(msg=headers, isclosed=lambda: True)
    answered = requests.adapters.HTTPAdapter().build_response(request, raw)
    vars(answered)["_content"] = request.headers.get("Cookie", "").encode()
    return answered


def requests_of_two_users(*, is_shared: bool) -> Scenario:
    """Return a scenario in which a thread logs in while another one, of another user, looks at a page."""
    import requests

    def session() -> Any:
        made = requests.Session()
        made.trust_env = False
        adapter = requests.adapters.HTTPAdapter()
        vars(adapter)["send"] = answer
        made.mount("http://", adapter)
        return made

    def scenario(run: Run) -> None:
        one = session()
        other = one if is_shared else session()
        pages: list[str] = []

        def look() -> None:
            failpoint("ask").hit()
            pages.append(other.get("http://shop.test/").text)

        with run.injecting():
            race(lambda: one.get("http://shop.test/login"), look)
        assert one.cookies.get_dict() == {"user": "one"}
        assert pages == [""]

    return scenario


def test_a_session_of_requests_that_two_users_share() -> None:
    """The cookie of one user goes along with the request of the other. With two sessions it does not.

    The sessions change their cookies far from any visit, so the orders are sampled.
    """
    pytest.importorskip("requests")
    with pytest.raises(ExplorationFailed, match="AssertionError"):
        explore(requests_of_two_users(is_shared=True), interleavings=True, sample=100)
    explore(requests_of_two_users(is_shared=False), interleavings=True, sample=100)


# cachetools


def cached(calls: tuple[int, ...], expected: int | None = None, **options: Any) -> Scenario:
    """Return a scenario in which a thread makes each call of a function with a cache of one entry."""
    cachetools = pytest.importorskip("cachetools")

    def scenario(run: Run) -> None:
        cache = cachetools.LRUCache(1)
        computed: list[int] = []

        @cachetools.cached(cache, **{name: make() for name, make in options.items()})  # type: ignore[untyped-decorator]
        def compute(number: int) -> int:
            failpoint("compute", writes=("cache",)).hit()
            computed.append(number)
            return number

        def work(number: int) -> None:
            failpoint("call", reads=("cache",)).hit()
            assert compute(number) == number

        with run.injecting():
            race(*[lambda number=number: work(number) for number in calls])
        assert cache.currsize == len(cache) == 1
        assert expected is None or len(computed) == expected

    return scenario


@pytest.mark.parametrize("options", [{}, {"lock": lambda: threading.Lock()}])
def test_a_cache_computes_twice(options: dict[str, Any]) -> None:
    """The lock of `cachetools.cached` protects the cache, and is not held while the function runs."""
    with pytest.raises(ExplorationFailed, match="2 == 1"):
        explore(cached((1, 1), expected=1, **options), **DECLARED)


def test_a_cache_with_a_condition_computes_once() -> None:
    """The second thread waits for the first one."""
    exploration = explore(cached((1, 1), expected=1, condition=lambda: threading.Condition()), **DECLARED)
    assert exploration.exhaustive


def test_a_cache_without_a_lock() -> None:
    """Between its lines, two threads that make room at once raise a `KeyError`. With a lock it is not found."""
    lines: Any = {"interleavings": True, "sample": 100, "lines": ("cachetools",)}
    with pytest.raises(ExplorationFailed, match="KeyError"):
        explore(cached((1, 2)), **lines)
    assert explore(cached((1, 2), lock=lambda: threading.Lock()), **lines).runs == 100


# Django


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Any]:
    """A database in a file, of which each thread has its own connection."""
    pytest.importorskip("django")
    from django.apps import apps
    from django.conf import settings
    from django.db import connections

    if not settings.configured:
        settings.configure()
    apps.populate(settings.INSTALLED_APPS)
    file = {"ENGINE": "django.db.backends.sqlite3", "NAME": tmp_path / "shop.sqlite3"}
    quickly = {"OPTIONS": {"init_command": "PRAGMA synchronous=OFF"}}
    connections.settings["shop"] = {**connections.settings["default"], **file, **quickly}
    yield connections
    connections["shop"].close()
    del connections["shop"], connections.settings["shop"]


def visit_statements(execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
    """Visit before a statement, for `execute_wrapper`."""
    kind = sql.partition(" ")[0]
    if kind in ("SELECT", "INSERT"):
        touches: Any = {"reads": ("tags",)} if kind == "SELECT" else {"writes": ("tags",)}
        failpoint(f"sql.{kind.lower()}", **touches).hit()
    return execute(sql, *arguments)


@pytest.mark.slow  # each thread opens the database in each run
def test_get_or_create(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads create two rows, unless the column is unique: then one creates it, and the other one gets it.

    The lock of SQLite is not steered, so the verdict is not exhaustive.
    """
    from django.apps.registry import Apps
    from django.db import models

    monkeypatch.setattr(control, "BLOCKED", 0.02)

    def table(name: str, *, unique: bool) -> Any:
        fields = {"id": models.AutoField(primary_key=True), "name": models.CharField(max_length=9, unique=unique)}
        meta = type("Meta", (), {"app_label": "shop", "apps": Apps()})
        model = type(name, (models.Model,), {"__module__": __name__, "Meta": meta, **fields})
        with shop["shop"].schema_editor() as editor:
            editor.create_model(model)
        return model.objects.using("shop")

    def both_get(rows: Any) -> Scenario:
        def scenario(run: Run) -> None:
            rows.all().delete()
            created: list[bool] = []

            def work() -> None:
                try:
                    with shop["shop"].execute_wrapper(visit_statements):
                        created.append(rows.get_or_create(name="new")[1])
                finally:
                    shop["shop"].close()

            with run.injecting():
                race(work, work)
            assert rows.count() == 1
            assert sorted(created) == [False, True]

        return scenario

    exploration = explore(both_get(table("Unique", unique=True)), **DECLARED)
    assert "another one had returned from something that is not steered" in str(exploration)
    with pytest.raises(ExplorationFailed, match="sql.insert"):
        explore(both_get(table("Loose", unique=False)), **DECLARED)
