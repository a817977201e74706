"""Instrumented functions appear in scans of source code, in `status`, and in the report of a test run."""

from __future__ import annotations

import json
import textwrap
from importlib.metadata import entry_points

import pytest

from failpoints._scan.scan import Declared, scan_source

SOURCE = """
import failpoints
import failpoints.instrument
import failpoints.instrument as other
from failpoints import instrument as module
from failpoints.instrument import instrument, instrument as renamed

NAME = "http"
instrument("httpx:AsyncClient.send", "http.send")

def block():
    with instrument("a:b", f"{NAME}.b"), failpoints.instrument.instrument("a:c", NAME + ".c"):
        undo = other.instrument("a:d", "http.d", raises=(OSError,))
        undo()
    module.instrument("a:e", "http.e")

class Fixture:
    undo = renamed(
        "a:f",
        "http.f",
    )
"""


def test_a_call_is_a_site() -> None:
    """A call of `instrument(path, name)` is a site with two failpoints, however `instrument` was imported."""
    found = scan_source(SOURCE, "tests.py")
    assert [(site.name, site.kind, site.line, site.function) for site in found.declared] == [
        ("http.send", "instrument", 9, "<module>"),
        ("http.b", "instrument", 12, "block"),
        ("http.c", "instrument", 12, "block"),
        ("http.d", "instrument", 13, "block"),
        ("http.e", "instrument", 15, "block"),
        ("http.f", "instrument", 18, "Fixture"),
    ]
    assert Declared("a", "instrument", "f", 1, "<module>").names == ("a", "a:after")
    assert found.unresolved == found.never_awaited == ()


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ("instrument('a:b', name)", "instrument('a:b', name): the name is unknown before the program runs"),
        ("instrument('a:b', 3)", "instrument('a:b', 3): the name is not a string"),
        ("instrument('a:b')", "instrument('a:b'): the name is missing"),
    ],
)
def test_a_name_that_is_not_known(call: str, text: str) -> None:
    """A name that the source does not contain is reported as a remark."""
    source = f"from failpoints.instrument import instrument\ndef f(name):\n    {call}\n"
    found = scan_source(source, "tests.py")
    assert [(remark.line, remark.text) for remark in found.unresolved] == [(3, text)]
    assert found.declared == ()


def test_an_unrelated_instrument_is_ignored() -> None:
    """A different function called `instrument` is ignored."""
    for line in ("from opentelemetry import instrument", "from .failpoints.instrument import instrument", ""):
        assert scan_source(f"{line}\ninstrument('a:b', 'failpoint')", "tests.py").declared == ()
    starred = "from failpoints import *\ninstrument('a:b', 'c')"  # * does not import the module
    assert scan_source(starred, "tests.py").declared == ()


# Importing the plugins that the inner tests do not use takes longer than the tests.
BLOCKED = [f"-pno:{plugin.name}" for plugin in entry_points(group="pytest11") if plugin.name != "failpoints"]
TESTS = """
    import json, sqlite3
    import pytest
    from failpoints.instrument import instrument

    @pytest.fixture
    def loads():
        with instrument("json:loads", "loads"):
            yield

    def test_hit(loads, failpoints):
        failpoints.set("loads", "return(1)")
        assert json.loads("2") == "1"
        assert [place.rpartition(":")[0] for place in failpoints.status("loads").sites] == [json.__file__]

    def test_of_the_environment(failpoints):
        failpoints.set("sqlite3.connect", "1*raise(OSError)")
        with pytest.raises(OSError):
            sqlite3.connect(":memory:")
        assert failpoints.status("sqlite3.connect").sites == ("sqlite3:connect",)
"""


def test_the_report_of_a_run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report has a row for each path, instrumented by tests or the environment, imported or not."""
    monkeypatch.setenv("FAILPOINTS_INSTRUMENT", "sqlite3:connect;json:dumps;colorsys:rgb_to_hsv")
    monkeypatch.setenv("COLUMNS", "200")  # so that no row is folded
    pytester.makepyfile(test_it=textwrap.dedent(TESTS))
    result = pytester.runpytest_subprocess(
        *BLOCKED, "--failpoints-report", "--failpoints-report-json=report.json", timeout=50
    )
    result.assert_outcomes(passed=2)
    rows = {row["name"]: row for row in json.loads((pytester.path / "report.json").read_text())["failpoints"]}
    assert {name: row["hits"] for name, row in rows.items()} == {
        "json.dumps": 0,
        "json.dumps:after": 0,
        "loads": 1,
        "loads:after": 0,
        "sqlite3.connect": 1,
        "sqlite3.connect:after": 0,
        "colorsys.rgb_to_hsv": 0,
        "colorsys.rgb_to_hsv:after": 0,
    }
    assert rows["loads"]["sites"] == [{"file": "test_it.py", "line": 7, "function": "loads"}]
    assert rows["sqlite3.connect"]["sites"] == [{"file": "sqlite3:connect", "line": 0, "function": "connect"}]
    assert rows["colorsys.rgb_to_hsv"]["sites"] == [
        {"file": "colorsys:rgb_to_hsv", "line": 0, "function": "when its module is imported"}
    ]
    assert rows["json.dumps"]["sites"][0]["file"] == json.__file__
    result.stdout.re_match_lines([r"sqlite3.connect +1 +0 +1 raise\(OSError\) +sqlite3:connect$"])
    result.stdout.re_match_lines([r"json.dumps +0 +0 +never hit +.*json.__init__.py:\d+$"])


def test_a_typo_in_the_module(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failpoint whose module is never imported is never hit, and the test failure names the module."""
    monkeypatch.setenv("FAILPOINTS_INSTRUMENT", "sqlite4:connect")
    pytester.makepyfile('def test_it(failpoints): failpoints.set("sqlite4.connect", "raise")')
    result = pytester.runpytest_subprocess(*BLOCKED, timeout=50)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*declared:   sqlite4:connect (when its module is imported)"])
