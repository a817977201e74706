"""The timeouts of waits and the limit of pauses."""

from __future__ import annotations

from textwrap import dedent

from tests.plugin.inner_files import GATEWAY, GATEWAY_IMPORTS, SHOP, VISITS, VISITS_IMPORTS, RunTests
from tests.plugin.terminal import (
    failures,
    located,
    source_of,
)

WAITS = """
def timed_out(function, *arguments, **options):
    with pytest.raises(FailpointTimeout) as caught:
        function(*arguments, **options)
    return str(caught.value).splitlines()[0]


async def async_timed_out(function, *arguments, **options):
    with pytest.raises(FailpointTimeout) as caught:
        await function(*arguments, **options)
    return str(caught.value).splitlines()[0]


def test_in_a_thread(failpoints):
    x = failpoints.set("x", "off", expect_hit=False)
    assert timed_out(x.wait_hit_sync) == "failpoint 'x' was not hit within 0.05 s"
    assert timed_out(x.wait_paused_sync, 2) == "fewer than 2 tasks were paused at failpoint 'x' within 0.05 s"
    assert timed_out(x.wait_hit_sync, timeout=0.01) == "failpoint 'x' was not hit within 0.01 s"


@pytest.mark.anyio
async def test_in_a_task(failpoints):
    x = failpoints.set("x", "off", expect_hit=False)
    assert await async_timed_out(x.wait_hit) == "failpoint 'x' was not hit within 0.05 s"
    assert await async_timed_out(x.wait_paused, 2) == "fewer than 2 tasks were paused at failpoint 'x' within 0.05 s"
    assert await async_timed_out(x.wait_hit, timeout=0.01) == "failpoint 'x' was not hit within 0.01 s"


@pytest.mark.failpoints({"x": "off"}, expect_hit=False)
def test_of_a_marker(failpoints):
    assert timed_out(failpoints.handle("x").wait_hit_sync) == "failpoint 'x' was not hit within 0.05 s"


def test_of_a_block(failpoints):
    with failpoints.paused("x") as held:
        assert timed_out(held.wait_paused_sync) == "no task was paused at failpoint 'x' within 0.05 s"
        Background(failpoint("x").hit)
        held.wait_paused_sync(timeout=60)


@pytest.mark.parametrize("longer", [60, math.inf])
def test_a_longer_one_in_a_thread(failpoints, longer):
    x, y = failpoints.set("x", "off"), failpoints.set("y", "off", expect_hit=False)
    waiting = Background(lambda: x.wait_hit_sync(timeout=longer))
    assert "within 0.05 s" in timed_out(y.wait_hit_sync)
    assert waiting.is_alive()
    failpoint("x").hit()
    assert waiting.finish() is None


@pytest.mark.anyio
@pytest.mark.parametrize("longer", [60, math.inf])
async def test_a_longer_one_in_a_task(failpoints, longer):
    x, y = failpoints.set("x", "off"), failpoints.set("y", "off", expect_hit=False)
    over = []

    async def wait():
        await x.wait_hit(timeout=longer)
        over.append("x")

    async with anyio.create_task_group() as tg:
        tg.start_soon(wait)
        assert "within 0.05 s" in await async_timed_out(y.wait_hit)
        assert over == []
        failpoint("x").hit()
    assert over == ["x"]
"""

BY_DEFAULT = """
@pytest.mark.trio
async def test_by_default(failpoints, autojump_clock):
    x = failpoints.set("x", "pause", expect_hit=False)
    with pytest.raises(FailpointTimeout, match="'x' was not hit within 10 s"):
        await x.wait_hit()
    with pytest.raises(FailpointTimeout, match="was not resumed within 30 s"):
        await failpoint("x")
"""


def test_timeout_of_waits(run_tests: RunTests) -> None:
    """A handle's wait times out after `failpoints_timeout` seconds, in tasks and threads, or after its `timeout=`."""
    result = run_tests(GATEWAY_IMPORTS + WAITS, ini="failpoints_timeout = 0.05", files={"shop.py": GATEWAY})
    result.assert_outcomes(passed=1 + 2 + 1 + 1 + 2 + 4)


def test_default_limits(run_tests: RunTests) -> None:
    """Without ini settings a wait times out after 10 seconds, and a pause after 30."""
    run_tests(GATEWAY_IMPORTS + BY_DEFAULT, files={"shop.py": GATEWAY}, plugins=["trio"]).assert_outcomes(passed=1)


