"""The action `exit` ends the process, and says so on its standard error."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SITES = {
    "inline": ("def visit():\n    failpoint('backup').hit()\n", 3),
    "async_inline": ("async def visit():\n    await failpoint('backup')\n", 3),
    "scope": ("def visit():\n    with failpoint_scope('backup'):\n        pass\n", 3),
    "async_scope": ("async def visit():\n    async with failpoint_scope('backup'):\n        pass\n", 3),
    "decorated": ("@failpoint('backup')\ndef visit():\n    pass\n", 2),
    "async_decorated": ("@failpoint('backup')\nasync def visit():\n    pass\n", 2),
    "generator": ("@failpoint('backup')\ndef steps():\n    yield\ndef visit():\n    list(steps())\n", 2),
}


def run(folder: Path, source: str, *, prefix: str = "", actions: str = "exit(3)") -> subprocess.CompletedProcess[str]:
    """Run a program whose function `visit` reaches the failpoint `backup`."""
    call = textwrap.dedent(
        """
        import asyncio, inspect
        PREFIX
        with configured('backup', 'ACTIONS'):
            asyncio.run(visit()) if inspect.iscoroutinefunction(visit) else visit()
        print('not reached')
        """
    )
    call = call.replace("PREFIX", prefix).replace("ACTIONS", actions)
    (folder / "program.py").write_text(f"from failpoints import *\n{source}{call}")
    return subprocess.run(
        [sys.executable, str(folder / "program.py")],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        check=False,
    )


@pytest.mark.parametrize("kind", SITES)
def test_one_line_names_the_failpoint_and_the_site(kind: str, tmp_path: Path) -> None:
    """One line on standard error names the failpoint, the status, and the file and line of the site."""
    source, line = SITES[kind]
    done = run(tmp_path, source)
    place = f"{tmp_path / 'program.py'}:{line}"
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == f"failpoint 'backup' ended the process with exit status 3, at {place}\n"


def test_after_another_action(tmp_path: Path) -> None:
    """`exit` at the end of several actions says the same."""
    done = run(tmp_path, SITES["async_decorated"][0], actions="sleep(1)+exit")
    assert done.returncode == 1
    assert done.stderr.startswith("failpoint 'backup' ended the process with exit status 1, at ")


@pytest.mark.parametrize(
    "prefix",
    [
        "import sys; sys.stderr = None",
        "import io, sys; sys.stderr = io.StringIO()",
        "import sys; sys.stderr = object()",
    ],
)
def test_a_replaced_stream(prefix: str, tmp_path: Path) -> None:
    """The line is on the real standard error, whatever `sys.stderr` is."""
    done = run(tmp_path, SITES["inline"][0], prefix=prefix)
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)


@pytest.mark.parametrize(
    "prefix",
    [
        "import os; os.close(2)",
        "import sys; sys.__stderr__.close()",
        "import os; reader, writer = os.pipe(); os.dup2(writer, 2); os.close(reader); os.close(writer)",
    ],
)
def test_no_standard_error(prefix: str, tmp_path: Path) -> None:
    """The process ends with its status even if nothing can be written."""
    done = run(tmp_path, SITES["inline"][0], prefix=prefix)
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
def test_a_file_of_the_program_is_not_written_to(tmp_path: Path) -> None:
    """If the process was started without standard error, its descriptor may be a file of the program by now."""
    (tmp_path / "program.py").write_text(
        "file = open('data', 'wb', buffering=0)\nassert file.fileno() == 2\nfile.write(b'precious')\n"
        "from failpoints import configured, failpoint\n"
        "with configured('a', 'exit'):\n    failpoint('a').hit()\n"
    )
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "{sys.executable}" program.py 2>&-'],
        cwd=tmp_path,
        timeout=60,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        check=False,
    )
    assert done.returncode == 1
    assert (tmp_path / "data").read_bytes() == b"precious"
