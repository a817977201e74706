"""The pictures of a terminal in docs/images show what the commands print."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest

from tests.docs.recordings import IMAGES, RECORDINGS, recorded

SVG = "{http://www.w3.org/2000/svg}"


def lines_of(picture: str) -> list[str]:
    """Return the lines of text in an SVG, from the top to the bottom, without white space."""
    lines: dict[float, list[tuple[float, str]]] = {}
    for text in ElementTree.fromstring(picture).iter(f"{SVG}text"):
        lines.setdefault(float(text.attrib["y"]), []).append((float(text.attrib["x"]), text.text or ""))
    joined = (re.sub(r"\s", "", "".join(part for _, part in sorted(lines[y]))) for y in sorted(lines))
    return [line for line in joined if line]


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_picture_shows_what_its_command_prints(name: str) -> None:
    """`python -m tests.docs.recordings` draws them again."""
    picture = (IMAGES / name).read_text(encoding="utf-8")
    printed = [re.sub(r"\s", "", line) for line in recorded(RECORDINGS[name]).splitlines()]
    assert lines_of(picture) == [line for line in printed if line]
    assert "url(http" not in picture  # no font of another host
