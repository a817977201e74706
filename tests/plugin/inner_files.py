"""Files that the inner tests import, and the type of the fixture that runs them."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import dedent
from typing import TypeAlias

import pytest

RunTests: TypeAlias = Callable[..., pytest.RunResult]

# Every run has it.
BACKGROUND = '''
    """Threads for the tests."""

    import threading


    class Background(threading.Thread):
        """A thread that runs a function and keeps its result or its exception."""

        started = []

        def __init__(self, function):
            super().__init__(daemon=True, name="in the background")
            self.started.append(self)
            self.function = function
            self.start()

        def run(self):
            try:
                self.result = self.function()
            except Exception as error:
                self.result = error

        def finish(self):
            self.join(20)
            assert not self.is_alive(), "the thread is still waiting"
            return self.result
'''

GATEWAY = dedent('''
    """A shop that charges its customers through a gateway."""

    import anyio
    from failpoints import failpoint

    PRICE = 1250


    @failpoint("gateway.charge", context=["order"])
    async def charge(order: str) -> int:
        return PRICE


    @failpoint("gateway.refund")
    def refund() -> int:
        return PRICE


    async def pay(order: str) -> int | None:
        try:
            return await charge(order)
        except TimeoutError:
            return None


    class Server:
        """Answers questions in a task of its own."""

        def __init__(self):
            self.inbox = []
            self.arrived = anyio.Event()

        async def serve(self):
            while True:
                await self.arrived.wait()
                self.arrived = anyio.Event()
                while self.inbox:
                    question = self.inbox.pop(0)
                    question.answer = await charge("served")
                    question.answered.set()

        async def ask(self):
            return await self.put().get()

        def put(self):
            question = Question()
            self.inbox.append(question)
            self.arrived.set()
            return question


    class Question:
        def __init__(self):
            self.answered = anyio.Event()

        async def get(self):
            with anyio.fail_after(20):
                await self.answered.wait()
            return self.answer
''')

GATEWAY_IMPORTS = (
    "import anyio, asyncio, math, pytest, threading, unittest\nfrom failpoints import *\n"
    "from background import Background\nfrom shop import *\n"
)

VISITS_IMPORTS = dedent("""
    import math, threading, unittest
    import anyio, pytest
    from failpoints import *
    from background import Background
    from visits import *
""")

VISITS = dedent('''
    """Functions that visit a failpoint."""

    from failpoints import failpoint


    async def visit(name="x", **context):
        return await failpoint(name, context=context)


    def visit_sync(name="x", **context):
        return failpoint(name, context=context).hit()
''')

SHOP = """\
from failpoints import failpoint, failpoint_scope


@failpoint("shop.charge")
def charge(order) -> int:
    return 42


def parse(**context):
    return failpoint("shop.parse", context=context).hit()


def backorder():
    failpoint("shop.backorder").hit()


def locked():
    with failpoint_scope("shop.lock"):
        pass


def restock():
    failpoint("shop.stock").hit()
    failpoint("shop.stock").hit()
    failpoint("shop.stock").hit()
    failpoint("shop.stock").hit()
"""

SHARDS = """\


def sharded(n):
    failpoint(f"shard-{n}").hit()


def visit(context):
    failpoint("shop.visit", context=context).hit()
"""

SLOW = """\


async def slow():
    await failpoint("shop.slow")
"""
