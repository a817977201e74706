"""Random sequences of what programs and tests do, beside a model of what each call returns after that."""

from __future__ import annotations

import functools
import gc
import itertools
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import FunctionType
from typing import Any, NamedTuple

import pytest

import failpoints
from failpoints import Registry, Return, configure, configure_all, configured, failpoint, failpoint_scope, remove, reset
from failpoints._core import switches
from failpoints._sites import failpoint as points
from failpoints._sites import scope as scopes
from tests.interrupting import interrupting

PACKAGE = str(Path(failpoints.__file__).parent)
BODY = "the body's"
FUNCTIONS = ["model.f0", "model.f1", "model.f2"]
KEPT, DYNAMIC = "model.kept", "model.dynamic"
NAMES = [*FUNCTIONS, "model.written", "model.written-async", KEPT, DYNAMIC]


def plain() -> str:
    return BODY


def named_like_a_scope() -> str:
    names = ["model.written", KEPT]
    with nullcontext():
        return BODY if names else ""


def written() -> str:
    with failpoint_scope("model.written"):
        return BODY


async def coroutine() -> str:
    return BODY


async def written_async() -> str:
    async with failpoint_scope("model.written-async"):
        return BODY


def generator() -> Iterator[int]:
    yield 1
    return BODY


def copy_of_kept(scope: AbstractContextManager[None]) -> Callable[[], str]:
    def kept() -> str:
        with scope:
            return BODY

    return kept


def copy_of_dynamic(prefix: str) -> Callable[[], str]:
    def dynamic() -> str:
        with failpoint_scope(f"{prefix}dynamic"):
            return BODY

    return dynamic


class Made(NamedTuple):
    """A function under one to three failpoints, the outermost first, and the scope in it."""

    call: Callable[[], Any]
    names: list[str]
    scope: str | None
    function: Any

    def result(self) -> Any:
        """Call it, and return what it returns in the end."""
        result = self.call()
        step: Callable[[], object] | None = None
        if hasattr(result, "send"):
            step = functools.partial(result.send, None)
        while step is not None:
            try:
                step()
            except StopIteration as stop:
                return stop.value
        return result

    def expected(self, find: Callable[[str], str | None]) -> str:
        """Return what the model expects, given what is configured for a name."""
        before = [find(name) for name in self.names]
        scope = [find(self.scope), find(f"{self.scope}:after")] if self.scope else []
        after = [find(f"{name}:after") for name in self.names]
        depth = next((depth for depth, found in enumerate(before) if found), len(before))
        inside = [before[depth]] if depth < len(before) else scope
        return next((found for found in [*after[:depth], *inside] if found), BODY)


def make(chosen: random.Random) -> Made:
    """Decorate a function of a random kind."""
    kinds: list[tuple[Callable[..., Any], str | None]] = [
        *((each, None) for each in (plain, named_like_a_scope, coroutine, generator, functools.partial(plain))),
        (written, "model.written"),
        (written_async, "model.written-async"),
        (copy_of_kept(failpoint_scope(KEPT)), KEPT),
        (copy_of_kept(failpoint_scope(KEPT, context={"key": 1})), KEPT),
        (copy_of_dynamic("model."), DYNAMIC),
    ]
    function, scope = chosen.choice(kinds)
    names = chosen.choices(FUNCTIONS, k=chosen.choice([1, 1, 2, 3]))
    call = chosen.choice([lambda function: function, staticmethod])(function)
    for name in reversed(names):
        call = failpoint(name)(call)
    is_static = isinstance(call, staticmethod)
    return Made(call.__get__(None, Made) if is_static else call, names, scope, call.__func__ if is_static else call)


