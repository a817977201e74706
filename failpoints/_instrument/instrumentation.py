"""Failpoints in code that is not yours: `from failpoints.instrument import instrument`.

`FAILPOINTS_INSTRUMENT="httpx:AsyncClient.send;sqlite3:connect"` does it with no code at all: each path is a failpoint
by its own name, with a dot for the colon (`httpx.AsyncClient.send`), from the import of its module on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

from .._core import environment, known_sites
from .._core.context import Context
from .._core.messages import safe_repr
from .._core.site import Cancel, Converter, Site
from ..errors import FailpointUsageError
from .import_hooks import missing_module, when_imported
from .stand_ins import hold, let_go
from .targets import Path, PathProblem, Target, read_path


class Instrumentation:
    """To undo what `instrument` did: call it, or use it as a context manager. Doing so again changes nothing.

    The very object that stood there stands there again, once everybody has undone it who instrumented it. What
    somebody else has put over it meanwhile (a `mock.patch`, say) stays, and so does what is beneath: it only passes
    calls on. Undone before the import of the module, that import changes nothing.

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
            known_sites.declare_path(name, str(path), "when its module is imported", self)
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
            target = hold(self._path, module, self._site, self)
        except FailpointUsageError as error:
            error.add_note(f"This is asked for by {self}.")
            raise
        if self._target is not None and self._target.owner is not target.owner:
            let_go(self._target, self)  # of a module whose import failed in the end
        self._target = target
        self._wait_no_more()
        if self._undone:  # on another thread, just now
            let_go(target, self)

    def _wait_no_more(self) -> None:
        for name in self._names:
            known_sites.withdraw(name, self)

    def __call__(self) -> None:
        """Undo it."""
        self._undone = True
        self._wait_no_more()
        if self._target is not None:
            let_go(self._target, self)

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
) -> Instrumentation:
    """To put a failpoint on a function that you cannot decorate: one of a library, or of the standard library.

    `path` is `module:function` or `module:Class.method`. From then on that function is as if decorated with
    `@failpoint(name, …)`, which takes the same options: functions, methods, class and static methods of any kind,
    inherited ones (for this class only), and functions written in C, but no methods of a class that is written in C.
    If the module is not imported yet, it is done at the end of its import. Returns the undo, a context manager, too.

    The same path, instrumented again under the same name, is one failpoint still; it ends with the last undo. Out of
    reach is who has taken the function from the module before (`from httpx import get`). Calls that `failpoints` itself
    makes never visit it, directly or by way of others: log handlers, predicates and contexts are its calls too, but
    not what an action `Call` runs.

    Raises `FailpointUsageError` for a path that leads nowhere (it names the nearest one) or to no function, for one
    that is instrumented under another name or with other options, and for what `failpoint` refuses, and
    `FailpointNameError` for a name that cannot be one; then nothing has changed. If the module is imported later, its
    import raises it.

    >>> import json
    >>> from failpoints.instrument import instrument
    >>> with instrument("json:dumps", "json.dumps", context=["obj"], raises=(RecursionError,)):
    ...     with configured("json.dumps", "return(nothing)", context={"obj": 3}):
    ...         json.dumps(2), json.dumps(3)
    ('2', 'nothing')
    """
    if not isinstance(path, str):
        raise FailpointUsageError(f"instrument takes a path, such as 'httpx:AsyncClient.send'; got {safe_repr(path)}")
    site = Site(name, context=context, raises=raises, convert=convert, cancel=cancel)
    site.check_around_function()
    try:
        read = read_path(path)
    except PathProblem as problem:
        raise FailpointUsageError(f"{path!r} is no path of a function: {problem}") from None
    missing = missing_module(read.module)
    if missing is not None:
        raise FailpointUsageError(f"{path!r}: {missing}")
    return Instrumentation(read, site, f"instrument({path!r}, {name!r})")
