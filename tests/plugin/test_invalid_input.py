"""Invalid options, ini settings, markers and arguments of the fixture."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

import pytest

from tests.plugin.inner_files import SHOP, RunTests
from tests.plugin.terminal import (
    failures,
    located,
    source_of,
)

INI = {
    "failpoints_strict = maybe": "invalid truth value 'maybe'",
    "failpoints_timeout = soon": "could not convert string to float: 'soon'",
    "failpoints_timeout = 0": "expected a number of seconds greater than 0, or inf; got 0.0",
    "failpoints_timeout = nan": "expected a number of seconds greater than 0, or inf; got nan",
    "failpoints_pause_limit = -1": "expected a number of seconds greater than 0, or inf; got -1.0",
    "failpoints_pause_limit = 1 minute": "could not convert string to float: '1 minute'",
}

TOML = {
    'failpoints_strict = "maybe"': "invalid truth value 'maybe'",
    'failpoints_timeout = "soon"': "could not convert string to float: 'soon'",
    "failpoints_pause_limit = 0": "expected a number of seconds greater than 0, or inf; got 0.0",
}

NATIVE_TOML = {
    'failpoints_strict = "maybe"': "{file}: config option 'failpoints_strict' expects a bool, got str: 'maybe'",
    'failpoints_timeout = "10"': "{file}: config option 'failpoints_timeout' expects a float, got str: '10'",
    "failpoints_pause_limit = true": "{file}: config option 'failpoints_pause_limit' expects a float, got bool: True",
    "failpoints_pause_limit = -0.5": "expected a number of seconds greater than 0, or inf; got -0.5",
}

OPTIONS = {
    "--failpoints=a=of": """\
--failpoints: expected an action, found 'of'; did you mean 'off'?
    a=of
      ^""",
    "--failpoints=a=off;b": """\
--failpoints: expected name=actions, found no '='
    a=off;b
           ^""",
    "--failpoints==off": """\
--failpoints: expected a failpoint's name before '='
    =off
    ^""",
    "--failpoints-report-json=no/report.json": (
        "--failpoints-report-json: cannot write {folder}/no/report.json: No such file or directory"
    ),
    "--failpoints-report-json=.": "--failpoints-report-json: cannot write {folder}: Is a directory",
    "--failpoints-report-json=report.json/x": (
        "--failpoints-report-json: cannot write {folder}/report.json/x: Not a directory"
    ),
}

ONE_MAPPING = 'expected one mapping, such as {"gateway.charge": "pause"}; got '

MARKERS = {
    "": f"{ONE_MAPPING}nothing",
    '"a"': f"{ONE_MAPPING}'a'",
    '"a", "off"': f"{ONE_MAPPING}'a', 'off'",
    '{"a": "off"}, {"b": "off"}': f"{ONE_MAPPING}{{'a': 'off'}}, {{'b': 'off'}}",
    '{"a b": "off"}': """\
a failpoint's name is printable, without white space, '=' or ';'; got 'a b'
    a b
     ^""",
    '{1: "off"}': "a failpoint's name is a str; got 1",
    '{"a": "1*of->off"}': """\
expected an action, found 'of'; did you mean 'off'?
    1*of->off
      ^""",
    '{"a": 3}': "actions are a text, an action, a Term, or a sequence of the last two; got 3; did you mean Sleep(3)?",
    '{"a": "off"}, context={"k": "("}': (
        "the pattern for 'k' is no regular expression: '(': missing ), unterminated subpattern at position 0"
    ),
    '{"a": "off"}, context=3': (
        'matchers are a mapping of context keys to patterns, values or predicates, such as {"tenant_id": "test_.*"};'
        " got 3"
    ),
    '{"a": "off"}, expected_hit=False': (
        "expected context= or expect_hit=, got expected_hit=; did you mean 'expect_hit'?"
    ),
    '{"a": "off"}, mode=1': "expected context= or expect_hit=, got mode=",
    '{"a": "off"}, expect_hit=0': "expect_hit= must be True or False; got 0",
}

RAN = """\
from pathlib import Path

def test_ran():
    Path("ran").touch()
