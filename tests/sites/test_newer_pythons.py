"""Exchanged code and what newer Pythons do with code: compile it, run it in other interpreters, import it late."""

from __future__ import annotations

import dis
import multiprocessing
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

import failpoints
from failpoints import configured, failpoint

JIT: Any = getattr(sys, "_jit", None)
HAS_JIT = JIT is not None and JIT.is_available()

needs_314 = pytest.mark.skipif(sys.version_info < (3, 14), reason="new in Python 3.14")


def run(folder: Path, program: str, *options: str, **variables: str) -> list[str]:
    """Run a program in another process, and return the lines that it prints."""
    (folder / "program.py").write_text(textwrap.dedent(program))
    done = subprocess.run(
        [sys.executable, "-W", "error", *options, "program.py"],
        check=False,
        timeout=100,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(failpoints.__file__).parents[1]), **variables},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


# Each loop runs long enough to be compiled, and exchanges what it calls while it runs.
HOT_LOOPS = """
    from failpoints import Return, configure, failpoint, failpoint_scope, remove

    ROUNDS, STEP = 18_000, 6_000

    @failpoint("hot")
    def function(number, *, factor=1):
        return number * factor

    @failpoint("hot")
    def generator(number):
        yield number

    class Owner:
        @failpoint("hot")
        def method(self, number): return number

        @property
        @failpoint("hot")
        def content(self): return self.number

        @failpoint("hot")
        def __getitem__(self, number): return number

    @failpoint("around")
    def holder(number):
        with failpoint_scope("hot"):
            return number

    @failpoint("hot")
    async def coroutine(number):
        return number

    def of(awaitable):
        try:
            awaitable.send(None)
        except StopIteration as stop:
            return stop.value

    def change(number):
        if number % STEP == 0:
            configure("hot", Return(-1)) if number // STEP % 2 else remove("hot")

    def with_function():
        for number in range(ROUNDS):
            change(number)
            yield number, function(number, factor=1)

    def with_generator():
        for number in range(ROUNDS):
            change(number)
            seen = -1
            for seen in generator(number): pass
            yield number, seen

    def with_owner():
        owner = Owner()
        for number in range(ROUNDS):
            change(number)
            owner.number = number
            assert owner.method(number) == owner[number] == owner.content
            yield number, owner.content

    def with_scope():
        for number in range(ROUNDS):
            change(number)
            yield number, holder(number)

    def with_coroutine():
        for number in range(ROUNDS):
            change(number)
            yield number, of(coroutine(number))

    for loop in (with_function, with_generator, with_owner, with_scope, with_coroutine):
        remove("hot")
        for number, seen in loop():
            assert seen == (-1 if number // STEP % 2 else number), (loop, number, seen)
    import sys
    print(hasattr(sys, "_jit") and sys._jit.is_enabled())
"""


@pytest.mark.parametrize("compiled", ["0", pytest.param("1", marks=pytest.mark.skipif(not HAS_JIT, reason="no JIT"))])
def test_exchanged_in_the_middle_of_a_hot_loop(compiled: str, tmp_path: Path) -> None:
    """A loop that was specialized or compiled calls what is configured now."""
    assert run(tmp_path, HOT_LOOPS, PYTHON_JIT=compiled) == [str(compiled == "1")]


@pytest.mark.skipif(sys.version_info < (3, 13), reason="calls of any function are specialized")
@pytest.mark.skipif("free-threading build" in sys.version, reason="calls of functions whose code is exchanged are not")
def test_calls_are_specialized() -> None:
    """The interpreter specializes calls of a decorated function and method as it does those of plain ones."""

    def function(number: int, *, unused: int = 0) -> int:
        return number + free

    class Owner:
        def plain(self, number: int) -> int:
            return number

        decorated = failpoint("specialized")(plain)

    def specialized(call: Any) -> list[str]:  # `CALL` has another name then
        def caller() -> Any:
            return call(1)

        for _ in range(1000):
            caller()
        return [instruction.opname for instruction in dis.get_instructions(caller, adaptive=True)]

    free, owner = 1, Owner()
    with configured("another", "off"):
        decorated = failpoint("specialized")(function)
        for call in (function, decorated, owner.plain, owner.decorated):
            assert any(name.startswith("CALL_") for name in specialized(call)), call


