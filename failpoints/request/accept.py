"""Obey the failpoints of a request in servers that speak neither ASGI nor WSGI, and in workers of a queue."""

from .._request.accept import Job, aiohttp, grpc, job

__all__ = ["Job", "aiohttp", "grpc", "job"]
