"""Configure, remove and inspect failpoints: accepted arguments, errors and counts."""

from __future__ import annotations

import dataclasses
import gc
import inspect
import re
import threading
import weakref
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

import failpoints
from failpoints import (
    ActionSyntaxError,
    Continue,
    FailpointError,
    FailpointNameError,
    FailpointStatus,
    FailpointUsageError,
    Off,
    Outcome,
    Pause,
    Registry,
    Return,
    Sleep,
    Term,
    configure,
    configure_all,
    failpoint,
    failpoint_scope,
    remove,
    reset,
    resume,
    seed,
    status,
    statuses,
    wait_until_paused_sync,
)
from failpoints._core.registry import PROCESS_WIDE
from failpoints._core.store import PROCESS_STORE
from failpoints._core.switches import ARMED

HERE = __file__
DRAWS = 64  # two random sequences of this length are equal once in 10**19 runs


def hit(name: str = "x", **context: Any) -> Outcome:
    """Visit the failpoint once."""
    return failpoint(name, context=context).hit()


def draws(name: str, count: int = DRAWS) -> list[bool]:
    """Visit the failpoint *count* times and return which visits triggered."""
    return [bool(hit(name)) for _ in range(count)]


@pytest.fixture
def held() -> Iterator[threading.Thread]:
    """Start a thread that is paused at the failpoint `held`."""
    configure("held", "pause")
    thread = threading.Thread(target=hit, args=("held",), kwargs={"tenant_id": "t1"}, daemon=True)
    thread.start()
    wait_until_paused_sync("held", timeout=5)
    yield thread
    reset()
    thread.join(5)
    assert not thread.is_alive()


# configuring


@pytest.mark.parametrize(
    "actions",
    ["return(7)", Return("7"), Term(Return("7")), [Return("7")], (Off(), Return("8")), [Term(Off(), times=1), Off()]],
    ids=str,
)
def test_configure_takes_text_an_action_a_term_or_a_sequence(actions: Any) -> None:
    """`configure` accepts a text, an action, a term, or a sequence of actions and terms."""
    configure("x", actions)
    terms = [actions] if not isinstance(actions, (list, tuple)) else actions
    wanted = (Term(Return("7")),) if actions == "return(7)" else tuple(_term(item) for item in terms)
    assert status("x").actions == wanted
    assert hit() == (wanted[0].action if isinstance(wanted[0].action, Return) else Continue())


def _term(item: Any) -> Term:
    return item if isinstance(item, Term) else Term(item)


@pytest.mark.parametrize("name", ["a", "a::b", "a.b:after", "a/wait", "naïve", "100%", "(", "\N{SNOWMAN}"])
def test_a_name_is_printable_and_has_no_white_space(name: str) -> None:
    """Any printable text without white space, `=` and `;` is a valid name."""
    configure(name, "return")
    assert hit("a") == (Return() if name == "a" else Continue())
    assert [each.name for each in statuses()] == [name]


BAD_NAMES = ["", " ", "a b", "a\tb", "a=b", "a;b", "a\n", "a\x00b", "a\u00a0b", "\u200b", "\ud800", 5, None, b"a"]


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
@pytest.mark.parametrize(
    "call",
    [
        lambda name: configure(name, "off"),
        lambda name: configure_all([("a", "off"), (name, "off")]),
        remove,
        resume,
        status,
        lambda name: failpoints.configured(name, "off").__enter__(),
    ],
    ids=["configure", "configure_all", "remove", "resume", "status", "configured"],
)
def test_a_bad_name_is_refused(name: Any, call: Callable[[Any], object]) -> None:
    """An invalid name raises a `FailpointNameError`, also a `ValueError`, whose message shows the name."""
    with pytest.raises(FailpointNameError, match=re.escape(repr(name))[:20] if name != "" else "empty") as caught:
        call(name)
    assert isinstance(caught.value, FailpointError) and isinstance(caught.value, ValueError)
    assert statuses() == []


