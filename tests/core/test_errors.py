"""The exceptions: their bases, messages and attributes, and invalid names."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import failpoints
from failpoints import (
    ActionSyntaxError,
    FailpointCancelled,
    FailpointError,
    FailpointNameError,
    FailpointPanic,
    FailpointStatus,
    FailpointTimeout,
    FailpointUsageError,
    FleetTimeout,
    InjectedFault,
    configure,
    configure_all,
    configured,
    errors,
    failpoint,
    failpoint_scope,
    parse_actions,
    remove,
    resume,
    status,
    statuses,
    wait_until_hit,
    wait_until_paused,
)
from failpoints.errors import pointed_at

TREE = {
    FailpointError: (Exception,),
    ActionSyntaxError: (FailpointError, ValueError),
    FailpointNameError: (FailpointError, ValueError),
    FailpointUsageError: (FailpointError, RuntimeError),
    FailpointCancelled: (FailpointError,),
    FailpointTimeout: (FailpointError, TimeoutError),
    InjectedFault: (Exception,),
    FleetTimeout: (FailpointTimeout,),
    FailpointPanic: (BaseException,),
}


@pytest.mark.parametrize(("kind", "bases"), TREE.items())
def test_tree(kind: type[BaseException], bases: tuple[type[BaseException], ...]) -> None:
    """Every exception has the bases shown in the tree of the `failpoints.errors` docstring."""
    assert kind.__bases__ == bases
    outside = [base.__name__ for base in bases if base.__module__ == "builtins"]
    drawn = f"{kind.__name__}({', '.join(outside)})" if outside else f"{kind.__name__} "
    assert errors.__doc__ is not None
    assert drawn in errors.__doc__


def test_exported() -> None:
    """`failpoints` and `failpoints.errors` export all exceptions and no others."""
    names = sorted(kind.__name__ for kind in TREE)
    assert sorted(errors.__all__) == names
    assert all(getattr(failpoints, name) is getattr(errors, name) for name in names)
    assert set(names) <= set(failpoints.__all__)
    exported = [getattr(failpoints, name) for name in failpoints.__all__]
    assert {thing for thing in exported if isinstance(thing, type) and issubclass(thing, BaseException)} == set(TREE)


def test_injected_exceptions_are_not_failpoint_errors() -> None:
    """`InjectedFault` is not a `FailpointError`, and `FailpointPanic` is not an `Exception`."""
    assert not issubclass(InjectedFault, FailpointError)
    assert not issubclass(FailpointPanic, Exception)


INSTANCES = [
    ActionSyntaxError("retrun", 0, "expected an action"),
    ActionSyntaxError("a=\ud800", 2, "expected an action", "FAILPOINTS"),
    FailpointNameError("a failpoint's name cannot be empty"),
    FailpointUsageError("a seed is an int"),
    FailpointCancelled("backup"),
    FailpointTimeout("failpoint 'backup' had not been hit"),
    FailpointTimeout("failpoint 'backup' had not been hit", FailpointStatus("backup", misses=1, last_miss={"a": 1})),
    InjectedFault("injected"),
    FailpointPanic("msg"),
    FailpointError("x"),
]


@pytest.mark.parametrize("error", INSTANCES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    "again",
    [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))],
    ids=["copy", "deepcopy", "pickle"],
)
def test_round_trip(error: BaseException, again: Callable[[BaseException], BaseException]) -> None:
    """Copying or pickling an error keeps its text and attributes."""
    other = again(error)
    assert type(other) is type(error)
    assert str(other) == str(error)
    assert other.args == error.args
    assert vars(other) == vars(error)


def test_syntax_error() -> None:
    """An `ActionSyntaxError` has the problem, its source and its position."""
    error = ActionSyntaxError("a=retrun", 2, "expected an action", "FAILPOINTS")
    assert (error.text, error.position, error.problem, error.source) == (
        "a=retrun",
        2,
        "expected an action",
        "FAILPOINTS",
    )
    assert str(error) == "FAILPOINTS: expected an action\n    a=retrun\n      ^"
    error = ActionSyntaxError("retrun", 0, "expected an action")
    assert error.source is None
    assert str(error) == "expected an action\n    retrun\n    ^"


def test_cancelled() -> None:
    """A `FailpointCancelled` has the name of its failpoint."""
    error = FailpointCancelled("backup:after")
    assert error.name == "backup:after"
    assert str(error) == "the cancel event ended the wait at failpoint 'backup:after'"


@pytest.mark.anyio
async def test_caught_as_builtin_exceptions() -> None:
    """Each error can be caught as its builtin base class."""
    with pytest.raises(ValueError, match="expected an action"):
        parse_actions("retrun")
    with pytest.raises(TimeoutError, match="failpoint 'backup'"), configured("backup", "pause(0)"):
        await failpoint("backup")
    with pytest.raises(RuntimeError, match="is not configured"):
        await wait_until_hit("backup")
    await anyio.lowlevel.checkpoint()
    with pytest.raises(Exception, match="injected by failpoint 'backup'") as caught, configured("backup", "raise"):
        await failpoint("backup")
    assert type(caught.value) is InjectedFault


@pytest.mark.anyio
async def test_cancelled_at_a_site() -> None:
    """At a decorated function or a scope, the cancel event raises `FailpointCancelled` with the failpoint's name."""
    event = anyio.Event()
    event.set()

    @failpoint("backup", cancel=event)
    async def function() -> None: ...

    with configured("backup", "pause"):
        with pytest.raises(FailpointCancelled) as caught:
            await function()
        assert caught.value.name == "backup"
    with configured("backup:after", "pause"), pytest.raises(FailpointCancelled) as caught:
        async with failpoint_scope("backup", cancel=event):
            pass
    assert caught.value.name == "backup:after"


