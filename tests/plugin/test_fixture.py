"""The fixture `failpoints` in plain tests and in every framework that runs async ones."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from tests.plugin.inner_files import GATEWAY, GATEWAY_IMPORTS, RunTests


class Framework(NamedTuple):
    """A plugin that runs async tests, its lines in the test file and the ini file, and how often it runs each test."""

    plugin: str
    head: str
    ini: str = ""
    runs: int = 1


FRAMEWORKS = {
    "anyio": Framework("anyio", "from pytest import fixture\npytestmark = pytest.mark.anyio", runs=2),
    "anyio, auto": Framework("anyio", "from pytest import fixture", "anyio_mode = auto", runs=2),
    "pytest-asyncio": Framework("asyncio", "from pytest_asyncio import fixture\npytestmark = pytest.mark.asyncio"),
    "pytest-asyncio, auto": Framework("asyncio", "from pytest import fixture", "asyncio_mode = auto"),
    "pytest-trio": Framework("trio", "from pytest import fixture\npytestmark = pytest.mark.trio"),
    "pytest-trio, trio_mode": Framework("trio", "from pytest import fixture", "trio_mode = true"),
}

EXAMPLES = """
cache, store = {}, {"price": "old"}


async def reader():
    value = store["price"]
    await failpoint("cache.fill")
    cache["price"] = value


async def writer():
    assert cache == {}, "the reader is paused"
    store["price"] = "new"


async def test_lost_reply(failpoints):
    reply = failpoints.set("gateway.charge:after", "raise(TimeoutError)")
    assert await pay("order-1") is None
    assert reply.triggers == 1


async def test_race(failpoints):
    async with anyio.create_task_group() as tg, failpoints.paused("cache.fill") as fill:
        tg.start_soon(reader)
        await fill.wait_paused()        # no sleep, no polling
        await writer()
        fill.resume()                   # and on leaving: removed, everyone woken


async def test_the_race_was_lost():
    assert (cache.pop("price"), store["price"]) == ("old", "new")
    store["price"] = "old"
"""

ASYNC = """
async def test_set(failpoints):
    charge_ = failpoints.set("gateway.charge", "return(7)", context={"order": "a.*"})
    assert (await charge("a1"), await charge("b1")) == (7, PRICE)
    assert (charge_.hits, charge_.misses, charge_.triggers, charge_.waiting) == (1, 1, 1, ())
    assert failpoints.status("gateway.charge").configurations == (charge_.status,)
    failpoints.remove("gateway.charge")
    assert (await charge("a1"), failpoints.statuses()) == (PRICE, [])


async def test_paused(failpoints):
    async with anyio.create_task_group() as tg:
        with failpoints.paused("gateway.charge", context={"order": "1"}) as held:
            tg.start_soon(charge, "1")
            tg.start_soon(charge, "1")
            assert await charge("2") == PRICE
            await held.wait_paused(2)
            assert failpoints.resume("gateway.charge") == 2
            tg.start_soon(charge, "1")
            await held.wait_hit(3)
            await held.wait_paused()
        assert failpoints.statuses() == []


class TestClass:
    async def test_method(self, failpoints):
        failpoints.set("gateway.charge", "raise(TimeoutError)")
        assert await pay("1") is None

    @pytest.mark.failpoints({"gateway.charge": "return(7)"})
    async def test_marked_method(self):
        assert await charge("1") == 7


@pytest.mark.failpoints({"gateway.charge": "return(7)"}, context={"order": "1"})
async def test_marker(failpoints):
    assert (await charge("1"), await charge("2")) == (7, PRICE)
    assert (failpoints.handle("gateway.charge").hits, failpoints.handle("gateway.charge").misses) == (1, 1)


@pytest.mark.parametrize("value", [7, 8])
async def test_parametrized(failpoints, value):
    failpoints.set("gateway.charge", f"return({value})")
    assert await charge("1") == value


async def test_nothing_is_left():
    assert await charge("1") == PRICE


@fixture
async def bill():
    return await charge("1")


@fixture
async def free_of_charge(failpoints):
    return failpoints.set("gateway.charge", "return(0)")


