"""Tests that pass without hitting a failpoint that they set."""

from __future__ import annotations

import re

from tests.plugin.inner_files import SHARDS, SHOP, RunTests
from tests.plugin.terminal import (
    NEVER_HIT,
    failures,
    indented,
    located,
    source_of,
)

# The name of the failpoint, the body of the test, and the details in its message.
NEVER_HIT_TESTS = {
    "never_visited": (
        "shop.charge",
        """
        failpoints.set("shop.charge", "raise(TimeoutError)")  # here
        """,
        """
        configured: raise(TimeoutError), at <here> (test_never_visited)
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
                    shard=2 was not checked
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
                    order=1 does not satisfy once
                    shard=2 was not checked
                    user='u1' was not checked
        declared:   shop.py:10 (parse)
        """.replace(
            "{matchers}", "tenant='t.*', size=big, order=once, shard=big, user=test_predicates.<locals>.<lambda>"
        ),
    ),
    "keys_that_are_not_strings": (
        "shop.visit",
        """
        failpoints.set("shop.visit", "off", context={"tenant": "t1"})  # here
        shop.visit({1: 2, Lines(): 3, None: 4, "tenat": "t1"})
        """,
        """
        configured: off where tenant='t1', at <here> (test_keys_that_are_not_strings)
        counts:     hits 0, misses 1, triggers 0
        last miss:  'tenant' is missing: the site gives only 1, Lines(1, 2), None, 'tenat'; did you mean 'tenat'?
        declared:   shop.py:34 (visit)
        """,
    ),
    "values_of_every_kind": (
        "shop.visit",
        """
        matchers = {"order": "o1", "lines": Lines(), "shown": Unprintable(), "equal": Incomparable()}
        failpoints.set("shop.visit", "off", context=matchers)  # here
        shop.visit({"order": "o2", "lines": Lines(), "shown": Unprintable(), "equal": 5})
        """,
        """
        configured: off where {matchers}, at <here> (test_values_of_every_kind)
        counts:     hits 0, misses 1, triggers 0
        last miss:  order='o2' does not match 'o1'
                    lines=Lines(1, 2) is not Lines(1, 2)
                    shown={unprintable} is not {unprintable}
                    equal=5 cannot be compared: ValueError('ambiguous')
        declared:   shop.py:34 (visit)
        """.replace(
            "{matchers}",
            "order='o1', lines=Lines(1, 2), shown={unprintable}, equal=<test_inner.Incomparable object at 0x0>",
        ).replace("{unprintable}", "<test_inner.Unprintable object at 0x0>"),
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
    "a_key_that_breaks_the_message": (
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
        elsewhere:  'worker-7' has waited N s at 'shop.parse', {'order': 'o1'}
        elsewhere:  'worker-7' has waited N s at 'shop.stock'
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
        declared:   not in any imported module; did you mean 'shop.charge', declared at shop.py:4 (charge)?
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
        declared:   not in any imported module; did you mean 'shop.backorder', declared at shop.py:14 (backorder)?
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
        declared:   not in any imported module; did you mean 'shop.lock:after', declared at shop.py:18 (locked)?
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
        declared:   not in any imported module; did you mean 'shop.stock', declared at {places}?
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
        declared:   not in any imported module; it may be a name that is built at run time, as at {place}
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
        declared:   not in any imported module; did you mean 'shard-7', declared at shop.py:30 (sharded)?
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
                    ':after' is visited after the body has finished without an exception
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
    """A test that never hits a failpoint that it set fails. The message has the place of the call and the details."""
    source = source_of({case: body for case, (_, body, _) in NEVER_HIT_TESTS.items()})
    result = run_tests(source, "--tb=short", files={"shop.py": SHOP + SHARDS})
    failed = failures(result)
    assert {name: failure.text for name, failure in failed.items()} == {
        f"test_{case}": located(NEVER_HIT.format(name=name, details=indented(details)), case, source)
        for case, (name, _, details) in NEVER_HIT_TESTS.items()
    }
    result.assert_outcomes(failed=len(NEVER_HIT_TESTS))


def test_several_never_hit(run_tests: RunTests) -> None:
    """The message lists every failpoint never hit: those of the marker, of the fixtures and of the test itself."""
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
    places = {
        "shop.charge": ("test_inner.py:10 (marker of test_several)", "shop.py:4 (charge)"),
        "shop.parse": ("test_inner.py:7 (parsing)", "shop.py:10 (parse)"),
        "shop.lost": (
            "test_inner.py:13 (test_several)",
            "not in any imported module; did you mean 'shop.lock', declared at shop.py:18 (locked)?",
        ),
    }
    message, check, advice = NEVER_HIT.partition("\nCheck")
    messages = [
        message.format(
            name=name,
            details=indented(
                f"""
                configured: off, at {where}
                counts:     hits 0, misses 0, triggers 0
                declared:   {declared}
                """
            ),
        )
        for name, (where, declared) in places.items()
    ]
    assert failed["test_several"].text == "\n\n".join(messages) + check + advice


def test_nothing_is_written_twice(run_tests: RunTests) -> None:
    """What one line set again and again is described once, and nothing in the message is in the section as well."""
    source = """\
    import shop

    def test_loop(failpoints):
        for order in range(9):
            failpoints.set("shop.parse", "off", context={"order": "o1"})
            shop.parse(order=order)
        failpoints.set("shop.lock", "off")
        shop.locked()

    def test_failing_loop(failpoints):
        for order in range(9):
            failpoints.set("shop.stock", "off")
            shop.restock()
        assert not "done"
    """
    failed = failures(run_tests(source, files={"shop.py": SHOP}))
    details = """
    configured: off where order='o1', at test_inner.py:5 (test_loop)
    counts:     hits 0, misses 1, triggers 0
    last miss:  order=8 does not match 'o1'
    declared:   shop.py:10 (parse)
    earlier:    set 8 times before at this place: hits 0, misses 8, triggers 0
    """
    assert failed["test_loop"].text == NEVER_HIT.format(name="shop.parse", details=indented(details))
    lock = """\
shop.lock
  configured: off, at test_inner.py:7 (test_loop)
  counts:     hits 1, misses 0, triggers 1
  declared:   shop.py:18 (locked)"""
    assert failed["test_loop"].section == lock
    stock = """\
shop.stock
  configured: off, at test_inner.py:12 (test_failing_loop)
  counts:     hits 4, misses 0, triggers 4
  declared:   shop.py:23 (restock), shop.py:24 (restock), shop.py:25 (restock) and 1 more
  earlier:    set 8 times before at this place: hits 32, misses 0, triggers 32"""
    assert failed["test_failing_loop"].section == stock


def test_no_similar_name(run_tests: RunTests) -> None:
    """The message suggests no other name if no declared name is similar."""
    source = """\
    import shop

    def test_alone(failpoints):
        failpoints.set("zebra", "off")
    """
    details = """
    configured: off, at test_inner.py:4 (test_alone)
    counts:     hits 0, misses 0, triggers 0
    declared:   not in any imported module
    """
    failed = failures(run_tests(source, files={"shop.py": SHOP}))
    assert failed["test_alone"].text == NEVER_HIT.format(name="zebra", details=indented(details))


# The body of the test, and what the message has about each predicate.
PREDICATES = {
    "a_key_is_missing": (
        """
        failpoints.set("shop.parse", "off", context={"zebra": "t1", "size": big})
        shop.parse(tenant="t1", size=11)
        """,
        [("size", "was not checked")],
    ),
    "one_like_it_is_given": (
        """
        failpoints.set("shop.parse", "off", context={"tenat": "t1", "size": big})
        shop.parse(tenant="t1", size=11)
        """,
        [("size", "was not checked")],
    ),
    "the_value_changes_later": (
        """
        orders = ["o1"]
        failpoints.set("shop.parse", "off", context={"orders": lambda orders: len(orders) == 2, "size": big})
        shop.parse(orders=orders, size=11)
        orders.append("o2")
        """,
        [("orders", "does not satisfy"), ("size", "was not checked")],
    ),
}


def test_results_of_predicates(run_tests: RunTests) -> None:
    """The message has what each predicate returned at the visit, or that it was not called after a mismatch."""
    source = source_of({case: body for case, (body, _) in PREDICATES.items()})
    results = {
        name: re.findall(r"(\w+)=\S+ (matches|does not satisfy|was not checked)", failure.text)
        for name, failure in failures(run_tests(source, files={"shop.py": SHOP})).items()
    }
    assert results == {f"test_{case}": expected for case, (_, expected) in PREDICATES.items()}


# The body of the test, and the failpoints in its message, with their actions.
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
        [("shop.parse", "raise"), ("shop.parse", "pause")],
    ),
    "set_for_two_contexts": (
        """
        failpoints.set("shop.parse", "return(1)", context={"order": "o1"})
        failpoints.set("shop.parse", "return(2)", context={"order": "o2"})
        shop.parse(order="o2")
        """,
        [("shop.parse", "return(1) where order='o1'")],
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
    "set_again_after_an_error": (
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
    "off_after_an_earlier_hit": (
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
        failpoints.set("shop.stock", "print")
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


def test_superseded(run_tests: RunTests) -> None:
    """A configuration that a test replaces before any visit need not be hit, nor `off` after a hit. Others must be."""
    result = run_tests(source_of({case: body for case, (body, _) in SUPERSEDED.items()}), files={"shop.py": SHOP})
    messages = {
        name: re.findall(r"^failpoint '(.*?)' .*\n  configured: (.*), at ", failure.text, re.MULTILINE)
        for name, failure in failures(result).items()
    }
    assert messages == {f"test_{case}": expected for case, (_, expected) in SUPERSEDED.items() if expected}
    result.assert_outcomes(passed=sum(not expected for _, expected in SUPERSEDED.values()), failed=len(messages))