"""


class Case(NamedTuple):
    """A run of pytest that is to be refused: where and with what, and the lines that it is refused with."""

    folder: Path
    files: dict[str, str]
    arguments: list[str]
    refused: str


def marked(arguments: str) -> str:
    """A test that would run, and another with this marker."""
    return f"{RAN}\nimport pytest\n\n@pytest.mark.failpoints({arguments})\ndef test_marked():\n    pass\n"


def cases(path: Path) -> Iterator[Case]:
    folders = (path / f"case{number}" for number in itertools.count())
    tables = [("[pytest]", "pytest.ini", INI), ("[tool.pytest.ini_options]", "pyproject.toml", TOML)]
    if pytest.version_tuple >= (9,):
        tables.append(("[tool.pytest]", "pyproject.toml", NATIVE_TOML))
    for table, file, values in tables:
        for line, problem in values.items():
            folder = next(folders)
            problem = problem.replace("{file}", str(folder / file))
            files = {file: f"{table}\n{line}\n", "test_inner.py": RAN}
            yield Case(folder, files, [], f"{line.split()[0]} in the ini file: {problem}")
    for option, lines in OPTIONS.items():
        folder = next(folders)
        files = {"pytest.ini": "[pytest]", "test_inner.py": RAN}
        arguments = ["--failpoints-report-json=report.json", option]
        yield Case(folder, files, arguments, lines.replace("{folder}", str(folder)))
    for given, lines in MARKERS.items():
        folder = next(folders)
        files = {"pytest.ini": "[pytest]", f"test_{folder.name}.py": marked(given)}
        yield Case(folder, files, [], f"test_{folder.name}.py::test_marked: @pytest.mark.failpoints: {lines}")


MANY_RUNS = """\
import contextlib, io, json, os, sys
import pytest

def run(folder, arguments):
    os.chdir(folder)
    output = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(output):
        status = pytest.main(["-s", "--import-mode=importlib", "-pfailpoints", "-pno:cacheprovider", *arguments])
    return status, output.getvalue()

json.dump([run(*each) for each in json.load(sys.stdin)], sys.stdout)
"""


def test_refusals(run_tests: RunTests, tmp_path: Path) -> None:
    """What cannot be is a usage error before any test runs, in pytest's own way; a file that was there stays."""
    tried = list(cases(tmp_path))
    for folder, files, _, _ in tried:
        folder.mkdir()
        for name, text in {**files, "report.json": "old"}.items():
            (folder / name).write_text(text)
    # One process for them all, since a pytest that refuses is quick once it is imported.
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", MANY_RUNS],
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        input=json.dumps([(str(folder), arguments) for folder, _, arguments, _ in tried]),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert json.loads(done.stdout) == [
        [pytest.ExitCode.USAGE_ERROR, f"ERROR: {refused}\n\n"] for _, _, _, refused in tried
    ]
    assert not list(tmp_path.glob("*/ran"))
    assert {file.read_text() for file in tmp_path.glob("*/report.json")} == {"old"}


def test_bad_marker_leaves_the_report_as_it_was(run_tests: RunTests, pytester: pytest.Pytester) -> None:
    """A run that ends before any test for a bad marker does not replace the report of an earlier one."""
    run_tests(marked("3"), "--failpoints-report-json=report.json", files={"report.json": "old"})
    assert (pytester.path / "report.json").read_text() == "old"


def test_values_that_can_be(run_tests: RunTests) -> None:
    """Seconds may be whole, decimal or endless."""
    table = (
        "[tool.pytest.ini_options]\nfailpoints_strict = true\nfailpoints_timeout = 3\nfailpoints_pause_limit = 'inf'\n"
    )
    run_tests(RAN, "-c", "pyproject.toml", files={"pyproject.toml": table}).assert_outcomes(passed=1)


OLD_PYTEST = """\
import pytest

addini = pytest.Parser.addini


def addini_of_old(self, name, help, type=None, *arguments, **keywords):
    assert type != "float"
    addini(self, name, help, type, *arguments, **keywords)


pytest.Parser.addini = addini_of_old
"""

TIMES_OUT = """\
import pytest
from failpoints import FailpointTimeout, failpoint

def test_it(failpoints):
    paused = failpoints.set("x", "pause")
    with pytest.raises(FailpointTimeout, match="within 0.05 s"):
        paused.wait_hit_sync()
    with pytest.raises(FailpointTimeout, match="within 0.1 s"):
        failpoint("x").hit()
"""


def test_seconds_in_old_pytest(run_tests: RunTests) -> None:
    """Before pytest 8.4, which has no settings that are decimal numbers, seconds are read and refused all the same."""
    ini = "failpoints_timeout = 0.05\nfailpoints_pause_limit = .1"
    old = {"files": {"old_pytest.py": OLD_PYTEST}}
    run_tests(TIMES_OUT, "-p", "old_pytest", ini=ini, **old).assert_outcomes(passed=1)
    refused = run_tests(TIMES_OUT, "-p", "old_pytest", ini="failpoints_timeout = soon", **old)
    assert refused.ret == pytest.ExitCode.USAGE_ERROR
    problem = "failpoints_timeout in the ini file: expected a number of seconds greater than 0, or inf; got soon"
    assert f"ERROR: {problem}" in refused.errlines