# The body of the test, and its failure.
TIMED_OUT = {
    "async_hits": (
        """
        parse = failpoints.set("shop.parse", "off", context={"order": "o1"})
        shop.parse(order="o2")
        shop.parse(order="o1")
        await parse.wait_hit(2)  # here
        """,
        """
        <here>: in test_async_hits
            await parse.wait_hit(2)  # here
        E   failpoints.errors.FailpointTimeout: failpoint 'shop.parse' was not hit 2 times within 0.05 s
        E     configured: off where order='o1'
        E     counts:     hits 1, misses 1, triggers 1
        E     last miss:  order='o2' does not match 'o1'
        E     declared:   shop.py:10 (parse)
        """,
    ),
    "async_typo": (
        """
        async with failpoints.paused("shop.loc") as held:
            await held.wait_paused(timeout=0.01)  # here
        """,
        """
        <here>: in test_async_typo
            await held.wait_paused(timeout=0.01)  # here
        E   failpoints.errors.FailpointTimeout: no task was paused at failpoint 'shop.loc' within 0.01 s
        E     configured: pause
        E     counts:     hits 0, misses 0, triggers 0
        E     declared:   not in any imported module; did you mean 'shop.lock', declared at shop.py:18 (locked)?
        """,
    ),
    "waiting": (
        """
        parse = failpoints.set("shop.parse", "pause")
        stock = failpoints.set("shop.stock", "pause")
        started(shop.restock)
        started(shop.parse, order="o1")
        stock.wait_paused_sync(timeout=30)
        parse.wait_paused_sync(timeout=30)
        parse.wait_paused_sync(2)  # here
        """,
        """
        <here>: in test_waiting
            parse.wait_paused_sync(2)  # here
        E   failpoints.errors.FailpointTimeout: fewer than 2 tasks were paused at failpoint 'shop.parse' within 0.05 s
        E     configured: pause
        E     counts:     hits 1, misses 0, triggers 1
        E     waiting:    'worker-7' has waited N s, {'order': 'o1'}
        E     declared:   shop.py:10 (parse)
        E     elsewhere:  'worker-7' has waited N s at 'shop.stock'
        """,
    ),
    "at_once": (
        """
        failpoints.set("shop.charge:after", "off")
        failpoints.handle("shop.charge:after").wait_hit_sync(timeout=0)  # here
        """,
        """
        <here>: in test_at_once
            failpoints.handle("shop.charge:after").wait_hit_sync(timeout=0)  # here
        E   failpoints.errors.FailpointTimeout: failpoint 'shop.charge:after' was not hit within 0 s
        E     configured: off
        E     counts:     hits 0, misses 0, triggers 0
        E     declared:   shop.py:4 (charge)
        E                 ':after' is visited after the body has finished without an exception
        """,
    ),
}


def test_report_of_a_timeout(run_tests: RunTests) -> None:
    """A timeout is reported at the test's own line, with the details and without a frame of the library."""
    source = source_of({case: body for case, (body, _) in TIMED_OUT.items()})
    result = run_tests(source, "--tb=short", ini="failpoints_timeout = 0.05", files={"shop.py": SHOP})
    expected: dict[str, str] = {}
    for case, (_, text) in TIMED_OUT.items():
        for backend in ("[asyncio]", "[trio]") if case.startswith("async_") else ("",):
            expected[f"test_{case}{backend}"] = located(dedent(text).strip(), case, source)
    assert {name: failure.text for name, failure in failures(result).items()} == expected


LIMITED = """
WITHIN = "within 0.05 s (the setting failpoints_pause_limit)"


def timed_out(function, *arguments, **options):
    with pytest.raises(FailpointTimeout) as caught:
        function(*arguments, **options)
    return str(caught.value)


async def async_timed_out(function, *arguments, **options):
    with pytest.raises(FailpointTimeout) as caught:
        await function(*arguments, **options)
    return str(caught.value)


@failpoint("decorated")
async def decorated():
    raise AssertionError


@pytest.mark.anyio
async def test_task(failpoints):
    messages = []

    async def visitor():
        messages.append(await async_timed_out(visit, k="v"))

    async with anyio.create_task_group() as tg:
        x = failpoints.set("x", "pause")
        tg.start_soon(visitor, name="the visitor")
    (message,) = messages
    assert message == f"failpoint 'x': pause held the visitor, context {{'k': 'v'}}, and was not resumed {WITHIN}"
    assert (x.waiting, x.hits, x.triggers) == ((), 1, 1)


@pytest.mark.anyio
async def test_body_of_an_async_test(failpoints):
    failpoints.set("x", "pause")
    me = anyio.get_current_task().name
    assert await async_timed_out(visit) == f"failpoint 'x': pause held {me}, and was not resumed {WITHIN}"


@pytest.mark.anyio
async def test_decorated_function(failpoints):
    failpoints.set("decorated", "pause")
    assert "within 0.05 s" in await async_timed_out(decorated)


def test_body_of_a_sync_test(failpoints):
    failpoints.set("x", "pause")
    message = timed_out(visit_sync, k="v")
    assert message == f"failpoint 'x': pause held MainThread, context {{'k': 'v'}}, and was not resumed {WITHIN}"


def test_thread(failpoints):
    failpoints.set("x", "pause")
    error = Background(visit_sync).finish()
    assert isinstance(error, FailpointTimeout)
    assert str(error) == f"failpoint 'x': pause held in the background, and was not resumed {WITHIN}"


def test_loop_in_a_thread(failpoints):
    failpoints.set("x", "pause")
    threads = [Background(lambda b=backend: anyio.run(visit, backend=b)) for backend in ("asyncio", "trio")]
    assert [type(thread.finish()) for thread in threads] == [FailpointTimeout] * 2


def test_block(failpoints):
    with failpoints.paused("x"):
        assert "within 0.05 s" in timed_out(visit_sync)


@pytest.mark.failpoints({"x": "pause"})
def test_marker():
    assert "within 0.05 s" in timed_out(visit_sync)


@pytest.mark.parametrize("name", ["by.environment", "by.option"])
@pytest.mark.parametrize("time", [1, 2])
def test_run(name, time):
    assert "within 0.05 s" in timed_out(visit_sync, name)


@pytest.mark.parametrize("name", ["by.environment", "by.option"])
def test_run_with_the_fixture(failpoints, name):
    assert "within 0.05 s" in timed_out(visit_sync, name)


def test_called(failpoints):
    failpoints.set("x", Call(lambda hit: Pause()))
    assert "within 0.05 s" in timed_out(visit_sync)


@pytest.mark.anyio
@pytest.mark.parametrize("own", ["pause(20ms)", "pause(150)"])
async def test_own_limit(failpoints, own):
    failpoints.set("x", own)
    milliseconds, seconds = (20, 0.02) if "20ms" in own else (150, 0.15)
    assert await async_timed_out(visit, k="v") == (
        f"failpoint 'x': pause({milliseconds}) held {anyio.get_current_task().name},"
        f" context {{'k': 'v'}}, and was not resumed within {seconds} s"
    )


def test_own_limit_in_a_thread(failpoints):
    failpoints.set("x", "pause(20ms)")
    message = timed_out(visit_sync)
    assert message == "failpoint 'x': pause(20) held MainThread, and was not resumed within 0.02 s"


@pytest.mark.trio
async def test_no_limit_of_a_sleep(failpoints, autojump_clock):
    failpoints.set("x", "sleep(60m)")
    before = anyio.current_time()
    assert await visit() == Continue()
    assert anyio.current_time() - before == pytest.approx(3600)


def test_no_limit_of_a_sleep_in_a_thread(failpoints):
    failpoints.set("x", "sleep(150)")
    assert visit_sync() == Continue()
"""


def test_pause_limit(run_tests: RunTests) -> None:
    """A pause raises `FailpointTimeout` in the paused code after `failpoints_pause_limit` seconds. A sleep does not."""
    result = run_tests(
        VISITS_IMPORTS + LIMITED,
        "--failpoints=by.option=pause",
        ini="failpoints_pause_limit = 0.05\nfailpoints_strict = false",
        files={"visits.py": VISITS},
        plugins=["anyio", "trio"],
        environment={"FAILPOINTS": "by.environment=pause"},
    )
    result.assert_outcomes(passed=6 + 4 + 1 + 4 + 2 + 1 + 4 + 1 + 1 + 1)


SWALLOWED = """
import pytest
from failpoints import failpoint


@failpoint("reserve")
def reserve():
    return "reserved"


def buy():
    try:
        return reserve()
    except TimeoutError:  # FailpointTimeout is one, too
        return "later"


def test_limit_of_the_setting(failpoints):
    failpoints.set("reserve", "1*pause")
    assert buy() == "later"


def test_limit_of_its_own(failpoints):
    failpoints.set("reserve", "1*pause(10)")
    assert buy() == "later"
"""


def test_a_program_that_swallows_the_limit(run_tests: RunTests) -> None:
    """A test fails in which nothing has resumed a pause, even if the program takes the limit for its own time-out."""
    result = run_tests(SWALLOWED, ini="failpoints_pause_limit = 0.05")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "failpoint 'reserve' was not resumed: the test passed although a pause ran into its limit.",
            "*pause held MainThread, and was not resumed within 0.05 s (the setting failpoints_pause_limit)",
            "Resume it, or give the pause a limit of its own, such as pause(50).",
        ]
    )
