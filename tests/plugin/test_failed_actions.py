"""Tests that pass although a failpoint could not do what it was configured to do."""

from __future__ import annotations

from tests.plugin.inner_files import SHARDS, SHOP, RunTests
from tests.plugin.terminal import (
    FAILED_ACTION,
    FAILED_ACTION_OF_THE_RUN,
    NEVER_HIT,
    failures,
    indented,
    located,
    source_of,
)

# The name of the failpoint, the body of the test, the details in its message, and the error in them.
FAILED_ACTIONS = {
    "raise": (
        "shop.charge",
        """
        failpoints.set("shop.charge", "raise(UnicodeDecodeError)")  # here
        try:
            shop.charge("o1")
        except Exception:
            pass
        """,
        """
        configured: raise(UnicodeDecodeError), at <here> (test_raise)
        counts:     hits 1, misses 0, triggers 1
        declared:   shop.py:4 (charge)
        error:      {error}
        """,
        "failpoint 'shop.charge' cannot make UnicodeDecodeError from a message alone (function takes exactly 5"
        " arguments (1 given)); configure Raise(UnicodeDecodeError(…)) in Python",
    ),
    "return": (
        "shop.charge",
        """
        failpoints.set("shop.charge", "1*return(many)->return(7)")  # here
        try:
            shop.charge("o1")
        except Exception:
            pass
        assert shop.charge("o1") == 7
        """,
        """
        configured: 1*return(many)->return(7), at <here> (test_return)
        counts:     hits 2, misses 0, triggers 2
        declared:   shop.py:4 (charge)
        error:      {error}
        """,
        "failpoint 'shop.charge' cannot return the text 'many' from charge: it is not an int; pass a convert="
        " to @failpoint, or configure Return(value) in Python",
    ),
    "async_pause": (
        "shop.parse",
        """
        failpoints.set("shop.parse", "pause")  # here
        try:
            shop.parse()
        except Exception:
            pass
        """,
        """
        configured: pause, at <here> (test_async_pause)
        counts:     hits 1, misses 0, triggers 0
        declared:   shop.py:10 (parse)
        error:      {error}
        """,
        "failpoint 'shop.parse' cannot pause in the sync parse on the thread of an event loop, which it would block:"
        " make the site async, call the function in a worker thread (anyio.to_thread.run_sync), or configure 'delay',"
        " which blocks on purpose",
    ),
    "call": (
        "shop.parse",
        """
        failpoints.set("shop.parse", package.Call(lambda hit: 3))  # here
        try:
            shop.parse()
        except Exception:
            pass
        failpoints.remove("shop.parse")
        """,
        """
        configured: Call(function=<function test_call.<locals>.<lambda> at 0x0>), at <here> (test_call)
        counts:     hits 1, misses 0, triggers 1
        declared:   shop.py:10 (parse)
        error:      {error}
        ended:      no longer configured
        """,
        "failpoint 'shop.parse' called test_call.<locals>.<lambda>, which must return an action or None; it returned 3",
    ),
    "predicate": (
        "shop.parse",
        """
        failpoints.set("shop.parse", "off", context={"order": broken})  # here
        with pytest.raises(ValueError, match="no 1"):
            shop.parse(order=1)
        """,
        """
        configured: off where order=broken, at <here> (test_predicate)
        counts:     hits 0, misses 0, triggers 0
        declared:   shop.py:10 (parse)
        error:      ValueError('no 1'), raised by a matcher or the site's context=
        """,
        "",
    ),
    "context": (
        "shop.visit",
        """
        failpoints.set("shop.visit", "off")  # here
        try:
            shop.visit(lambda: {}["order"])
        except Exception:
            pass
        """,
        """
        configured: off, at <here> (test_context)
        counts:     hits 0, misses 0, triggers 0
        declared:   shop.py:34 (visit)
        error:      KeyError('order'), raised by a matcher or the site's context=
        """,
        "",
    ),
    "while_others_wait": (
        "shop.charge",
        """
        stock = failpoints.set("shop.stock", "pause")
        failpoints.set("shop.charge", "return(many)")  # here
        started(shop.restock)
        stock.wait_paused_sync()
        try:
            shop.charge("o1")
        except Exception:
            pass
        """,
        """
        configured: return(many), at <here> (test_while_others_wait)
        counts:     hits 1, misses 0, triggers 1
        declared:   shop.py:4 (charge)
        elsewhere:  'worker-7' has waited N s at 'shop.stock'
        error:      {error}
        """,
        "failpoint 'shop.charge' cannot return the text 'many' from charge: it is not an int; pass a convert="
        " to @failpoint, or configure Return(value) in Python",
    ),
}

