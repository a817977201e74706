"""`instrument`, and the undo that it returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

from .._core import environment, known_sites
from .._core.context import Context
from .._core.messages import safe_repr
from .._core.site import Cancel, Converter, Site
from ..errors import FailpointUsageError
from .import_hooks import missing_module, when_imported
from .patches import patch, revert
from .targets import Path, PathProblem, Target, parse_path


class Instrumentation:
    """Undoes one `instrument`: call it, or use it as a context manager. Doing so twice does no harm.

    The original object is put back once every `instrument` of the same path is undone. If something else was put over
    it in the meantime (a `mock.patch`, for example), that stays, and what it wraps only passes calls on. If it is
    undone before the module is imported, the import changes nothing.

    >>> import json
    >>> from failpoints.instrument import instrument
    >>> undo = instrument("json:loads", "json.loads")
    >>> with configured("json.loads", "return(42)"):
    ...     json.loads("{}")
    '42'
    >>> undo()
    """

    def __init__(self, path: Path, site: Site, source: str) -> None:
        self._path = path
        self._site = site
        self._source = source
        self._names = site.name, f"{site.name}:after"
        self._target: Target | None = None
        self._undone = not environment.ENABLED
        if self._undone:
            return
        for name in self._names:
            known_sites.register_path(name, str(path), "when its module is imported", self, site.raises)
        try:
            when_imported(self._path.module, self._begin)
        except BaseException:
            self()
            raise

    def __repr__(self) -> str:
        return f"<{self}>"

    def __str__(self) -> str:
        return self._source

    def _begin(self, module: Any) -> None:
        if self._undone:
            return
        try:
            target = patch(self._path, module, self._site, self)
        except FailpointUsageError as error:
            error.add_note(f"It was requested by {self}.")
            raise
        if self._target is not None and self._target.owner is not target.owner:
            revert(self._target, self)  # its module was imported before, and that import failed in the end
        self._target = target
        self._stop_waiting()
        if self._undone:  # by another thread, just now
            revert(target, self)

    def _stop_waiting(self) -> None:
        for name in self._names:
            known_sites.unregister(name, self)

    def __call__(self) -> None:
        """Undo it."""
        self._undone = True
        self._stop_waiting()
        if self._target is not None:
            revert(self._target, self)

    # with instrument("module:function", "name"):

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self()


def instrument(
    path: str,
    name: str,
    /,
    *,
    context: Context | Callable[..., Context] | Sequence[str] | None = None,
    raises: tuple[type[BaseException], ...] = (),
    convert: Converter | None = None,
    cancel: Cancel | None = None,
    reads: tuple[str, ...] = (),
    writes: tuple[str, ...] = (),
) -> Instrumentation:
    """Put a failpoint on a function that you cannot decorate, from a library or the standard library.

    Until it is undone, the function behaves as if it were decorated with `@failpoint(name, …)`. It can be a function, a
    method, or a class or static method, written in Python or in C. An inherited method is instrumented for the named
    class only. Methods of classes that are written in C cannot be instrumented. A sync function that returns an
    awaitable is visited where that is awaited, or entered with `async with`.

    If the module is not imported yet, its function is instrumented at the end of its import. Instrumenting the same
    path again under the same name adds nothing. The failpoint then lasts until the last undo.

    References taken earlier are out of reach (`from httpx import get`). Calls that `failpoints` itself makes never
    visit the failpoint, directly or indirectly. Such calls include log handlers, predicates and contexts, but not the
    function of a `Call` action.

    Args:
        path: `module:function` or `module:Class.method`.
        name: The name of the failpoint.
        context: As for `failpoint`.
        raises: As for `failpoint`.
        convert: As for `failpoint`.
        cancel: As for `failpoint`.
        reads: As for `failpoint`.
        writes: As for `failpoint`.

    Returns:
        The undo, which is also a context manager.

    Raises:
        FailpointUsageError: The path leads nowhere (the message suggests the nearest one) or to an object that cannot
            be instrumented. Or it is instrumented under another name or with other options. Or an option is invalid. If
            the module is imported later, its import raises this.
        FailpointNameError: *name* cannot be a failpoint's name.

    >>> import json
    >>> from failpoints.instrument import instrument
    >>> with instrument("json:dumps", "json.dumps", context=["obj"], raises=(RecursionError,)):
    ...     with configured("json.dumps", "return(nothing)", context={"obj": 3}):
    ...         json.dumps(2), json.dumps(3)
    ('2', 'nothing')
    """
    if not isinstance(path, str):
        raise FailpointUsageError(f"instrument takes a path, such as 'httpx:AsyncClient.send'; got {safe_repr(path)}")
    site = Site(name, context=context, raises=raises, convert=convert, cancel=cancel, reads=reads, writes=writes)
    site.check_around_function()
    try:
        parsed = parse_path(path)
    except PathProblem as problem:
        raise FailpointUsageError(f"{path!r} is not the path of a function: {problem}", code="FP021") from None
    missing = missing_module(parsed.module)
    if missing is not None:
        raise FailpointUsageError(f"{path!r}: {missing}", code="FP021")
    return Instrumentation(parsed, site, f"instrument({path!r}, {name!r})")
