"""`FAILPOINTS` and `FAILPOINTS_ENABLED`: read once, at import, and never half."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the script in a process with these variables."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FAILPOINTS")}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**environment, **variables, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
    )


def printed(script: str, **variables: str) -> str:
    """What the script prints, which must end well and say nothing else."""
    done = run(script, **variables)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


SHOW = """
import failpoints
print({each.name: failpoints.format_actions(each.actions) for each in failpoints.statuses()})
"""


# FAILPOINTS


@pytest.mark.parametrize(
    ("text", "configured"),
    [
        ("a=return(42);b=sleep(1000);c=exit", {"a": "return(42)", "b": "sleep(1000)", "c": "exit"}),
        ("  a = return( 42 ) ; b=off ;; ; ", {"a": "return(42)", "b": "off"}),
        (";a=off", {"a": "off"}),
        ("", {}),
        (" ; ;", {}),
        (
            "a=return(x=1;y=2);b::c:after=25%3*return->100",
            {"a": "return(x=1;y=2)", "b::c:after": "25%3*return->sleep(100)"},
        ),
        ('a=return("b=off;");c=panic', {"a": "return(b=off;)", "c": "panic"}),
        ("a=off;a=pause", {"a": "pause"}),
        ("naïve=print(été)", {"naïve": "print(été)"}),
    ],
    ids=ascii,
)
def test_it_configures_at_import(text: str, configured: dict[str, str]) -> None:
    """Entries joined by `;` are configured at import; spaces and empty entries are fine."""
    assert printed(SHOW, FAILPOINTS=text, PYTHONIOENCODING="utf-8", PYTHONUTF8="1") == f"{configured}\n"


def test_it_holds_at_the_sites() -> None:
    """What `FAILPOINTS` configures holds from the first visit on, for every context."""
    script = """
        from failpoints import *
        @failpoint("a", context=["number"])
        def double(number: int) -> int:
            return 2 * number
        print(double(1), failpoint("b").hit(), status("a").hits, status("a").matchers)
    """
    assert printed(script, FAILPOINTS="a=return(42);b=return") == "42 Return(value=None) 1 {}\n"


def test_an_exit_ends_the_process() -> None:
    """`exit` in `FAILPOINTS` ends the process at the site, with its status, and not before."""
    script = "from failpoints import *; print('before', flush=True); failpoint('c').hit(); print('after')"
    done = run(script, FAILPOINTS="c=exit(7)")
    assert (done.returncode, done.stdout, done.stderr) == (7, "before\n", "")


def test_it_is_read_once() -> None:
    """What the variables become after the import changes nothing."""
    script = """
        import os
        import failpoints
        os.environ["FAILPOINTS"] = "b=off"
        os.environ["FAILPOINTS_ENABLED"] = "0"
        import failpoints._core.environment, failpoints._core.registry
        failpoints.configure("c", "off")
        print([each.name for each in failpoints.statuses()])
    """
    assert printed(script, FAILPOINTS="a=off") == "['a', 'c']\n"


@pytest.mark.parametrize(
    ("text", "error", "sentence", "place"),
    [
        ("a=off;b;c=off", "ActionSyntaxError", "expected name=actions, found no '='", ";c=off"),
        ("off", "ActionSyntaxError", "expected name=actions, found no '='", ""),
        ("a=off; =off", "ActionSyntaxError", "expected a failpoint's name before '='", "=off"),
        ("a=off;b c=off", "FailpointNameError", "without white space, '=' or ';'; got 'b c'", "b c=off"),
        ("a=off;b=retrun(1);c=off", "ActionSyntaxError", "did you mean 'return'?", "retrun(1);c=off"),
        ("a=off;b=;c=off", "ActionSyntaxError", "expected an action", ";c=off"),
        ("a=off;b=return(1", "ActionSyntaxError", "expected ')' to close this parenthesis", "(1"),
        ("a=off;b=150%off", "ActionSyntaxError", "expected a percentage from 0 to 100", "150%off"),
        ("a=off b=off", "ActionSyntaxError", "expected '->', ';' or the end after the action", "b=off"),
    ],
)
def test_a_malformed_value_stops_the_import(text: str, error: str, sentence: str, place: str) -> None:
    """A malformed entry stops the import, with a message that names the variable and a caret under the place."""
    done = run("import failpoints", FAILPOINTS=text)
    assert (done.returncode, done.stdout) == (1, "")
    message, shown, caret = done.stderr.splitlines()[-3:]
    assert message.startswith(f"failpoints.errors.{error}: FAILPOINTS: ")
    assert sentence in message
    assert shown.strip() == text
    assert caret.strip() == "^"
    assert text[caret.index("^") - shown.index(text) :] == place


def test_a_malformed_value_configures_nothing() -> None:
    """No entry of a malformed value is configured, also for who catches the error."""
    script = """
        import sys
        try:
            import failpoints
        except ValueError as error:
            print(type(error).__name__, "failpoints" in sys.modules)
            registry = sys.modules["failpoints._core.registry"] if "failpoints._core.registry" in sys.modules else None
            print(registry and registry.statuses())
    """
    assert printed(script, FAILPOINTS="a=off;b").splitlines()[0] == "ActionSyntaxError False"


@pytest.mark.skipif(sys.version_info < (3, 15), reason="lazy imports came with Python 3.15")
def test_it_is_read_where_imports_are_lazy() -> None:
    """Where every import is lazy, the first use of the package imports it, which configures `FAILPOINTS` as always."""
    done = run(SHOW, FAILPOINTS="a=off", PYTHON_LAZY_IMPORTS="all")
    assert (done.returncode, done.stdout, done.stderr) == (0, "{'a': 'off'}\n", "")
    done = run("import failpoints; failpoints", FAILPOINTS="a")
    message = "failpoints.errors.ActionSyntaxError: FAILPOINTS: expected name=actions, found no '='"
    assert (done.returncode, done.stderr.splitlines()[-3:]) == (1, [message, "    a", "     ^"])


# FAILPOINTS_ENABLED


@pytest.mark.parametrize("value", ["", "1", " TRUE "])
def test_enabled(value: str) -> None:
    """`1`, like nothing at all, lets failpoints be configured."""
    assert printed(SHOW, FAILPOINTS="a=off", FAILPOINTS_ENABLED=value) == "{'a': 'off'}\n"


@pytest.mark.parametrize("value", ["2", "enabled"])
def test_an_unknown_value_stops_the_import(value: str) -> None:
    """Anything but a yes or a no stops the import, with a message that names the variable and the value."""
    done = run("import failpoints", FAILPOINTS_ENABLED=value)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        f"failpoints.errors.FailpointUsageError: FAILPOINTS_ENABLED is {value!r}: expected 1"
    )


@pytest.mark.parametrize("value", ["0", " No "])
def test_disabled_the_decorator_returns_the_very_function(value: str) -> None:
    """With `FAILPOINTS_ENABLED=0` `@failpoint` gives back the object it was given, of whatever kind."""
    script = """
        from failpoints import failpoint
        def function(): return 1
        async def coroutine(): return 1
        def generator(): yield 1
        async def async_generator(): yield 1
        method = classmethod(function)
        static = staticmethod(coroutine)
        for each in (function, coroutine, generator, async_generator, method, static):
            assert failpoint("x", context=lambda: 1 / 0)(each) is each, each
        print("the same")
    """
    assert printed(script, FAILPOINTS_ENABLED=value) == "the same\n"


def test_disabled_the_other_sites_do_nothing() -> None:
    """With `FAILPOINTS_ENABLED=0` scopes and inline calls go on, and evaluate nothing."""
    script = """
        from failpoints import *
        def never(): raise AssertionError
        async def main():
            async with failpoint_scope("x", context=never, cancel=never):
                return await failpoint("x", context=never, cancel=never)
        with failpoint_scope("x", context=never, cancel=never):
            print(failpoint("x", context=never, cancel=never).hit())
        try:
            main().send(None)
        except StopIteration as stopped:
            print(stopped.value)
    """
    assert printed(script, FAILPOINTS_ENABLED="0") == "Continue()\nContinue()\n"


def test_disabled_nothing_can_be_configured() -> None:
    """With `FAILPOINTS_ENABLED=0` configuring is a usage error that names the variable; the rest is no error."""
    script = """
        from failpoints import *
        calls = {
            "configure": lambda: configure("x", "off"),
            "configure_all": lambda: configure_all([("x", "off")]),
            "configured": lambda: configured("x", "off").__enter__(),
            "registry": lambda: Registry().configure("x", "off"),
        }
        for name, call in calls.items():
            try:
                call()
            except FailpointUsageError as error:
                print(name, "FAILPOINTS_ENABLED=0" in str(error))
        remove("x"), reset(), resume("x"), seed(1)
        with Registry():
            pass
        print(statuses(), status("x").actions)
    """
    assert printed(script, FAILPOINTS_ENABLED="0").splitlines() == [
        "configure True",
        "configure_all True",
        "configured True",
        "registry True",
        "[] ()",
    ]


def test_disabled_what_failpoints_says_is_passed_over_with_a_warning() -> None:
    """With `FAILPOINTS_ENABLED=0` the entries of `FAILPOINTS` are not configured, and a warning says so."""
    done = run(SHOW, FAILPOINTS="a=off", FAILPOINTS_ENABLED="0")
    assert (done.returncode, done.stdout) == (0, "{}\n")
    assert done.stderr == "FAILPOINTS is ignored, because FAILPOINTS_ENABLED=0: a=off\n"


# what the import brings in


def test_the_import_brings_in_anyio_and_wrapt_only() -> None:
    """Beyond the standard library `import failpoints` brings in anyio and wrapt, with what these import, only."""
    script = """
        import sys
        import anyio.abc, anyio.lowlevel, wrapt
        from anyio import Event, create_task_group, get_current_task
        before = set(sys.modules)
        import failpoints
        new = set(sys.modules) - before
        owners = {name.partition(".")[0] for name in new} - sys.stdlib_module_names
        print(sorted(owners - {"anyio"}), "asyncio" in new)
        print([name for name in ("trio", "pytest", "httpx", "rich", "starlette", "uvloop") if name in sys.modules])
    """
    lines = printed(script).splitlines()
    assert lines == ["['failpoints'] False", "[]"]


def test_the_import_warns_of_nothing() -> None:
    """`import failpoints` says nothing, also with every warning switched on."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FAILPOINTS")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", "import failpoints"],
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# the command's own process