class Model:
    """What was made and configured. Each change is made in the library too."""

    def __init__(self, seed: int) -> None:
        self.chosen = random.Random(seed)
        self.made = [make(self.chosen) for _ in range(5)]
        self.points: list[tuple[Any, str]] = []
        self.configured: dict[str, list[tuple[object, str]]] = {}  # by name, the newest last
        self.blocks: list[tuple[AbstractContextManager[Any], str]] = []
        self.values = map("{}".format, itertools.count())

    def name(self) -> str:
        return self.chosen.choice(NAMES) + self.chosen.choice(["", "", ":after"])

    def found(self, name: str) -> str | None:
        entries = self.configured.get(name)
        return entries[-1][1] if entries else None

    def configure(self, name: str) -> None:
        value = next(self.values)
        configure(name, Return(value))
        self.configured[name] = [(None, value)]

    def remove(self, name: str) -> None:
        remove(name)
        self.configured.pop(name, None)

    # steps

    def step_configure(self) -> None:
        self.configure(self.name())

    def step_configure_in_a_thread(self) -> None:
        in_thread(self.step_configure)

    def step_configure_all(self) -> None:
        values = {self.name(): next(self.values) for _ in range(3)}
        configure_all([(name, Return(value)) for name, value in values.items()])
        self.configured.update({name: [(None, value)] for name, value in values.items()})

    def step_remove(self) -> None:
        self.remove(self.name())

    def step_reset(self) -> None:
        if self.chosen.random() < 0.3:
            reset()
            self.configured.clear()

    def step_enter_a_block(self) -> None:
        name, value = self.name(), next(self.values)
        block = configured(name, Return(value))
        block.__enter__()
        self.blocks.append((block, name))
        self.configured.setdefault(name, []).append((block, value))

    def step_leave_a_block(self) -> None:
        if self.blocks:
            block, name = self.blocks.pop(self.chosen.randrange(len(self.blocks)))
            block.__exit__(None, None, None)
            self.configured[name] = [entry for entry in self.configured.get(name, []) if entry[0] is not block]

    def step_handle_a_signal(self) -> None:
        """Reconfigure at a random line of another change, as a signal handler does."""
        name, other = self.chosen.sample(NAMES, 2)
        change, handle = self.chosen.choices([self.configure, self.remove], k=2)
        if not interrupting(self.chosen.randrange(1, 150), lambda: handle(other), lambda: change(name)):
            handle(other)

    def step_enter_a_registry(self) -> None:
        own = {self.name(): next(self.values) for _ in range(2)}
        with Registry() as registry:
            for name, value in own.items():
                registry.configure(name, Return(value))
            self.check(own)
            in_thread(self.check)

    def step_make(self) -> None:
        self.made.append(make(self.chosen))
        name = self.chosen.choice(FUNCTIONS)
        self.points.append((failpoint(name, **self.chosen.choice([{}, {"context": {"key": 1}}])), name))

    def step_drop(self) -> None:
        del self.made[: self.chosen.randrange(3)], self.points[: self.chosen.randrange(3)]

    def step_forget_what_was_made(self) -> None:
        """Make sites of too many names, so that the tables are cleared."""
        if self.chosen.random() < 0.1:
            for number in range(1_001):
                failpoint(f"model.point{number}")
                failpoint_scope(f"model.scope{number}")

    # checks

    def check(self, own: Mapping[str, str] | None = None) -> None:
        """Compare what each call returns, given what is configured in a registry that is entered."""

        def find(name: str) -> str | None:
            return (own or {}).get(name) or self.found(name)

        for made in self.made:
            assert made.result() == made.expected(find), (made, own, self.configured)
        for point, name in self.points:
            outcome = point.hit()
            assert (outcome.value if outcome else None) == find(name), (name, own, self.configured)

    def check_nothing_is_armed(self) -> None:
        for made in self.made:
            if type(made.function) is FunctionType:
                assert made.function.__code__ is made.function.__wrapped__.__code__, made
        assert not switches.ARMED
        assert not switches._returning
        assert not any(reference() for reference in switches._switches.values())


def in_thread(function: Callable[[], object]) -> None:
    """Run the function in a new thread, and raise what it raises."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    if errors:
        raise errors[0]


@pytest.mark.parametrize("seed", range(8))
def test_each_call_is_visited_exactly_while_its_name_is_configured(seed: int) -> None:
    """Whatever the program does in between. In the end all functions have their own code, and nothing is kept."""
    model = Model(seed)
    steps = [getattr(model, name) for name in sorted(vars(Model)) if name.startswith("step_")]
    for _ in range(80):
        model.chosen.choice(steps)()
        model.check()
    while model.blocks:
        model.step_leave_a_block()
        model.check()
    reset()
    model.configured.clear()
    model.check()
    model.check_nothing_is_armed()
    model.made.clear()
    model.points.clear()
    del model, steps
    points._plain.clear()
    scopes._plain.clear()
    gc.collect()
    assert not [name for name in switches._switches if name in NAMES]
    assert not [name for name in switches._holders if name in FUNCTIONS]
