"""What sites declare that they read and write: when a run of an exploration hears of it."""

from __future__ import annotations

import functools
import json
from collections.abc import AsyncIterator, Coroutine, Generator
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from failpoints import FailpointPanic, FailpointUsageError, configured, failpoint, failpoint_context, failpoint_scope
from failpoints._core.accesses import Accesses
from failpoints._explore.execution import Execution, Steps
from failpoints._explore.plan.identity import TaskNode
from failpoints.explore import Run, explore
from failpoints.instrument import instrument

Runs = list[list[str]]


def ignore(*args: object, **kwargs: object) -> None:
    """Do nothing: the run does not keep its steps."""


class Recorded:
    """Notes what is declared of the steps of a run, and passes it on if the run keeps them."""

    def __init__(self, noted: list[str]) -> None:
        self.noted = noted
        self.steps: Any = None  # as the run keeps them

    def __getattr__(self, name: str) -> Any:
        return ignore if self.steps is None else getattr(self.steps, name)

    def declare_step(self, task: TaskNode, declared: Accesses) -> None:
        self.record("step", Steps.declare_step, task, declared)

    def enter_region(self, task: TaskNode, declared: Accesses) -> None:
        self.record("enter", Steps.enter_region, task, declared)

    def leave_region(self, task: TaskNode, declared: Accesses) -> None:
        self.record("leave", Steps.leave_region, task, declared)

    def record(self, what: str, method: Any, task: TaskNode, declared: Accesses) -> None:
        touched = [f"{mode}:{resource}" for resource, mode in declared]
        self.noted.append(" ".join([*map(str, task.path), what, *touched]))
        if self.steps is not None:
            getattr(self.steps, method.__name__)(task, declared)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    """What is declared in each run, in order, with the number of the task unless it is that of the scenario.

    Tests add what else happens.
    """
    noted: Runs = []

    def get_steps(run: Any) -> Recorded | None:
        return run.recorded if run.active or run.recorded.steps is not None else None

    def set_steps(run: Any, steps: Any) -> None:
        if not hasattr(run, "recorded"):
            noted.append([])
            run.recorded = Recorded(noted[-1])
        run.recorded.steps = steps

    monkeypatch.setattr(Execution, "steps", property(get_steps, set_steps), raising=False)
    return noted


class Sites:
    """One site of each kind. Each adds `body` where its body runs."""

    def __init__(self, runs: Runs) -> None:
        self.runs = runs

    def body(self) -> None:
        self.runs[-1].append("body")

    @failpoint("call", context=["key"], reads=("a:{key}",), writes=("log",))
    async def call(self, key: str) -> str:
        await anyio.lowlevel.checkpoint()
        self.body()
        if key == "bad":
            raise LookupError(key)
        return key

    @failpoint("call_sync", context=["key"], reads=("a:{key}",), writes=("log",))
    def call_sync(self, key: str) -> str:
        self.body()
        if key == "bad":
            raise LookupError(key)
        return key

    @failpoint("wrapped", context=["key"], reads=("a:{key}",), writes=("log",))
    @functools.lru_cache  # noqa: B019 - so that it has no code of its own
    def call_wrapped(self, key: str) -> str:
        return self.call_sync.__wrapped__(self, key)  # type: ignore[attr-defined,no-any-return]

    @failpoint("around")
    async def enter(self, key: str) -> None:
        async with failpoint_scope("enter", context={"key": key}, reads=("a:{key}",), writes=("log",)):
            await anyio.lowlevel.checkpoint()
            self.body()
            if key == "bad":
                raise LookupError(key)

    @failpoint("around.sync")
    def enter_sync(self, key: str) -> None:
        with failpoint_scope("enter_sync", context={"key": key}, reads=("a:{key}",), writes=("log",)):
            self.body()
            if key == "bad":
                raise LookupError(key)


def explored(backend: Any, act: Any, **options: Any) -> None:
    """Run `act` inside `run.injecting()`."""

    async def scenario(run: Run) -> None:
        async with run.injecting(expect=(LookupError, FailpointPanic)):
            await act()

    explore(scenario, backend=backend, **({"max_faults": 0} | options))


async def carry_out(site: Any, key: str) -> Any:
    """Call a site of any kind, and pass over its own error."""
    try:
        result = site(key)
        return await result if isinstance(result, Coroutine) else result
    except (LookupError, FailpointPanic):
        return None


