"""An extension of Griffe, which reads the docstrings for the reference: the examples in them become blocks of code."""

from __future__ import annotations

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"^(?P<indent> *)>>> .*(?:\n(?P=indent)\S.*|\n(?P=indent) +.*)*", re.MULTILINE)


def fenced(docstring: str) -> str:
    """Return *docstring* with a fence around each example, which ends at an empty line."""

    def block(found: re.Match[str]) -> str:
        indent = found["indent"]
        return f"{indent}```pycon\n{found[0]}\n{indent}```"

    return EXAMPLE.sub(block, docstring)


class FencedExamples(griffe.Extension):
    """Fences the examples of every docstring. Without a fence, Markdown takes `>>>` for a quotation."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Change the docstring of one object."""
        if obj.docstring:
            obj.docstring.value = fenced(obj.docstring.value)
