"""The report of a failed exploration: the timeline, the replay, the configuration, the cause."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

import failpoints
from failpoints import FailpointUsageError, Pause, Raise, Registry, Return, failpoint, failpoint_context
from failpoints.explore import Exploration, ExplorationFailed, Progress, Run, explore

ROOT = Path(__file__).parents[2]


class Bank:
    def __init__(self) -> None:
        self.accounts = {"a": 100, "b": 0}

    async def transfer(self, cents: int) -> None:
        await self.add("a", -cents)
        await self.add("b", cents)

    @failpoint("bank.add", context=["account"], raises=(ConnectionError,))
    async def add(self, account: str, cents: int) -> None:
        self.accounts[account] += cents


async def transfer(run: Run) -> None:
    bank = Bank()
    async with run.injecting():
        await bank.transfer(10)
    total = sum(bank.accounts.values())
    assert total == 100, f"the accounts hold {total}"


async def withdraw_twice(run: Run) -> None:
    balance = 100

    async def withdraw(cents: int) -> None:
        nonlocal balance
        await failpoint("balance.read")
        left = balance
        await failpoint("balance.write", context={"left": left - cents})
        balance = left - cents

    async with run.injecting(), anyio.create_task_group() as group:
        group.start_soon(withdraw, 10)
        group.start_soon(withdraw, 20)
    assert balance == 70, f"{balance} are left"


def message_of(failed: pytest.ExceptionInfo[ExplorationFailed]) -> str:
    """Return the message without the line numbers of this file."""
    return re.sub(r"[\w/.]*test_failures\.py:\d+", "HERE", str(failed.value))


def test_the_timeline_of_a_fault(backend: Any) -> None:
    """The message has the visits in order, with task, place and injected fault, and the call that repeats the run."""
    with pytest.raises(ExplorationFailed) as failed:
        explore(transfer, backend=backend)
    given = "" if backend == "asyncio" else "backend='trio', "
    assert message_of(failed) == (
        "transfer failed in run 3, with 1 fault:\n"
        "AssertionError: the accounts hold 90, at HERE\n"
        "\n"
        "  transfer  bank.add {'account': 'a'}        HERE\n"
        "  transfer  bank.add:after {'account': 'a'}  HERE  <- raise(ConnectionError) injected\n"
        "\n"
        f"repeat this run:  explore(transfer, {given}replay='f2.1 #e460')\n"
        "the same faults:  FAILPOINTS='bank.add:after=1*raise(ConnectionError)'"
    )
    assert isinstance(failed.value.__cause__, AssertionError)
    assert str(failed.value.__cause__).startswith("the accounts hold 90")
    assert failed.value.exploration.runs == 3
    assert str(failed.value.exploration) == "3 runs, the last one failed: AssertionError: the accounts hold 90"


def test_the_timeline_of_an_order(backend: Any) -> None:
    """Each task has a column. A line shows where it was held, and another one that it goes on, if that is later."""
    with pytest.raises(ExplorationFailed) as failed:
        explore(withdraw_twice, backend=backend, interleavings=True)
    given = "" if backend == "asyncio" else "backend='trio', "
    assert message_of(failed) == (
        "withdraw_twice failed in run 1, with no fault and 1 switch away from a task that could go on:\n"
        "AssertionError: 90 are left, at HERE\n"
        "\n"
        "  withdraw 1    comes to balance.read, held                 HERE\n"
        "    withdraw 2  comes to balance.read, held                 HERE\n"
        "  withdraw 1    goes on at balance.read\n"
        "  withdraw 1    comes to balance.write {'left': 90}, held   HERE\n"
        "    withdraw 2  goes on at balance.read\n"
        "    withdraw 2  balance.write {'left': 80}                  HERE\n"
        "  withdraw 1    goes on at balance.write {'left': 90}\n"
        "\n"
        f"repeat this run:  explore(withdraw_twice, {given}replay='o0.1 #b67a')"
    ).replace("   HERE", "  HERE")
    assert failed.value.failure.configuration is None


@pytest.mark.parametrize(
    ("scenario", "given"),
    [
        (transfer, {}),
        (transfer, {"interleavings": True, "max_faults": 1}),
        (withdraw_twice, {"interleavings": True}),
        (withdraw_twice, {"interleavings": True, "max_faults": 1}),
    ],
)
def test_replay(backend: Any, scenario: Any, given: Any) -> None:
    """A replay repeats only the run that failed, which fails in the same way."""
    with pytest.raises(ExplorationFailed) as failed:
        explore(scenario, backend=backend, **given)
    with pytest.raises(ExplorationFailed) as again:
        explore(scenario, backend=backend, replay=failed.value.replay)
    assert again.value.failure == failed.value.failure
    assert str(again.value).splitlines()[1:] == str(failed.value).splitlines()[1:]
    assert again.value.exploration.runs == 1


def test_a_replay_that_passes(backend: Any) -> None:
    """Once the program is fixed, a replay passes. The verdict shows whether the program still makes the same visits."""

    async def fixed(run: Run) -> None:
        async with run.injecting():
            await failpoint("first")
            await failpoint("second")

    exploration = explore(fixed, backend=backend, replay="f2.1 #0000")
    assert str(exploration) == (
        "1 run, replayed: the program does not make the visits that the replay was made from: no failure"
    )
    assert exploration.hits == {"first": 1, "second": 1}
    assert str(explore(fixed, backend=backend, replay="f3.1")).endswith("that the replay was made from: no failure")
    assert str(explore(fixed, backend=backend, replay="f2.1")) == "1 run, replayed: no failure"


@pytest.mark.parametrize("replay", ["", "x", "o0,1", "f1", "f1.1 o0", "o 1", 3, "#12345"])
def test_an_invalid_replay(replay: Any) -> None:
    """A text that does not come from a failure raises `FailpointUsageError`."""
    if replay == "":  # of the first run, which has no fault and no turns
        assert explore(withdraw_twice, replay=replay).runs == 1
        return
    with pytest.raises(
        FailpointUsageError, match="replay= must be the text that the message of a failed exploration has, such as"
    ):
        explore(transfer, replay=replay)


def test_the_configuration_does_the_same() -> None:
    """The `FAILPOINTS=…` of a message injects the same fault in another process."""

    async def three(run: Run) -> None:
        await failpoint("bank.add")
        bank = Bank()
        async with run.injecting():
            try:
                await bank.transfer(10)
            except ConnectionError:
                await bank.add("a", 10)
        assert bank.accounts["b"] == 0 or not run.faults

    with pytest.raises(ExplorationFailed) as failed:
        explore(three)
    assert failed.value.failure.configuration == "bank.add:after=1*off->1*raise(ConnectionError)"
    program = (
        "import anyio\nfrom tests.explore.test_failures import Bank\nbank = Bank()\n"
        "try:\n    anyio.run(bank.transfer, 10)\nexcept ConnectionError:\n    print(bank.accounts)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={"FAILPOINTS": str(failed.value.failure.configuration), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.stdout, ran.stderr) == (
        "{'a': 90, 'b': 10}\n",
        "FAILPOINTS is in force: bank.add:after=1*off->1*raise(ConnectionError)\n",
    )


class Busy(Exception):
    """Declared by some of the sites below."""


Namesake = type("TimeoutError", (Exception,), {})  # named as a builtin exception is


@pytest.mark.parametrize(
    ("raises", "fault", "expected"),
    [
        ((), Raise(Busy), None),
        ((Busy,), Raise(Busy), "1*raise(Busy)"),
        ((Busy,), Raise(OSError), "1*raise(OSError)"),
        ((Busy,), Raise(OSError, "disk full"), "1*raise(OSError: disk full)"),
        ((Busy,), "raise(Busy: at noon)", "1*raise(Busy: at noon)"),
        ((Busy,), Raise(Busy("an instance")), None),
        ((), Raise(), "1*raise"),
        ((), Raise(TimeoutError), "1*raise(TimeoutError)"),
        ((), Raise(Namesake), None),
        ((Namesake,), Raise(Namesake), "1*raise(TimeoutError)"),
        ((Namesake,), Raise(TimeoutError), None),
    ],
)
@pytest.mark.parametrize("kind", ["function", "inline"])
def test_a_configuration_works_or_is_not_given(raises: Any, fault: Any, expected: str | None, kind: str) -> None:
    """The `FAILPOINTS=…` of a message raises the same exception, or the message has none."""
    name = f"pool.reset.{kind}"

    @failpoint(name, raises=raises)
    async def function() -> None: ...

    async def inline() -> None:
        await failpoint(name, raises=raises)

    reset = function if kind == "function" else inline
    errors: list[BaseException] = []

    async def scenario(run: Run) -> None:
        async with run.injecting():
            await reset()
        if run.error:
            errors.append(run.error)
        assert not run.error

    with pytest.raises(ExplorationFailed) as failed:
        explore(scenario, faults={name: [fault], "*": []})
    configuration = failed.value.failure.configuration
    assert configuration == (expected and f"{name}={expected}")
    assert ("FAILPOINTS=" in str(failed.value)) is (expected is not None)
    if configuration is not None:

        async def run_again() -> None:
            with Registry() as registry, pytest.raises(type(errors[0])) as raised:
                registry.configure(*configuration.split("=", 1))
                await reset()
            assert str(raised.value) == str(errors[0])

        anyio.run(run_again)


def test_a_fault_without_a_configuration() -> None:
    """A message has no `FAILPOINTS=…` for a value that is not text."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            outcome = await failpoint("ask")
        assert not outcome

    for action, expected in ((Return("x"), "ask=1*return(x)"), (Return(1), None)):
        with pytest.raises(ExplorationFailed) as failed:
            explore(scenario, faults={"ask": [action]})
        assert failed.value.failure.configuration == expected


