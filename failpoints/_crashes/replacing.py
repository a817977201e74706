"""Replaces the functions of `os` that change files, and `open`, wherever the process has them.

What does not go through them is not seen: C code, system calls by other means, and child processes.
"""

from __future__ import annotations

import _pyio  # type: ignore[import-not-found]
import functools
import gc
import io
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import FunctionType, ModuleType
from typing import Any, Final, Protocol, cast

from .._core.reentrancy import runs_user_code

NAMES: Final = (
    *("open", "write", "writev", "pwrite", "pwritev", "sendfile", "copy_file_range", "truncate", "ftruncate"),
    *("posix_fallocate", "rename", "replace", "link", "symlink", "unlink", "remove", "mkdir", "rmdir"),
    *("fsync", "fdatasync", "sync"),
)
"""The functions of `os` that are replaced, where the system has them."""

SYNCED: Final = os.O_DSYNC | os.O_SYNC
"""The flags of an open file whose writes are durable once they return."""

_UNNAMED: Final = getattr(os, "O_TMPFILE", 0)


class FileFunctions(Protocol):
    """What takes the place of the functions.

    For each name in `NAMES` it has a method with an underscore before the name. The method is given the original
    function first, then what the program gives.
    """

    def write_raw(self, write: Callable[[Any], int | None], descriptor: int, data: Any) -> int | None:
        """Write to a file that `open` has opened, by calling *write* with the data or its beginning."""

    def is_replaced(self, file: Any, mode: str) -> bool:
        """Return whether a file that is being opened can matter. If not, it is opened by the original `open`."""
        ...


