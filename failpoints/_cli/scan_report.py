"""A scan as `failpoints scan` prints it: the sites, places to look at, and the objections of `--check`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .._core.validation import check_name
from .._scan.scan import Declared, Remark, Scan, outermost
from ..errors import FailpointNameError
from .text import printable


@dataclass(frozen=True, slots=True)
class Objection:
    """A name that `--check` refuses: the reason, and where it is used, as `file:line`."""

    name: str
    why: str
    places: tuple[str, ...]


def find_objections(scan: Scan) -> list[Objection]:
    """Return the names that are invalid, and those that unrelated places share.

    Places are related if they use one failpoint object, or are in one function, including its decorators and the
    functions inside it. A function is identified by its qualified name. Definitions in two branches, and the getter
    and setter of a property, are therefore one function. A function that replaces an earlier one is another function.
    """
    by_name: dict[str, list[Declared]] = {}
    for site in scan.declared:
        by_name.setdefault(site.name, []).append(site)
    found: list[Objection] = []
    for name, sites in sorted(by_name.items()):
        why = _invalid_name(name) or _unrelated(name, sites)
        if why:
            found.append(Objection(name, why, tuple(f"{site.file}:{site.line}" for site in sites)))
    return found


def _invalid_name(name: str) -> str | None:
    if name.endswith(":after"):
        return "names ending in ':after' are reserved for decorated functions and scopes"
    try:
        check_name(name)
    except FailpointNameError as error:
        return str(error).partition("\n")[0]
    return None


def _unrelated(name: str, sites: Sequence[Declared]) -> str | None:
    groups: list[set[object]] = []  # sets of places and objects that are related
    for site in sites:
        group: set[object] = {(site.file, site.made), (site.file, outermost(site.function), site.redefined)}
        group.update(*(other for other in groups if not group.isdisjoint(other)))
        groups = [*(other for other in groups if group.isdisjoint(other)), group]
    if len(groups) == 1:
        return None
    return f"{len(groups)} unrelated places share this name, so configuring it affects all of them"


def scan_lines(scan: Scan, objections: Iterable[Objection] = ()) -> Iterator[str]:
    """Yield the lines to print: the sites in columns, then a paragraph for each kind of place to look at."""
    cells = [(f"{printable(site.file)}:{site.line}", site.kind, printable(site.name)) for site in scan.declared]
    place_width = max((len(place) for place, _, _ in cells), default=0)
    kind_width = max((len(kind) for _, kind, _ in cells), default=0)
    for place, kind, name in cells:
        yield f"{place:<{place_width}}  {kind:<{kind_width}}  {name}"
    needs_gap = bool(cells)
    for heading, lines in _paragraphs(scan, objections):
        if needs_gap:
            yield ""
        yield heading
        yield from lines
        needs_gap = True


def _paragraphs(scan: Scan, objections: Iterable[Objection]) -> Iterator[tuple[str, list[str]]]:
    if scan.unread:
        yield "could not be read:", list(map(_line, scan.unread))
    if scan.unresolved:
        yield "could not be resolved:", list(map(_line, scan.unresolved))
    if scan.never_awaited:
        yield "never awaited, hit or entered:", list(map(_line, scan.never_awaited))
    refused: list[str] = []
    for each in objections:
        refused.append(f"  {printable(each.name)}: {printable(each.why)}")
        refused += [f"    {printable(place)}" for place in each.places]
    if refused:
        yield "refused:", refused


def _line(remark: Remark) -> str:
    return f"  {printable(remark.file)}:{remark.line}: {printable(remark.text)}"


def quickfix_lines(scan: Scan, objections: Iterable[Objection] = ()) -> Iterator[str]:
    """Yield `FILE:LINE: SEVERITY: TEXT` for each site and each place to look at, as editors read it from compilers."""
    for site in scan.declared:
        yield f"{printable(site.file)}:{site.line}: info: {printable(site.name)} ({site.kind})"
    for severity, remarks in (
        ("warning", scan.unresolved),
        ("error", scan.never_awaited),
        ("error", scan.unread),
    ):
        for remark in remarks:
            yield f"{printable(remark.file)}:{remark.line}: {severity}: {printable(remark.text)}"
    for each in objections:
        for place in each.places:
            yield f"{printable(place)}: error: {printable(each.name)}: {printable(each.why)}"


def scan_document(scan: Scan, objections: Iterable[Objection] | None = None) -> dict[str, Any]:
    """Return a scan as `--json` prints it, with the key `refused` if *objections* is given."""
    document = asdict(scan)
    document["declared"] = list(map(_site_document, scan.declared))
    if objections is not None:
        document["refused"] = [asdict(each) for each in objections]
    return document


def _site_document(site: Declared) -> dict[str, Any]:
    return {
        "name": site.name,
        "names": list(site.names),
        "kind": site.kind,
        "file": site.file,
        "line": site.line,
        "function": site.function,
    }