BAD = {"FAILPOINTS": "retrun", "FAILPOINTS_ENABLED": "perhaps", "FAILPOINTS_HTTP": "nowhere", "FAILPOINTS_TOKEN": " "}
READ = "from failpoints._core.environment import *; print(repr(CONFIGURATION), ENABLED, repr(HTTP), TOKEN)"


@pytest.mark.parametrize("name", ["failpoints", "failpoints.exe", "failpoints-script.py"])
def test_the_command_itself_obeys_no_variable(name: str) -> None:
    """To the process of the command they say nothing, so that no mistake in one of them stops it."""
    assert printed(f"import sys; sys.argv[0] = '/some/bin/{name}'; {READ}", **BAD) == "'' True '' None\n"


@pytest.mark.parametrize("before", [[], ["-X", "dev"]], ids=repr)
def test_nor_does_the_package_that_is_run(before: list[str]) -> None:
    """`python -m failpoints` is the command, too."""
    done = subprocess.run(
        [sys.executable, *before, "-m", "failpoints", "check", "2*off"],
        env={**os.environ, **BAD, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 times" in done.stdout


@pytest.mark.parametrize("arguments", [["run"], ["failpoints"], ["-m", "failpoints"]], ids=repr)
def test_a_program_that_is_told_of_the_command_is_none(tmp_path: Path, arguments: list[str]) -> None:
    """A package that is run with `-m` obeys, whatever its arguments are."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").write_text(READ)
    (tmp_path / "shop" / "__main__.py").touch()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FAILPOINTS")}
    done = subprocess.run(
        [sys.executable, "-m", "shop", *arguments],
        env={**environment, "FAILPOINTS": "a=off", "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "'a=off' True '' None\n", "")


def test_the_environment_of_a_child_adds_to_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is added comes after what `FAILPOINTS` said, and counts where both name a failpoint."""
    from failpoints._core.environment import child_environment

    monkeypatch.delenv("FAILPOINTS", raising=False)
    assert child_environment("a=off")["FAILPOINTS"] == "a=off"
    monkeypatch.setenv("FAILPOINTS", "b=off; ")
    monkeypatch.setenv("SHOP", "1")
    assert child_environment("a=off")["FAILPOINTS"] == "b=off; ;a=off"
    assert child_environment("a=off")["SHOP"] == "1"
