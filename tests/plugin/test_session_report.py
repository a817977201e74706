"""The report on a whole run, as a table and as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.plugin.inner_files import RunTests

REPORT_SHOP = """\
from failpoints import failpoint, failpoint_scope

SLOW = "shop.slow"


@failpoint("shop.charge")
def charge(order) -> int:
    return 42


def parse(**context):
    return failpoint("shop.parse", context=context).hit()


def slow():
    failpoint(SLOW).hit()


def locked():
    with failpoint_scope("shop.lock"):
        pass


def sharded(n):
    failpoint(f"shard-{n}").hit()
"""

FILES = {
    "app/shop.py": REPORT_SHOP,
    "app/never_imported.py": REPORT_SHOP.replace("shop.", "never."),
    # The tests import these two in the reverse order of their names.
    "app/second.py": 'from failpoints import failpoint\n\n\n@failpoint("shared")\ndef second():\n    pass\n',
    "app/first.py": 'from failpoints import failpoint\n\n\n@failpoint("shared")\ndef first():\n    pass\n',
}

SESSION = """\
import os

import failpoints as package
from failpoints import Registry

from app import shop
from app.second import second
from app.first import first
from outside import outside


def test_fixture(failpoints):
    failpoints.set("shop.charge", "1*return(1)->off")
    for order in range(3):
        shop.charge(order)


def test_matchers(failpoints):
    failpoints.set("shop.parse", "0%off->1*return(3)", context={"order": "o1"})
    shop.parse(order="o1")
    shop.parse(order="o2")
    shop.parse(order="o1")


def test_only_missed(failpoints):
    failpoints.set("outside", "off", context={"order": "o1"}, expect_hit=False)
    outside()


def test_scoped():
    with Registry() as registry:
        registry.configure("shop.charge:after", "raise(OSError: disk full)")
        try:
            shop.charge("o1")
        except OSError:
            pass


def test_module_level():
    with package.configured("shard-7", "0%return"):
        shop.sharded(7)


def test_chances(failpoints):
    failpoints.set("shop.charge", "50%off->50%return(2)->raise")
    for order in range(20):
        try:
            shop.charge(order)
        except package.InjectedFault:
            pass


def test_changes_folder(tmp_path):
    os.chdir(tmp_path)


def test_off():
    shop.charge("o1")
