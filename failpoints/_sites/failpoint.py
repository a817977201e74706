"""`failpoint`: a named place, as a decorator, awaited inline, or hit in sync code."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar, cast

from .._core.actions import Outcome
from .._core.arming import ARMED
from .._core.context import Context
from .._core.functions import callable_name
from .._core.perform import CONTINUE
from .._core.site import Cancel, Converter, Site, caller_frame, check_new_place
from .._core.validation import check_name
from .._core.visit import visit, visit_sync
from ..errors import FailpointUsageError
from .decorated import decorated

F = TypeVar("F", bound="Callable[..., Any] | classmethod[Any, Any, Any] | staticmethod[Any, Any]")

MISSING: Any = object()


class failpoint:
    """To name a place where a test can step in: do nothing there until it is configured.

    One object, three uses; kept in a variable it serves again and again:

    - `@failpoint("backup", context=["tenant_id"])` on a function or method of any kind, a class method, a static
      method or a generator: visits `backup` before the body and `backup:after` once it has completed;
    - `outcome = await failpoint("backup.upload")` inline in async code: each `await` is a visit;
    - `outcome = failpoint("backup.parse").hit()` inline in sync code.

    An outcome is `Continue()` (false), `Return(value)` or `Cancelled()` (both true).

    `context` is a mapping of keys to values; or a callable given the call's own arguments (`self` included; none
    inline) that returns one; or, on a decorator, the names of parameters to take from the call. It is evaluated
    only when this failpoint is configured. `raises` are the exception types that this place can really raise, which
    `raise(Name)` in text may name beside the builtin ones. `convert` makes a returned value out of a text;
    without it the function's return annotation says how. `cancel` is an event, or a callable that returns one
    or `None`: once set it ends a wait, inline with `Cancelled()`, in a decorated function with
    `FailpointCancelled`.

    Raises `FailpointUsageError` or `FailpointNameError` for what cannot be a site: at decoration, or at the first
    visit while anything is configured. A visit raises what it was configured to raise, `FailpointTimeout` for a
    pause that outlasted its limit, and `FailpointUsageError` for what this place cannot do. A call that began
    while nothing was configured is not intercepted.

    >>> @failpoint("double", context=["number"])
    ... def double(number: int) -> int:
    ...     return 2 * number
    >>> with configured("double", "return(0)", context={"number": 4}):
    ...     double(3), double(4)
    (6, 0)

    The idea of named failpoints is FreeBSD's `fail(9)`, by way of the Rust crates `fail` and `neon_failpoint`.
    """

    __slots__ = ("_cancel", "_context", "_convert", "_raises", "name")

    def __init__(
        self,
        name: str = MISSING,
        /,
        *,
        context: Context | Callable[..., Context] | Sequence[str] | None = None,
        raises: tuple[type[BaseException], ...] = (),
        convert: Converter | None = None,
        cancel: Cancel | None = None,
    ) -> None:
        if name.__class__ is not str:
            refuse_name("failpoint", name)
        # A Site is made of these only when it is needed: most failpoints are made for one visit while all are off.
        self.name = name
        self._context = context
        self._raises = raises
        self._convert = convert
        self._cancel = cancel

    def __repr__(self) -> str:
        return f"failpoint({self.name!r})"

    def __bool__(self) -> bool:
        raise FailpointUsageError(
            f"{self!r} is not an outcome, and would always be true: write await {self!r}, or {self!r}.hit() in sync"
            " code"
        )

    def _site(self) -> Site:
        return Site(self.name, self._context, self._raises, self._convert, self._cancel)

    # outcome = await failpoint("name")

    def __await__(self) -> Generator[Any, Any, Outcome]:
        if ARMED:
            site = self._site()
            check_new_place(site, caller_frame())
            return (yield from visit(self.name, site, site.own_context).__await__())
        return CONTINUE

    # outcome = failpoint("name").hit()

    def hit(self) -> Outcome:
        """Visit the failpoint in sync code and return the outcome.

        In a thread that runs an event loop a `pause` or `sleep` is a `FailpointUsageError`.
        """
        if ARMED:
            site, frame = self._site(), caller_frame()
            check_new_place(site, frame)
            return visit_sync(self.name, site, site.own_context, frame.f_code.co_qualname)
        return CONTINUE

    # @failpoint("name")

    def __call__(self, function: F, /) -> F:
        """Decorate a function; raises `FailpointUsageError` for what is none."""
        site = self._site()
        site.check_around_function()
        return cast(F, decorated(function, site))


def refuse_name(kind: str, name: Any) -> None:
    """Say what was forgotten where a name was to be; a `str` of another class passes."""
    functions = (classmethod, staticmethod, property)
    if name is MISSING or isinstance(name, functions) or (callable(name) and not isinstance(name, str)):
        above = "" if name is MISSING else f", above {callable_name(cast(Any, name))}"
        raise FailpointUsageError(f'{kind} needs a name first: write {kind}("some.name"){above}')
    check_name(name)
