"""Configuring, removing and looking: what the functions of the registry take, refuse and count."""

from __future__ import annotations

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
from failpoints._core.arming import ARMED
from failpoints._core.registry import PROCESS_WIDE
from failpoints._core.store import PROCESS_STORE

HERE = __file__
DRAWS = 64  # two sequences of so many even chances are the same once in 10**19 runs


def hit(name: str = "x", **context: Any) -> Outcome:
    """Visit the failpoint once."""
    return failpoint(name, context=context).hit()


def draws(name: str, count: int = DRAWS) -> list[bool]:
    """Which of so many visits triggered."""
    return [bool(hit(name)) for _ in range(count)]


@pytest.fixture
def held() -> Iterator[threading.Thread]:
    """A thread that is paused at the failpoint `held`."""
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
    """`configure` takes a text, one action, one term, or a sequence of the two, and `status` shows the terms."""
    configure("x", actions)
    terms = [actions] if not isinstance(actions, (list, tuple)) else actions
    wanted = (Term(Return("7")),) if actions == "return(7)" else tuple(_term(item) for item in terms)
    assert status("x").actions == wanted
    assert hit() == (wanted[0].action if isinstance(wanted[0].action, Return) else Continue())


def _term(item: Any) -> Term:
    return item if isinstance(item, Term) else Term(item)


@pytest.mark.parametrize("name", ["a", "a::b", "a.b:after", "a/wait", "naïve", "100%", "(", "\N{SNOWMAN}"])
def test_a_name_is_printable_and_has_no_white_space(name: str) -> None:
    """Every printable text without white space, `=` and `;` is a name."""
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
    """What cannot be a name is a `FailpointNameError`, a `FailpointError` that is also a `ValueError`, and shown."""
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
    pytest.param(("held", "off", {1: "a"}), FailpointUsageError, id="a matcher's key that is no str"),
    pytest.param(("held", "off", ["k"]), FailpointUsageError, id="matchers that are no mapping"),
    pytest.param(("he ld", "off"), FailpointNameError, id="a bad name"),
]


@pytest.mark.parametrize(("arguments", "error"), BAD_CONFIGURATIONS)
@pytest.mark.parametrize("function", ["configure", "configure_all"])
def test_a_bad_configuration_changes_nothing(
    function: str, arguments: tuple[Any, ...], error: type[Exception], held: threading.Thread
) -> None:
    """On any error `configure` and `configure_all` leave what is configured, its counts and its waiters as they are."""
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
    """An entry that is no `(name, actions)` or `(name, actions, context)` is a usage error, and changes nothing."""
    before = statuses()
    with pytest.raises(FailpointUsageError, match="an entry of configure_all is"):
        configure_all([("held", "off"), entry])
    assert statuses() == before
    assert held.is_alive()


def test_configure_all_installs_nothing_when_its_entries_raise(held: threading.Thread) -> None:
    """An iterable of entries that raises half way has configured nothing."""

    def entries() -> Iterator[tuple[str, str]]:
        yield "held", "off"
        raise ZeroDivisionError

    before = statuses()
    with pytest.raises(ZeroDivisionError):
        configure_all(entries())
    assert statuses() == before
    assert held.is_alive()


def test_configure_all_installs_every_entry(held: threading.Thread) -> None:
    """`configure_all` configures every entry, with its matchers, the later one of a name, and wakes who waited."""
    configure_all([("held", "off"), ["a", "return(1)"], ("b", Return(2), {"k": "v.*"}), ("a", "return(3)", None)])
    held.join(5)
    assert not held.is_alive()
    assert [each.name for each in statuses()] == ["a", "b", "held"]
    assert (hit("a"), hit("b"), hit("b", k="v1")) == (Return("3"), Continue(), Return(2))
    remove("a")
    assert [each.name for each in statuses()] == ["b", "held"]


def test_configure_all_of_nothing_does_nothing() -> None:
    """No entries at all are no error."""
    configure_all([])
    assert statuses() == []


# removing, resuming


def test_remove_ends_one_failpoint_only() -> None:
    """`remove` ends what was configured under the name, and nothing else; where there is nothing it is no error."""
    configure_all([("a", "return"), ("b", "return")])
    remove("a")
    remove("a")
    remove("never.configured")
    assert (hit("a"), hit("b")) == (Continue(), Return())