# The caret.


@pytest.mark.parametrize(
    ("text", "position", "shown"),
    [
        ("", 0, ["", "^"]),
        ("abc", 0, ["abc", "^"]),
        ("abc", 3, ["abc", "   ^"]),
        ("a" * 60, 0, ["a" * 60, "^"]),
        ("a" * 61, 0, ["a" * 60 + "…", "^"]),
        ("a" * 60, 60, ["a" * 60, " " * 60 + "^"]),
        ("b" + "a" * 60, 61, ["…" + "a" * 60, " " * 61 + "^"]),
        ("b" * 100 + "a" * 120 + "b" * 100, 160, ["…" + "a" * 120 + "…", " " * 61 + "^"]),
        ("a\nb\tc", 4, ["a�b�c", "    ^"]),
        ("\x00\x1b[31m\ud800\u200b", 6, ["��[31m��", "      ^"]),
        ("é☃😀x", 3, ["é☃😀x", "   ^"]),
    ],
)
def test_caret(text: str, position: int, shown: list[str]) -> None:
    """The caret is under the position, and long texts are shortened around it."""
    assert pointed_at(text, position).split("\n") == [f"    {line}" for line in shown]


# Names.

GOOD_NAMES = ["a", "gateway.charge:after", "a::b", "a/wait", "%", "ü-☃", "a" * 1000, "(x)", "->", "'", "0", ":after"]
BAD_CHARACTERS = [" ", "\t", "\n", "\x0b", "\x00", "\x7f", "\x85", "\xa0", "\u2028", "\u3000", "\u200b", "\ufeff"]
BAD_CHARACTERS += ["\ud800", "\xad", "\U000e0001", "=", ";"]
BAD_NAMES = ["", *BAD_CHARACTERS, *[f"a{character}b" for character in BAD_CHARACTERS], " a", "a "]


def call_configure(name: Any) -> None:
    configure(name, "off")


def call_configure_all(name: Any) -> None:
    configure_all([("good", "off"), (name, "off")])


def call_configured(name: Any) -> None:
    with configured(name, "off"):
        pytest.fail("the block was entered")


def decorate(name: Any) -> None:
    failpoint(name)(call_configure)


def visit(name: Any) -> None:
    with configured("other", "off"):
        failpoint(name).hit()


def enter(name: Any) -> None:
    with configured("other", "off"), failpoint_scope(name):
        pytest.fail("the block was entered")


TAKERS = [call_configure, call_configure_all, call_configured, remove, resume, status, decorate, visit, enter]


@pytest.mark.parametrize("take", TAKERS)
@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
def test_bad_name(take: Callable[[Any], object], name: str) -> None:
    """A name that is empty, not printable, or contains white space, `=` or `;` is refused everywhere."""
    with pytest.raises(FailpointNameError) as caught:
        take(name)
    assert isinstance(caught.value, ValueError)
    assert repr(name) in str(caught.value) or not name
    assert str(caught.value).encode()
    assert statuses() == []


