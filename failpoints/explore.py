"""Exploration: every fault that can be injected and every order of the tasks, one run after the other."""

from ._explore.execution import Injected
from ._explore.explore import explore
from ._explore.result import Exploration, ExplorationFailed, Failure, Progress
from ._explore.run import Injecting, Run

__all__ = ["Exploration", "ExplorationFailed", "Failure", "Injected", "Injecting", "Progress", "Run", "explore"]
