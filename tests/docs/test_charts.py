"""The charts show the figures of the pages that they are on, and of the search as it is."""

from __future__ import annotations

import html
import json
import posixpath
import re

import pytest

from tests.docs.charts import CHARTS, DOCS


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_has_the_figures_of_its_page(name: str) -> None:
    """`python -m tests.docs.charts` draws them again, after the tables have new figures."""
    chart = CHARTS[name]
    picture = (DOCS / "images" / f"{name}.svg").read_text(encoding="utf-8")
    [shown] = re.findall(r"<dc:description>(.*?)</dc:description>", picture, re.DOTALL)
    assert json.loads(html.unescape(shown)) == chart.figures()
    link = posixpath.relpath(f"images/{name}.svg", posixpath.dirname(chart.page))
    assert f"]({link})" in (DOCS / chart.page).read_text(encoding="utf-8")