BAD_CONFIGURATIONS = [
    pytest.param(("held", "of"), ActionSyntaxError, id="misspelt actions"),
    pytest.param(("held", ""), ActionSyntaxError, id="no actions"),
    pytest.param(("held", []), FailpointUsageError, id="an empty sequence"),
    pytest.param(("held", OSError), FailpointUsageError, id="an exception"),
    pytest.param(("held", Return), FailpointUsageError, id="a class"),
    pytest.param(("held", 100), FailpointUsageError, id="a number"),
    pytest.param(("held", [Off(), "off"]), FailpointUsageError, id="a text in a sequence"),
    pytest.param(("held", "off", {"k": "("}), FailpointNameError, id="a bad pattern"),
    pytest.param(("held", "off", {"k": re.compile(b"a")}), FailpointNameError, id="a pattern for bytes"),
    pytest.param(("held", "off", {1: "a"}), FailpointUsageError, id="a matcher's key that is not a str"),
    pytest.param(("held", "off", ["k"]), FailpointUsageError, id="matchers that are not a mapping"),
    pytest.param(("he ld", "off"), FailpointNameError, id="a bad name"),
]


@pytest.mark.parametrize(("arguments", "error"), BAD_CONFIGURATIONS)
@pytest.mark.parametrize("function", ["configure", "configure_all"])
def test_a_bad_configuration_changes_nothing(
    function: str, arguments: tuple[Any, ...], error: type[Exception], held: threading.Thread
) -> None:
    """After any error in `configure` or `configure_all`, configurations, counts and waiters are unchanged."""
    before = statuses()
    with pytest.raises(error) as caught:
        if function == "configure":
            configure(arguments[0], arguments[1], context=arguments[2] if len(arguments) > 2 else None)
        else:
            configure_all([("held", "off"), ("new", "off"), arguments])  # type: ignore[list-item]
    assert isinstance(caught.value, FailpointError)
    assert statuses() == before
    assert before[0].waiting and held.is_alive()


@pytest.mark.parametrize(
    "entry",
    [("held",), ("held", "off", None, None), "ab", "held=off", None, 5, {"held": "off"}, []],
    ids=repr,
)
def test_configure_all_refuses_an_entry_of_a_wrong_shape(entry: Any, held: threading.Thread) -> None:
    """Any entry other than `(name, actions)` or `(name, actions, context)` is a usage error and changes nothing."""
    before = statuses()
    with pytest.raises(FailpointUsageError, match="an entry of configure_all must be"):
        configure_all([("held", "off"), entry])
    assert statuses() == before
    assert held.is_alive()


def test_configure_all_installs_nothing_when_its_entries_raise(held: threading.Thread) -> None:
    """If the iterable of entries raises halfway, nothing is configured."""

    def entries() -> Iterator[tuple[str, str]]:
        yield "held", "off"
        raise ZeroDivisionError

    before = statuses()
    with pytest.raises(ZeroDivisionError):
        configure_all(entries())
    assert statuses() == before
    assert held.is_alive()


def test_configure_all_installs_every_entry(held: threading.Thread) -> None:
    """`configure_all` configures every entry and wakes waiters. The last entry of a name wins."""
    configure_all([("held", "off"), ["a", "return(1)"], ("b", Return(2), {"k": "v.*"}), ("a", "return(3)", None)])
    held.join(5)
    assert not held.is_alive()
    assert [each.name for each in statuses()] == ["a", "b", "held"]
    assert (hit("a"), hit("b"), hit("b", k="v1")) == (Return("3"), Continue(), Return(2))
    remove("a")
    assert [each.name for each in statuses()] == ["b", "held"]


def test_configure_all_of_nothing_does_nothing() -> None:
    """`configure_all` accepts an empty list."""
    configure_all([])
    assert statuses() == []


# removing, resuming


def test_remove_ends_one_failpoint_only() -> None:
    """`remove` affects one name only, and does nothing if that name is not configured."""
    configure_all([("a", "return"), ("b", "return")])
    remove("a")
    remove("a")
    remove("never.configured")
    assert (hit("a"), hit("b")) == (Continue(), Return())


def test_reset_removes_everything(held: threading.Thread) -> None:
    """`reset` removes every configuration and wakes every waiter. It may be called again."""
    configure("a", "return")
    reset()
    held.join(5)
    assert not held.is_alive()
    assert (hit("a"), statuses()) == (Continue(), [])
    reset()


