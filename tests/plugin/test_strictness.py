"""A failpoint that did not do what its test says, and what is known of it: in failures, waits and reports."""

from __future__ import annotations

import re
from collections.abc import Callable
from textwrap import dedent, indent
from typing import NamedTuple, TypeAlias
from xml.etree import ElementTree

import pytest

RunTests: TypeAlias = Callable[..., pytest.RunResult]

SHOP = """\
from failpoints import failpoint, failpoint_scope


@failpoint("shop.charge")
def charge(order) -> int:
    return 42


def parse(**context):
    return failpoint("shop.parse", context=context).hit()


def backorder():
    failpoint("shop.backorder").hit()


def locked():
    with failpoint_scope("shop.lock"):
        pass


def restock():
    failpoint("shop.stock").hit()
    failpoint("shop.stock").hit()
    failpoint("shop.stock").hit()
    failpoint("shop.stock").hit()
"""

SHARDS = """\


def sharded(n):
    failpoint(f"shard-{n}").hit()


def visit(context):
    failpoint("shop.visit", context=context).hit()
"""

SLOW = """\


async def slow():
    await failpoint("shop.slow")
"""

HEAD = """\
import re
import threading

import anyio
import pytest

import failpoints as package
import shop


def big(n):
    return n > 10


def broken(n):
    raise ValueError(f"no {n}")


class Lines:
    def __repr__(self):
        return "Lines(1,\\n      2)"


class Unshown:
    def __repr__(self):
        raise RuntimeError("closed")


class Incomparable:
    def __eq__(self, other):
        raise ValueError("ambiguous")


class Nameless:
    def __getattr__(self, name):
        raise RuntimeError("closed") if name == "__qualname__" else AttributeError(name)

    def __repr__(self):
        return "Nameless()"


class Key(str):
    def lower(self):
        raise RuntimeError("closed")


answers = iter([False])


def once(n):
    return next(answers)


def started(function, **context):
    threading.Thread(target=function, kwargs=context, name="worker-7", daemon=True).start()


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param

"""

NEVER_HIT = """\
failpoint {name!r} was set and never hit: the test passed without exercising it.
{told}
Check the name, the actions and the matchers. If this is intentional, pass expect_hit=False, or set
failpoints_strict = false in the ini file for all tests."""

REFUSED = NEVER_HIT.replace("was set and never hit", "could not do what it was configured to do")
REFUSED_IN_RUN = f"{REFUSED.partition('Check')[0]}It is configured for the whole run."


class Failure(NamedTuple):
    """What the terminal shows of a test: the failure itself, and the section on its failpoints."""

    text: str
    section: str | None = None


def failures(result: pytest.RunResult) -> dict[str, Failure]:
    """What the terminal shows of each failure and error: by `test_name`, or `setup of test_name`."""
    shown: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in result.outlines:
        heading = re.fullmatch(r"_+ (?:ERROR at )?(\w.*?) _+", line)
        if heading or re.match("===", line):
            lines = shown.setdefault(heading[1], []) if heading else []
        elif not re.fullmatch(r" +\^+", line):  # under a part of a line, by which not every Python marks the same
            lines.append(re.sub(r"^-+ failpoints -+$", "<section>", line))
    told = {name: "\n".join(map(normal, lines)).strip("\n").split("\n<section>\n") for name, lines in shown.items()}
    return {name: Failure(*parts) for name, parts in told.items()}


def normal(line: str) -> str:
    """Without what differs from run to run."""
    line = re.sub(r"0x[0-9a-f]+", "0x0", line)
    line = re.sub(r"has waited \d+\.\d s", "has waited N s", line)
    return re.sub(r"--failpoints-seed=\d+ ", "--failpoints-seed=N ", line)


def outcomes(result: pytest.RunResult) -> dict[str, str]:
    """What became of each test, of a run with `-v`: `{"test_name": "PASSED"}`."""
    return dict(re.findall(r"^test_inner\.py::(\S+) ([A-Z]+)", result.stdout.str(), re.MULTILINE))


def source_of(bodies: dict[str, str]) -> str:
    """A file with a test for each name; a name that begins with `async_` is an async one, on both backends."""
    tests = [HEAD]
    for name, body in bodies.items():
        mark, function = ("@pytest.mark.anyio\n", "async def") if name.startswith("async_") else ("", "def")
        tests.append(f"{mark}{function} test_{name}(failpoints):\n{indent(dedent(body).strip(), '    ')}\n")
    return "\n\n".join(tests)


def located(text: str, name: str, source: str) -> str:
    """The text of a test's message, with `<here>` as the place of the test's line that says `# here`."""
    before, _, test = source.partition(f"def test_{name}(")
    for number, line in enumerate(test.splitlines(), before.count("\n") + 1):
        for mark in re.findall(r"# (\w+)$", line):
            text = text.replace(f"<{mark}>", f"test_inner.py:{number}")
    return text


def told_of(told: str) -> str:
    return indent(dedent(told).strip(), "  ")


# never hit: the name, the body of the test, and what is told

