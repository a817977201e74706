"""Interceptors of `grpc.aio`: those of a client pass the failpoints on, that of a server obeys them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

from .._core.reentrancy import runs_user_code
from .current import SignedRequest, current
from .incoming import header_names, token_of
from .optional import optional
from .report import HEADER as REPORT
from .rules import HEADER, Rules
from .tokens import Refused

MAX_REPORT: Final = 4_000
"""Bytes of a report in metadata, of which grpc accepts 8 KiB altogether."""

Found = Sequence[tuple[str, str]]

_grpc: Any = optional("grpc", "an interceptor", "grpcio")
_aio: Any = optional("grpc.aio", "an interceptor", "grpcio")


def client_interceptors() -> list[Any]:
    """Return an interceptor for each kind of call."""
    return [_UnaryUnary(), _UnaryStream(), _StreamUnary(), _StreamStream()]


@runs_user_code
async def _call(signed: SignedRequest | None, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
    return await continuation(details if signed is None else _with_token(details, signed), request)


class _Unary:
    @runs_user_code
    async def _intercepted(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        signed = current()
        call = await _call(signed, continuation, details, request)
        if signed is not None:
            _read(signed, await call.trailing_metadata())  # once it has ended
        return call


class _Stream:
    @runs_user_code
    async def _intercepted(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        signed = current()
        call = await _call(signed, continuation, details, request)
        if signed is None:
            return call

        async def responses() -> AsyncIterator[Any]:
            try:
                async for response in call:
                    yield response
            finally:
                if call.done():
                    _read(signed, await call.trailing_metadata())

        return responses()


class _UnaryUnary(_Unary, _aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    intercept_unary_unary = _Unary._intercepted


class _UnaryStream(_Stream, _aio.UnaryStreamClientInterceptor):  # type: ignore[misc]
    intercept_unary_stream = _Stream._intercepted


class _StreamUnary(_Unary, _aio.StreamUnaryClientInterceptor):  # type: ignore[misc]
    intercept_stream_unary = _Unary._intercepted


class _StreamStream(_Stream, _aio.StreamStreamClientInterceptor):  # type: ignore[misc]
    intercept_stream_stream = _Stream._intercepted


def _with_token(details: Any, request: SignedRequest) -> Any:
    metadata = [(key, value) for key, value in details.metadata or () if key != HEADER]
    return details._replace(metadata=_aio.Metadata(*metadata, (HEADER, request.token())))


def _read(request: SignedRequest, metadata: Any) -> None:
    for key, value in metadata or ():
        if key == REPORT and isinstance(value, str):
            request.take_report(value)


class ServerInterceptor(_aio.ServerInterceptor):  # type: ignore[misc]
    """Handles a call that has a token in a registry of its own."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    @runs_user_code
    async def intercept_service(self, continuation: Callable[..., Any], details: Any) -> Any:
        """Return the handler of a call."""
        handler = await continuation(details)
        names = header_names(self._rules)
        found = [(key, str(value)) for key, value in details.invocation_metadata if key in names]
        if not found or handler is None:
            return handler
        kind = "_".join(
            "stream" if each else "unary" for each in (handler.request_streaming, handler.response_streaming)
        )
        behavior = getattr(handler, kind)
        wrap = self._stream if handler.response_streaming else self._unary
        return getattr(_grpc, f"{kind}_rpc_method_handler")(
            wrap(behavior, found), handler.request_deserializer, handler.response_serializer
        )

    async def _signed(self, found: Found, context: Any) -> SignedRequest | None:
        try:
            token = token_of(found, self._rules)
            return None if token is None else SignedRequest(self._rules, token)
        except Refused as refusal:
            await context.abort(_grpc.StatusCode.PERMISSION_DENIED, str(refusal))
            raise  # which abort has done

    def _unary(self, behavior: Callable[..., Any], found: Found) -> Callable[..., Any]:
        @runs_user_code
        async def unary(request: Any, context: Any) -> Any:
            signed = await self._signed(found, context)
            if signed is None:  # baggage of others
                return await behavior(request, context)
            signed.start()
            try:
                with signed.inside():
                    return await behavior(request, context)
            finally:
                _write(signed, context)
                signed.end()

        return unary

    def _stream(self, behavior: Callable[..., Any], found: Found) -> Callable[..., Any]:
        @runs_user_code
        async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
            signed = await self._signed(found, context)
            if signed is None:
                async for response in behavior(request, context):
                    yield response
                return
            signed.start()
            try:
                with signed.inside():
                    async for response in behavior(request, context):
                        yield response
            finally:
                _write(signed, context)
                signed.end()

        return stream


def _write(request: SignedRequest, context: Any) -> None:
    before = context.trailing_metadata() or ()
    context.set_trailing_metadata((*before, (REPORT, request.report_header(MAX_REPORT))))
