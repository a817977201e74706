"""Instrumented functions that the control plane and its client call: their own calls never visit the failpoints."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

import anyio
import httpx
import pytest

from failpoints import Call, configured, status
from failpoints.admin import admin_app
from failpoints.client import FailpointsClient
from failpoints.instrument import instrument

pytestmark = pytest.mark.anyio

OF_BOTH = ["json:dumps", "json:loads", "json:JSONDecoder.decode", "json:JSONEncoder.encode"]
OF_THE_CLIENT = ["httpx:AsyncClient.send", "httpx:AsyncClient.request", "httpx:Response.json"]
OF_THE_SERVER = ["starlette.requests:Request.body", "starlette.responses:Response.__call__"]


async def test_own_calls_do_not_visit(serve: Callable[..., AbstractContextManager[str]]) -> None:
    """Requests and answers do not visit instrumented functions, so a fault in JSON or HTTP cannot lock a test out."""
    names: list[str] = []
    with ExitStack() as stack:
        for path in OF_BOTH + OF_THE_CLIENT + OF_THE_SERVER:
            site = path.replace(":", ".")
            stack.enter_context(instrument(path, site))
            stack.enter_context(configured(site, Call(lambda hit: names.append(hit.name))))
        url = stack.enter_context(serve(admin_app()))
        async with FailpointsClient(url) as client:
            await client.configure("act", "return(1)", context={"key": "value"})
            await client.statuses()
            await client.status("act")
            await client.resume("act")
            with pytest.raises(TimeoutError):
                await client.wait_until_hit("act", timeout=0.01)
            await client.remove("act")
        assert names == []
        async with httpx.AsyncClient() as program:
            assert json.dumps((await program.get(f"{url}/v1/failpoints/none")).json())
        assert {*names} >= {"httpx.AsyncClient.send", "httpx.Response.json", "json.dumps"}
        assert not {path.replace(":", ".") for path in OF_THE_SERVER} & {*names}


async def test_calls_of_the_program_visit(serve: Callable[..., AbstractContextManager[str]]) -> None:
    """The program's own calls of an instrumented function visit, and the control plane can pause and release them."""

    def reply() -> str:
        return json.dumps({"seat": 1})

    with instrument("json:dumps", "json.dumps"), serve(admin_app()) as url:
        async with FailpointsClient(url) as client:
            await client.configure("json.dumps", "pause")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anyio.to_thread.run_sync, reply)
                await client.wait_until_paused("json.dumps", timeout=20)
                assert status("json.dumps").hits == 1
                await client.remove("json.dumps")
