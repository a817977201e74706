"""Every failpoint that the imported modules declare, from their source and from the sites seen so far."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType

from .._scan.scan import Remark, Scan, scan_source
from .known_sites import Location, known_names, known_sites, made
from .messages import nearest
from .status import FailpointStatus
from .validation import is_name

_PACKAGE = os.path.dirname(os.path.dirname(__file__)) + os.sep
_INSTALLED = [f"{os.sep}{name}{os.sep}" for name in ("site-packages", "dist-packages")]
_MAX_LOCATIONS = 3  # in a sentence


def declared_sites(
    files: Iterable[str] = (), seen: Mapping[str, Iterable[Location]] | None = None
) -> dict[str, tuple[Location, ...]]:
    """Return the sites of each name, sorted by name.

    For a file whose source contains sites of a name, these are returned. For other files, the sites seen at run time.

    Args:
        files: The files of modules that other processes have imported.
        seen: The sites that other processes have seen.
    """
    sites: dict[str, list[Location]] = {}
    for file in dict.fromkeys([*user_files(), *files]):
        for site in _scan(file).declared:
            for name in site.names:
                sites.setdefault(name, []).append(Location(site.file, site.line, site.function))
    for name in {**dict.fromkeys(known_names()), **(seen or {})}:
        scanned = {site.file for site in sites.get(name, ())}
        at_run_time = [*known_sites(name), *(seen or {}).get(name, ())]
        sites.setdefault(name, []).extend(site for site in at_run_time if site.file not in scanned)
    return {name: tuple(dict.fromkeys(found)) for name, found in sorted(sites.items())}


def may_have_other_sites(name: str, known: Sequence[Location]) -> bool:
    """Return whether the imported modules declare more sites of a name than these functions."""
    declared = {site for scan in _scans() for site in scan.declared if name in site.names}
    places = {(site.file, site.line) for site in declared}
    elsewhere = [site for site in known if (site.file, site.line) not in places]
    seen = {(site.file, site.line) for site in known}
    unseen = [site for site in declared if (site.file, site.line) not in seen]
    # A function that is instrumented, or decorated by a call, is declared elsewhere than it is.
    return len(unseen) > len(elsewhere) or any(site.kind in ("inline", "scope") for site in unseen)


def with_declared(statuses: Iterable[FailpointStatus]) -> list[FailpointStatus]:
    """Return a status for each name that is declared or in *statuses*, with all its sites, sorted by name."""
    by_name = {status.name: status for status in statuses}
    for name, sites in _declared_or_made().items():
        if not is_name(name):  # the site refuses it, and so would a reader of this list
            continue
        status = by_name.get(name) or FailpointStatus(name)
        by_name[name] = replace(status, sites=tuple(map(str, sites)))
    return [by_name[name] for name in sorted(by_name)]


def where_declared(name: str) -> str:
    """Return, as one line, where a name is declared, or else where the most similar name is."""
    declared = _declared_or_made()
    if name in declared:
        return _locations(declared[name])
    nowhere = "not in any imported module"
    near = nearest(name, declared)
    if near is not None:
        return f"{nowhere}; did you mean {near!r}, declared at {_locations(declared[near])}?"
    built_at_run_time = [remark for scan in _scans() for remark in scan.unresolved]
    if built_at_run_time:
        return f"{nowhere}; it may be a name that is built at run time, as at {_locations(built_at_run_time)}"
    return nowhere


def _declared_or_made() -> dict[str, tuple[Location, ...]]:
    """Return the declared sites, and those that were made under a name that is built at run time."""
    return {name: (place,) for name, place in made().items()} | declared_sites()


def describe_location(site: Location | Remark) -> str:
    """Return `file:line (function)`, with the file relative to the current folder."""
    line = f":{site.line}" if site.line else ""
    return f"{relative_to_cwd(site.file)}{line} ({site.function})"


def _locations(sites: tuple[Location, ...] | list[Remark]) -> str:
    more = len(sites) - _MAX_LOCATIONS
    return ", ".join(map(describe_location, sites[:_MAX_LOCATIONS])) + (f" and {more} more" if more > 0 else "")


def relative_to_cwd(file: str) -> str:
    """Return the path relative to the current folder if it is below it, otherwise as it is."""
    try:
        return str(Path(file).relative_to(Path.cwd()))
    except (ValueError, OSError):  # not below the current folder, or that folder is deleted
        return file


def _scans() -> Iterator[Scan]:
    return map(_scan, user_files())


def user_files() -> Iterator[str]:
    """Yield the source files of the imported modules, without those of Python and of this package."""
    for module in list(sys.modules.values()):
        # sys.modules can contain anything, and getattr on a lazy module would import it.
        file = object.__getattribute__(module, "__dict__").get("__file__") if isinstance(module, ModuleType) else None  # pyright: ignore[reportUnnecessaryIsInstance]
        if isinstance(file, str) and file.endswith(".py") and is_user_file(file):
            yield file


@cache
def _scan(file: str) -> Scan:
    try:
        return scan_source(Path(file).read_bytes(), file)
    except (OSError, ValueError):  # ValueError: not a valid path
        return Scan()


def is_user_file(file: str) -> bool:
    """Return whether a file is part of neither Python nor this package."""
    # Packages can be installed inside the standard library's folder.
    in_python = file.startswith(_paths()["stdlib"] + os.sep) and not is_installed(file)
    return not in_python and not file.startswith(_PACKAGE)


def is_installed(file: str) -> bool:
    """Return whether a file is part of an installed package, in the folder of this interpreter or of another one."""
    paths = _paths()
    return file.startswith((paths["purelib"] + os.sep, paths["platlib"] + os.sep)) or any(
        folder in file for folder in _INSTALLED
    )


@cache
def _paths() -> dict[str, str]:
    import sysconfig  # imported here because only messages and reports need it

    return sysconfig.get_paths()
