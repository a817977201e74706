"""What came of exploring the tests of a suite: one verdict for each test, and the lines of pytest's summary."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple, TypeAlias

Kind: TypeAlias = Literal["passed", "failed", "nondeterministic", "left", "replayed"]


class Verdict(NamedTuple):
    """The verdict on one test. `reason` is a phrase, unless the test passed in all its orders."""

    test: str
    kind: Kind
    orders: int = 0
    reason: str = ""


def summary_lines(verdicts: Iterable[Verdict], *, with_names: bool) -> Iterator[str]:
    """Yield the lines of the summary. *with_names* is whether to list all tests that were not explored."""
    by_kind: dict[Kind, list[Verdict]] = {}
    for verdict in verdicts:
        by_kind.setdefault(verdict.kind, []).append(verdict)
    passed, failed = by_kind.get("passed", []), by_kind.get("failed", [])
    if passed or failed:
        orders = sum(verdict.orders for verdict in (*passed, *failed))
        yield (
            f"explored {_counted(len(passed) + len(failed), 'async test')} in {_counted(orders, 'order')}:"
            f" {len(passed):,} passed in all of them, {len(failed):,} failed in one"
        )
    yield from _grouped("not fully explored", [verdict for verdict in passed if verdict.reason], with_names=with_names)
    yield from _grouped("nondeterministic", by_kind.get("nondeterministic", []), with_names=True)
    yield from _grouped("left to its own plugin", by_kind.get("left", []), with_names=with_names)
    yield from _grouped("replayed", by_kind.get("replayed", []), with_names=True)


def _grouped(title: str, verdicts: list[Verdict], *, with_names: bool) -> Iterator[str]:
    by_reason: dict[str, list[str]] = {}
    for verdict in verdicts:
        by_reason.setdefault(verdict.reason, []).append(verdict.test)
    for reason, tests in sorted(by_reason.items(), key=lambda group: (-len(group[1]), group[0])):
        yield f"{title}: {tests[0] if len(tests) == 1 else _counted(len(tests), 'test')}: {reason}"
        if with_names and len(tests) > 1:
            yield from (f"  {test}" for test in tests)


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
