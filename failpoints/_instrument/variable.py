"""Instrumenting the functions that the environment variable `FAILPOINTS_INSTRUMENT` names."""

from __future__ import annotations

from collections.abc import Iterator

from .._core import environment
from .._core.log import logger
from .._core.site import Site
from ..errors import FailpointUsageError, pointed_at
from .import_hooks import missing_module
from .instrumentation import Instrumentation
from .targets import Path, PathProblem, parse_path

_VARIABLE = "FAILPOINTS_INSTRUMENT"


def instrument_from_environment() -> None:
    """Instrument what `FAILPOINTS_INSTRUMENT` names.

    Raises `FailpointUsageError` for a path that cannot be instrumented. The message points to it.
    """
    text = environment.INSTRUMENT
    entries = parse_instrumented(text)
    if entries and not environment.ENABLED:
        logger.warning("%s is ignored, because FAILPOINTS_ENABLED=0: %s", _VARIABLE, text)
        return
    done: list[Instrumentation] = []
    try:
        for at, path in entries:
            missing = missing_module(path.module)
            if missing is not None:  # the program has only begun, and may still extend sys.path
                logger.warning("%s: so far %s", _VARIABLE, missing)
            try:
                done.append(Instrumentation(path, Site(path.dotted), _VARIABLE))
            except FailpointUsageError as error:
                raise _misread(text, at, str(error)) from None
    except BaseException:
        for each in done:
            each()
        raise


def parse_instrumented(text: str) -> list[tuple[int, Path]]:
    """Return each path in a value of the variable, and the index where it begins.

    Spaces and empty entries are ignored. Raises `FailpointUsageError`, whose message points to the mistake.
    """
    return list(_entries(text))


def _entries(text: str) -> Iterator[tuple[int, Path]]:
    end = -1
    for part in text.split(";"):
        begin, end = end + 1, end + 1 + len(part)
        at = begin + len(part) - len(part.lstrip())
        path = part.strip()
        if not path:
            continue
        if "=" in path:
            name = path.partition("=")[0].strip().replace(":", ".")
            problem = f"expected a path alone, found '='; set the actions of {name!r} in FAILPOINTS"
            raise _misread(text, at + path.index("="), problem)
        try:
            parsed = parse_path(path)
        except PathProblem as problem:
            raise _misread(text, at + problem.position, str(problem)) from None
        if parsed.module == "__main__":
            raise _misread(text, at, "__main__ is never imported: decorate its functions with @failpoint")
        yield at, parsed


def _misread(text: str, at: int, problem: str) -> FailpointUsageError:
    return FailpointUsageError(f"{_VARIABLE}: {problem}\n{pointed_at(text, at)}")