@pytest.mark.failpoints({"gateway.charge": "return(7)"})
async def test_marker_acts_in_an_async_fixture(bill):
    assert bill == 7


async def test_async_fixture_that_sets(free_of_charge):
    assert (await charge("1"), free_of_charge.hits) == (0, 1)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
async def test_task_on_another_loop(failpoints, backend):
    async with failpoints.paused("gateway.charge") as held:
        other = Background(lambda: anyio.run(charge, "1", backend=backend))
        await held.wait_paused()
        held.resume()
        assert other.finish() == PRICE


async def test_threads(failpoints):
    async with anyio.create_task_group() as tg, failpoints.paused("gateway.refund") as held:
        other = Background(refund)
        tg.start_soon(anyio.to_thread.run_sync, refund)
        await held.wait_paused(2)
        assert held.resume() == 2
        assert other.finish() == PRICE


async def test_sync_wait_in_a_worker_thread(failpoints):
    async with anyio.create_task_group() as tg, failpoints.paused("gateway.charge") as held:
        tg.start_soon(charge, "1")
        await anyio.to_thread.run_sync(held.wait_paused_sync)
        held.resume()
"""


@pytest.mark.parametrize("framework", FRAMEWORKS.values(), ids=FRAMEWORKS)
def test_async_frameworks(run_tests: RunTests, framework: Framework) -> None:
    """The fixture works in async functions, methods and fixtures, and acts on other loops and threads."""
    tests = GATEWAY_IMPORTS + framework.head + EXAMPLES + ASYNC
    result = run_tests(tests, ini=framework.ini, files={"shop.py": GATEWAY}, plugins=[framework.plugin])
    result.assert_outcomes(passed=17 * framework.runs)


ANYIO_SERVER = """
pytestmark = pytest.mark.anyio


