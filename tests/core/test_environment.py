"""The variables `FAILPOINTS` and `FAILPOINTS_ENABLED`, which are read once, at import."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the script in a new process with these environment variables."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FAILPOINTS")}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**environment, **variables, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
    )


def printed(script: str, **variables: str) -> str:
    """Run the script and return its output. Fail on a non-zero exit status, or other text on stderr than is due."""
    done = run(script, **variables)
    due = ("FAILPOINTS is in force: ", "FAILPOINTS names ")
    assert (done.returncode, [line for line in done.stderr.splitlines() if not line.startswith(due)]) == (0, [])
    return done.stdout


SHOW = """
import failpoints
print({each.name: failpoints.format_actions(each.actions) for each in failpoints.statuses()})
"""


# FAILPOINTS


def test_matchers() -> None:
    """Matchers in brackets are patterns for the text of a value."""
    script = """
    from failpoints import failpoint
    for context in ({"tenant_id": "test_1", "shard": 3}, {"tenant_id": "test_1", "shard": 33}, {"shard": 3}):
        print(failpoint("charge", context=context).hit())
    """
    text = "charge[tenant_id=test_.*,shard=3]=return(42)"
    assert printed(script, FAILPOINTS=text).split() == ["Return(value='42')", "Continue()", "Continue()"]


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
        ("a=2*sleep(1)+raise(OSError)->cancel", {"a": "2*sleep(1)+raise(OSError)->cancel"}),
        ("naïve=print(été)", {"naïve": "print(été)"}),
    ],
    ids=ascii,
)
def test_failpoints_configures_at_import(text: str, configured: dict[str, str]) -> None:
    """Entries joined by `;` are configured at import. White space and empty entries are ignored."""
    assert printed(SHOW, FAILPOINTS=text, PYTHONIOENCODING="utf-8", PYTHONUTF8="1") == f"{configured}\n"


def test_failpoints_applies_from_the_first_visit() -> None:
    """A failpoint configured by `FAILPOINTS` acts from the first visit, in any context."""
    script = """
        from failpoints import *
        @failpoint("a", context=["number"])
        def double(number: int) -> int:
            return 2 * number
        print(double(1), failpoint("b").hit(), status("a").hits, status("a").matchers)
    """
    assert printed(script, FAILPOINTS="a=return(42);b=return") == "42 Return(value=None) 1 {}\n"


def test_an_exit_ends_the_process() -> None:
    """`exit` in `FAILPOINTS` ends the process at the site, with its status."""
    script = "from failpoints import *; print('before', flush=True); failpoint('c').hit(); print('after')"
    done = run(script, FAILPOINTS="c=exit(7)")
    assert (done.returncode, done.stdout) == (7, "before\n")
    assert [line.partition(",")[0] for line in done.stderr.splitlines()] == [
        "FAILPOINTS is in force: c=exit(7)",
        "failpoint 'c' ended the process with exit status 7",
    ]


def test_the_variables_are_read_once() -> None:
    """Changing the variables after the import has no effect."""
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
        ("a=off;b c=off", "FailpointNameError", "without white space, '=', ';', '[' or ']'; got 'b c'", "b c=off"),
        ("a=off;b=retrun(1);c=off", "ActionSyntaxError", "did you mean 'return'?", "retrun(1);c=off"),
        ("a=off;b=;c=off", "ActionSyntaxError", "expected an action", ";c=off"),
        ("a=off;b=return(1", "ActionSyntaxError", "expected ')' to close this parenthesis", "(1"),
        ("a=off;b=150%off", "ActionSyntaxError", "expected a percentage from 0 to 100", "150%off"),
        ("a=off b=off", "ActionSyntaxError", "expected '+', '->', ';' or the end after the action", "b=off"),
    ],
)
def test_a_malformed_value_stops_the_import(text: str, error: str, sentence: str, place: str) -> None:
    """A malformed value fails the import with one message, the variable's name and a caret at the position."""
    done = run("import failpoints", FAILPOINTS=text)
    assert (done.returncode, done.stdout) == (1, "")
    message, shown, caret = done.stderr.splitlines()  # and no traceback
    assert message.startswith(f"failpoints.errors.{error}: FAILPOINTS: ")
    assert sentence in message
    assert shown.strip() == text
    assert caret.strip() == "^"
    assert text[caret.index("^") - shown.index(text) :] == place


