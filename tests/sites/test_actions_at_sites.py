"""Every action at every kind of site."""

from __future__ import annotations

import contextlib
import gc
import logging
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any

import anyio
import pytest
from anyio import to_thread

from failpoints import (
    Action,
    Break,
    Call,
    Continue,
    Delay,
    FailpointPanic,
    FailpointTimeout,
    FailpointUsageError,
    Hit,
    InjectedFault,
    Off,
    Outcome,
    Panic,
    Pause,
    Print,
    Raise,
    Return,
    Sleep,
    Term,
    Yield,
    configure,
    configured,
    failpoint,
    failpoint_scope,
    remove,
    resume,
    seed,
)

pytestmark = pytest.mark.anyio

Reach = Callable[..., Awaitable[Any]]

WENT_ON = "went on"


def described(outcome: Outcome) -> Any:
    """Return the outcome of an inline site in a form that can be compared."""
    return outcome.value if isinstance(outcome, Return) else WENT_ON


async def inline(**options: Any) -> Any:
    """Await an inline failpoint in async code."""
    return described(await failpoint("site", **options))


async def decorated(**options: Any) -> Any:
    """Visit the failpoint of a decorated async function."""

    @failpoint("site", **options)
    async def function() -> Any:
        return WENT_ON

    return await function()


async def scope(**options: Any) -> Any:
    """Enter a scope in async code."""

    @failpoint("around")
    async def function() -> Any:
        async with failpoint_scope("site", **options):
            return WENT_ON

    return await function()


def inline_sync(**options: Any) -> Any:
    """Call an inline failpoint in sync code."""
    return described(failpoint("site", **options).hit())


def decorated_sync(**options: Any) -> Any:
    """Visit the failpoint of a decorated sync function."""

    @failpoint("site", **options)
    def function() -> Any:
        return WENT_ON

    return function()


def scope_sync(**options: Any) -> Any:
    """Enter a scope in sync code."""

    @failpoint("around")
    def function() -> Any:
        with failpoint_scope("site", **options):
            return WENT_ON

    return function()


def in_thread(function: Callable[..., Any]) -> Reach:
    """Make an async function that visits a sync site in a worker thread."""

    async def reach(**options: Any) -> Any:
        return await to_thread.run_sync(lambda: function(**options))

    return reach


ASYNC_SITES = [inline, decorated, scope]
SYNC_SITES = [inline_sync, decorated_sync, scope_sync]

every_async_site = pytest.mark.parametrize("reach", ASYNC_SITES)
every_sync_site = pytest.mark.parametrize("visit", SYNC_SITES)
every_site = pytest.mark.parametrize(
    "reach",
    [*ASYNC_SITES, *map(in_thread, SYNC_SITES)],
    ids=[function.__name__ for function in ASYNC_SITES + SYNC_SITES],
)


# off, return, print


@every_site
@pytest.mark.parametrize("actions", ["off", Off(), "2*off->raise", "2*off->return(1)", [Term(Off(), times=2), Raise()]])
async def test_off(reach: Reach, actions: Any) -> None:
    """`off` does nothing but counts as the hit's action: the next term has to wait."""
    with configured("site", actions) as handle:
        assert [await reach(), await reach()] == [WENT_ON, WENT_ON]
        assert (handle.hits, handle.triggers) == (2, 2)


@every_site
@pytest.mark.parametrize(
    ("actions", "value"),
    [
        ("return", None),
        ("return()", None),
        ("return(42)", "42"),
        ("return( two words )", "two words"),
        (Return(), None),
        (Return(42), 42),
        (Return((1, [2])), (1, [2])),
    ],
)
async def test_return(reach: Reach, actions: Any, value: object) -> None:
    """`return(v)` returns early with `v` at every kind of site. Without an annotation a string stays a string."""
    with configured("site", actions):
        assert await reach() == value


async def test_returned_object_is_the_one_given() -> None:
    """A value that is not a string is returned unchanged: the same object."""
    value = object()
    with configured("site", Return(value)):
        assert [await reach() is value for reach in ASYNC_SITES] == [True] * 3


