"""Driving the failpoints of another process: the registry's verbs over its control plane, for asyncio and trio."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, Literal, Self, cast
from urllib.parse import quote

import anyio

from ._core.actions import Actions, Exit
from ._core.context import GivenMatchers
from ._core.diagnosis import configured_and_counts, labelled
from ._core.grammar import check_name, parse_actions
from ._core.messages import missing_extra, safe_repr
from ._core.status import FailpointStatus
from ._core.validation import entry_parts, positive, seconds
from ._http.wire import NOT_CONFIGURED, check_token, entry_document, read_status, written
from .errors import FailpointTimeout, FailpointUsageError

try:
    import httpx
except ModuleNotFoundError as error:
    raise missing_extra(error, "failpoints.client", "http") from error

__all__ = ["FailpointsClient", "RemoteHandle"]

_PATH: Final = "/v1/failpoints"
_SECONDS: Final = 10.0  # for an answer that comes at once, or as soon as a wait is over
_SLICE: Final = 30.0  # for one request of a wait: a server that ends, or is gone, has not to be waited for much longer
_LAST_WORD: Final = 2.0  # to clear away after something has gone wrong


class FailpointsClient:
    """To drive the failpoints of a program that runs in another process, from a test or a tool.

    `base_url` is where its control plane listens, such as `"http://127.0.0.1:22381"`, with the path where it is
    mounted, if it is; `token` the program's `FAILPOINTS_TOKEN`, where it has one. Serves `async with`, on asyncio and
    trio, and in its block any number of tasks at once; entered again afterwards, it begins anew. The verbs are those
    of `Registry`, and act on what the control plane drives: the registry of the whole process, if not told otherwise.

    What is given is checked here, before anything is sent, and raises what the registry raises. Besides, every verb
    raises `FailpointUsageError`: outside the block; when nothing answers within 10 seconds, or something that is no
    control plane does (then from the `httpx` error, where there is one); and, with the server's own words, when that
    refuses. Making a client raises it for what is no URL or no token.

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
            # Whoever waits holds a connection; an idle one is given up before a server does so.
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=20, keepalive_expiry=2),
            trust_env=False,  # a proxy that the environment names has no part in it
            verify=self._url.lower().startswith("https:"),  # else all the certificates are read for nothing
        )
        return self

    async def __aexit__(self, *exception: object) -> None:
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()

    # configuring

    async def configure(self, name: str, actions: Actions, *, context: GivenMatchers | None = None) -> None:
        """To make a failpoint there do something, from the next visit on; takes what `Registry.configure` takes.

        Only what has a text can be sent: no `Call`, no predicate, no `Return` of anything but a `str` or `None`.
        Raises `ActionSyntaxError`, `FailpointNameError` (also for a pattern) or `FailpointUsageError`; then nothing
        has changed.

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
        """To configure several failpoints at one moment: all of them or, on any error, none.

        Takes what `Registry.configure_all` takes, and raises what `configure` raises.
        """
        await self._put([entry_document(*parts) for parts in entry_parts(entries)])

    @asynccontextmanager
    async def configured(
        self, name: str, actions: Actions, *, context: GivenMatchers | None = None
    ) -> AsyncGenerator[RemoteHandle, None]:
        """To configure a failpoint there for a block of code, and to watch it: gives a `RemoteHandle`.

        Serves `async with`. On leaving, however that comes, the failpoint is removed and everyone who waits at it goes
        on; that the program has ended meanwhile is no error. Raises, on entering, what `configure` raises.
        """
        __tracebackhide__ = True
        try:
            await self.configure(name, actions, context=context)
        except BaseException as error:
            # A pause that nobody owns would hold the program.
            if isinstance(error, anyio.get_cancelled_exc_class()) or _may_have_arrived(error):
                await self._clear_away(name)
            raise
        try:
            yield RemoteHandle(self, name)
        except BaseException:
            await self._clear_away(name)
            raise
        with anyio.CancelScope(shield=True):
            try:
                await self.remove(name)
            except FailpointUsageError as error:
                # It is gone with the program, as with one that was told to `exit`.
                if not isinstance(error.__cause__, (httpx.NetworkError, httpx.RemoteProtocolError)):
                    raise

    async def _clear_away(self, name: str) -> None:
        """Remove it if that is soon done: something else went wrong, and that is what counts."""
        with anyio.move_on_after(_LAST_WORD, shield=True), suppress(FailpointUsageError):
            await self.remove(name)

    async def remove(self, name: str) -> None:
        """To end what was configured under this name, waking who waits there; no error if there is nothing."""
        response = await self._send("DELETE", _path(name))
        if not _is_absent(response):
            self._check_null(response)

    async def reset(self) -> None:
        """To end everything that is configured there, waking everyone who waits."""
        self._check_null(await self._send("DELETE"))

    async def resume(self, name: str) -> int:
        """To let those go on who wait at a failpoint now, and hold the next ones: returns how many were woken."""
        response = await self._send("POST", f"{_path(name)}/resume")
        if _is_absent(response):
            return 0
        match self._answer(response):
            case {"resumed": int(woken)}:
                return woken
            case _:
                raise self._foreign(response)

    # looking

    async def status(self, name: str) -> FailpointStatus:
        """To see what a failpoint did since it was configured; of one that is not: no actions, and zeros.

        An action without a text is shown as the other process shows it, and can only be looked at.
        """
        response = await self._send("GET", _path(name))
        return FailpointStatus(name) if _is_absent(response) else self._status(response)

    async def statuses(self) -> list[FailpointStatus]:
        """To see everything that is configured there, in the order of its names."""
        response = await self._send("GET")
        documents = self._answer(response)
        if not isinstance(documents, list):
            raise self._foreign(response)
        return [self._read_status(document, response) for document in cast(list[object], documents)]

    # waiting for something to happen

    async def wait_until_hit(self, name: str, hits: int = 1, *, timeout: float | None = None) -> None:
        """To go on once a failpoint has been hit so often since it was configured; counts what was before, too.

        Goes on through a reconfiguration, counting anew. `timeout` is in seconds, `None` for no limit. Nothing polls:
        the answer comes when it is so. Raises `FailpointUsageError` when the failpoint is not configured, or is
        removed meanwhile, and after the timeout `FailpointTimeout`, which tells the state and has it as `status`.
        """
        __tracebackhide__ = True  # a test that waited in vain is shown at its own line
        await self._wait(name, "hits", positive("hits", hits), timeout)

    async def wait_until_paused(self, name: str, tasks: int = 1, *, timeout: float | None = None) -> None:
        """To go on once so many tasks or threads wait at a failpoint *now*, in a pause or a sleep.

        For the rest as `wait_until_hit`.
        """
        __tracebackhide__ = True
        await self._wait(name, "paused", positive("tasks", tasks), timeout)

    async def _wait(self, name: str, what: Literal["hits", "paused"], count: int, timeout: float | None) -> None:
        __tracebackhide__ = True
        path = _path(name)
        limit = seconds(timeout)
        deadline = anyio.current_time() + (math.inf if limit is None else limit)
        while True:
            left = max(deadline - anyio.current_time(), 0)
            asked = min(left, _SLICE)
            response = await self._send("GET", f"{path}/wait?{what}={count}&timeout={asked:.3f}", waiting=asked)
            if response.status_code != httpx.codes.REQUEST_TIMEOUT:
                self._status(response)
                return
            timed_out = self._timed_out(response)
            if left <= _SLICE:
                raise timed_out

    # requests and answers

    async def _put(self, documents: Sequence[Mapping[str, Any]]) -> None:
        self._check_null(await self._send("PUT", body=written(documents)))
        if any(_may_exit(document["actions"]) for document in documents):
            # Put in force only after its answer: certainly so once the next one comes.
            with suppress(FailpointUsageError):  # the program has ended, as it was told
                await self._send("GET")

    async def _send(
        self, method: str, path: str = "", *, body: bytes | None = None, waiting: float = 0
    ) -> httpx.Response:
        """The answer, whatever it is; `waiting` are the seconds that it may take on purpose."""
        if self._http is None:
            raise FailpointUsageError(
                f"this client is not entered: write async with FailpointsClient({self._url!r}) as …:"
            )
        try:
            timeout = httpx.Timeout(_SECONDS, read=_SECONDS + waiting)
            return await self._http.request(method, f"{self._url}{_PATH}{path}", content=body, timeout=timeout)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise FailpointUsageError(
                f"nothing can be reached at {self._url} ({_reason(error)}): is that program running, and does it have"
                " FAILPOINTS_HTTP set to this host and port?"
            ) from error
        except httpx.TimeoutException as error:
            limit = f"{round(_SECONDS + waiting, 1):g} s"
            raise FailpointUsageError(
                f"{self._url} did not answer within {limit}: is this a control plane of failpoints?"
            ) from error
        except httpx.HTTPError as error:
            raise FailpointUsageError(
                f"{self._url} did not answer ({_reason(error)}): either that program has ended, or"
                " this is no control plane of failpoints"
            ) from error
        except httpx.InvalidURL as error:
            raise FailpointUsageError(f"the failpoint's name cannot be asked for over HTTP: {error}") from error

    def _answer(self, response: httpx.Response) -> Any:
        """What a request that was granted is answered; raises for any other."""
        document = _document(response)
        if response.status_code == httpx.codes.OK:
            return document
        message = _message(document)
        if message is None:
            raise self._foreign(response)
        if response.status_code == httpx.codes.UNAUTHORIZED:
            raise FailpointUsageError(
                f"{message}; that of {self._url} is its FAILPOINTS_TOKEN, or the token= of its admin_app"
            )
        if response.is_server_error:
            raise FailpointUsageError(f"{self._url} answered {response.status_code}: {message}")
        raise FailpointUsageError(message)

    def _check_null(self, response: httpx.Response) -> None:
        if self._answer(response) is not None:
            raise self._foreign(response)

    def _status(self, response: httpx.Response) -> FailpointStatus:
        return self._read_status(self._answer(response), response)

    def _read_status(self, document: object, response: httpx.Response) -> FailpointStatus:
        try:
            return read_status(document)
        except FailpointUsageError:
            raise self._foreign(response) from None

    def _timed_out(self, response: httpx.Response) -> FailpointTimeout:
        document = _document(response)
        message = _message(document)
        if message is None or "status" not in document:  # a proxy has waited too long
            raise self._foreign(response)
        status = self._read_status(document["status"], response)
        return FailpointTimeout(f"{message}\n{_known(status)}", status)

    def _foreign(self, response: httpx.Response) -> FailpointUsageError:
        return FailpointUsageError(
            f"{self._url}{_PATH} is no control plane of failpoints: {response.request.method} was answered"
            f" {response.status_code}, with {safe_repr(response.text)}"
        )


class RemoteHandle:
    """To watch and steer one failpoint of another process: what `async with client.configured(…) as handle:` gives.

    It follows the failpoint by its `name`. Everything is asked of the control plane, and raises what the verbs of
    `FailpointsClient` raise.

    >>> from failpoints.client import FailpointsClient
    >>> async def pause_it(client: FailpointsClient) -> None:
    ...     async with client.configured("bookings.confirm", "pause") as confirm:
    ...         await confirm.wait_paused(timeout=10)  # it is there now: no sleep, no polling
    ...         await confirm.resume()
    """

    def __init__(self, client: FailpointsClient, name: str) -> None:
        self.name = name
        self._client = client

    def __repr__(self) -> str:
        return f"<RemoteHandle of failpoint {self.name!r}>"

    async def status(self) -> FailpointStatus:
        """Everything that is known of it."""
        return await self._client.status(self.name)

    async def wait_hit(self, hits: int = 1, *, timeout: float | None = None) -> None:
        """To go on once it has been hit so often."""
        __tracebackhide__ = True
        await self._client.wait_until_hit(self.name, hits, timeout=timeout)

    async def wait_paused(self, tasks: int = 1, *, timeout: float | None = None) -> None:
        """To go on once so many tasks or threads wait at it now."""
        __tracebackhide__ = True
        await self._client.wait_until_paused(self.name, tasks, timeout=timeout)

    async def resume(self) -> int:
        """To let those go on who wait now, and hold the next ones; how many were woken."""
        return await self._client.resume(self.name)

    async def remove(self) -> None:
        """To end the configuration, waking who waits."""
        await self._client.remove(self.name)


# what is given


def _checked_url(given: object) -> str:
    if not isinstance(given, str):
        raise FailpointUsageError(
            f"a control plane's URL is a text, such as 'http://127.0.0.1:22381'; got {safe_repr(given)}"
        )
    try:
        url = httpx.URL(given)
    except httpx.InvalidURL as error:
        raise FailpointUsageError(f"this is no URL: {safe_repr(given)}: {error}") from None
    if url.userinfo:
        raise FailpointUsageError("a control plane's URL has no user and no password; a token is given as token=")
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
            f"a control plane's URL ends before {_PATH}, and has no query; got {safe_repr(given)};"
            f" did you mean {shortened!r}?"
        )
    return base


def _path(name: str) -> str:
    segment = quote(check_name(name), safe="")
    # A segment of dots is a way through the folders to whoever comes between, and one page has a name of its own.
    return "/" + (segment.replace(".", "%2E") if not segment.strip(".") or segment == "openapi.json" else segment)


def _may_exit(actions: str) -> bool:
    return any(isinstance(term.action, Exit) for term in parse_actions(actions))


# what is answered


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _document(response: httpx.Response) -> Any:
    try:
        return response.json()
    except (ValueError, RecursionError):
        return ...  # which no JSON is


def _message(document: Any) -> str | None:
    """The words of a refusal, if it is one of a control plane."""
    match document:
        case {"msg": str(message)}:
            return message
        case _:
            return None


def _is_absent(response: httpx.Response) -> bool:
    """Whether it is a control plane that says so, of a failpoint, and not somebody else of a page."""
    message = _message(_document(response)) if response.status_code == httpx.codes.NOT_FOUND else None
    return message is not None and NOT_CONFIGURED in message


def _may_have_arrived(error: BaseException) -> bool:
    """Whether a request that failed for this may have been granted all the same."""
    cause = error.__cause__
    return isinstance(cause, httpx.HTTPError) and not isinstance(cause, (httpx.ConnectError, httpx.ConnectTimeout))


def _known(status: FailpointStatus) -> str:
    """What is known of a failpoint that was waited for in vain: as here, but for what only its process could tell."""
    facts = [*configured_and_counts(status)]
    if status.last_mismatch is not None:
        facts.append(("last miss", status.last_mismatch))
    for waiting in status.waiting:
        at = f", {safe_repr(dict(waiting.context))}" if waiting.context else ""
        facts.append(("waiting", f"{waiting.name!r} since {waiting.since:%H:%M:%S} UTC{at}"))
    return labelled([*facts, ("sites", ", ".join(status.sites) or "none of that name is known in that process")])
