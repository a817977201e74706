"""What loading the plugin imports, and runs that do not load it."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.plugin.inner_files import RunTests
from tests.plugin.terminal import (
    outcomes,
)

HEAVY = ("click", "fastapi", "httpx", "requests", "rich", "starlette", "typer", "uvicorn")


def test_imports() -> None:
    """The plugin imports no library for HTTP or the command line."""
    script = f"import sys, failpoints.pytest_plugin\nprint(*(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")


TESTS = """\
def test_with_the_fixture(failpoints):
    pass


def test_plain():
    pass
"""


def test_without_the_plugin(run_tests: RunTests) -> None:
    """With `-p no:failpoints` the tests that do not use the fixture still run."""
    result = run_tests(TESTS, "-v", "-p", "no:failpoints")
    assert outcomes(result) == {"test_with_the_fixture": "ERROR", "test_plain": "PASSED"}
    result.stdout.fnmatch_lines("*fixture 'failpoints' not found*")


# Without failpoints

NOT_IMPORTED = """\
import sys


def test_this():
    assert not {"failpoints", "failpoints._plugin.run", "wrapt"} & set(sys.modules)


def test_that(tmp_path, request):
    assert "failpoints" not in sys.modules
"""


@pytest.mark.parametrize("arguments", [(), ("--failpoints-seed=3",), ("-n", "1")], ids=" ".join)
def test_a_run_that_needs_no_failpoints(run_tests: RunTests, arguments: tuple[str, ...]) -> None:
    """A run whose tests do not use failpoints does not import the package, and prints its seed nevertheless."""
    # By its name, in case the checkout was installed when the entry point was another one.
    by_name = ("-p", "no:failpoints", "-p", "_failpoints_pytest")
    result = run_tests(NOT_IMPORTED, *arguments, *by_name, ini="failpoints_timeout = 3", plugins=())
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines("failpoints: seed *3" if "--failpoints-seed=3" in arguments else "failpoints: seed *")


@pytest.mark.parametrize(
    ("source", "argument", "variable"),
    [
        ("def test(failpoints): ...", "", ""),
        ("import pytest\n@pytest.mark.failpoints({'a': 'off'}, expect_hit=False)\ndef test(): ...", "", ""),
        ("import failpoints\ndef test(): ...", "", ""),
        ("def test(): import failpoints", "", ""),
        ("def test(request): request.getfixturevalue('failpoints')", "", ""),
        ("def test(): ...", "--failpoints=a=off", ""),
        ("def test(): ...", "--failpoints-report", ""),
        ("def test(): ...", "", "a=off"),
    ],
)
def test_a_run_that_needs_failpoints(run_tests: RunTests, source: str, argument: str, variable: str) -> None:
    """A fixture, a marker, an import, an option or a variable loads the rest of the plugin."""
    conftest = """
        import sys

        def pytest_unconfigure(config):
            print("loaded:", config.pluginmanager.hasplugin("failpoints-run"), "failpoints" in sys.modules)
    """
    arguments = [argument] if argument else []
    environment = {"FAILPOINTS": variable} if variable else {}
    result = run_tests(source, "-s", *arguments, files={"conftest.py": conftest}, environment=environment)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines("*loaded: True True")


# Loaded while a test runs

DRAWS = """\
def test_draws({fixtures}):
    {first}
    from failpoints import configure, failpoint, reset
    configure("a", "50%return")
    print("drawn:", "".join("x" if failpoint("a").hit() else "." for _ in range(40)))
    reset()
"""


def test_draws_of_the_test_that_imports_failpoints_first(run_tests: RunTests) -> None:
    """The random draws depend on the run's seed in the very test that first imports failpoints, too."""
    drawn = set[str]()
    for fixtures, first in [("", ""), ("failpoints", ""), ("request", "request.getfixturevalue('failpoints')")]:
        result = run_tests(DRAWS.format(fixtures=fixtures, first=first), "-s", "--failpoints-seed=5")
        result.assert_outcomes(passed=1)
        drawn.update(re.findall(r"drawn: (\S+)", result.stdout.str()))
    assert len(drawn) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("run", ["run()", "thread = threading.Thread(target=run); thread.start(); thread.join()"])
def test_import_in_a_forked_child(run_tests: RunTests, run: str) -> None:
    """A child that a test forks can be the first to import failpoints, in any thread. Its parent does not notice."""
    source = f"""
        import os
        import sys
        import threading

        def run():
            from failpoints import configure, failpoint
            configure("a", "50%return")
            print("hit in the child:", bool(failpoint("a").hit()), flush=True)

        def test_forks():
            child = os.fork()
            if not child:
                {run}
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert "failpoints" not in sys.modules
    """
    by_name = ("-p", "no:failpoints", "-p", "_failpoints_pytest")
    result = run_tests(source, "-s", *by_name, plugins=())
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines("*hit in the child: *")


def test_verdict_on_the_test_that_asks_for_the_fixture_first(run_tests: RunTests) -> None:
    """A test that asks for the fixture in its body fails if it never hits its failpoint, and is restored after it."""
    source = """
        def test_first(request):
            request.getfixturevalue("failpoints").set("shop.chagre", "off")

        def test_second():
            from failpoints import statuses
            assert not statuses()
    """
    result = run_tests(source, "-v")
    assert outcomes(result) == {"test_first": "FAILED", "test_second": "PASSED"}
    result.stdout.fnmatch_lines(
        "*failpoint 'shop.chagre' was set and never hit: the test passed without exercising it."
    )


def test_a_property_that_asks_for_the_fixture_first(run_tests: RunTests) -> None:
    """The examples after the one that first asks for the fixture, and imports failpoints, are tests of their own."""
    source = """
        from hypothesis import given, settings, strategies

        counted = []

        @settings(database=None, max_examples=10)
        @given(number=strategies.integers())
        def test_property(request, number):
            fixture = request.getfixturevalue("failpoints")
            from failpoints import failpoint
            name = f"example.{len(counted)}"
            assert {each.name for each in fixture.statuses()} <= {"example.0"}
            fixture.set(name, "off", expect_hit=name != "example.0")
            failpoint(name).hit()
            counted.append(number)

        def test_examples():
            assert len(counted) >= 10
    """
    result = run_tests(source, "-v", plugins=("anyio", "hypothesispytest"))
    assert outcomes(result) == {"test_property": "PASSED", "test_examples": "PASSED"}


def test_several_runs_in_one_process(pytester: pytest.Pytester) -> None:
    """A run that does not need failpoints leaves nothing to the next one in its process, which does."""
    pytester.makepyfile(test_plain="def test(): ...", test_user="def test(failpoints): failpoints.set('a', 'off')")
    script = """
        import sys
        import pytest
        options = ["-q", "-p", "no:cacheprovider", "-p", "no:failpoints", "-p", "_failpoints_pytest"]
        ends = [pytest.main([*options, "test_plain.py"])]
        assert "failpoints" not in sys.modules
        ends += [pytest.main([*options, name]) for name in ("test_user.py", "test_plain.py", "test_user.py")]
        print("ends:", *map(int, ends))
    """
    result = pytester.runpython(pytester.makepyfile(script=script))
    result.stdout.fnmatch_lines("ends: 0 1 0 1")


@pytest.mark.parametrize("name", ["failpoints", "failpoints.pytest_plugin"])
def test_loaded_by_name(name: str, run_tests: RunTests, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where plugins are not found by themselves, the name of the plugin or of its public module loads it."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    result = run_tests(TESTS, "-v", "-p", name)
    assert outcomes(result) == {"test_with_the_fixture": "PASSED", "test_plain": "PASSED"}
