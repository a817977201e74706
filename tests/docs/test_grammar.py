"""The railroad diagrams of docs/actions.md are true, and the pictures are drawn from them."""

from __future__ import annotations

import random

import pytest

from failpoints import parse_actions
from failpoints._core.grammar import _ACTIONS, parse_entries

pytest.importorskip("railroad")

from railroad import Terminal

from tests.docs.grammar import DIAGRAMS, IMAGES, drawn, sentence


@pytest.mark.parametrize("name", DIAGRAMS)
def test_a_picture_is_that_of_its_diagram(name: str) -> None:
    """`python -m tests.docs.grammar` draws them again."""
    assert (IMAGES / f"grammar-{name}.svg").read_text(encoding="utf-8") == drawn(name)


def test_every_way_through_the_diagrams_can_be_parsed() -> None:
    """Each text that the diagrams allow is accepted as actions, and as a list of entries."""
    chance = random.Random(1)
    for _ in range(300):
        parse_actions(sentence(DIAGRAMS["actions"], chance))
        parse_entries(sentence(DIAGRAMS["entries"], chance), "FAILPOINTS")


def test_the_diagrams_have_every_action() -> None:
    """An action that is added to the grammar is added to the diagrams."""
    words: list[str] = []
    for name in ("going-on", "ending"):
        DIAGRAMS[name].walk(lambda item: words.append(item.text) if isinstance(item, Terminal) else None)
    assert {word for word in words if word.isalpha()} == set(_ACTIONS)