@every_site
@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ("print", "failpoint site was reached"),
        ("print(100% {sure} %s)", "100% {sure} %s"),
        (Print("in Python"), "in Python"),
    ],
)
async def test_print(reach: Reach, actions: Any, message: str, caplog: pytest.LogCaptureFixture) -> None:
    """`print` logs its message verbatim at INFO on the logger `failpoints`, and the site continues."""
    with caplog.at_level(logging.INFO, "failpoints"), configured("site", actions):
        assert await reach() == WENT_ON
    records = [record for record in caplog.records if record.getMessage() == message]
    assert [(record.name, record.levelname) for record in records] == [("failpoints", "INFO")]


# pause, sleep


@every_site
@pytest.mark.parametrize("actions", ["pause", "pause(60s)", "sleep(60s)", Sleep(60_000)])
@pytest.mark.parametrize("end", [lambda: configure("site", "raise"), lambda: remove("site"), lambda: resume("site")])
async def test_wait(reach: Reach, actions: Any, end: Callable[[], object]) -> None:
    """A pause or a sleep ends when the failpoint is reconfigured, removed or resumed, and the site continues."""
    results: list[Any] = []

    async def run() -> None:
        results.append(await reach())

    with configured("site", actions) as handle:
        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await handle.wait_paused()
            assert (results, len(handle.waiting)) == ([], 1)
            end()
        assert handle.waiting == ()
    assert results == [WENT_ON]


@every_site
@pytest.mark.parametrize(
    ("actions", "spelling"),
    [("pause(5)", "pause(5)"), ("pause(0)", "pause(0)"), (Pause(timedelta(milliseconds=5)), "pause(5)")],
)
async def test_pause_with_a_limit(reach: Reach, actions: Any, spelling: str) -> None:
    """A pause that exceeds its limit raises `FailpointTimeout`, which names the actions and the failpoint."""
    with configured("site", actions) as handle:
        with pytest.raises(FailpointTimeout) as caught:
            await reach(context={"shard": 3})
        assert handle.waiting == ()
    assert isinstance(caught.value, TimeoutError)
    assert str(caught.value).startswith(f"failpoint 'site': {spelling} held ")
    seconds = {"pause(5)": "0.005", "pause(0)": "0"}[spelling]
    assert str(caught.value).endswith(f", context {{'shard': 3}}, and was not resumed within {seconds} s")


@every_site
@pytest.mark.parametrize("actions", ["sleep(30)", "30", Sleep(timedelta(seconds=0.03)), "sleep(0.03s)"])
async def test_sleep(reach: Reach, actions: Any) -> None:
    """`sleep` waits by the clock of the event loop, and then the site continues."""
    with configured("site", actions):
        started = anyio.current_time()
        assert await reach() == WENT_ON
        assert anyio.current_time() - started >= 0.029


@every_async_site
async def test_sleep_lets_others_run(reach: Reach) -> None:
    """Other tasks run while a task sleeps or pauses at an async site."""
    log: list[str] = []

    async def other() -> None:
        log.append("other")
        resume("site")

    with configured("site", "sleep(60s)"):
        async with anyio.create_task_group() as group:
            group.start_soon(other)
            await reach()
            log.append("slept")
    assert log == ["other", "slept"]


@every_sync_site
@pytest.mark.parametrize("actions", ["pause", "pause(30000)", "sleep(100)", "sleep(0)"])
async def test_waiting_on_the_thread_of_a_loop(visit: Callable[..., Any], actions: str) -> None:
    """A wait at a sync site in the thread of an event loop is a usage error that suggests a solution."""
    function = {
        inline_sync: "inline_sync",
        decorated_sync: "decorated_sync.<locals>.function",
        scope_sync: "scope_sync.<locals>.function",
    }[visit]
    with configured("site", actions) as handle:
        with pytest.raises(FailpointUsageError) as caught:
            visit()
        assert handle.waiting == ()
    assert str(caught.value) == (
        f"failpoint 'site' cannot {actions} in the sync {function} on the thread of an event loop, which it would"
        " block: make the site async, call the function in a worker thread (anyio.to_thread.run_sync), or configure"
        " 'delay', which blocks on purpose"
    )


@every_sync_site
def test_waiting_without_a_loop(visit: Callable[..., Any]) -> None:
    """In a thread without an event loop, a sync site waits until another thread wakes it."""
    results: list[Any] = []
    with configured("site", "pause") as handle:
        thread = threading.Thread(target=lambda: results.append(visit()))
        thread.start()
        handle.wait_paused_sync()
        assert results == []
        assert handle.resume() == 1
        thread.join()
    assert results == [WENT_ON]


# yield, delay, break