"""


@pytest.fixture
def shop(pytester: pytest.Pytester, tmp_path: Path) -> dict[str, Any]:
    """Write the modules that the tests import, and return the keywords to run these tests with."""
    pytester.mkpydir("app")
    (tmp_path / "outside.py").write_text(FILES["app/first.py"].replace("first", "outside").replace("shared", "outside"))
    return {"files": FILES, "ini": f"pythonpath = . {tmp_path}"}


def written(pytester: pytest.Pytester, name: str = "report.json") -> Any:
    return json.loads((pytester.path / name).read_text(encoding="utf-8"))


def at(*places: str) -> list[dict[str, object]]:
    """Return sites, as in `at("app/shop.py:6 charge")`."""
    split = [place.replace(":", " ").split() for place in places]
    return [{"file": file, "line": int(line), "function": function} for file, line, function in split]


def row(
    name: str, sites: list[dict[str, object]], actions: dict[str, int] | None = None, *, hits: int = 0, misses: int = 0
) -> dict[str, object]:
    """Return a row of the report."""
    actions = actions or {}
    triggers = sum(actions.values())
    return {"name": name, "hits": hits, "misses": misses, "triggers": triggers, "actions": actions, "sites": sites}


WIDE = {"COLUMNS": "300"}

REPORTS = ("--failpoints-report", "--failpoints-report-json=report.json", "--failpoints-seed=5")

TABLE = """\
failpoint          hits  misses  triggered                      declared at
outside               0       1  never hit                      {folder}/outside.py:4
outside:after         0       0  never hit                      {folder}/outside.py:4
shared                0       0  never hit                      app/first.py:4, app/second.py:4
shared:after          0       0  never hit                      app/first.py:4, app/second.py:4
shop.lock             0       0  never hit                      app/shop.py:20
shop.lock:after       0       0  never hit                      app/shop.py:20
shop.slow             0       0  never hit                      app/shop.py:16
shard-7               1       0  nothing                        app/shop.py:25
shop.charge          23       0  {charged}  app/shop.py:6
shop.charge:after     1       0  1 raise(OSError: disk full)    app/shop.py:6
shop.parse            2       1  1 return(3)                    app/shop.py:12
4 of 11 failpoints hit, 7 never hit: hits 27, misses 2, triggers 25"""


def test_report(run_tests: RunTests, pytester: pytest.Pytester, tmp_path: Path, shop: dict[str, Any]) -> None:
    """The report has every failpoint of the imported modules, those never hit first, and is the same with workers."""
    result = run_tests(SESSION, *REPORTS, environment=WIDE, **shop)
    result.assert_outcomes(passed=8)
    document = written(pytester)
    charged = document["failpoints"][-3]["actions"]
    assert (list(charged), sum(charged.values())) == (["off", "raise", "return(1)", "return(2)"], 23)
    outside, shared = at(f"{tmp_path}/outside.py:4 outside"), at("app/first.py:4 first", "app/second.py:4 second")
    assert document == {
        "version": 1,
        "seed": 5,
        "totals": {"failpoints": 11, "hit": 4, "never_hit": 7, "hits": 27, "misses": 2, "triggers": 25},
        "failpoints": [
            row("outside", outside, misses=1),
            row("outside:after", outside),
            row("shared", shared),
            row("shared:after", shared),
            row("shop.lock", at("app/shop.py:20 locked")),
            row("shop.lock:after", at("app/shop.py:20 locked")),
            row("shop.slow", at("app/shop.py:16 slow")),
            row("shard-7", at("app/shop.py:25 sharded"), hits=1),
            row("shop.charge", at("app/shop.py:6 charge"), charged, hits=23),
            row("shop.charge:after", at("app/shop.py:6 charge"), {"raise(OSError: disk full)": 1}, hits=1),
            row("shop.parse", at("app/shop.py:12 parse"), {"return(3)": 1}, hits=2, misses=1),
        ],
    }
    triggered = ", ".join(f"{count} {action}" for action, count in charged.items())
    table = TABLE.replace("{folder}", str(tmp_path)).replace("{charged}", triggered)
    assert words(table) in words(result.stdout.str())

    in_workers = run_tests(SESSION, *REPORTS, "-n", "2", environment=WIDE, **shop)
    in_workers.assert_outcomes(passed=8)
    assert written(pytester) == document
    assert words(table) in words(in_workers.stdout.str())


def words(text: str) -> str:
    """Return *text* with single spaces, so that the widths of columns do not matter."""
    return "\n".join(" ".join(line.split()) for line in text.splitlines())


def test_shape_of_the_json(run_tests: RunTests, pytester: pytest.Pytester) -> None:
    """The JSON is indented ASCII. Its keys and their order are the same in each run."""
    source = """\
    from failpoints import failpoint

    def test_it(failpoints):
        failpoints.set("kassé", "print(é)", context={"order": "o1"})
        failpoint("kassé", context={"order": "o1"}).hit()
    """
    result = run_tests(source, "--failpoints-report-json=report.json", "--failpoints-seed=5")
    assert (
        (pytester.path / "report.json").read_text(encoding="ascii")
        == """\
{
  "version": 1,
  "seed": 5,
  "totals": {
    "failpoints": 1,
    "hit": 1,
    "never_hit": 0,
    "hits": 1,
    "misses": 0,
    "triggers": 1
  },
  "failpoints": [
    {
      "name": "kass\\u00e9",
      "hits": 1,
      "misses": 0,
      "triggers": 1,
      "actions": {
        "print(\\u00e9)": 1
      },
      "sites": [
        {
          "file": "test_inner.py",
          "line": 5,
          "function": "test_it"
        }
      ]
    }
  ]
}
"""
    )
    assert "declared at" not in result.stdout.str()


ACTIONS = """\
import asyncio
import functools
import pytest
from failpoints import Call, FailpointUsageError, Raise, Return, failpoint

def elsewhere():
    failpoint("c").hit()
    failpoint("d").hit()
    failpoint("d").hit()
    failpoint("d").hit()

def visit(name):
    return failpoint(name).hit()

def look(hit, more=None):
    pass

@pytest.mark.parametrize("number", range(4))
def test_without_a_text(failpoints, number):
    failpoints.set("a", [Call(look), Return([number])][number % 2])
    visit("a")

@pytest.mark.parametrize("number", range(2))
def test_without_a_name(failpoints, number):
    failpoints.set("b", [Call(functools.partial(look, more=1)), Raise(OSError(2, "no file"))][number])
    try:
        visit("b")
    except OSError:
        pass

def test_long(failpoints):
    failpoints.set("c", f"print({'long ' * 20})")
    visit("c")

def test_failed_action(failpoints):
    async def on_a_loop():
        visit("d")

    failpoints.set("d", "1*off->pause(1)", expect_hit=False)
    visit("d")
    with pytest.raises(FailpointUsageError):
        asyncio.run(on_a_loop())
