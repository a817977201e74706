"""The tables of docs/json.md have the keys that the control plane's OpenAPI document has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from failpoints._http.openapi import openapi_document

PAGE = (Path(__file__).parents[2] / "docs" / "json.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("section", "schema"), [("The status of a failpoint", "Status"), ("Configuring", "Entry")])
def test_a_table_has_the_keys_of_its_schema(section: str, schema: str) -> None:
    """A key that is added to the schema is added to the page."""
    table = PAGE.partition(f"## {section}\n")[2].partition("\n## ")[0]
    schemas = openapi_document(secured=False)["components"]["schemas"]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(schemas[schema]["properties"])
