"""The result of an exploration of crashes."""

from __future__ import annotations

from dataclasses import dataclass

from .._explore.result import Failure, counted


@dataclass(frozen=True, slots=True)
class CrashProgress:
    """The state of an exploration of crashes after a state was checked, as `on_state` receives it.

    `states` is the number of states so far and `max_states` their limit. `broken` is the number of those that `check`
    failed on.
    """

    states: int
    max_states: int
    broken: int


@dataclass(frozen=True, slots=True)
class CrashExploration:
    """The result of `explore_crashes`; `str()` of it is the verdict, in one line. Cannot be changed.

    Attributes:
        states: The number of states that `check` ran on.
        broken: The number of states that it failed on.
        exhaustive: Whether these are all states that a crash can leave.
        bounds: If they are not, why, as one phrase each.
        failures: The states that it failed on.
        operations: The number of operations on files that `act` carried out.
        disk: What a crash is: `"power"` or `"process"`.
        replayed: Whether this was the replay of a single state.
        folder: The folder that a replay has left behind, or `None`.
    """

    states: int = 0
    broken: int = 0
    exhaustive: bool = False
    bounds: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()
    operations: int = 0
    disk: str = "power"
    replayed: bool = False
    folder: str | None = None

    def __str__(self) -> str:
        if self.replayed and self.folder is None:
            return f"0 states, replayed: {'; '.join(self.bounds)}"
        if self.replayed:
            verdict = f"broken: {self.failures[0].summary}" if self.failures else "no failure"
            return f"1 state, replayed, and left behind in {self.folder}: {verdict}"
        crash = "a power loss" if self.disk == "power" else "the end of the process"
        states, operations = counted(self.states, "state"), counted(self.operations, "operation")
        bounds = "".join(f": {bound}" for bound in self.bounds)
        if self.exhaustive:
            text = f"{states} after {crash} at any point of {operations}"
        else:
            text = f"{states} after {crash} during {operations}{bounds}: not exhaustive"
        if self.failures:
            return f"{text}: {self.broken:,} broken: {self.failures[0].summary}"
        return f"{text}: no failure{'' if self.exhaustive else ' found so far'}"