# The same tests with expect_hit=False.
EXCUSED = {
    f"{case}_excused": body.replace(")  # here", ", expect_hit=False)")
    for case, (_, body, _, _) in FAILED_ACTIONS.items()
    if case != "while_others_wait"
}


def test_action_that_fails(run_tests: RunTests) -> None:
    """A test fails if a failpoint could not do what it was configured to do, unless expect_hit=False is given."""
    source = source_of({case: body for case, (_, body, _, _) in FAILED_ACTIONS.items()} | EXCUSED)
    result = run_tests(source, "--tb=short", files={"shop.py": SHOP + SHARDS})
    expected: dict[str, str] = {}
    for case, (name, _, details, error) in FAILED_ACTIONS.items():
        text = located(
            FAILED_ACTION.format(name=name, details=indented(details).replace("{error}", error)), case, source
        )
        backends = ("[asyncio]", "[trio]") if case.startswith("async_") else ("",)
        expected.update({f"test_{case}{backend}": text for backend in backends})
    assert {name: failure.text for name, failure in failures(result).items()} == expected


FAILED_ACTIONS_OF_THE_RUN = """\
import pytest
import shop


def swallow(function, *arguments):
    try:
        function(*arguments)
    except Exception:
        pass


def test_plain():
    swallow(shop.charge, "o1")


def test_never_hits_another(failpoints):
    failpoints.set("shop.stock", "off")
    swallow(shop.locked)


@pytest.mark.xfail
def test_expected_to_fail():
    swallow(shop.charge, "o1")


def test_fails():
    swallow(shop.charge, "o1")
    assert not "done"


def test_replaces(failpoints):
    failpoints.set("shop.charge", "return(1)")
    assert shop.charge("o1") == 1


def test_does_not_visit():
    shop.parse()
"""


def test_action_for_the_whole_run_that_fails(run_tests: RunTests) -> None:
    """A test also fails if an action of `--failpoints` or `FAILPOINTS` could not be carried out in it."""
    result = run_tests(
        FAILED_ACTIONS_OF_THE_RUN,
        "-v",
        "--tb=short",
        "--failpoints=shop.charge=return(many)",
        files={"shop.py": SHOP},
        environment={"FAILPOINTS": "shop.lock=raise(TimeotError)"},
    )
    counts = "counts:     hits 1, misses 0, triggers 1"
    details = f"  configured: {{}}\n  {counts}\n  declared:   shop.py:{{}}\n  error:      {{}}".format
    charge = details(
        "return(many)",
        "4 (charge)",
        "failpoint 'shop.charge' cannot return the text 'many' from charge: it is not an int; pass a convert="
        " to @failpoint, or configure Return(value) in Python",
    )
    lock = details(
        "raise(TimeotError)",
        "18 (locked)",
        "failpoint 'shop.lock' cannot raise TimeotError, which is neither a builtin exception nor declared at the"
        " site (raises=nothing): declare it there, or pass Raise(…); did you mean 'TimeoutError'?",
    )
    stock = """\
  configured: off, at test_inner.py:17 (test_never_hits_another)
  counts:     hits 0, misses 0, triggers 0
  declared:   shop.py:23 (restock), shop.py:24 (restock), shop.py:25 (restock) and 1 more"""
    failed = {name: failure.text for name, failure in failures(result).items()}
    own = failed.pop("test_fails")
    failed_action = FAILED_ACTION_OF_THE_RUN.format(name="shop.charge", details=charge)
    assert failed == {
        "test_plain": failed_action,
        "test_expected_to_fail": failed_action,
        "test_never_hits_another": "\n\n".join(
            [
                NEVER_HIT.format(name="shop.stock", details=stock),
                FAILED_ACTION_OF_THE_RUN.format(name="shop.lock", details=lock),
            ]
        ),
    }
    assert own.splitlines()[-1] == "E   AssertionError: assert not 'done'"
    result.assert_outcomes(failed=4, passed=2)
