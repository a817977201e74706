"""The code of a function is exchanged while calls of it begin."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import failpoints

GENERATORS = f"""
import gc, threading
from failpoints import configure, failpoint, reset

def generate(*rest, **more):
    {"; ".join(f"v{number} = {number}" for number in range(5000))}
    yield rest

def method(self, first, second=2, *rest, third=3, **more):
    return first + second + third

async def compute(first, second=2, *, third=3, **more):
    {"; ".join(f"v{number} = {number}" for number in range(100))}
    return first + second + third

generate, method, compute = (failpoint("x")(function) for function in (generate, method, compute))
"""

FINALIZER = """
gc.collect()

class Arms:
    def __init__(self):
        self.itself = self

    def __del__(self):
        configure("x", "off")

for _ in range(100):
    reset()
    Arms()
    gc.set_threshold(1)
    generator = generate(1, 2, more=1)
    gc.set_threshold(0)
    assert next(generator) == (1, 2)
"""

THREADS = """
def call():
    try:
        while not ended.is_set():
            assert next(generate(1, 2, more=1)) == (1, 2)
            assert obj.method(1) == 6
            try:
                compute(1, more=1).send(None)
            except StopIteration as stop:
                assert stop.value == 6
    except BaseException as error:
        errors.append(error)

obj, errors, ended = type("Class", (), {"method": method})(), [], threading.Event()
threads = [threading.Thread(target=call) for _ in range(4)]
for thread in threads:
    thread.start()
for _ in range(100):
    configure("x", "off")
    reset()
ended.set()
for thread in threads:
    thread.join()
assert errors == []
"""


@pytest.mark.parametrize("program", [FINALIZER, THREADS], ids=["by a finalizer", "by another thread"])
def test_a_call_that_has_begun_goes_on(program: str, tmp_path: Path) -> None:
    """A call is right, and crashes nothing, whatever code its function gets between its first steps."""
    environment = {**os.environ, "PYTHONPATH": str(Path(failpoints.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", GENERATORS + program], check=True, timeout=120, cwd=tmp_path, env=environment)


END = """
import functools, threading
from failpoints import failpoint

@failpoint("x")
def function():
    with failpoint("x"):
        pass

class Class:
    method = failpoint("x")(function)
    wrapper = failpoint("y")(functools.partial(print))

threading.Thread(target=int).start()
"""


def test_the_end_of_a_process_is_silent(tmp_path: Path) -> None:
    """Nothing is printed when the last functions are freed, which may be after the modules."""
    environment = {**os.environ, "PYTHONPATH": str(Path(failpoints.__file__).parents[1])}
    ended = subprocess.run(
        [sys.executable, "-c", END], check=True, timeout=120, cwd=tmp_path, env=environment, capture_output=True
    )
    assert ended.stderr == b""