UNTESTED = {
    "reached_by_nobody": (
        "shop.charge",
        """
        failpoints.set("shop.charge", "raise(TimeoutError)")  # here
        """,
        """
        configured: raise(TimeoutError), at <here> (test_reached_by_nobody)
        counts:     hits 0, misses 0, triggers 0
        declared:   shop.py:4 (charge)
        """,
    ),
    "misses": (
        "shop.parse",
        """
        matchers = {"tenant": "test_.*", "size": 3, "shard": big, "order": "o1", "user": "u1", "tenat": "t2"}
        failpoints.set("shop.parse", "2*off->return(1)", context=matchers)  # here
        shop.parse(tenant="t1", size=3)
        shop.parse(tenant="t2", size=4, shard=2, order="o1")
        """,
        """
        configured: 2*off->return(1) where {matchers}, at <here> (test_misses)
        counts:     hits 0, misses 2, triggers 0
        last miss:  tenant='t2' does not match 'test_.*'
                    size=4 is not 3
                    shard=2 was not asked
                    order='o1' matches
                    'user' is missing: the site gives only 'tenant', 'size', 'shard', 'order'
                    {tenat}; did you mean 'tenant'?
        declared:   shop.py:10 (parse)
        """.replace(
            "{matchers}",
            "tenant='test_.*', size=3, shard=big, order='o1', user='u1', tenat='t2'",
        ).replace("{tenat}", "'tenat' is missing: the site gives only 'tenant', 'size', 'shard', 'order'"),
    ),
    "no_context": (
        "shop.charge",
        """
        failpoints.set("shop.charge", "off", context={"order": "o1"})  # here
        shop.charge("o1")
        """,
        """
        configured: off where order='o1', at <here> (test_no_context)
        counts:     hits 0, misses 1, triggers 0
        last miss:  'order' is missing: the site gives no context at all
        declared:   shop.py:4 (charge)
        """,
    ),
    "predicates": (
        "shop.parse",
        """
        matchers = {"tenant": "t.*", "size": big, "order": once, "shard": big, "user": lambda user: False}
        failpoints.set("shop.parse", "off", context=matchers)  # here
        shop.parse(tenant="t1", size=11, order=1, shard=2, user="u1")
        """,
        """
        configured: off where {matchers}, at <here> (test_predicates)
        counts:     hits 0, misses 1, triggers 0
        last miss:  tenant='t1' matches
                    size=11 matches
                    order=1 is refused by once
                    shard=2 was not asked
                    user='u1' was not asked
        declared:   shop.py:10 (parse)
        """.replace(
            "{matchers}", "tenant='t.*', size=big, order=once, shard=big, user=test_predicates.<locals>.<lambda>"
        ),
    ),
    "keys_that_are_no_text": (
        "shop.visit",
        """
        failpoints.set("shop.visit", "off", context={"tenant": "t1"})  # here
        shop.visit({1: 2, Lines(): 3, None: 4, "tenat": "t1"})
        """,
        """
        configured: off where tenant='t1', at <here> (test_keys_that_are_no_text)
        counts:     hits 0, misses 1, triggers 0
        last miss:  'tenant' is missing: the site gives only 1, Lines(1, 2), None, 'tenat'; did you mean 'tenat'?
        declared:   shop.py:34 (visit)
        """,
    ),
    "values_of_every_kind": (
        "shop.visit",
        """
        matchers = {"order": "o1", "lines": Lines(), "shown": Unshown(), "equal": Incomparable()}
        failpoints.set("shop.visit", "off", context=matchers)  # here
        shop.visit({"order": "o2", "lines": Lines(), "shown": Unshown(), "equal": 5})
        """,
        """
        configured: off where {matchers}, at <here> (test_values_of_every_kind)
        counts:     hits 0, misses 1, triggers 0
        last miss:  order='o2' does not match 'o1'
                    lines=Lines(1, 2) is not Lines(1, 2)
                    shown={unshown} is not {unshown}
                    equal=5 cannot be compared: ValueError('ambiguous')
        declared:   shop.py:34 (visit)
        """.replace(
            "{matchers}",
            "order='o1', lines=Lines(1, 2), shown={unshown}, equal=<test_inner.Incomparable object at 0x0>",
        ).replace("{unshown}", "<test_inner.Unshown object at 0x0>"),
    ),
    "a_value_without_a_name": (
        "shop.charge",
        """
        failpoints.set("shop.charge", "off", context={"order": Nameless()})  # here
        """,
        """
        configured: off where order=Nameless(), at <here> (test_a_value_without_a_name)
        counts:     hits 0, misses 0, triggers 0
        declared:   shop.py:4 (charge)
        """,
    ),
    "a_key_that_nothing_can_be_told_of": (
        "shop.charge",
        """
        failpoints.set("shop.charge", "off", context={Key("ordr"): 1})
        shop.charge("o1")
        """,
        """
        the details cannot be shown: RuntimeError('closed')
        """,
    ),
    "others_wait": (
        "shop.charge",
        """
        failpoints.set("shop.charge", "off")  # here
        stock, parse = failpoints.set("shop.stock", "pause"), failpoints.set("shop.parse", "sleep(60m)")
        started(shop.restock)
        started(shop.parse, order="o1")
        stock.wait_paused_sync()
        parse.wait_paused_sync()
        """,
        """
        configured: off, at <here> (test_others_wait)
        counts:     hits 0, misses 0, triggers 0
        declared:   shop.py:4 (charge)
        elsewhere:  at 'shop.parse' 'worker-7' has waited N s, {'order': 'o1'}
        elsewhere:  at 'shop.stock' 'worker-7' has waited N s
        """,
    ),
    "typo": (
        "Shop.chagre",
        """
        failpoints.set("Shop.chagre", "off")  # here
        shop.charge("o1")
        """,
        """
        configured: off, at <here> (test_typo)
        counts:     hits 0, misses 0, triggers 0
        declared:   nowhere in the modules imported; did you mean 'shop.charge', declared at shop.py:4 (charge)?
        """,
    ),
    "only_in_the_source": (
        "shop.backorde",
        """
        failpoints.set("shop.backorde", "off")  # here
        """,
        """
        configured: off, at <here> (test_only_in_the_source)
        counts:     hits 0, misses 0, triggers 0
        declared:   nowhere in the modules imported; did you mean 'shop.backorder', declared at shop.py:14 (backorder)?
        """,
    ),
    "scope": (
        "shop.loc:after",
        """
        failpoints.set("shop.loc:after", "off")  # here
        shop.locked()
        """,
        """
        configured: off, at <here> (test_scope)
        counts:     hits 0, misses 0, triggers 0
        declared:   nowhere in the modules imported; did you mean 'shop.lock:after', declared at shop.py:18 (locked)?
        """,
    ),
    "many_places": (
        "shop.stok",
        """
        failpoints.set("shop.stok", "off")  # here
        """,
        """
        configured: off, at <here> (test_many_places)
        counts:     hits 0, misses 0, triggers 0
        declared:   nowhere in the modules imported; did you mean 'shop.stock', declared at {places}?
        """.replace("{places}", "shop.py:23 (restock), shop.py:24 (restock), shop.py:25 (restock) and 1 more"),
    ),
    "made_at_run_time": (
        "user:7",
        """
        failpoints.set("user:7", "off")  # here
        """,
        """
        configured: off, at <here> (test_made_at_run_time)
        counts:     hits 0, misses 0, triggers 0
        declared:   nowhere in the modules imported; a name that is made at run time may be it, as at {place}
        """.replace("{place}", "shop.py:30 (sharded)"),
    ),
    "met_at_run_time": (
        "sahrd-7",
        """
        with package.configured("shop.charge", "off"):
            shop.sharded(7)
        failpoints.set("sahrd-7", "off")  # here
        """,
        """
        configured: off, at <here> (test_met_at_run_time)
        counts:     hits 0, misses 0, triggers 0
        declared:   nowhere in the modules imported; did you mean 'shard-7', declared at shop.py:30 (sharded)?
        """,
    ),
    "after": (
        "shop.charge:after",
        """
        failpoints.set("shop.charge:after", "off")  # here
        failpoints.set("shop.charge", "return(1)")
        shop.charge("o1")
        """,
        """
        configured: off, at <here> (test_after)
        counts:     hits 0, misses 0, triggers 0
        declared:   shop.py:4 (charge)
                    ':after' is visited once the body has completed without raising
        """,
    ),
    "paused": (
        "shop.parse",
        """
        with failpoints.paused("shop.parse"):  # here
            pass
        """,
        """
        configured: pause, at <here> (test_paused)
        counts:     hits 0, misses 0, triggers 0
        declared:   shop.py:10 (parse)
        ended:      no longer configured
        """,
    ),
    **{
        f"ended_{number}": (
            "shop.parse",
            f"""
            parse = failpoints.set("shop.parse", "off")  # here
            {ending}
            shop.parse()
            """,
            f"""
            configured: off, at <here> (test_ended_{number})
            counts:     hits 0, misses 0, triggers 0
            declared:   shop.py:10 (parse)
            ended:      {ended}
            """,
        )
        for number, (ending, ended) in enumerate(
            [
                ("parse.remove()", "no longer configured"),
                ("failpoints.remove('shop.parse')", "no longer configured"),
                ("failpoints.reset()", "no longer configured"),
                ("package.configure('shop.parse', 'return(1)')", "configured again since"),
            ]
        )
    },
}


