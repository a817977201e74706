"""A policy for the tests, and what signs for it."""

from __future__ import annotations

from typing import Any

import pytest

from failpoints.request import RequestFailpoints

SECRET = "a secret of the tests"
OTHER_SECRET = "another secret of others"


def policy_of(service: str = "shop", **options: Any) -> RequestFailpoints:
    return RequestFailpoints(**{"keys": {"k1": SECRET}, "allow": ["*"], "service": service, **options})


@pytest.fixture
def policy() -> RequestFailpoints:
    return policy_of()
