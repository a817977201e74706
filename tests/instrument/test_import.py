"""Instrumenting functions of modules that are imported later, or are being imported."""

from __future__ import annotations

import importlib
import importlib.machinery
import itertools
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import wrapt

from failpoints import FailpointUsageError, configured, status
from failpoints._core.declared import where_declared
from failpoints.instrument import instrument

ROOT = Path(__file__).parents[2]
_numbers = itertools.count()

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write an importable module and return its name. Further sources become its submodules."""
    monkeypatch.syspath_prepend(tmp_path)
    names: list[str] = []

    def written(source: str, **submodules: str) -> str:
        name = f"a_module_{next(_numbers)}"
        names.append(name)
        folder = tmp_path / name
        folder.mkdir()
        (folder / "__init__.py").write_text(textwrap.dedent(source))
        for submodule, text in submodules.items():
            (folder / f"{submodule}.py").write_text(textwrap.dedent(text))
        importlib.invalidate_caches()
        return name

    yield written
    for module in list(sys.modules):
        if module.partition(".")[0] in names:
            del sys.modules[module]


def imported(name: str) -> ModuleType:
    return importlib.import_module(name)


DOUBLE = """
def double(number):
    return 2 * number
class Doubler:
    def double(self, number):
        return 2 * number
"""


def test_a_module_that_is_imported_later(write: Write) -> None:
    """A module is instrumented at the end of its import, and is not imported earlier."""
    name = write(DOUBLE)
    site = f"a_site_of_{name}"
    with (
        instrument(f"{name}:double", site),
        instrument(f"{name}:Doubler.double", site),
        configured(site, "return(0)"),
    ):
        assert name not in sys.modules
        assert status(site).sites == (f"{name}:double", f"{name}:Doubler.double")
        assert where_declared(site).startswith(f"{name}:double (when its module is imported)")
        module = imported(name)
        assert (module.double(4), module.Doubler().double(4)) == ("0", "0")
        assert status(site).sites == (f"{module.__file__}:2", f"{module.__file__}:5")
    assert module.double(4) == 8
    assert status(site).sites == ()


def test_a_submodule_that_is_imported_later(write: Write) -> None:
    """Importing a package does not instrument a module in it that is not imported yet."""
    name = write("", inner=DOUBLE)
    with instrument(f"{name}.inner:double", "theirs"), configured("theirs", "off") as site:
        package = imported(name)
        assert not hasattr(package, "inner")
        assert imported(f"{name}.inner").double(4) == 8
        assert site.hits == 1


def test_undone_before_the_import(write: Write) -> None:
    """If it is undone before the import, the import changes nothing, unless another caller instrumented it too."""
    name = write(DOUBLE)
    undo = instrument(f"{name}:double", "theirs")
    other = instrument(f"{name}:double", "theirs")
    undo()
    assert status("theirs").sites == (f"{name}:double",)
    other()
    assert status("theirs").sites == ()
    instrument(f"{name}:double", "theirs")()
    with instrument(f"{name}:Doubler.double", "theirs"):
        module = imported(name)
        with configured("theirs", "return(0)"):
            assert module.double(1) == 2
            assert module.Doubler().double(1) == "0"
    assert module.Doubler().double(1) == 2


def test_twice_before_the_import(write: Write) -> None:
    """Instrumenting the same path twice makes one failpoint, which the second undo removes."""
    name = write(DOUBLE)
    first = instrument(f"{name}:double", "theirs")
    second = instrument(f"{name}:double", "theirs")
    module = imported(name)
    with configured("theirs", "off") as site:
        module.double(4)
        first()
        module.double(4)
        assert site.hits == 2
        second()
        module.double(4)
        assert site.hits == 2
    assert type(module.double) is type(imported)


@pytest.mark.parametrize("swallowed", [False, True])
def test_a_path_that_the_module_does_not_have(write: Write, swallowed: bool) -> None:
    """Each import of the module fails with an error that suggests the nearest path."""
    name = write(DOUBLE)
    undo_typo = instrument(f"{name}:duoble", "typo")
    undo = instrument(f"{name}:double", "theirs")
    for _ in range(3):
        with pytest.raises(FailpointUsageError, match=f"did you mean '{name}:double'") as error:
            imported(name)
        assert error.value.__notes__ == [f"It was requested by instrument('{name}:duoble', 'typo')."]
        assert name not in sys.modules
    undo_typo()
    module = imported(name)
    with configured("theirs", "off") as site:
        assert module.double(4) == 8
    assert site.hits == 1
    undo()
    assert type(module.double) is type(imported)


@pytest.fixture
def namespace_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package without an `__init__.py`, which has the module `till`."""
    monkeypatch.syspath_prepend(tmp_path)
    name = f"a_namespace_package_{next(_numbers)}"
    (tmp_path / name).mkdir()
    (tmp_path / name / "till.py").write_text(DOUBLE)
    importlib.invalidate_caches()
    yield name
    for module in list(sys.modules):
        if module.partition(".")[0] == name:
            del sys.modules[module]