def test_reset_ends_everything(held: threading.Thread) -> None:
    """`reset` ends every configuration and wakes everyone, and is no error when there is none."""
    configure("a", "return")
    reset()
    held.join(5)
    assert not held.is_alive()
    assert (hit("a"), statuses()) == (Continue(), [])
    reset()


def test_resume_wakes_who_waits_without_disarming(held: threading.Thread) -> None:
    """`resume` returns how many it woke, and the next visit is held again; nobody there or not configured is 0."""
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


def test_what_was_removed_is_forgotten() -> None:
    """Names that were configured, hit and removed leave nothing behind: neither what was given nor the name."""

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


# looking


def test_status_of_what_is_not_configured() -> None:
    """A failpoint that is not configured has no actions, no matchers, and zeros."""
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


def test_status_shows_what_was_configured_and_happened() -> None:
    """`status` has the actions, the matchers as they were given, the counts and the last miss's context."""

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


def test_reading_changes_nothing(held: threading.Thread) -> None:
    """`status` and `statuses` count nothing, use up nothing and wake nobody."""
    configure("x", "1*return(7)")
    first = [(status("x"), statuses()) for _ in range(3)]
    assert first == [first[0]] * 3
    assert held.is_alive()
    assert hit() == Return("7")


def test_status_shows_who_waits(held: threading.Thread) -> None:
    """`waiting` has the thread's name, the context of its visit, and since when it waits."""
    now = datetime.now(UTC)
    (waiting,) = status("held").waiting
    assert (waiting.name, waiting.context) == (held.name, {"tenant_id": "t1"})
    assert 0 <= (now - waiting.since).total_seconds() < 60


def test_statuses_are_in_the_order_of_their_names() -> None:
    """`statuses` has one status for every failpoint that is configured, as `status` gives it."""
    for name in ("c", "a", "b"):
        configure(name, "off")
    hit("b")
    assert statuses() == [status("a"), status("b"), status("c")]


# counting


def test_counts_are_since_the_current_configuration() -> None:
    """Configuring a failpoint again, even with the same actions, begins all its counts anew."""
    for _ in range(2):
        configure("x", "1*return(7)->off", context={"k": "a"})
        assert [hit(k=k) for k in ("a", "a", "b")] == [Return("7"), Continue(), Continue()]
        now = status("x")
        assert (now.hits, now.misses, now.triggers) == (2, 1, 2)
    configure("x", "off")
    assert status("x") == FailpointStatus("x", (Term(Off()),), {}, sites=status("x").sites)


def test_a_chosen_off_triggers_and_uses_up_the_hit() -> None:
    """`2*off->1*return` lets two hits pass, which count as triggers, and a hit with nothing due is none."""
    configure("x", "2*off->1*return(7)")
    assert [hit() for _ in range(4)] == [Continue(), Continue(), Return("7"), Continue()]
    assert (status("x").hits, status("x").triggers) == (4, 3)


@pytest.mark.parametrize("context", [{}, {"other": "test_1"}, {"tenant_id": "production_1"}], ids=str)
def test_a_miss_uses_up_nothing_and_the_last_one_is_kept(context: dict[str, str]) -> None:
    """A miss counts as a miss only: the count, the chance and the term stay for the next hit."""
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


# chances


@pytest.mark.parametrize(("percentage", "triggers"), [("0", 0), ("0.0", 0), ("100", 50), ("100.0", 50)])
def test_never_and_always(percentage: str, triggers: int) -> None:
    """0% never triggers and 100% always does."""
    configure("x", f"{percentage}%return")
    assert sum(draws("x", 50)) == triggers
    assert (status("x").hits, status("x").triggers) == (50, triggers)


def test_a_chance_is_about_as_large_as_it_says() -> None:
    """25% triggers about a quarter of a thousand hits."""
    seed(1)
    configure("x", "25%return")
    assert 200 < sum(draws("x", 1000)) < 300


