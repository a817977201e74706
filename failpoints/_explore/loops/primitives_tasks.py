"""What the tasks of asyncio note: their end, their cancellation, and the groups that wait for them.

Ends of tasks do not meet as long as nothing depends on which one comes first. A group and `gather()` wait for all. But
an error that ends a task, and whatever else waits for the first of several, makes a difference.
"""

from __future__ import annotations

import asyncio
import asyncio.tasks
from collections.abc import Generator, Iterable
from sys import _getframe  # pyright: ignore[reportPrivateUsage]  # imported by name, since sys._getframe can be replaced
from types import CodeType
from typing import Any, Final

import anyio._backends._asyncio as anyio_asyncio

from ..._core.reentrancy import transparent
from ..plan.identity import TaskNode
from . import asyncio_tasks
from .primitives import Operation, Patches, Seen, current_of_loop, noting

_asyncio_task: Any = asyncio.Task
_anyio: Any = anyio_asyncio
_tracked: Any = asyncio_tasks

_WAIT_FOR_ALL: Final = {
    "Task.task_wakeup",
    "TaskGroup._on_task_done",
    "TaskGroup._spawn.<locals>.task_done",
    "gather.<locals>._done_callback",
    "shield.<locals>._inner_done_callback",
    "_ended",
}
_BY_LAST: Final = {each for each in asyncio.gather.__code__.co_consts if isinstance(each, CodeType)}
"""Functions that look at several tasks once the last one of them has ended, whichever that is."""
_CANCELLED_IS_AN_ERROR: Final = "gather.<locals>._done_callback"


def install_tasks(patches: Patches) -> None:
    """Wrap tasks, and the groups that wait for them."""
    task: Any = _tracked._Task
    patches.replace(task, "__init__", _starting(task.__init__))
    patches.replace(task, "add_done_callback", _observed(task.add_done_callback))
    patches.replace(task, "__await__", _awaiting(task.__await__))
    patches.replace(task, "__iter__", _awaiting(task.__iter__))
    patches.replace(task, "cancel", _cancelling(task.cancel))
    for name in ("done", "cancelled", "result", "exception", "cancelling"):
        patches.replace(task, name, _looking(getattr(task, name)))
    module: Any = asyncio.tasks
    gathering: Any = module._GatheringFuture
    patches.replace(gathering, "__await__", _gathered(gathering.__await__))
    patches.replace(gathering, "__iter__", _gathered(gathering.__iter__))
    patches.created(gathering)
    for group in (asyncio.TaskGroup, anyio_asyncio.TaskGroup):
        patches.created(group)
        patches.asynchronous(group, "__aexit__", Operation(_begin_join, _join, _join, ("members",)))
    patches.replace(asyncio.TaskGroup, "create_task", _creating(asyncio.TaskGroup.create_task))
    patches.replace(anyio_asyncio.TaskGroup, "_spawn", _creating(_anyio.TaskGroup._spawn))
    patches.sync(asyncio.TaskGroup, "_abort", noting("w", "members"))
    patches.replace(module, "_wait", _waiting_for(module._wait))
    scope: Any = anyio_asyncio.CancelScope
    patches.created(scope)
    patches.sync(scope, "cancel", Operation(_cancel_scope))
    patches.sync(scope, "__enter__", Operation(_enter_scope))
    patches.sync(scope, "__exit__", noting("r", "cancel"))
    patches.properties(scope, "cancel_called deadline shield", noting("r", "cancel"))
    loop: Any = _tracked.TaskTrackingLoop
    patches.replace(loop, "create_future", _making(loop.create_future))


# Tasks


def _node(task: Any) -> TaskNode | None:
    return getattr(task, "node", None)


