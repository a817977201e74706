"""An asyncio event loop that knows the position of each of its tasks in the tree of tasks."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import Callable
from typing import Any

from ..._core.entered import entered
from ..._core.hooks import exploring
from ..._core.reentrancy import transparent
from ..execution import Execution
from ..ordered_set import OrderedWeakSet
from ..plan.identity import TaskNode, current_node, task_name
from .asyncio_selector import LazySocketsLoop
from .await_frames import awaited_frames
from .blocked import UnfinishedTask

FOREIGN = 0  # the number, among the children of the root, of the node above all tasks that no task has started
_create_eager_task_factory: Any = getattr(asyncio, "create_eager_task_factory", None)
# Of all functions that asyncio.create_eager_task_factory returns. New in Python 3.12.
_EAGER_FACTORY: Any = getattr(getattr(asyncio, "eager_task_factory", None), "__code__", object())


_module: Any = asyncio.tasks
# `asyncio.current_task` of a given loop. It is written in C since Python 3.12; before, this dict is.
running_task: Callable[[Any], Any] = _module._current_tasks.get if sys.version_info < (3, 12) else asyncio.current_task


class _Task(asyncio.Task[Any]):
    """A task with its node. Its hash is its number, so that a set of tasks has the same order in every run."""

    __slots__ = ("node", "number")

    number: int
    node: TaskNode

    def __hash__(self) -> int:
        return self.number


class NumberedFuture(asyncio.Future[Any]):
    """A future whose hash is a number, given when it is first needed, as for tasks."""

    __slots__ = ("number",)

    number: int

    def __hash__(self) -> int:
        try:
            return self.number
        except AttributeError:
            loop: Any = self.get_loop()
            self.number = loop.next_number()
            return self.number


class _Constructor:
    """The constructor in an eager task factory, from where anyio takes it, to start its tasks as ordinary ones."""

    def __init__(self, original: Callable[..., Any]) -> None:
        self._original = original

    @transparent
    def __call__(self, coro: Any, *, loop: Any, **kwargs: Any) -> Any:
        if isinstance(loop, TaskTrackingLoop):
            return loop.construct(self._original, coro, **kwargs)
        return self._original(coro, loop=loop, **kwargs)


def _constructor_of(factory: Any) -> Any:
    """Return the constructor in an eager task factory, or `None` for another factory."""
    return factory.__closure__[0].cell_contents if getattr(factory, "__code__", None) is _EAGER_FACTORY else None


class RunContext:
    """The context variables that make a visit part of a run."""

    def __init__(self, execution: Execution, stores: Any, node: TaskNode) -> None:
        self._values: list[tuple[contextvars.ContextVar[Any], Any]] = [
            (exploring, execution), (entered, stores), (current_node, node),
        ]  # fmt: skip

    def set(self) -> list[contextvars.Token[Any]]:
        """Set the variables in the current context."""
        return [variable.set(value) for variable, value in self._values]

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function so that the variables are set during its calls, in a thread whose context is empty."""

        @transparent
        def in_thread(*args: Any) -> Any:
            tokens = self.set()
            try:
                return function(*args)
            finally:
                for token in tokens:
                    token.var.reset(token)

        return in_thread