# inline


def test_the_step_after_an_inline_visit(backend: Any, runs: Runs) -> None:
    """An inline visit declares the step that follows its turn, for each visit with the context that it has."""

    async def act() -> None:
        for key in ("x", "y"):
            await failpoint("inline", context={"key": key}, reads=("a:{key}", "b"), writes=("c:{key}:{key}",))
            runs[-1].append("go on")

    explored(backend, act, interleavings=True)
    assert list(dict.fromkeys(runs[0])) == ["step r:a:x r:b w:c:x:x", "go on", "step r:a:y r:b w:c:y:y"]


def test_the_step_in_which_an_inline_visit_ends(backend: Any, runs: Runs) -> None:
    """If the action at an inline visit suspends the task, the step after that is declared, too."""

    async def act() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(visit)
            group.start_soon(note)

    async def visit() -> None:
        try:
            await failpoint("inline", writes=("log",))
        except LookupError:
            runs[-1].append("raised")

    async def note() -> None:
        await anyio.sleep(0.5)
        runs[-1].append("meanwhile")

    for actions in ("sleep(1s)", "sleep(1s)+raise(LookupError)"):
        runs.clear()
        explored(backend, act, faults={"inline": [actions]}, max_faults=1)
        assert runs[1][:3] == ["1 step w:log", "meanwhile", "1 step w:log"]


def test_a_hit_in_sync_code(backend: Any, runs: Runs) -> None:
    """`hit()` declares the step that it is in."""

    async def act() -> None:
        failpoint("hit", context={"key": 1}, writes=("a:{key}",)).hit()

    explored(backend, act)
    assert runs[0] == ["step w:a:1"]


def test_cancelled_while_it_waits_for_its_turn(backend: Any, runs: Runs) -> None:
    """A visit that is cancelled before its turn declares nothing, and neither does a region that was not entered."""
    kept = failpoint_scope("kept", writes=("kept",))

    async def act() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(first)
            await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()

    async def first() -> None:
        async with kept:  # shared with a task that never enters it
            runs[-1].append("inside")

    explored(backend, act, interleavings=True)
    assert runs == [[]]


# calls and blocks


@pytest.mark.parametrize("site", ["call", "call_sync", "call_wrapped", "enter", "enter_sync"])
@pytest.mark.parametrize("key", ["x", "bad"])
def test_a_call_or_block(backend: Any, runs: Runs, site: str, key: str) -> None:
    """A call or a block is a region, which ends when it does, also with an error."""
    sites = Sites(runs)
    explored(backend, lambda: carry_out(getattr(sites, site), key))
    assert runs[0] == [f"enter r:a:{key} w:log", "body", f"leave r:a:{key} w:log"]


@pytest.mark.parametrize("site", ["call", "call_sync", "enter", "enter_sync"])
@pytest.mark.parametrize("action", ["raise(LookupError)", "return", "cancel"])
@pytest.mark.parametrize("after", ["", ":after"])
def test_an_action_ends_a_call_or_block(backend: Any, runs: Runs, site: str, action: str, after: str) -> None:
    """The region is left if an action ends the call or the block, before its body or after it."""
    if site.endswith("_sync") and action == "cancel":
        action = "panic"  # sync code is not cancelled
    sites = Sites(runs)
    explored(
        backend,
        lambda: carry_out(getattr(sites, site), "x"),
        faults={f"{site}{after}": [action], "*": []},
        max_faults=1,
    )
    assert runs[1] == ["enter r:a:x w:log", *(["body"] if after else []), "leave r:a:x w:log"]


def test_regions_of_several_tasks(backend: Any, runs: Runs) -> None:
    """A scope that is kept in a variable is a region of each task that is in it, and nested in itself."""
    kept = failpoint_scope("kept", context={}, reads=("kept:{who}",))

    async def act() -> None:
        async with anyio.create_task_group() as group:
            for who in (1, 2):
                with failpoint_context(who=who):
                    group.start_soon(enter)

    async def enter() -> None:
        async with kept:
            await anyio.lowlevel.checkpoint()
            async with kept:
                await anyio.lowlevel.checkpoint()

    explored(backend, act)
    for number in (1, 2):
        mine = [each[2:] for each in runs[0] if each.startswith(f"{number} ")]
        assert mine == [f"{what} r:kept:{number}" for what in ("enter", "enter", "leave", "leave")]