def test_resume_wakes_waiters_and_keeps_the_configuration(held: threading.Thread) -> None:
    """`resume` returns the number of waiters that it woke, and later visits pause again."""
    assert resume("held") == 1
    held.join(5)
    assert not held.is_alive()
    again = threading.Thread(target=hit, args=("held",), daemon=True)
    again.start()
    wait_until_paused_sync("held", timeout=5)
    assert (resume("other"), resume("held"), resume("held")) == (0, 1, 0)
    again.join(5)
    assert not again.is_alive()
    assert status("held").hits == 2


def test_remove_keeps_no_reference_to_the_configuration() -> None:
    """`remove` drops every reference to the name, the values and the context."""

    class Value:
        pass

    values: weakref.WeakSet[Value] = weakref.WeakSet()
    for number in range(100):
        value = Value()
        values.add(value)
        configure(f"registry.shard.{number}", Return(value), context={"k": value})
        configure(f"registry.shard.{number}", Return(value), context={"k": value})
        assert failpoint(f"registry.shard.{number}", context={"k": value}).hit() == Return(value)
        remove(f"registry.shard.{number}")
    del value
    gc.collect()
    assert len(values) == 0
    for kept in (PROCESS_STORE, PROCESS_STORE._not_ended, PROCESS_STORE._watches._watches):
        assert "registry.shard" not in repr(vars(kept))
    assert not ARMED


# reading the status


def test_status_of_an_unconfigured_failpoint() -> None:
    """The status of an unconfigured failpoint has no actions, no matchers, and zero counts."""
    assert status("registry.unknown") == FailpointStatus("registry.unknown")
    assert status("registry.unknown") == FailpointStatus(
        name="registry.unknown",
        actions=(),
        matchers=None,
        hits=0,
        misses=0,
        last_miss=None,
        last_mismatch=None,
        triggers=0,
        waiting=(),
        sites=(),
    )


def test_status_has_the_configuration_and_the_counts() -> None:
    """`status` has the actions, the matchers as given, the counts, and the context of the last miss."""

    def even(number: int) -> bool:
        return number % 2 == 0

    configure("x", "1*return(7)", context={"tenant_id": "t.*", "n": even, "shard": 3})
    outcomes = [
        hit(tenant_id="t1", n=2, shard=3),
        hit(tenant_id="t1", n=3, shard=3),
        hit(tenant_id="t1", n=2, shard=3),
        hit(tenant_id="u1", n=2, shard=3),
    ]
    assert outcomes == [Return("7"), Continue(), Continue(), Continue()]
    now = status("x")
    assert now.actions == (Term(Return("7"), times=1),)
    assert now.matchers == {"tenant_id": "t.*", "n": even, "shard": 3}
    assert (now.hits, now.misses, now.triggers, now.waiting) == (2, 2, 1, ())
    assert now.last_miss == {"tenant_id": "u1", "n": 2, "shard": 3}
    assert now.last_mismatch == "tenant_id='u1' does not match 't.*'"


def test_reading_the_status_changes_nothing(held: threading.Thread) -> None:
    """`status` and `statuses` change no counts, use up no actions, and wake no waiters."""
    configure("x", "1*return(7)")
    first = [(status("x"), statuses()) for _ in range(3)]
    assert first == [first[0]] * 3
    assert held.is_alive()
    assert hit() == Return("7")


def test_status_shows_the_waiters(held: threading.Thread) -> None:
    """A `waiting` entry has the thread's name, the context of its visit, and the time when the wait began."""
    now = datetime.now(UTC)
    (waiting,) = status("held").waiting
    assert (waiting.name, waiting.context) == (held.name, {"tenant_id": "t1"})
    assert 0 <= (now - waiting.since).total_seconds() < 60


def test_statuses_are_sorted_by_name() -> None:
    """`statuses` returns the status of every configured failpoint, sorted by name."""
    for name in ("c", "a", "b"):
        configure(name, "off")
    hit("b")
    assert statuses() == [status("a"), status("b"), status("c")]


# counting


