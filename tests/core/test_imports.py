"""What `import failpoints` imports, and when it imports the rest."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import textwrap

import pytest

LAZY_ANYIO = importlib.util.find_spec("anyio._lazyimport") is not None  # older versions import everything at once


def run(script: str) -> str:
    """Run the script in a new process, which must succeed, and return what it printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FAILPOINTS", "COVERAGE"))}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], env=environment, capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_modules_that_the_import_leaves_out() -> None:
    """`import failpoints` leaves out what only a configured failpoint, a message, a report or a tool needs."""
    left_out = {
        "_failpoints_pytest", "asyncio", "decimal", "difflib", "failpoints._cli", "failpoints._core.declared",
        "failpoints._core.diagnosis", "failpoints._explore", "failpoints._http", "failpoints._instrument",
        "failpoints._plugin", "failpoints._request", "failpoints._scan", "itsdangerous", "json", "multiprocessing",
        "pdb", "pytest", "sysconfig", "trio", "unittest", "wrapt",
    }  # fmt: skip
    if LAZY_ANYIO:
        left_out |= {"anyio._core._synchronization", "anyio._core._tasks", "anyio.lowlevel", "typing_extensions"}
    imported = run("import sys, failpoints\nprint(*sys.modules)").split()
    assert left_out & set(imported) == set()


@pytest.mark.parametrize("configured", ["FAILPOINTS", "configure"])
def test_a_visit_imports_nothing(configured: str) -> None:
    """What visits need is imported when something is configured for the first time, not in the middle of a visit."""
    texts = "a=5%off->return([1]);b=sleep(0.25);c=1*yield->sleep(1);d=raise(OSError);e=sleep(0)"
    if configured == "FAILPOINTS":
        configure = f"import os; os.environ['FAILPOINTS'] = {texts!r}; import failpoints"
    else:
        configure = f"import failpoints; [failpoints.configure(*text.split('=')) for text in {texts!r}.split(';')]"
    printed = run(f"""
        import asyncio, logging, sys
        import anyio._backends._asyncio  # anyio itself imports it at the first use
        {configure}
        from failpoints import failpoint, failpoint_scope

        @failpoint("a")
        def listed() -> list[int]: return []

        @failpoint("b")
        async def slept() -> None: pass

        @failpoint("e")
        def awaitable(): return asyncio.sleep(0)

        async def main():
            await slept()
            await awaitable()
            await failpoint("c")
            async with failpoint_scope("c"): pass

        def visit():
            asyncio.run(main())
            listed()
            try: failpoint("d").hit()
            except OSError: pass

        logging.basicConfig(level="INFO", stream=open("/dev/null", "w"))
        before = set(sys.modules)
        visit()
        print(*sorted(set(sys.modules) - before - {{"_ast_unparse"}}))  # with which Python 3.15 reads annotations
    """)
    assert printed == "\n"


def test_an_explored_visit_imports_nothing() -> None:
    """What visits need is imported before an exploration, in which nothing is configured."""
    printed = run("""
        import asyncio, sys
        from failpoints import failpoint
        from failpoints.explore import explore

        @failpoint("a")
        def awaitable(): return asyncio.sleep(0)

        async def scenario(run):
            before = set(sys.modules)
            async with run.injecting():
                try: await awaitable()
                except OSError: pass
                await asyncio.sleep(0)
            print(*sorted(set(sys.modules) - before))

        explore(scenario, faults={"a": ["raise(OSError)", "sleep(1)"]})
    """)
    assert set(printed) == {"\n"}
