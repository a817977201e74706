"""The demo of three services, of which one request fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the demo without failpoint variables."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FAILPOINTS")}
    return subprocess.run(
        [sys.executable, "-m", "examples.checkout", *arguments],
        cwd=ROOT,
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
    )


@pytest.mark.slow
def test_exactly_one_of_200_orders_fails() -> None:
    """The order that brings the failpoint fails, and the others do not."""
    done = run()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "200 orders, and order 137 brings stock.reserve=raise(TimeoutError)",
        ' 199 times 200 {"stock":"reserved for …","mail":"sent to …"}',
        '   1 times 503 {"stock":"too slow"}   order 137',
        "stock.reserve in stock: 1 hit, 1 triggered",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("mail.sent=off", "was never hit before the response began, in stock, mail, shop; did you mean 'mail.send'?"),
        ("stock.reserve=exit", "exit is not allowed in a request"),
    ],
)
def test_a_mistake_is_a_message(setting: str, message: str) -> None:
    """A name that no service has, and an action that none obeys, are one message."""
    done = run("--set", setting)
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr
