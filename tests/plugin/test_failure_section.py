"""The section on failpoints in the report of a failing test."""

from __future__ import annotations

import re
from textwrap import dedent
from xml.etree import ElementTree

import pytest

from tests.plugin.inner_files import SHOP, SLOW, RunTests
from tests.plugin.terminal import (
    failures,
    located,
    source_of,
)

# The body of the test, and the section in its report.
SECTIONS: dict[str, tuple[str, str | None]] = {
    "counts": (
        """
        failpoints.set("shop.parse", "1*return(1)->off", context={"order": "o1"})  # here
        failpoints.set("shop.stock", "2*off->print(1)", expect_hit=False)  # there
        shop.parse(order="o1")
        shop.parse(order="o2")
        shop.restock()
        assert not "done"
        """,
        """
        shop.parse
          configured: 1*return(1)->off where order='o1', at <here> (test_counts)
          counts:     hits 1, misses 1, triggers 1
          last miss:  order='o2' does not match 'o1'
          declared:   shop.py:10 (parse)
        shop.stock
          configured: 2*off->print(1), at <there> (test_counts)
          counts:     hits 4, misses 0, triggers 4
          declared:   {places}
        """.replace("{places}", "shop.py:23 (restock), shop.py:24 (restock), shop.py:25 (restock) and 1 more"),
    ),
    "waits": (
        """
        parse = failpoints.set("shop.parse", "pause")  # here
        started(shop.parse, order="o1")
        parse.wait_paused_sync()
        assert not "done"
        """,
        """
        shop.parse
          configured: pause, at <here> (test_waits)
          counts:     hits 1, misses 0, triggers 1
          waiting:    'worker-7' has waited N s, {'order': 'o1'}
          declared:   shop.py:10 (parse)
        """,
    ),
    "waited": (
        """
        with failpoints.paused("shop.parse") as parse:  # here
            started(shop.parse, order="o1")
            parse.wait_paused_sync()
            assert not "done"
        """,
        """
        shop.parse
          configured: pause, at <here> (test_waited)
          counts:     hits 1, misses 0, triggers 1
          declared:   shop.py:10 (parse)
          ended:      no longer configured
                      'worker-7' was waiting there until then
        """,
    ),
    "async_waited": (
        """
        async with anyio.create_task_group() as tasks, failpoints.paused("shop.slow") as slow:  # here
            tasks.start_soon(shop.slow, name="task-7")
            await slow.wait_paused()
            assert not "done"
        """,
        """
        shop.slow
          configured: pause, at <here> (test_async_waited)
          counts:     hits 1, misses 0, triggers 1
          declared:   shop.py:30 (slow)
          ended:      no longer configured
                      'task-7' was waiting there until then
        """,
    ),
    "failed_action": (
        """
        failpoints.set("shop.charge", "return(many)")  # here
        with pytest.raises(package.FailpointUsageError):
            shop.charge("o1")
        assert not "done"
        """,
        """
        shop.charge
          configured: return(many), at <here> (test_failed_action)
          counts:     hits 1, misses 0, triggers 1
          declared:   shop.py:4 (charge)
          error:      {error}
        """.replace(
            "{error}",
            "failpoint 'shop.charge' cannot return the text 'many' from charge: it is not an int; pass a convert="
            " to @failpoint, or configure Return(value) in Python",
        ),
    ),
    "chances": (
        """
        failpoints.set("shop.charge", "25%off")  # here
        assert not "done"
        """,
        """
        shop.charge
          configured: 25%off, at <here> (test_chances)
          counts:     hits 0, misses 0, triggers 0
          declared:   shop.py:4 (charge)
        The random draws depend on the run's seed: --failpoints-seed=N repeats them.
        """,
    ),
    "no_chances": (
        """
        failpoints.set("shop.charge", "0%off->100%return(1)")  # here
        assert not "done"
        """,
        """
        shop.charge
          configured: 0%off->return(1), at <here> (test_no_chances)
          counts:     hits 0, misses 0, triggers 0
          declared:   shop.py:4 (charge)
        """,
    ),
    "removed_before_the_failure": (
        """
        with package.configured("shop.charge", "return(7)"):
            assert shop.charge("o1") == 42
        """,
        None,
    ),
    "nothing_set": ('assert not "done"', None),
}


def test_section(run_tests: RunTests) -> None:
    """The report of a failing test has a section with its failpoints, and with what waits or waited there."""
    source = source_of({case: body for case, (body, _) in SECTIONS.items()})
    result = run_tests(source, files={"shop.py": SHOP + SLOW})
    expected: dict[str, str | None] = {}
    for case, (_, section) in SECTIONS.items():
        for backend in ("[asyncio]", "[trio]") if case.startswith("async_") else ("",):
            text = located(dedent(section).strip(), case, source) if section is not None else None
            expected[f"test_{case}{backend}"] = text
    assert {name: failure.section for name, failure in failures(result).items()} == expected


