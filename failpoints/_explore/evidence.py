"""Looks for what makes a scenario nondeterministic, by running it again under observation."""

from __future__ import annotations

import itertools
import socket
import sys
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType, FunctionType, ModuleType
from typing import Any, Final, TypeAlias, cast

from .._core.declared import is_installed, is_user_file
from .._core.messages import safe_repr
from .plan.search import Plan
from .runner import Runner
from .steering import clock
from .threads import busy_threads
from .user_frames import frame_location, is_user_frame

_MAX_CAUSES = 6
_MAX_DEPTH = 4  # of the values that are compared
_MAX_SIZE = 200  # of a container that is compared
_MAX_VALUES = 50_000  # that are compared
_PLAIN: Final = {int, float, complex, bool, str, bytes, type(None)}

# What a call of a function written in C is evidence of, if a line of the program makes it itself.
_DIRECT: Final = {
    "the time is read": {
        *("time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns", "time.perf_counter"),
        *("time.perf_counter_ns", "time.localtime", "time.gmtime", "time.ctime", "time.strftime"),
        *("datetime.now", "datetime.utcnow", "datetime.today", "date.today"),
    },
    "the address of an object is read": {"builtins.id"},
    "random bytes are read from the operating system": {"posix.urandom", "nt.urandom", "posix.getrandom"},
}
# And if a module of Python makes it, such as `subprocess` or `pathlib`.
_INDIRECT: Final = {
    "a thread is started": {"_thread.start_new_thread", "_thread.start_joinable_thread"},
    "a process is started": {
        *("_posixsubprocess.fork_exec", "posix.posix_spawn", "posix.posix_spawnp", "posix.fork"),
        "_winapi.CreateProcess",
    },
    "a socket is used": {"socket.connect", "socket.connect_ex", "socket.accept", "socket.recv", "socket.recv_into"},
    "a folder is listed": {"posix.listdir", "posix.scandir", "nt.listdir", "nt.scandir"},
    "a file is opened": {"_io.open", "io.open", "posix.open", "nt.open"},
    "a database is opened": {"_sqlite3.connect", "sqlite3.connect"},
}
_EVIDENCE: Final = {call: text for table in (_DIRECT, _INDIRECT) for text, calls in table.items() for call in calls}
# What these modules call is not.
_NOT_EVIDENCE: Final = ("importlib", "linecache", "logging", "traceback", "trio._core._wakeup_socketpair", "warnings")

Values: TypeAlias = dict[str, Any]


def likely_causes(runner: Runner, plan: Plan) -> list[str]:
    """Repeat a run, and the first one, and describe what the scenario did that may differ from run to run.

    A fault may keep the scenario from what it does without one.
    """
    plans = [Plan({}, [], None), plan]
    observer = _Observer()
    with observer.observing():
        outcomes = [runner.run(runner.scheduler(each)) for each in plans]
    causes = [*observer.causes, *(f"the thread {thread.name} is at work" for thread in busy_threads())]
    if not any(outcome.problem is not None and outcome.problem.kind == "hang" for outcome in outcomes):
        before = _snapshot(runner.scenario, observer.modules)
        for each in plans:
            runner.run(runner.scheduler(each))
        causes = [*_changes(before, _snapshot(runner.scenario, observer.modules)), *causes]
    return causes[:_MAX_CAUSES]


class _Observer:
    """A profiler that looks at the calls of functions written in C, and at the modules whose functions run."""

    def __init__(self) -> None:
        self.causes: dict[str, None] = {}
        self.modules: dict[str, Mapping[str, Any]] = {}

    @contextmanager
    def observing(self) -> Generator[None]:
        before = sys.getprofile()
        sys.setprofile(self._profile)
        try:
            yield
        finally:
            sys.setprofile(before)

    def _profile(self, frame: FrameType, event: str, called: Any) -> None:
        if event == "call":
            name = str(frame.f_globals.get("__name__"))
            if name not in self.modules and _is_own_module(frame.f_globals):
                self.modules[name] = frame.f_globals
        elif event == "c_call":
            name = _name_of(called)
            if frame.f_globals.get("__name__") == clock.__name__ and frame.f_back is not None:
                frame = frame.f_back  # which calls a function that is replaced
            if name in _EVIDENCE:
                self._add(_EVIDENCE[name], name, frame, getattr(called, "__self__", None))

    def _add(self, text: str, name: str, frame: FrameType, owner: object) -> None:
        is_direct = text in _DIRECT
        if is_direct and not _is_own_module(frame.f_globals):
            return
        caller: FrameType | None = frame
        while caller is not None and not is_user_frame(caller):
            module = str(caller.f_globals.get("__name__"))
            if module.startswith(_NOT_EVIDENCE) or caller.f_code.co_name == "_read_from_self":
                return
            caller = None if caller.f_code is likely_causes.__code__ else caller.f_back
        thread = frame.f_locals.get("self") if text == "a thread is started" else None
        if isinstance(thread, threading.Thread):
            text = f"the thread {thread.name} is started"
        if isinstance(owner, socket.socket):
            text = f"the socket with the file descriptor {owner.fileno()} is used"
        where = f", at {frame_location(caller)}" if caller is not None else ""
        self.causes[f"{text} ({name}){where}" if is_direct else f"{text}{where}"] = None