def test_configuring_again_resets_the_counts() -> None:
    """Configuring a failpoint again resets its counts, even with the same actions."""
    for _ in range(2):
        configure("x", "1*return(7)->off", context={"k": "a"})
        assert [hit(k=k) for k in ("a", "a", "b")] == [Return("7"), Continue(), Continue()]
        now = status("x")
        assert (now.hits, now.misses, now.triggers) == (2, 1, 2)
    configure("x", "off")
    alone = FailpointStatus("x", (Term(Off()),), {}, sites=status("x").sites)
    assert status("x") == dataclasses.replace(alone, configurations=(alone,))


def test_an_off_term_triggers_and_uses_up_the_hit() -> None:
    """An `off` term counts as a trigger and uses up the hit. A hit with no term left is not a trigger."""
    configure("x", "2*off->1*return(7)")
    assert [hit() for _ in range(4)] == [Continue(), Continue(), Return("7"), Continue()]
    assert (status("x").hits, status("x").triggers) == (4, 3)


@pytest.mark.parametrize("context", [{}, {"other": "test_1"}, {"tenant_id": "production_1"}], ids=str)
def test_a_miss_uses_up_no_term_and_no_draw(context: dict[str, str]) -> None:
    """A miss uses up no count, draw or term, and `status` has the context of the last miss."""
    seed(1)
    configure("x", "50%return", context={"tenant_id": "test_.*"})
    wanted = [bool(hit(tenant_id="test_1")) for _ in range(DRAWS)]
    configure("x", "50%return", context={"tenant_id": "test_.*"})
    got: list[bool] = []
    for _ in range(DRAWS):
        assert hit(**context) == Continue()
        got.append(bool(hit(tenant_id="test_1")))
    assert got == wanted
    assert (status("x").misses, status("x").last_miss) == (DRAWS, context)
    configure("x", "1*return", context={"tenant_id": "test_.*"})
    assert [hit(**context), hit(tenant_id="test_1"), hit(tenant_id="test_1")] == [Continue(), Return(), Continue()]
    assert (status("x").hits, status("x").misses, status("x").triggers) == (2, 1, 1)


# probabilities


@pytest.mark.parametrize(("percentage", "triggers"), [("0", 0), ("0.0", 0), ("100", 50), ("100.0", 50)])
def test_probabilities_of_0_and_100_percent(percentage: str, triggers: int) -> None:
    """A term with 0% never triggers, and one with 100% always does."""
    configure("x", f"{percentage}%return")
    assert sum(draws("x", 50)) == triggers
    assert (status("x").hits, status("x").triggers) == (50, triggers)


def test_25_percent_triggers_about_a_quarter_of_the_hits() -> None:
    """A term with 25% triggers at about a quarter of 1,000 hits."""
    seed(1)
    configure("x", "25%return")
    assert 200 < sum(draws("x", 1000)) < 300


def test_the_same_seed_and_name_give_the_same_draws() -> None:
    """Draws depend only on the seed and the name. `configure` and `seed` restart them."""
    seed(1)
    configure("x", "50%return")
    first = draws("x")
    configure("x", "50%return")
    assert draws("x") == first
    seed(1)
    assert draws("x") == first
    seed(2)
    assert draws("x") != first
    configure("y", "50%return")
    seed(1)
    assert draws("y") != first


def test_another_failpoint_does_not_disturb_the_draws() -> None:
    """Draws of one failpoint do not affect those of another."""
    seed(1)
    configure("x", "50%return")
    first = draws("x")
    configure_all([("x", "50%return"), ("y", "50%return")])
    between: list[bool] = []
    for _ in range(DRAWS):
        draws("y", 3)
        between.append(bool(hit("x")))
    assert between == first


def test_a_separate_registry_gives_the_same_draws() -> None:
    """The same seed and name give the same draws in every registry."""
    seed(1)
    configure("x", "50%return")
    first = draws("x")
    with Registry() as own:
        own.seed(1)
        own.configure("x", "50%return")
        assert draws("x") == first


def test_without_a_seed_the_draws_differ() -> None:
    """After `seed(None)`, which is the default, the draws are random."""
    seed(1)
    seed(None)
    configure("x", "50%return")
    first = draws("x")
    configure("x", "50%return")
    assert draws("x") != first


