"""`failpoints explore` finds a scenario by its name, explores it, and prints the result."""

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
from failpoints._cli.explore import crash_progress_bar, progress_bar

Run = Callable[..., Any]

HEAD = """
    import anyio
    from failpoints import failpoint
"""

SCENARIOS = f"""{HEAD}
    async def correct(run):
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
        correct = staticmethod(correct)

    number = 3

    def sync(run): ...
"""

_modules = count()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Write a module into the current folder, under a name that no other test uses."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def module(source: str) -> str:
        name = f"scenarios_{next(_modules)}"
        (tmp_path / f"{name}.py").write_text(dedent(source))
        return name

    return module


def test_success(run: Run, module: Callable[[str], str]) -> None:
    """An exploration without a failure prints one line, and the exit status is 0."""
    name = module(SCENARIOS)
    assert run("explore", f"{name}:correct") == (0, "3 runs, every fault at 2 visits, one at a time: no failure\n", "")
    done = run("explore", f"{name}:Kept.correct", "--max-faults", "0")
    assert done == (0, "1 run, no faults and no orders: no failure\n", "")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_orders(run: Run, module: Callable[[str], str], backend: str) -> None:
    """`--interleavings` tries the orders of the tasks, and `--max-preemptions` limits them."""
    name = module(SCENARIOS)
    done = run("explore", f"{name}:three", "--interleavings", "--backend", backend)
    assert done == (0, "90 runs, every order of 3 tasks: no failure\n", "")
    done = run("explore", f"{name}:three", "--interleavings", "--backend", backend, "--max-preemptions", "0")
    assert (done.status, "max_preemptions=0 left out: not exhaustive" in done.output) == (0, True)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_wake_ups_cancellations_samples_and_reduction(run: Run, module: Callable[[str], str], backend: str) -> None:
    """`--awaits`, `--cancellations`, `--sample`, `--reduction` and `--audit` are those of `explore`."""
    name = module(SCENARIOS)
    given = ("explore", f"{name}:three", "--backend", backend)
    done = run(*given, "--interleavings", "--reduction", "declared", "--audit", "0.1")
    assert (done.status, done.output.partition(" ")[0]) == (0, "1")
    done = run(*given, "--interleavings", "--reduction", "none")
    assert (done.status, done.output.partition(" ")[0]) == (0, "90")
    done = run(*given, "--awaits", "--sample", "7")
    assert (done.status, done.output.partition(":")[0]) == (0, "7 runs")
    assert "at least" in done.output
    done = run(*given, "--awaits", "--cancellations", "--max-faults", "1", "--max-runs", "5")
    assert done.status == 0, done.output
    assert "stopped at max_runs=5" in done.output
    done = run(*given, "--cancellations", "--interleavings")
    assert (done.status, "add max_faults=1" in done.errors) == (2, True)


def test_several_failures(run: Run, module: Callable[[str], str]) -> None:
    """`--max-failures` prints different failures, and the number of them."""
    name = module(SCENARIOS)
    done = run("explore", f"{name}:breaks", "--max-failures", "3")
    assert (done.status, done.errors) == (1, "")
    assert "different failure" in done.output.splitlines()[-1]


def test_failure(run: Run, module: Callable[[str], str]) -> None:
    """A failure is printed with the text for `--replay`, and the exit status is 1."""
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
    """`--json` prints the result as a JSON document, with or without a failure."""
    name = module(SCENARIOS)
    done = run("explore", f"{name}:correct", "--json")
    document = json.loads(done.output)
    assert (done.status, document["runs"], document["exhaustive"], document["failures"]) == (0, 3, True, [])
    assert document["verdict"] == "3 runs, every fault at 2 visits, one at a time: no failure"
    assert document["hits"] == {"store.write": 3, "store.sync": 2}
    done = run("explore", f"{name}:breaks", "--json")
    document = json.loads(done.output)
    [failure] = document["failures"]
    assert (done.status, done.errors, failure["faults"]) == (1, "", ["store.write=raise(OSError)"])


