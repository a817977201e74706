"""Failpoints for one request among many, through all services that it passes (extra `request`)."""

from ._request.policy import RequestFailpoints

__all__ = ["RequestFailpoints"]
