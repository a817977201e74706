"""The page about editors: what it says to configure fits the output of `failpoints scan --quickfix`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from failpoints._cli.scan_report import find_objections, quickfix_lines, scan_document
from failpoints._scan.scan import scan_paths

PAGE = (Path(__file__).parents[2] / "docs" / "editors.md").read_text(encoding="utf-8")
SOURCE = """from failpoints import failpoint
@failpoint("gateway.charge")
async def charge(name):
    await failpoint(name)
    failpoint("gateway.forgotten")
"""
FOUND = [
    ("shop.py", "2", "info", "gateway.charge (decorator)"),
    ("shop.py", "5", "info", "gateway.forgotten (inline)"),
    ("shop.py", "4", "warning", "failpoint(name): the name is unknown before the program runs"),
    ("shop.py", "5", "error", "failpoint('gateway.forgotten') is neither awaited nor hit"),
]


@pytest.fixture
def lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The output of `failpoints scan --quickfix --check shop.py`. The file is in the working directory."""
    monkeypatch.chdir(tmp_path)
    Path("shop.py").write_text(SOURCE, encoding="utf-8")
    scan = scan_paths([Path("shop.py")])
    return list(quickfix_lines(scan, find_objections(scan)))


def block(language: str) -> str:
    """Return the page's only block of code in a language."""
    [found] = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def test_the_task_of_vs_code_reads_each_line(lines: list[str]) -> None:
    """Its expression has the file, the line, the severity and the text as its groups, in the order that it declares."""
    [task] = json.loads(block("json"))["tasks"]
    pattern = task["problemMatcher"]["pattern"]
    groups = [pattern[key] for key in ("file", "line", "severity", "message")]
    matches = [re.match(pattern["regexp"], line) for line in lines]
    assert [match and match.group(*groups) for match in matches] == FOUND


@pytest.mark.skipif(not shutil.which("vim"), reason="needs vim")
def test_vim_reads_each_line_and_jumps_to_a_name(lines: list[str]) -> None:
    """The quickfix list has each place with its severity, and a file of tags leads from a name to its site."""
    Path("lines").write_text("\n".join(lines), encoding="utf-8")
    sites = scan_document(scan_paths([Path("shop.py")]))["declared"]
    tags = sorted(f"{name}\t{site['file']}\t{site['line']}" for site in sites for name in site["names"])
    Path("tags").write_text("\n".join(tags), encoding="utf-8")
    Path("test_shop.py").write_text('set("gateway.charge:after", "pause")', encoding="utf-8")
    [errorformat] = [line for line in block("vim").splitlines() if "errorformat" in line]
    Path("try.vim").write_text(
        f"""set nocompatible
{errorformat}
cgetfile lines
call writefile(map(getqflist(), {{_, at -> json_encode([bufname(at.bufnr), at.lnum, at.type, at.text])}}), 'list')
edit test_shop.py
call search('gateway')
execute "normal vi\\"\\<C-]>"
call writefile([expand('%') .. ':' .. line('.')], 'jumped')
qall!
""",
        encoding="utf-8",
    )
    subprocess.run(["vim", "-es", "-u", "NONE", "-S", "try.vim"], timeout=50, check=True, stdin=subprocess.DEVNULL)
    listed = [json.loads(line) for line in Path("list").read_text(encoding="utf-8").splitlines()]
    assert listed == [[file, int(line), severity[0], text] for file, line, severity, text in FOUND]
    assert Path("jumped").read_text(encoding="utf-8") == "shop.py:2\n"
