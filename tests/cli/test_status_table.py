"""The tables of `failpoints list`: styled at a terminal, and plain columns elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

import failpoints
from failpoints import FailpointStatus, Waiting, parse_actions
from failpoints._cli.status_table import declared_lines, plain_lines, table, waiting_lines
from failpoints._cli.text import printable
from failpoints._core.elapsed import duration
from failpoints.fleet import FleetWaiting

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def waiting(*seconds: float) -> tuple[Waiting, ...]:
    return tuple(Waiting(f"Task-{index}", {}, NOW - timedelta(seconds=ago)) for index, ago in enumerate(seconds))


STATUSES = [
    FailpointStatus(
        "backup", parse_actions("pause"), {"tenant": "t.*", "n": 3}, 4, 12, None, None, 4, waiting(1, 4.24, 2)
    ),
    FailpointStatus("gateway.charge", parse_actions("1*raise->100"), {}, 120, 0, None, None, 119, waiting(3725)),
    FailpointStatus("shop.retry", parse_actions("off"), {}),
]


def drawn(statuses: list[FailpointStatus], width: int, *, sites: bool = False, **options: Any) -> list[str]:
    """Return the lines of a table as a terminal without colour shows them."""
    console = Console(file=StringIO(), width=width, color_system=None, **options)
    console.print(table(statuses, NOW, width, sites=sites))
    assert isinstance(console.file, StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_plain_columns() -> None:
    """Plain columns are as wide as their cells, and no line ends with a space."""
    assert list(plain_lines(STATUSES, NOW)) == [
        "failpoint       actions              matchers         hits  misses  triggers  waiting",
        "backup          pause                tenant=t.*, n=3     4      12         4  3 tasks, the first for 4.2 s",
        "gateway.charge  1*raise->sleep(100)  -                 120       0       119  Task-0 for 1 h 2 min",
        "shop.retry      off                  -                   0       0         0  -",
    ]


def test_several_configurations() -> None:
    """Each configuration of a name has a row of its own, the newest first, with its own counts and waiting tasks."""
    newest = FailpointStatus("x", parse_actions("pause"), {"tenant": "t1"}, 1, 2, None, None, 1, waiting(4))
    oldest = FailpointStatus("x", parse_actions("off"), {}, 2, 0, None, None, 2)
    sums = replace(newest, hits=3, triggers=3, sites=("x.py:1",), configurations=(newest, oldest))
    assert list(plain_lines([sums], NOW, sites=True)) == [
        "failpoint  actions  matchers   hits  misses  triggers  waiting           sites",
        "x          pause    tenant=t1     1       2         1  Task-0 for 4.0 s  x.py:1",
        "x          off      -             2       0         2  -                 x.py:1",
    ]
    assert drawn([sums], 100)[2:] == [
        "x          pause    tenant=t1     1       2         1  Task-0 for 4.0 s",
        "x          off                    2       0         2",
    ]


def test_sites() -> None:
    """The sites are in the last column, or in the last line of a narrow table."""
    status = replace(STATUSES[0], sites=("a.py:1", "b.py:2", "c.py:3", "d.py:4"))
    assert list(plain_lines([status], NOW, sites=True))[1].endswith("4.2 s  a.py:1, b.py:2, c.py:3 and 1 more")
    assert drawn([status], 150, sites=True)[2].endswith("4.2 s  a.py:1, b.py:2, c.py:3 and 1 more")
    assert drawn([status], 80, sites=True)[-1].endswith("  at a.py:1, b.py:2, c.py:3 and 1 more")


@pytest.mark.parametrize("width", [106, 200])
def test_a_wide_table(width: int) -> None:
    """At a wide terminal each failpoint has one line."""
    assert drawn(STATUSES, width) == [
        "failpoint       actions              matchers         hits  misses  triggers  waiting",
        "─" * 106,
        "backup          pause                tenant=t.*, n=3     4      12         4  3 tasks, the first for 4.2 s",
        "gateway.charge  1*raise->sleep(100)                    120       0       119  Task-0 for 1 h 2 min",
        "shop.retry      off                                      0       0         0",
    ]


@pytest.mark.parametrize("width", [68, 80, 105])
def test_a_narrow_table(width: int) -> None:
    """At a narrow terminal everything but numbers is stacked in one column."""
    assert drawn(STATUSES, width) == [
        "failpoint       hits  misses  triggers  actions",
        "─" * 68,
        "backup             4      12         4  pause",
        "                                        where tenant=t.*, n=3",
        "                                        3 tasks, the first for 4.2 s",
        "gateway.charge   120       0       119  1*raise->sleep(100)",
        "                                        Task-0 for 1 h 2 min",
        "shop.retry         0       0         0  off",
    ]


def test_a_table_without_matchers() -> None:
    """Matchers and misses are left out if no failpoint has matchers."""
    assert drawn(STATUSES[1:], 110)[0].split() == ["failpoint", "actions", "hits", "triggers", "waiting"]
    assert drawn(STATUSES[1:], 60)[0].split() == ["failpoint", "hits", "triggers", "actions"]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120])
def test_nothing_is_cut(width: int) -> None:
    """Long texts are wrapped to the terminal, and nothing of them is cut."""
    long = FailpointStatus("a" * 90, parse_actions(f"return({'b' * 200})"), {"key": "c" * 150}, waiting=waiting(1))
    lines = drawn([long], width)
    assert max(map(len, lines)) <= width
    assert [sum(line.count(letter) for line in lines[2:]) for letter in "abc"] >= [90, 200, 150]


def test_wide_characters_keep_the_columns() -> None:
    """A double-width character counts as two columns."""
    statuses = [FailpointStatus(name, parse_actions("off")) for name in ("支払い", "pay")]
    lines = list(plain_lines(statuses, NOW))
    assert lines[1].startswith("支払い     off")
    assert lines[2].startswith("pay        off")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0.0 s"),
        (0.04, "0.0 s"),
        (4.24, "4.2 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 0 s"),
        (61, "1 min 1 s"),
        (3599.9, "59 min 59 s"),
        (3600, "1 h 0 min"),
        (86400 * 2 - 1, "47 h 59 min"),
        (86400 * 2 + 3600, "2 d 1 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    """A duration has at most two units."""
    assert duration(seconds) == text


def test_control_characters_are_escaped() -> None:
    """Characters that cannot be printed are escaped, and all others are kept."""
    assert printable("a\x1b[2J\r\n\t\x7f\x9b\u202e\udc80é支") == r"a\x1b[2J\r\n\t\x7f\x9b\u202e\udc80é支"


HOSTILE = FailpointStatus(
    "[bold]x[/bold]:smile:",
    parse_actions("print([red]\x1b[31m)"),
    {"key\x1b[2J": "\x07[/]", "none": None},
    waiting=(Waiting("Task\x1b[1;1H[blink]", {}, NOW),),
)


@pytest.mark.parametrize("width", [400, 80])
def test_text_from_a_server_is_shown_literally(width: int) -> None:
    """Control characters and rich markup from a server have no effect on the terminal."""
    for lines in (drawn([HOSTILE], width), list(plain_lines([HOSTILE], NOW))):
        text = "".join(lines)
        assert text.isprintable()
        for part in ("[bold]x[/bold]:smile:", "[red]", "key\\x1b[2J=\\x07[/]", "none=None", "Task\\x1b[1;1H[blink]"):
            assert part in text


# the verb


def test_the_list_in_a_pipe(run: Callable[..., Any], server: str) -> None:
    """In a pipe `list` prints plain text, without colours and drawn lines."""
    failpoints.configure("backup", "pause", context={"[bold]key": "\x1b[2J]"})
    lines = ["failpoint  actions  matchers            hits  misses  triggers  waiting"]
    lines += ["backup     pause    [bold]key=\\x1b[2J]     0       0         0  -"]
    assert run("list") == (0, "\n".join([*lines, ""]), "")


def test_colour_in_a_pipe(run: Callable[..., Any], server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a pipe the output is plain even with `FORCE_COLOR`."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    failpoints.configure("backup", "pause")
    assert run("list").output.isascii()
    assert "\x1b" not in run("list").output


@pytest.mark.parametrize("columns", [80, 120])
def test_the_list_at_a_terminal(columns: int, terminal: Callable[..., Any], server: str) -> None:
    """At a terminal `list` shows a coloured table that fits, with control characters escaped."""
    failpoints.configure("backup", "pause", context={"[bold]key": "\x1b[2J]", "other": "o" * 20, "another": "a" * 20})
    shown = terminal("list", columns=columns)
    assert shown.ended() == 0
    assert "\x1b[36mbackup" in shown.output
    assert "─" in shown.output
    assert "[bold]key=\\x1b[2J" in shown.output
    assert "\x1b[2J" not in shown.output
    plain = "".join(part.partition("m")[2] if index else part for index, part in enumerate(shown.output.split("\x1b[")))
    assert max(map(len, plain.splitlines())) <= columns


def test_no_colour_at_a_terminal(terminal: Callable[..., Any], server: str) -> None:
    """With `NO_COLOR` a terminal gets no colours, and a dumb terminal gets plain text."""
    failpoints.configure("backup", "pause")
    shown = terminal("list", NO_COLOR="1")
    assert shown.ended() == 0
    assert "backup" in shown.output
    assert "\x1b[3" not in shown.output
    dumb = terminal("list", TERM="dumb")
    assert dumb.ended() == 0
    assert dumb.output.replace("\r\n", "\n") == (
        "failpoint  actions  matchers  hits  misses  triggers  waiting\n"
        "backup     pause    -            0       0         0  -\n"
    )


def test_what_waits() -> None:
    """Each task that waits has a line with its context and its member, the longest waiting first, and not too many."""
    tasks = [Waiting(f"Task-{ago}", {"customer": "Ada\n", "n": ago}, NOW - timedelta(seconds=ago)) for ago in range(12)]
    statuses = [FailpointStatus("a", waiting=tuple(tasks)), FailpointStatus("b", waiting=waiting(20))]
    lines = waiting_lines(statuses, NOW)
    assert lines[:2] == ["Task-0 at b for 20.0 s", "Task-11 at a for 11.0 s: customer='Ada\\n', n=11"]
    assert (len(lines), lines[-1]) == (11, "and 3 more")
    assert waiting_lines(statuses[1:], NOW) == lines[:1]
    member = FleetWaiting("Task-7", {}, NOW - timedelta(seconds=2), "db1:4711")
    assert waiting_lines([FailpointStatus("a", waiting=(member,))], NOW) == ["Task-7 in db1:4711 at a for 2.0 s"]


def test_what_is_declared() -> None:
    """While nothing is configured, there are the names that could be, with their sites, as many as fit."""
    declared = [FailpointStatus(name, sites=("shop.py:7",)) for name in ("backup", "upload.part", "x")]
    assert declared_lines(declared, most=2) == [
        "no failpoint is configured: failpoints set NAME ACTIONS",
        "the program declares 3:",
        "  backup       shop.py:7",
        "  upload.part  shop.py:7",
        "  and 1 more",
    ]
    assert declared_lines([], most=2) == ["no failpoint is configured"]
