"""The middleware for WSGI applications: Flask, Django and others."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .._core.reentrancy import runs_user_code
from .current import SignedRequest
from .incoming import header_names, token_of
from .policy import RequestFailpoints, complete_rules_of
from .report import HEADER as REPORT
from .tokens import Refused

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]
App = Callable[[Environ, StartResponse], Iterable[bytes]]


class FailpointsMiddleware:
    """Lets a request bring its own failpoints to a WSGI application, as a policy allows.

    It does what `failpoints.asgi.FailpointsMiddleware` does, and takes the same. The failpoints are in force in the
    thread that handles the request, until the server closes the response. The report has what was counted until the
    application called `start_response`.

    Raises `FailpointUsageError` if *policy* is not a policy with `allow=` and `service=`.

    >>> from flask import Flask
    >>> from failpoints.request import RequestFailpoints
    >>> from failpoints.wsgi import FailpointsMiddleware
    >>> policy = RequestFailpoints({"2026-11": "a secret of 16 bytes or more"}, allow=["stock.*"], service="stock")
    >>> app = Flask("stock")
    >>> app.wsgi_app = FailpointsMiddleware(app.wsgi_app, policy)
    """

    def __init__(self, app: App, policy: RequestFailpoints) -> None:
        self._app = app
        self._rules = complete_rules_of(policy)
        self._variables = {f"HTTP_{name.upper()}": name for name in header_names(self._rules)}

    @runs_user_code
    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Handle a request."""
        for variable in self._variables:
            if variable in environ:
                return self._obey(environ, start_response)
        return self._app(environ, start_response)

    @runs_user_code
    def _obey(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        found = [(name, environ[variable]) for variable, name in self._variables.items() if variable in environ]
        try:
            token = token_of(found, self._rules)
            if token is None:  # baggage of others
                return self._app(environ, start_response)
            request = SignedRequest(self._rules, token)
        except Refused as refusal:
            body = json.dumps({"msg": str(refusal)}).encode()
            headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
            start_response("403 Forbidden", headers)
            return [body]

        @runs_user_code
        def reporting(status: str, headers: list[tuple[str, str]], *error: Any) -> Callable[[bytes], object]:
            return start_response(status, [*headers, (REPORT, request.report_header())], *error)

        request.start()
        try:
            with request.inside():
                return _Body(request, self._app(environ, reporting))
        except BaseException:
            request.end()
            raise


class _Body:
    """The body of a response, whose parts are made inside the request. Closing it ends the request."""

    def __init__(self, request: SignedRequest, body: Iterable[bytes]) -> None:
        self._closed = False
        self._request = request
        self._body = body
        self._parts = iter(body)

    def __iter__(self) -> Iterator[bytes]:
        return self

    @runs_user_code
    def __next__(self) -> bytes:
        with self._request.inside():
            return next(self._parts)

    @runs_user_code
    def close(self) -> None:
        """Close the application's body, and end the request. The server calls it in any case."""
        if self._closed:
            return
        self._closed = True
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                with self._request.inside():
                    close()
        finally:
            self._request.end()

    def __del__(self) -> None:  # for a server that forgets to
        if not self._closed:
            self.close()
