"""The charts of docs/costs.md show the figures of its tables."""

from __future__ import annotations

import html
import json
import re

import pytest

from tests.docs.charts import CHARTS, DOCS, figures


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_has_the_figures_of_the_tables(name: str) -> None:
    """`python -m tests.docs.charts` draws them again, after the tables have new figures."""
    picture = (DOCS / "images" / f"{name}.svg").read_text(encoding="utf-8")
    [shown] = re.findall(r"<dc:description>(.*?)</dc:description>", picture, re.DOTALL)
    assert json.loads(html.unescape(shown)) == figures(CHARTS[name])
    assert f"images/{name}.svg" in (DOCS / "costs.md").read_text(encoding="utf-8")