def test_a_malformed_value_configures_nothing() -> None:
    """A malformed value configures nothing, even if the program catches the error."""
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


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("FAILPOINTS_ENABLED", "maybe"),
        ("FAILPOINTS_DEBUG", "maybe"),
        ("FAILPOINTS_INSTRUMENT", "nothing"),
        ("FAILPOINTS_HTTP", "nowhere"),
    ],
)
def test_a_mistake_in_a_variable_is_one_message(variable: str, value: str) -> None:
    """A mistake in another variable has no traceback either. With `FAILPOINTS_DEBUG=1` it has one."""
    done = run("import failpoints", **{variable: value})
    assert (done.returncode, "Traceback" in done.stderr, variable in done.stderr) == (1, False, True)
    if variable in ("FAILPOINTS_INSTRUMENT", "FAILPOINTS_HTTP"):
        assert "Traceback" in run("import failpoints", **{variable: value, "FAILPOINTS_DEBUG": "1"}).stderr


def test_other_errors_keep_their_traceback() -> None:
    """A program that goes on after a mistake in `FAILPOINTS` sees its own errors as before."""
    script = """
        try:
            import failpoints
        except ValueError:
            pass
        1 / 0
    """
    done = run(script, FAILPOINTS="a")
    assert done.stderr.splitlines()[0] == "Traceback (most recent call last):"
    assert done.stderr.splitlines()[-1].startswith("ZeroDivisionError")


# What a process says that obeys FAILPOINTS.


def test_a_process_says_that_it_obeys() -> None:
    """A process that has configured `FAILPOINTS` logs it at WARNING, once."""
    script = """
        import failpoints, importlib
        importlib.import_module("failpoints")
        failpoints.failpoint("a").hit()
    """
    assert run(script, FAILPOINTS=" a=off ").stderr == "FAILPOINTS is in force: a=off\n"
    assert run(script, FAILPOINTS=" ; ").stderr == ""
    assert run(script).stderr == ""


DECLARES = """
import os, sys
import failpoints

@failpoints.failpoint("gateway.charge")
def charge(): ...

def inline():
    failpoints.failpoint("inline" + "").hit()
"""


@pytest.mark.parametrize(
    ("name", "more", "reported"),
    [
        ("gateway.chrage", "", "; did you mean 'gateway.charge', declared at "),
        ("gateway.charge:aftre", "", "; did you mean 'gateway.charge:after', declared at "),
        ("gateway.charge", "", None),
        ("gateway.charge:after", "", None),
        ("inline", "inline()", None),
        ("gateway.chrage", "failpoints.remove('gateway.chrage')", None),
        ("gateway.chrage", "failpoints.reset()", None),
        ("gateway.chrage", "failpoints.configure('gateway.chrage', 'off')", None),
        ("gateway.chrage", "os.fork() or sys.exit()", "; did you mean 'gateway.charge', declared at "),
        ("gateway.chrage", "failpoints.configure('inline', 'exit(0)'); inline()", None),
    ],
)
def test_a_name_that_no_site_had(name: str, more: str, reported: str | None) -> None:
    """A name that no site had until the process ended is logged then, once, with the nearest one."""
    done = run(f"{DECLARES}\n{more}\n", FAILPOINTS=f"{name}=off")
    lines = [line for line in done.stderr.splitlines() if line.startswith("FAILPOINTS names ")]
    if reported is None:
        assert lines == []
    else:
        [line] = lines
        assert line.startswith(f"FAILPOINTS names {name!r}, but no site had that name; declared: ")
        assert reported in line


def test_a_declared_site_that_was_not_visited(tmp_path: Path) -> None:
    """A name that stands in the source of an imported module is not reported, even if its site was never visited."""
    (tmp_path / "shop.py").write_text(
        "from failpoints import failpoint\ndef sell():\n    failpoint('shop.sell').hit()\n"
    )
    script = f"import sys; sys.path.append({str(tmp_path)!r}); import shop"
    assert run(script, FAILPOINTS="shop.sell=off").stderr == "FAILPOINTS is in force: shop.sell=off\n"
    assert "did you mean 'shop.sell'" in run(script, FAILPOINTS="shop.sel=off").stderr


@pytest.mark.skipif(sys.version_info < (3, 15), reason="lazy imports came with Python 3.15")
def test_failpoints_with_lazy_imports() -> None:
    """With lazy imports, the first use of the package configures `FAILPOINTS`."""
    done = run(SHOW, FAILPOINTS="a=off", PYTHON_LAZY_IMPORTS="all")
    assert (done.returncode, done.stdout) == (0, "{'a': 'off'}\n")
    done = run("import failpoints; failpoints", FAILPOINTS="a")
    message = "failpoints.errors.ActionSyntaxError: FAILPOINTS: expected name=actions, found no '='"
    assert (done.returncode, done.stderr.splitlines()[-3:]) == (1, [message, "    a", "     ^"])