def test_a_path_into_a_namespace_package(namespace_package: str) -> None:
    """A path that leads nowhere in a namespace package fails its import, and each later one, until the undo."""
    undo = instrument(f"{namespace_package}:double", "double")
    for module in (f"{namespace_package}.till", namespace_package):
        with pytest.raises(FailpointUsageError) as caught:
            imported(module)
        assert (
            str(caught.value) == f"'{namespace_package}:double': there is no 'double' in the module {namespace_package}"
        )
        assert caught.value.__notes__ == [f"It was requested by instrument('{namespace_package}:double', 'double')."]
        assert namespace_package not in sys.modules
    undo()
    assert imported(f"{namespace_package}.till").double(4) == 8


def test_a_module_of_a_namespace_package(namespace_package: str) -> None:
    """A function of a module in a namespace package is instrumented, and the package stays one of its kind."""
    with instrument(f"{namespace_package}.till:double", "double"), configured("double", "return(0)"):
        module = imported(f"{namespace_package}.till")
        assert module.double(4) == "0"
        package = sys.modules[namespace_package]
        assert type(package.__path__).__name__.endswith("NamespacePath")
        assert package.__spec__ is not None
        assert type(package.__spec__) is importlib.machinery.ModuleSpec
    assert module.double(4) == 8


def test_another_name_before_the_import(write: Write) -> None:
    """The import fails if the same place was given two names."""
    name = write(DOUBLE)
    with (
        instrument(f"{name}:double", "theirs"),
        instrument(f"{name}:double", "other"),
        pytest.raises(FailpointUsageError, match="already has the failpoint 'theirs'"),
    ):
        imported(name)


def test_an_import_that_fails(write: Write, tmp_path: Path) -> None:
    """A module whose import fails is instrumented once an import succeeds."""
    name = write("import a_module_that_is_nowhere")
    with instrument(f"{name}:double", "theirs"), configured("theirs", "off") as site:
        for _ in range(2):
            with pytest.raises(ModuleNotFoundError):
                imported(name)
        (tmp_path / name / "__init__.py").write_text(DOUBLE)
        importlib.invalidate_caches()
        imported(name).double(4)
        assert site.hits == 1


# modules that are being imported

ITSELF = """
from failpoints.instrument import instrument
from failpoints import configured
UNDO = instrument(__name__ + ":double", "circle")
def double(number):
    return 2 * number
with configured("circle", "off") as site:
    double(1)
assert site.hits == 0
"""


def test_a_module_that_instruments_itself(write: Write) -> None:
    """A module that is being imported is instrumented at the end of its import."""
    module = imported(write(ITSELF))
    spec = module.__spec__
    assert spec is not None
    assert type(spec) is importlib.machinery.ModuleSpec
    with configured("circle", "off") as site:
        assert module.double(4) == 8
    assert site.hits == 1
    module.UNDO()
    assert type(module.double) is type(imported)


def test_a_circular_import(write: Write) -> None:
    """A module that imports its own instrumenter is instrumented, even if its import is retried."""
    name = write(
        "from . import patches\nif patches.fails: raise ValueError\ndef double(number): return 2 * number",
        patches="""
            from failpoints.instrument import instrument
            fails = True
            instrument(__package__ + ":double", "circle")
        """,
    )
    with pytest.raises(ValueError):  # noqa: PT011 - its own
        imported(name)
    sys.modules[f"{name}.patches"].fails = False  # type: ignore[attr-defined]
    module = imported(name)
    with configured("circle", "off") as site:
        assert module.double(4) == 8
    assert site.hits == 1
    instrument(f"{name}:double", "circle")()


def test_a_typo_in_a_circular_import(write: Write) -> None:
    """A path that the module does not have fails the import that is in progress."""
    name = write(ITSELF.replace(":double", ":duoble"))
    with pytest.raises(FailpointUsageError, match=f"did you mean '{name}:double'"):
        imported(name)
    assert name not in sys.modules


def test_a_module_that_another_thread_imports(write: Write) -> None:
    """A module that another thread is importing is instrumented at the end of that import."""
    name = write(
        """
        import threading
        begun, go_on = threading.Event(), threading.Event()
        begun.set()
        go_on.wait(20)
        def double(number):
            return 2 * number
        """
    )
    thread = threading.Thread(target=imported, args=[name])
    thread.start()
    while not hasattr(sys.modules.get(name), "go_on"):
        thread.join(0.001)
    half = sys.modules[name]
    assert half.begun.wait(20)
    with instrument(f"{name}:double", "theirs"), configured("theirs", "off") as site:
        assert not hasattr(half, "double")
        half.go_on.set()
        thread.join(20)
        assert imported(name).double(4) == 8
        assert site.hits == 1


def _instrument_it(name: str, start: threading.Barrier, undos: list[Callable[[], None]]) -> None:
    start.wait(20)
    undos.append(instrument(f"{name}:double", "theirs"))


