"""What happens where the extra `request` is not installed."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["request", "asgi", "wsgi"])
def test_a_missing_extra_is_named(module: str) -> None:
    """Without itsdangerous, the import fails with what to install."""
    script = f"import sys; sys.modules['itsdangerous'] = None; import failpoints.{module}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=50)
    assert done.stderr.splitlines()[-1] == (
        "failpoints.errors.FailpointUsageError: failpoints.request needs itsdangerous, which is not installed:"
        " pip install 'failpoints[request]'"
    )
