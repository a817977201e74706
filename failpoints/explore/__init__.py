"""Exploration: every fault that can be injected and every order of the tasks, one run after the other."""

from ._execution import Injected
from ._exploration import Exploration, ExplorationFailed, Failure, Progress
from ._explore import explore
from ._run import Injecting, Run

__all__ = ["Exploration", "ExplorationFailed", "Failure", "Injected", "Injecting", "Progress", "Run", "explore"]
