"""Something to do with a module once its import has ended: now, or later. Imports nothing itself."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterable
from importlib.machinery import ModuleSpec
from typing import Any, TypeAlias, cast

import wrapt

from .._core.messages import did_you_mean

Act: TypeAlias = Callable[[Any], object]

_waiting: dict[str, list[Act]] = {}  # by module


def when_imported(name: str, act: Act) -> None:
    """Call `act` with the module: now, if it is imported; else at the end of its import.

    What `act` raises then, that import raises, and so does each later one until it does not. Where threads meet it may
    be called twice with the same module.
    """
    while (module := sys.modules.get(name)) is None or _is_being_imported(name, module):
        fresh: list[Act] = []
        acts = _waiting.setdefault(name, fresh)
        acts.append(act)
        if acts is not fresh or _watch(name, module):
            if _waiting.get(name) is acts:
                return
        else:  # its import came to an end on another thread just now
            for other in _waiting.pop(name, []):
                if other != act:
                    when_imported(name, other)
    act(module)


def _watch(name: str, module: Any) -> bool:
    """Have `_imported` called at the end of the module's import; false if there is no import to wait for."""
    if module is not None:
        module.__spec__.__class__ = _Importing
        return _is_being_imported(name, module)
    registering = True
    came_in = False

    def imported(module: object) -> None:
        nonlocal came_in
        if registering:  # wrapt calls at once: another thread imports it
            came_in = True
        else:
            _imported(name, module)

    cast(Any, wrapt.register_post_import_hook)(imported, name)
    registering = False
    return not came_in


def _imported(name: str, module: object) -> None:
    module = sys.modules.get(name, module)  # it may have put something else in its place
    acts = _waiting.pop(name, [])
    try:
        for act in acts:
            act(module)
    except BaseException:
        # The import fails. So shall the next one: but of a module that is still there wrapt would tell at once.
        sys.modules.pop(name, None)
        for act in acts:
            when_imported(name, act)
        raise


def _is_being_imported(name: str, module: object) -> bool:
    spec: Any = getattr(module, "__spec__", None)
    # A spec of another class is not ours to change: what is there by now has to do.
    return type(spec) in (ModuleSpec, _Importing) and spec.name == name and getattr(spec, "_initializing", False)


class _Importing(ModuleSpec):
    """The spec of a module that is being imported, from where the end of the import can be told: it says so here.

    For an import hook it is too late then: the loader runs already. A module that the environment names, and that
    imports this package, is in that state.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "_initializing" or value:
            super().__setattr__(name, value)
            return
        self.__class__ = ModuleSpec  # type: ignore[assignment]  # an ordinary one again
        try:
            if self.name in sys.modules:
                _imported(self.name, sys.modules[self.name])
            else:  # the import has failed: wait for the next
                for act in _waiting.pop(self.name, []):
                    when_imported(self.name, act)
        finally:
            self._initializing = value


def missing_module(name: str) -> str | None:
    """Why this module cannot be imported, as far as that is known without importing anything; `None` if it may be."""
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        module, parent = ".".join(parts[:count]), ".".join(parts[: count - 1])
        if module in sys.modules:
            continue
        if parent and parent not in sys.modules:
            return None  # what is in there, only its import could tell
        if not _is_found(module):
            siblings = [f"{parent}.{each}" if parent else each for each in _modules_in(parent)]
            return f"there is no module {module!r}{did_you_mean(module, siblings)}"
    return None


def _is_found(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError, AttributeError):  # its parent is no package, say
        return False


def _modules_in(parent: str) -> set[str]:
    import pkgutil  # only ever needed on the way to an error

    if not parent:
        imported = {name.partition(".")[0] for name in list(sys.modules)}
        return {*imported, *sys.stdlib_module_names, *(module.name for module in pkgutil.iter_modules())}
    folders: Iterable[str] = getattr(sys.modules[parent], "__path__", ())
    return {module.name for module in pkgutil.iter_modules(folders)}
