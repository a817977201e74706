"""What the primitives of trio note, and those of anyio on trio."""

from __future__ import annotations

from typing import Any

import trio
import trio._channel as trio_channel
import trio._core._run as trio_run
import trio._sync as trio_sync
from outcome import Error

from ..._core.reentrancy import transparent
from ..plan.identity import TaskNode, current_node
from .primitives import (
    EXCLUSIVE,
    IS_SET,
    READING,
    Operation,
    Patches,
    Seen,
    acquired,
    current_of_loop,
    install_limiters,
    install_lock,
    noting,
    set_and_wait,
)
from .primitives_anyio import install_anyio, install_stream


def install(patches: Patches) -> None:
    """Wrap the primitives of trio, and those of anyio on trio."""
    _install_events_and_locks(patches)
    _install_conditions(patches)
    patches.created(trio_channel.MemoryChannelState)
    install_stream(patches, trio.MemorySendChannel, trio.MemoryReceiveChannel)
    _install_nurseries(patches)
    _install_scopes(patches)
    install_anyio(patches)


def _install_events_and_locks(patches: Patches) -> None:
    setting, waiting = set_and_wait("_flag")
    patches.created(trio.Event)
    patches.sync(trio.Event, "set", setting)
    patches.sync(trio.Event, "is_set statistics", IS_SET)
    patches.asynchronous(trio.Event, "wait", waiting)
    module: Any = trio_sync
    install_lock(patches, module._LockImpl)
    install_limiters(patches, trio.Semaphore, trio.CapacityLimiter)


def _install_conditions(patches: Patches) -> None:
    condition: Any = trio.Condition
    patches.created(condition)
    patches.asynchronous(condition, "wait", Operation(_wait, _notified, EXCLUSIVE.failed, ("all",)))
    patches.sync(condition, "notify notify_all", Operation(_notify, None, _notify))
    patches.sync(condition, "statistics", READING)


def _wait(seen: Seen, condition: Any) -> None:
    seen.note(condition, "w", "all")


def _notified(seen: Seen, condition: Any, token: object) -> None:
    seen.note(condition, "w", "all")
    acquired(seen, condition._lock)


def _notify(seen: Seen, condition: Any, token: object = None) -> None:
    seen.note(condition, "w", "all")
    seen.note(condition._lock, "w", "queue")  # the tasks that wait are moved to the line before the lock


# Nurseries and cancel scopes


def _install_nurseries(patches: Patches) -> None:
    nursery: Any = trio.Nursery
    patches.created(nursery)
    patches.replace(nursery, "_child_finished", _noting_ends(nursery._child_finished))
    patches.sync(nursery, "start_soon", Operation(_start))
    patches.asynchronous(nursery, "start", Operation(_start, _start))
    manager: Any = trio_run.NurseryManager
    patches.asynchronous(manager, "__aexit__", Operation(_begin_join, _join, _join, ("members",), _nursery_of))


def _start(seen: Seen, nursery: Any, token: object = None) -> None:
    task = trio.lowlevel.current_task()
    is_open = task is nursery.parent_task or task in nursery.child_tasks
    seen.note(nursery, "u" if is_open else "w", "members")


def _node_of(task: Any) -> TaskNode | None:
    node: TaskNode | None = task.context.get(current_node)
    return node


def _noting_ends(child_finished: Any) -> Any:
    @transparent
    def noting_ends(self: Any, task: Any, outcome: Any) -> Any:
        seen = current_of_loop()
        if seen is not None:
            _end(seen, self, task, outcome)
        return child_finished(self, task, outcome)

    return noting_ends


def _end(seen: Seen, nursery: Any, task: Any, outcome: Any) -> None:
    node = _node_of(task)
    if node is not None:
        seen.note("tasks", "w" if isinstance(outcome, Error) else "u", "ends")
        status = nursery._cancel_status  # that of the task is gone
        while status is not None:
            seen.note(status._scope, "r", "all")
            status = status._parent
        seen.note(nursery, "u", "members")
        seen.members(nursery).append(node)
        seen.ends[node] = seen.mark()


def _nursery_of(manager: Any) -> Any:
    return manager._nursery


def _begin_join(seen: Seen, nursery: Any) -> int | None:
    if seen.is_exact:
        seen.note(nursery, "r", "members")
    return seen.mark()


def _join(seen: Seen, nursery: Any, mark: int | None = None) -> None:
    seen.join(seen.members(nursery), mark)
    seen.note(nursery, "w", "members")


def _install_scopes(patches: Patches) -> None:
    scope: Any = trio.CancelScope
    patches.created(scope)
    patches.sync(scope, "_cancel", Operation(_cancel, _cancel))
    patches.properties(scope, "cancel_called shield deadline relative_deadline is_shielded", noting("r", "all"))
    patches.sync(scope, "__enter__ __exit__", noting("r", "all"))


def _cancel(seen: Seen, scope: Any, token: object = None) -> None:
    seen.note(scope, "w", "all")
    statuses = [scope._cancel_status] if scope._cancel_status is not None else []
    while statuses:
        status = statuses.pop()
        statuses.extend(status._children)  # shielded ones too, since it may come before they are entered
        for task in sorted(status._tasks, key=lambda task: task._counter):
            node = _node_of(task)
            if node is not None and node is not seen.node:
                seen.cancel(node)
