"""What `failpoints scan` says of a `Scan`: a listing, what a person should look at, and what a check refuses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .._core.validation import check_name
from .._scan.scan import Declared, Remark, Scan, outermost
from ..errors import FailpointNameError
from .terminal import printable


@dataclass(frozen=True, slots=True)
class Objection:
    """A name that a check refuses: why, and where it is declared, as `file:line`."""

    name: str
    why: str
    places: tuple[str, ...]


def objections(scan: Scan) -> list[Objection]:
    """The names that cannot be a failpoint's, and those that unrelated places declare.

    Related are the uses of one object that is kept in a variable, and the places in one function, which has its own
    decorators and all functions within it. It is known by its qualified name: definitions under conditions, and the
    getter and setter of a property, are one function, but not one that takes the place of another.
    """
    by_name: dict[str, list[Declared]] = {}
    for site in scan.declared:
        by_name.setdefault(site.name, []).append(site)
    found: list[Objection] = []
    for name, sites in sorted(by_name.items()):
        why = _wrong_name(name) or _unrelated(name, sites)
        if why:
            found.append(Objection(name, why, tuple(f"{site.file}:{site.line}" for site in sites)))
    return found


def _wrong_name(name: str) -> str | None:
    if name.endswith(":after"):
        return "no name may end in ':after', which decorated functions and scopes have of themselves"
    try:
        check_name(name)
    except FailpointNameError as error:
        return str(error).partition("\n")[0]
    return None


def _unrelated(name: str, sites: Sequence[Declared]) -> str | None:
    groups: list[set[object]] = []  # of places and objects that belong together
    for site in sites:
        group: set[object] = {(site.file, site.made), (site.file, outermost(site.function), site.redefined)}
        group.update(*(other for other in groups if not group.isdisjoint(other)))
        groups = [*(other for other in groups if group.isdisjoint(other)), group]
    if len(groups) == 1:
        return None
    return f"{len(groups)} unrelated places declare it, and whoever configures it means one"


def scan_lines(scan: Scan, objected: Iterable[Objection] = ()) -> Iterator[str]:
    """What a person reads: the places and their names in columns, then what to look at."""
    cells = [(f"{printable(site.file)}:{site.line}", site.kind, printable(site.name)) for site in scan.declared]
    place = max((len(cell[0]) for cell in cells), default=0)
    kind = max((len(cell[1]) for cell in cells), default=0)
    for cell in cells:
        yield f"{cell[0]:<{place}}  {cell[1]:<{kind}}  {cell[2]}"
    # Each part after an empty line, but not at the top.
    between = bool(cells)
    for heading, lines in _parts(scan, objected):
        if between:
            yield ""
        yield heading
        yield from lines
        between = True


def _parts(scan: Scan, objected: Iterable[Objection]) -> Iterator[tuple[str, list[str]]]:
    if scan.unread:
        yield "could not be read:", list(map(_line, scan.unread))
    if scan.unresolved:
        yield "could not be resolved:", list(map(_line, scan.unresolved))
    if scan.never_awaited:
        yield "never awaited, hit or entered:", list(map(_line, scan.never_awaited))
    refused = [
        line
        for each in objected
        for line in (f"  {printable(each.name)}: {printable(each.why)}", *(f"    {printable(p)}" for p in each.places))
    ]
    if refused:
        yield "refused:", refused


def _line(remark: Remark) -> str:
    return f"  {printable(remark.file)}:{remark.line}: {printable(remark.text)}"


def scan_document(scan: Scan, objected: Iterable[Objection] | None = None) -> dict[str, Any]:
    """What a script reads, as JSON has it; `refused` where a check was asked for."""
    document = asdict(scan)
    for site in document["declared"]:
        del site["made"], site["redefined"]  # which say nothing by themselves
    if objected is not None:
        document["refused"] = [asdict(each) for each in objected]
    return document
