"""Obeying the failpoints of a request where neither the ASGI nor the WSGI middleware can be used."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, Self

from .._core.reentrancy import runs_user_code
from ..errors import FailpointUsageError
from .current import Around, SignedRequest
from .incoming import header_names, token_of
from .optional import optional
from .policy import RequestFailpoints, complete_rules_of
from .report import HEADER as REPORT
from .rules import HEADER, Rules
from .tokens import Refused


class AiohttpMiddleware(Protocol):
    """A middleware as `aiohttp.web.Application` takes it, which need not be installed."""

    def __call__(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Awaitable[Any]:
        """Handle a request."""
        ...


def aiohttp(policy: RequestFailpoints) -> AiohttpMiddleware:
    """Return a middleware for an `aiohttp.web.Application`. Put it first in its list.

    It does what `failpoints.asgi.FailpointsMiddleware` does. A response that the handler has prepared itself, such as a
    websocket, has no report.

    Raises `FailpointUsageError` if *policy* is not a policy with `allow=` and `service=`.

    >>> from aiohttp import web
    >>> from failpoints.request import RequestFailpoints, accept
    >>> policy = RequestFailpoints({"2026-11": "a secret of 16 bytes or more"}, allow=["stock.*"], service="stock")
    >>> app = web.Application(middlewares=[accept.aiohttp(policy)])
    """
    web: Any = optional("aiohttp.web", "accept.aiohttp", "aiohttp")
    rules = complete_rules_of(policy)
    names = header_names(rules)

    @runs_user_code
    async def middleware(request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        found = [(name, value) for name in names for value in request.headers.getall(name, ())]
        try:
            token = token_of(found, rules)
            if token is None:
                return await handler(request)
            signed = SignedRequest(rules, token)
        except Refused as refusal:
            return web.json_response({"msg": str(refusal)}, status=403)
        signed.start()
        try:
            with signed.inside():
                response = await handler(request)
        except web.HTTPException as answer:
            answer.headers[REPORT] = signed.report_header()
            raise
        except Exception as error:
            if request.writer.output_size:  # a second answer would be written into the first: aiohttp closes it
                raise
            # aiohttp would answer without the report
            logging.getLogger("aiohttp.server").exception("Error handling request")
            raise web.HTTPInternalServerError(headers={REPORT: signed.report_header()}) from error
        else:
            if isinstance(response, web.StreamResponse) and not response.prepared:
                response.headers[REPORT] = signed.report_header()
            return response
        finally:
            signed.end()

    marked: AiohttpMiddleware = web.middleware(middleware)
    return marked


def grpc(policy: RequestFailpoints) -> Any:
    """Return an interceptor for a server of `grpc.aio`. The report is in the trailing metadata.

    A token that the policy does not accept ends the call with `PERMISSION_DENIED`.

    Raises `FailpointUsageError` if *policy* is not a policy with `allow=` and `service=`, or grpcio is not installed.

    >>> import grpc.aio
    >>> from failpoints.request import RequestFailpoints, accept
    >>> policy = RequestFailpoints({"2026-11": "a secret of 16 bytes or more"}, allow=["stock.*"], service="stock")
    >>> async def serve() -> grpc.aio.Server:
    ...     return grpc.aio.server(interceptors=[accept.grpc(policy)])
    """
    optional("grpc.aio", "accept.grpc", "grpcio")
    from .grpc import ServerInterceptor

    return ServerInterceptor(complete_rules_of(policy))


class Job:
    """A job of a queue, which belongs to the request that has caused it: `with accept.job(policy, headers):`."""

    def __init__(self, rules: Rules, token: str | None) -> None:
        self._rules = rules
        self._token = token
        self._signed: SignedRequest | None = None
        self._around: Around | None = None
        self._report = "{}"

    def __enter__(self) -> Self:
        if self._token is not None and self._rules.keys:
            try:
                self._signed = SignedRequest(self._rules, self._token)
            except Refused as refusal:
                raise FailpointUsageError(f"this job is refused: {refusal}") from None
            self._signed.start()
            self._around = self._signed.inside()
            self._around.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._signed is not None and self._around is not None:
            self._report = self.report
            self._around.__exit__(*exception)
            self._signed.end()
            self._signed = None

    @property
    def report(self) -> str:
        """The counts so far or, after the block, at its end: a text for `forward.add_report`."""
        return self._report if self._signed is None else self._signed.report_header()


def job(policy: RequestFailpoints, headers: Mapping[str, Any] | str | None) -> Job:
    """Return a block in which a job belongs to the request that has caused it.

    Args:
        policy: The policy of the worker.
        headers: What `forward.job()` has returned where the job was made, or the token in it. Without a token, the job
            runs as always.

    Raises:
        FailpointUsageError: *policy* is not a policy with `allow=` and `service=`. Or, on entering, the policy does
            not accept the token, for example because it has expired. Then the job has not begun.

    >>> from failpoints.request import RequestFailpoints, accept
    >>> policy = RequestFailpoints({"2026-11": "a secret of 16 bytes or more"}, allow=["mail.*"], service="mail")
    >>> async def send_mail(context: dict, order: str, failpoints: str | None = None) -> None:  # a function of arq
    ...     with accept.job(policy, failpoints):
    ...         ...
    """
    token = headers.get(HEADER) if isinstance(headers, Mapping) else headers
    if token is not None and not isinstance(token, str):
        raise FailpointUsageError("the headers of a job have a token that is a str")
    return Job(complete_rules_of(policy), token)
