"""Pass the failpoints of a request on, with the calls and jobs that a service makes for it."""

from .._request.forward import add_report, aiohttp, grpc, httpx, job, requests

__all__ = ["add_report", "aiohttp", "grpc", "httpx", "job", "requests"]
