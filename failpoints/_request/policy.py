"""The policy of a service, as a program makes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

from ..errors import FailpointUsageError
from .rules import Entries, Rules


class RequestFailpoints:
    """The policy of a service for failpoints that come with a request. The middlewares obey it.

    Use it in a test environment, to make one request fail while all others do not. A client sends a token that `sign`
    has made in the header `failpoints`. What is in the token is configured for this request alone, and only what the
    policy allows. Without a key, the policy is off, and the middlewares pass on everything.

    Args:
        keys: Secrets of 16 bytes or more, by id. The first one signs and all of them verify, so that keys can be
            rotated. `None` takes them from `FAILPOINTS_REQUEST_KEYS="id:secret,id:secret"`, as it was when the package
            was imported.
        allow: The failpoints that a request may configure here, as names or as patterns such as `"stock.*"`. Others
            are passed on to other services and have no effect here.
        audience: The name of the environment. A token for another one is refused.
        service: The name of the service in reports.
        max_pause: The longest time that all pauses and sleeps of one visit take together: a text such as `"5s"`,
            milliseconds, or a `timedelta`. A pause without a limit gets what is left of it.
        baggage: Whether the token may also come and go as the member `failpoints` of OpenTelemetry's baggage. What
            OpenTelemetry instruments sends baggage to every host, not only to your own services.

    Raises:
        FailpointUsageError: An argument has a wrong type or value, or *baggage* is true and opentelemetry-api is not
            installed.

    >>> from failpoints.request import RequestFailpoints
    >>> policy = RequestFailpoints({"2026-11": "a secret of 16 bytes or more"}, allow=["stock.*"], service="stock")
    >>> header = policy.sign([("stock.reserve", "raise(TimeoutError)")], seconds=60)
    """

    def __init__(
        self,
        keys: Mapping[str, str] | None = None,
        *,
        allow: Sequence[str] = (),
        audience: str = "",
        service: str = "",
        max_pause: str | float | timedelta = "5s",
        baggage: bool = False,
    ) -> None:
        self._rules = Rules(keys, allow, audience, service, max_pause, baggage)

    def __repr__(self) -> str:
        return f"<RequestFailpoints of {self._rules.service!r}, keys: {', '.join(self._rules.keys) or 'none'}>"

    def sign(self, entries: Entries, *, seconds: int = 60, once: bool = False) -> str:
        """Return a token, to be sent as the header `failpoints` of a request.

        Args:
            entries: What to configure, as for `configure_all`: `(name, actions)` or `(name, actions, context)`. The
                names may be those of several services, so *allow* and *max_pause* are not applied here.
            seconds: The lifetime of the token, up to 3,600.
            once: Whether a service obeys it only once. Each process remembers the tokens that it has obeyed. A service
                that passes it on signs it again.

        Raises:
            ActionSyntaxError: An entry has actions that cannot be parsed.
            FailpointNameError: An entry has a name or a pattern that is not valid.
            FailpointUsageError: There is no key, an argument has a wrong type or value, an action cannot be sent or
                is never obeyed, or the token would be larger than 4 KiB.
        """
        return self._rules.sign(entries, seconds, once)


def rules_of(policy: object) -> Rules:
    """Return the rules of a policy. Raises `FailpointUsageError` if it is not one."""
    if not isinstance(policy, RequestFailpoints):
        raise FailpointUsageError(f"policy must be a RequestFailpoints; got {type(policy).__name__}")
    return policy._rules  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001 - the one way in


def complete_rules_of(policy: object) -> Rules:
    """Return the rules of a policy if a service can obey it. Raises `FailpointUsageError`."""
    rules = rules_of(policy)
    rules.check_complete()
    return rules
