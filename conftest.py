"""README code runs as a test: each block in order, and the tests that it defines on both backends."""

from __future__ import annotations

import inspect
from functools import partial

import anyio
from sybil import Example, Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser


class _Block(PythonEvaluator):
    def __call__(self, example: Example) -> None:
        before = set(example.namespace)
        super().__call__(example)
        for name in sorted(set(example.namespace) - before):
            if name.startswith("test_"):
                test = example.namespace.pop(name)
                assert inspect.iscoroutinefunction(test)
                for backend in ("asyncio", "trio"):
                    anyio.run(partial(test), backend=backend)


pytest_collect_file = Sybil(
    parsers=[CodeBlockParser(language="python", evaluator=_Block())], patterns=["README.md"]
).pytest()