@every_async_site
async def test_yield(reach: Reach) -> None:
    """`yield` lets every other task run once before the site continues."""

    async def other(number: int) -> None:
        log.append(number)
        await anyio.sleep_forever()

    for _ in range(20):  # the order in which trio runs its tasks is random
        log: list[int] = []
        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(other, number)
            with configured("site", "off"):
                await reach()
            assert log == []
            with configured("site", Yield()):
                assert await reach() == WENT_ON
            assert sorted(log) == [0, 1, 2]
            group.cancel_scope.cancel()


@every_async_site
async def test_yield_is_cancelled(reach: Reach) -> None:
    """`yield` is a checkpoint: a cancelled task is cancelled there."""
    with configured("site", "yield"), anyio.CancelScope() as cancelled:
        cancelled.cancel()
        await reach()
    assert cancelled.cancelled_caught


@every_sync_site
def test_yield_in_sync_code(visit: Callable[..., Any]) -> None:
    """`yield` does nothing in sync code."""
    with configured("site", "yield") as handle:
        assert visit() == WENT_ON
        assert handle.triggers == 1


@pytest.mark.parametrize("reach", [*ASYNC_SITES, *SYNC_SITES])
async def test_delay(reach: Callable[..., Any]) -> None:
    """`delay` blocks the thread, and its event loop, in async and in sync code."""
    log: list[str] = []

    async def other() -> None:
        log.append("other")

    async with anyio.create_task_group() as group:
        group.start_soon(other)
        with configured("site", Delay(30)):
            started = time.monotonic()
            result = reach()
            assert (await result if reach in ASYNC_SITES else result) == WENT_ON
            assert time.monotonic() - started >= 0.029
        assert log == []


@every_site
async def test_break(reach: Reach, monkeypatch: pytest.MonkeyPatch) -> None:
    """`break` calls `breakpoint()`, and the site continues."""
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(sys, "breakpointhook", lambda *arguments: calls.append(arguments))
    for actions in ("break", Break()):
        with configured("site", actions):
            assert await reach() == WENT_ON
    assert calls == [(), ()]


# raise


class Refused(Exception):
    """An exception of the program."""


class Needy(Exception):
    """An exception that takes more than a message."""

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class Keyworded(Exception):
    """An exception that takes no positional argument."""

    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


class Slotted(Exception):
    """An exception that keeps what it was given in a slot."""

    __slots__ = ("code",)

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class Unavailable(OSError):
    """An `OSError` with its own `__new__` or `__init__`."""

    def __init__(self, path: str, code: int, extra: str) -> None:
        super().__init__(code, "unavailable", path)
        self.extra = extra


class Namesakes:
    """Exceptions that have the names of builtin ones."""

    class TimeoutError(Exception):
        """An exception that is not the builtin."""

    class Refused(Exception):
        """Another exception of that name."""


@every_site
@pytest.mark.parametrize(
    ("actions", "kind", "message"),
    [
        ("raise", InjectedFault, "injected by failpoint 'site'"),
        (Raise(), InjectedFault, "injected by failpoint 'site'"),
        ("raise(InjectedFault: by name)", InjectedFault, "by name"),
        ("raise(OSError)", OSError, "injected by failpoint 'site'"),
        ("raise(OSError: disk full)", OSError, "disk full"),
        ("raise(ConnectionResetError: a: b)", ConnectionResetError, "a: b"),
        ("raise(KeyboardInterrupt)", KeyboardInterrupt, "injected by failpoint 'site'"),
        (Raise(OSError), OSError, "injected by failpoint 'site'"),
        (Raise(OSError, "disk full"), OSError, "disk full"),
        (Raise(OSError("disk full")), OSError, "disk full"),
        (Raise(Refused), Refused, "injected by failpoint 'site'"),
        (Raise(Refused("no funds")), Refused, "no funds"),
        (Raise("LookupError", "by name"), LookupError, "by name"),
    ],
)
async def test_raise(reach: Reach, actions: Any, kind: type[BaseException], message: str) -> None:
    """`raise` raises the named exception, by default an `InjectedFault` with a message that names the failpoint."""
    with configured("site", actions), pytest.raises(kind) as caught:
        await reach()
    assert (type(caught.value), str(caught.value)) == (kind, message)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