"""

LONG = ("long " * 20).strip()

CUT = f"1 print({LONG}"[:60] + "…"

ACTIONS_TABLE = f"""\
failpoint hits misses triggered declared at
a 4 0 2 Call(look), 2 Return(…) test_inner.py:13
b 2 0 1 Call(…), 1 Raise(…) test_inner.py:13
c 1 0 {CUT} test_inner.py:7
d 2 0 1 off test_inner.py:8, test_inner.py:9, test_inner.py:10
4 of 4 failpoints hit, 0 never hit: hits 9, misses 0, triggers 8"""


def test_actions(run_tests: RunTests, pytester: pytest.Pytester) -> None:
    """Actions have the same text in each worker. Wide cells are cut. A pause that fails does not count as an action."""
    result = run_tests(ACTIONS, *REPORTS, "-n", "2", environment=WIDE)
    result.assert_outcomes(passed=8)
    assert {row["name"]: (row["hits"], row["actions"]) for row in written(pytester)["failpoints"]} == {
        "a": (4, {"Call(look)": 2, "Return(…)": 2}),
        "b": (2, {"Call(…)": 1, "Raise(…)": 1}),
        "c": (1, {f"print({LONG})": 1}),
        "d": (2, {"off": 1}),
    }
    assert words(ACTIONS_TABLE) in words(result.stdout.str())


def test_a_table_is_not_wider_than_the_terminal(run_tests: RunTests, pytester: pytest.Pytester) -> None:
    """Wide cells are folded. Nothing is left out, and the JSON has long names whole."""
    name = "gateway.of_the_bank.charge_the_customer" + "_once_and_only_once_over" * 3
    source = f"""\
    from failpoints import failpoint

    def elsewhere():
        failpoint({name!r}).hit()

    def test_it(failpoints):
        failpoints.set("short", "print({"word " * 20})")
        failpoint("short").hit()
    """
    result = run_tests(source, *REPORTS, environment={"COLUMNS": "70"})
    start = next(number for number, line in enumerate(result.outlines) if line.startswith("failpoint "))
    end = next(number for number, line in enumerate(result.outlines) if "1 of 2 failpoints hit" in line)
    lines = result.outlines[start:end]
    assert max(map(len, lines)) <= 70
    assert len(lines) > 3
    width = len(lines[0].partition("hits")[0])
    cells = "".join(line[:width].strip() for line in lines[1:])
    assert cells == f"{name}short"
    assert [row["name"] for row in written(pytester)["failpoints"]] == [name, "short"]


def test_text_that_cannot_be_encoded(run_tests: RunTests, pytester: pytest.Pytester) -> None:
    """The report is written even if the text of an action has a lone surrogate."""
    source = r"""
    from failpoints import failpoint

    def test_it(failpoints):
        failpoints.set("called", "print(\udcff)")
        failpoint("called").hit()
    """
    result = run_tests(source, *REPORTS)
    assert result.ret == pytest.ExitCode.OK
    (called,) = written(pytester)["failpoints"]
    assert (called["hits"], called["triggers"]) == (1, 1)


def test_nothing_declared(run_tests: RunTests) -> None:
    """Without any declared failpoint, a sentence takes the place of the table."""
    result = run_tests("def test_it(): pass", "--failpoints-report")
    assert "the imported modules declare no failpoint" in result.outlines
    assert result.ret == pytest.ExitCode.OK


CRASH = """\
import os
from failpoints import failpoint

def test_hits():
    failpoint("hit").hit()

def test_crashes():
    failpoint("hit.too").hit()
    os._exit(3)
"""


def test_worker_that_crashes(run_tests: RunTests, pytester: pytest.Pytester) -> None:
    """After a worker crashed the report is marked incomplete, and no failpoint is listed as never hit in the run."""
    result = run_tests(CRASH, "-n", "1", "--failpoints=hit.too=off", *REPORTS)
    result.assert_outcomes(passed=1, failed=1)
    assert written(pytester)["incomplete"] == "1 worker ended without a report"
    assert "incomplete: 1 worker ended without a report" in result.outlines
    result.stdout.no_fnmatch_line("*failpoint 'hit.too', configured for the whole run, was never hit*")


GONE = """\
from pathlib import Path

def test_removes_the_folder():
    for file in Path("reports").iterdir():
        file.unlink()
    Path("reports").rmdir()
"""


@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["one process", "worker"])
def test_file_that_cannot_be_written(run_tests: RunTests, pytester: pytest.Pytester, workers: tuple[str, ...]) -> None:
    """If the file cannot be written at the end, the run prints one line about it and fails."""
    file = pytester.mkdir("reports") / "report.json"
    result = run_tests(GONE, "--failpoints-report-json=reports/report.json", *workers)
    error = f"--failpoints-report-json: cannot write {file}: No such file or directory"
    assert [line for line in result.outlines + result.errlines if "report.json" in line] == [error]
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    assert result.ret == pytest.ExitCode.INTERNAL_ERROR
    result.assert_outcomes(passed=1)


def test_only_collecting(run_tests: RunTests, pytester: pytest.Pytester) -> None:
    """A run with `--collect-only` has nothing to report, and keeps the report of an earlier run."""
    result = run_tests(CRASH, "--collect-only", *REPORTS, files={"report.json": "old"})
    assert result.ret == pytest.ExitCode.OK
    assert (pytester.path / "report.json").read_text() == "old"
    result.stdout.no_fnmatch_line("*never hit*")
