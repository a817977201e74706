"""`failpoints check`: actions read aloud."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from failpoints import ActionSyntaxError, parse_actions
from failpoints._cli.explanation import explain, explanation_lines


def said(text: str) -> list[str]:
    explanation = explain(text)
    return [term.says for term in explanation.terms] + ([explanation.rest] if explanation.rest else [])


REST = "nothing, and the program goes on"
UNTIL = "waits until it is reconfigured, removed, resumed or cancelled"


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("pause", [f"every time: {UNTIL}"]),
        ("1*yield", ["the first time: lets other tasks (or threads) run once", f"then: {REST}"]),
        ("2*off->pause", ["the first 2 times: nothing; the hit is used up", f"then every time: {UNTIL}"]),
        (
            "2*off->1*return",
            ["the first 2 times: nothing; the hit is used up", "then once: returns None", f"then: {REST}"],
        ),
        (
            "1*off->3*break",
            ["the first time: nothing; the hit is used up", "then 3 times: calls breakpoint()", f"then: {REST}"],
        ),
        ("25%3*return(x)", ["with a chance of 25 %, 3 times at most: returns 'x'", f"otherwise: {REST}"]),
        ("25%1*return(x)", ["with a chance of 25 %, once at most: returns 'x'", f"otherwise: {REST}"]),
        (
            "2*off->25%break->pause",
            [
                "the first 2 times: nothing; the hit is used up",
                "then, with a chance of 25 %: calls breakpoint()",
                f"otherwise: {UNTIL}",
            ],
        ),
        (
            "25%break->10%yield->2*pause->1*off",
            [
                "with a chance of 25 %: calls breakpoint()",
                "otherwise, with a chance of 10 %: lets other tasks (or threads) run once",
                f"otherwise, 2 times at most: {UNTIL}",
                "otherwise, once: nothing; the hit is used up",
                f"otherwise: {REST}",
            ],
        ),
        ("0.5%off", ["with a chance of 0.5 % (1 in 200): nothing; the hit is used up", f"otherwise: {REST}"]),
        (
            "0.000000001%off",
            [
                "with a chance of 0.000000001 % (1 in 100,000,000,000): nothing; the hit is used up",
                f"otherwise: {REST}",
            ],
        ),
        (
            f"0.{'0' * 310}1%off",
            [f"with a chance of 0.{'0' * 310}1 %: nothing; the hit is used up", f"otherwise: {REST}"],
        ),
        ("pause(30s)", [f"every time: {UNTIL}; after 30 s raises FailpointTimeout"]),
        ("sleep(100)", ["every time: waits 100 ms"]),
        ("sleep(1.5s)", ["every time: waits 1.5 s"]),
        ("sleep(2m)", ["every time: waits 2 min"]),
        ("sleep(0.0001)", ["every time: waits 0.0001 ms"]),
        ("sleep(0)", ["every time: waits 0 ms"]),
        ("delay(90s)", ["every time: blocks the thread for 1.5 min"]),
        ("raise", ["every time: raises InjectedFault"]),
        ("raise(OSError)", ["every time: raises OSError"]),
        ("raise(OSError: disk full)", ["every time: raises OSError with the message 'disk full'"]),
        ("panic", ["every time: raises FailpointPanic"]),
        ("panic(no)", ["every time: raises FailpointPanic with the message 'no'"]),
        ("exit", ["every time: ends the process at once, with exit status 1"]),
        ("exit(3)", ["every time: ends the process at once, with exit status 3"]),
        ("1*exit", ["the first time: ends the process at once, with exit status 1"]),
        ("2*exit", ["the first time: ends the process at once, with exit status 1"]),
        (
            "2*off->3*exit",
            [
                "the first 2 times: nothing; the hit is used up",
                "then once: ends the process at once, with exit status 1",
            ],
        ),
        (
            "50%2*exit->1*panic->pause",
            [
                "with a chance of 50 %, once at most: ends the process at once, with exit status 1",
                "otherwise, once: raises FailpointPanic",
                f"otherwise: {UNTIL}",
            ],
        ),
        ("print", ["every time: logs at INFO that it was reached"]),
        ("print(here)", ["every time: logs 'here' at INFO"]),
    ],
)
def test_a_term_is_a_sentence(text: str, sentences: list[str]) -> None:
    """Each term says when it triggers and what it then does, and the end what happens if none does."""
    assert said(text) == sentences
    assert explain(text).sound


@pytest.mark.parametrize(
    ("text", "never"),
    [
        ("pause->sleep(1)", {2: "term 1 takes every hit that comes so far"}),
        ("2*off->return->25%panic->off", dict.fromkeys((3, 4), "term 2 takes every hit that comes so far")),
        ("100%off->pause", {2: "term 1 takes every hit that comes so far"}),
        ("0%pause", {1: "its chance is 0 %"}),
        ("0%2*pause->off", {1: "its chance is 0 %"}),
        ("1*exit->pause", {2: "term 1 ends the process at the first hit that comes so far"}),
        ("2*off->3*exit->2*exit", {3: "term 2 ends the process at the first hit that comes so far"}),
        ("25%off->pause", {}),
        ("1000*off->pause", {}),
        ("50%exit->pause", {}),
        ("50%1*exit->pause", {}),
        ("1*panic->1*raise->pause", {}),
    ],
)
def test_what_can_never_trigger_says_so(text: str, never: dict[int, str]) -> None:
    """A term behind one that always triggers, or whose chance is 0 %, can never trigger."""
    explanation = explain(text)
    found = {number: term.says for number, term in enumerate(explanation.terms, start=1) if term.never}
    assert found == {number: f"can never trigger: {why}" for number, why in never.items()}
    assert explanation.sound is not bool(never)


def test_what_never_triggers_is_passed_over() -> None:
    """The term after one that never triggers is the first."""
    assert said("0%pause->1*off") == [
        "can never trigger: its chance is 0 %",
        "the first time: nothing; the hit is used up",
        f"then: {REST}",
    ]
    assert said("0%pause")[1:] == [f"every time: {REST}"]


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("100", "a bare number is a sleep in milliseconds: sleep(100)"),
        ("25%3*1.5", "a bare number is a sleep in milliseconds: sleep(1.5)"),
        (
            "return(42)",
            "a decorated function converts '42' by its convert= or its return annotation; inline it stays a text",
        ),
        ("raise(GatewayDown)", "GatewayDown is no builtin exception: the site has to declare it in raises="),
        (
            "raise(TimeoutErorr)",
            "TimeoutErorr is no builtin exception: the site has to declare it in raises=; did you mean 'TimeoutError'?",
        ),
        (
            "raise(UnicodeDecodeError)",
            "no UnicodeDecodeError can be made of a message alone: the site will say so in its place",
        ),
        ("raise(KeyboardInterrupt)", "no `except Exception` catches KeyboardInterrupt"),
        (
            "raise(StopIteration)",
            "Python makes a RuntimeError of a StopIteration that leaves a coroutine or a generator",
        ),
        ("panic", "it is a BaseException: no `except Exception` catches it"),
        ("exit(0)", "no `finally` runs and nothing is flushed, as in a crash"),
        ("delay(1)", "it blocks the event loop, too, and all its tasks; sleep(…) does not"),
        ("break", "the debugger that it starts wants a terminal"),
    ],
)
def test_what_may_surprise_is_noted(text: str, note: str) -> None:
    """What people take for something else has a note."""
    assert [note] == [note for term in explain(text).terms for note in term.notes]


@pytest.mark.parametrize("text", ["2*exit", "50%2*exit"])
def test_a_process_ends_once(text: str) -> None:
    """A count of more than one exit says more than can happen, which is noted; a count of one is not."""
    assert explain(text).terms[0].notes == (
        *explain("1*exit").terms[0].notes,
        "it can happen only once in a process, whatever the count of 2 says",
    )


@pytest.mark.parametrize("text", ["off", "pause", "sleep(100)", "return", "raise", "raise(OSError: no)", "print(1)"])
def test_what_surprises_nobody_has_no_note(text: str) -> None:
    """The rest is said without a note."""
    assert explain(text).terms[0].notes == ()


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        (" 2 * off ->  25 % return( a->b ) -> pause ", ["2 * off", "25 % return( a->b )", "pause"]),
        ('print("->off")->print((->))->off', ['print("->off")', "print((->))", "off"]),
        ("1*100->2*100->100", ["1*100", "2*100", "100"]),
        ("1*return(off->off)->return", ["1*return(off->off)", "return"]),
    ],
)
def test_a_term_is_shown_as_it_was_written(text: str, pieces: list[str]) -> None:
    """Terms are cut where they end, and not at an arrow within an argument."""
    assert [term.text for term in explain(text).terms] == pieces


WHOLE = st.integers(0, 320).map(lambda zeros: f"1{'0' * zeros}")
FRACTIONS = st.integers(0, 330).map(lambda zeros: f"0.{'0' * zeros}1")
WORDS = [
    "off",
    "sleep(",
    "pause(",
    "delay(",
    "return(",
    "exit",
    "panic",
    "(",
    ")",
    "s)",
    "m)",
    "%",
    "*",
    "->",
    '"',
    "\\",
]


@given(
    st.text(alphabet='12%*->()" .aoffpuseretnx\\', max_size=30)
    | st.lists(st.sampled_from(WORDS) | WHOLE | FRACTIONS, max_size=12).map("".join)
    | st.builds("{}%{}*{}->{}".format, FRACTIONS, WHOLE, st.sampled_from(["off", "exit"]), WHOLE)
    | st.builds("{}%{}({}{})".format, FRACTIONS, st.sampled_from(["sleep", "pause"]), WHOLE | FRACTIONS, st.just("m"))
)
@example("off->2*return(->)->1")
@example(f"0.{'0' * 310}1%off")
def test_any_text_is_explained_or_refused(text: str) -> None:
    """Whatever is given is explained term by term if it can be read, and else refused as it is everywhere."""
    try:
        terms = parse_actions(text)
    except ActionSyntaxError:
        with pytest.raises(ActionSyntaxError):
            explain(text)
        return
    assert len(explain(text).terms) == len(terms)
    assert "->".join(term.text for term in explain(text).terms).replace(" ", "") == text.replace(" ", "")


def test_the_lines_are_columns() -> None:
    """Sentences stand below each other, a note below its sentence, and a term that is too long on a line of its own."""
    assert list(explanation_lines(explain("2*off->1*return(a text of many, many letters)->100"))) == [
        "1. 2*off  the first 2 times: nothing; the hit is used up",
        "2. 1*return(a text of many, many letters)",
        "          then once: returns 'a text of many, many letters'",
        "          note: a decorated function converts 'a text of many, many letters' by its convert= or its return"
        " annotation; inline it stays a text",
        "3. 100    then every time: waits 100 ms",
        "          note: a bare number is a sleep in milliseconds: sleep(100)",
    ]


@pytest.mark.parametrize("width", [20, 45, 80])
def test_the_lines_are_folded_at_a_terminal(width: int) -> None:
    """At a terminal no line is wider than it, unless it is too narrow for that."""
    lines = list(explanation_lines(explain("2*off->25%delay(1)"), width))
    assert width == 20 or max(map(len, lines)) <= width
    assert " ".join(" ".join(lines).split()) == (
        "1. 2*off the first 2 times: nothing; the hit is used up"
        " 2. 25%delay(1) then, with a chance of 25 %: blocks the thread for 1 ms"
        " note: it blocks the event loop, too, and all its tasks; sleep(…) does not"
        " otherwise: nothing, and the program goes on"
    )


# the verb


def test_good_actions(run: Callable[..., Any]) -> None:
    """Actions that are sound are said on stdout, with status 0."""
    done = run("check", "2*off->pause")
    assert done == (
        0,
        f"1. 2*off  the first 2 times: nothing; the hit is used up\n2. pause  then every time: {UNTIL}\n",
        "",
    )


def test_actions_that_never_trigger(run: Callable[..., Any]) -> None:
    """A term that can never trigger makes the status 1."""
    done = run("check", "pause->off")
    assert done == (
        1,
        f"1. pause  every time: {UNTIL}\n2. off    can never trigger: term 1 takes every hit that comes so far\n",
        "",
    )


def test_no_actions(run: Callable[..., Any]) -> None:
    """What is no actions is refused with the caret on stderr, with status 2."""
    done = run("check", "2*off->retrun(42)")
    assert done == (
        2,
        "",
        "Error: expected an action, found 'retrun'; did you mean 'return'?\n    2*off->retrun(42)\n           ^\n",
    )


@pytest.mark.parametrize(
    ("text", "actions", "caret"),
    [
        ("gateway.charge=pause", "pause", 0),
        (" a = 2*off -> 100;", "2*off->sleep(100)", 1),
        ("a=return(x=y);b=off", "return(x=y)", 0),
        ("return=off", "off", 6),
    ],
)
def test_an_entry_of_the_variable(text: str, actions: str, caret: int, run: Callable[..., Any]) -> None:
    """Who gives an entry of `FAILPOINTS` is told which part of it is meant."""
    problem = f"expected actions alone; give only what stands after '=': {actions}"
    assert run("check", text) == (2, "", f"Error: {problem}\n    {text}\n    {' ' * caret}^\n")
    assert run("check", actions).status == 0


@pytest.mark.parametrize("text", ["gateway.charge=pau", "=pause", "a b=pause", ";", "", "a=pause;b"])
def test_what_is_no_entry_either(text: str, run: Callable[..., Any]) -> None:
    """What is no good entry is refused as any other text is."""
    with pytest.raises(ActionSyntaxError) as refused:
        parse_actions(text)
    assert run("check", text) == (2, "", f"Error: {refused.value}\n")


def test_control_characters_do_not_reach_the_terminal(run: Callable[..., Any]) -> None:
    """What would move the cursor is shown as an escape."""
    done = run("check", "print(\x1b[2J\u202e)->\x07")
    assert "\x1b" not in done.output + done.errors
    done = run("check", "print(\x1b[2J)")
    assert done.output == "1. print(\\x1b[2J)  every time: logs '\\x1b[2J' at INFO\n"


def test_json(run: Callable[..., Any]) -> None:
    """`--json` says the same to a script."""
    done = run("check", "--json", " 25 % 100 -> off -> pause ")
    assert (done.status, done.errors) == (1, "")
    assert json.loads(done.output) == {
        "actions": "25%sleep(100)->off->pause",
        "terms": [
            {
                "text": "25 % 100",
                "says": "with a chance of 25 %: waits 100 ms",
                "never": False,
                "notes": ["a bare number is a sleep in milliseconds: sleep(100)"],
            },
            {"text": "off", "says": "otherwise: nothing; the hit is used up", "never": False, "notes": []},
            {
                "text": "pause",
                "says": "can never trigger: term 2 takes every hit that comes so far",
                "never": True,
                "notes": [],
            },
        ],
        "rest": None,
    }
