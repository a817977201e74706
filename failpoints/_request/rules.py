"""The rules of a policy: whose tokens a service obeys, what they may do, and how they are signed."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple, cast

from .._core import environment
from .._core.actions import (
    Action,
    Actions,
    Break,
    Call,
    Delay,
    Exit,
    Panic,
    Pause,
    Raise,
    RaiseForRequest,
    Sleep,
    Term,
    Then,
    builtin_exception,
    in_seconds,
    steps,
)
from .._core.clock import now
from .._core.configuration import Configuration
from .._core.context import GivenMatchers
from .._core.formatting import describe_actions
from .._core.grammar import parse_actions
from .._core.messages import safe_repr
from .._core.reachability import reachable_terms
from .._core.store import Store
from .._core.validation import check_count, check_name, entry_parts
from .._http.budget import Budget
from .._http.patterns import Compiler
from .._http.wire import Entry, entry_document, parse_entries, to_json
from ..errors import FailpointError, FailpointUsageError
from .once import UsedTokens
from .optional import optional
from .report import LEFT_OUT
from .tokens import MAX_TOKEN, Claims, Refused, check_keys, parse_keys, sign, verify

HEADER: Final = "failpoints"
"""The name of the header that has the token."""

MAX_SECONDS: Final = 3_600
"""The longest lifetime of a token."""
_CLOCK_SKEW: Final = 60  # seconds by which the clocks of two machines may differ

_NEVER: Final = (Exit, Panic, Break, Delay, Call)
_CODE_NAMES: Final = {"FailpointPanic", "CancelledError", "Cancelled"}  # declared at a site, and no Exception either

Entries = Iterable[tuple[str, Actions] | tuple[str, Actions, GivenMatchers | None]]


class Accepted(NamedTuple):
    """What a token that is obeyed asks for."""

    claims: Claims
    entries: bytes
    configurations: Sequence[Configuration]


class Rules:
    """What `RequestFailpoints` was given, and what follows from it. The arguments are described there."""

    def __init__(
        self,
        keys: Mapping[str, str] | None,
        allow: Sequence[str],
        audience: str,
        service: str,
        max_pause: str | float | timedelta,
        baggage: bool,
    ) -> None:
        given = parse_keys(environment.REQUEST_KEYS, "FAILPOINTS_REQUEST_KEYS") if keys is None else check_keys(keys)
        self.keys = given if environment.ENABLED else {}
        self.service = _check_service(service)
        self.used = UsedTokens()
        self.baggage = _check_baggage(baggage)
        self._allow = _check_allow(allow)
        self._audience = _check_text("audience", audience)
        self._max_pause = _duration(max_pause)

    def check_complete(self) -> None:
        """Raise `FailpointUsageError` unless the policy can be obeyed by a service."""
        if not self.service:
            raise FailpointUsageError("a service needs a policy with service=, the name of the service in reports")
        if not self._allow:
            raise FailpointUsageError(
                'a service needs a policy with allow=, the failpoints that a request may use, such as ["stock.*"]'
            )

    def sign(self, entries: Entries, seconds: int, once: bool) -> str:
        """Return a token. `RequestFailpoints.sign` describes it."""
        if not self.keys:
            raise FailpointUsageError("there is no key to sign with: give keys=, or set FAILPOINTS_REQUEST_KEYS")
        check_count("seconds", seconds, most=MAX_SECONDS)
        if not isinstance(once, bool):
            raise FailpointUsageError(f"once must be True or False; got {safe_repr(once)}")
        documents = [_document(*parts) for parts in entry_parts(entries)]
        if not documents:
            raise FailpointUsageError("there is nothing to sign: give it (name, actions) entries")
        claims = Claims(self._audience, int(now().timestamp()) + seconds, secrets.token_hex(16) if once else "")
        return self._signed(claims, to_json(documents))

    def sign_again(self, claims: Claims, entries: bytes) -> str:
        """Return a token for the next service, with the same content and an identity of its own."""
        return self._signed(claims._replace(once=claims.once and secrets.token_hex(16)), entries)

    def _signed(self, claims: Claims, entries: bytes) -> str:
        token = sign(next(iter(self.keys.items())), claims, entries)
        if len(token) > MAX_TOKEN:
            raise FailpointUsageError(f"the token would have {len(token)} bytes, and the limit is {MAX_TOKEN}")
        return token

    def accept(self, token: str, store: Store) -> Accepted:
        """Return what a token asks for, prepared for *store*. Raises `Refused`, and changes nothing then."""
        claims, entries = verify(token, self.keys)
        moment = now().timestamp()
        if claims.audience != self._audience:
            raise Refused(
                f"the failpoints header is for the audience {safe_repr(claims.audience)}, which is not this one"
            )
        if claims.expires <= moment:
            raise Refused("the failpoints header has expired")
        if claims.expires > moment + MAX_SECONDS + _CLOCK_SKEW:
            raise Refused(f"the failpoints header is valid for more than {MAX_SECONDS} seconds")
        budget = Budget("the failpoints header has entries that are too much work")
        compiler = Compiler(budget, allow_any=False)

        def prepare(entry: Entry) -> Configuration | None:
            terms = reachable_terms(entry.name, entry.actions)
            _check_actions(terms)
            if not any(fnmatchcase(check_name(entry.name), pattern) for pattern in self._allow):
                return None
            return store.prepare(entry.name, self._for_request(terms), compiler.matchers(entry.matchers))

        try:
            prepared = parse_entries(entries, budget, prepare)
        except FailpointError as error:
            raise Refused(f"the failpoints header: {error}") from None
        if claims.once:
            self.used.use(claims.once, claims.expires, moment)
        return Accepted(claims, entries, [each for each in prepared if each is not None])

    def _for_request(self, terms: Sequence[Term]) -> list[Term]:
        """Return the terms as a request may have them: with a limit for each pause, and raising only an `Exception`.

        Raises `FailpointUsageError` if all waits of one visit together may be too long.
        """
        return [replace(term, action=_for_request(term.action, self._left(term))) for term in terms]

    def _left(self, term: Term) -> float:
        """Return the milliseconds that are left for each pause without a limit."""
        waits = [step for step in steps(term.action) if isinstance(step, (Pause, Sleep))]
        durations = [step.limit if isinstance(step, Pause) else step.duration for step in waits]
        left = self._max_pause - sum(in_seconds(duration) for duration in durations if duration is not None)
        left = round(left, 6)  # since 0.1 + 0.2 is more than 0.3
        unlimited = durations.count(None)
        if left < 0 or (unlimited and not left and len(waits) > unlimited):
            raise FailpointUsageError(
                f"{describe_actions(term)} waits longer than this service allows, which is {self._max_pause:g} s for"
                " all waits of a visit together"
            )
        return round(left * 1000 / max(unlimited, 1), 3)


def _for_request(action: Action, left: float) -> Action:
    done: list[Action] = []
    for step in steps(action):
        if step == Pause():
            done.append(Pause(left))
        else:
            done.append(RaiseForRequest(step.error, step.message) if isinstance(step, Raise) else step)
    return done[0] if len(done) == 1 else Then(tuple(done))


def _document(name: str, actions: Actions, context: GivenMatchers | None = None) -> dict[str, Any]:
    document = entry_document(name, reachable_terms(name, actions), context)
    _check_actions(parse_actions(document["actions"]))
    return document


def _check_actions(terms: Iterable[Term]) -> None:
    for step in (step for term in terms for step in steps(term.action)):
        if isinstance(step, _NEVER):
            raise FailpointUsageError(
                f"{describe_actions(Term(step))} is not allowed in a request: it would affect others, too"
            )
        if isinstance(step, Raise) and isinstance(step.error, str):
            word = step.error.rpartition(".")[2]
            kind = builtin_exception(word)
            if word in _CODE_NAMES or (kind is not None and not issubclass(kind, Exception)):
                raise FailpointUsageError(
                    f"{describe_actions(Term(step))} is not allowed in a request: {word} is not an Exception,"
                    " so it could end the whole service"
                )


# arguments


def _check_allow(given: object) -> tuple[str, ...]:
    if isinstance(given, (str, bytes)) or not isinstance(given, Sequence):
        hint = f"; did you mean [{given!r}]?" if isinstance(given, str) else ""
        raise FailpointUsageError(
            f"allow= must be a list of names and patterns; got {safe_repr(cast(Any, given))}{hint}"
        )
    patterns = tuple(cast(Sequence[object], given))
    for pattern in patterns:
        if not isinstance(pattern, str) or not pattern:
            raise FailpointUsageError(f'allow= has names and patterns such as "stock.*"; got {safe_repr(pattern)}')
    return cast("tuple[str, ...]", patterns)


def _check_text(what: str, given: object) -> str:
    if not isinstance(given, str) or not (given.isprintable() and len(given) <= 100):
        raise FailpointUsageError(f"{what}= must be a printable str of at most 100 characters; got {safe_repr(given)}")
    return given


def _check_service(given: object) -> str:
    if given == LEFT_OUT:
        raise FailpointUsageError(f"service= cannot be {LEFT_OUT!r}, which has another meaning in reports")
    return _check_text("service", given)


def _check_baggage(given: object) -> bool:
    if not isinstance(given, bool):
        raise FailpointUsageError(f"baggage= must be True or False; got {safe_repr(given)}")
    if given:
        optional("opentelemetry.baggage", "baggage=True", "opentelemetry-api")
    return given


def _duration(given: object) -> float:
    """Return a duration in seconds."""
    if not isinstance(given, str):
        try:
            return in_seconds(Sleep(cast(Any, given)).duration)
        except FailpointUsageError:
            pass
    elif re.fullmatch(r"[\w. ]+", given):
        try:
            (term,) = parse_actions(f"sleep({given})")
            return in_seconds(cast(Sleep, term.action).duration)
        except FailpointError:
            pass
    raise FailpointUsageError(
        f"max_pause= must be a duration such as '5s', 5000 or a timedelta; got {safe_repr(given)}"
    )