@pytest.fixture(scope="SCOPE", params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


@pytest.fixture(scope="SCOPE")
async def server(anyio_backend):
    server = Server()
    async with anyio.create_task_group() as tg:
        tg.start_soon(server.serve)
        yield server
        tg.cancel_scope.cancel()
"""

ASYNCIO_SERVER = """
import pytest_asyncio

pytestmark = pytest.mark.asyncio(loop_scope="SCOPE")


@pytest_asyncio.fixture(scope="SCOPE", loop_scope="SCOPE")
async def server():
    server = Server()
    task = asyncio.create_task(server.serve())
    yield server
    task.cancel()
"""

TRIO_SERVER = """
pytestmark = pytest.mark.trio


@pytest.fixture
async def server(nursery):
    server = Server()
    nursery.start_soon(server.serve)
    return server
"""

SERVED = """
async def test_held(server, failpoints):
    async with anyio.create_task_group() as tg, failpoints.paused("gateway.charge") as held:
        tg.start_soon(server.ask)
        await held.wait_paused()
        assert held.status.waiting[0].context == {"order": "served"}
        held.resume()


async def test_set(server, failpoints):
    failpoints.set("gateway.charge", "return(7)")
    assert await server.ask() == 7


@pytest.mark.failpoints({"gateway.charge": "return(8)"})
async def test_marked(server):
    assert await server.ask() == 8


async def test_nothing_is_left(server):
    assert await server.ask() == PRICE


async def test_ends_while_the_server_is_held(server, failpoints):
    charge = failpoints.set("gateway.charge", "pause")
    server.left = server.put()
    await charge.wait_paused()
"""

WOKEN = """
async def test_the_server_goes_on_in_the_next_test(server):
    assert await server.left.get() == PRICE
"""


SERVERS = {
    # Two runs, because anyio's loop, which lives as long as the session, cannot run beside another framework's.
    "anyio": (
        ["anyio"],
        {
            "test_module.py": ANYIO_SERVER.replace("SCOPE", "module") + SERVED + WOKEN,
            "test_session.py": ANYIO_SERVER.replace("SCOPE", "session") + SERVED + WOKEN,
        },
        2 * (6 + 6),
    ),
    "pytest-asyncio and pytest-trio": (
        ["asyncio", "trio"],
        {
            "test_module.py": ASYNCIO_SERVER.replace("SCOPE", "module") + SERVED + WOKEN,
            "test_session.py": ASYNCIO_SERVER.replace("SCOPE", "session") + SERVED + WOKEN,
            "test_trio.py": TRIO_SERVER + SERVED,
        },
        6 + 6 + 5,
    ),
}


@pytest.mark.parametrize("frameworks", SERVERS)
def test_servers_that_outlive_tests(run_tests: RunTests, frameworks: str) -> None:
    """What a test sets acts on a server that a wider fixture started. The end of the test wakes a paused server."""
    plugins, files, passed = SERVERS[frameworks]
    written = {"shop.py": GATEWAY} | {name: GATEWAY_IMPORTS + text for name, text in files.items()}
    result = run_tests("", files=written, plugins=plugins)
    result.assert_outcomes(passed=passed)


PLAIN = """
def test_set(failpoints):
    refunds = failpoints.set("gateway.refund", "1*return(7)->off")
    assert isinstance(refunds, Handle)
    assert (refund(), refund(), refunds.hits, refunds.triggers) == (7, PRICE, 2, 2)
    assert repr(failpoints) == "<the failpoints of this test>"


def test_set_with_matchers(failpoints):
    x = failpoints.set("x", "return", context={"shard": 3})
    assert [failpoint("x", context={"shard": n}).hit() for n in (3, 4)] == [Return(), Continue()]
    assert (x.hits, x.misses) == (1, 1)


def test_set_takes_actions_in_python(failpoints):
    failpoints.set("x", [Term(Off(), times=1), Return({"k": 1})])
    assert [failpoint("x").hit() for _ in range(2)] == [Continue(), Return({"k": 1})]


@pytest.mark.parametrize("arguments", [("a b", "off"), ("x", "of"), ("x", "off", {"k": "("})], ids=str)
def test_set_raises_what_configure_raises(failpoints, arguments):
    failpoints.set("x", "return")
    with pytest.raises(ValueError):
        failpoints.set(*arguments[:2], context=dict(*arguments[2:]))
    assert failpoint("x").hit() == Return()


def test_set_without_expecting_a_hit(failpoints):
    failpoints.set("x", "off", expect_hit=False)


@pytest.mark.parametrize("expect_hit", ["no", None, 0])
def test_expect_hit_is_a_bool(failpoints, expect_hit):
    with pytest.raises(FailpointUsageError) as caught:
        failpoints.set("x", "return", expect_hit=expect_hit)
    assert str(caught.value) == f"expect_hit= must be True or False; got {expect_hit!r}"
    assert failpoints.statuses() == []


KEPT = []


def test_that_keeps_the_fixture(failpoints):
    KEPT.extend([failpoints, failpoints.paused("x")])


@pytest.mark.parametrize("set_late", [
    lambda kept, paused: kept.set("x", "off"),
    lambda kept, paused: paused.__enter__(),
], ids=["set", "paused"])
def test_a_kept_fixture_sets_nothing(failpoints, set_late):
    with pytest.raises(FailpointUsageError) as caught:
        set_late(*KEPT)
    assert str(caught.value) == "cannot set failpoint 'x': the test that has this fixture has ended"
    assert failpoints.statuses() == []


def test_paused(failpoints):
    block = failpoints.paused("gateway.refund")
    assert failpoints.statuses() == []
    with block as held:
        threads = [Background(refund), Background(refund)]
        held.wait_paused_sync(2)
        held.wait_hit_sync(2)
        assert [waiting.name for waiting in held.waiting] == ["in the background"] * 2
        assert held.resume() == 2
        assert [thread.finish() for thread in threads] == [PRICE, PRICE]
        last = Background(refund)
        held.wait_paused_sync()
    assert (last.finish(), failpoints.statuses()) == (PRICE, [])


def test_paused_with_matchers(failpoints):
    with failpoints.paused("x", context={"k": "v"}) as held:
        assert failpoint("x").hit() == Continue()
        thread = Background(failpoint("x", context={"k": "v"}).hit)
        held.wait_paused_sync()
        assert (held.hits, held.misses) == (1, 1)


@pytest.mark.parametrize(
    "wake",
    [
        lambda failpoints: failpoints.resume("gateway.refund"),
        lambda failpoints: failpoints.remove("gateway.refund"),
        lambda failpoints: failpoints.reset(),
        lambda failpoints: failpoints.set("gateway.refund", "off", expect_hit=False),
    ],
    ids=["resume", "remove", "reset", "set"],
)
def test_what_wakes(failpoints, wake):
    held = failpoints.set("gateway.refund", "pause")
    thread = Background(refund)
    held.wait_paused_sync()
    wake(failpoints)
    assert thread.finish() == PRICE


def test_remove_and_reset(failpoints):
    for name in "xyz":
        failpoints.set(name, "off", expect_hit=False)
    assert [status.name for status in failpoints.statuses()] == ["x", "y", "z"]
    failpoints.remove("x")
    assert (failpoints.status("x").actions, failpoints.status("y").actions) == ((), (Term(Off()),))
    failpoints.reset()
    assert failpoints.statuses() == []


def test_seed(failpoints):
    def draws():
        failpoints.set("x", "50%return")
        return [failpoint("x").hit() for _ in range(64)]

    failpoints.seed(1)
    first = draws()
    assert (draws() == first, Return() in first, Continue() in first) == (True, True, True)
    failpoints.seed(2)
    assert draws() != first
    failpoints.seed(None)
    assert draws() != draws()


def test_handle(failpoints):
    failpoints.set("x", "off")
    failpoint("x").hit()
    assert failpoints.handle("x").hits == 1
    with pytest.raises(FailpointUsageError, match="'y' is not configured, so it has no handle: set it first"):
        failpoints.handle("y")
    with pytest.raises(FailpointNameError):
        failpoints.handle("a b")


def test_acts_on_the_whole_process(failpoints):
    x = failpoints.set("x", "return")
    assert status("x").configurations == (x.status,)
    assert Background(failpoint("x").hit).finish() == Return()


class TestClass:
    def setup_method(self):
        self.at_setup = refund()

    def test_set(self, failpoints):
        failpoints.set("gateway.refund", "return(7)")
        assert (refund(), self.at_setup) == (7, PRICE)

    @pytest.mark.failpoints({"gateway.refund": "return(7)"})
    def test_marker_acts_in_setup_method(self):
        assert self.at_setup == 7


def test_nothing_is_left():
    assert (statuses(), refund()) == ([], PRICE)
"""

UNITTEST = """
@pytest.mark.usefixtures("failpoints")
class UsesFixture(unittest.TestCase):
    def test_1_configures(self):
        configure("gateway.refund", "return(7)")
        self.assertEqual(refund(), 7)

    def test_2_nothing_is_left(self):
        self.assertEqual(refund(), PRICE)


class HasFixture(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def _failpoints(self, failpoints):
        self.failpoints = failpoints

    def test_1_sets(self):
        self.assertEqual(self.failpoints.set("gateway.refund", "return(7)").hits, 0)
        self.assertEqual(refund(), 7)

    def test_2_nothing_is_left(self):
        self.assertEqual(refund(), PRICE)


@pytest.mark.failpoints({"gateway.refund": "return(7)"}, expect_hit=False)
class Marked(unittest.TestCase):
    def setUp(self):
        self.at_setup = refund()

    def test_class_marker_acts_in_setUp(self):
        self.assertEqual((self.at_setup, refund()), (7, 7))

    @pytest.mark.failpoints({"gateway.refund": "return(8)"})
    def test_method_marker_is_closer(self):
        self.assertEqual((self.at_setup, refund()), (8, 8))


class Isolated(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.at_setup = await charge("1")

    @pytest.mark.failpoints({"gateway.charge": "return(7)"})
    async def test_1_marker(self):
        self.assertEqual((self.at_setup, await charge("1")), (7, 7))

    async def test_2_nothing_is_left(self):
        self.assertEqual((self.at_setup, await charge("1")), (PRICE, PRICE))
"""


def test_plain_tests(run_tests: RunTests) -> None:
    """Every method of the fixture works in functions, classes and test cases of unittest, sync and async."""
    files = {"shop.py": GATEWAY, "test_unittest.py": GATEWAY_IMPORTS + UNITTEST}
    run_tests(GATEWAY_IMPORTS + PLAIN, files=files).assert_outcomes(passed=26 + 8)
