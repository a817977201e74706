"""What the terminal shows of the inner tests, as values to compare."""

from __future__ import annotations

import re
from textwrap import dedent, indent
from typing import NamedTuple

import pytest

HEAD = """\
import re
import threading

import anyio
import pytest

import failpoints as package
import shop


def big(n):
    return n > 10


def broken(n):
    raise ValueError(f"no {n}")


class Lines:
    def __repr__(self):
        return "Lines(1,\\n      2)"


class Unshown:
    def __repr__(self):
        raise RuntimeError("closed")


class Incomparable:
    def __eq__(self, other):
        raise ValueError("ambiguous")


class Nameless:
    def __getattr__(self, name):
        raise RuntimeError("closed") if name == "__qualname__" else AttributeError(name)

    def __repr__(self):
        return "Nameless()"


class Key(str):
    def lower(self):
        raise RuntimeError("closed")


answers = iter([False])


def once(n):
    return next(answers)


def started(function, **context):
    threading.Thread(target=function, kwargs=context, name="worker-7", daemon=True).start()


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param

"""

NEVER_HIT = """\
failpoint {name!r} was set and never hit: the test passed without exercising it.
{told}
Check the name, the actions and the matchers. If this is intentional, pass expect_hit=False, or set
failpoints_strict = false in the ini file for all tests."""

REFUSED = NEVER_HIT.replace("was set and never hit", "could not do what it was configured to do")
REFUSED_IN_RUN = f"{REFUSED.partition('Check')[0]}It is configured for the whole run."


class Failure(NamedTuple):
    """What the terminal shows of a test: the failure itself, and the section on its failpoints."""

    text: str
    section: str | None = None


def failures(result: pytest.RunResult) -> dict[str, Failure]:
    """What the terminal shows of each failure and error: by `test_name`, or `setup of test_name`."""
    shown: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in result.outlines:
        heading = re.fullmatch(r"_+ (?:ERROR at )?(\w.*?) _+", line)
        if heading or re.match("===", line):
            lines = shown.setdefault(heading[1], []) if heading else []
        elif not re.fullmatch(r" +\^+", line):  # under a part of a line, by which not every Python marks the same
            lines.append(re.sub(r"^-+ failpoints -+$", "<section>", line))
    told = {name: "\n".join(map(normal, lines)).strip("\n").split("\n<section>\n") for name, lines in shown.items()}
    return {name: Failure(*parts) for name, parts in told.items()}


def normal(line: str) -> str:
    """Without what differs from run to run."""
    line = re.sub(r"0x[0-9a-f]+", "0x0", line)
    line = re.sub(r"has waited \d+\.\d s", "has waited N s", line)
    return re.sub(r"--failpoints-seed=\d+ ", "--failpoints-seed=N ", line)


def outcomes(result: pytest.RunResult) -> dict[str, str]:
    """What became of each test, of a run with `-v`: `{"test_name": "PASSED"}`."""
    return dict(re.findall(r"^test_inner\.py::(\S+) ([A-Z]+)", result.stdout.str(), re.MULTILINE))


def source_of(bodies: dict[str, str]) -> str:
    """A file with a test for each name; a name that begins with `async_` is an async one, on both backends."""
    tests = [HEAD]
    for name, body in bodies.items():
        mark, function = ("@pytest.mark.anyio\n", "async def") if name.startswith("async_") else ("", "def")
        tests.append(f"{mark}{function} test_{name}(failpoints):\n{indent(dedent(body).strip(), '    ')}\n")
    return "\n\n".join(tests)


def located(text: str, name: str, source: str) -> str:
    """The text of a test's message, with `<here>` as the place of the test's line that says `# here`."""
    before, _, test = source.partition(f"def test_{name}(")
    for number, line in enumerate(test.splitlines(), before.count("\n") + 1):
        for mark in re.findall(r"# (\w+)$", line):
            text = text.replace(f"<{mark}>", f"test_inner.py:{number}")
    return text


def told_of(told: str) -> str:
    return indent(dedent(told).strip(), "  ")