@runs_user_code
def do(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call a function for the program: a failpoint on it is visited."""
    return function(*arguments, **options)


class Replacements:
    """The functions, replaced in all modules and classes, and where they are defaults of arguments."""

    def __init__(self, functions: FileFunctions) -> None:
        self._functions = functions
        self._undo: list[Callable[[], object]] = []

    def install(self) -> None:
        """Replace the functions."""
        replacements: dict[Any, Any] = {}
        for name in NAMES:
            original = getattr(os, name, None)
            if original is not None:  # else it is not on this system
                replacements[original] = _replacement(original, getattr(self._functions, f"_{name}"))
        for supporting in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks):
            added = {replacements[each] for each in supporting if each in replacements}
            supporting.update(added)
            self._undo.append(functools.partial(supporting.difference_update, added))
        raw = _raw_file(self._functions, replacements[os.open])
        replacements[io.open] = _open_with(raw, self._functions)
        replacements[io.FileIO] = raw
        by_identity = {id(original): replacement for original, replacement in replacements.items()}
        for thing in _owners(replacements):
            self._replace_in(thing, by_identity)

    def restore(self) -> None:
        """Put the original functions back where they were."""
        while self._undo:
            self._undo.pop()()

    def _replace_in(self, thing: Any, replacements: dict[int, Any]) -> None:
        """Replace functions that a module or a class has, or a function as the default of an argument.

        Runs no code of the object: looking at the class of a lazy one, or into a lazy module, may load what it stands
        for.
        """
        kind = cast(Any, type(thing))
        if kind is FunctionType:
            defaults = thing.__defaults__
            if defaults is not None and any(_replaced(each, replacements) is not each for each in defaults):
                thing.__defaults__ = tuple(_replaced(each, replacements) for each in defaults)
                self._undo.append(functools.partial(setattr, thing, "__defaults__", defaults))
        elif issubclass(kind, ModuleType):
            names: dict[str, Any] = ModuleType.__getattribute__(thing, "__dict__")
            for name, value, replaced in _changes(names, replacements):
                names[name] = replaced
                self._undo.append(functools.partial(_put_back, names, name, value, replaced))
        elif issubclass(kind, type):
            for name, value, replaced in _changes(type.__getattribute__(thing, "__dict__"), replacements):
                with suppress(TypeError):  # a class of C
                    type.__setattr__(thing, name, replaced)
                    self._undo.append(functools.partial(type.__setattr__, thing, name, value))


def _owners(functions: Iterable[Any]) -> Iterable[Any]:
    """Return all objects that may have one of some functions as an attribute, or as the default of an argument.

    Looks for references from the functions on. That touches no other object, so that a forked process shares its memory
    with its parent for longer than if it looked at every object.
    """
    holders: list[Any] = gc.get_referrers(*functions)
    methods: list[Any] = [each for each in holders if issubclass(type(each), staticmethod)]
    holders += gc.get_referrers(*methods) if methods else []
    owners: list[Any] = gc.get_referrers(*(each for each in holders if issubclass(type(each), (dict, tuple))))
    if gc.get_freeze_count():  # by `gc.freeze`, so not all references were found
        owners += sys.modules.values()
    return {id(each): each for each in owners}.values()


def _changes(names: Any, replacements: dict[int, Any]) -> list[tuple[str, Any, Any]]:
    """Return the names that are replaced, each with what is there and what takes its place."""
    found = [(name, value, _replaced(value, replacements)) for name, value in list(names.items())]
    return [each for each in found if each[1] is not each[2]]


def _replaced(value: Any, replacements: dict[int, Any]) -> Any:
    kind = cast(Any, type(value))
    return replacements.get(id(value.__func__ if kind is staticmethod else value), value)


def _put_back(names: dict[str, Any], name: str, original: Any, replacement: Any) -> None:
    if names.get(name) is replacement:  # else another tool has replaced it, and not put it back yet
        names[name] = original


def _replacement(original: Any, method: Callable[..., Any]) -> Any:
    def replacement(*arguments: Any, **options: Any) -> Any:
        return method(original, *arguments, **options)

    # Not a function, which would become a method as an attribute of a class. Those of `os` do not.
    return staticmethod(functools.wraps(original)(replacement))


def _raw_file(functions: FileFunctions, opener: Callable[[Any, int, int], int]) -> type[io.FileIO]:
    class FileIO(io.FileIO):
        """A file whose writes and truncations are seen."""

        def __init__(self, file: Any, mode: str = "r", closefd: bool = True, opener: Any = None) -> None:
            if opener is None and not isinstance(file, int):
                opener = _open_file
            super().__init__(file, mode, closefd, opener)

        def write(self, data: Any, /) -> Any:
            return functions.write_raw(super().write, self.fileno(), data)

        def truncate(self, size: int | None = None, /) -> int:
            size = self.tell() if size is None else size
            os.ftruncate(self.fileno(), size)
            return size

    def _open_file(path: Any, flags: int) -> int:
        return opener(path, flags, 0o666)

    FileIO.__module__ = "io"
    return FileIO


def _open_with(raw: type[io.FileIO], functions: FileFunctions) -> Any:
    """Return `open` as Python has it in `_pyio`, on top of this class of files."""
    names = {
        name: getattr(io, name) for name in ("BufferedRandom", "BufferedReader", "BufferedWriter", "TextIOWrapper")
    }
    original: Any = vars(_pyio)["open"]
    function: FunctionType = getattr(original, "__func__", original)  # a static method, since no class binds `open`
    copied = FunctionType(function.__code__, {**vars(_pyio), **names, "FileIO": raw}, "open", function.__defaults__)
    opened = io.open

    def open_one(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        is_replaced = functions.is_replaced(file, mode)
        return do(copied if is_replaced else opened, file, mode, *arguments, **options)

    return staticmethod(functools.wraps(opened)(open_one))


def makes_unnamed(flags: int) -> bool:
    """Return whether `os.open` makes a file without a name, by its flags."""
    return bool(_UNNAMED) and flags & _UNNAMED == _UNNAMED


def place_of(path: Any, folder: int | None = None, *, follow: bool = False) -> str:
    """Return the absolute path of a name, whose last part is a symbolic link only if *follow* is false."""
    text = os.fsdecode(path)
    if not os.path.isabs(text):
        text = os.path.join(os.getcwd() if folder is None else os.readlink(f"/proc/self/fd/{folder}"), text)
    if follow:
        return os.path.realpath(text)
    head, tail = os.path.split(text.rstrip("/"))
    return os.path.realpath(text) if tail in ("", ".", "..") else os.path.join(os.path.realpath(head), tail)
