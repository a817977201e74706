"""What each Python process that `failpoints run` has started runs first.

Python imports the module `sitecustomize` when it starts, and `failpoints run` puts the folder of this one in front of
PYTHONPATH. This module imports the package as soon as it has something to do that the program does not do itself: when
a module is imported that FAILPOINTS_INSTRUMENT names. A program that imports the package needs no help. Any other
program gets nothing imported, and opens no control plane.

This file uses only syntax and modules that Python 2.7 has too, because the program can start any Python.
"""
# mypy: allow-untyped-defs, allow-untyped-calls
# pyright: basic

import atexit
import os
import sys

_FOLDER = os.path.dirname(os.path.abspath(__file__))
_PACKAGE = os.path.dirname(_FOLDER)
_VARIABLES = ("FAILPOINTS", "FAILPOINTS_INSTRUMENT", "FAILPOINTS_FLEET", "FAILPOINTS_HTTP")


def _start():
    if any(os.environ.get(variable, "").strip("; ") for variable in _VARIABLES):
        if sys.version_info < (3, 11):
            _note("has no failpoints: they need Python 3.11 or newer, and this is Python %d.%d" % sys.version_info[:2])
            return
        modules = _instrumented_modules()
        if os.environ.get("FAILPOINTS_RUN") == str(os.getpid()):
            atexit.register(_note_if_nothing_obeyed, os.getpid(), modules)
        if modules.isdisjoint(sys.modules):
            sys.meta_path.insert(0, _Finder(modules))
        else:
            _import_package_or_end()


def _instrumented_modules():
    entries = os.environ.get("FAILPOINTS_INSTRUMENT", "").split(";")
    return {entry.partition(":")[0].strip() for entry in entries} - {""}


class _Finder(object):
    """A finder on `sys.meta_path` that imports the package at the end of the import of the first of some modules."""

    def __init__(self, modules):
        self._modules = modules

    def find_spec(self, name, path=None, target=None):
        if name not in self._modules:
            return None
        for finder in sys.meta_path:
            if finder is not self and hasattr(finder, "find_spec"):
                spec = finder.find_spec(name, path, target)
                if spec is not None:
                    if hasattr(spec.loader, "exec_module"):
                        spec.loader = _Loader(spec.loader)  # type: ignore[assignment]
                    return spec
        return None


class _Loader(object):
    """A loader that takes the place of the module's own until it is asked to run the module."""

    def __init__(self, loader):
        self._loader = loader
        self.create_module = loader.create_module

    def __getattr__(self, name):  # for other import hooks, which may look for more of the loader
        return getattr(self._loader, name)

    def exec_module(self, module):
        module.__loader__ = module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        _import_package()


def _import_package():
    """Import the package, from the folder of this file if Python does not find it."""
    if "failpoints" in sys.modules:
        return
    from importlib import import_module
    from importlib.util import find_spec

    try:
        if find_spec("failpoints") is None:
            _import_from_here()
        else:
            import_module("failpoints")
        import_module("wrapt")  # otherwise imported by the first `configure`, which is too late to report its absence
    except ImportError as error:
        atexit.unregister(_note_if_nothing_obeyed)
        _note("has no failpoints: %s; install failpoints where this Python finds it" % error)
    except Exception as error:
        if not isinstance(error.__cause__, ImportError):
            raise
        _note("has no control plane: %s" % error)  # the extra is not installed
    else:
        # Both have a pytest plugin. pytest warns of a plugin's package that is imported too early for its assertions to
        # be rewritten, unless the docstring contains this word.
        for name in ("anyio", "failpoints"):
            module = sys.modules[name]
            module.__doc__ = "%s\n\nPYTEST_DONT_REWRITE" % module.__doc__


def _import_from_here():
    from importlib.util import module_from_spec, spec_from_file_location

    init = os.path.join(_PACKAGE, "__init__.py")
    spec = spec_from_file_location("failpoints", init, submodule_search_locations=[_PACKAGE])
    assert spec is not None
    assert spec.loader is not None
    sys.modules["failpoints"] = module = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules["failpoints"]
        raise


def _import_package_or_end():
    """Import the package. End the process if that fails: Python would go on after an exception at its start."""
    try:
        _import_package()
    except BaseException as error:
        _write("%s: %s\n" % (type(error).__name__, error))
        os._exit(1)


def _note_if_nothing_obeyed(process, modules):
    # An import that has failed leaves submodules, and its error has the reason.
    has_tried = any(name.partition(".")[0] == "failpoints" for name in list(sys.modules))
    if not has_tried and os.getpid() == process and not _has_had_children():
        names = sorted(modules | {"failpoints"})
        _note("ended without failpoints, because it did not import %s" % " or ".join(names))


def _has_had_children():
    """Return whether this process has waited for a child, which may have obeyed."""
    try:
        import resource
    except ImportError:  # on Windows
        return False
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss > 0


def _note(what):
    _write("failpoints run: process %d (%s) %s\n" % (os.getpid(), sys.executable, what))


def _write(text):
    if sys.stderr is not None:
        sys.stderr.write(text)
        sys.stderr.flush()


def _import_the_next_one():
    """Import the `sitecustomize` that Python would import without this folder, in place of this one.

    If there is none, the ImportError is the one that Python expects.
    """
    sys.path[:] = [folder for folder in sys.path if os.path.abspath(folder) != _FOLDER]
    del sys.modules["sitecustomize"]
    __import__("sitecustomize")


if __name__ == "sitecustomize":
    try:
        _import_the_next_one()
    finally:
        _start()
