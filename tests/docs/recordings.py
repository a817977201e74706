"""Recordings of a terminal for the documentation.

python -m tests.docs.recordings
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.highlighter import RegexHighlighter
from rich.terminal_theme import MONOKAI
from rich.text import Text
from rich.theme import Theme

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"

RECORDINGS = {
    "exploration.svg": "failpoints explore examples.exploration.transfer:first --max-faults 2",
    "deadlock.svg": "failpoints explore examples.exploration.locks:first --interleavings",
}

# Rich's own format has the browser load a font from another host.
SVG = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
    <style>
    .{unique_id}-matrix {{
        font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
        font-size: {char_height}px;
        line-height: {line_height}px;
    }}
    {styles}
    </style>
    <defs>
    <clipPath id="{unique_id}-clip-terminal">
      <rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
    </clipPath>
    {lines}
    </defs>
    {chrome}
    <g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
    {backgrounds}
    <g class="{unique_id}-matrix">
    {matrix}
    </g>
    </g>
</svg>
"""


class _Failure(RegexHighlighter):
    base_style = "failure."
    highlights = [
        r"(?m)(?P<prompt>^\$ .*)",
        r"(?m)(?P<error>^(\w+Error|deadlock): .*)",
        r"(?P<fault><- .* injected)",
        r"(?m)(?P<again>^(repeat this run|the same faults): )",
        r"(?P<place>examples/[\w/]+\.py:\d+)",
    ]


THEME = Theme(
    {
        "failure.prompt": "bold",
        "failure.error": "bold red",
        "failure.fault": "yellow",
        "failure.again": "green",
        "failure.place": "cyan",
    }
)


def recorded(command: str) -> str:
    """Run *command* with the `failpoints` of this Python, and return it with all that it prints."""
    arguments = [sys.executable, "-m", *command.split()]
    environment = {**os.environ, "COLUMNS": "200", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        arguments, cwd=ROOT, env=environment, stdout=-1, stderr=-2, encoding="utf-8", timeout=60, check=False
    )
    return f"$ {command}\n{done.stdout}".rstrip()


def drawn(command: str) -> str:
    """Return the picture of a terminal in which *command* has run."""
    text = recorded(command)
    width = max(map(len, text.splitlines()))
    console = Console(record=True, width=width, file=StringIO(), theme=THEME)
    console.print(_Failure()(Text(text)), soft_wrap=True)
    name = re.sub(r"\W+", "-", command)
    return console.export_svg(title="", theme=MONOKAI, code_format=SVG, unique_id=name)


def main() -> None:
    """Write all recordings."""
    for name, command in RECORDINGS.items():
        (IMAGES / name).write_text(drawn(command), encoding="utf-8")


if __name__ == "__main__":
    main()
