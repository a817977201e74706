"""The grammar of actions as railroad diagrams, for docs/actions.md.

python -m tests.docs.grammar
"""

from __future__ import annotations

import random
from io import StringIO
from pathlib import Path
from typing import Any

from railroad import Choice, Diagram, NonTerminal, OneOrMore, Optional, Sequence, Skip, Terminal, ZeroOrMore

IMAGES = Path(__file__).parents[2] / "docs" / "images"

STYLE = """
    svg { background-color: #fff; }
    path { stroke-width: 2; stroke: #555; fill: none; }
    text { font: 14px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; text-anchor: middle; }
    rect { stroke-width: 2; stroke: #555; fill: #fff3e0; }
    .non-terminal rect { fill: #e3f2fd; }
"""


def _with_argument(words: list[str], argument: str, *, optional: bool) -> Sequence:
    given = Sequence(Terminal("("), NonTerminal(argument), Terminal(")"))
    return Sequence(Choice(0, *map(Terminal, words)), Optional(given) if optional else given)


_CHANCE = Sequence(NonTerminal("percentage"), Terminal("%"))
_COUNT = Sequence(NonTerminal("count"), Terminal("*"))
_STEP = Sequence(
    ZeroOrMore(Sequence(NonTerminal("action that goes on"), Terminal("+"))),
    Choice(0, NonTerminal("action that goes on"), NonTerminal("action that ends the visit")),
)

DIAGRAMS: dict[str, Diagram] = {
    "actions": Diagram(
        OneOrMore(
            Sequence(
                Choice(
                    0,
                    Skip(),
                    _CHANCE,
                    _COUNT,
                    Sequence(_CHANCE, NonTerminal("count"), Terminal("*")),
                    Sequence(_COUNT, NonTerminal("percentage"), Terminal("%")),
                ),
                _STEP,
            ),
            Terminal("->"),
        )
    ),
    "going-on": Diagram(
        Choice(
            2,
            Choice(0, Terminal("off"), Terminal("yield"), Terminal("break")),
            _with_argument(["sleep", "delay"], "duration", optional=False),
            _with_argument(["pause"], "duration", optional=True),
            _with_argument(["print"], "text", optional=True),
        )
    ),
    "ending": Diagram(
        Choice(
            1,
            _with_argument(["return", "panic"], "text", optional=True),
            Sequence(
                Terminal("raise"),
                Optional(
                    Sequence(
                        Terminal("("),
                        NonTerminal("exception"),
                        Optional(Sequence(Terminal(":"), NonTerminal("message"))),
                        Terminal(")"),
                    )
                ),
            ),
            _with_argument(["exit"], "status", optional=True),
            Terminal("cancel"),
        )
    ),
    "entries": Diagram(
        OneOrMore(
            Sequence(
                NonTerminal("name"),
                Optional(
                    Sequence(
                        Terminal("["),
                        OneOrMore(Sequence(NonTerminal("key"), Terminal("="), NonTerminal("pattern")), Terminal(",")),
                        Terminal("]"),
                    )
                ),
                Terminal("="),
                NonTerminal("actions"),
            ),
            Terminal(";"),
        )
    ),
}

# What a part that is not spelled out may be, the diagram that spells it out, or None for
# a word that is another one each time.
PARTS: dict[str, list[str] | str | None] = {
    "percentage": ["25", "0.5", "100"],
    "count": ["1", "12"],
    "duration": ["100", "1.5s", "30ms", "2m"],
    "text": ["42", '"a (b"', "no space left", "f(x)"],
    "message": ["disk full", "no f(x)"],
    "exception": ["OSError", "TimeoutError"],
    "status": ["0", "3"],
    "name": ["backup", "gateway.charge:after"],
    "key": None,
    "pattern": ["3", "test_.*", r'"a\\["', "(a|b)[0-9]"],
    "actions": "actions",
    "action that goes on": "going-on",
    "action that ends the visit": "ending",
}


def drawn(name: str) -> str:
    """Return one of the diagrams as an SVG."""
    picture = StringIO()
    DIAGRAMS[name].writeStandalone(picture.write, css=STYLE)
    return picture.getvalue()


def sentence(item: Any, chance: random.Random) -> str:
    """Return a text that follows one of the ways through a diagram."""
    if isinstance(item, Terminal):
        return item.text
    if isinstance(item, NonTerminal):
        part = PARTS[item.text]
        if part is None:
            return f"{item.text}{chance.getrandbits(64)}"
        return sentence(DIAGRAMS[part], chance) if isinstance(part, str) else chance.choice(part)
    if isinstance(item, Choice):
        return sentence(chance.choice(item.items), chance)
    if isinstance(item, OneOrMore):
        parts = [sentence(item.item, chance)]
        while chance.random() < 0.3:
            parts += [sentence(item.rep, chance), sentence(item.item, chance)]
        return "".join(parts)
    return "".join(sentence(each, chance) for each in getattr(item, "items", ()))


def main() -> None:
    """Write all diagrams."""
    for name in DIAGRAMS:
        (IMAGES / f"grammar-{name}.svg").write_text(drawn(name), encoding="utf-8")


if __name__ == "__main__":
    main()
