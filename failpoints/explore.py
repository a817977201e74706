"""Exploration: run a scenario with every fault that can be injected, and in every order of its tasks."""

from ._explore.execution import Injected
from ._explore.explore import explore
from ._explore.result import Exploration, ExplorationFailed, Failure, Progress
from ._explore.run import Injecting, Run

__all__ = ["Exploration", "ExplorationFailed", "Failure", "Injected", "Injecting", "Progress", "Run", "explore"]
