"""The output of the workers of pytest-xdist, collected in the process that started them."""

from __future__ import annotations

from typing import Any, cast

import pytest

_KEY = "failpoints"  # in `workeroutput`, a dict that pytest-xdist carries over when a worker ends


class Workers:
    """Counts the workers that start, and keeps what each of them sends. A worker that crashes sends nothing."""

    def __init__(self) -> None:
        self.outputs: list[dict[str, Any]] = []
        self._started = 0

    @property
    def missing(self) -> int:
        """The number of workers that were started and have sent nothing."""
        return self._started - len(self.outputs)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodeready(self, node: object) -> None:
        """Count a worker that starts."""
        self._started += 1

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Keep the output of a worker that ends. Raise `pytest.UsageError` if it found a usage error."""
        output: dict[str, Any] | None = getattr(node, "workeroutput", {}).get(_KEY)
        if output is None:
            return
        self.outputs.append(output)
        if "usage_error" in output:
            raise pytest.UsageError(output["usage_error"])


def is_worker(config: pytest.Config) -> bool:
    """Return whether this process is a worker of pytest-xdist."""
    return hasattr(config, "workerinput")


def send_output(config: pytest.Config, **output: Any) -> None:
    """Add to what this worker sends when it ends."""
    cast(Any, config).workeroutput.setdefault(_KEY, {}).update(output)