@pytest.mark.parametrize(
    ("scenario", "message"),
    [
        ("correct", "expected MODULE:FUNCTION, such as tests.scenarios:transfer; got 'correct'"),
        (":correct", "expected MODULE:FUNCTION"),
        ("{name}:", "expected MODULE:FUNCTION"),
        ("{name}.py:correct", "expected MODULE:FUNCTION"),
        ("no_such_module:correct", "no module named 'no_such_module' can be imported from"),
        ("{name}:corect", "{name} has no 'corect'; did you mean 'correct'?"),
        ("{name}:number", "explore() takes a function; got 3"),
    ],
)
def test_invalid_scenarios(run: Run, module: Callable[[str], str], scenario: str, message: str) -> None:
    """An invalid scenario is a usage error."""
    name = module(SCENARIOS)
    done = run("explore", scenario.format(name=name))
    assert (done.status, done.output) == (2, "")
    assert done.errors.startswith(f"Error: {message.format(name=name)}")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import no_such_thing", "ModuleNotFoundError: No module named 'no_such_thing', at "),
        ("1 / 0", "ZeroDivisionError: division by zero, at "),
        ("def", "SyntaxError: "),
    ],
)
def test_a_module_that_cannot_be_imported(run: Run, module: Callable[[str], str], source: str, message: str) -> None:
    """A module that cannot be imported is a usage error with the reason and without a traceback."""
    name = module(source)
    done = run("explore", f"{name}:x")
    assert (done.status, done.output) == (2, "")
    assert done.errors.startswith(f"Error: cannot import {name}: {message}")
    assert "Traceback" not in done.errors


def test_wrong_options(run: Run, module: Callable[[str], str]) -> None:
    """Invalid options are usage errors."""
    name = module(SCENARIOS)
    for options in (["--max-preemptions", "1"], ["--replay", "?"], ["--max-runs", "0"], ["--backend", "curio"]):
        assert run("explore", f"{name}:correct", *options).status == 2


def test_the_module_can_be_in_the_current_folder(spawn: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    """The current folder is searched, although Python does not search it for an installed command."""
    (tmp_path / "mine.py").write_text(dedent(SCENARIOS))
    script = f"import os, sys; os.chdir({str(tmp_path)!r}); sys.path = [p for p in sys.path if p]"
    child = spawn(
        "explore", "mine:correct", program=("-c", f"{script}; from failpoints.cli import main; sys.exit(main())")
    )
    output, errors = child.communicate(timeout=50)
    assert (child.returncode, output, errors) == (0, "3 runs, every fault at 2 visits, one at a time: no failure\n", "")


def test_the_progress_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The progress bar shows the number of runs, and only at a terminal."""
    with progress_bar() as show:
        assert show is None
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress_bar() as show:
        assert show is not None
        show(exploration.Progress(runs=3, max_runs=10, queued=2, faults=1))
    assert "3/5" in capsys.readouterr().err
    with crash_progress_bar() as show_state:
        assert show_state is not None
        show_state(exploration.CrashProgress(states=7, max_states=9, broken=2))
    assert "2 broken" in capsys.readouterr().err


CRASHES = """
    from failpoints.explore import acknowledge

    def save(folder):
        (folder / "a").write_text("saved")
        acknowledge("saved")

    def check(folder, acknowledged):
        assert not acknowledged or (folder / "a").read_text() == "saved"
"""


def test_crashes(run: Run, module: Callable[[str], str]) -> None:
    """`--crashes` takes two functions, and checks every folder that a crash of the first one can leave."""
    name = module(CRASHES)
    functions = f"{name}:save", f"{name}:check"
    done = run("explore", "--crashes", *functions, "--disk", "process")
    verdict = "4 states after the end of the process at any point of 2 operations: no failure\n"
    assert (done.status, done.output, done.errors) == (0, verdict, "")
    done = run("explore", "--crashes", *functions)
    lines = done.output.splitlines()
    assert (done.status, done.errors) == (1, "")
    assert lines[0].startswith("check failed in 1 of ")
    [replay] = [line.partition("replay='")[2].removesuffix("')") for line in lines if line.startswith("repeat")]
    again = run("explore", "--crashes", *functions, "--replay", replay, "--json")
    assert (again.status, json.loads(again.output)["replayed"]) == (1, True)
    for wrong in ([f"{name}:save"], [*functions, "--depth", "0"]):
        assert run("explore", "--crashes", *wrong).status == 2
    assert run("explore", *functions).status == 2