PHASES = """\
import asyncio
import sys
import pytest
import shop

@pytest.fixture
def fails_in_setup(failpoints):
    failpoints.set("shop.charge", "off")
    raise OSError("no disk")

@pytest.fixture
def fails_in_teardown(failpoints):
    parse = failpoints.set("shop.parse", "off")
    yield
    shop.parse(order="o1")
    raise OSError("no disk")

@pytest.mark.failpoints({"shop.charge": "off"})
def test_setup(fails_in_setup):
    pass

def test_teardown(failpoints, fails_in_teardown):
    shop.parse(order="o2")

@pytest.mark.failpoints({"shop.charge": "return(1)"})
def test_call():
    print("printed")
    print("and to stderr", file=sys.stderr)
    assert shop.charge("o1") == 42

@pytest.mark.asyncio
async def test_still_paused(failpoints):
    slow = failpoints.set("shop.slow", "pause")
    task = asyncio.create_task(shop.slow(), name="task-7")
    await slow.wait_paused()
    assert not "done"

def test_plain():
    assert not "done"

def test_passes(failpoints):
    failpoints.set("shop.charge", "return(1)")
    shop.charge("o1")

@pytest.mark.xfail
def test_fails_as_expected(failpoints):
    failpoints.set("shop.charge", "return(1)")
    assert shop.charge("o1") == 42

def test_skips(failpoints):
    failpoints.set("shop.charge", "return(1)")
    pytest.skip("later")
"""

PHASE_SECTIONS = {
    "setup of test_setup": """\
shop.charge
  configured: off, at test_inner.py:18 (marker of test_setup)
  counts:     hits 0, misses 0, triggers 0
  declared:   shop.py:4 (charge)
  ended:      configured again since
shop.charge
  configured: off, at test_inner.py:8 (fails_in_setup)
  counts:     hits 0, misses 0, triggers 0
  declared:   shop.py:4 (charge)""",
    "teardown of test_teardown": """\
shop.parse
  configured: off, at test_inner.py:13 (fails_in_teardown)
  counts:     hits 2, misses 0, triggers 2
  declared:   shop.py:10 (parse)
  ended:      no longer configured""",
    "test_call": """\
shop.charge
  configured: return(1), at test_inner.py:25 (marker of test_call)
  counts:     hits 1, misses 0, triggers 1
  declared:   shop.py:4 (charge)""",
    "test_still_paused": """\
shop.slow
  configured: pause, at test_inner.py:33 (test_still_paused)
  counts:     hits 1, misses 0, triggers 1
  waiting:    'task-7' has waited N s
  declared:   shop.py:30 (slow)""",
    "test_plain": None,
}


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["one process", "two workers"])
def test_section_in_each_phase(run_tests: RunTests, workers: tuple[str, ...]) -> None:
    """Failures in setup, call and teardown have the section, with and without pytest-xdist. Other tests do not."""
    result = run_tests(PHASES, *workers, "-rA", files={"shop.py": SHOP + SLOW}, plugins=["asyncio"])
    sections = {name: failure.section for name, failure in failures(result).items()}
    assert {name: sections.get(name) for name in PHASE_SECTIONS} == PHASE_SECTIONS
    assert [line for line in result.outlines if re.match("-+ failpoints -+", line)] == [f"{' failpoints ':-^80}"] * 4
    result.assert_outcomes(failed=3, errors=2, passed=2, xfailed=1, skipped=1)


def test_no_traceback_and_junit_xml(run_tests: RunTests, pytester: pytest.Pytester) -> None:
    """The section does not disturb `--tb=no` and the JUnit XML: they show the failures as without failpoints."""
    arguments = ("--tb=no", "-o", "junit_logging=all", "--junit-xml=junit.xml")
    source = source_of({"typo": 'failpoints.set("shop.chagre", "off")'}) + PHASES
    result = run_tests(source, *arguments, files={"shop.py": SHOP + SLOW}, plugins=["asyncio"])
    result.assert_outcomes(failed=4, errors=2, passed=2, xfailed=1, skipped=1)
    assert "declared:" not in result.stdout.str()
    cases = ElementTree.parse(pytester.path / "junit.xml").getroot().iter("testcase")
    problems = {
        str(case.get("name")): [part.tag for part in case if part.tag in ("failure", "error")] for case in cases
    }
    assert problems["test_typo"] == problems["test_call"] == ["failure"]
    assert problems["test_setup"] == problems["test_teardown"] == ["error"]


FOR_ALL = """\
import shop

def test_fails(failpoints):
    failpoints.set("shop.lock", "off")
    shop.charge("o1")
    shop.parse()
    assert not "done"

def test_fails_alone():
    shop.parse()
    assert not "done"
"""


def test_section_has_the_configuration_of_the_run(run_tests: RunTests) -> None:
    """The section of every failing test has what `--failpoints` and `FAILPOINTS` configure, with this test's counts."""
    result = run_tests(
        FOR_ALL,
        "--failpoints=shop.parse=off",
        files={"shop.py": SHOP},
        environment={"FAILPOINTS": "shop.charge=50%off"},
    )
    seed = "The random draws depend on the run's seed: --failpoints-seed=N repeats them."
    details = "{0}\n  configured: {1}\n  counts:     hits {2}, misses 0, triggers {3}\n  declared:   shop.py:{4}".format
    parse = details("shop.parse", "off", 1, 1, "10 (parse)")
    lock = details("shop.lock", "off, at test_inner.py:4 (test_fails)", 0, 0, "18 (locked)")
    sections = {name: failure.section for name, failure in failures(result).items()}
    assert sections["test_fails"] in [
        "\n".join([lock, details("shop.charge", "50%off", 1, triggers, "4 (charge)"), parse, seed])
        for triggers in (0, 1)  # by chance
    ]
    assert sections["test_fails_alone"] == "\n".join(
        [details("shop.charge", "50%off", 0, 0, "4 (charge)"), parse, seed]
    )
