"""The demo of the shop that charges twice and the shop that does not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence

import pytest

from examples.lost_reply.__main__ import main
from failpoints import configure_all
from tests.examples.demos import OURS, run_python, table


def run_demo(**environment: str) -> subprocess.CompletedProcess[str]:
    """Run the demo with no variables of the library except these."""
    return run_python("-m", "examples.lost_reply", **environment)


@pytest.fixture
def run_demo_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run the demo in this process. Return its exit status, output and errors."""
    monkeypatch.setenv("COLUMNS", "120")
    for name in OURS[1:]:
        monkeypatch.delenv(name, raising=False)

    def run_demo_here(*arguments: str, configuration: Sequence[tuple[str, str]] = ()) -> tuple[int, str, str]:
        configure_all(configuration)
        monkeypatch.setattr(sys, "argv", ["lost_reply", *arguments])
        try:
            status = main()
        except SystemExit as end:  # of --help
            status = int(end.code or 0)
        return status, *capsys.readouterr()

    return run_demo_here


def assert_lost_reply(output: str) -> None:
    """Check that the first shop charges twice, and that the second one is correct."""
    assert "gateway.charge:after=1*raise(TimeoutError)" in output
    assert table(output) == {
        "orders placed": ["3", "3"],
        "paid": ["3", "3"],
        "failed": ["0", "0"],
        "charges made": ["4", "3"],
        "charged in total": ["57.00", "44.50"],
        "owed in total": ["44.50", "44.50"],
        "verdict": ["charged twice", "correct"],
    }
    assert "Another way to break it: FAILPOINTS='gateway.charge=1*raise(ConnectionError)'" in output


def test_demo() -> None:
    """Without any configuration the demo loses a reply: the first shop charges twice, the second is correct."""
    done = run_demo()
    assert (done.returncode, done.stderr) == (0, "")
    assert_lost_reply(done.stdout)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_demo_on_a_backend(backend: str, run_demo_here: Callable[..., tuple[int, str, str]]) -> None:
    """The demo has the same result on both backends."""
    status, output, errors = run_demo_here("--backend", backend)
    assert (status, errors) == (0, "")
    assert_lost_reply(output)


def test_demo_with_the_environment() -> None:
    """If FAILPOINTS is set, the demo prints it and uses it for both shops instead of losing a reply."""
    done = run_demo(FAILPOINTS="gateway.charge=1*raise(ConnectionError)")
    assert done.returncode == 0
    assert done.stderr == "FAILPOINTS is in force: gateway.charge=1*raise(ConnectionError)\n"
    assert "Failpoints from FAILPOINTS: gateway.charge=1*raise(ConnectionError)" in done.stdout
    assert table(done.stdout)["charges made"] == ["3", "3"]
    assert table(done.stdout)["verdict"] == ["correct", "correct"]
    assert "never hit" not in done.stdout


def test_demo_resets_counts_for_the_second_shop(run_demo_here: Callable[..., tuple[int, str, str]]) -> None:
    """A count that the first shop used up starts again for the second shop."""
    configuration = [("gateway.charge", "1*return(invented)"), ("orders.commit:after", "1*off->1*raise(OSError)")]
    _, output, _ = run_demo_here(configuration=configuration)
    assert table(output)["verdict"] == ["paid, but not charged"] * 2
    assert table(output)["failed"] == ["1", "1"]


def test_demo_with_failed_orders(run_demo_here: Callable[..., tuple[int, str, str]]) -> None:
    """A failed order has a line with the reason, without a traceback."""
    configuration = [("gateway.charge", "1*raise(PaymentRefused: no [money] left)")]
    status, output, errors = run_demo_here(configuration=configuration)
    assert (status, errors) == (0, "")
    assert table(output)["failed"] == ["1", "1"]
    assert table(output)["paid"] == ["2", "2"]
    assert "first version: Ada's order failed: PaymentRefused: no [money] left" in output


def test_demo_with_an_unknown_name(run_demo_here: Callable[..., tuple[int, str, str]]) -> None:
    """A failpoint that was never hit is named."""
    status, output, _ = run_demo_here(configuration=[("gatewya.charge", "panic")])
    assert status == 0
    assert "Failpoint gatewya.charge was never hit." in output


@pytest.mark.parametrize("text", ["gateway.charge", "gateway.charge=rise(OSError)", "=off"])
def test_demo_with_an_invalid_environment(text: str) -> None:
    """An invalid FAILPOINTS stops the demo with the library's message, which names the variable."""
    done = run_demo(FAILPOINTS=text)
    assert done.returncode == 1
    assert "FAILPOINTS" in done.stderr
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_demo_with_an_unknown_exception() -> None:
    """An exception that the site does not declare stops the demo with the library's message."""
    done = run_demo(FAILPOINTS="gateway.charge=raise(NoSuchError)")
    assert done.returncode == 1
    assert "NoSuchError" in done.stderr
    assert "Traceback" not in done.stderr


def test_demo_without_a_library() -> None:
    """If one of its libraries is not installed, the demo prints how to install it."""
    libraries = ["httpx", "starlette", "uvicorn", "rich"]
    code = f"""
import runpy, sys
for library in {libraries!r}:
    for name in list(sys.modules):
        if name.partition(".")[0] in ["examples", *{libraries!r}]:
            del sys.modules[name]
    sys.modules[library] = None  # makes its import fail
    try:
        runpy.run_module("examples.lost_reply", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        print(end.code)
"""
    done = run_python("-c", code)
    assert done.stdout == "1\n" * len(libraries)
    assert done.stderr == "".join(
        f'This example needs {library}: pip install -e ".[examples]"\n' for library in libraries
    )


def test_demo_help(run_demo_here: Callable[..., tuple[int, str, str]]) -> None:
    """The help lists other ways to break the shop."""
    status, output, _ = run_demo_here("--help")
    assert status == 0
    assert "FAILPOINTS='gateway.record:after=1*raise(OSError)'" in output
