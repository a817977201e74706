"""A job that charges for an order, for every kind of worker. The file of the ledger has a line for each charge."""

from __future__ import annotations

import os

from failpoints import Return, failpoint


def charge(order: str) -> str | None:
    with open(os.environ["LEDGER"], "a", encoding="utf-8") as ledger:
        ledger.write(f"{order} {os.getpid()}\n")
    outcome = failpoint("charge.before_ack", context={"order": order}).hit()
    return outcome.value if isinstance(outcome, Return) else None