async def update_without_failpoints(run: Run) -> None:
    balance = 0

    async def add() -> None:
        nonlocal balance
        before = balance
        await anyio.lowlevel.checkpoint()
        balance = before + 1

    async with run.injecting(), anyio.create_task_group() as group:
        group.start_soon(add)
        group.start_soon(add)
    assert balance == 2


def test_the_timeline_of_code_without_failpoints(backend: Any) -> None:
    """With "awaits", a line shows the task that goes on instead of another one, and where it was suspended."""
    with pytest.raises(ExplorationFailed) as failed:
        explore(update_without_failpoints, backend=backend, interleavings="awaits")
    lines = [re.sub(r" +", " ", line).strip() for line in failed.value.failure.timeline]
    timeline = [re.sub(r"[\w/.]*test_failures\.py:\d+", "HERE", line) for line in lines]
    goes_on = "goes on after await anyio.lowlevel.checkpoint() HERE"
    assert timeline[:3] == ["add 1 starts", "add 2 starts", f"add 1 {goes_on}"]
    assert timeline[-1].startswith("update_without_failpoints goes on after async with run.injecting(), ")


def test_fewer_switches_are_found(backend: Any) -> None:
    """The reported run has the fewest switches with which the failure occurs."""

    async def scenario(run: Run) -> None:
        balance = 0

        async def add(count: int) -> None:
            nonlocal balance
            for _ in range(count):
                await failpoint("nothing")
            before = balance
            await failpoint("write")
            balance = before + 1

        async with run.injecting(), anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(add, 2)
        assert balance == 3

    with pytest.raises(ExplorationFailed, match="with no fault and 1 switch away") as failed:
        explore(scenario, backend=backend, interleavings=True)
    assert len([line for line in failed.value.failure.timeline if "comes to" not in line]) == 9