def test_never_hit(run_tests: RunTests) -> None:
    """A test that passed fails if what it set was never hit, and is told where it set it and all that is known."""
    source = source_of({case: body for case, (_, body, _) in UNTESTED.items()})
    result = run_tests(source, "--tb=short", files={"shop.py": SHOP + SHARDS})
    failed = failures(result)
    assert {name: failure.text for name, failure in failed.items()} == {
        f"test_{case}": located(NEVER_HIT.format(name=name, told=told_of(told)), case, source)
        for case, (name, _, told) in UNTESTED.items()
    }
    result.assert_outcomes(failed=len(UNTESTED))


def test_several_never_hit(run_tests: RunTests) -> None:
    """All that a test set in vain is told, by its marker, its fixtures and itself; not what it need not hit."""
    source = """\
    import pytest
    import shop


    @pytest.fixture
    def parsing(failpoints):
        failpoints.set("shop.parse", "off")


    @pytest.mark.failpoints({"shop.charge": "off", "shop.lock": "off"})
    @pytest.mark.failpoints({"shop.stock": "off"}, context={"item": "i1"}, expect_hit=False)
    def test_several(parsing, failpoints):
        failpoints.set("shop.lost", "off")
        failpoints.set("shop.chargd", "off", expect_hit=False)
        shop.locked()
    """
    failed = failures(run_tests(source, files={"shop.py": SHOP}))
    told = {
        "shop.charge": ("test_inner.py:10 (test_several, marked)", "shop.py:4 (charge)"),
        "shop.parse": ("test_inner.py:7 (parsing)", "shop.py:10 (parse)"),
        "shop.lost": (
            "test_inner.py:13 (test_several)",
            "nowhere in the modules imported; did you mean 'shop.lock', declared at shop.py:18 (locked)?",
        ),
    }
    assert failed["test_several"].text == "\n\n".join(
        NEVER_HIT.format(
            name=name,
            told=f"  configured: off, at {where}\n  counts:     hits 0, misses 0, triggers 0\n  declared:   {declared}",
        )
        for name, (where, declared) in told.items()
    )


def test_nothing_near(run_tests: RunTests) -> None:
    """Of a name like which no name is declared or made, just that is said."""
    source = """\
    import shop

    def test_alone(failpoints):
        failpoints.set("zebra", "off")
    """
    told = """
    configured: off, at test_inner.py:4 (test_alone)
    counts:     hits 0, misses 0, triggers 0
    declared:   nowhere in the modules imported
    """
    failed = failures(run_tests(source, files={"shop.py": SHOP}))
    assert failed["test_alone"].text == NEVER_HIT.format(name="zebra", told=told_of(told))


