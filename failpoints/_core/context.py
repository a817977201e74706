"""Contexts of visits, matchers of configurations, and `failpoint_context`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, NamedTuple, Self, TypeAlias, cast

from ..errors import FailpointNameError, FailpointUsageError
from .messages import did_you_mean, plain_repr, safe_repr

Context: TypeAlias = Mapping[str, Any]
"""What is known about a visit, by key."""

GivenMatchers: TypeAlias = Mapping[str, str | re.Pattern[str] | Callable[[Any], object] | object]
"""The type of `context` in `configure`: a pattern, a predicate, or a value to be equal to, for each key."""


class CompiledPattern(str):
    """A pattern that something else than `re` matches. *fullmatch* returns whether it matches a whole text."""

    __slots__ = ("fullmatch",)

    fullmatch: Callable[[str], object]

    def __new__(cls, pattern: str, fullmatch: Callable[[str], object]) -> Self:
        """Make a text that is equal to the pattern, so that both make equal matchers."""
        compiled = super().__new__(cls, pattern)
        compiled.fullmatch = fullmatch
        return compiled

    def __reduce__(self) -> tuple[Any, ...]:
        return str, (str(self),)  # to copy or pickle what a status contains


class Matchers:
    """The conditions of a configuration on the context, by key. All of them must hold.

    Args:
        given: What `configure` was given as `context`.

    Raises `FailpointUsageError`, or `FailpointNameError` for an invalid pattern.
    """

    __slots__ = ("_checks", "given")

    def __init__(self, given: GivenMatchers | None) -> None:
        if given is not None and not isinstance(given, Mapping):
            raise FailpointUsageError(
                "matchers must be a mapping of context keys to patterns, values or predicates,"
                f' such as {{"tenant_id": "test_.*"}}; got {safe_repr(given)}'
            )
        self.given: GivenMatchers = dict(given or {})
        self._checks = {key: _check(key, matcher) for key, matcher in self.given.items()}

    def same_as(self, other: Matchers) -> bool:
        """Return whether both were given equal matchers, as Python compares patterns, predicates and values."""
        return self.given.keys() == other.given.keys() and all(
            _equal(matcher, other.given[key]) for key, matcher in self.given.items()
        )

    def compared(self, context: Context, mismatch: str | None) -> list[str]:
        """Describe how each matcher compares to a context, such as `shard=3 matches`.

        *mismatch* is the description that was made at the visit. Predicates are not called again, since they could
        change something.
        """
        lines: list[str] = []
        checked = True  # up to the first mismatch
        for key, matcher in self.given.items():
            if checked and mismatch is not None and mismatch.startswith((f"{key}=", f"{key!r} is missing")):
                checked = False
                lines.append(mismatch if key in context else self._compared(key, context))
            elif key in context and callable(matcher):
                lines.append(f"{key}={safe_repr(context[key])} {'matches' if checked else 'was not checked'}")
            else:
                lines.append(self._compared(key, context))
        return lines

    def _compared(self, key: str, context: Context) -> str:
        try:
            problem = None if self._holds(key, context) else str(Mismatch(key, context, self.given[key]))
        except Exception as error:  # comparing instances of the user's classes can raise anything
            problem = f"{key}={safe_repr(context[key])} cannot be compared: {safe_repr(error)}"
        if problem is None:
            return f"{key}={safe_repr(context[key])} matches"
        known = (name for name in context if isinstance(name, str))
        return problem if key in context else f"{problem}{did_you_mean(key, known)}"

    def mismatch(self, context: Context) -> Mismatch | None:
        """Return the first matcher that does not hold, else `None`.

        A value that has no text is one that no pattern matches.
        """
        for key in self._checks:
            try:
                if not self._holds(key, context):
                    return Mismatch(key, context, self.given[key])
            except NoText as error:
                return Mismatch(key, context, self.given[key], error)
        return None

    def _holds(self, key: str, context: Context) -> bool:
        return key in context and self._checks[key](context[key])


class NoText(FailpointUsageError):
    """A value whose `str()` raises, so that it cannot be compared to a pattern."""


class Mismatch:
    """A matcher that does not hold.

    If its text needs the `repr` of a class of the user, which may be slow, it is only made when it is read.
    """

    __slots__ = ("_context", "_key", "_matcher", "_shown", "error")

    def __init__(self, key: str, context: Context, matcher: Any, error: NoText | None = None) -> None:
        self._key = key
        self._context = context
        self._matcher = matcher
        self.error = error
        self._shown = plain_repr(context[key]) if key in context else None  # at once: the value may change later

    def __str__(self) -> str:
        """Describe it, as in `tenant_id='t2' does not match 'test_.*'`."""
        key, context = self._key, self._context
        if key not in context:
            gives = f"only {', '.join(map(safe_repr, context))}" if context else "no context at all"
            return f"{key!r} is missing: the site gives {gives}"
        shown = safe_repr(context[key]) if self._shown is None else self._shown
        return f"{key}={shown} {_failure(self._matcher) if self.error is None else self.error}"


def _text(value: object) -> str:
    try:
        return str(value)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit, too, must not come out of a site that is not hit
        problem = f"cannot be compared to a pattern, since its str() raises {safe_repr(error)}"
        raise NoText(problem) from error


def _equal(one: object, other: object) -> bool:
    try:
        return one is other or bool(one == other)
    except Exception:  # comparing instances of the user's classes can raise anything
        return False


def _check(key: object, matcher: Any) -> Callable[[Any], bool]:
    if not isinstance(key, str):
        raise FailpointUsageError(f"a matcher's key must be a str, like the keys of a context; got {safe_repr(key)}")
    if isinstance(matcher, (str, re.Pattern)):
        whole = (matcher if isinstance(matcher, CompiledPattern) else _compiled(key, matcher)).fullmatch
        return lambda value: whole(_text(value)) is not None
    if inspect.iscoroutinefunction(matcher):
        raise FailpointUsageError(
            f"the predicate for {key!r} must be a sync function; got the async {safe_repr(matcher)}"
        )
    if callable(matcher):
        return lambda value: bool(matcher(value))
    return lambda value: bool(value == matcher)


def _compiled(key: str, pattern: Any) -> re.Pattern[str]:
    text: Any = getattr(pattern, "pattern", pattern)
    if not isinstance(text, str):
        raise FailpointNameError(f"the pattern for {key!r} must be text, not bytes; got {safe_repr(text)}")
    try:
        return re.compile(pattern)
    except (re.error, ValueError, OverflowError, RecursionError) as error:
        raise FailpointNameError(
            f"the pattern for {key!r} is not a valid regular expression: {pattern!r}: {error}",
            code="FP003",
        ) from None


def _failure(matcher: Any) -> str:
    if isinstance(matcher, str):
        return f"does not match {matcher!r}"
    if isinstance(matcher, re.Pattern):
        return f"does not match {cast(re.Pattern[str], matcher).pattern!r}"
    if callable(matcher):
        return f"does not satisfy {getattr(matcher, '__qualname__', None) or safe_repr(matcher)}"
    return f"is not {safe_repr(matcher)}"


GetContext: TypeAlias = Callable[[], Context]
"""The type of what evaluates the context of a site."""


class _Bound(NamedTuple):
    """The pairs in force, the block that bound the last of them, its own pairs, and what was in force around it."""

    pairs: Context
    block: failpoint_context | None = None
    own: Context = {}  # noqa: RUF012 - never mutated
    outer: _Bound | None = None


# What to restore is kept here and not in the block, since several tasks may be in one block at once.
_ambient: ContextVar[_Bound] = ContextVar("failpoints.context", default=_Bound({}))  # noqa: B039 - never mutated


def no_context() -> Context:
    """Return the context of a site that declares none."""
    return {}


def context_of_visit(own: GetContext) -> Context:
    """Return the context of a visit, given what evaluates the site's own."""
    around = _ambient.get().pairs
    return {**around} if own is no_context else {**around, **own()}


class failpoint_context:
    """Adds to the context of every visit in a block, for example the id of a request, tenant or worker.

    It holds in this task, and in the tasks and worker threads that are started in the block. An inner block adds to an
    outer one. A site's own context wins over both. It takes any keyword arguments, and raises nothing.

    >>> with failpoint_context(tenant_id="t1"):
    ...     outcome = failpoint("backup.parse").hit()  # context: {"tenant_id": "t1"}
    """

    __slots__ = ("_pairs",)

    def __init__(self, /, **pairs: Any) -> None:
        self._pairs = pairs

    def __enter__(self) -> None:
        outer = _ambient.get()
        _ambient.set(_Bound({**outer.pairs, **self._pairs}, self, self._pairs, outer))

    def __exit__(self, *exception: object) -> None:
        _ambient.set(_without(_ambient.get(), self))


def _without(bound: _Bound, block: failpoint_context) -> _Bound:
    """Return what is in force once a block is left, which need not be the innermost one."""
    if bound.block is None or bound.outer is None:
        return bound
    if bound.block is block:
        return bound.outer
    outer = _without(bound.outer, block)
    return _Bound({**outer.pairs, **bound.own}, bound.block, bound.own, outer)
