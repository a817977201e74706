"""The middleware with which a request brings its own failpoints to an ASGI application (extra `request`)."""

from ._request.asgi import FailpointsMiddleware

__all__ = ["FailpointsMiddleware"]
