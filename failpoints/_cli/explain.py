"""The verb explain: what an error means, from the page of the documentation that the package contains."""

from __future__ import annotations

import re
import sys
from importlib import resources
from typing import Annotated, NamedTuple

import typer

from .._core.messages import did_you_mean
from ..errors import FailpointUsageError
from .options import examples
from .output import write_lines

_MAX_WIDTH = 100  # columns, beyond which prose is hard to read
_SECTION = re.compile(r"^## (FP\d{3})\n\n\*\*(.+?)\*\*(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)

app = typer.Typer()


class Section(NamedTuple):
    """The section of one code: its first sentence, without the full stop, and all of its Markdown."""

    title: str
    text: str


def _complete(incomplete: str) -> list[tuple[str, str]]:
    return [(code, section.title) for code, section in read_sections().items() if code.startswith(incomplete)]


@app.command(epilog=examples("failpoints explain FP012", "failpoints explain"))
def explain(
    code: Annotated[
        str | None,
        typer.Argument(
            metavar="[CODE]",
            help="Code of an error. Without it, all are listed.",
            show_default=False,
            autocompletion=_complete,
        ),
    ] = None,
) -> None:
    """Explain an error: what it means, an example, and what to do.

    It prints a section of the documentation, which is installed with the package. Exit status 2 if there is no such
    code.
    """
    sections = read_sections()
    if code is None:
        write_lines(f"{known}  {section.title}" for known, section in sections.items())
        return
    section = sections.get(code.upper())
    if section is None:
        raise FailpointUsageError(f"there is no error {code!r}{did_you_mean(code, sections)}")
    _show(section.text)


def read_sections() -> dict[str, Section]:
    """Return the sections of the page, by their codes."""
    page = resources.files("failpoints._cli").joinpath("errors.md").read_text(encoding="utf-8")
    return {
        found[1]: Section(" ".join(found[2].removesuffix(".").split()), found[0].strip())
        for found in _SECTION.finditer(page)
    }


def _show(markdown: str) -> None:
    """Write Markdown to stdout: as it is, or laid out in a terminal that can show it."""
    from .status_table import terminal  # imports rich, which most verbs do without

    console = terminal() if sys.stdout.isatty() else None
    if console is None:
        write_lines([markdown])
        return
    from rich.markdown import Markdown

    console.print(Markdown(markdown), width=min(console.width, _MAX_WIDTH))