# what is told of predicates: the body of the test, and what each is said to have done

PREDICATES = {
    "a_key_is_missing": (
        """
        failpoints.set("shop.parse", "off", context={"zebra": "t1", "size": big})
        shop.parse(tenant="t1", size=11)
        """,
        [("size", "was not asked")],
    ),
    "one_like_it_is_given": (
        """
        failpoints.set("shop.parse", "off", context={"tenat": "t1", "size": big})
        shop.parse(tenant="t1", size=11)
        """,
        [("size", "was not asked")],
    ),
    "the_value_changes_later": (
        """
        orders = ["o1"]
        failpoints.set("shop.parse", "off", context={"orders": lambda orders: len(orders) == 2, "size": big})
        shop.parse(orders=orders, size=11)
        orders.append("o2")
        """,
        [("orders", "is refused by"), ("size", "was not asked")],
    ),
}


def test_what_predicates_said(run_tests: RunTests) -> None:
    """Of a predicate is told what it said when it was met, or that it was not asked after a key that failed."""
    source = source_of({case: body for case, (body, _) in PREDICATES.items()})
    said = {
        name: re.findall(r"(\w+)=\S+ (matches|is refused by|was not asked)", failure.text)
        for name, failure in failures(run_tests(source, files={"shop.py": SHOP})).items()
    }
    assert said == {f"test_{case}": expected for case, (_, expected) in PREDICATES.items()}


# set again by the test itself: the body of the test, and of what it complains

SUPERSEDED: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "set_again": (
        """
        failpoints.set("shop.parse", "raise")
        failpoints.set("shop.parse", "off", expect_hit=False)
        failpoints.set("shop.parse", "return(1)")
        shop.parse()
        """,
        [],
    ),
    "removed_and_set_again": (
        """
        failpoints.set("shop.parse", "raise")
        failpoints.reset()
        failpoints.set("shop.parse", "off")
        shop.parse()
        """,
        [],
    ),
    "set_again_and_never_hit": (
        """
        failpoints.set("shop.parse", "raise")
        with failpoints.paused("shop.parse"):
            pass
        """,
        [("shop.parse", "pause")],
    ),
    "set_again_after_a_miss": (
        """
        failpoints.set("shop.parse", "raise", context={"order": "o1"})
        shop.parse(order="o2")
        failpoints.set("shop.parse", "off")
        shop.parse()
        """,
        [("shop.parse", "raise where order='o1'")],
    ),
    "set_again_after_a_refusal": (
        """
        failpoints.set("shop.parse", "off", context={"order": broken})
        with pytest.raises(ValueError):
            shop.parse(order=1)
        failpoints.set("shop.parse", "return(1)")
        shop.parse()
        """,
        [("shop.parse", "off where order=broken")],
    ),
    "another_set": (
        """
        failpoints.set("shop.parse", "raise")
        failpoints.set("shop.stock", "off")
        shop.restock()
        """,
        [("shop.parse", "raise")],
    ),
    "off_after_a_hit": (
        """
        failpoints.set("shop.parse", "return(1)")
        shop.parse()
        failpoints.set("shop.parse", "1*off->off", context={"order": "o1"})
        shop.parse(order="o2")
        """,
        [],
    ),
    "off_after_a_hit_some_settings_ago": (
        """
        failpoints.set("shop.parse", "return(1)")
        shop.parse()
        failpoints.set("shop.parse", "return(2)")
        failpoints.set("shop.parse", "off")
        """,
        [],
    ),
    "off_after_a_miss": (
        """
        failpoints.set("shop.parse", "return(1)", context={"order": "o1"})
        shop.parse(order="o2")
        failpoints.set("shop.parse", "off")
        """,
        [("shop.parse", "return(1) where order='o1'"), ("shop.parse", "off")],
    ),
    "off_after_a_hit_of_another": (
        """
        failpoints.set("shop.stock", "return(1)")
        shop.restock()
        failpoints.set("shop.parse", "off")
        """,
        [("shop.parse", "off")],
    ),
    "off_before_a_hit": (
        """
        failpoints.set("shop.parse", "off", context={"order": "o1"})
        shop.parse(order="o2")
        failpoints.set("shop.parse", "return(1)")
        shop.parse()
        """,
        [("shop.parse", "off where order='o1'")],
    ),
    "more_than_off_after_a_hit": (
        """
        failpoints.set("shop.parse", "return(1)")
        shop.parse()
        failpoints.set("shop.parse", "1*off->return(2)")
        """,
        [("shop.parse", "1*off->return(2)")],
    ),
}


def test_set_again(run_tests: RunTests) -> None:
    """What a test replaces before anything came by need not be hit, nor need an `off` after a hit; all else must."""
    result = run_tests(source_of({case: body for case, (body, _) in SUPERSEDED.items()}), files={"shop.py": SHOP})
    complaints = {
        name: re.findall(r"^failpoint '(.*?)' .*\n  configured: (.*), at ", failure.text, re.MULTILINE)
        for name, failure in failures(result).items()
    }
    assert complaints == {f"test_{case}": expected for case, (_, expected) in SUPERSEDED.items() if expected}
    result.assert_outcomes(passed=sum(not expected for _, expected in SUPERSEDED.values()), failed=len(complaints))


# refused: the name, the body of the test, and what is told