def _import_it(name: str, start: threading.Barrier, undos: list[Callable[[], None]]) -> None:
    start.wait(20)
    imported(name)


def test_many_threads_import_and_instrument_at_once(write: Write) -> None:
    """Whichever thread is first, each path becomes a failpoint, and nothing is left after all have undone it."""
    for _ in range(20):
        name = write(DOUBLE)
        start = threading.Barrier(6)
        undos: list[Callable[[], None]] = []
        threads = [
            threading.Thread(target=each, args=[name, start, undos]) for each in [_instrument_it, _import_it] * 3
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        module = imported(name)
        with configured("theirs", "off") as site:
            module.double(4)
        assert site.hits == 1
        for undo in undos:
            undo()
        assert type(module.double) is type(imported)
        assert len(undos) == 3


def test_an_import_that_ends_before_the_wait(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module whose import ends just before the wait for it begins is instrumented at once."""
    name = write(DOUBLE)
    register = wrapt.register_post_import_hook
    others = [instrument(f"{name}:Doubler.double", "theirs")]

    def come_in(hook: Callable[[ModuleType], object], module: str) -> None:
        imported(module)
        register(hook, module)

    monkeypatch.setattr(wrapt, "register_post_import_hook", come_in)
    name_of_another = write(DOUBLE)
    for each in (name, name_of_another):
        with instrument(f"{each}:double", "theirs"), configured("theirs", "off") as theirs:
            assert imported(each).double(4) == 8
            assert theirs.hits == 1
    for other in others:
        other()


# odd modules


def test_a_module_with_lazy_attributes(write: Write) -> None:
    """A lazily loaded attribute is loaded, and is loaded again after undo."""
    name = write(
        """
        def __getattr__(name):
            if name == "double":
                return lambda number: 2 * number
            raise AttributeError(name)
        """
    )
    module = imported(name)
    with instrument(f"{name}:double", "theirs"), configured("theirs", "off") as site:
        assert module.double(4) == 8
        assert site.hits == 1
    assert "double" not in vars(module)
    assert module.double(4) == 8


def test_a_module_that_replaces_itself(write: Write) -> None:
    """The object in `sys.modules` after the import is instrumented."""
    name = write(
        """
        import sys, types
        class Module(types.ModuleType):
            pass
        other = Module(__name__)
        other.double = lambda number: 2 * number
        sys.modules[__name__] = other
        """
    )
    with instrument(f"{name}:double", "theirs"), configured("theirs", "off") as site:
        module = imported(name)
        assert module.double(4) == 8
        assert site.hits == 1
    assert type(module.double) is type(imported)


def test_a_reload(write: Write) -> None:
    """The new functions of a reloaded module are not instrumented, and undo leaves them alone."""
    name = write(DOUBLE)
    module = imported(name)
    undo = instrument(f"{name}:double", "theirs")
    importlib.reload(module)
    after = module.double
    assert type(after) is type(imported)
    undo()
    assert module.double is after


def test_other_import_hooks_run(write: Write) -> None:
    """Import hooks that other code has registered with wrapt still run."""
    name = write(DOUBLE)
    seen: list[str] = []
    wrapt.register_post_import_hook(lambda module: seen.append(module.__name__), name)  # type: ignore[no-untyped-call]
    with instrument(f"{name}:double", "theirs"):
        wrapt.register_post_import_hook(lambda module: seen.append(module.__name__), name)  # type: ignore[no-untyped-call]
        imported(name)
    assert seen == [name, name]


def test_nothing_is_imported() -> None:
    """`failpoints.instrument` imports no more than `failpoints` and wrapt, and `instrument` imports no module."""
    script = """
        import sys
        import failpoints, wrapt
        before = set(sys.modules)
        from failpoints.instrument import instrument
        print(sorted(name for name in set(sys.modules) - before if not name.startswith("failpoints")))
        instrument("sqlite3:connect", "db.connect")
        instrument("xml.dom.minidom:parse", "parse")
        print("sqlite3" in sys.modules, "xml" in sys.modules)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (done.stdout, done.stderr) == ("[]\nFalse False\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_after_a_fork() -> None:
    """A child process forked while another thread was instrumenting can instrument and undo."""
    script = """
        import json, os, threading, warnings
        from failpoints._instrument import patches
        from failpoints.instrument import instrument
        warnings.simplefilter("ignore")
        before = json.loads
        held, go_on = threading.Event(), threading.Event()
        def hold():
            with patches._guard.lock:
                held.set()
                go_on.wait(20)
        thread = threading.Thread(target=hold)
        thread.start()
        held.wait(20)
        child = os.fork()
        if child == 0:
            with instrument("json:loads", "json.loads"):
                assert json.loads is not before
            os._exit(7 if json.loads is before else 1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        go_on.set()
        thread.join(20)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (done.stdout, done.stderr) == ("7\n", "")
