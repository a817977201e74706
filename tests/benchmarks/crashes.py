"""Measure how many states after a crash are checked a second, beside bare forks and beside ckpt-chaos.

    python tests/benchmarks/crashes.py [--memory]

The closed forms of docs/crashes.md are explored, and one save is crashed by both tools. All are measured in turn. For
the second tool: `pip install ckpt-chaos`, in this environment or another one on the PATH. With `--memory`, show the
memory that more and more states keep.
"""

from __future__ import annotations

import gc
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from failpoints.explore import CrashExploration, CrashProgress, ExplorationFailed, acknowledge, explore_crashes

ROUNDS = 5
PROGRAM = """
import json, os, sys
folder = sys.argv[1]
os.makedirs(folder, exist_ok=True)
path = os.path.join(folder, "state.json")
version = json.load(open(path))["version"] if os.path.exists(path) else 0
print("resumed from step", version)
while version < 3:
    version += 1
    with open(path + ".tmp", "w") as file:
        json.dump({"version": version}, file)
    os.replace(path + ".tmp", path)
"""


def save(folder: Path, *, way: str) -> None:
    """Save one file three times."""
    for version in (1, 2, 3):
        name = "state.json" if way == "in place" else "state.json.tmp"
        with open(folder / name, "w") as file:
            file.write(str(version) * 8)
            if "fsync" in way:
                file.flush()
                os.fsync(file.fileno())
        if way != "in place":
            os.replace(folder / name, folder / "state.json")
        if way == "renamed, both fsyncs":
            place = os.open(folder, os.O_RDONLY)
            os.fsync(place)
            os.close(place)
        acknowledge(version)


def check(folder: Path, acknowledged: list[int]) -> None:
    """Assert that the file is absent or whole."""
    state = folder / "state.json"
    assert not state.exists() or state.read_text() in ("1" * 8, "2" * 8, "3" * 8)


def save_json(folder: Path) -> None:
    """Save as the program does that the other tool runs."""
    for version in (1, 2, 3):
        with open(folder / "state.json.tmp", "w") as file:
            json.dump({"version": version}, file)
        os.replace(folder / "state.json.tmp", folder / "state.json")
        acknowledge(version)


def check_json(folder: Path, acknowledged: list[int]) -> None:
    """Load what was saved."""
    if (folder / "state.json").exists():
        json.loads((folder / "state.json").read_text())


def explored(act: Callable[[Path], None], check: Callable[..., None]) -> int:
    """Check all states and return their number."""
    exploration: CrashExploration
    try:
        exploration = explore_crashes(act, check, max_failures=None, timeout=60)
    except ExplorationFailed as failed:
        exploration = failed.exploration
    return exploration.states


def forked(processes: int = 100) -> int:
    """Fork, and end each child process at once."""
    for _ in range(processes):
        process = os.fork()
        if not process:
            os._exit(0)
        os.waitpid(process, 0)
    return processes


def crashed_by_ckpt_chaos() -> int:
    """Run the other tool and return how many points it has crashed the program at."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "train.py").write_text(PROGRAM)
        command = ["ckpt-chaos", "run", "--step-regex", r"resumed from step (\d+)", "--result-file", "{out}/state.json"]
        done = subprocess.run(
            [*command, "--modes", "before,torn", "--", sys.executable, "train.py", "{out}"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=120,
        )
    found = re.search(r"-> (\d+) crash points", done.stdout)
    assert found, done.stdout + done.stderr
    return int(found[1])


def rate(call: Callable[[], int]) -> tuple[float, float]:
    """Return how much is done in a second, and in a second of processor time."""
    before, start = os.times(), time.perf_counter()
    count = call()
    seconds, after = time.perf_counter() - start, os.times()
    return count / seconds, count / max(0.01, sum(after[:4]) - sum(before[:4]))


def show_rates() -> None:
    calls: dict[str, Callable[[], int]] = {"bare fork": forked}
    for way in ("in place", "renamed", "renamed, fsync", "renamed, both fsyncs"):
        calls[f"states, {way}"] = partial(explored, partial(save, way=way), check)
    calls["states, the save of the program"] = partial(explored, save_json, check_json)
    if shutil.which("ckpt-chaos"):
        calls["points of ckpt-chaos, the same save"] = crashed_by_ckpt_chaos
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            rates[name].append(rate(call))
    print(f"{'a second':>10} {'of CPU':>8}")
    for name, measured in rates.items():
        wall, cpu = (statistics.median(each) for each in zip(*measured, strict=True))
        print(f"{wall:>10.0f} {cpu:>8.0f}  {name}")


def write_files(folder: Path) -> None:
    """Write four files without a sync: more states than are checked."""
    for name in "abcd":
        with open(folder / name, "wb", buffering=0) as file:
            file.writelines(b"%02d" % line for line in range(3))


def show_memory() -> None:
    def on_state(progress: CrashProgress) -> None:
        if progress.states in (100, 1_000, 2_500, 5_000, 10_000):
            gc.collect()
            now, peak = tracemalloc.get_traced_memory()
            print(f"{progress.states:>8,} states: {now / 1024:>8,.0f} KiB, at most {peak / 1024:,.0f} KiB")

    def accept(folder: Path, acknowledged: list[Any]) -> None:
        pass

    tracemalloc.start()
    explore_crashes(write_files, accept, timeout=60, on_state=on_state)


if __name__ == "__main__":
    show_memory() if "--memory" in sys.argv[1:] else show_rates()
