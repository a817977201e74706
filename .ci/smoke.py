"""Test the installed wheel, in an environment that has nothing else: `python smoke.py WHEEL`."""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import sys
import sysconfig
import zipfile
from pathlib import Path

import failpoints
from failpoints import FailpointUsageError, Return, configured, failpoint
from failpoints.explore import Run, explore


@failpoint("smoke", context=["number"])
async def double(number: int) -> int:
    """Return twice the number."""
    return 2 * number


async def visit_failpoints() -> None:
    """Configure two failpoints and visit them."""
    assert await double(2) == 4
    with configured("smoke", "return(42)", context={"number": "2"}) as smoke:
        assert [await double(2), await double(3)] == [42, 6]
    assert (smoke.hits, smoke.misses) == (1, 1)
    with configured("smoke.inline", "return(text)"):
        assert await failpoint("smoke.inline") == Return("text")


async def scenario(run: Run) -> None:
    """Visit a failpoint that exploration makes fail."""
    async with run.injecting():
        await double(2)


def main(wheel: Path) -> None:
    """Check what the wheel contains, what it installs, and that it works."""
    installed = Path(failpoints.__file__).parent
    assert installed.parent == Path(sysconfig.get_path("purelib")), installed
    assert (installed / "py.typed").is_file()

    contents = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    information = f"failpoints-{importlib.metadata.version('failpoints')}.dist-info"
    assert contents == {"failpoints", "_failpoints_pytest", information}, contents
    points = {(point.group, point.value) for point in importlib.metadata.distribution("failpoints").entry_points}
    assert points == {("console_scripts", "failpoints.cli:main"), ("pytest11", "_failpoints_pytest")}, points

    asyncio.run(visit_failpoints())
    assert explore(scenario).runs == 3

    for module, message in {"admin": "failpoints[http]", "_cli.app": "No module named 'typer'"}.items():
        try:
            importlib.import_module(f"failpoints.{module}")
        except (FailpointUsageError, ModuleNotFoundError) as error:
            refusal = str(error)
        else:
            refusal = "nothing"
        assert message in refusal, (module, refusal)


main(Path(sys.argv[1]))
