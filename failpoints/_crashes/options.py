"""The options of `explore_crashes()`: checked once, and printed the way a replay has to be given them."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from typing import Any, cast

from .._core import environment
from .._core.functions import signature_of
from .._core.messages import safe_repr
from .._core.validation import check_count
from .._core.wakeups import on_event_loop
from .._explore.options import check_choice
from ..errors import FailpointUsageError
from .losses import Replay
from .result import CrashProgress
from .strace import check_strace


@dataclass(frozen=True, kw_only=True)
class CrashOptions:
    """The arguments of one call of `explore_crashes()`, by the names of its parameters.

    Raises:
        FailpointUsageError: An argument is of the wrong type or out of range, or nothing can be explored here.
    """

    act: Callable[..., Any]
    check: Callable[..., Any]
    arrange: Callable[..., Any] | None = None
    backend: str = "asyncio"
    disk: str = "power"
    recorder: str = "python"
    depth: int = 1
    max_states: int = 10_000
    max_failures: int | None = 1
    timeout: float = 5.0
    replay: str | None = None
    on_state: Callable[[CrashProgress], object] | None = None
    replayed: Replay | None = field(init=False)

    def __post_init__(self) -> None:
        _check_function("act", self.act, 1, "def act(folder): …")
        _check_function("check", self.check, 2, "def check(folder, acknowledged): …")
        if self.arrange is not None:
            _check_function("arrange", self.arrange, 1, "def arrange(folder): …")
        check_choice("backend", self.backend, ("asyncio", "trio"))
        check_choice("disk", self.disk, ("process", "power"))
        check_choice("recorder", self.recorder, ("python", "strace"))
        check_count("depth=", self.depth)
        check_count("max_states=", self.max_states)
        if self.max_failures is not None:
            check_count("max_failures=", self.max_failures)
        timeout: Any = self.timeout
        if not isinstance(timeout, (int, float)) or isinstance(timeout, bool) or not timeout > 0:
            raise FailpointUsageError(f"timeout= must be a number of real seconds above 0; got {safe_repr(timeout)}")
        object.__setattr__(self, "replayed", None if self.replay is None else Replay.parse(self.replay))
        if not hasattr(os, "fork"):
            raise FailpointUsageError("explore_crashes() forks processes, which this system cannot do")
        if not environment.ENABLED:
            raise FailpointUsageError("explore_crashes() visits failpoints: unset FAILPOINTS_ENABLED=0", code="FP017")
        if on_event_loop():
            raise FailpointUsageError(
                "explore_crashes() runs event loops of its own: call it in a plain function or test, not an async one"
            )
        if self.recorder == "strace":
            check_strace()
        if self.backend == "trio" and find_spec("trio") is None:
            raise FailpointUsageError(
                "backend='trio' needs trio, which is not installed: pip install trio", code="FP018"
            )

    @property
    def is_power(self) -> bool:
        """Whether what was not synced may be lost."""
        return self.disk == "power"

    def replay_call(self, replay: str) -> str:
        """Return the call of `explore_crashes()` that builds a single state again, as Python source."""
        arguments = [_source(self.act, "act"), _source(self.check, "check")]
        if self.arrange is not None:
            arguments.append(f"arrange={_source(self.arrange, 'arrange')}")
        for name, default in (("backend", "asyncio"), ("disk", "power"), ("recorder", "python")):
            if getattr(self, name) != default:
                arguments.append(f"{name}={getattr(self, name)!r}")
        if self.timeout != 5:
            arguments.append(f"timeout={self.timeout:g}")
        return f"explore_crashes({', '.join(arguments)}, replay={replay!r})"


def name_of(function: Callable[..., Any], default: str) -> str:
    """Return the name of a function, also of one in a `functools.partial`, or *default* if it has none."""
    while isinstance(function, partial):
        function = cast(Any, function).func
    return getattr(function, "__name__", default)


def _source(function: Callable[..., Any], default: str) -> str:
    name = name_of(function, default)
    return f"partial({name}, ...)" if isinstance(function, partial) else name


def _check_function(name: str, function: Any, arguments: int, example: str) -> None:
    if inspect.iscoroutine(function):
        function.close()
        raise FailpointUsageError(f"explore_crashes() takes {name} itself, since it calls it: leave out the ()")
    if not callable(function):
        raise FailpointUsageError(f"{name} must be a function; got {safe_repr(function)}")
    try:
        signature_of(function).bind(*range(arguments))
    except TypeError:
        raise FailpointUsageError(f"{name} must be callable like this: {example}; got {safe_repr(function)}") from None
    except ValueError:  # a callable without a signature
        pass
