"""The shop's client of the payment service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from failpoints import failpoint


class PaymentRefused(Exception):
    """The payment service refused a charge."""


class GatewayClient:
    """Asks the payment service for money."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    # `gateway.charge`: the request is lost. `gateway.charge:after`: it was served, but the reply is lost.
    @failpoint("gateway.charge", context=["order"], raises=(TimeoutError, ConnectionError, PaymentRefused))
    async def charge(self, order: int, amount: int, key: str | None) -> str:
        """Charge *amount* cents for an order, and return the id of the charge."""
        headers = {} if key is None else {"Idempotency-Key": key}
        try:
            response = await self._http.post("/charges", json={"order": order, "amount": amount}, headers=headers)
        except httpx.TimeoutException as error:
            raise TimeoutError("the gateway did not answer in time") from error
        except httpx.TransportError as error:
            raise ConnectionError("the connection to the gateway failed") from error
        if response.is_server_error:
            raise ConnectionError(f"the gateway failed: {response.text}")
        if response.is_error:
            raise PaymentRefused(response.text)
        return str(response.json()["charge"])


@asynccontextmanager
async def gateway_client(url: str, *, timeout: float = 5.0) -> AsyncIterator[GatewayClient]:
    """Open a client of the payment service at *url* for a block."""
    # The service runs on this machine, so ignore proxies set in the environment.
    async with httpx.AsyncClient(base_url=url, timeout=timeout, trust_env=False) as http:
        yield GatewayClient(http)
