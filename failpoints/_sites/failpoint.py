"""`failpoint`: a named place, as a decorator, awaited inline, or hit in sync code."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Sequence
from types import FrameType
from typing import Any, Final, TypedDict, TypeVar, Unpack, cast

from .._core.actions import OUTCOMES, Outcome, Return
from .._core.context import Context
from .._core.entered import note_stray
from .._core.formatting import describe_actions
from .._core.perform import CONTINUE
from .._core.site import Cancel, Converter, Site, caller_frame, check_new_place
from .._core.switches import Switch
from .._core.tracebacks import own_frames_hidden
from .._core.visit import begin_visit, concerns, recording_usage_errors, visit_sync
from ..errors import FailpointUsageError
from .decorated import decorated
from .dropped import drops_outcome
from .made import MISSING, Made

F = TypeVar("F", bound="Callable[..., Any] | classmethod[Any, Any, Any] | staticmethod[Any, Any]")


class Options(TypedDict, total=False):
    """The options of `failpoint`."""

    context: Context | Callable[..., Context] | Sequence[str] | None
    raises: tuple[type[BaseException], ...]
    convert: Converter | None
    cancel: Cancel | None
    reads: tuple[str, ...]
    writes: tuple[str, ...]


def failpoint(name: str = MISSING, /, **options: Unpack[Options]) -> Failpoint:
    """A named place in the code where a test can step in. Does nothing until configured.

    One object has three uses. It can be kept in a variable and used any number of times.

    - `@failpoint("backup", context=["tenant_id"])` decorates a function, method, class method, static method or
      generator, async or sync. A call visits `backup` before the body, and `backup:after` when the body has finished.
    - `outcome = await failpoint("backup.upload")` visits it inline in async code. Each `await` is one visit.
    - `outcome = failpoint("backup.parse").hit()` visits it inline in sync code.

    An outcome is `Continue()`, which is false, or `Return(value)` or `Cancelled()`, which are true. A call of a
    decorated function that began while its failpoint was not configured is not intercepted.

    Args:
        name: Printable text without white space, `=`, `;`, `[` or `]`. Names ending in `:after` are reserved.
        context: Describes a visit, for matchers. A mapping of keys to values, or a callable that returns one. The
            callable gets the arguments of the decorated function (`self` included), or inline none. A decorator also
            takes a list of parameter names. Evaluated only while this failpoint is configured.
        raises: The exception types that this place can really raise. A `raise(Name)` in text may name them beside the
            builtin ones, and `explore` injects them.
        convert: Converts the text of a `return` to the returned value. Without it, the function's return annotation
            decides.
        cancel: An event that ends a wait once it is set, or a callable that returns one or `None`. The visit's outcome
            is then `Cancelled()`, and a decorated function raises `FailpointCancelled`.
        reads: What is read here, as texts that name it. `{key}` stands for the `str()` of a key of the context:
            `reads=("account:{account}",)`. It is about a whole call of a decorated function, its `:after` included,
            and inline about what follows the visit, until the task is next suspended. `explore` uses it to leave out
            orders of tasks that cannot matter.
        writes: What is written here. Otherwise like *reads*.

    Raises:
        FailpointNameError: *name* cannot be a failpoint's name. Raised when a function is decorated, or at the first
            visit while anything is configured.
        FailpointUsageError: Another argument is invalid. Raised when a function is decorated, or at the first visit
            while the failpoint is configured. Also raised by a visit that cannot do here what is configured, such as a
            `return` at an inline visit whose outcome is dropped.
        FailpointTimeout: A pause was not resumed within its limit.

    >>> @failpoint("double", context=["number"])
    ... def double(number: int) -> int:
    ...     return 2 * number
    >>> with configured("double", "return(0)", context={"number": 4}):
    ...     double(3), double(4)
    (6, 0)

    The idea of named failpoints is FreeBSD's `fail(9)`, by way of the Rust crates `fail` and `neon_failpoint`.
    """
    if not options:  # most calls end here, and this is the shortest way
        try:
            return _plain[name]
        except (KeyError, TypeError):  # TypeError: the name cannot be hashed
            pass
    return _made.made(name, options)


_hashes: Final = itertools.count()


class Failpoint:
    """A named place, as `failpoint` returns it: await it, call its `hit()`, or decorate a function with it."""

    __slots__ = ("_cancel", "_context", "_convert", "_kept", "_raises", "_reads", "_switch", "_writes", "name")

    def __init__(
        self,
        name: str,
        switch: Switch,
        context: Context | Callable[..., Context] | Sequence[str] | None = None,
        raises: tuple[type[BaseException], ...] = (),
        convert: Converter | None = None,
        cancel: Cancel | None = None,
        reads: tuple[str, ...] = (),
        writes: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self._switch = switch
        self._context = context
        self._raises = raises
        self._convert = convert
        self._cancel = cancel
        self._reads = reads
        self._writes = writes
        self._kept: Site | None = None

    def __repr__(self) -> str:
        return f"failpoint({self.name!r})"

    def __bool__(self) -> bool:
        raise FailpointUsageError(
            f"{self!r} is not an outcome, and would always be true: write await {self!r}, or {self!r}.hit() in sync"
            " code"
        )

    def __hash__(self) -> int:
        # Another one each time. `asyncio.gather` looks up what it is given in a dict, and awaits what it finds only
        # once. But two failpoints of one name are one object, and two visits.
        return next(_hashes)

    def _site(self) -> Site:
        """Return what a visit declares."""
        site = self._kept
        if site is None:
            site = self._kept = self._new_site()
        return site

    def _new_site(self) -> Site:
        return Site(self.name, self._context, self._raises, self._convert, self._cancel, self._reads, self._writes)

    # outcome = await failpoint("name")

    def __await__(self) -> Generator[Any, Any, Outcome]:
        if self._switch:
            with own_frames_hidden:
                return (yield from self._visit().__await__())
        return CONTINUE

    async def _visit(self) -> Outcome:
        if not concerns(self.name, self._switch):
            return CONTINUE
        site = self._site()
        check_new_place(site, caller_frame(2))
        outcome = begin_visit(self.name, site, site.get_context)
        if not isinstance(outcome, OUTCOMES):
            outcome = await outcome
        if isinstance(outcome, Return):
            # Not the frame from before: kept here, it would keep alive a coroutine that is dropped while it waits.
            _refuse_if_dropped(outcome, self, caller_frame(2), f"await {self!r}")
        return outcome

    # outcome = failpoint("name").hit()

    def hit(self) -> Outcome:
        """Visit the failpoint in sync code and return the outcome.

        Raises `FailpointUsageError` for a `pause` or `sleep` on the thread of an event loop, which it would block.
        """
        if self._switch:
            with own_frames_hidden:
                return self._hit()
        return CONTINUE

    def _hit(self) -> Outcome:
        if not concerns(self.name, self._switch):
            note_stray(self.name, self._site().get_context)
            return CONTINUE
        frame = caller_frame(2)
        site = self._site()
        check_new_place(site, frame)
        outcome = visit_sync(self.name, site, site.get_context, frame.f_code.co_qualname)
        if isinstance(outcome, Return):
            _refuse_if_dropped(outcome, self, frame, f"{self!r}.hit()")
        return outcome

    # @failpoint("name")

    def __call__(self, function: F, /) -> F:
        """Decorate a function. Raises `FailpointUsageError` for an object that is not a function."""
        site = self._new_site()
        site.check_around_function()
        return cast(F, decorated(function, site))


_made: Final = Made(failpoint, Failpoint)
_plain: Final = _made.by_name


def _refuse_if_dropped(outcome: Return, point: Failpoint, frame: FrameType, visit: str) -> None:
    """Raise `FailpointUsageError` for a `return` at a visit whose outcome is dropped.

    A dropped `Cancelled()` is no mistake: the wait that was configured did end, and the program knows its own event.
    """
    if drops_outcome(frame, point, failpoint):
        with recording_usage_errors(point.name):
            code = frame.f_code
            raise FailpointUsageError(
                f"failpoint {point.name!r} cannot {describe_actions(outcome)} at {code.co_filename}:{frame.f_lineno},"
                f" where {code.co_qualname} drops the outcome: use it (if outcome := {visit}: return outcome.value),"
                " or configure another action",
                code="FP012",
            )