@pytest.mark.anyio
@pytest.mark.parametrize("wait", [wait_until_hit, wait_until_paused])
async def test_bad_name_in_a_wait(wait: Callable[[Any], Any]) -> None:
    """Waiting for an invalid name raises an error at once."""
    with pytest.raises(FailpointNameError):
        await wait("a b")
    with pytest.raises(FailpointNameError):
        await wait(None)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "a failpoint's name cannot be empty"),
        (
            "a b",
            "a failpoint's name must be printable, without white space, '=', ';', '[' or ']'; got 'a b'\n"
            "    a b\n     ^",
        ),
        (
            "a[x=1]",
            "a failpoint's name must be printable, without white space, '=', ';', '[' or ']'; got 'a[x=1]'\n"
            "    a[x=1]\n     ^",
        ),
        (
            "a]",
            "a failpoint's name must be printable, without white space, '=', ';', '[' or ']'; got 'a]'\n    a]\n     ^",
        ),
        (
            "a\nb",
            "a failpoint's name must be printable, without white space, '=', ';', '[' or ']'; got 'a\\nb'\n"
            "    a�b\n     ^",
        ),
        (
            "backup=off",
            (
                "a failpoint's name must be printable, without white space, '=', ';', '[' or ']'; got 'backup=off'\n"
                "    backup=off\n          ^"
            ),
        ),
        (None, "a failpoint's name must be a str; got None"),
        (3, "a failpoint's name must be a str; got 3"),
        (b"a", "a failpoint's name must be a str; got b'a'"),
    ],
)
@pytest.mark.parametrize("take", TAKERS)
def test_bad_name_text(take: Callable[[Any], object], name: Any, message: str) -> None:
    """The message describes a valid name and points at the first wrong character."""
    with pytest.raises(FailpointNameError) as caught:
        take(name)
    assert str(caught.value) == message


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_good_name(name: str) -> None:
    """Any other text is a valid name, even with special characters of paths and patterns."""
    with configured(name, "off"):
        assert status(name).name == name
    if not name.endswith(":after"):
        with configured(name, "return") as handle:
            assert failpoint(name).hit()
            assert handle.hits == 1


@pytest.mark.parametrize("take", [decorate, visit, enter])
@pytest.mark.parametrize("name", ["backup:after", "backup:after:after", ":after"])
def test_a_site_name_must_not_end_in_after(take: Callable[[Any], object], name: str) -> None:
    """A site cannot be declared with a name that ends in `:after`."""
    with pytest.raises(FailpointError, match=r"names ending in ':after' are reserved"):
        take(name)


def test_a_site_name_must_not_end_in_after_text() -> None:
    """The message explains `:after` and shows the name to declare."""
    with pytest.raises(FailpointUsageError) as caught:
        decorate("backup:after")
    assert str(caught.value) == (
        "failpoint 'backup:after': names ending in ':after' are reserved for decorated functions and scopes;"
        " declare 'backup'"
    )


@pytest.mark.parametrize("kind", [failpoint, failpoint_scope])
def test_no_name(kind: Any) -> None:
    """Without a name, a site raises an error that shows how to write it."""
    with pytest.raises(FailpointUsageError) as caught:
        kind()
    assert str(caught.value) == f'{kind.__name__} needs a name first: write {kind.__name__}("some.name")'
    with pytest.raises(FailpointUsageError) as caught:
        kind(call_configure)
    assert str(caught.value) == (
        f'{kind.__name__} needs a name first: write {kind.__name__}("some.name"), above call_configure'
    )


@pytest.mark.parametrize(
    ("kind", "known"),
    [
        (failpoint, "context, raises, convert, cancel, reads, writes"),
        (failpoint_scope, "context, raises, cancel, reads, writes"),
    ],
)
def test_unknown_option(kind: Any, known: str) -> None:
    """The message for an option that a site does not have suggests the right one, and lists all."""
    with pytest.raises(TypeError) as caught:
        kind("backup", contxt={})
    assert str(caught.value) == f"{kind.__name__}() has no option 'contxt'; did you mean 'context'? (it has: {known})"


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (failpoint, "context raises convert cancel reads writes"),
        (failpoint_scope, "context raises cancel reads writes"),
    ],
)
def test_signature(kind: Any, options: str) -> None:
    """`help()` and `inspect.signature` show a name and the options."""
    name, *others = inspect.signature(kind).parameters.values()
    assert (name.name, name.kind, name.default) == ("name", name.POSITIONAL_ONLY, name.empty)
    assert [(other.name, other.kind) for other in others] == [(each, name.KEYWORD_ONLY) for each in options.split()]


@pytest.mark.parametrize(
    ("name", "actions", "context"), [("a b", "off", None), ("a", "retrun", None), ("a", "off", {"key": "("})]
)
def test_configure_errors_are_failpoint_errors_and_value_errors(
    name: str, actions: str, context: dict[str, str] | None
) -> None:
    """Errors of `configure` are `FailpointError`s and `ValueError`s, and nothing is configured."""
    with pytest.raises(FailpointError) as caught:
        configure(name, actions, context=context)
    assert isinstance(caught.value, ValueError)
    assert statuses() == []