@pytest.mark.parametrize("bad", [1.5, "1", True, b"1"], ids=repr)
def test_a_seed_must_be_an_int(bad: Any) -> None:
    """`seed` refuses a value that is not an `int`."""
    with pytest.raises(FailpointUsageError, match="a seed is an int"):
        seed(bad)


@pytest.mark.parametrize("actions", ["50%2*return", "2*50%return"])
def test_only_a_trigger_uses_up_the_count(actions: str) -> None:
    """Only hits that pass the probability use up the count of a term."""
    seed(1)
    configure("x", "50%return")
    chances = draws("x")
    configure("x", actions)
    lucky = [index for index, chance in enumerate(chances) if chance][:2]
    assert [index for index, triggered in enumerate(draws("x")) if triggered] == lucky


def test_a_spent_term_still_draws() -> None:
    """A spent term still draws, so later terms see the same draws as before."""
    seed(1)
    configure("x", "50%return")
    chances = iter(draws("x", 2 * DRAWS))
    wanted: list[Outcome] = []
    left = 1
    for _ in range(DRAWS):
        if next(chances) and left:
            left -= 1
            wanted.append(Return("a"))
        else:
            wanted.append(Return("b") if next(chances) else Continue())
    configure("x", "50%1*return(a)->50%return(b)")
    assert [hit() for _ in range(DRAWS)] == wanted


# sites


def test_sites_are_shown_as_file_and_line() -> None:
    """`status` lists the file and line of each site once: decorated functions, scopes and inline calls."""

    @failpoint("registry.site")
    def decorated() -> None:
        with failpoint_scope("registry.scope"):
            failpoint("registry.inline").hit()

    line = inspect.getsourcelines(decorated)[1]
    assert status("registry.site").sites == status("registry.site:after").sites == (f"{HERE}:{line}",)
    assert status("registry.scope").sites == ()  # not reached yet
    configure("registry.scope", "off")
    configure("registry.inline", "off")
    for _ in range(3):
        decorated()
    assert status("registry.scope").sites == status("registry.scope:after").sites == (f"{HERE}:{line + 2}",)
    assert status("registry.inline").sites == (f"{HERE}:{line + 3}",)
    configure("registry.inline", "off")
    assert status("registry.inline").sites == statuses()[0].sites == (f"{HERE}:{line + 3}",)


def test_a_scope_over_several_lines_is_one_site() -> None:
    """A scope is one site, whether its block ends normally, with `return` or with `continue`."""

    def several(how: str) -> None:
        for _ in range(2):
            with (
                failpoint_scope("registry.first"),
                failpoint_scope(
                    "registry.second",
                    context={"how": how},
                ),
            ):
                if how == "return":
                    return
                if how == "continue":
                    continue

    configure_all([("registry.first", "off"), ("registry.second:after", "off")])
    for how in ("end", "return", "continue"):
        several(how)
    for name in ("registry.first", "registry.second", "registry.second:after"):
        assert len(status(name).sites) == 1, status(name).sites


def test_one_name_can_have_several_sites() -> None:
    """A name used at two places has two sites, in the order in which they were first reached."""
    configure("registry.twice", "off")
    line = inspect.currentframe().f_lineno  # type: ignore[union-attr]
    failpoint("registry.twice").hit()
    failpoint("registry.twice").hit()
    assert status("registry.twice").sites == (f"{HERE}:{line + 1}", f"{HERE}:{line + 2}")


def test_the_package_functions_are_methods_of_the_process_wide_registry() -> None:
    """The package has every public method of the process-wide registry, but `bound`: it reaches all threads."""
    for name in [name for name in vars(Registry) if not name.startswith("_") and name != "bound"]:
        assert getattr(failpoints, name) == getattr(PROCESS_WIDE, name)


def test_status_shows_text_as_terms() -> None:
    """`status` has `Term` objects, even if the actions were configured as text."""
    configure("x", "25%3*pause(1.5s)->100")
    assert status("x").actions == (Term(Pause(1500), 0.25, 3), Term(Sleep(100)))
