"""The report: how it is added up, and how it stays small."""

from __future__ import annotations

import json

import pytest

from failpoints._request.report import MAX_REPORT, Counts, Report


@pytest.mark.parametrize("limit", [MAX_REPORT, 4_000, 300])
def test_a_report_fits_into_a_header(limit: int) -> None:
    """Texts are left out first, then the failpoints with the fewest hits, whose number is in the report."""
    report = Report()
    report.add({"stock": {f"name{n}.€": Counts(hits=n, mismatch="x" * 200) for n in range(500)}})
    text = report.text(limit)
    assert len(text) <= limit and text.isascii()
    document = json.loads(text)
    kept = document["stock"]
    assert len(kept) + document["..."] == 500
    assert sorted(each["hits"] for each in kept.values()) == list(range(500 - len(kept), 500))
    again = Report()
    assert again.add_header(text) and again.left_out == document["..."]
    assert json.loads(again.text(limit)) == document


def test_hints_are_left_out_before_counts() -> None:
    """A report that is too large only with its texts has all counts."""
    report = Report()
    report.add({"stock": {f"n{n}": Counts(misses=n, mismatch="x" * 200) for n in range(100)}})
    document = json.loads(report.text(MAX_REPORT))
    assert "..." not in document and len(document["stock"]) == 100


def test_many_services_fit_too() -> None:
    """If not even the names of the services fit, only the number of failpoints is left."""
    report = Report()
    report.add({f"service{n}": {"a": Counts(1)} for n in range(1000)})
    assert json.loads(report.text(MAX_REPORT)) == {"...": 1000}
