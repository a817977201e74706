"""Calling a function with a module once its import has ended. Imports nothing itself."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any, TypeAlias, cast

import wrapt

from .._core.messages import did_you_mean

Callback: TypeAlias = Callable[[Any], object]

_pending: dict[str, list[Callback]] = {}  # by module


def when_imported(name: str, callback: Callback) -> None:
    """Call *callback* with the module: at once if it is imported, else at the end of its import.

    An exception that the callback raises fails the import, and each later import until it raises none. If several
    threads import the module, the callback may be called twice with it.
    """
    while (module := sys.modules.get(name)) is None or _is_being_imported(name, module):
        new: list[Callback] = []
        callbacks = _pending.setdefault(name, new)
        callbacks.append(callback)
        if callbacks is not new or _watch(name, module):
            if _pending.get(name) is callbacks:
                return
        else:  # another thread has just ended the import
            for other in _pending.pop(name, []):
                if other != callback:
                    when_imported(name, other)
    callback(module)


def _watch(name: str, module: Any) -> bool:
    """Arrange for `_imported` to be called at the end of the import. Return false if there is no import to wait for."""
    if module is not None:
        module.__spec__.__class__ = _ImportingSpec
        return _is_being_imported(name, module)
    _NamespacePackageFinder.install()
    registering = True
    imported_meanwhile = False

    def imported(module: object) -> None:
        nonlocal imported_meanwhile
        if registering:  # wrapt calls at once: another thread has imported it
            imported_meanwhile = True
        else:
            _imported(name, module)

    cast(Any, wrapt.register_post_import_hook)(imported, name)
    registering = False
    return not imported_meanwhile


def _imported(name: str, module: object) -> None:
    module = sys.modules.get(name, module)  # a module can replace itself while it is imported
    callbacks = _pending.pop(name, [])
    try:
        for callback in callbacks:
            callback(module)
    except BaseException:
        # This import fails, and the next one is to fail too. Without the module in sys.modules there is a next one.
        sys.modules.pop(name, None)
        for callback in callbacks:
            when_imported(name, callback)
        raise


def _is_being_imported(name: str, module: object) -> bool:
    spec: Any = getattr(module, "__spec__", None)
    # A spec of another class cannot be given ours, so the module has to do as it is.
    return type(spec) in (ModuleSpec, _ImportingSpec) and spec.name == name and getattr(spec, "_initializing", False)


class _ImportingSpec(ModuleSpec):
    """The spec of a module whose import has begun. It notices the end of the import, when `_initializing` is set.

    An import hook cannot: by then the loader is running. A module named in the environment variable that itself imports
    this package is in that state.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "_initializing" or value:
            super().__setattr__(name, value)
            return
        self.__class__ = ModuleSpec  # type: ignore[assignment]  # an ordinary spec again
        try:
            if self.name in sys.modules:
                _imported(self.name, sys.modules[self.name])
            else:  # the import has failed: wait for the next one
                for callback in _pending.pop(self.name, []):
                    when_imported(self.name, callback)
        finally:
            self._initializing = value


class _NamespacePackageFinder:
    """Finds the namespace packages that are waited for: no loader runs for them, so wrapt does not see their import."""

    @classmethod
    def install(cls) -> None:
        """Put this before the finder of Python that finds such packages. The finders before that one come first."""
        finders: list[Any] = sys.meta_path
        if cls not in finders:
            finders.insert(finders.index(PathFinder) if PathFinder in finders else len(finders), cls)

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return the spec of a namespace package that is waited for, and leave all others to the next finder."""
        if name not in _pending:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is not None or spec.submodule_search_locations is None:
            return None
        spec.__class__ = _ImportingSpec
        return spec


def missing_module(name: str) -> str | None:
    """Return why a module cannot be imported, or `None` if it may be. Imports nothing to find out."""
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        module, parent = ".".join(parts[:count]), ".".join(parts[: count - 1])
        if module in sys.modules:
            continue
        if parent and parent not in sys.modules:
            return None  # only its import would show what the package contains
        if not _is_found(module):
            siblings = [f"{parent}.{each}" if parent else each for each in _modules_in(parent)]
            return f"there is no module {module!r}{did_you_mean(module, siblings)}"
    return None


def _is_found(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError, AttributeError):  # its parent is not a package, for example
        return False


def _modules_in(parent: str) -> set[str]:
    import pkgutil  # only needed on the way to an error

    if not parent:
        imported = {name.partition(".")[0] for name in list(sys.modules)}
        return {*imported, *sys.stdlib_module_names, *(module.name for module in pkgutil.iter_modules())}
    folders: Iterable[str] = getattr(sys.modules[parent], "__path__", ())
    return {module.name for module in pkgutil.iter_modules(folders)}
