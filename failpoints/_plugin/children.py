"""The processes that this one starts: how many, and what the forked ones hit. Imports no pytest.

A forked process has what is configured at that moment. It reports a hit through memory that it shares with this one:
one byte for each configuration, made when a process is forked, so that it costs nothing while none is. Any other
process has a configuration of its own, from its environment, and its hits are not known here.
"""

from __future__ import annotations

import functools
import mmap
import os
import re
import sys
import weakref
from collections.abc import Iterable
from typing import Any, Final, NamedTuple, cast

import wrapt

from .._core.actions import Action
from .._core.configuration import Configuration
from .._core.formatting import format_actions
from .._core.grammar import parse_entries
from .._core.hooks import observers
from .._core.messages import safe_repr
from .._core.store import PROCESS_STORE
from ..errors import FailpointError, FailpointUsageError

_EVENTS: Final = frozenset({"subprocess.Popen", "os.posix_spawn", "os.spawn", "os.system"})


class Started(NamedTuple):
    """How many processes this one has started, with and without a fork of its own."""

    forked: int = 0
    otherwise: int = 0

    def since(self, before: Started) -> Started:
        """Return how many were started after *before*."""
        return Started(self.forked - before.forked, self.otherwise - before.otherwise)


_started = Started()
_followed = False
_processes: Final[weakref.WeakKeyDictionary[Any, int]] = weakref.WeakKeyDictionary()  # of multiprocessing, in order


def started() -> Started:
    """Return how many processes were started since `follow_children` was first called."""
    return _started


def follow_children() -> None:
    """Count the processes that this one starts from now on, and let the forked ones report their hits."""
    global _followed
    if _followed:
        return
    _followed = True
    sys.addaudithook(_audit)
    if hasattr(os, "register_at_fork"):  # Windows has no fork
        os.register_at_fork(before=_before_fork, after_in_child=_in_child)
    wrapt.register_post_import_hook(_follow_multiprocessing, "multiprocessing.process")


def _audit(event: str, _: tuple[Any, ...]) -> None:
    if event in _EVENTS and not (event == "os.posix_spawn" and _caller() == "subprocess"):  # which has its own event
        _count(otherwise=1)


def _caller() -> object:
    """Return the module that called what called the hook."""
    return sys._getframe(2).f_globals.get("__name__")  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001


def _count(*, forked: int = 0, otherwise: int = 0) -> None:
    global _started
    _started = Started(_started.forked + forked, _started.otherwise + otherwise)


def _follow_multiprocessing(process: Any) -> None:
    """Count what `multiprocessing` starts by spawn and forkserver, for which Python has no audit event."""
    original = process.BaseProcess.start

    @functools.wraps(original)
    def start(self: Any) -> None:
        before = _started.forked
        original(self)
        if _started.forked == before:
            _count(otherwise=1)
        _processes[self] = sum(_started)

    process.BaseProcess.start = start


def _before_fork() -> None:
    caller = _caller()
    if caller == "subprocess":  # which has an audit event, and forks only to start another program
        return
    if caller == "os":  # os.spawnv and the like, which do the same
        _count(otherwise=1)
        return
    _count(forked=1)
    new = [configuration for configuration in PROCESS_STORE.configurations() if configuration.hit_in_child is None]
    if new:
        memory = memoryview(mmap.mmap(-1, len(new)))
        for index, configuration in enumerate(new):
            configuration.hit_in_child = memory[index : index + 1]


def _in_child() -> None:
    if _report not in observers:
        observers.append(_report)


def _report(configuration: Configuration, action: Action | None, matched: bool) -> None:
    if matched and configuration.hit_in_child is not None:
        configuration.hit_in_child[0] = 1


def was_hit(configuration: Configuration) -> bool:
    """Return whether this process, or another one that is known, has hit the failpoint."""
    PROCESS_STORE.refresh([configuration])
    flag = configuration.hit_in_child
    return configuration.hits > 0 or configuration.elsewhere.hits > 0 or (flag is not None and flag[0] > 0)


def still_running(before: Started) -> int:
    """Return how many processes of `multiprocessing` are running that were started before *before*."""
    if "multiprocessing" not in sys.modules:
        return 0
    from multiprocessing import active_children

    return sum(_processes.get(process, 0) <= sum(before) for process in active_children())


def environment_text(configurations: Iterable[Configuration]) -> tuple[str, list[str]]:
    """Return the value of `FAILPOINTS` that configures the same in another process, and the names that have no text."""
    entries: list[str] = []
    without_text: list[str] = []
    for configuration in configurations:
        try:
            matchers = [f"{key}={_pattern(value)}" for key, value in configuration.matchers.given.items()]
            context = f"[{','.join(matchers)}]" if matchers else ""
            entry = f"{configuration.name}{context}={format_actions(configuration.terms)}"
            parse_entries(entry, "FAILPOINTS")
        except FailpointError:  # a predicate, a `Call`, or a key that is not a word
            without_text.append(configuration.name)
        else:
            entries.append(entry)
    return ";".join(entries), without_text


def _pattern(matcher: Any) -> str:
    """Return a matcher as a quoted pattern. A value that is not a text is compared by its text in the other process."""
    if isinstance(matcher, re.Pattern):
        compiled = cast("re.Pattern[str]", matcher)
        flags = compiled.flags & ~re.UNICODE
        pattern = compiled.pattern if isinstance(compiled.pattern, str) and not flags else None
    elif isinstance(matcher, str):
        pattern = str.__str__(matcher)
    else:
        pattern = re.escape(str(matcher)) if isinstance(matcher, (int, float)) else None
    if pattern is None:
        raise FailpointUsageError(f"{safe_repr(cast(object, matcher))} has no text")
    escaped = pattern.replace("\\", "\\\\").replace('"', '\\"')
    is_plain = re.fullmatch(r"[\w.*+?|^$:@/-]+", pattern)
    return pattern if is_plain else f'"{escaped}"'
