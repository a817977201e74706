"""A test's view of the failpoints that its requests bring to other services."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

from .._core.messages import safe_repr
from ..errors import FailpointUsageError
from .clients import Hosts, Source, httpx_hooks, requests_adapter
from .policy import RequestFailpoints, rules_of
from .report import HEADER as REPORT
from .report import Counts, Report
from .rules import HEADER, Entries, Rules


class _Exchange:
    """What goes out with the requests of a test, and what comes back."""

    def __init__(self, rules: Rules, entries: Entries, seconds: int, once: bool) -> None:
        self.entries = list(entries)
        self.report = Report()
        self.responses = 0
        self.without_report = 0
        self._rules, self._seconds, self._once = rules, seconds, once
        self.token()  # so that a mistake is found at once

    def token(self) -> str:
        return self._rules.sign(self.entries, self._seconds, self._once)

    def take_report(self, report: str | None) -> None:
        self.responses += 1
        if report is None or not self.report.add_header(report):
            self.without_report += 1


class Scenario:
    """The failpoints of the requests that a test makes in a block: `with scenario(client, policy, entries) as stock:`.

    Its counts are sums over all responses and all services. `handle[name]` has those of one failpoint. Leaving the
    block checks that each failpoint was hit.
    """

    def __init__(self, client: Any, exchange: _Exchange, hosts: Hosts | None, expect_hit: bool) -> None:
        self._client = client
        self._exchange = exchange
        self._hosts = hosts
        self._expect_hit = expect_hit
        self._leave: Callable[[], None] | None = None

    def __repr__(self) -> str:
        return f"<Scenario of {', '.join(self._names())}>"

    @property
    def headers(self) -> dict[str, str]:
        """The header to send, for a client that `scenario` does not know. Each use signs a new token."""
        return {HEADER: self._exchange.token()}

    def read(self, headers: Mapping[str, Any]) -> None:
        """Add what the headers of a response report, for a client that `scenario` does not know."""
        found = [value for name, value in headers.items() if name.lower() == REPORT]
        self._exchange.take_report(str(found[0]) if found else None)

    # the counts

    @property
    def services(self) -> dict[str, dict[str, Counts]]:
        """The counts of each failpoint in each service, which has the attributes `hits`, `misses` and `triggers`."""
        return self._exchange.report.services()

    def __getitem__(self, name: str) -> Counts:
        """Return the counts of one failpoint, as a sum over the services."""
        if name not in self._names():
            raise FailpointUsageError(
                f"this scenario has no failpoint {safe_repr(name)}; it has {', '.join(self._names())}"
            )
        total = Counts()
        for names in self.services.values():
            total = total.plus(names.get(name, Counts()))
        return total

    @property
    def hits(self) -> int:
        """The number of visits whose context matched, of all failpoints."""
        return sum(self[name].hits for name in self._names())

    @property
    def misses(self) -> int:
        """The number of visits whose context did not match, of all failpoints."""
        return sum(self[name].misses for name in self._names())

    @property
    def triggers(self) -> int:
        """The number of actions that ran, of all failpoints."""
        return sum(self[name].triggers for name in self._names())

    def _names(self) -> list[str]:
        return list(dict.fromkeys(entry[0] for entry in self._exchange.entries))

    # the block

    def __enter__(self) -> Self:
        if self._hosts is not None:
            follow = _follow_httpx if _is_httpx(self._client) else _follow_requests
            self._leave = follow(self._client, self._hosts, lambda: self._exchange)
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        __tracebackhide__ = True
        if self._leave is not None:
            self._leave()
        if kind is None and self._expect_hit:
            problems = list(self._problems())
            if problems:
                raise AssertionError("\n".join(problems))

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, kind: type[BaseException] | None, *error: object) -> None:
        __tracebackhide__ = True
        self.__exit__(kind, *error)

    # the verdict

    def _problems(self) -> Iterator[str]:
        if self._exchange.responses == self._exchange.without_report:
            yield self._nothing_reported()
            return
        for name in self._names():
            counts = self[name]
            if counts.error:
                where = ", ".join(
                    service for service, names in self.services.items() if name in names and names[name].error
                )
                yield f"failpoint {name!r} could not do what it was configured to do, in {where}: {counts.error}"
            elif not counts.hits:
                yield self._never_hit(name, counts.near)

    def _nothing_reported(self) -> str:
        names = ", ".join(map(repr, self._names()))
        responses = self._exchange.responses
        if not responses:
            return f"nothing is known of {names}: no response came in the block, from a host that gets the token"
        return (
            f"nothing is known of {names}: of {responses} responses, none had a {REPORT} header; is there a"
            " FailpointsMiddleware, with a key and the audience of this policy?"
        )

    def _never_hit(self, name: str, near: str) -> str:
        services, left_out = self.services, self._exchange.report.left_out
        if left_out and not any(name in names for names in services.values()):
            return f"nothing is known of {name!r}: the report had no space for {left_out} failpoints"
        lines = [
            f"failpoint {name!r} was never hit before the response began, in {', '.join(services)}"
            + (f"; did you mean {near!r}?" if near else "")
        ]
        lines += [f"  {service}: {_described(names.get(name))}" for service, names in services.items()]
        if self._exchange.without_report:
            lines.append(f"  {self._exchange.without_report} of {self._exchange.responses} responses had no report")
        return "\n".join(lines)


def _follow_httpx(client: Any, hosts: Hosts, source: Source) -> Callable[[], None]:
    own = httpx_hooks(hosts, source)
    client.event_hooks = {event: [*client.event_hooks.get(event, ()), *own[event]] for event in own}

    def leave() -> None:
        hooks = client.event_hooks
        client.event_hooks = {event: [hook for hook in hooks[event] if hook not in own[event]] for event in hooks}

    return leave


def _follow_requests(session: Any, hosts: Hosts, source: Source) -> Callable[[], None]:
    before = dict(session.adapters)
    own = {prefix: requests_adapter(hosts, source, adapter) for prefix, adapter in before.items()}
    session.adapters.update(own)

    def leave() -> None:
        session.adapters.update(
            {prefix: before[prefix] for prefix in own if session.adapters.get(prefix) is own[prefix]}
        )

    return leave


def _described(counts: Counts | None) -> str:
    if counts is None:
        return "its policy does not allow this failpoint"
    text = f"misses {counts.misses}"
    if counts.strays:
        text += f", strays {counts.strays} in threads that the request does not reach"
    return f"{text}; {counts.mismatch}" if counts.mismatch else text


def scenario(
    client: Any,
    policy: RequestFailpoints,
    entries: Entries,
    *,
    seconds: int = 60,
    once: bool = False,
    forward_to: Sequence[str] | None = None,
    expect_hit: bool = True,
) -> Scenario:
    """Return a block in which a test's client brings failpoints with each request, for `with` and `async with`.

    Use it to test services that run elsewhere. What their responses report becomes the handle of the block. Like the
    fixture, it is strict: leaving the block without an exception raises `AssertionError` for a failpoint that was never
    hit, with the services that the request passed, and for one that could not do what it was configured to do.

    Args:
        client: An `httpx.Client`, `httpx.AsyncClient`, Starlette's `TestClient` or a `requests.Session`. `None` for
            another one: send `handle.headers`, and give the headers of each response to `handle.read`.
        policy: Signs the tokens, one for each request.
        entries: What to configure, as for `RequestFailpoints.sign`.
        seconds: The lifetime of each token.
        once: Whether each token is obeyed once.
        forward_to: The hosts that get the token. By default, that of the client's `base_url`.
        expect_hit: If false, nothing is checked on leaving the block.

    Raises:
        ActionSyntaxError: An entry has actions that cannot be parsed.
        FailpointNameError: An entry has a name or a pattern that is not valid.
        FailpointUsageError: There is no key, an argument has a wrong type or value, or an entry cannot be signed.

    >>> import httpx
    >>> from failpoints.request import RequestFailpoints, scenario
    >>> policy = RequestFailpoints({"2026-11": "a secret of 16 bytes or more"})
    >>> def test_slow_stock() -> None:
    ...     with httpx.Client(base_url="http://shop") as client:
    ...         with scenario(client, policy, [("stock.reserve", "raise(TimeoutError)")]) as stock:
    ...             assert client.post("/orders").status_code == 503
    ...         assert stock.triggers == 1
    """
    hosts = _hosts(client, forward_to)
    return Scenario(client, _Exchange(rules_of(policy), entries, seconds, once), hosts, expect_hit)


def _is_httpx(client: Any) -> bool:
    return hasattr(client, "event_hooks")


def _hosts(client: Any, forward_to: Sequence[str] | None) -> Hosts | None:
    if client is None:
        return None
    if not (_is_httpx(client) or hasattr(client, "adapters")):
        raise FailpointUsageError(
            f"scenario() takes a client of httpx, a session of requests, or None; got {type(client).__name__}"
        )
    base = getattr(getattr(client, "base_url", None), "host", "")
    if forward_to is None and not base:
        raise FailpointUsageError("this client has no base_url: name the hosts that get the token as forward_to=")
    return Hosts([f"[{base}]" if ":" in base else base] if forward_to is None else forward_to)