REFUSALS = {
    "raise": (
        "shop.charge",
        """
        failpoints.set("shop.charge", "raise(TimeotError)")  # here
        try:
            shop.charge("o1")
        except Exception:
            pass
        """,
        """
        configured: raise(TimeotError), at <here> (test_raise)
        counts:     hits 1, misses 0, triggers 1
        declared:   shop.py:4 (charge)
        error:      {refused} (raises=nothing); did you mean 'TimeoutError'?
        """,
        "failpoint 'shop.charge' was told to raise TimeotError, which is no builtin exception and is not declared at"
        " the site",
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
        error:      {refused}
        """,
        "failpoint 'shop.charge' was told to return the text 'many' from charge, but 'many' is no int; give @failpoint"
        " a convert=, or configure Return(value) in Python",
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
        error:      {refused}
        """,
        "failpoint 'shop.parse' was told to pause in the sync parse, on a thread that runs an event loop, and would"
        " block the whole loop: make the site async, call the function in a worker thread (anyio.to_thread.run_sync),"
        " or configure 'delay', whose purpose that is",
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
        error:      {refused}
        ended:      no longer configured
        """,
        "failpoint 'shop.parse' called test_call.<locals>.<lambda>, which may return an action or None; it returned 3",
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
        elsewhere:  at 'shop.stock' 'worker-7' has waited N s
        error:      {refused}
        """,
        "failpoint 'shop.charge' was told to return the text 'many' from charge, but 'many' is no int; give @failpoint"
        " a convert=, or configure Return(value) in Python",
    ),
}

# refused and excused: expect_hit=False lets be whatever comes of a setting

EXCUSED = {
    f"{case}_excused": body.replace(")  # here", ", expect_hit=False)")
    for case, (_, body, _, _) in REFUSALS.items()
    if case != "while_others_wait"
}


def test_refused(run_tests: RunTests) -> None:
    """A test fails if a failpoint could not do what it was configured to do, unless expect_hit=False is given."""
    source = source_of({case: body for case, (_, body, _, _) in REFUSALS.items()} | EXCUSED)
    result = run_tests(source, "--tb=short", files={"shop.py": SHOP + SHARDS})
    expected: dict[str, str] = {}
    for case, (name, _, told, refused) in REFUSALS.items():
        text = located(REFUSED.format(name=name, told=told_of(told).replace("{refused}", refused)), case, source)
        backends = ("[asyncio]", "[trio]") if case.startswith("async_") else ("",)
        expected.update({f"test_{case}{backend}": text for backend in backends})
    assert {name: failure.text for name, failure in failures(result).items()} == expected


REFUSED_FOR_ALL = """\
import pytest
import shop


def swallow(function, *arguments):
    try:
        function(*arguments)
    except Exception:
        pass


def test_plain():
    swallow(shop.charge, "o1")


def test_also_in_vain(failpoints):
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


def test_does_not_come_by():
    shop.parse()
"""


def test_refused_of_what_is_configured_for_the_run(run_tests: RunTests) -> None:
    """A test that passed fails as well if what `--failpoints` or `FAILPOINTS` configured was refused in it."""
    result = run_tests(
        REFUSED_FOR_ALL,
        "-v",
        "--tb=short",
        "--failpoints=shop.charge=return(many)",
        files={"shop.py": SHOP},
        environment={"FAILPOINTS": "shop.lock=raise(TimeotError)"},
    )
    counts = "counts:     hits 1, misses 0, triggers 1"
    told = f"  configured: {{}}\n  {counts}\n  declared:   shop.py:{{}}\n  error:      {{}}".format
    charge = told(
        "return(many)",
        "4 (charge)",
        "failpoint 'shop.charge' was told to return the text 'many' from charge, but 'many' is no int; give @failpoint"
        " a convert=, or configure Return(value) in Python",
    )
    lock = told(
        "raise(TimeotError)",
        "18 (locked)",
        "failpoint 'shop.lock' was told to raise TimeotError, which is no builtin exception and is not declared at the"
        " site (raises=nothing); did you mean 'TimeoutError'?",
    )
    stock = """\
  configured: off, at test_inner.py:17 (test_also_in_vain)
  counts:     hits 0, misses 0, triggers 0
  declared:   shop.py:23 (restock), shop.py:24 (restock), shop.py:25 (restock) and 1 more"""
    failed = {name: failure.text for name, failure in failures(result).items()}
    own = failed.pop("test_fails")
    refused = REFUSED_IN_RUN.format(name="shop.charge", told=charge)
    assert failed == {
        "test_plain": refused,
        "test_expected_to_fail": refused,
        "test_also_in_vain": "\n\n".join(
            [NEVER_HIT.format(name="shop.stock", told=stock), REFUSED_IN_RUN.format(name="shop.lock", told=lock)]
        ),
    }
    assert own.splitlines()[-1] == "E   AssertionError: assert not 'done'"
    result.assert_outcomes(failed=4, passed=2)


# what becomes of a test

