"""The options of `explore()`: checked once, and printed the way a replay has to be given them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .._core.actions import Action
from .._core.hooks import spectators
from .._core.messages import did_you_mean, safe_repr
from .._core.validation import check_count
from ..errors import FailpointUsageError
from .plan.faults import GivenFaults, parse_faults
from .plan.replay import Script
from .plan.scheduler import Interleavings
from .result import Progress

_BACKENDS = ("asyncio", "trio")
_CLOCKS = ("virtual", "real")
_INTERLEAVINGS = (False, True, "visits", "awaits")
_REDUCTIONS = ("sound", "declared", None)


@dataclass(frozen=True, kw_only=True)
class Options:
    """The arguments of one call of `explore()`, apart from the scenario.

    The fields have the names and the meaning of `explore()`'s parameters. The others are derived from them: `held_at`
    is where tasks are held, and `is_reduced` whether equivalent orders are left out.

    Raises:
        FailpointUsageError: An argument is of the wrong type or out of range, or two of them contradict each other.
        ActionSyntaxError: An action in *faults* is not written correctly.
    """

    backend: str = "asyncio"
    faults: GivenFaults | None = None
    max_faults: int | None = None
    cancellations: bool = False
    interleavings: bool | str = False
    reduction: str | None = "sound"
    audit: float = 0.0
    max_preemptions: int | None = None
    sample: int | None = None
    lines: Sequence[str] = ()
    max_runs: int = 10_000
    max_failures: int = 1
    timeout: float = 5.0
    clock: str = "virtual"
    replay: str | None = None
    on_run: Callable[[Progress], object] | None = None
    fault_limit: int = field(init=False)
    parsed_faults: Mapping[str, tuple[Action, ...]] = field(init=False)
    script: Script | None = field(init=False)
    held_at: Interleavings | None = field(init=False)
    is_reduced: bool = field(init=False)

    def __post_init__(self) -> None:
        check_choice("backend", self.backend, _BACKENDS)
        check_choice("clock", self.clock, _CLOCKS)
        check_choice("interleavings", self.interleavings, _INTERLEAVINGS)
        check_choice("reduction", self.reduction, _REDUCTIONS)
        if self.max_faults is not None:
            check_count("max_faults=", self.max_faults, least=0)
        if self.max_preemptions is not None:
            check_count("max_preemptions=", self.max_preemptions, least=0)
        if self.sample is not None:
            check_count("sample=", self.sample)
        names: Any = self.lines if isinstance(self.lines, list | tuple) else ("",)
        if not all(isinstance(name, str) and name for name in names):
            raise FailpointUsageError(
                'lines= must be a list or tuple of names of modules, such as ("shop.stock",);'
                f" got {safe_repr(self.lines)}"
            )
        check_count("max_runs=", self.max_runs)
        check_count("max_failures=", self.max_failures)
        audit: Any = self.audit
        if not isinstance(audit, (int, float)) or isinstance(audit, bool) or not 0 <= audit <= 1:
            raise FailpointUsageError(f"audit= must be a share between 0.0 and 1.0; got {safe_repr(audit)}")
        check_choice("cancellations", self.cancellations, (False, True))
        timeout: Any = self.timeout
        if not isinstance(timeout, (int, float)) or isinstance(timeout, bool) or not timeout > 0:
            raise FailpointUsageError(f"timeout= must be a number of real seconds above 0; got {safe_repr(timeout)}")
        fault_limit = self.max_faults
        if fault_limit is None:
            fault_limit = 0 if self.interleavings else 1
        if self.replay is None:
            if self.max_preemptions is not None and not self.interleavings:
                raise FailpointUsageError("max_preemptions= limits the orders of tasks, so it needs interleavings=True")
            if self.sample is not None and not self.interleavings:
                raise FailpointUsageError("sample= samples orders of tasks, so it needs interleavings=True")
            if self.lines and self.sample is None:
                raise FailpointUsageError(
                    "lines= has too many orders to try all, so it needs interleavings=True and sample=, such as"
                    " sample=1000"
                )
            if self.sample is not None and (self.max_preemptions is not None or self.reduction == "declared"):
                other = "max_preemptions=" if self.max_preemptions is not None else "reduction='declared'"
                raise FailpointUsageError(f"{other} has no meaning beside sample=, which samples all orders")
            if self.reduction == "declared" and not self.interleavings:
                raise FailpointUsageError("reduction= leaves out orders of tasks, so it needs interleavings=True")
            if self.reduction == "declared" and self.max_preemptions is not None:
                raise FailpointUsageError(
                    "max_preemptions= has no meaning beside reduction='declared': an order within the limit may be left"
                    " out for an equivalent one beyond it. Use one of the two"
                )
            if self.audit and (
                not self.interleavings
                or self.reduction is None
                or self.max_preemptions is not None
                or self.sample is not None
            ):
                raise FailpointUsageError(
                    "audit= checks orders that a reduction leaves out, so it needs interleavings= and reduction=, and"
                    " has no meaning beside max_preemptions= or sample="
                )
            if self.faults is not None and not fault_limit:
                raise FailpointUsageError("faults= has no effect while max_faults is 0: add max_faults=1")
            if self.cancellations and not fault_limit:
                raise FailpointUsageError("cancellations= has no effect while max_faults is 0: add max_faults=1")
        derive = object.__setattr__  # the dataclass is frozen
        derive(self, "fault_limit", fault_limit)
        derive(self, "parsed_faults", parse_faults(self.faults))
        derive(
            self, "held_at", "awaits" if self.interleavings == "awaits" else "visits" if self.interleavings else None
        )
        derive(self, "is_reduced", self.reduction is not None and self.max_preemptions is None)
        derive(self, "script", None if self.replay is None else Script.parse(self.replay))

    @property
    def is_virtual(self) -> bool:
        """Whether the clock of the runs is virtual."""
        return self.clock == "virtual"

    def report(self, progress: Progress) -> None:
        """Report that a run has ended."""
        for spectator in spectators:
            spectator.advanced(progress.runs, min(progress.runs + progress.queued, progress.max_runs), "runs")
        if self.on_run is not None:
            self.on_run(progress)

    def replay_call(self, scenario: str, replay: str) -> str:
        """Return the call of `explore()` that repeats a single run of *scenario*, as Python source.

        It has the options that a replay depends on, where they differ from their defaults. `faults=...` stands for
        faults that cannot be written in one line.
        """
        given = {"backend": repr(self.backend), "clock": repr(self.clock), "timeout": f"{self.timeout:g}"}
        defaults = {"backend": "'asyncio'", "clock": "'virtual'", "timeout": "5"}
        arguments = [scenario, *(f"{name}={text}" for name, text in given.items() if text != defaults[name])]
        if self.lines:
            arguments.append(f"lines={tuple(self.lines)!r}")
        if self.cancellations:
            arguments.append("cancellations=True")
        if self.faults is not None:
            faults = safe_repr(dict(self.faults))
            arguments.append(f"faults={'...' if '<' in faults or faults.endswith('…') else faults}")
        return f"explore({', '.join(arguments)}, replay={replay!r})"


def check_choice(name: str, given: object, choices: tuple[object, ...]) -> None:
    """Raise `FailpointUsageError` if an option is not one of its choices."""
    if not any(given is choice or (isinstance(given, str) and given == choice) for choice in choices):
        texts = [choice for choice in choices if isinstance(choice, str)]
        near = did_you_mean(given, texts) if isinstance(given, str) else ""
        raise FailpointUsageError(f"{name}= must be {_either(choices)}; got {safe_repr(given)}{near}")


def _either(choices: tuple[object, ...]) -> str:
    *first, last = map(repr, choices)
    return f"{', '.join(first)} or {last}"
