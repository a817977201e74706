"""Failpoints for one request among many, through all services that it passes (extra `request`)."""

from .._request.policy import RequestFailpoints
from .._request.scenario import Scenario, scenario
from . import accept as accept
from . import forward as forward

__all__ = ["RequestFailpoints", "Scenario", "scenario"]
