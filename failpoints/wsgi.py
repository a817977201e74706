"""The middleware with which a request brings its own failpoints to a WSGI application (extra `request`)."""

from ._request.wsgi import FailpointsMiddleware

__all__ = ["FailpointsMiddleware"]