FATES = """import unittest

import pytest
import shop


@pytest.fixture
def prepared(failpoints):
    return failpoints.set("shop.charge", "return(1)")


@pytest.fixture
def broken_before(failpoints):
    failpoints.set("shop.chagre", "off")
    raise OSError("no disk")


@pytest.fixture
def broken_after(failpoints):
    yield
    raise OSError("no disk")


def test_passes(failpoints):
    failpoints.set("shop.charge", "return(1)")
    assert shop.charge("o1") == 1


def test_passes_by_fixture(prepared):
    assert shop.charge("o1") == 1


def test_sets_nothing(failpoints):
    pass


def test_need_not_hit(failpoints):
    failpoints.set("shop.chagre", "off", expect_hit=False)


@pytest.mark.failpoints({"shop.chagre": "off"}, expect_hit=False)
def test_marked_need_not_hit():
    pass


@pytest.mark.failpoints({"shop.charge": "return(many)"}, expect_hit=False)
def test_marked_may_be_refused():
    with pytest.raises(Exception):
        shop.charge("o1")


@pytest.mark.failpoints({"shop.chagre": "off"})
def test_marked():
    pass


def test_fails(failpoints):
    failpoints.set("shop.chagre", "off")
    assert shop.charge("o1") == 43


def test_breaks_before(broken_before):
    pass


def test_breaks_after(broken_after, prepared):
    shop.charge("o1")


def test_skips(failpoints):
    failpoints.set("shop.chagre", "off")
    pytest.skip("later")


def test_gives_up(failpoints):
    failpoints.set("shop.chagre", "off")
    pytest.xfail("known")


@pytest.mark.xfail
def test_fails_as_expected(failpoints):
    failpoints.set("shop.chagre", "off")
    assert shop.charge("o1") == 43


@pytest.mark.xfail
def test_passes_unexpectedly(failpoints):
    failpoints.set("shop.charge", "off")
    shop.charge("o1")


@pytest.mark.xfail(strict=True)
def test_passes_where_it_must_not(failpoints):
    failpoints.set("shop.charge", "off")
    shop.charge("o1")


@pytest.mark.xfail
def test_typo(failpoints):
    failpoints.set("shop.chagre", "off")


@pytest.mark.xfail(strict=True)
def test_typo_strict(failpoints):
    failpoints.set("shop.chagre", "off")


@pytest.mark.xfail(raises=OSError)
def test_typo_with_another_error_expected(failpoints):
    failpoints.set("shop.chagre", "off")


@pytest.mark.xfail
def test_refused(failpoints):
    failpoints.set("shop.charge", "return(many)")
    with pytest.raises(Exception):
        shop.charge("o1")


class TestCase(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def set_in_vain(self, failpoints):
        failpoints.set("shop.chagre", "off")

    def test_passes(self):
        pass

    def test_fails(self):
        self.fail("enough")

    @unittest.expectedFailure
    def test_fails_as_expected(self):
        self.fail("enough")

    @pytest.mark.xfail
    def test_fails_as_marked(self):
        self.fail("enough")

    @unittest.expectedFailure
    def test_passes_unexpectedly(self):
        pass

    def test_skips(self):
        self.skipTest("later")
"""

FATE = {
    "test_passes": "PASSED",
    "test_passes_by_fixture": "PASSED",
    "test_sets_nothing": "PASSED",
    "test_need_not_hit": "PASSED",
    "test_marked_need_not_hit": "PASSED",
    "test_marked_may_be_refused": "PASSED",
    "test_marked": "FAILED",
    "test_fails": "FAILED",
    "test_breaks_before": "ERROR",
    "test_breaks_after": "ERROR",  # after it had passed
    "test_skips": "SKIPPED",
    "test_gives_up": "XFAIL",
    "test_fails_as_expected": "XFAIL",
    "test_passes_unexpectedly": "XPASS",
    "test_passes_where_it_must_not": "FAILED",
    "test_typo": "FAILED",
    "test_typo_strict": "FAILED",
    "test_typo_with_another_error_expected": "FAILED",
    "test_refused": "FAILED",
    "TestCase::test_passes": "FAILED",
    "TestCase::test_fails": "FAILED",
    "TestCase::test_fails_as_expected": "XFAIL",
    "TestCase::test_fails_as_marked": "XFAIL",
    "TestCase::test_passes_unexpectedly": "FAILED",
    "TestCase::test_skips": "SKIPPED",
}

UNTESTED_TYPO = NEVER_HIT.format(
    name="shop.chagre",
    told="""  configured: off, at <place>
  counts:     hits 0, misses 0, triggers 0
  declared:   nowhere in the modules imported; did you mean 'shop.charge', declared at shop.py:4 (charge)?""",
)


def test_what_becomes_of_a_test(run_tests: RunTests) -> None:
    """Only a test that passed is failed, expected to fail or not; any other end stays what it was."""
    result = run_tests(FATES, "-v", "--tb=short", files={"shop.py": SHOP})
    assert outcomes(result) == FATE
    text = {name: failure.text for name, failure in failures(result).items()}
    assert "assert 42 == 43" in text["test_fails"]
    assert text["setup of test_breaks_before"].splitlines()[-1] == "E   OSError: no disk"
    assert text["teardown of test_breaks_after"].splitlines()[-1] == "E   OSError: no disk"
    assert text["test_passes_where_it_must_not"] == "[XPASS(strict)] "
    for name in ("test_typo", "test_typo_strict", "test_typo_with_another_error_expected"):
        number = FATES[: FATES.index(f"def {name}(")].count("\n") + 2
        assert text[name] == UNTESTED_TYPO.replace("<place>", f"test_inner.py:{number} ({name})")
    number = FATES[: FATES.index("def set_in_vain(")].count("\n") + 2
    place = f"test_inner.py:{number} (TestCase.set_in_vain)"
    assert text["TestCase.test_passes"] == UNTESTED_TYPO.replace("<place>", place)
    assert text["TestCase.test_fails"].splitlines()[-1] == "E   AssertionError: enough"
    assert text["TestCase.test_passes_unexpectedly"].splitlines()[-1] == "Unexpected success"


def test_not_strict(run_tests: RunTests) -> None:
    """`failpoints_strict = false` lets be what was never hit, and what was refused."""
    result = run_tests(FATES, "-v", ini="failpoints_strict = false", files={"shop.py": SHOP})
    assert outcomes(result) == FATE | {
        "test_marked": "PASSED",
        "test_typo": "XPASS",
        "test_typo_with_another_error_expected": "XPASS",
        "test_refused": "XPASS",
        "TestCase::test_passes": "PASSED",
    }


RERUN = """import pytest

def test_typo(request):
    request.getfixturevalue("failpoints").set("shop.chagre", "off")

def test_plain():
    pass
"""