class TaskTrackingLoop(LazySocketsLoop):
    """An event loop that keeps all of its tasks, in the order of their creation, each with a `TaskNode`."""

    # Private attributes of asyncio's own classes, which typeshed does not have.
    _asyncgens: Any
    _check_closed: Any
    _task_factory: Any

    def __init__(self, execution: Execution) -> None:
        self.created: list[Any] = []
        self._execution = execution
        self._stores = entered.get()
        self._foreign = TaskNode((FOREIGN,), "")
        self.starter: TaskNode | None = None  # the thread that has scheduled the running callback
        self._starting: list[TaskNode] = []  # of tasks that a task factory is making just now
        self._numbered = 0
        super().__init__()
        self._asyncgens = OrderedWeakSet()

    def create_future(self) -> NumberedFuture:
        return NumberedFuture(loop=self)

    def next_number(self) -> int:
        """Return the hash for the next task or future: numbers in order of creation."""
        self._numbered += 1
        return self._numbered

    @transparent
    def create_task(self, coro: Any, *, name: Any = None, context: Any = None, **kwargs: Any) -> Any:
        if self._task_factory is None:
            return self._create(self._node_for(coro), coro, name=name, context=context, **kwargs)
        constructor = _constructor_of(self._task_factory)
        if constructor is not None:
            kwargs.setdefault("eager_start", True)
            return constructor(coro, loop=self, name=name, context=context, **kwargs)
        return self._create_by(super().create_task, coro, name=name, context=context, **kwargs)

    def set_task_factory(self, factory: Any) -> None:
        constructor = _constructor_of(factory)
        if constructor is not None and type(constructor) is not _Constructor:
            factory = _create_eager_task_factory(_Constructor(constructor))
        super().set_task_factory(factory)

    @transparent
    def construct(self, constructor: Any, coro: Any, *, name: Any = None, context: Any = None, **kwargs: Any) -> Any:
        """Create a task by the constructor in an eager task factory."""
        if constructor is asyncio.Task:
            return self._create(self._node_for(coro), coro, name=name, context=context, **kwargs)
        return self._create_by(constructor, coro, loop=self, name=name, context=context, **kwargs)

    def create_root(self, coro: Any) -> Any:
        """Create the task of the scenario."""
        return self._create(self._execution.root, coro, name=None, context=None)

    def create_foreign(self, coro: Any) -> Any:
        """Create a task that does not belong to the scenario."""
        return self._create(self._foreign, coro, name=None, context=None)

    def _node_for(self, coro: Any) -> TaskNode:
        starter = running_task(self)
        parent = self.starter or self._foreign if starter is None else self.node_of(starter)
        return parent.child(getattr(coro, "__name__", ""))

    @transparent
    def _create(self, node: TaskNode, coro: Any, *, name: Any, context: Any, **kwargs: Any) -> Any:
        task, context = self._new_task(node, context)
        task.__init__(coro, loop=self, name=name, context=context, **kwargs)  # type: ignore[misc]  # runs an eager one
        self.created.append(task)
        return task

    def _new_task(self, node: TaskNode, context: Any) -> tuple[_Task, Any]:
        self._check_closed()
        if context is None:
            context = contextvars.copy_context()
            context.run(current_node.set, node)
        elif exploring not in context:  # given by the program, and made outside the run
            context.run(self.run_context(node).set)
        task = _Task.__new__(_Task)
        task.node = node
        task.number = self.next_number()
        return task, context

    def run_context(self, node: TaskNode) -> RunContext:
        """Return the context variables of a task, or of a thread that it starts."""
        return RunContext(self._execution, self._stores, node)

    @transparent
    def _create_by(self, create: Callable[..., Any], coro: Any, **kwargs: Any) -> Any:
        node = self._node_for(coro)
        context = contextvars.copy_context()  # which the task copies
        context.run(current_node.set, node)
        self._starting.append(node)
        try:
            task: Any = context.run(create, coro, **kwargs)
        finally:
            self._starting.pop()
        task.node = node
        self.created.append(task)
        return task

    def node_of(self, task: Any) -> TaskNode:
        """Return the node of a task. Make one if the task was created without the loop."""
        node: TaskNode | None = getattr(task, "node", None)
        if node is None and self._starting:
            return self._starting[-1]  # the task is an eager one, in its first step
        if node is None:
            node = task.node = self._foreign.child(task.get_coro().__name__)
            self.created.append(task)
        return node

    def current_node(self) -> TaskNode:
        """Return the node of the running task, or the foreign node for a callback."""
        task = running_task(self)
        try:
            node: TaskNode = task.node
        except AttributeError:
            return self._foreign if task is None else self.node_of(task)
        return node

    def unfinished(self) -> list[Any]:
        """Return the tasks that have not ended."""
        return [task for task in self.created if not task.done()]

    def unfinished_tasks(self) -> list[UnfinishedTask]:
        """Describe the tasks that have not ended."""
        return [
            UnfinishedTask(self.node_of(task), id(task), awaited_frames(task.get_coro()), waiter_of(task))
            for task in self.unfinished()
        ]

    def named_nodes(self) -> list[TaskNode]:
        """Return the nodes of all tasks, with the current names of the tasks."""
        for task in self.created:
            task.node.name = task_name(task.get_name(), task.node.name)
        return [task.node for task in self.created]


def waiter_of(task: Any) -> Any:
    """Return the future that a task awaits, or `None`. The task may be one without the attribute."""
    return getattr(task, "_fut_waiter", None)