def test_a_scope_left_by_another_task(backend: Any, runs: Runs) -> None:
    """A scope in a generator that another task closes is left for the task that entered it."""

    async def generate() -> AsyncIterator[int]:
        async with failpoint_scope("scope", writes=("log",)):
            yield 1

    async def act() -> None:
        generator: Any = generate()
        async with anyio.create_task_group() as group:
            group.start_soon(anext, generator)
        runs[-1].append("between")
        await generator.aclose()

    explored(backend, act)
    assert runs[0] == ["1 enter w:log", "between", "1 leave w:log"]


# generators


def test_a_generator(backend: Any, runs: Runs) -> None:
    """The region of a generator is left while its consumer runs, and ends with it."""

    @failpoint("generator", writes=("log",))
    def generate() -> Generator[int]:
        yield 1
        runs[-1].append("body")

    async def act() -> None:
        for _ in generate():
            runs[-1].append("consumer")
        for _ in generate():
            break  # closes it

    explored(backend, act)
    step = ["enter w:log", "leave w:log"]
    assert runs[0] == [*step, "consumer", "enter w:log", "body", "leave w:log", *step, *step]


@pytest.mark.parametrize("disguised", [False, True])
def test_an_async_generator(backend: Any, runs: Runs, *, disguised: bool) -> None:
    """So is that of an async generator, in the task that resumes it. One that a sync function returns is the same."""

    async def generate() -> AsyncIterator[int]:
        yield 1
        runs[-1].append("body")

    def returns_it() -> AsyncIterator[int]:
        return generate()

    decorated: Any = failpoint("generator", writes=("log",))(returns_it if disguised else generate)

    async def act() -> None:
        generator = decorated()
        async with anyio.create_task_group() as group:
            group.start_soon(anext, generator)
        runs[-1].append("consumer")
        async for _ in generator:
            pass

    explored(backend, act)
    assert runs[0] == ["1 enter w:log", "1 leave w:log", "consumer", "enter w:log", "body", "leave w:log"]


# other kinds of functions


def test_an_awaited_result(backend: Any, runs: Runs) -> None:
    """The region of a sync function that returns a coroutine is the time in which that is awaited."""
    sites = Sites(runs)

    @failpoint("disguised", context=["key"], writes=("a:{key}",))
    def returns_it(key: str) -> Any:
        return work(key)

    async def work(key: str) -> None:
        sites.body()
        if key == "bad":
            raise LookupError(key)

    async def act() -> None:
        for key in ("x", "bad"):
            await carry_out(returns_it, key)

    explored(backend, act)
    assert runs[0] == [text for key in ("x", "bad") for text in (f"enter w:a:{key}", "body", f"leave w:a:{key}")]


def test_an_instrumented_function(backend: Any, runs: Runs) -> None:
    """`instrument` takes the same declarations. Without them, or with other ones, it is another instrumentation."""

    async def act() -> None:
        json.loads("1")

    with instrument("json:loads", "loads", context=["s"], reads=("text:{s}",), writes=("log",)):
        explored(backend, act)
        with pytest.raises(FailpointUsageError, match="writes"):
            instrument("json:loads", "loads", context=["s"], reads=("text:{s}",))
    assert runs[0] == ["enter r:text:1 w:log", "leave r:text:1 w:log"]


def test_a_worker_thread(backend: Any, runs: Runs) -> None:
    """What runs in a worker thread is not a step of a task."""
    sites = Sites(runs)

    def work() -> None:
        sites.call_sync("x")
        failpoint("hit", writes=("log",)).hit()

    explored(backend, lambda: anyio.to_thread.run_sync(work))
    assert runs[0] == ["body"]


def test_before_the_explored_part(backend: Any, runs: Runs) -> None:
    """A region that was entered before `run.injecting()` is known in it."""

    async def scenario(run: Run) -> None:
        async with failpoint_scope("scope", writes=("log",)), run.injecting():
            runs[-1].append("inside")

    explore(scenario, backend=backend, max_faults=0)
    assert runs[0] == ["enter w:log", "inside"]  # the block ends after the explored part