def _starting(init: Any) -> Any:
    @transparent
    def starting(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        if current_of_loop() is not None:
            self.add_done_callback(_ended)

    return starting


def _ended(task: Any) -> None:
    """Note the end of a task. The first of its callbacks, so that it runs before any other one."""
    seen, node = current_of_loop(), _node(task)
    if seen is None or node is None:
        return
    observers = seen.observers(node)
    is_cancelled = _asyncio_task.cancelled(task)
    is_error = task._exception is not None or (is_cancelled and _CANCELLED_IS_AN_ERROR in observers)
    is_first = not observers <= _WAIT_FOR_ALL
    seen.note(node, "w", "end")
    seen.note("tasks", "w" if is_error or is_first else "u", "ends")
    group = seen.group_of.get(node)
    if group is not None:
        seen.note(group, "u", "members")
    state = _anyio._task_states.get(task)
    scope: Any = None if state is None else state.cancel_scope
    while scope is not None:
        seen.note(scope, "r", "cancel")
        scope = scope._parent_scope
    seen.ends[node] = seen.mark()


def _observed(add: Any) -> Any:
    @transparent
    def observed(self: Any, callback: Any, **kwargs: Any) -> None:
        _observe(self, callback)
        add(self, callback, **kwargs)

    return observed


def _observe(task: Any, callback: Any) -> None:
    seen, node = current_of_loop(), _node(task)
    if seen is not None and node is not None:
        function = getattr(callback, "__qualname__", "")
        seen.observe(node, function)
        if seen.is_exact or _may_matter_now(task, function):
            seen.note(node, "r", "end")


def _may_matter_now(task: Any, function: str) -> bool:
    """Return whether it makes a difference that a function is to be called by a task that has ended already."""
    if not _asyncio_task.done(task):
        return False
    is_ordinary = not _asyncio_task.cancelled(task) and task._exception is None
    return not (is_ordinary and function in _WAIT_FOR_ALL)


def _awaiting(await_it: Any) -> Any:
    @transparent
    def awaiting(self: Any) -> Generator[Any, Any, Any]:
        awaited: Generator[Any, Any, Any] = await_it(self)
        seen, node = current_of_loop(), _node(self)
        if seen is None or node is None:
            result: Any = yield from awaited
            return result
        was_done = _is_done(self)
        if seen.is_exact:
            seen.note(node, "r", "end")
        try:
            with seen.waiting(node, ("end",)):
                result = yield from awaited
                return result
        finally:
            if was_done:
                seen.split_because(seen.ends.get(node))

    return awaiting


def _is_done(task: Any) -> bool:
    return bool(_asyncio_task.done(task))


def _cancelling(cancel: Any) -> Any:
    @transparent
    def cancelling(self: Any, *args: Any, **kwargs: Any) -> Any:
        _note_cancel(self)
        return cancel(self, *args, **kwargs)

    return cancelling


def _note_cancel(task: Any) -> None:
    seen, node = current_of_loop(), _node(task)
    if seen is not None and node is not None:
        seen.cancel(node)
        seen.note(node, "w", "end")


def _looking(look: Any) -> Any:
    @transparent
    def looking(self: Any, *args: Any) -> Any:
        _note_look(self)
        return look(self, *args)

    return looking


def _note_look(task: Any) -> None:
    seen = current_of_loop()
    if seen is None or _getframe(2).f_code in _BY_LAST:
        return
    node = _node(task)
    if node is not None and node is not seen.node and seen.is_program:
        seen.note(node, "r", "end")


# Groups


def _begin_join(seen: Seen, group: Any) -> int | None:
    if seen.is_exact:
        seen.note(group, "r", "members")
    return seen.mark()


def _join(seen: Seen, group: Any, mark: int | None = None) -> None:
    seen.join(seen.members(group), mark)
    seen.note(group, "w", "members")


def _gathered(await_it: Any) -> Any:
    @transparent
    def gathered(self: Any) -> Generator[Any, Any, Any]:
        awaited: Generator[Any, Any, Any] = await_it(self)
        seen = current_of_loop()
        if seen is None:
            result: Any = yield from awaited
            return result
        mark = seen.mark()
        with seen.waiting(self, ("all",)):
            result = yield from awaited
        seen.join(_nodes(self._children), mark)
        return result

    return gathered


def _waiting_for(wait: Any) -> Any:
    @transparent
    async def waiting_for(fs: Any, timeout: Any, return_when: Any, loop: Any) -> Any:
        seen = current_of_loop()
        mark = None if seen is None else seen.mark()
        done, pending = await wait(fs, timeout, return_when, loop)
        if seen is not None and return_when == asyncio.ALL_COMPLETED and not pending:
            seen.join(_nodes(done), mark)
        return done, pending

    return waiting_for


def _nodes(tasks: Iterable[Any]) -> list[TaskNode]:
    return [node for node in map(_node, tasks) if node is not None]


def _creating(create: Any) -> Any:
    @transparent
    def creating(self: Any, *args: Any, **kwargs: Any) -> Any:
        before = _begin_start(self)
        result = create(self, *args, **kwargs)
        _end_start(self, before)
        return result

    return creating


def _begin_start(group: Any) -> frozenset[Any]:
    seen = current_of_loop()
    if seen is None:
        return frozenset()
    starter = asyncio.current_task(seen.execution.loop)  # type: ignore[arg-type]
    is_open = starter in group._tasks or starter is _parent(group)
    seen.note(group, "u" if is_open else "w", "members")
    return frozenset(group._tasks)


def _parent(group: Any) -> Any:
    if isinstance(group, asyncio.TaskGroup):
        return group._parent_task  # type: ignore[attr-defined]
    return group.cancel_scope._host_task


def _end_start(group: Any, before: frozenset[Any]) -> None:
    seen = current_of_loop()
    if seen is not None:
        for task in group._tasks:
            if task not in before:
                seen.members(group).append(task.node)
                seen.group_of[task.node] = group


def _enter_scope(seen: Seen, scope: Any) -> None:
    seen.note(scope, "r", "cancel")
    if scope._cancel_called:
        seen.is_to_be_cancelled()


def _cancel_scope(seen: Seen, scope: Any) -> None:
    seen.note(scope, "w", "cancel")
    scopes = [scope]
    while scopes:
        inner = scopes.pop()
        scopes.extend(inner._child_scopes)  # shielded ones too, since it may come before they are entered
        for task in inner._tasks:
            node = _node(task)
            if node is not None and node is not seen.node:
                seen.cancel(node)


# Futures that the program makes


class _Future(asyncio_tasks.NumberedFuture):
    """A future that notes when it is completed, and when it is looked at."""

    def _look(self) -> None:
        seen = current_of_loop()
        if seen is not None and seen.is_program:
            seen.note(self, "r", "state")

    def _write(self) -> None:
        seen = current_of_loop()
        if seen is not None:
            seen.note(self, "w", "state")
            if not super().done():
                seen.set_mark(self)

    def set_result(self, result: Any) -> None:
        self._write()
        super().set_result(result)

    def set_exception(self, exception: Any) -> None:
        self._write()
        super().set_exception(exception)

    def cancel(self, msg: Any = None) -> bool:
        self._write()
        return super().cancel(msg)

    def done(self) -> bool:
        self._look()
        return super().done()

    def cancelled(self) -> bool:
        self._look()
        return super().cancelled()

    def result(self) -> Any:
        self._look()
        return super().result()

    def exception(self) -> Any:
        self._look()
        return super().exception()

    def __await__(self) -> Generator[Any, Any, Any]:
        seen = current_of_loop()
        if seen is None:
            return (yield from super().__await__())
        was_done = super().done()
        if seen.is_exact:
            seen.note(self, "r", "state")
        try:
            with seen.waiting(self, ("state",)):
                return (yield from super().__await__())
        finally:
            if was_done:
                seen.split(self)

    __iter__ = __await__


def _making(create: Any) -> Any:
    @transparent
    def making(self: Any) -> Any:
        return _make_future(self) if _is_made_by_program() else create(self)

    return making


def _is_made_by_program() -> bool:
    if current_of_loop() is None:
        return False
    module: str = _getframe(2).f_globals.get("__name__", "")
    return module.partition(".")[0] not in ("asyncio", "anyio")


def _make_future(loop: Any) -> Any:
    future = _Future(loop=loop)
    seen = current_of_loop()
    if seen is not None:
        seen.create(future)
    return future
