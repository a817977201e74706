"""A client for the failpoints of another process: the registry's verbs over HTTP, on asyncio and trio."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Final, Literal, NamedTuple, Self, cast
from urllib.parse import quote, urlencode
from uuid import uuid4

import anyio

from ._core.actions import Actions, may_exit
from ._core.context import GivenMatchers
from ._core.diagnosis import describe_waiting, format_facts, main_facts
from ._core.grammar import parse_actions
from ._core.messages import missing_extra, safe_repr
from ._core.reachability import reachable_terms
from ._core.status import FailpointStatus
from ._core.validation import check_count, check_name, entry_parts, seconds
from ._http.wire import NOT_CONFIGURED, check_token, entry_document, matchers_document, parse_status, to_json
from .errors import FailpointTimeout, FailpointUsageError

try:
    import httpx
except ModuleNotFoundError as error:
    raise missing_extra(error, "failpoints.client", "http") from error

__all__ = ["FailpointsClient", "RemoteHandle"]

_PATH: Final = "/v1/failpoints"
_ANSWER_TIMEOUT: Final = 10.0  # seconds for an answer, beyond the time that a wait takes on purpose
_MAX_WAIT_REQUEST: Final = 30.0  # seconds for one request of a longer wait, which bounds how long a lost server matters
_CLEANUP_TIMEOUT: Final = 2.0  # seconds to remove a configuration after another error


class FailpointsClient:
    """A client for the control plane of another process, for tests and tools.

    Use it when the program under test runs in a process of its own. It is an async context manager, on asyncio and
    trio, and inside the block any number of tasks may use it at once. It can be entered again after the block. Its
    verbs are those of `Registry`. They act on the registry of the control plane: the process-wide one, unless the
    program mounted an `admin_app` of another.

    Arguments are checked before anything is sent, and raise what the registry raises for them.

    Args:
        base_url: Where the control plane listens, such as `"http://127.0.0.1:22381"`. Includes the path if the control
            plane is mounted at one.
        token: The program's `FAILPOINTS_TOKEN`, if it has one.

    Raises:
        FailpointUsageError: On construction, if *base_url* is not a URL or *token* is not a token. From every verb:
            outside the block; if nothing answers within 10 seconds; if the answer is not from a control plane; and if
            the control plane refuses, with its own message. Errors of `httpx` are the `__cause__`.

    >>> from failpoints.client import FailpointsClient
    >>> async def lose_a_reply(url: str) -> int:
    ...     async with FailpointsClient(url) as client:
    ...         async with client.configured("gateway.charge:after", "1*raise(TimeoutError)") as reply:
    ...             await reply.wait_hit(timeout=10)
    ...             return (await reply.status()).triggers
    >>> FailpointsClient("localhost:22381")
    Traceback (most recent call last):
    failpoints.errors.FailpointUsageError: a control plane's URL begins with http:// or https://; got ...
    """

    def __init__(self, base_url: str, *, token: str | None = None) -> None:
        self._url = _checked_url(base_url)
        self._headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {check_token(token)}"
        self._http: httpx.AsyncClient | None = None

    def __repr__(self) -> str:
        return f"<FailpointsClient of {self._url}>"

    async def __aenter__(self) -> Self:
        if self._http is not None:
            raise FailpointUsageError("this FailpointsClient is already entered; make one for each block")
        self._http = httpx.AsyncClient(
            headers=self._headers,
            # Each wait holds a connection. Idle ones expire here first, before the server closes them.
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=20, keepalive_expiry=2),
            trust_env=False,  # ignores proxies from the environment
            verify=self._url.lower().startswith("https:"),  # plain http does not need the certificates loaded
        )
        return self

    async def __aexit__(self, *exception: object) -> None:
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()

    # configuring

    async def configure(self, name: str, actions: Actions, *, context: GivenMatchers | None = None) -> None:
        """Configure a failpoint in the other process. Takes effect at the next visit.

        Takes what `Registry.configure` takes, but only what has a text form can be sent: no `Call`, no predicate, and
        no `Return` of anything but a `str` or `None`. If it raises, nothing has changed.

        Raises:
            ActionSyntaxError: *actions* cannot be parsed.
            FailpointNameError: *name*, or a pattern in *context*, is invalid.
            FailpointUsageError: An argument has the wrong type or no text form, or the request failed.

        >>> from failpoints.client import FailpointsClient
        >>> async def main() -> None:
        ...     async with FailpointsClient("http://127.0.0.1:22381") as client:
        ...         await client.configure("backup", "retrun(0)")  # refused before anything is sent
        >>> anyio.run(main)
        Traceback (most recent call last):
        failpoints.errors.ActionSyntaxError: expected an action, found 'retrun'; did you mean 'return'?
            retrun(0)
            ^
        """
        await self._put([entry_document(name, actions, context)])

    async def configure_all(
        self,
        entries: Iterable[tuple[str, Actions] | tuple[str, Actions, GivenMatchers | None]],
    ) -> None:
        """Configure several failpoints at the same moment: all of them or, on any error, none.

        Takes what `Registry.configure_all` takes, and raises what `configure` raises.
        """
        await self._put([entry_document(*parts) for parts in entry_parts(entries)])

    @asynccontextmanager
    async def configured(
        self, name: str, actions: Actions, *, context: GivenMatchers | None = None
    ) -> AsyncGenerator[RemoteHandle, None]:
        """Configure a failpoint for the duration of an `async with` block, which gets a `RemoteHandle`.

        The handle is about this configuration alone. Leaving the block, normally or by an exception, removes it, wakes
        everything waiting there, and puts back in force what it had replaced. It is not an error if the program has
        ended by then. Entering the block raises what `configure` raises, and `FailpointUsageError` for a term that
        nothing can reach, as in `sleep(200)->raise(OSError)`.
        """
        __tracebackhide__ = True
        reachable_terms(name, actions)
        id_ = uuid4().hex
        handle = RemoteHandle(
            name,
            _Requests(
                partial(self._status_of, name, handle=id_),
                partial(self._wait, name, handle=id_),
                partial(self._resume, name, handle=id_),
                partial(self._remove, name, handle=id_),
            ),
        )
        try:
            await self._put([entry_document(name, actions, context, handle=id_)])
        except BaseException as error:
            # If the request arrived, a pause would hold the program, and there would be no block to end it.
            if isinstance(error, anyio.get_cancelled_exc_class()) or _may_have_succeeded(error):
                await self._remove_after_error(handle)
            raise
        try:
            yield handle
        except BaseException:
            await self._remove_after_error(handle)
            raise
        with anyio.CancelScope(shield=True):
            try:
                await handle.remove()
            except FailpointUsageError as error:
                # The failpoint is gone if the program is, for example after an `exit`.
                if not isinstance(error.__cause__, (httpx.NetworkError, httpx.RemoteProtocolError)):
                    raise

    async def _remove_after_error(self, handle: RemoteHandle) -> None:
        """Try to remove the configuration for a short time. Errors are ignored, in favor of the one being handled."""
        with anyio.move_on_after(_CLEANUP_TIMEOUT, shield=True), suppress(FailpointUsageError):
            await handle.remove()

    async def remove(self, name: str) -> None:
        """Remove all configurations of *name* and wake everything waiting there. Does nothing if there are none."""
        await self._remove(name)

    async def _remove(self, name: str, **handle: str) -> None:
        response = await self._send("DELETE", _path(name, handle))
        if not _is_absent(response):
            self._check_null(response)

    async def reset(self) -> None:
        """Remove all configurations of the other process and wake everything that waits."""
        self._check_null(await self._send("DELETE"))

    async def resume(self, name: str, *, context: GivenMatchers | None = None, tasks: int | None = None) -> int:
        """Wake what waits at the failpoint, and return how many tasks and threads were woken. Later visits wait again.

        Args:
            name: The failpoint.
            context: Matchers like those of `configure`, without predicates. Only visits that they match are woken.
            tasks: How many to wake at most, those that have waited longest. `None` means all.

        Raises:
            FailpointNameError: *name*, or a pattern in *context*, is invalid.
            FailpointUsageError: *context* has no text form, *tasks* is not 1 or more, or the request failed.
        """
        return await self._resume(name, context, tasks)

    async def _resume(self, name: str, context: GivenMatchers | None, tasks: int | None, **handle: str) -> int:
        query = dict(handle)
        if context is not None:
            query["context"] = to_json(matchers_document(context)).decode()
        if tasks is not None:
            query["tasks"] = str(check_count("tasks", tasks))
        response = await self._send("POST", _path(name, query, "/resume"))
        if _is_absent(response):
            return 0
        match self._answer(response):
            case {"resumed": int(woken)}:
                return woken
            case _:
                raise self._not_ours(response)

    # looking

    async def status(self, name: str) -> FailpointStatus:
        """Return the status of a failpoint since it was configured.

        If it is not configured, there are no actions and all counts are zero. An action without a text form is
        displayed as in the other process, but cannot be configured here.
        """
        response = await self._send("GET", _path(name))
        return FailpointStatus(name) if _is_absent(response) else self._status(response)

    async def _status_of(self, name: str, **handle: str) -> FailpointStatus:
        return self._status(await self._send("GET", _path(name, handle)))

    async def statuses(self, *, declared: bool = False) -> list[FailpointStatus]:
        """Return the status of every configured failpoint, ordered by name.

        With *declared*, also of each failpoint that the modules which the other process has imported declare, and all
        sites in their source. The first such request takes the time to read that source.
        """
        response = await self._send("GET", "?declared=1" if declared else "")
        documents = self._answer(response)
        if not isinstance(documents, list):
            raise self._not_ours(response)
        return [self._parse_status(document, response) for document in cast(list[object], documents)]

    async def page_url(self) -> str:
        """Return a URL that opens the page of the control plane in a browser. It works once, for two minutes.

        >>> from failpoints.client import FailpointsClient
        >>> async def look(client: FailpointsClient) -> None:
        ...     webbrowser.open(await client.page_url())
        """
        response = await self._send("POST", root="/v1/page")
        match self._answer(response):
            case {"ticket": str(ticket)}:
                return f"{self._url}/#{ticket}"
            case _:
                raise self._not_ours(response)

    # waiting for something to happen

    async def wait_until_hit(self, name: str, hits: int = 1, *, timeout: float | None = None) -> None:
        """Wait until the failpoint has been hit *hits* times since it was configured. Earlier hits count.

        The wait continues if the failpoint is reconfigured, and counts from zero again. It does not poll: the control
        plane answers when the last hit happens.

        Args:
            name: The failpoint.
            hits: How many hits to wait for.
            timeout: The limit in seconds, `None` for no limit.

        Raises:
            FailpointUsageError: The failpoint is not configured, or is removed during the wait.
            FailpointTimeout: The timeout has expired. The message describes the failpoint, and `status` has its status.
        """
        __tracebackhide__ = True  # pytest shows the line of the test instead
        await self._wait(name, "hits", hits, timeout)

    async def wait_until_paused(self, name: str, tasks: int = 1, *, timeout: float | None = None) -> None:
        """Wait until *tasks* tasks or threads are paused or sleeping at the failpoint right now.

        Otherwise like `wait_until_hit`.
        """
        __tracebackhide__ = True
        await self._wait(name, "paused", tasks, timeout)

    async def _wait(
        self, name: str, what: Literal["hits", "paused"], count: int, timeout: float | None, **handle: str
    ) -> None:
        __tracebackhide__ = True
        check_count("tasks" if what == "paused" else what, count)
        limit = seconds(timeout)
        deadline = anyio.current_time() + (math.inf if limit is None else limit)
        while True:
            left = max(deadline - anyio.current_time(), 0)
            limited = min(left, _MAX_WAIT_REQUEST)
            query = {what: str(count), "timeout": f"{limited:.3f}", **handle}
            response = await self._send("GET", _path(name, query, "/wait"), waiting=limited)
            if response.status_code != httpx.codes.REQUEST_TIMEOUT:
                self._status(response)
                return
            timed_out = self._timed_out(response)
            if left <= _MAX_WAIT_REQUEST:
                raise timed_out

    # requests and answers

    async def _put(self, documents: Sequence[Mapping[str, Any]]) -> None:
        self._check_null(await self._send("PUT", body=to_json(documents)))
        if any(_may_exit(document["actions"]) for document in documents):
            # An `exit` is configured after the answer is sent, so only a second answer shows that it has happened.
            with suppress(FailpointUsageError):  # the program may have ended already
                await self._send("GET")

    async def _send(
        self, method: str, path: str = "", *, root: str = _PATH, body: bytes | None = None, waiting: float = 0
    ) -> httpx.Response:
        """Send a request and return its response, whatever the status.

        *waiting* is how many seconds the server may wait before it answers.
        """
        if self._http is None:
            raise FailpointUsageError(
                f"this client has not been entered: write async with FailpointsClient({self._url!r}) as …:"
            )
        try:
            timeout = httpx.Timeout(_ANSWER_TIMEOUT, read=_ANSWER_TIMEOUT + waiting)
            return await self._http.request(method, f"{self._url}{root}{path}", content=body, timeout=timeout)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise FailpointUsageError(
                f"cannot connect to {self._url} ({_reason(error)}): is the program running, with FAILPOINTS_HTTP set to"
                " this host and port?",
                code="FP019",
            ) from error
        except httpx.TimeoutException as error:
            limit = f"{round(_ANSWER_TIMEOUT + waiting, 1):g} s"
            raise FailpointUsageError(
                f"{self._url} did not answer within {limit}: is this a control plane of failpoints?",
                code="FP019",
            ) from error
        except httpx.HTTPError as error:
            raise FailpointUsageError(
                f"{self._url} did not answer ({_reason(error)}): either the program has ended, or"
                " this is not a control plane of failpoints",
                code="FP019",
            ) from error
        except httpx.InvalidURL as error:
            raise FailpointUsageError(f"the failpoint's name does not fit in a URL: {error}") from error

    def _answer(self, response: httpx.Response) -> Any:
        """Return the document of a successful response. Raises `FailpointUsageError` for any other response."""
        document = _document(response)
        if response.status_code == httpx.codes.OK:
            return document
        message = _message(document)
        if message is None:
            raise self._not_ours(response)
        if response.status_code == httpx.codes.UNAUTHORIZED:
            raise FailpointUsageError(
                f"{message}; the token of {self._url} is its FAILPOINTS_TOKEN, or the token= of its admin_app",
                code="FP019",
            )
        if response.is_server_error:
            raise FailpointUsageError(f"{self._url} answered {response.status_code}: {message}")
        raise FailpointUsageError(message)

    def _check_null(self, response: httpx.Response) -> None:
        if self._answer(response) is not None:
            raise self._not_ours(response)

    def _status(self, response: httpx.Response) -> FailpointStatus:
        return self._parse_status(self._answer(response), response)

    def _parse_status(self, document: object, response: httpx.Response) -> FailpointStatus:
        try:
            return parse_status(document)
        except FailpointUsageError:
            raise self._not_ours(response) from None

    def _timed_out(self, response: httpx.Response) -> FailpointTimeout:
        document = _document(response)
        message = _message(document)
        if message is None or "status" not in document:  # the timeout of a proxy, not ours
            raise self._not_ours(response)
        status = self._parse_status(document["status"], response)
        return FailpointTimeout(f"{message}\n{_described(status)}", status)

    def _not_ours(self, response: httpx.Response) -> FailpointUsageError:
        return FailpointUsageError(
            f"{self._url}{_PATH} is not a control plane of failpoints: {response.request.method} was answered with"
            f" {response.status_code} and {safe_repr(response.text)}",
            code="FP019",
        )


class _Requests(NamedTuple):
    """The requests of a client that are about one configuration."""

    status: Callable[[], Awaitable[FailpointStatus]]
    wait: Callable[[Literal["hits", "paused"], int, float | None], Awaitable[None]]
    resume: Callable[[GivenMatchers | None, int | None], Awaitable[int]]
    remove: Callable[[], Awaitable[None]]


class RemoteHandle:
    """One configuration of a failpoint of another process: `async with client.configured(…) as handle:`.

    It has nothing to do with other configurations of the same name. After its own is removed or replaced, `status`
    still has the counts, and the waits raise `FailpointUsageError`. Each method is a request to the control plane and
    raises what the verb of `FailpointsClient` raises.

    >>> from failpoints.client import FailpointsClient
    >>> async def pause_it(client: FailpointsClient) -> None:
    ...     async with client.configured("bookings.confirm", "pause") as confirm:
    ...         await confirm.wait_paused(timeout=10)  # no sleep, no polling
    ...         await confirm.resume()
    """

    def __init__(self, name: str, requests: _Requests) -> None:
        self.name = name
        self._requests = requests

    def __repr__(self) -> str:
        return f"<RemoteHandle of failpoint {self.name!r}>"

    async def status(self) -> FailpointStatus:
        """Return the status of its configuration, which has no `configurations` of its own."""
        return await self._requests.status()

    async def wait_hit(self, hits: int = 1, *, timeout: float | None = None) -> None:
        """Wait until it has been hit *hits* times since it was configured. Earlier hits count."""
        __tracebackhide__ = True
        await self._requests.wait("hits", hits, timeout)

    async def wait_paused(self, tasks: int = 1, *, timeout: float | None = None) -> None:
        """Wait until *tasks* tasks or threads are paused or sleeping there right now."""
        __tracebackhide__ = True
        await self._requests.wait("paused", tasks, timeout)

    async def resume(self, *, context: GivenMatchers | None = None, tasks: int | None = None) -> int:
        """Wake what waits there and return how many were woken. Later visits wait again.

        *context* and *tasks* limit it as in `FailpointsClient.resume`.
        """
        return await self._requests.resume(context, tasks)

    async def remove(self) -> None:
        """Remove the configuration, wake everything waiting there, and put back in force what it had replaced."""
        await self._requests.remove()


# arguments


def _checked_url(given: object) -> str:
    if not isinstance(given, str):
        raise FailpointUsageError(
            f"a control plane's URL is a str, such as 'http://127.0.0.1:22381'; got {safe_repr(given)}"
        )
    try:
        url = httpx.URL(given)
    except httpx.InvalidURL as error:
        raise FailpointUsageError(f"not a URL: {safe_repr(given)}: {error}") from None
    if url.userinfo:
        raise FailpointUsageError("a control plane's URL cannot have a user or a password; pass a token as token=")
    if url.scheme not in {"http", "https"} or not url.host:
        rest = re.sub(r"\A(?:\w+:)?//*", "", given)
        hint = f"; did you mean {f'http://{rest}'!r}?" if rest else ""
        raise FailpointUsageError(
            f"a control plane's URL begins with http:// or https://; got {safe_repr(given)}{hint}"
        )
    if not (url.port is None or 0 < url.port < 2**16):
        raise FailpointUsageError(f"a port is a number from 1 to 65535; got {safe_repr(given)}")
    base = given.rstrip("/")
    shortened = re.split("[?#]", base)[0].rstrip("/").removesuffix(_PATH)
    if shortened != base:
        raise FailpointUsageError(
            f"a control plane's URL ends before {_PATH} and has no query; got {safe_repr(given)};"
            f" did you mean {shortened!r}?"
        )
    return base


def _path(name: str, query: Mapping[str, str] | None = None, end: str = "") -> str:
    segment = quote(check_name(name), safe="")
    # Clients and proxies resolve segments of dots as folders, and openapi.json is the path of the document.
    if not segment.strip(".") or segment == "openapi.json":
        segment = segment.replace(".", "%2E")
    return f"/{segment}{end}{f'?{urlencode(query, quote_via=quote)}' if query else ''}"


def _may_exit(actions: str) -> bool:
    return any(may_exit(term.action) for term in parse_actions(actions))


# responses


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _document(response: httpx.Response) -> Any:
    try:
        return response.json()
    except (ValueError, RecursionError):
        return ...  # differs from every JSON value


def _message(document: Any) -> str | None:
    """Return the message of an error response, or `None` if it is not one of a control plane."""
    match document:
        case {"msg": str(message)}:
            return message
        case _:
            return None


def _is_absent(response: httpx.Response) -> bool:
    """Return whether a control plane answered that the failpoint is not configured. Any server can answer 404."""
    message = _message(_document(response)) if response.status_code == httpx.codes.NOT_FOUND else None
    return message is not None and NOT_CONFIGURED in message


def _may_have_succeeded(error: BaseException) -> bool:
    """Return whether the server may have carried out the request in spite of this error."""
    cause = error.__cause__
    return isinstance(cause, httpx.HTTPError) and not isinstance(cause, (httpx.ConnectError, httpx.ConnectTimeout))


def _described(status: FailpointStatus) -> str:
    """Describe a failpoint after a timeout, as `diagnosis` does, but only from what its status contains."""
    facts = [*main_facts(status)]
    if status.last_mismatch is not None:
        facts.append(("last miss", status.last_mismatch))
    facts += [("waiting", describe_waiting(waiting)) for waiting in status.waiting]
    return format_facts([*facts, ("sites", ", ".join(status.sites) or "none seen so far in that process")])
