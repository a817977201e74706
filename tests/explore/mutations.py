"""Bugs to be put into a copy of the search, each of which the random programs have to find."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXPLORE = Path("failpoints", "_explore")
ORDERS, RACES, ACCESSES, SEARCH = "plan/orders.py", "plan/races.py", "plan/accesses.py", "plan/search.py"
STEPS, PRIMITIVES, CHANNELS = "steps.py", "loops/primitives.py", "loops/primitives_channels.py"
TASKS, ASYNCIO = "loops/primitives_tasks.py", "loops/primitives_asyncio.py"
ANYIO, TRIO = "loops/primitives_anyio.py", "loops/primitives_trio.py"
PROGRAMS = 250  # for each library and mode


@dataclass(frozen=True)
class Mutation:
    """A text in a file of the search, and what replaces it. *kinds* names the kinds of programs that find the bug."""

    bug: str
    file: str
    before: str
    after: str
    kinds: str = ""

    @property
    def libraries(self) -> tuple[str, ...]:
        """The libraries in whose programs it can be found."""
        if self.file == TRIO:
            return ("trio", "anyio-on-trio")
        return ("asyncio",) if self.file == ASYNCIO else ("asyncio", "anyio")

    def count(self) -> int:
        """Return how many times the text is in the file."""
        return (ROOT / EXPLORE / self.file).read_text(encoding="utf-8").count(self.before)

    def find(self) -> str:
        """Run random programs until one of them shows the bug. Return what it shows, or ""."""
        with self._copy() as copy:
            command = [sys.executable, "-m", "tests.explore.brute_force", "--in-turn", "--most", "25"]
            command += ["--programs", str(PROGRAMS)]
            command += [word for kind in filter(None, self.kinds.split(", ")) for word in ("--kind", kind)]
            command += [word for library in self.libraries for word in ("--library", library)]
            environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONWARNINGS": "ignore"}
            done = subprocess.run(
                command, cwd=copy, env=environment, capture_output=True, text=True, check=False, timeout=300
            )
            return done.stderr if done.returncode else ""

    @contextmanager
    def _copy(self) -> Iterator[Path]:
        """Make a copy of the package with the bug in it, beside the tests."""
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder)
            shutil.copytree(ROOT / "failpoints", copy / "failpoints", ignore=shutil.ignore_patterns("__pycache__"))
            shutil.copytree(ROOT / "tests" / "explore", copy / "tests" / "explore")
            file = copy / EXPLORE / self.file
            text = file.read_text(encoding="utf-8").replace(self.before, self.after)
            file.write_text(text, encoding="utf-8")
            yield copy


MUTATIONS = [
    Mutation(
        "a sleeping task is never woken",
        ORDERS,
        "and not meet(accesses, touched)",
        "",
    ),
    Mutation(
        "a race plans no run",
        ORDERS,
        "node.todo.add(firsts[0])",
        "pass",
    ),
    Mutation(
        "a race of steps that were not chosen plans no run",
        ORDERS,
        "self._expand(min(later.turn, len(nodes) - 1))",
        "pass",
    ),
    Mutation(
        "the races of one turn more are taken as known",
        ORDERS,
        "is_known = later.turn < self._analysed",
        "is_known = later.turn <= self._analysed",
    ),
    Mutation(
        "writes commute",
        RACES,
        'elif mode != history.mode or mode == "w":',
        "elif mode != history.mode:",
    ),
    Mutation(
        "a read and a write do not meet",
        ACCESSES,
        'found != mode or mode == "w"',
        'found == "w" == mode',
    ),
    Mutation(
        "reads and updates do not meet",
        ACCESSES,
        '(found != mode or mode == "w")',
        '"w" in (found, mode)',
    ),
    Mutation(
        "a step does not meet a cancellation",
        STEPS,
        '{(CANCELLATION, task.path): "u"}',
        "{}",
    ),
    Mutation(
        "what wakes a held task counts as its cause",
        STEPS,
        "if could_run:\n            return",
        "if False:\n            return",
    ),
    Mutation(
        "a step that is not declared meets nothing",
        STEPS,
        'EVERYTHING, "w" if is_opaque else "u"',
        'EVERYTHING, "u"',
        "undeclared",
    ),
    Mutation(
        "a region declares its first step only",
        STEPS,
        "            for resource, mode in region:\n                add_access(segment.accesses, resource, mode)\n",
        "",
        "declared",
    ),
    Mutation(
        "an event that is set again causes the next wait",
        PRIMITIVES,
        "        if not getattr(event, flag):\n            seen.set_mark(event)",
        "        seen.set_mark(event)",
        "events",
    ),
    Mutation(
        "a set does not meet a look",
        PRIMITIVES,
        'seen.note(event, "w", "set")',
        'seen.note(event, "w", "other")',
    ),
    Mutation(
        "a wait does not meet a clear",
        PRIMITIVES,
        'CLEAR: Final = noting("w", "set", "clear")',
        'CLEAR: Final = noting("w", "set")',
        "clears",
    ),
    Mutation(
        "requests of a lock commute",
        PRIMITIVES,
        'seen.note(lock, "w", "queue")\n',
        'seen.note(lock, "u", "queue")\n',
        "locks",
    ),
    Mutation(
        "a lock does not meet a look at it",
        PRIMITIVES,
        'LOOK_AT_LOCK: Final = noting("r", "state")',
        'LOOK_AT_LOCK: Final = noting("u", "state")',
        "locks",
    ),
    Mutation(
        "a lock that is acquired at once does not meet its release",
        PRIMITIVES,
        'ACQUIRE_AT_ONCE: Final = noting("w", "queue", "state")',
        'ACQUIRE_AT_ONCE: Final = noting("w", "queue")',
        "locks at once",
    ),
    Mutation(
        "a cancellation does not meet what its task does",
        PRIMITIVES,
        'add_access(steps.accesses(self.node), (CANCELLATION, node.path), "w")',
        "pass",
    ),
    Mutation(
        "a wait that may be cancelled at its wake-up does not meet a set",
        PRIMITIVES,
        "self._are_all_exact = execution.cancels_at_wakeups",
        "self._are_all_exact = False",
        "events",
    ),
    Mutation(
        "a task that cancels itself does not mind whether it waits",
        PRIMITIVES,
        "self._exact.add(node)",
        "pass",
        "tasks",
    ),
    Mutation(
        "a task that is left behind plans no run",
        ORDERS,
        "self._nodes[-1].todo.update(self._nodes[-1].options)",
        "pass",
        "tasks",
    ),
    Mutation(
        "the end meets nothing",
        STEPS,
        'add_access(self.segment(task).accesses, EVERYTHING, "w")',
        "pass",
        "tasks",
    ),
    Mutation(
        "a fault is not tried before another one",
        SEARCH,
        "if not trace.choices[index] and trace.tasks[index] != trace.tasks[last]",
        "if False",
        "locks",
    ),
    Mutation(
        "puts commute",
        CHANNELS,
        '        seen.note(queue, "w", side)\n        channel.inside',
        "        channel.inside",
        "queue",
    ),
    Mutation(
        "closing a stream touches nothing",
        ANYIO,
        'patches.sync(end, "close clone", replace(ENDS_WAITS, of=state_of))',
        "pass",
        "ends of streams",
    ),
    Mutation(
        "items are in line in any queue",
        ASYNCIO,
        "return kind._get is _get and kind._put is _put",
        "return True",
        "sorted queue",
    ),
    Mutation(
        "a join does not meet the last task that is done",
        ASYNCIO,
        'patches.sync(queue, "task_done", noting("w", "put"))',
        "pass",
        "jobs",
    ),
    Mutation(
        "a semaphore's release touches nothing",
        ASYNCIO,
        'patches.sync(asyncio.BoundedSemaphore, "release", EXCLUSIVE)',
        "pass",
        "semaphores",
    ),
    Mutation(
        "a look at a task does not meet its end",
        TASKS,
        '        seen.note(node, "r", "end")\n\n\n# Groups',
        "        pass\n\n\n# Groups",
        "tasks",
    ),
    Mutation(
        "a cancellation does not meet the end of its task",
        TASKS,
        '        seen.cancel(node)\n        seen.note(node, "w", "end")',
        "        pass",
        "tasks",
    ),
]


def main() -> None:
    for mutation in MUTATIONS:
        if "ends missed" not in mutation.find():
            raise SystemExit(f"not found: {mutation.bug}")
        print(f"found: {mutation.bug}", flush=True)


if __name__ == "__main__":
    main()