def _name_of(called: Any) -> str:
    """Return the name of a function written in C, with its module or class."""
    owner = getattr(called, "__self__", None)
    if isinstance(owner, ModuleType):
        return f"{owner.__name__}.{called.__name__}"
    return getattr(called, "__qualname__", "")


# The globals


def _snapshot(scenario: object, modules: Mapping[str, Mapping[str, Any]]) -> Values:
    """Return what the globals of modules, and the variables around the scenario, contain: by names for messages."""
    values: Values = {}
    reader = _Reader()
    for module, namespace in modules.items():
        for name, value in list(namespace.items()):
            if not name.startswith("__") and not isinstance(value, (ModuleType, FunctionType)):
                values[f"the global {name} of {module}"] = reader.contents(value)
    for name, value in _variables_around(scenario, _MAX_DEPTH):
        values[f"the variable {name} outside the scenario"] = reader.contents(value)
    return values


def _variables_around(function: object, depth: int) -> Iterator[tuple[str, object]]:
    """Generate the variables that a function has from the functions around it, and those that these variables have."""
    if not isinstance(function, FunctionType) or not depth:
        return
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            value: object = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
        if isinstance(value, FunctionType):
            yield from _variables_around(value, depth - 1)
        else:
            yield name, value


class _Reader:
    """Reads what values contain, without running code of their classes, and only so much of it."""

    def __init__(self) -> None:
        self._left = _MAX_VALUES

    def contents(self, value: Any, depth: int = _MAX_DEPTH) -> Any:
        """Return something that is equal for the same contents."""
        kind = cast(Any, type(value))
        self._left -= 1
        if kind in _PLAIN:
            return value
        if kind is itertools.count:
            return repr(value)
        if not depth or self._left < 0:
            return kind.__qualname__
        if kind in (list, tuple, deque, set, frozenset):
            return kind.__name__, len(value), [self.contents(each, depth - 1) for each in _first(value)]
        attributes = value if kind is dict else _attributes(value)
        if attributes is None:
            return kind.__qualname__
        items = [(self.contents(name, 0), self.contents(each, depth - 1)) for name, each in _first(attributes.items())]
        return kind.__qualname__, len(attributes), items


def _attributes(value: Any) -> Mapping[str, Any] | None:
    """Return the attributes of an instance of the program's own classes, or of one of these classes."""
    kind: type = value if isinstance(value, type) else type(value)
    if not _is_own_module(vars(sys.modules.get(kind.__module__, sys))):
        return None
    try:
        attributes: Any = vars(value) if kind is value else object.__getattribute__(value, "__dict__")
    except AttributeError:  # it has slots
        return None
    return {name: each for name, each in attributes.items() if not name.startswith("__") and not callable(each)}


def _is_own_module(namespace: Mapping[str, Any]) -> bool:
    """Return whether a module, given by its globals, belongs to the program and not to a library."""
    file = namespace.get("__file__")
    if not isinstance(file, str):
        return namespace.get("__name__") == "__main__"
    return is_user_file(file) and not is_installed(file)


def _first(elements: Iterable[Any]) -> list[Any]:
    return list(itertools.islice(tuple(elements), _MAX_SIZE))


def _changes(before: Values, after: Values) -> list[str]:
    """Describe the variables that a run has changed."""
    return [
        f"{name} changes{_shown(before.get(name), value)}"
        for name, value in after.items()
        if name not in before or before[name] != value
    ]


def _shown(before: object, after: object) -> str:
    if type(before) in _PLAIN and type(after) in _PLAIN:
        return f" from {safe_repr(before)} to {safe_repr(after)}"
    return ""