def test_option_while_failpoints_are_off(run_tests: RunTests) -> None:
    """With `FAILPOINTS_ENABLED=0` `--failpoints` is refused, and tests that set none run."""
    off = {"FAILPOINTS_ENABLED": "0"}
    result = run_tests(RAN, "--failpoints=a=off", environment=off)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: --failpoints: this process was started with FAILPOINTS_ENABLED=0; unset it" in result.errlines
    run_tests(RAN, environment=off | {"FAILPOINTS": "a=off"}).assert_outcomes(passed=1)


BAD_FOR_WORKERS = {
    "setting": (
        RAN,
        "failpoints_timeout = 0",
        (),
        "failpoints_timeout in the ini file: expected a number of seconds *; got 0.0",
    ),
    "option": (RAN, "", ("--failpoints=a=of",), "--failpoints: expected an action, found 'of'; did you mean 'off'?"),
    "file": (RAN, "", ("--failpoints-report-json=.",), "--failpoints-report-json: cannot write *: Is a directory"),
    "marker": (
        marked("3"),
        "",
        (),
        "test_inner.py::test_marked: @pytest.mark.failpoints: expected one mapping, *; got 3",
    ),
}


@pytest.mark.parametrize(("source", "ini", "arguments", "problem"), BAD_FOR_WORKERS.values(), ids=BAD_FOR_WORKERS)
def test_refusals_under_xdist(
    run_tests: RunTests, pytester: pytest.Pytester, source: str, ini: str, arguments: tuple[str, ...], problem: str
) -> None:
    """Under pytest-xdist it is the same usage error, said once."""
    result = run_tests(source, "-n", "2", *arguments, ini=ini)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(f"ERROR: {problem}")
    said = result.stdout.str() + result.stderr.str()
    assert (said.count("ERROR:"), said.count("Traceback")) == (1, 0)
    assert not (pytester.path / "ran").exists()


# what cannot be set: the body of the test, and the failure

UNSETTABLE = {
    "action": (
        """
        failpoints.set("shop.charge", "of")  # here
        """,
        """
        <here>: in test_action
            failpoints.set("shop.charge", "of")  # here
        E   failpoints.errors.ActionSyntaxError: expected an action, found 'of'; did you mean 'off'?
        E       of
        E       ^
        """,
    ),
    "expect_hit": (
        """
        failpoints.set("shop.charge", "off", expect_hit="no")  # here
        """,
        """
        <here>: in test_expect_hit
            failpoints.set("shop.charge", "off", expect_hit="no")  # here
        E   failpoints.errors.FailpointUsageError: expect_hit= must be True or False; got 'no'
        """,
    ),
    "matchers": (
        """
        with failpoints.paused("shop.charge", context="o1"):  # here
            pass
        """,
        """
        <here>: in test_matchers
            with failpoints.paused("shop.charge", context="o1"):  # here
        E   failpoints.errors.FailpointUsageError: matchers are a mapping of {refused}; got 'o1'
        """.replace("{refused}", 'context keys to patterns, values or predicates, such as {"tenant_id": "test_.*"}'),
    ),
    "async_name": (
        """
        async with failpoints.paused("shop charge"):  # here
            pass
        """,
        """
        <here>: in test_async_name
            async with failpoints.paused("shop charge"):  # here
        E   failpoints.errors.FailpointNameError: {refused}; got 'shop charge'
        E       shop charge
        E           ^
        """.replace("{refused}", "a failpoint's name is printable, without white space, '=' or ';'"),
    ),
}


def test_what_cannot_be_set(run_tests: RunTests) -> None:
    """What cannot be set is told at the test's own line, with no frame of a library."""
    source = source_of({case: body for case, (body, _) in UNSETTABLE.items()})
    result = run_tests(source, "--tb=short", files={"shop.py": SHOP})
    expected: dict[str, str] = {}
    for case, (_, text) in UNSETTABLE.items():
        for backend in ("[asyncio]", "[trio]") if case.startswith("async_") else ("",):
            expected[f"test_{case}{backend}"] = located(dedent(text).strip(), case, source)
    assert {name: failure.text for name, failure in failures(result).items()} == expected