def test_the_same_seed_and_name_draw_the_same() -> None:
    """The draws depend on the seed and the name alone, and `configure` and `seed` begin them anew."""
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
    """One failpoint's draws stay the same however often another one draws in between."""
    seed(1)
    configure("x", "50%return")
    first = draws("x")
    configure_all([("x", "50%return"), ("y", "50%return")])
    between: list[bool] = []
    for _ in range(DRAWS):
        draws("y", 3)
        between.append(bool(hit("x")))
    assert between == first


def test_a_registry_of_ones_own_draws_the_same() -> None:
    """The draws are made of the seed and the name, in whichever registry they are made."""
    seed(1)
    configure("x", "50%return")
    first = draws("x")
    with Registry() as own:
        own.seed(1)
        own.configure("x", "50%return")
        assert draws("x") == first


def test_without_a_seed_the_draws_differ() -> None:
    """`seed(None)`, as at the start, is any seed."""
    seed(1)
    seed(None)
    configure("x", "50%return")
    first = draws("x")
    configure("x", "50%return")
    assert draws("x") != first


@pytest.mark.parametrize("bad", [1.5, "1", True, b"1"], ids=repr)
def test_a_seed_is_a_whole_number(bad: Any) -> None:
    """What is no `int` is no seed."""
    with pytest.raises(FailpointUsageError, match="a seed is an int"):
        seed(bad)


@pytest.mark.parametrize("actions", ["50%2*return", "2*50%return"])
def test_only_a_trigger_uses_up_the_count(actions: str) -> None:
    """Hits whose chance fails leave the count alone: the first two that the chance lets through trigger."""
    seed(1)
    configure("x", "50%return")
    chances = draws("x")
    configure("x", actions)
    lucky = [index for index, chance in enumerate(chances) if chance][:2]
    assert [index for index, triggered in enumerate(draws("x")) if triggered] == lucky


def test_the_chance_is_drawn_before_the_count_is_looked_at() -> None:
    """A term that is spent draws as before, so that the terms after it see the same chances."""
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
    """`status` has the file and line of each decorated function, scope and inline call that bears the name, once."""

    @failpoint("registry.site")
    def decorated() -> None:
        with failpoint_scope("registry.scope"):
            failpoint("registry.inline").hit()

    line = inspect.getsourcelines(decorated)[1]
    assert status("registry.site").sites == status("registry.site:after").sites == (f"{HERE}:{line}",)
    assert status("registry.scope").sites == ()  # not reached yet
    configure("registry.other", "off")
    for _ in range(3):
        decorated()
    assert status("registry.scope").sites == status("registry.scope:after").sites == (f"{HERE}:{line + 2}",)
    assert status("registry.inline").sites == (f"{HERE}:{line + 3}",)
    configure("registry.inline", "off")
    assert status("registry.inline").sites == statuses()[0].sites == (f"{HERE}:{line + 3}",)


def test_a_scope_over_several_lines_is_one_site() -> None:
    """A scope that is left by the end of its block, by `return` or by `continue` is one site still."""

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

    configure("registry.other", "off")
    for how in ("end", "return", "continue"):
        several(how)
    for name in ("registry.first", "registry.second", "registry.second:after"):
        assert len(status(name).sites) == 1, status(name).sites


def test_every_place_of_one_name_is_a_site() -> None:
    """A name at two places has two sites, in the order in which they were met."""
    configure("registry.twice", "off")
    line = inspect.currentframe().f_lineno  # type: ignore[union-attr]
    failpoint("registry.twice").hit()
    failpoint("registry.twice").hit()
    assert status("registry.twice").sites == (f"{HERE}:{line + 1}", f"{HERE}:{line + 2}")


def test_a_registry_has_what_the_package_has() -> None:
    """The package has a function for every public method of `Registry`, that of the process-wide registry."""
    for name in [name for name in vars(Registry) if not name.startswith("_")]:
        assert getattr(failpoints, name) == getattr(PROCESS_WIDE, name)


def test_pause_and_sleep_are_seen_as_configured() -> None:
    """`status` shows terms in Python, whatever they were configured with."""
    configure("x", "25%3*pause(1.5s)->100")
    assert status("x").actions == (Term(Pause(1500), 0.25, 3), Term(Sleep(100)))
