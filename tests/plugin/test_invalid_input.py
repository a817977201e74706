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
a failpoint's name must be printable, without white space, '=', ';', '[' or ']'; got 'a b'
    a b
     ^""",
    '{1: "off"}': "a failpoint's name must be a str; got 1",
    '{"a": "1*of->off"}': """\
expected an action, found 'of'; did you mean 'off'?
    1*of->off
      ^""",
    '{"a": 3}': (
        "actions must be a text, an action, a Term, or a sequence of actions and Terms; got 3; did you mean Sleep(3)?"
    ),
    '{"a": "sleep(200)->raise"}': (
        "failpoint 'a': nothing can reach 'raise', because 'sleep(200)' takes every hit; did you mean"
        " 'sleep(200)+raise'?"
    ),
    '{"a": "off"}, context={"k": "("}': (
        "the pattern for 'k' is not a valid regular expression: '(': missing ), unterminated subpattern at position 0"
    ),
    '{"a": "off"}, context=3': (
        'matchers must be a mapping of context keys to patterns, values or predicates, such as {"tenant_id": "test_.*"}'
        "; got 3"
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
    """A run of pytest that fails with a usage error: its folder, files, arguments and the error."""

    folder: Path
    files: dict[str, str]
    arguments: list[str]
    error: str


def marked(arguments: str) -> str:
    """Return a valid test, and another one that has a marker with these arguments."""
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


def test_usage_errors(run_tests: RunTests, tmp_path: Path) -> None:
    """Invalid settings, options and markers are usage errors before any test runs. An earlier report is kept."""
    runs = list(cases(tmp_path))
    for folder, files, _, _ in runs:
        folder.mkdir()
        for name, text in {**files, "report.json": "old"}.items():
            (folder / name).write_text(text)
    # One process for all of them: the usage error takes little time, importing pytest takes much.
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", MANY_RUNS],
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        input=json.dumps([(str(folder), arguments) for folder, _, arguments, _ in runs]),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert json.loads(done.stdout) == [[pytest.ExitCode.USAGE_ERROR, f"ERROR: {error}\n\n"] for _, _, _, error in runs]
    assert not list(tmp_path.glob("*/ran"))
    assert {file.read_text() for file in tmp_path.glob("*/report.json")} == {"old"}


def test_invalid_marker_keeps_the_report(run_tests: RunTests, pytester: pytest.Pytester) -> None:
    """A run that ends with a usage error for a marker does not replace the report of an earlier run."""
    run_tests(marked("3"), "--failpoints-report-json=report.json", files={"report.json": "old"})
    assert (pytester.path / "report.json").read_text() == "old"


def test_valid_seconds(run_tests: RunTests) -> None:
    """Seconds in the ini file can be integers, decimal numbers and inf."""
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
    paused = failpoints.set("x", "pause", expect_hit=False)
    with pytest.raises(FailpointTimeout, match="within 0.05 s"):
        paused.wait_hit_sync()
    with pytest.raises(FailpointTimeout, match="within 0.1 s"):
        failpoint("x").hit()
"""


def test_seconds_in_old_pytest(run_tests: RunTests) -> None:
    """Seconds are read and checked with pytest before 8.4, whose ini settings cannot have the type float."""
    ini = "failpoints_timeout = 0.05\nfailpoints_pause_limit = .1"
    old = {"files": {"old_pytest.py": OLD_PYTEST}}
    run_tests(TIMES_OUT, "-p", "old_pytest", ini=ini, **old).assert_outcomes(passed=1)
    failed = run_tests(TIMES_OUT, "-p", "old_pytest", ini="failpoints_timeout = soon", **old)
    assert failed.ret == pytest.ExitCode.USAGE_ERROR
    problem = "failpoints_timeout in the ini file: expected a number of seconds greater than 0, or inf; got soon"
    assert f"ERROR: {problem}" in failed.errlines


def test_option_while_failpoints_are_disabled(run_tests: RunTests) -> None:
    """With `FAILPOINTS_ENABLED=0`, `--failpoints` is a usage error, and tests without failpoints run."""
    off = {"FAILPOINTS_ENABLED": "0"}
    result = run_tests(RAN, "--failpoints=a=off", environment=off)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: --failpoints: this process was started with FAILPOINTS_ENABLED=0; unset it" in result.errlines
    run_tests(RAN, environment=off | {"FAILPOINTS": "a=off"}).assert_outcomes(passed=1)


INVALID_UNDER_XDIST = {
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


@pytest.mark.parametrize(
    ("source", "ini", "arguments", "problem"), INVALID_UNDER_XDIST.values(), ids=INVALID_UNDER_XDIST
)
def test_usage_errors_under_xdist(
    run_tests: RunTests, pytester: pytest.Pytester, source: str, ini: str, arguments: tuple[str, ...], problem: str
) -> None:
    """Under pytest-xdist the usage error is the same, and is shown once."""
    result = run_tests(source, "-n", "2", *arguments, ini=ini)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(f"ERROR: {problem}")
    output = result.stdout.str() + result.stderr.str()
    assert (output.count("ERROR:"), output.count("Traceback")) == (1, 0)
    assert not (pytester.path / "ran").exists()


# The body of the test, and its failure.
INVALID_SET = {
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
        E   failpoints.errors.FailpointUsageError: matchers must be a mapping of {error}; got 'o1'
        """.replace("{error}", 'context keys to patterns, values or predicates, such as {"tenant_id": "test_.*"}'),
    ),
    "async_name": (
        """
        async with failpoints.paused("shop charge"):  # here
            pass
        """,
        """
        <here>: in test_async_name
            async with failpoints.paused("shop charge"):  # here
        E   failpoints.errors.FailpointNameError: {error}; got 'shop charge'
        E       shop charge
        E           ^
        """.replace("{error}", "a failpoint's name must be printable, without white space, '=', ';', '[' or ']'"),
    ),
}


def test_report_of_an_invalid_set(run_tests: RunTests) -> None:
    """Invalid arguments of `set` and `paused` are reported at the test's own line, without a frame of the library."""
    source = source_of({case: body for case, (body, _) in INVALID_SET.items()})
    result = run_tests(source, "--tb=short", files={"shop.py": SHOP})
    expected: dict[str, str] = {}
    for case, (_, text) in INVALID_SET.items():
        for backend in ("[asyncio]", "[trio]") if case.startswith("async_") else ("",):
            expected[f"test_{case}{backend}"] = located(dedent(text).strip(), case, source)
    assert {name: failure.text for name, failure in failures(result).items()} == expected
