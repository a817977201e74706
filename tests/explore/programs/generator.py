"""Random programs: few operations each, on few things that are used again and again."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass

from .interpreter import Op, Program, texts_in

LOOKS = {
    "is_set",
    "locked",
    "size",
    "tokens",
    "put_nowait",
    "get_nowait",
    "acquire_nowait",
    "is_done",
}


def operations(text: str) -> list[Op]:
    """Return the operations that are named in a text, with their arguments."""
    return [tuple(int(word) if word.strip("-").isdigit() else word for word in op.split()) for op in text.split(",")]


@dataclass(frozen=True)
class Kind:
    """Operations that belong together. *blocks* have other operations inside, or tasks with operations."""

    leaves: str
    blocks: str = ""
    libraries: str = "asyncio anyio trio anyio-on-trio"


NATIVE = "asyncio"
OTHERS = "anyio trio anyio-on-trio"
KINDS = {
    "locks": Kind("acquire L, acquire L, acquire L, acquire M, release, release, locked L, locked L"),
    "locks at once": Kind("acquire L, acquire L, acquire_nowait L, release, locked L", libraries=OTHERS),
    "at once": Kind("acquire L, release, acquire_if_free L, set E, wait_if_set E", libraries=NATIVE),
    "events": Kind("set E, set E, set E, wait E, wait E, is_set E, set F, wait F"),
    "clears": Kind("set E, set E, clear E, wait E, wait E", libraries=NATIVE),
    "queue": Kind("put Q 1, put Q 2, get Q, get Q, put_nowait Q 3, get_nowait Q, size Q"),
    "bounded queue": Kind("put B 1, put B 2, get B, get B, put_nowait B 3, get_nowait B, size B"),
    "queue without room": Kind("put R 1, put R 2, get R, get R, put_nowait R 3, get_nowait R", libraries=OTHERS),
    "sorted queue": Kind("put H 2, put H 1, get H, get H", libraries=NATIVE),
    "stack": Kind("put K 1, put K 2, get K, get K", libraries=NATIVE),
    "jobs": Kind("put Q 1, get Q, get_nowait Q, task_done Q, task_done Q, join Q", libraries=NATIVE),
    "ends of streams": Kind(
        "put B 1, put b 2, get B, get b, close B 0, close b 0, close B 1, close b 1, clone B 0, clone B 1,"
        "close_clone, put_nowait B 3, size B",
        libraries=OTHERS,
    ),
    "semaphores": Kind("acquire S, acquire S, acquire S, acquire Z, release, release, tokens S, release_more Z"),
    "limiters": Kind(
        "acquire T, acquire T, acquire T, acquire V, release, release, tokens T, acquire_nowait T, resize T 2,"
        "resize T 1",
        libraries=OTHERS,
    ),
    "conditions": Kind(
        "condition wait, condition wait, condition wait, condition notify, condition notify 2, condition notify_all,"
        "acquire C, release"
    ),
    "barriers": Kind(
        "barrier, barrier, barrier, barrier, at_barrier look, at_barrier reset, at_barrier abort", libraries=NATIVE
    ),
    "futures": Kind(
        "future wait, future wait, future set 1, future set 2, future cancel, future look", libraries=NATIVE
    ),
    "tasks": Kind("await 0, await 1, is_done 0, is_done 1, cancel 0", libraries=NATIVE),
    "memory": Kind("read x, read x, write x 1, write x 2, add x 1"),
    "declared": Kind("add x 1, add x 2, add y 1, write x 1", "region"),
    "undeclared": Kind("hidden 1, hidden 2, hidden 2, region, checkpoint"),
    "time": Kind("sleep 1, sleep 2, checkpoint", "timeout deadline"),
    "cancellation": Kind("cancel 0, cancel 1, cancel -1, cancel_sibling 0, checkpoint", "shield timeout"),
    "groups": Kind("cancel_sibling 0, cancel_sibling -1", "group group group"),
    "starts": Kind("cancel_sibling 0, checkpoint", "start", OTHERS),
    "waits": Kind("checkpoint", "gather first wait_for as_completed", NATIVE),
}
_MEMORY = operations("read x, write x 1, write x 2, write y 1, read y, add x 3")
_DECLARED = operations("visit_write x 1, visit_write y 1, visit_read x")
_AT_ONCE = {
    "set",
    "wait_if_set",
    "acquire_if_free",
    "is_set",
    "release",
    "locked",
    "put_nowait",
    "get_nowait",
    "add",
}
OF_TASKS = {"group", "start", "gather", "first", "wait_for", "as_completed"}


class _Generator:
    """Generates one program."""

    def __init__(self, rng: random.Random, library: str, mode: str, kinds: Collection[str]) -> None:
        self.rng = rng
        self.mode = mode
        usable = {name: kind for name, kind in KINDS.items() if library in kind.libraries.split()}
        main = rng.choice([name for name in usable if name in kinds] or list(usable))
        with_blocks = [name for name, kind in usable.items() if kind.blocks]
        others = [] if rng.random() < 0.35 else [rng.choice(with_blocks if rng.random() < 0.7 else list(usable))]
        self.kinds = [usable[name] for name in dict.fromkeys([main, *others])]
        self.blocks = [block for kind in self.kinds for block in kind.blocks.split()]
        self.is_plain = rng.random() < 0.35  # without a look at the state of things, which meets most of what is done
        # Often only few of the operations, which are then repeated.
        self.leaves: list[Op] = []
        for kind in self.kinds:
            leaves = [op for op in operations(kind.leaves) if not (self.is_plain and op[0] in LOOKS)]
            self.leaves += rng.sample(leaves, 3) if rng.random() < 0.5 and len(leaves) > 3 else leaves
        self.memory = _MEMORY[:3] if rng.random() < 0.6 else _MEMORY
        self.visits = rng.choice((0.2, 0.4)) if mode == "visits" else rng.choice((0, 0.1))
        self.of_memory = rng.choice((0.15, 0.3))

    def leaf(self) -> Op:
        if not self.leaves or self.rng.random() < self.of_memory:
            return self.rng.choice(self.memory)
        op = self.rng.choice(self.leaves)
        if op[0] == "hidden" and self.rng.random() < 0.5:
            return (*op, self.rng.choice(self.leaves))
        return op

    def visit(self) -> Op:
        if self.rng.random() < 0.7:
            return ("visit",)
        at_once = [each for each in self.leaves if each[0] in _AT_ONCE]
        between = self.rng.sample(at_once, min(len(at_once), self.rng.randrange(2)))
        return (*self.rng.choice(_DECLARED), *between)

    def op(self, depth: int) -> Op:
        rng = self.rng
        if rng.random() < self.visits:
            return self.visit()
        if self.blocks and depth < 2 and rng.random() < (0.35, 0.15)[depth]:
            return self.block(rng.choice(self.blocks), depth + 1)
        if rng.random() < 0.06:
            return ("if", self.leaf(), self.leaf())
        if depth and rng.random() < 0.06:
            return ("raise",)
        return self.leaf()

    def block(self, kind: str, depth: int) -> Op:
        rng = self.rng
        if kind not in OF_TASKS:
            return (kind, *self.ops(depth, 2))
        children = [self.ops(depth, 2) for _ in range(2)]
        if kind == "wait_for":
            returns = rng.choice(("FIRST_COMPLETED", "FIRST_EXCEPTION", "ALL_COMPLETED"))
            return (kind, returns, rng.choice((None, 1)), *children)
        return (kind, *children)

    def ops(self, depth: int, most: int) -> tuple[Op, ...]:
        return tuple(self.op(depth) for _ in range(self.rng.randint(1, most)))

    def pattern(self) -> list[tuple[Op, ...]]:
        """Return tasks in which the same operations come again, with something in between that makes a difference."""
        rng = self.rng
        switch: Op = ("visit",) if self.mode == "visits" else ("checkpoint",)
        leaves = sorted(set(self.leaves), key=repr)
        one, other, third = (rng.choice(leaves) for _ in range(3))
        write, read = ("write", "x", 1), ("read", "x")
        tasks: list[tuple[Op, ...]] = rng.choice(
            [
                [(one, switch, write, one), (other, switch, other, read)],
                [(one, switch, write, one), (other, switch, other, read)],
                [(one, switch, write), (other, switch, read, one)],
                [(one, switch, third), (switch, other, read)],
                [(one, switch, third), (switch, other, read)],
                [(one, third, switch, write, third), (other, switch, read)],
                [(switch, write), (switch, one), (other, read)],
                [(switch, write), (one, read), (other, read)],
            ]
        )
        rng.shuffle(tasks)
        return tasks


def random_program(seed: int, library: str, mode: str, kinds: Collection[str] = ()) -> Program:
    """Return the program that belongs to a seed, with operations of one of these kinds in it."""
    rng = random.Random(f"{seed} {library} {mode}")
    generator = _Generator(rng, library, mode, kinds)
    most = (4 if mode == "visits" else 2) + generator.is_plain
    if generator.leaves and rng.random() < 0.5:
        tasks = tuple(generator.pattern())
    else:
        tasks = tuple(generator.ops(0, most) for _ in range(2 + (rng.random() < 0.2)))
    chance = rng.random()
    return Program(
        tasks,
        library,
        mode,
        faults=(chance < 0.1) + (chance < 0.02),
        cancellations=chance < 0.05,
        declares=rng.random() < 0.4 and "hidden" not in set(texts_in(tasks)),
    )