@pytest.mark.skipif(sys.version_info < (3, 15), reason="lazy imports came with Python 3.15")
@pytest.mark.parametrize("mode", ["normal", "all"])
def test_all_variables_with_lazy_imports(mode: str) -> None:
    """With lazy imports, the functions that a variable names are instrumented, and the control plane is started."""
    script = """
        import json
        import threading
        import failpoints
        failpoints.status("x")
        print(json.dumps(1), [thread.name for thread in threading.enumerate() if "failpoints" in thread.name])
    """
    done = run(
        script,
        FAILPOINTS="json.dumps=return(instrumented)",
        FAILPOINTS_INSTRUMENT="json:dumps",
        FAILPOINTS_HTTP="127.0.0.1:0",
        PYTHON_LAZY_IMPORTS=mode,
    )
    assert (done.returncode, done.stdout) == (0, "instrumented ['failpoints control plane']\n"), done.stderr


# FAILPOINTS_ENABLED


@pytest.mark.parametrize("value", ["", "1", " TRUE "])
def test_enabled(value: str) -> None:
    """`1` and an empty value enable failpoints."""
    assert printed(SHOW, FAILPOINTS="a=off", FAILPOINTS_ENABLED=value) == "{'a': 'off'}\n"


@pytest.mark.parametrize("value", ["2", "enabled"])
def test_an_unknown_value_stops_the_import(value: str) -> None:
    """Any value other than a yes or a no fails the import, with a message that shows it."""
    done = run("import failpoints", FAILPOINTS_ENABLED=value)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        f"failpoints.errors.FailpointUsageError: FAILPOINTS_ENABLED is {value!r}: expected 1"
    )


@pytest.mark.parametrize("value", ["0", " No "])
def test_disabled_decorator_returns_the_function_unchanged(value: str) -> None:
    """With `FAILPOINTS_ENABLED=0`, `@failpoint` returns the object that it decorates."""
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


def test_disabled_scopes_and_inline_sites_do_nothing() -> None:
    """With `FAILPOINTS_ENABLED=0`, scopes and inline sites continue and evaluate no arguments."""
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
    """With `FAILPOINTS_ENABLED=0`, configuring is a usage error, and the other functions do nothing."""
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


def test_disabled_ignores_failpoints_with_a_warning() -> None:
    """With `FAILPOINTS_ENABLED=0`, `FAILPOINTS` is ignored with a warning."""
    done = run(SHOW, FAILPOINTS="a=off", FAILPOINTS_ENABLED="0")
    assert (done.returncode, done.stdout) == (0, "{}\n")
    assert done.stderr == "FAILPOINTS is ignored, because FAILPOINTS_ENABLED=0: a=off\n"


# what the import loads


def test_the_import_loads_only_anyio_and_wrapt() -> None:
    """Outside the standard library, `import failpoints` loads only anyio, wrapt and their imports."""
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


def test_the_import_raises_no_warnings() -> None:
    """`import failpoints` prints nothing, even with all warnings turned into errors."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FAILPOINTS")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", "import failpoints"],
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# the process of the command

BAD = {"FAILPOINTS": "retrun", "FAILPOINTS_ENABLED": "perhaps", "FAILPOINTS_HTTP": "nowhere", "FAILPOINTS_TOKEN": " "}
READ = "from failpoints._core.environment import *; print(repr(CONFIGURATION), ENABLED, repr(HTTP), TOKEN)"


@pytest.mark.parametrize("name", ["failpoints", "failpoints.exe", "failpoints-script.py"])
def test_the_command_ignores_the_variables(name: str) -> None:
    """The `failpoints` command ignores the variables, so a malformed one does not stop it."""
    assert printed(f"import sys; sys.argv[0] = '/some/bin/{name}'; {READ}", **BAD) == "'' True '' None\n"


@pytest.mark.parametrize("before", [[], ["-X", "dev"]], ids=repr)
def test_python_m_failpoints_ignores_the_variables(before: list[str]) -> None:
    """`python -m failpoints` ignores the variables too."""
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
def test_a_program_with_arguments_like_the_command_reads_the_variables(tmp_path: Path, arguments: list[str]) -> None:
    """Another package run with `-m` reads the variables, even if its arguments look like the command."""
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
    assert (done.returncode, done.stdout) == (0, "'a=off' True '' None\n")
    assert done.stderr.startswith("FAILPOINTS is in force: a=off\n")


def test_the_environment_of_a_child_appends_to_failpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries for a child process are appended to `FAILPOINTS`, so they win for the same name."""
    from failpoints._core.environment import child_environment

    monkeypatch.delenv("FAILPOINTS", raising=False)
    assert child_environment("a=off")["FAILPOINTS"] == "a=off"
    monkeypatch.setenv("FAILPOINTS", "b=off; ")
    monkeypatch.setenv("SHOP", "1")
    assert child_environment("a=off")["FAILPOINTS"] == "b=off; ;a=off"
    assert child_environment("a=off")["SHOP"] == "1"
