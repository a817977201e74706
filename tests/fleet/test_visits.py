"""The visits that the members of a fleet count for a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import failpoints
from failpoints import failpoint
from failpoints._fleet.files import Held
from failpoints._fleet.visits import VisitLog, count_visits, read_visits


@pytest.fixture
def log(tmp_path: Path) -> Iterator[VisitLog]:
    """Count the visits of this process."""
    count_visits(tmp_path)
    log = VisitLog(tmp_path, "host:1:ab")
    failpoints.configure("fleet.visited", "2*off", context={"tenant": "t.*"})
    yield log
    failpoints.reset()
    log.close()


def visit(tenant: str) -> None:
    failpoint("fleet.visited", context={"tenant": tenant}).hit()


def test_visits_are_counted_by_what_they_did(log: VisitLog, tmp_path: Path) -> None:
    """A line is written again at each visit that is like an earlier one, and nothing is counted after the end."""
    for tenant in ("t1", "u1", "t2", "t3", "u2"):
        visit(tenant)
    log.close()
    visit("t4")
    visits = read_visits(tmp_path)
    assert visits.members == {"host:1"}
    assert visits.counts == Counter(
        {("fleet.visited", True, "off"): 2, ("fleet.visited", True, None): 1, ("fleet.visited", False, None): 2}
    )
    assert [(site.file, site.function) for site in visits.sites["fleet.visited"]] == [(__file__, "visit")]


def test_a_full_disk(log: VisitLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The visit goes on, and what cannot be written is not counted. The counts before and after are right."""
    visit("t1")
    with monkeypatch.context() as full:

        def write(self: Held, content: bytes, position: int) -> bool:
            raise OSError(28, "No space left on device")

        full.setattr(Held, "write", write)
        visit("u1")
    for tenant in ("u2", "t2", "u3"):
        visit(tenant)
    log.note_modules()
    visits = read_visits(tmp_path)
    assert visits.counts == Counter({("fleet.visited", True, "off"): 2, ("fleet.visited", False, None): 2})
    assert __file__ in visits.files


def test_a_line_that_is_not_finished(log: VisitLog, tmp_path: Path) -> None:
    """What a process wrote when it was killed is left out."""
    visit("t1")
    with (tmp_path / "visits" / "host:1:ab").open("ab") as file:
        file.write(b'00000000000000000007 {"visit": ["fleet.visited", fal')
    assert read_visits(tmp_path).counts == Counter({("fleet.visited", True, "off"): 1})
