"""Failpoints for one request among many, through all services that it passes (extra `request`)."""

from .._request.policy import RequestFailpoints
from . import accept as accept
from . import forward as forward

__all__ = ["RequestFailpoints"]
