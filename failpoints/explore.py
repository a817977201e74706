"""Exploration: run a scenario with every fault, and in every order of its tasks; and a program with every crash."""

from ._crashes.explore import explore_crashes
from ._crashes.recording import acknowledge
from ._crashes.result import CrashExploration, CrashProgress
from ._explore.execution import Injected
from ._explore.explore import explore
from ._explore.result import Exploration, ExplorationFailed, Failure, Progress
from ._explore.run import Injecting, Run

__all__ = [
    "CrashExploration",
    "CrashProgress",
    "Exploration",
    "ExplorationFailed",
    "Failure",
    "Injected",
    "Injecting",
    "Progress",
    "Run",
    "acknowledge",
    "explore",
    "explore_crashes",
]
