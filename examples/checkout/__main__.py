"""Start the services, send 200 orders at once of which one brings a failpoint, and print who was hit."""

from __future__ import annotations

import argparse
import collections
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import anyio
import httpx
import uvicorn

from failpoints import FailpointError
from failpoints.request import scenario

from .services import mail, policy, shop, single, stock

SIGNED = 137  # the number of the order that brings a failpoint
AT_ONCE = 20


@contextmanager
def running(app: Any) -> Iterator[str]:
    """Serve an application on a free port of this machine, in a thread of its own."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


async def order(url: str, orders: int, name: str, actions: str) -> None:
    """Send the orders, and print the answers."""
    answers: dict[int, str] = {}
    limiter = anyio.CapacityLimiter(AT_ONCE)
    async with (
        httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as client,
        httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as signing,
    ):

        async def send(number: int) -> None:
            sender = signing if number == SIGNED else client
            async with limiter:
                answer = await sender.get("/order", params={"customer": f"customer {number}"})
            answers[number] = f"{answer.status_code} {answer.text}".replace(f"customer {number}", "…")

        async with scenario(signing, policy("test"), [(name, actions)]) as signed, anyio.create_task_group() as tasks:
            for number in range(orders):
                tasks.start_soon(send, number)
    print(f"{orders} orders, and order {SIGNED} brings {name}={actions}")
    for answer, number in sorted(collections.Counter(answers.values()).items(), key=lambda item: -item[1]):
        numbers = [each for each, text in answers.items() if text == answer]
        print(f"{number:>4} times {answer}" + (f"   order {numbers[0]}" if number == 1 else ""))
    for service, names in signed.services.items():
        for each, counts in names.items():
            print(f"{each} in {service}: {counts.hits} hit, {counts.triggers} triggered")


def main() -> None:
    parser = argparse.ArgumentParser("python -m examples.checkout", description=__doc__)
    parser.add_argument("--orders", type=int, default=200, metavar="N", help="send N orders (200)")
    parser.add_argument("--set", default="stock.reserve=raise(TimeoutError)", metavar="NAME=ACTIONS", dest="setting")
    given = parser.parse_args()
    name, _, actions = given.setting.partition("=")
    with ExitStack() as stack:
        others = {
            service: stack.enter_context(running(single(service, handler)))
            for service, handler in (("stock", stock), ("mail", mail))
        }
        url = stack.enter_context(running(shop(others)))
        try:
            anyio.run(order, url, max(given.orders, SIGNED + 1), name, actions)
        except (AssertionError, FailpointError) as error:  # never hit, or actions that cannot be signed
            parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