@every_site
@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Refused", Refused),
        (f"{Refused.__module__}.Refused", Refused),
        ("Namesakes.Refused", Namesakes.Refused),
        (f"{Refused.__module__}.Namesakes.Refused", Namesakes.Refused),
        ("TimeoutError", Namesakes.TimeoutError),
        ("Namesakes.TimeoutError", Namesakes.TimeoutError),
        ("LookupError", LookupError),
    ],
)
async def test_raise_declared(reach: Reach, text: str, kind: type[Exception]) -> None:
    """Exceptions in `raises=` can be named, with or without dots, and take precedence over builtins."""
    with configured("site", f"raise({text}: disk full)"), pytest.raises(kind, match="^disk full$") as caught:
        await reach(raises=(Refused, Namesakes.Refused, Namesakes.TimeoutError))
    assert type(caught.value) is kind


@every_site
@pytest.mark.parametrize(
    ("text", "raises", "declared", "hint"),
    [
        ("Refusd", (Refused,), "Refused", "; did you mean 'Refused'?"),
        ("Refused", (), "nothing", ""),
        ("library.Qwxz", (Refused, Needy), "Refused, Needy", ""),
        ("ConectionError", (), "nothing", "; did you mean 'ConnectionError'?"),
        ("timeouterror", (Refused,), "Refused", "; did you mean 'TimeoutError'?"),
        ("len", (), "nothing", ""),
        ("int", (), "nothing", ""),
    ],
)
async def test_raise_undeclared(reach: Reach, text: str, raises: Any, declared: str, hint: str) -> None:
    """A name that is neither declared nor a builtin exception is a usage error that suggests the nearest name."""
    with configured("site", f"raise({text})"), pytest.raises(FailpointUsageError) as caught:
        await reach(raises=raises)
    assert str(caught.value) == (
        f"failpoint 'site' cannot raise {text}, which is neither a builtin exception nor declared at the site"
        f" (raises={declared}): declare it there, or pass Raise(…){hint}"
    )


@every_site
@pytest.mark.parametrize(
    ("actions", "name", "problem"),
    [
        ("raise(Needy: x)", "Needy", "missing 1 required positional argument: 'detail'"),
        ("raise(Keyworded)", "Keyworded", "positional argument"),
        (Raise(Needy), "Needy", "missing 1 required positional argument: 'detail'"),
        ("raise(UnicodeDecodeError)", "UnicodeDecodeError", "function takes exactly 5 arguments (1 given)"),
        (Raise(ExceptionGroup), "ExceptionGroup", "takes exactly 2 arguments (1 given)"),
    ],
)
async def test_raise_that_needs_more_than_a_message(reach: Reach, actions: Any, name: str, problem: str) -> None:
    """An exception that needs more than a message is a usage error that explains how to configure it."""
    with configured("site", actions), pytest.raises(FailpointUsageError) as caught:
        await reach(raises=(Needy, Keyworded))
    message = str(caught.value)
    assert message.startswith(f"failpoint 'site' cannot make {name} from a message alone (")
    assert problem in message
    assert message.endswith(f"); configure Raise({name}(…)) in Python")
    assert isinstance(caught.value.__cause__, TypeError)


def raised_by(error: BaseException) -> BaseException:
    """Return what a site raises that is configured to raise *error*."""
    with configured("site", Raise(error)), pytest.raises(type(error)) as caught:
        inline_sync()
    return caught.value


def caused(error: BaseException, cause: BaseException | None) -> BaseException:
    """Raise *error* from *cause* and return it, with its traceback."""
    try:
        raise error from cause
    except BaseException as raised:
        return raised


ATTRIBUTES = ("args", "code", "detail", "extra", "errno", "strerror", "filename", "name", "path", "obj", "value")