def test_names_contexts_and_worker_threads_in_the_timeline(backend: Any) -> None:
    """A timeline has the given names of tasks and the ambient context, but no addresses of objects."""

    def in_thread() -> None:
        failpoint("in_thread", context={"by": object()}).hit()

    async def worker() -> None:
        with failpoint_context(request="r1"):
            await failpoint("named")
            await anyio.to_thread.run_sync(in_thread)

    async def scenario(run: Run) -> None:
        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(worker, name="the worker")
        raise RuntimeError("stop here")

    with pytest.raises(ExplorationFailed) as failed:
        explore(scenario, backend=backend)
    assert [line.rpartition("  ")[0].rstrip() for line in failed.value.failure.timeline] == [
        "the worker             named {'request': 'r1'}",
        "  the worker (thread)  in_thread {'request': 'r1', 'by': <object object>}",
    ]


def test_a_long_timeline_is_shortened() -> None:
    """A long timeline is shown without its middle."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            for _ in range(1000):
                await failpoint("visit")
        raise RuntimeError

    with pytest.raises(ExplorationFailed, match="… 920 more lines …"):
        explore(scenario)


def test_the_cause_is_the_error_itself(backend: Any) -> None:
    """The cause is the error of the scenario, with its traceback."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            await failpoint("visit")
        raise KeyError("missing")

    with pytest.raises(ExplorationFailed) as failed:
        explore(scenario, backend=backend)
    cause = failed.value.__cause__
    assert isinstance(cause, KeyError)
    assert cause.__traceback__ is not None
    assert "KeyError: 'missing', at tests/explore/test_failures.py:" in str(failed.value)