# texts


@pytest.mark.parametrize("option", ["reads", "writes"])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("log", "must be a tuple of texts, such as ('account:{account}',); got 'log'; did you mean ('log',)?"),
        (["log"], "must be a tuple of texts, such as ('account:{account}',); got ['log']; did you mean ('log',)?"),
        (3, "must be a tuple of texts, such as ('account:{account}',); got 3"),
        (("log", 3), "must contain only texts that name what is touched; got 3"),
        (("",), "must contain only texts that name what is touched; got ''"),
        (("a:{key",), "has 'a:{key', which cannot be filled in: expected '}' before end of string"),
        (
            ("a:{key.id}",),
            "has 'a:{key.id}', which cannot be filled in: braces contain a key of the context, and no attribute,"
            " index or format; did you mean {key}?",
        ),
    ],
)
def test_invalid_texts(option: str, given: Any, message: str) -> None:
    """What is not a tuple of texts to fill in is refused when a function is decorated, or at the first visit."""
    options: Any = {option: given}
    with pytest.raises(FailpointUsageError) as caught:
        failpoint("a", **options)(len)
    assert str(caught.value) == f"failpoint 'a': {option}= {message}"
    with configured("a", "off"):
        with pytest.raises(FailpointUsageError):
            failpoint("a", **options).hit()
        with pytest.raises(FailpointUsageError), failpoint_scope("a", **options):
            raise AssertionError
    with pytest.raises(FailpointUsageError):
        instrument("json:loads", "a", **options)


@pytest.mark.parametrize("text", ["{}", "{0}", "{key[0]}", "{key!r}", "{key!a}", "{key:>3}", "{.x}"])
def test_only_keys_are_filled_in(text: str) -> None:
    """Braces contain nothing but a key: no position, attribute, index, format, or conversion."""
    with pytest.raises(FailpointUsageError, match="cannot be filled in: braces contain a key"):
        failpoint("a", writes=(text,))(len)


@pytest.mark.parametrize("text", ["{{log}}", "{key!s}", "{a-key}:{key}", "log"])
def test_texts_that_are_filled_in(backend: Any, runs: Runs, text: str) -> None:
    """Doubled braces are braces, and `!s` is what a key becomes anyway. The context may come from around the site."""

    async def act() -> None:
        with failpoint_context(key=7, **{"a-key": "x"}):
            failpoint("hit", writes=(text,)).hit()

    explored(backend, act)
    assert runs[0] == [f"step w:{text.format(key=7, **{'a-key': 'x'})}"]


def test_objects_without_a_text_of_their_own(backend: Any, runs: Runs) -> None:
    """The address of an object is left out, since it differs from run to run."""

    async def act() -> None:
        failpoint("hit", context={"key": object()}, writes=("a:{key}",)).hit()

    explored(backend, act)
    assert runs[0] == ["step w:a:<object object>"]


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("context", "message"),
    [
        (
            {"acount": 1},
            "failpoint 'move': writes= names 'account' in 'a:{account}', which is not a key of the context"
            " (it has: acount); did you mean 'acount'?",
        ),
        (
            {},
            "failpoint 'move': writes= names 'account' in 'a:{account}', which is not a key of the context"
            " (it has: none)",
        ),
        (
            {"account": Unprintable()},
            "failpoint 'move': writes= cannot contain 'account', since its str() raises RuntimeError('no text')",
        ),
    ],
)
@pytest.mark.parametrize("swallowed", [False, True])
def test_a_key_that_the_context_does_not_have(
    backend: Any, context: dict[str, Any], message: str, *, swallowed: bool
) -> None:
    """A text that cannot be filled in ends the exploration, even if the program takes the error."""

    async def act() -> None:
        try:
            await failpoint("move", context=context, writes=("a:{account}",))
        except FailpointUsageError:
            if not swallowed:
                raise

    with pytest.raises(FailpointUsageError) as caught:
        explored(backend, act)
    assert str(caught.value) == message


def test_nothing_is_evaluated_while_nothing_is_explored() -> None:
    """Outside of explorations the texts are not filled in: nothing is asked for its text."""
    with configured("move", "return(v)"):
        assert failpoint("move", context={"account": Unprintable()}, writes=("a:{account}", "b:{nothing}")).hit()
