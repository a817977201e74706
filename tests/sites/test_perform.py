"""Actions are carried out without a registry, and a visit evaluates its context once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakSet

import pytest
from anyio import to_thread

from failpoints import (
    Call,
    FailpointTimeout,
    Hit,
    InjectedFault,
    Pause,
    Raise,
    Return,
    Sleep,
    configured,
    failpoint,
)
from failpoints._core import store
from failpoints._core.perform import Visit, perform, perform_sync, thread_wakeup
from failpoints._core.site import Site
from failpoints._core.wakeups import TaskWakeup
from failpoints.explore import Run, explore

BACKENDS = ["asyncio", "trio"]


class Recording(WeakSet[Any]):
    """The set of registries, which keeps what is added to it."""

    def __init__(self) -> None:
        self.added: list[Any] = []
        super().__init__(store._stores)
        self.added.clear()

    def add(self, item: Any) -> None:
        self.added.append(item)
        super().add(item)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("fault", "caught"),
    [
        ("raise", 10),
        ("pause(1)", 10),
        ("sleep(1)", 0),
        (Call(lambda hit: Raise()), 10),
        (Call(lambda hit: Sleep(1)), 0),
    ],
    ids=["raise", "pause", "sleep", "call_raise", "call_sleep"],
)
def test_injected_faults_create_no_registry(
    backend: str, fault: Any, caught: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten faults that `explore` injects create no registry, in async and in sync code."""
    registries = Recording()
    monkeypatch.setattr(store, "_stores", registries)
    errors: list[Exception] = []

    async def visits(run: Run) -> None:
        of_the_run = len(registries.added)
        async with run.injecting():
            for number in range(10):
                try:
                    await failpoint("store.write", context={"number": number})
                except (InjectedFault, FailpointTimeout) as error:
                    errors.append(error)
        assert len(registries.added) == of_the_run

    assert explore(visits, backend=backend, faults={"*": [fault]}).runs == 11
    assert len(errors) == caught
    assert len(registries.added) == 11  # one for each run


def test_injected_faults_in_sync_code_create_no_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten faults that `explore` injects in sync code create no registry either."""
    registries = Recording()
    monkeypatch.setattr(store, "_stores", registries)

    async def visits(run: Run) -> None:
        of_the_run = len(registries.added)
        async with run.injecting():
            for number in range(10):
                try:
                    failpoint("store.write", context={"number": number}).hit()
                except InjectedFault:
                    pass
        assert len(registries.added) == of_the_run

    assert explore(visits).runs == 11


@pytest.mark.anyio
async def test_actions_need_no_registry() -> None:
    """`perform` and `perform_sync` carry out actions for a visit that no registry knows."""
    site, hit = Site("x"), Hit("x", {})
    assert await perform(Return(3), site, Visit(hit, None), "hit") == Return(3)
    assert not await perform(Sleep(1), site, Visit(hit, TaskWakeup()), "hit")
    assert not await perform(Call(lambda hit: Sleep(1)), site, Visit(hit, None), "hit")
    with pytest.raises(InjectedFault, match=r"^injected by failpoint 'x'$"):
        perform_sync(Raise(), site, Visit(hit, None), "hit", "f")
    with pytest.raises(
        FailpointTimeout, match=r"^failpoint 'x': pause\(1\) held .+, and was not resumed within 0\.001 s$"
    ):
        await perform(Pause(1), site, Visit(hit, TaskWakeup()), "hit")
    assert not await to_thread.run_sync(lambda: perform_sync(Sleep(1), site, Visit(hit, thread_wakeup()), "hit", "f"))


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_context_of_an_explored_visit_is_evaluated_once(backend: str) -> None:
    """`explore` and a configuration inside the scenario see the same context, which is evaluated once a visit."""
    evaluated: list[str] = []

    def context_of(name: str) -> Callable[[], dict[str, int]]:
        def context() -> dict[str, int]:
            evaluated.append(name)
            return {"number": len(evaluated)}

        return context

    async def visits(run: Run) -> None:
        evaluated.clear()
        with configured("store.write", "off", context={"number": lambda number: number == len(evaluated)}) as handle:
            async with run.injecting():
                await failpoint("store.write", context=context_of("async"))
                failpoint("store.write", context=context_of("sync")).hit()
            assert handle.hits == 2
        assert evaluated == ["async", "sync"]

    explore(visits, backend=backend, max_faults=0)