INSTANCES: list[BaseException] = [
    OSError("disk full"),
    FileNotFoundError(2, "No such file", "a.txt"),
    Needy(3, "no funds"),
    Keyworded(code=5),
    Slotted(7, "slot"),
    Unavailable("b.txt", 9, "extra"),
    KeyError("key"),
    AttributeError("no such", name="colour", obj=4),
    NameError("no such", name="colour"),
    ImportError("no such", name="module", path="module.py"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
    SystemExit(3),
    ExceptionGroup("group", [LookupError("one"), OSError("two")]),
    subprocess.CalledProcessError(2, ["false"], output="out", stderr="err"),
    Refused(),
    Refused("one", "two"),
]


@pytest.mark.parametrize("error", INSTANCES, ids=repr)
def test_raise_instance(error: BaseException) -> None:
    """`Raise(instance)` raises a new copy each time, with all attributes of the instance."""
    first, second = raised_by(error), raised_by(error)
    assert first is not error
    assert first is not second
    for copied in (first, second):
        assert type(copied) is type(error)
        assert (str(copied), repr(copied)) == (str(error), repr(error))
        assert vars(copied) == vars(error)
        shown = [getattr(copied, name, None) for name in ATTRIBUTES]
        assert shown == [getattr(error, name, None) for name in ATTRIBUTES]


def frames(traceback: TracebackType | None) -> Iterator[str]:
    """Yield the names of the functions of a traceback."""
    while traceback is not None:
        yield traceback.tb_frame.f_code.co_name
        traceback = traceback.tb_next


def test_raised_without_an_old_traceback() -> None:
    """Each copy has the cause but not the traceback or context of the instance, which is unchanged."""
    cause = LookupError("cause")
    for error in (caused(Refused("x"), cause), caused(Needy(1, "x"), cause)):
        before = error.__traceback__
        lengths = []
        for _ in range(3):
            copied = raised_by(error)
            assert copied.__cause__ is cause
            assert copied.__suppress_context__ is True
            assert copied.__context__ is None
            assert "caused" not in list(frames(copied.__traceback__))
            lengths.append(len(list(frames(copied.__traceback__))))
        assert len(set(lengths)) == 1
        assert error.__traceback__ is before
    assert raised_by(caused(Refused("x"), None)).__suppress_context__ is True
    assert raised_by(Refused("x")).__suppress_context__ is False


def test_notes_of_a_raised_instance() -> None:
    """Notes are copied with the instance. A note added to one copy does not appear on another."""
    error = Refused("x")
    error.add_note("kept")
    for _ in range(2):
        copied = raised_by(error)
        copied.add_note("added")
        assert copied.__notes__ == ["kept", "added"]
    assert error.__notes__ == ["kept"]


@pytest.mark.parametrize("slots", [False, True])
def test_raised_instance_of_a_frozen_dataclass(slots: bool) -> None:
    """A frozen dataclass is copied with its fields, cause and notes, although it refuses to have attributes set."""

    @dataclass(frozen=True, slots=slots)
    class Frozen(Exception):
        code: int

    cause = LookupError("cause")
    error = Frozen(7)
    vars(error)["__notes__"] = ["kept"]
    with contextlib.suppress(Frozen):
        raise error from cause
    copied = raised_by(error)
    assert type(copied) is Frozen
    assert copied is not error
    assert copied == error
    assert copied.__cause__ is cause
    assert copied.__notes__ == ["kept"]


# panic, exit


@every_site
@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ("panic", "injected by failpoint 'site'"),
        ("panic(out of luck)", "out of luck"),
        (Panic("out of luck"), "out of luck"),
        (Panic(), "injected by failpoint 'site'"),
    ],
)
async def test_panic(reach: Reach, actions: Any, message: str) -> None:
    """`panic` raises `FailpointPanic`, which `except Exception` does not catch."""
    seen: list[str] = []
    with configured("site", actions), pytest.raises(FailpointPanic) as caught:
        try:
            await reach()
        except Exception:
            seen.append("Exception")
    assert str(caught.value) == message
    assert not isinstance(caught.value, Exception)
    assert seen == []


PROGRAM = """
    import atexit, sys
    import anyio
    from failpoints import failpoint, failpoint_scope

    async def inline():
        await failpoint("site")

    @failpoint("site")
    async def decorated(): ...

    async def scope():
        async with failpoint_scope("site"): ...

    async def inline_sync():
        failpoint("site").hit()

    async def in_thread():
        await anyio.to_thread.run_sync(failpoint("site").hit)

    atexit.register(print, "atexit", flush=True)
    print("before", flush=True)
    sys.stdout.write("not flushed")
    try:
        anyio.run(globals()[sys.argv[1]], backend=sys.argv[2])
    finally:
        print("finally", flush=True)
"""


