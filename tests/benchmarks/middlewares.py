"""The cost of the middlewares for requests that bring no failpoints."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from measure import Row, Side, ratio, repeated

CALLS = 200  # of an application in one round
HEADERS = [(b"host", b"shop"), (b"accept", b"*/*"), (b"accept-encoding", b"gzip"), (b"user-agent", b"benchmark")]


def policy() -> Any:
    request = importlib.import_module("failpoints.request")
    return request.RequestFailpoints({"k": "a secret of the benchmark"}, allow=["*"], service="shop")


@contextmanager
def fastapi() -> Generator[tuple[Side, Side]]:
    app = importlib.import_module("fastapi").FastAPI()

    @app.get("/order")  # type: ignore[untyped-decorator]
    async def order(customer: str, seat: int) -> dict[str, Any]:
        return {"customer": customer, "seat": seat}

    middleware = importlib.import_module("failpoints.asgi").FailpointsMiddleware(app, policy())

    async def ignore(message: Any) -> None:
        pass

    def calling(app: Any) -> Callable[[], Any]:
        async def call() -> None:
            scope: dict[str, Any] = {
                "type": "http", "method": "GET", "path": "/order", "root_path": "",
                "query_string": b"customer=Ada&seat=7",
                "headers": list(HEADERS),
            }  # fmt: skip
            await app(scope, ignore, ignore)

        return call

    yield repeated("await it()", calling(middleware), CALLS), repeated("await it()", calling(app), CALLS)


@contextmanager
def flask() -> Generator[tuple[Side, Side]]:
    app = importlib.import_module("flask").Flask("shop")
    app.add_url_rule("/order", view_func=lambda: "ordered")
    middleware = importlib.import_module("failpoints.wsgi").FailpointsMiddleware(app, policy())
    environ: dict[str, Any] = {"PATH_INFO": "/order", "HTTP_ACCEPT": "*/*"}
    importlib.import_module("wsgiref.util").setup_testing_defaults(environ)

    def calling(app: Any) -> Callable[[], None]:
        def call() -> None:
            body = app(dict(environ), lambda *_: None)
            list(body)
            body.close()

        return call

    yield repeated("it()", calling(middleware), CALLS), repeated("it()", calling(app), CALLS)


ROWS: list[Row] = [
    ratio("a request to FastAPI that brings nothing", "without the middleware", 1.02, fastapi),
    ratio("a request to Flask that brings nothing", "without the middleware", 1.02, flask),
]