def test_disassembled_while_armed() -> None:
    """`dis` and the tables of a code object can read an armed function's code, closures and exception handlers too."""
    free = 1
    decorated = failpoint("shown")(lambda number, *rest, named=2, **more: (number, free))
    with configured("shown", "off"):
        code = decorated.__code__
        instructions = list(dis.get_instructions(decorated))
        assert {instruction.starts_line for instruction in instructions} <= {True, False, None, code.co_firstlineno}
        assert {line for line, *_ in code.co_positions()} == {code.co_firstlineno}
        assert "ExceptionTable" in dis.Bytecode(code).dis()
        assert list(getattr(code, "co_branches", list)()) == []


# other interpreters and processes

IN_EACH_INTERPRETER = '''
    import threading
    from concurrent import interpreters

    DEFINE = """if True:
        from failpoints import Return, configured, failpoint, statuses
        @failpoint("here")
        def function(number): return number
        """
    CHECK = """for number in range(100):
        assert statuses() == []
        with configured("here", Return(-1)) as handle:
            assert (function(5), handle.hits) == (-1, 1)
        assert function(5) == 5
        """

    exec(DEFINE)
    others = [interpreters.create() for _ in range(3)]
    threads = [threading.Thread(target=each.exec, args=(DEFINE + "\\n" + CHECK,)) for each in others]
    with configured("here", Return(-2)) as handle:
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        assert (function(5), handle.hits) == (-2, 1)
    for each in others: each.close()
    print(function(5))
'''


@needs_314
def test_interpreters(tmp_path: Path) -> None:
    """Each interpreter of a process has its own failpoints, and arms its own functions."""
    assert run(tmp_path, IN_EACH_INTERPRETER) == ["5"]


SENT = """
    import sys
    from concurrent import futures
    from failpoints import Return, configured, failpoint

    @failpoint("sent")
    def function(number): return number

    class Owner:
        @failpoint("sent")
        def method(self, number): return number

    if __name__ == "__main__":
        with {pool} as pool:
            for armed in (False, True, False):
                with configured("sent", Return(-1)) if armed else configured("another", "off"):
                    calls = [pool.submit(call, 5) for call in (function, Owner().method)]
                    print(function(5), *(call.result(60) for call in calls))
"""


@pytest.mark.parametrize(
    "pool",
    [
        *(f"futures.ProcessPoolExecutor(1, mp_context=__import__('multiprocessing').get_context('{method}'))"
          for method in ("forkserver", "spawn") if method in multiprocessing.get_all_start_methods()),
        pytest.param("futures.InterpreterPoolExecutor(1)", marks=needs_314),
    ],
    ids=lambda pool: pool.rpartition("('")[2].partition("'")[0],
)  # fmt: skip
def test_sent_to_a_pool(pool: str, tmp_path: Path) -> None:
    """A function is sent to another process or interpreter by its name, armed or not, and is what it is there."""
    assert run(tmp_path, SENT.format(pool=pool)) == ["5 5 5", "-1 5 5", "5 5 5"]


CONTROLLED = """
    from failpoints import failpoint

    @failpoint("remote")
    def function(): return "body"

    print("ready", flush=True)
    while function() == "body":
        pass
    print(function())
"""


@needs_314
@pytest.mark.skipif(sys.platform != "linux", reason="needs a privilege elsewhere")
def test_configured_from_another_process(tmp_path: Path) -> None:
    """A script that `sys.remote_exec` runs in a process, between any two instructions, can configure failpoints."""
    script = tmp_path / "script.py"
    script.write_text("from failpoints import Return, configure\nconfigure('remote', Return('visited'))\n")
    (tmp_path / "program.py").write_text(textwrap.dedent(CONTROLLED))
    with subprocess.Popen(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(failpoints.__file__).parents[1])},
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        try:
            assert program.stdout is not None
            assert program.stdout.readline() == "ready\n"
            try:
                sys.remote_exec(program.pid, str(script))  # type: ignore[attr-defined]
            except PermissionError:
                pytest.skip("this process may not trace another one")
            assert program.communicate(timeout=60)[0] == "visited\n"
        finally:
            program.kill()


@pytest.mark.skipif(sys.version_info < (3, 15), reason="lazy imports came with Python 3.15")
def test_imported_late(tmp_path: Path) -> None:
    """A module that a lazy import has not carried out yet is armed once it is used."""
    (tmp_path / "late.py").write_text(
        "from failpoints import failpoint\n@failpoint('late')\ndef function(): return 'body'\n"
    )
    program = """
        import sys
        import late
        from failpoints import Return, configured
        with configured("late", Return("visited")) as handle:
            before = "late" in sys.modules
            print(before, late.function(), handle.hits)
        print(late.function())
    """
    assert run(tmp_path, program, "-X", "lazy_imports=all") == ["False visited 1", "body"]
