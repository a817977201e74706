"""`failpoints check` explains actions."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from failpoints import ActionSyntaxError, parse_actions
from failpoints._cli.explanation import explain, explanation_lines


def sentences_of(text: str) -> list[str]:
    explanation = explain(text)
    return [term.sentence for term in explanation.terms] + ([explanation.rest] if explanation.rest else [])


OFF = "does nothing, but counts as the hit's action"
REST = "does nothing, and the program continues"
WAITS = "waits until reconfigured, removed, resumed or cancelled"


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("pause", [f"every time: {WAITS}"]),
        ("1*yield", ["the first time: lets other tasks or threads run once", f"then: {REST}"]),
        (
            "2*off->pause",
            [f"the first 2 times: {OFF}", f"then every time: {WAITS}"],
        ),
        (
            "2*off->1*return",
            [
                f"the first 2 times: {OFF}",
                "then once: returns None",
                f"then: {REST}",
            ],
        ),
        (
            "1*off->3*break",
            [
                f"the first time: {OFF}",
                "then 3 times: calls breakpoint()",
                f"then: {REST}",
            ],
        ),
        (
            "1*yield+sleep(2s)+raise(OSError)",
            [
                "the first time: lets other tasks or threads run once, then waits 2 s, then raises OSError",
                f"then: {REST}",
            ],
        ),
        ("1*cancel", ["the first time: cancels the task", f"then: {REST}"]),
        ("25%3*return(x)", ["with a chance of 25 %, at most 3 times: returns 'x'", f"otherwise: {REST}"]),
        ("25%1*return(x)", ["with a chance of 25 %, at most once: returns 'x'", f"otherwise: {REST}"]),
        (
            "2*off->25%break->pause",
            [
                f"the first 2 times: {OFF}",
                "then, with a chance of 25 %: calls breakpoint()",
                f"otherwise: {WAITS}",
            ],
        ),
        (
            "25%break->10%yield->2*pause->1*off",
            [
                "with a chance of 25 %: calls breakpoint()",
                "otherwise, with a chance of 10 %: lets other tasks or threads run once",
                f"otherwise, at most 2 times: {WAITS}",
                f"otherwise, once: {OFF}",
                f"otherwise: {REST}",
            ],
        ),
        (
            "0.5%off",
            [f"with a chance of 0.5 % (1 in 200): {OFF}", f"otherwise: {REST}"],
        ),
        (
            "0.000000001%off",
            [
                f"with a chance of 0.000000001 % (1 in 100,000,000,000): {OFF}",
                f"otherwise: {REST}",
            ],
        ),
        (
            f"0.{'0' * 310}1%off",
            [f"with a chance of 0.{'0' * 310}1 %: {OFF}", f"otherwise: {REST}"],
        ),
        ("pause(30s)", [f"every time: {WAITS}, or raises FailpointTimeout after 30 s"]),
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
                f"the first 2 times: {OFF}",
                "then once: ends the process at once, with exit status 1",
            ],
        ),
        (
            "50%2*exit->1*panic->pause",
            [
                "with a chance of 50 %, at most once: ends the process at once, with exit status 1",
                "otherwise, once: raises FailpointPanic",
                f"otherwise: {WAITS}",
            ],
        ),
        ("print", ["every time: logs at INFO that it was reached"]),
        ("print(here)", ["every time: logs 'here' at INFO"]),
    ],
)
def test_each_term_has_a_sentence(text: str, sentences: list[str]) -> None:
    """A sentence states when a term triggers and what it does. The last one is about the hits where none triggers."""
    assert sentences_of(text) == sentences
    assert explain(text).every_term_can_trigger


@pytest.mark.parametrize(
    ("text", "never"),
    [
        (
            "pause->sleep(1)",
            {2: "term 1 takes every hit that gets this far; did you mean 'pause+sleep(1)'?"},
        ),
        (
            "2*off->return->25%panic->off",
            {
                3: "term 2 takes every hit that gets this far; did you mean '2*off->1*return->25%panic->off'?",
                4: "term 2 takes every hit that gets this far",
            },
        ),
        ("100%off->pause", {2: "term 1 takes every hit that gets this far; did you mean '1*off->pause'?"}),
        ("0%pause", {1: "its chance is 0 %"}),
        ("0%2*pause->off", {1: "its chance is 0 %"}),
        ("1*exit->pause", {2: "term 1 ends the process at the first hit that gets this far"}),
        ("2*off->3*exit->2*exit", {3: "term 2 ends the process at the first hit that gets this far"}),
        ("25%off->pause", {}),
        ("1000*off->pause", {}),
        ("50%exit->pause", {}),
        ("50%1*exit->pause", {}),
        ("1*panic->1*raise->pause", {}),
    ],
)
def test_terms_that_can_never_trigger(text: str, never: dict[int, str]) -> None:
    """A term can never trigger if an earlier one takes every hit, or if its own chance is 0 %."""
    explanation = explain(text)
    found = {number: term.sentence for number, term in enumerate(explanation.terms, start=1) if term.never}
    assert found == {number: f"can never trigger: {why}" for number, why in never.items()}
    assert explanation.every_term_can_trigger is not bool(never)


def test_a_term_after_one_that_never_triggers() -> None:
    """A term that can never trigger is ignored in the sentences about later terms."""
    assert sentences_of("0%pause->1*off") == [
        "can never trigger: its chance is 0 %",
        f"the first time: {OFF}",
        f"then: {REST}",
    ]
    assert sentences_of("0%pause")[1:] == [f"every time: {REST}"]


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("100", "a bare number is a sleep in milliseconds: sleep(100)"),
        ("25%3*1.5", "a bare number is a sleep in milliseconds: sleep(1.5)"),
        (
            "return(42)",
            "a decorated function converts '42' with its convert= or its return annotation,"
            " but an inline failpoint returns it as a string",
        ),
        ("raise(GatewayDown)", "GatewayDown is not a builtin exception, so the site must declare it in raises="),
        (
            "raise(TimeoutErorr)",
            "TimeoutErorr is not a builtin exception, so the site must declare it in raises=;"
            " did you mean 'TimeoutError'?",
        ),
        (
            "raise(UnicodeDecodeError)",
            "UnicodeDecodeError cannot be made from a message alone, so the site raises FailpointUsageError instead",
        ),
        ("raise(KeyboardInterrupt)", "`except Exception` does not catch KeyboardInterrupt"),
        (
            "raise(StopIteration)",
            "Python turns a StopIteration that leaves a coroutine or generator into a RuntimeError",
        ),
        ("panic", "FailpointPanic is a BaseException, so `except Exception` does not catch it"),
        ("exit(0)", "as in a crash, no `finally` block runs and nothing is flushed"),
        ("delay(1)", "this blocks the event loop and all its tasks, unlike sleep(…)"),
        ("break", "the debugger needs a terminal"),
        ("cancel", "trio cancels the innermost cancel scope around the site; in sync code there is nothing to cancel"),
    ],
)
def test_surprises_have_a_note(text: str, note: str) -> None:
    """A term that is easily misunderstood has a note."""
    assert [note] == [note for term in explain(text).terms for note in term.notes]


def test_what_follows_a_wait_has_a_note() -> None:
    """Each action of a `+` has its notes, and one that follows a wait has a note about when it is left out."""
    assert explain("pause+break").terms[0].notes == (
        "the debugger needs a terminal",
        "the rest is left out if a wait ends because the failpoint is reconfigured or removed",
    )
    assert explain("break+pause").terms[0].notes == ("the debugger needs a terminal",)


@pytest.mark.parametrize("text", ["2*exit", "50%2*exit"])
def test_a_process_exits_only_once(text: str) -> None:
    """A count greater than 1 on an exit has a note. A count of 1 has none."""
    assert explain(text).terms[0].notes == (
        *explain("1*exit").terms[0].notes,
        "a process can exit only once, although the count is 2",
    )


@pytest.mark.parametrize("text", ["off", "pause", "sleep(100)", "return", "raise", "raise(OSError: no)", "print(1)"])
def test_terms_without_a_note(text: str) -> None:
    """A term that does what one expects has no note."""
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
def test_terms_are_shown_as_written(text: str, pieces: list[str]) -> None:
    """The text is split between terms, not at an arrow inside an argument."""
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
    """Any text is either explained term by term, or refused as `parse_actions` refuses it."""
    try:
        terms = parse_actions(text)
    except ActionSyntaxError:
        with pytest.raises(ActionSyntaxError):
            explain(text)
        return
    assert len(explain(text).terms) == len(terms)
    assert "->".join(term.text for term in explain(text).terms).replace(" ", "") == text.replace(" ", "")


def test_sentences_are_in_one_column() -> None:
    """Sentences and their notes are in one column. A long term has a line of its own."""
    assert list(explanation_lines(explain("2*off->1*return(a text of many, many letters)->100"))) == [
        f"1. 2*off  the first 2 times: {OFF}",
        "2. 1*return(a text of many, many letters)",
        "          then once: returns 'a text of many, many letters'",
        "          note: a decorated function converts 'a text of many, many letters' with its convert= or its return"
        " annotation, but an inline failpoint returns it as a string",
        "3. 100    then every time: waits 100 ms",
        "          note: a bare number is a sleep in milliseconds: sleep(100)",
    ]


@pytest.mark.parametrize("width", [20, 45, 80])
def test_lines_are_wrapped_to_the_terminal(width: int) -> None:
    """No line is wider than the terminal, unless the terminal is too narrow to wrap sentences."""
    lines = list(explanation_lines(explain("2*off->25%delay(1)"), width))
    assert width == 20 or max(map(len, lines)) <= width
    assert " ".join(" ".join(lines).split()) == (
        f"1. 2*off the first 2 times: {OFF}"
        " 2. 25%delay(1) then, with a chance of 25 %: blocks the thread for 1 ms"
        " note: this blocks the event loop and all its tasks, unlike sleep(…)"
        " otherwise: does nothing, and the program continues"
    )


# the verb


def test_good_actions(run: Callable[..., Any]) -> None:
    """Good actions are explained on stdout, with exit status 0."""
    done = run("check", "2*off->pause")
    assert done == (
        0,
        f"1. 2*off  the first 2 times: {OFF}\n2. pause  then every time: {WAITS}\n",
        "",
    )


def test_actions_that_never_trigger(run: Callable[..., Any]) -> None:
    """If a term can never trigger, the exit status is 1."""
    done = run("check", "pause->off")
    assert done == (
        1,
        f"1. pause  every time: {WAITS}\n"
        "2. off    can never trigger: term 1 takes every hit that gets this far; did you mean 'pause+off'?\n",
        "",
    )


def test_invalid_actions(run: Callable[..., Any]) -> None:
    """Invalid actions are shown on stderr with a caret, and the exit status is 2."""
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
    """The error for an entry of `FAILPOINTS` names the part to give instead."""
    problem = f"expected actions without a name; give only the part after '=': {actions}"
    assert run("check", text) == (2, "", f"Error: {problem}\n    {text}\n    {' ' * caret}^\n")
    assert run("check", actions).status == 0


@pytest.mark.parametrize("text", ["gateway.charge=pau", "=pause", "a b=pause", ";", "", "a=pause;b"])
def test_an_invalid_entry_of_the_variable(text: str, run: Callable[..., Any]) -> None:
    """An invalid entry is refused like any other text."""
    with pytest.raises(ActionSyntaxError) as refused:
        parse_actions(text)
    assert run("check", text) == (2, "", f"Error: {refused.value}\n")


def test_control_characters_do_not_reach_the_terminal(run: Callable[..., Any]) -> None:
    """Control characters are shown as escapes."""
    done = run("check", "print(\x1b[2J\u202e)->\x07")
    assert "\x1b" not in done.output + done.errors
    done = run("check", "print(\x1b[2J)")
    assert done.output == "1. print(\\x1b[2J)  every time: logs '\\x1b[2J' at INFO\n"


def test_json(run: Callable[..., Any]) -> None:
    """`--json` prints the same as a JSON document."""
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
            {
                "text": "off",
                "says": f"otherwise: {OFF}",
                "never": False,
                "notes": [],
            },
            {
                "text": "pause",
                "says": "can never trigger: term 2 takes every hit that gets this far;"
                " did you mean '25%sleep(100)->1*off->pause'?",
                "never": True,
                "notes": [],
            },
        ],
        "rest": None,
    }