def test_pytest_shows_the_message(pytester: pytest.Pytester) -> None:
    """Pytest reports the message, and no frame of the library."""
    pytester.makepyfile(
        """
        from failpoints import failpoint
        from failpoints.explore import explore

        async def scenario(run):
            async with run.injecting():
                await failpoint("visit")
            assert not run.faults

        def test_it():
            explore(scenario)
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:schemathesis")
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    assert "scenario failed in run 2, with 1 fault:" in text
    assert "<- raise injected" in text
    assert "failpoints/_explore/explore.py" not in text.replace("\\", "/")


def test_on_run(backend: Any) -> None:
    """`on_run` is called with a `Progress` after each run."""
    progress: list[Progress] = []

    async def scenario(run: Run) -> None:
        async with run.injecting():
            await failpoint("visit")

    explore(scenario, backend=backend, on_run=progress.append)
    assert progress == [Progress(1, 10_000, 1, 0), Progress(2, 10_000, 0, 1)]


def test_on_run_after_a_failure(backend: Any) -> None:
    """`on_run` is also called after the run that fails, and after a replay."""
    progress: list[Progress] = []

    async def scenario(run: Run) -> None:
        async with run.injecting():
            await failpoint("visit")
        assert run.error is None

    with pytest.raises(ExplorationFailed) as failed:
        explore(scenario, backend=backend, on_run=progress.append)
    assert progress == [Progress(1, 10_000, 1, 0), Progress(2, 10_000, 0, 1, failed=True)]
    with pytest.raises(ExplorationFailed):
        explore(scenario, backend=backend, on_run=progress.append, replay=failed.value.replay)
    assert progress[2:] == [Progress(1, 10_000, 0, 1, failed=True)]


def test_on_run_after_a_run_that_differs(backend: Any) -> None:
    """`on_run` is also called after a run that does not follow its plan."""
    progress: list[Progress] = []

    async def scenario(run: Run) -> None:
        async with run.injecting():
            await failpoint("visit" if not progress else "another visit")

    with pytest.raises(ExplorationFailed, match="nondeterministic"):
        explore(scenario, backend=backend, on_run=progress.append)
    assert [each.failed for each in progress] == [False, True]


def test_verdicts() -> None:
    """The verdict is one line, and claims no more than was tried."""

    async def nothing(run: Run) -> None:
        pass

    async def one(run: Run) -> None:
        async with run.injecting():
            await failpoint("visit")

    assert str(explore(nothing)) == (
        "1 run, no failpoint was visited inside run.injecting(), so there was nothing to try: no failure"
    )
    assert str(explore(one, max_faults=0)) == "1 run, no faults and no orders: no failure"
    assert str(explore(one, faults={"*": []})) == "1 run, no visit at which a fault could be injected: no failure"
    assert str(explore(one, interleavings=True)) == "1 run, only one task to put in order: no failure"
    assert str(Exploration(runs=10_000, bounds=("stopped at max_runs=10000",))) == (
        "10,000 runs: stopped at max_runs=10000: not exhaustive: no failure found so far"
    )


def test_an_exploration_cannot_be_changed() -> None:
    """An `Exploration` is immutable, its counts too, and can still be copied and pickled."""
    exploration: Any = explore(transfer, faults={"*": []})
    with pytest.raises(dataclasses.FrozenInstanceError):
        exploration.runs = 2
    with pytest.raises(TypeError):
        exploration.hits["bank.add"] = 2
    assert exploration.failures == ()
    assert exploration.hits == {"bank.add": 2, "bank.add:after": 2}
    assert repr(exploration.hits) == "{'bank.add': 2, 'bank.add:after': 2}"
    for copied in (pickle.loads(pickle.dumps(exploration)), copy.deepcopy(exploration)):
        assert copied == exploration
        assert hash(copied) == hash(exploration)
    assert dataclasses.asdict(exploration)["hits"] == exploration.hits


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"backend": "trioo"}, "backend= must be 'asyncio' or 'trio'; got 'trioo'; did you mean 'trio'?"),
        ({"clock": "reel"}, "clock= must be 'virtual' or 'real'; got 'reel'; did you mean 'real'?"),
        ({"max_faults": -1}, "max_faults= must be a whole number of 0 or more; got -1"),
        ({"max_faults": True}, "max_faults= must be a whole number of 0 or more; got True"),
        ({"max_runs": 0}, "max_runs= must be a whole number of 1 or more; got 0"),
        (
            {"max_preemptions": 1.5, "interleavings": True},
            "max_preemptions= must be a whole number of 0 or more; got 1.5",
        ),
        ({"max_preemptions": 1}, "max_preemptions= limits the orders of tasks, so it needs interleavings=True"),
        ({"timeout": 0}, "timeout= must be a number of real seconds above 0; got 0"),
        ({"timeout": "5"}, "timeout= must be a number of real seconds above 0; got '5'"),
        (
            {"faults": {"a": ["raise"]}, "interleavings": True},
            "faults= has no effect while max_faults is 0: add max_faults=1",
        ),
    ],
)
def test_invalid_arguments(given: Any, message: str) -> None:
    """An invalid argument is refused before the first run, and the message has the valid ones."""
    with pytest.raises(FailpointUsageError) as refused:
        explore(transfer, **given)
    assert str(refused.value) == message


def test_invalid_scenarios() -> None:
    """A scenario must be a function with one parameter."""

    def awaitable(run: Run) -> Any:
        return Awaitable()

    class Awaitable:
        def __await__(self) -> Any:
            yield

    async def without_argument() -> None:
        pass

    not_called: Any = without_argument()
    with pytest.raises(FailpointUsageError, match="leave out the \\(\\)"):
        explore(not_called)
    with pytest.raises(FailpointUsageError, match="a scenario must take one argument, the run: def without_argument"):
        explore(without_argument)  # type: ignore[arg-type]
    with pytest.raises(FailpointUsageError, match=r"explore\(\) takes a function; got 3"):
        explore(3)  # type: ignore[arg-type]
    with pytest.raises(
        ExplorationFailed, match="a scenario must be a function or an async function; .*awaitable returned"
    ):
        explore(awaitable)


@pytest.mark.anyio
async def test_not_inside_an_event_loop() -> None:
    """`explore` raises inside an event loop, and leaves nothing armed."""
    with pytest.raises(FailpointUsageError, match="which is not possible inside another one"):
        explore(transfer)
    assert not failpoints._core.store.ARMED


def test_not_inside_another_exploration() -> None:
    """`explore` raises inside a run of another exploration."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            await failpoint("visit")
        explore(transfer)

    with pytest.raises(ExplorationFailed, match="explore\\(\\) runs event loops of its own"):
        explore(scenario)


def test_pause_is_accepted_as_an_alternative() -> None:
    """Faults may be action objects as well as text."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            with anyio.move_on_after(1):
                await failpoint("ask")

    assert explore(scenario, faults={"ask": [Pause(), "pause(10ms)"]}).runs == 3


def test_the_summary_of_a_group(backend: Any) -> None:
    """The summary of an exception group has the errors inside."""

    async def scenario(run: Run) -> None:
        async def worker() -> None:
            raise KeyError("missing")

        async with run.injecting(), anyio.create_task_group() as group:
            group.start_soon(worker)

    with pytest.raises(ExplorationFailed) as failed:
        explore(scenario, backend=backend)
    assert failed.value.failure.summary == "ExceptionGroup of KeyError: 'missing'"


def test_disabled_failpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """`explore` raises with `FAILPOINTS_ENABLED=0`, since it would explore nothing."""
    monkeypatch.setattr("failpoints._core.environment.ENABLED", False)
    with pytest.raises(FailpointUsageError, match="FAILPOINTS_ENABLED=0: unset it"):
        explore(transfer)


def test_without_trio(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without trio, `backend="trio"` raises an error that says so, and asyncio works."""
    monkeypatch.setitem(sys.modules, "trio", None)
    monkeypatch.setattr("failpoints._explore.runner.find_spec", lambda name: None)
    with pytest.raises(FailpointUsageError, match="backend='trio' needs trio, which is not installed"):
        explore(transfer, backend="trio")
    assert explore(withdraw_twice, max_faults=0).runs == 1


def test_custom_faults_in_the_replay(backend: Any) -> None:
    """The call that repeats a run has the `faults=` that it needs."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            outcome = await failpoint("ask")
        assert not outcome

    with pytest.raises(ExplorationFailed) as failed:
        explore(scenario, backend=backend, faults={"ask": ["off", "return(1)"]})
    given = "" if backend == "asyncio" else "backend='trio', "
    line = f"explore(scenario, {given}faults={{'ask': ['off', 'return(1)']}}, replay='f1.2 #1bb0')"
    assert line.partition("#")[0] in str(failed.value)
    with pytest.raises(ExplorationFailed):
        eval(next(text for text in str(failed.value).splitlines() if "repeat this run" in text).partition(":  ")[2])


def test_a_failure_can_be_pickled() -> None:
    """`ExplorationFailed` can be pickled, so it can leave a process pool."""

    async def scenario(run: Run) -> None:
        raise AssertionError("broken")

    with pytest.raises(ExplorationFailed) as failed:
        explore(scenario)
    again = pickle.loads(pickle.dumps(failed.value))
    assert (str(again), again.failure, again.exploration) == (
        str(failed.value), failed.value.failure, failed.value.exploration
    )  # fmt: skip


def test_the_timeout_in_a_replay() -> None:
    """The call that repeats a run has its `timeout=`."""

    async def scenario(run: Run) -> None:
        async with run.injecting():
            await failpoint("x")
        raise AssertionError("broken")

    with pytest.raises(ExplorationFailed, match=r"explore\(scenario, timeout=2\.5, replay='"):
        explore(scenario, timeout=2.5)


def test_an_interrupted_run_beside_a_tracer() -> None:
    """Beside a debugger or a coverage tool, explorations work after one has interrupted sync code."""
    script = """
import sys
from failpoints.explore import explore, ExplorationFailed
async def scenario(run):
    async with run.injecting():
        while True:
            pass
sys.settrace(lambda *_: None)
for _ in range(3):
    try:
        explore(scenario, timeout=0.1)
    except ExplorationFailed as error:
        print(error.failure.kind)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=50)
    assert (done.stdout.split(), done.stderr) == (["hang"] * 3, "")
