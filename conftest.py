"""Run the code blocks of README.md and docs/ as tests, in order, and the tests that they define on both backends."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
import pytest
from sybil import Example, Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.integration.pytest import SybilItem
from sybil.parsers.markdown import CodeBlockParser


class _Block(PythonEvaluator):
    def __call__(self, example: Example) -> None:
        before = set(example.namespace)
        super().__call__(example)
        for name in sorted(set(example.namespace) - before):
            if name.startswith("test_"):
                self._run(example.namespace.pop(name), example.namespace["failpoints"])

    def _run(self, test: Callable[..., Any], failpoints: Any) -> None:
        call = partial(test, failpoints) if inspect.signature(test).parameters else partial(test)
        for backend in ("asyncio", "trio") if inspect.iscoroutinefunction(test) else ():
            anyio.run(call, backend=backend)
            failpoints.reset()
        if not inspect.iscoroutinefunction(test):
            call()


pytest_collect_file = Sybil(
    parsers=[CodeBlockParser(language="python", evaluator=_Block())],
    patterns=["README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/*.md", "docs/*/*.md", "failpoints/_cli/errors.md"],
    fixtures=["failpoints"],
).pytest()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the blocks of a document in their order, although pytest-randomly shuffles the tests."""
    indices = [index for index, item in enumerate(items) if isinstance(item, SybilItem)]
    blocks = sorted((items[index] for index in indices), key=lambda item: (item.path, item.example.line))
    for index, block in zip(indices, blocks, strict=True):
        items[index] = block
