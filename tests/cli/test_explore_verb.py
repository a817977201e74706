"""`failpoints explore`: a scenario is found by its name, explored, and told."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from failpoints import explore as exploration
from failpoints._cli.exploring import progress_bar

Run = Callable[..., Any]

HEAD = """
    import anyio
    from failpoints import failpoint
"""

SCENARIOS = f"""{HEAD}
    async def stands(run):
        async with run.injecting():
            await failpoint("store.write", raises=(OSError,))
            await failpoint("store.sync", raises=(OSError,))

    async def breaks(run):
        written = []
        async with run.injecting():
            written.append(1)
            await failpoint("store.write", raises=(OSError,))
            written.append(2)
        assert len(written) != 1, "half of it was written"

    async def race(run):
        left = 1
        async def sell():
            nonlocal left
            if left:
                await failpoint("stock.sell")
                left -= 1
        async with run.injecting(), anyio.create_task_group() as tasks:
            tasks.start_soon(sell)
            tasks.start_soon(sell)
        assert left == 0

    async def three(run):
        async def work():
            await failpoint("work")
            await failpoint("work")
        async with run.injecting(), anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(work)

    class Kept:
        stands = staticmethod(stands)

    number = 3

    def sync(run): ...
"""

_modules = count()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """To write a module of a name that no other test has, into the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def module(source: str) -> str:
        name = f"scenarios_{next(_modules)}"
        (tmp_path / f"{name}.py").write_text(dedent(source))
        return name

    return module


def test_what_stands(run: Run, module: Callable[[str], str]) -> None:
    """What was tried is said in one line, with status 0."""
    name = module(SCENARIOS)
    assert run("explore", f"{name}:stands") == (0, "3 runs, every fault at 2 visits, one at a time: no failure\n", "")
    done = run("explore", f"{name}:Kept.stands", "--max-faults", "0")
    assert done == (0, "1 run, no faults and no orders: no failure\n", "")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_orders(run: Run, module: Callable[[str], str], backend: str) -> None:
    """`--interleavings` tries the orders of the tasks, on either backend, and `--max-preemptions` bounds them."""
    name = module(SCENARIOS)
    done = run("explore", f"{name}:three", "--interleavings", "--backend", backend)
    assert done == (0, "90 runs, every order of 3 tasks: no failure\n", "")
    done = run("explore", f"{name}:three", "--interleavings", "--backend", backend, "--max-preemptions", "0")
    assert (done.status, "max_preemptions=0 left out: not exhaustive" in done.output) == (0, True)


def test_what_breaks(run: Run, module: Callable[[str], str]) -> None:
    """A failure is shown with what it takes to run it alone, with status 1; `--replay` does that."""
    name = module(SCENARIOS)
    done = run("explore", f"{name}:breaks")
    assert (done.status, done.errors) == (1, "")
    lines = done.output.splitlines()
    assert lines[0] == "breaks failed in run 2, with 1 fault:"
    assert lines[1].startswith("AssertionError: half of it was written")
    assert lines[-1].startswith("2 runs, the last one failed: AssertionError: half of it was written")
    [replay] = [line.partition("replay='")[2].removesuffix("')") for line in lines if "replay='" in line]
    again = run("explore", f"{name}:breaks", "--replay", replay)
    assert (again.status, again.output.splitlines()[0]) == (1, "breaks failed in the replay, with 1 fault:")
    assert run("explore", f"{name}:race", "--interleavings").status == 1


def test_json(run: Run, module: Callable[[str], str]) -> None:
    """`--json` says the same to a script, whether it failed or not."""
    name = module(SCENARIOS)
    done = run("explore", f"{name}:stands", "--json")
    document = json.loads(done.output)
    assert (done.status, document["runs"], document["exhaustive"], document["failures"]) == (0, 3, True, [])
    assert document["verdict"] == "3 runs, every fault at 2 visits, one at a time: no failure"
    assert document["hits"] == {"store.write": 3, "store.sync": 2}
    done = run("explore", f"{name}:breaks", "--json")
    document = json.loads(done.output)
    [failure] = document["failures"]
    assert (done.status, done.errors, failure["faults"]) == (1, "", ["store.write=raise(OSError)"])


@pytest.mark.parametrize(
    ("scenario", "says"),
    [
        ("stands", "expected MODULE:FUNCTION, such as tests.scenarios:transfer; got 'stands'"),
        (":stands", "expected MODULE:FUNCTION"),
        ("{name}:", "expected MODULE:FUNCTION"),
        ("{name}.py:stands", "expected MODULE:FUNCTION"),
        ("no_such_module:stands", "there is no module 'no_such_module' to be seen from"),
        ("{name}:stand", "there is no 'stand' in {name}; did you mean 'stands'?"),
        ("{name}:number", "explore() takes an async function of a run; got 3"),
    ],
)
def test_what_is_no_scenario(run: Run, module: Callable[[str], str], scenario: str, says: str) -> None:
    """What is no scenario is said in one sentence, with status 2."""
    name = module(SCENARIOS)
    done = run("explore", scenario.format(name=name))
    assert (done.status, done.output) == (2, "")
    assert done.errors.startswith(f"Error: {says.format(name=name)}")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import no_such_thing", "ModuleNotFoundError: No module named 'no_such_thing', at "),
        ("1 / 0", "ZeroDivisionError: division by zero, at "),
        ("def", "SyntaxError: "),
    ],
)
def test_a_module_that_cannot_be_imported(run: Run, module: Callable[[str], str], source: str, says: str) -> None:
    """Why the module of a scenario cannot be imported is said in one sentence, with status 2."""
    name = module(source)
    done = run("explore", f"{name}:x")
    assert (done.status, done.output) == (2, "")
    assert done.errors.startswith(f"Error: {name} cannot be imported: {says}")
    assert "Traceback" not in done.errors


def test_wrong_options(run: Run, module: Callable[[str], str]) -> None:
    """Options that do not go together are a wrong use."""
    name = module(SCENARIOS)
    for options in (["--max-preemptions", "1"], ["--replay", "?"], ["--max-runs", "0"], ["--backend", "curio"]):
        assert run("explore", f"{name}:stands", *options).status == 2


def test_the_current_folder_is_looked_into(spawn: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    """As the installed command, which Python starts from another folder, it finds a module of the current one."""
    (tmp_path / "mine.py").write_text(dedent(SCENARIOS))
    script = f"import os, sys; os.chdir({str(tmp_path)!r}); sys.path = [p for p in sys.path if p]"
    child = spawn(
        "explore", "mine:stands", program=("-c", f"{script}; from failpoints.cli import main; sys.exit(main())")
    )
    output, errors = child.communicate(timeout=50)
    assert (child.returncode, output, errors) == (0, "3 runs, every fault at 2 visits, one at a time: no failure\n", "")


def test_the_bar_is_for_a_person(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A bar tells the runs and the queue at a terminal, and is gone at the end; elsewhere there is none."""
    with progress_bar() as show:
        assert show is None
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress_bar() as show:
        assert show is not None
        show(exploration.Progress(runs=3, max_runs=10, queued=2, faults=1))
    assert "3/5" in capsys.readouterr().err
