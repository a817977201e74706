"""The source of inner tests that fail, and what the terminal shows of them."""

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


class Unprintable:
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
{details}
Check the name, the actions, the matchers and the place of the decorator. If this is intentional, pass
expect_hit=False, or set failpoints_strict = false in the ini file for all tests."""

FAILED_ACTION = NEVER_HIT.replace("was set and never hit", "could not do what it was configured to do")
FAILED_ACTION_OF_THE_RUN = f"{FAILED_ACTION.partition('Check')[0]}It is configured for the whole run."


class Failure(NamedTuple):
    """The text of a failure, and the section on failpoints that follows it."""

    text: str
    section: str | None = None


def failures(result: pytest.RunResult) -> dict[str, Failure]:
    """Return each failure and error in the terminal, by `test_name` or `setup of test_name`."""
    shown: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in result.outlines:
        heading = re.fullmatch(r"_+ (?:ERROR at )?(\w.*?) _+", line)
        if heading or re.match("===", line):
            lines = shown.setdefault(heading[1], []) if heading else []
        elif not re.fullmatch(r" +\^+", line):  # marks a part of the line above; which one depends on Python
            lines.append(re.sub(r"^-+ failpoints -+$", "<section>", line))
    texts = {name: "\n".join(map(normal, lines)).strip("\n").split("\n<section>\n") for name, lines in shown.items()}
    return {name: Failure(*parts) for name, parts in texts.items()}


def normal(line: str) -> str:
    """Return *line* without what differs from run to run."""
    line = re.sub(r"0x[0-9a-f]+", "0x0", line)
    line = re.sub(r"has waited \d+\.\d s", "has waited N s", line)
    return re.sub(r"--failpoints-seed=\d+ ", "--failpoints-seed=N ", line)


def outcomes(result: pytest.RunResult) -> dict[str, str]:
    """Return the outcomes in the output of a run with `-v`, such as `{"test_name": "PASSED"}`."""
    return dict(re.findall(r"^test_inner\.py::(\S+) ([A-Z]+)", result.stdout.str(), re.MULTILINE))


def source_of(bodies: dict[str, str]) -> str:
    """Return a file with a test for each name. A test whose name begins with `async_` runs on both backends."""
    tests = [HEAD]
    for name, body in bodies.items():
        mark, function = ("@pytest.mark.anyio\n", "async def") if name.startswith("async_") else ("", "def")
        tests.append(f"{mark}{function} test_{name}(failpoints):\n{indent(dedent(body).strip(), '    ')}\n")
    return "\n\n".join(tests)


def located(text: str, name: str, source: str) -> str:
    """Replace `<here>` in *text* by the location of the line of test *name* that ends in `# here`."""
    before, _, test = source.partition(f"def test_{name}(")
    for number, line in enumerate(test.splitlines(), before.count("\n") + 1):
        for mark in re.findall(r"# (\w+)$", line):
            text = text.replace(f"<{mark}>", f"test_inner.py:{number}")
    return text


def indented(details: str) -> str:
    return indent(dedent(details).strip(), "  ")