def test_again(run_tests: RunTests) -> None:
    """A failure of this kind is one to pytest: `-x` stops at it, and `--lf` runs it again."""
    first = run_tests(RERUN, "-v", "-x", "-p", "cacheprovider")
    again = run_tests(RERUN, "-v", "--lf", "-p", "cacheprovider")
    assert (outcomes(first), outcomes(again)) == ({"test_typo": "FAILED"}, {"test_typo": "FAILED"})


TRIES = """\
import pytest
import shop

TRIED = []


def is_first(request):
    TRIED.append(request.node.name)
    return TRIED.count(request.node.name) == 1


def test_hits_at_the_second_try(failpoints, request):
    charge = failpoints.set("shop.charge", "1*return(1)->off")
    if not is_first(request):
        assert [shop.charge("o1"), shop.charge("o1"), charge.hits] == [1, 42, 2]


@pytest.mark.failpoints({"shop.charge": "1*return(1)->off"})
def test_marked(failpoints, request):
    if not is_first(request):
        assert [shop.charge("o1"), shop.charge("o1")] == [1, 42]


def test_sets_at_the_first_try(request):
    if is_first(request):
        request.getfixturevalue("failpoints").set("shop.chagre", "off")


def test_refused_at_the_first_try(request):
    if is_first(request):
        with pytest.raises(Exception):
            shop.locked()


def test_fails_at_each_try(request):
    if is_first(request):
        request.getfixturevalue("failpoints").set("shop.chagre", "off")
    assert not "done"


def test_tries():
    assert [TRIED.count(name) for name in dict.fromkeys(TRIED)] == [2] * 5
"""

TRIES_AGAIN = """\
from _pytest.runner import runtestprotocol


def pytest_runtest_protocol(item, nextitem):
    for _ in range(2):
        item._initrequest()
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        if not any(report.failed for report in reports):
            break
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    return True
"""


def test_tried_again(run_tests: RunTests) -> None:
    """A test that a plugin runs once more is judged by what it set and met this time."""
    files = {"shop.py": SHOP, "conftest.py": TRIES_AGAIN}
    result = run_tests(TRIES, "--failpoints=shop.lock=raise(TimeotError)", files=files)
    result.assert_outcomes(passed=5, failed=1)
    failed = failures(result)["test_fails_at_each_try"]
    assert (
        failed.section
        == """\
shop.lock
  configured: raise(TimeotError)
  counts:     hits 0, misses 0, triggers 0
  declared:   shop.py:18 (locked)"""
    )


def test_without_the_plugin(run_tests: RunTests) -> None:
    """With `-p no:failpoints` those tests run that do not need it."""
    result = run_tests(RERUN, "-v", "-p", "no:failpoints")
    assert outcomes(result) == {"test_typo": "FAILED", "test_plain": "PASSED"}
    result.stdout.fnmatch_lines("*fixture 'failpoints' not found*")


# waits that time out: the body of the test, and the failure

