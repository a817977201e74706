"""Stops threads at the points of modules by `sys.monitoring`, on Python 3.12 and newer.

The first start of each code object is seen, wherever it is in the process, and once only. It decides whether the code
belongs to the modules. Only such code has events from then on. So other code runs as fast as ever, and a debugger or a
tool that measures coverage is not disturbed.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from sys import _getframe  # pyright: ignore[reportPrivateUsage]  # imported by name, since sys._getframe can be replaced
from types import CodeType
from typing import Any, Final

from ...errors import FailpointUsageError
from .control import steering
from .lines import Modules, points

_monitoring: Final[Any] = getattr(sys, "monitoring", None)
_TOOLS: Final = (4, 3, 5, 2)  # two ids that are reserved for no kind of tool, and two for kinds that are rarely used
_NAME: Final = "failpoints"


class MonitoredLines:
    """The modules whose lines are points."""

    def __init__(self, modules: Sequence[str]) -> None:
        self.modules = Modules(modules)
        self._tool: int | None = None  # while the code is watched
        self._lock = threading.Lock()  # other threads of the program start code as well
        self._codes: dict[int, tuple[CodeType, str, frozenset[int]]] = {}  # by id, since equal ones are not the same

    @contextmanager
    def watching(self) -> Generator[None]:
        """Watch the code of the modules inside the block."""
        tool = self._tool = _free_tool()
        events = _monitoring.events
        callbacks = {
            events.PY_START: self._started,
            events.PY_RESUME: self._started,  # of a generator that began before
            events.INSTRUCTION: self._instruction,
        }
        for event, callback in callbacks.items():
            _monitoring.register_callback(tool, event, callback)
        _monitoring.set_events(tool, events.PY_START | events.PY_RESUME)
        _monitoring.restart_events()  # code that an earlier tool with this id did not want to see
        try:
            yield
        finally:
            _monitoring.set_events(tool, 0)
            with self._lock:
                self._tool = None
                for code, _, _ in self._codes.values():
                    _monitoring.set_local_events(tool, code, 0)
            for event in callbacks:
                _monitoring.register_callback(tool, event, None)
            _monitoring.restart_events()
            _monitoring.free_tool_id(tool)

    def stopping(self) -> AbstractContextManager[None]:
        """Do nothing: the code has the events, and each of these looks which thread it is in."""
        return nullcontext()

    def _started(self, code: CodeType, offset: int) -> object:
        module = self.modules.of(_getframe(1).f_globals)
        if module is not None:
            with self._lock:
                if self._tool is not None and id(code) not in self._codes:
                    self._codes[id(code)] = code, module, points(code)
                    _monitoring.set_local_events(self._tool, code, _monitoring.events.INSTRUCTION)
        return _monitoring.DISABLE

    def _instruction(self, code: CodeType, offset: int) -> object:
        _, module, found_points = self._codes[id(code)]
        if offset not in found_points:
            return _monitoring.DISABLE
        found = steering()
        if found is not None and found.lines is self:
            self.modules.unseen.pop(module, None)
            found.line()
        return None


def _free_tool() -> int:
    for tool in _TOOLS:
        try:
            _monitoring.use_tool_id(tool, _NAME)
        except ValueError:  # in use
            continue
        return tool
    tools = ", ".join(repr(_monitoring.get_tool(tool)) for tool in _TOOLS)
    raise FailpointUsageError(
        f"lines= needs a tool id of sys.monitoring, and all that it can take are in use, by {tools}: switch one of"
        " these off"
    )