@pytest.mark.parametrize(
    ("site", "backend", "actions", "status"),
    [
        ("inline", "asyncio", "exit", 1),
        ("inline", "trio", "exit(3)", 3),
        ("decorated", "asyncio", "exit(0)", 0),
        ("scope", "trio", "exit(255)", 255),
        ("inline_sync", "asyncio", "exit(7)", 7),
        ("in_thread", "trio", "exit(8)", 8),
        ("inline", "asyncio", "panic", 1),
    ],
)
def test_exit(site: str, backend: str, actions: str, status: int) -> None:
    """`exit` ends the process at once with its status, without `finally`, `atexit` or flushing."""
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), site, backend],
        env={"FAILPOINTS": f"site={actions}", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == status, ended.stderr
    if actions == "panic":
        assert ended.stdout == "before\nnot flushedfinally\natexit\n"
    else:
        assert ended.stdout == "before\n"
        assert f"failpoint 'site' ended the process with exit status {status}, at " in ended.stderr


# Call


@every_site
async def test_call(reach: Reach) -> None:
    """`Call` calls its function with the `Hit`, and the site continues if it returns None."""
    hits: list[Hit] = []
    with configured("site", Call(hits.append)):
        assert await reach(context={"shard": 3}) == WENT_ON
    assert hits == [Hit("site", {"shard": 3})]


@every_async_site
async def test_call_async(reach: Reach) -> None:
    """In async code an awaitable that the function returns is awaited."""
    hits: list[Hit] = []

    async def function(hit: Hit) -> Return:
        await anyio.lowlevel.checkpoint()
        hits.append(hit)
        return Return("awaited")

    with configured("site", Call(function)):
        assert await reach() == "awaited"
    assert hits == [Hit("site", {})]


async def noting(hit: Hit) -> None:
    """Do nothing in an async function."""


class AsyncCallable:
    """An object whose call is async."""

    async def __call__(self, hit: Hit) -> None:
        """Do nothing in an async function."""


class Awaited:
    """An awaitable that is not a coroutine."""

    def __await__(self) -> Iterator[Any]:
        yield from ()


@pytest.mark.parametrize(
    ("function", "described"),
    [(noting, "noting"), (lambda hit: Awaited(), "<lambda>"), (lambda hit: noting(hit), "<lambda>")],
)
@every_sync_site
@pytest.mark.filterwarnings("error")
def test_call_async_at_a_sync_site(visit: Callable[..., Any], function: Any, described: str) -> None:
    """At a sync site an async function is a usage error, without a warning about an unawaited coroutine."""
    where = {inline_sync: "inline_sync", decorated_sync: "decorated_sync.<locals>.function"}.get(
        visit, "scope_sync.<locals>.function"
    )
    with configured("site", Call(function)), pytest.raises(FailpointUsageError) as caught:
        visit()
    gc.collect()
    assert str(caught.value) == (
        f"failpoint 'site' calls the async {described} in the sync {where}: give Call a sync function, or make the"
        " site async"
    )


@every_site
@pytest.mark.parametrize(
    ("action", "result"),
    [
        (Return(1), 1),
        (Return("1"), "1"),
        (Off(), WENT_ON),
        (Print("called"), WENT_ON),
        (Sleep(1), WENT_ON),
        (Delay(1), WENT_ON),
        (Yield(), WENT_ON),
        (Call(lambda hit: Return(hit.name)), "site"),
        (Call(lambda hit: Call(lambda hit: Return(hit.name))), "site"),
    ],
)
async def test_call_that_returns_an_action(reach: Reach, action: Action, result: object) -> None:
    """An action that the function returns is performed as if it had been configured."""
    with configured("site", Call(lambda hit: action)) as handle:
        assert await reach() == result
        assert (handle.hits, handle.triggers) == (1, 1)


@every_site
@pytest.mark.parametrize(
    ("action", "kind"),
    [
        (Raise(OSError), OSError),
        (Raise("Refused"), Refused),
        (Panic(), FailpointPanic),
        (Pause(1), FailpointTimeout),
    ],
)
async def test_call_that_returns_a_failure(reach: Reach, action: Action, kind: type[BaseException]) -> None:
    """An action that fails raises the same error when the function returns it as when it is configured."""
    with configured("site", Call(lambda hit: action)), pytest.raises(kind):
        await reach(raises=(Refused,))


@every_site
async def test_call_that_returns_a_pause(reach: Reach) -> None:
    """A pause that the function returns is counted as waiting, and ends when resumed."""
    results: list[Any] = []

    async def run() -> None:
        results.append(await reach(context={"shard": 3}))

    with configured("site", Call(lambda hit: Pause())) as handle:
        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await handle.wait_paused()
            assert [waiting.context for waiting in handle.waiting] == [{"shard": 3}]
            assert results == []
            assert handle.resume() == 1
        assert handle.waiting == ()
    assert results == [WENT_ON]


@every_async_site
async def test_call_that_reconfigures(reach: Reach) -> None:
    """A pause does not wait if the function that returns it has removed the failpoint."""

    def function(hit: Hit) -> Pause:
        remove("site")
        return Pause()

    with configured("site", Call(function)):
        assert await reach() == WENT_ON


@every_sync_site
async def test_call_that_returns_a_pause_on_the_thread_of_a_loop(visit: Callable[..., Any]) -> None:
    """A pause returned at a sync site in an event loop's thread is a usage error, like a configured one."""
    with (
        configured("site", Call(lambda hit: Pause())),
        pytest.raises(FailpointUsageError, match="on the thread of an event loop, which it would block"),
    ):
        visit()


@every_site
@pytest.mark.parametrize("result", [1, "return(1)", True, Continue(), Term(Off()), [Return(1)], Return])
async def test_call_that_returns_anything_else(reach: Reach, result: object) -> None:
    """Any other return value of the function is a usage error that shows the value."""

    def function(hit: Hit) -> object:
        return result

    with configured("site", Call(function)), pytest.raises(FailpointUsageError) as caught:
        await reach()
    assert str(caught.value) == (
        f"failpoint 'site' called {function.__qualname__}, which must return an action or None; it returned {result!r}"
    )


@every_site
async def test_call_that_raises(reach: Reach) -> None:
    """The site raises what the function raises."""
    with configured("site", Call(lambda hit: {}[hit.name])), pytest.raises(KeyError, match="'site'"):
        await reach()


@every_async_site
async def test_call_of_a_callable_object(reach: Reach) -> None:
    """`Call` accepts any callable."""
    with configured("site", Call(AsyncCallable())) as handle:
        assert await reach() == WENT_ON
        assert handle.triggers == 1


# terms


@every_site
async def test_terms_in_order(reach: Reach) -> None:
    """Terms trigger in order, each up to its count. After the last one nothing triggers."""
    with configured("site", "2*off->1*return(a)->2*return(b)") as handle:
        assert [await reach() for _ in range(7)] == [WENT_ON, WENT_ON, "a", "b", "b", WENT_ON, WENT_ON]
        assert (handle.hits, handle.triggers) == (7, 5)


@every_site
async def test_terms_in_python(reach: Reach) -> None:
    """In Python, terms are a sequence of actions and `Term` objects. A last one without a count never ends."""
    with configured("site", [Term(Return("a"), times=2), Term(Return("never"), probability=0.0), Return("b")]):
        assert [await reach() for _ in range(4)] == ["a", "a", "b", "b"]


@every_site
async def test_terms_that_differ(reach: Reach) -> None:
    """A term of one action can be followed by one of any other."""
    with configured("site", "1*print->1*raise(OSError)->1*pause(1)->return(end)"):
        assert await reach() == WENT_ON
        with pytest.raises(OSError, match="injected"):
            await reach()
        with pytest.raises(FailpointTimeout):
            await reach()
        assert await reach() == "end"


@every_site
async def test_chances(reach: Reach) -> None:
    """The same seed gives the same random draws, some of which trigger."""

    async def drawn() -> list[Any]:
        seed(7)
        with configured("site", "50%3*return(a)->50%return(b)"):
            return [await reach() for _ in range(30)]

    first = await drawn()
    assert await drawn() == first
    assert first.count("a") == 3
    assert {"a", "b", WENT_ON} == set(first)


@every_site
@pytest.mark.parametrize(
    ("text", "expected"), [("0%return(a)", WENT_ON), ("100%return(a)", "a"), ("100%2*return(a)", "a")]
)
async def test_certain_chances(reach: Reach, text: str, expected: str) -> None:
    """0% never triggers, and 100% always does."""
    with configured("site", text):
        assert [await reach() for _ in range(2)] == [expected] * 2


@every_site
async def test_misses_use_up_nothing(reach: Reach) -> None:
    """A visit whose context does not match does not use up a count."""
    with configured("site", "1*return(a)", context={"shard": 3}) as handle:
        results = [await reach(context={"shard": shard}) for shard in (1, 2, 3, 3)]
        assert results == [WENT_ON, WENT_ON, "a", WENT_ON]
        assert (handle.hits, handle.misses, handle.triggers) == (2, 2, 1)