WAITS = {
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
        E   failpoints.errors.FailpointTimeout: failpoint 'shop.loc' did not have 1 waiting at it within 0.01 s
        E     configured: pause
        E     counts:     hits 0, misses 0, triggers 0
        E     declared:   nowhere in the modules imported; did you mean 'shop.lock', declared at shop.py:18 (locked)?
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
        E   failpoints.errors.FailpointTimeout: failpoint 'shop.parse' did not have 2 waiting at it within 0.05 s
        E     configured: pause
        E     counts:     hits 1, misses 0, triggers 1
        E     waiting:    'worker-7' has waited N s, {'order': 'o1'}
        E     declared:   shop.py:10 (parse)
        E     elsewhere:  at 'shop.stock' 'worker-7' has waited N s
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
        E   failpoints.errors.FailpointTimeout: failpoint 'shop.charge:after' was not hit once within 0 s
        E     configured: off
        E     counts:     hits 0, misses 0, triggers 0
        E     declared:   shop.py:4 (charge)
        E                 ':after' is visited once the body has completed without raising
        """,
    ),
}


def test_waits_that_time_out(run_tests: RunTests) -> None:
    """A wait that lasts too long tells all that is known, at the test's own line and with no frame of a library."""
    source = source_of({case: body for case, (body, _) in WAITS.items()})
    result = run_tests(source, "--tb=short", ini="failpoints_timeout = 0.05", files={"shop.py": SHOP})
    expected: dict[str, str] = {}
    for case, (_, text) in WAITS.items():
        for backend in ("[asyncio]", "[trio]") if case.startswith("async_") else ("",):
            expected[f"test_{case}{backend}"] = located(dedent(text).strip(), case, source)
    assert {name: failure.text for name, failure in failures(result).items()} == expected


# what cannot be set: the body of the test, and the failure

UNSETTABLE = {
    "action": (
        """
        failpoints.set("shop.charge", "of")  # here
        """,
        """
        <here>: in test_action
            failpoints.set("shop.charge", "of")  # here
        E   failpoints.errors.ActionSyntaxError: expected an action, found 'of'; did you mean 'off'?
        E       of
        E       ^
        """,
    ),
    "expect_hit": (
        """
        failpoints.set("shop.charge", "off", expect_hit="no")  # here
        """,
        """
        <here>: in test_expect_hit
            failpoints.set("shop.charge", "off", expect_hit="no")  # here
        E   failpoints.errors.FailpointUsageError: expect_hit= must be True or False; got 'no'
        """,
    ),
    "matchers": (
        """
        with failpoints.paused("shop.charge", context="o1"):  # here
            pass
        """,
        """
        <here>: in test_matchers
            with failpoints.paused("shop.charge", context="o1"):  # here
        E   failpoints.errors.FailpointUsageError: matchers are a mapping of {refused}; got 'o1'
        """.replace("{refused}", 'context keys to patterns, values or predicates, such as {"tenant_id": "test_.*"}'),
    ),
    "async_name": (
        """
        async with failpoints.paused("shop charge"):  # here
            pass
        """,
        """
        <here>: in test_async_name
            async with failpoints.paused("shop charge"):  # here
        E   failpoints.errors.FailpointNameError: {refused}; got 'shop charge'
        E       shop charge
        E           ^
        """.replace("{refused}", "a failpoint's name is printable, without white space, '=' or ';'"),
    ),
}


def test_what_cannot_be_set(run_tests: RunTests) -> None:
    """What cannot be set is told at the test's own line, with no frame of a library."""
    source = source_of({case: body for case, (body, _) in UNSETTABLE.items()})
    result = run_tests(source, "--tb=short", files={"shop.py": SHOP})
    expected: dict[str, str] = {}
    for case, (_, text) in UNSETTABLE.items():
        for backend in ("[asyncio]", "[trio]") if case.startswith("async_") else ("",):
            expected[f"test_{case}{backend}"] = located(dedent(text).strip(), case, source)
    assert {name: failure.text for name, failure in failures(result).items()} == expected


# the section of a failing test: its body, and what is told

SECTIONS: dict[str, tuple[str, str | None]] = {
    "counts": (
        """
        failpoints.set("shop.parse", "1*return(1)->off", context={"order": "o1"})  # here
        failpoints.set("shop.stock", "2*off->return(1)", expect_hit=False)  # there
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
          configured: 2*off->return(1), at <there> (test_counts)
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
    "refused": (
        """
        failpoints.set("shop.charge", "return(many)")  # here
        with pytest.raises(package.FailpointUsageError):
            shop.charge("o1")
        assert not "done"
        """,
        """
        shop.charge
          configured: return(many), at <here> (test_refused)
          counts:     hits 1, misses 0, triggers 1
          declared:   shop.py:4 (charge)
          error:      {refused}
        """.replace(
            "{refused}",
            "failpoint 'shop.charge' was told to return the text 'many' from charge, but 'many' is no int; give"
            " @failpoint a convert=, or configure Return(value) in Python",
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
    "by_the_program": (
        """
        with package.configured("shop.charge", "return(7)"):
            assert shop.charge("o1") == 42
        """,
        None,
    ),
    "nothing_set": ('assert not "done"', None),
}


def test_section(run_tests: RunTests) -> None:
    """A failing test's report tells what its failpoints did, and who waits there or did until they were removed."""
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
def broken_before(failpoints):
    failpoints.set("shop.charge", "off")
    raise OSError("no disk")

@pytest.fixture
def broken_after(failpoints):
    parse = failpoints.set("shop.parse", "off")
    yield
    shop.parse(order="o1")
    raise OSError("no disk")

@pytest.mark.failpoints({"shop.charge": "off"})
def test_setup(broken_before):
    pass

def test_teardown(failpoints, broken_after):
    shop.parse(order="o2")

@pytest.mark.failpoints({"shop.charge": "return(1)"})
def test_call():
    print("printed")
    print("and said", file=sys.stderr)
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
  configured: off, at test_inner.py:18 (test_setup, marked)
  counts:     hits 0, misses 0, triggers 0
  declared:   shop.py:4 (charge)
  ended:      configured again since
shop.charge
  configured: off, at test_inner.py:8 (broken_before)
  counts:     hits 0, misses 0, triggers 0
  declared:   shop.py:4 (charge)""",
    "teardown of test_teardown": """\
shop.parse
  configured: off, at test_inner.py:13 (broken_after)
  counts:     hits 2, misses 0, triggers 2
  declared:   shop.py:10 (parse)
  ended:      no longer configured""",
    "test_call": """\
shop.charge
  configured: return(1), at test_inner.py:25 (test_call, marked)
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
    """Errors in setup and teardown have the section as well, and no test that did not fail; also under pytest-xdist."""
    result = run_tests(PHASES, *workers, "-rA", files={"shop.py": SHOP + SLOW}, plugins=["asyncio"])
    sections = {name: failure.section for name, failure in failures(result).items()}
    assert {name: sections.get(name) for name in PHASE_SECTIONS} == PHASE_SECTIONS
    assert [line for line in result.outlines if re.match("-+ failpoints -+", line)] == [f"{' failpoints ':-^80}"] * 4
    result.assert_outcomes(failed=3, errors=2, passed=2, xfailed=1, skipped=1)


def test_other_ways_to_report(run_tests: RunTests, pytester: pytest.Pytester) -> None:
    """With `--tb=no`, and for the JUnit XML, a failure is what it is without failpoints; no section gets in its way."""
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


def test_section_tells_what_is_configured_for_the_run(run_tests: RunTests) -> None:
    """What `--failpoints` and `FAILPOINTS` configure is in the section of every failing test, as that test met it."""
    result = run_tests(
        FOR_ALL,
        "--failpoints=shop.parse=off",
        files={"shop.py": SHOP},
        environment={"FAILPOINTS": "shop.charge=50%off"},
    )
    seed = "The random draws depend on the run's seed: --failpoints-seed=N repeats them."
    told = "{0}\n  configured: {1}\n  counts:     hits {2}, misses 0, triggers {3}\n  declared:   shop.py:{4}".format
    parse = told("shop.parse", "off", 1, 1, "10 (parse)")
    lock = told("shop.lock", "off, at test_inner.py:4 (test_fails)", 0, 0, "18 (locked)")
    sections = {name: failure.section for name, failure in failures(result).items()}
    assert sections["test_fails"] in [
        "\n".join([lock, told("shop.charge", "50%off", 1, triggers, "4 (charge)"), parse, seed])
        for triggers in (0, 1)  # by chance
    ]
    assert sections["test_fails_alone"] == "\n".join([told("shop.charge", "50%off", 0, 0, "4 (charge)"), parse, seed])
