"""Annotations that Python 3.14 and newer do not evaluate, and that this package does not evaluate either."""

from __future__ import annotations

import sys
import textwrap
from typing import Any

import pytest

from failpoints import FailpointUsageError, Return, configured, failpoint
from failpoints._core import arming
from failpoints.instrument import instrument

pytestmark = pytest.mark.skipif(sys.version_info < (3, 14), reason="annotations are evaluated at once before 3.14")


def compiled(source: str) -> dict[str, Any]:
    """Run source without the import from `__future__` that this file has, and return its names."""
    namespace: dict[str, Any] = {"failpoint": failpoint, "__name__": __name__}
    exec(compile(textwrap.dedent(source), __file__, "exec", dont_inherit=True), namespace)
    return namespace


PROGRAM = """
    import functools

    @failpoint("lazy", context=["of"])
    def named(of: Missing) -> int: return of

    @failpoint("lazy", context=lambda of: {"of": of})
    def asked(of: Missing) -> int: return of

    @failpoint("lazy", context=lambda of: {"of": of})
    @functools.wraps(named)
    def wrapping(*args): return named.__wrapped__(*args)

    class Account:
        @failpoint("lazy", context=["of"])
        def merge(self, of: Account) -> int: return of

        @failpoint("lazy", context=["of"])
        @classmethod
        def of_class(cls, of: Missing) -> int: return of
"""


@pytest.mark.parametrize("name", ["named", "asked", "wrapping"])
@pytest.mark.parametrize("configured_name", ["elsewhere", "lazy", "lazy:after"])
def test_parameters_with_missing_names(name: str, configured_name: str) -> None:
    """A function whose annotations cannot be evaluated is decorated, called and visited like any other."""
    function = compiled(PROGRAM)[name]
    assert function(5) == 5
    with configured(configured_name, "return(42)", context={"of": 5}) as handle:
        assert [function(5), function(6)] == ([5, 6] if configured_name == "elsewhere" else [42, 6])
        assert handle.hits == (configured_name != "elsewhere")


def test_methods_annotated_with_their_class() -> None:
    """A method may be annotated with the class that is being defined."""
    account = compiled(PROGRAM)["Account"]
    with configured("lazy", "return(42)", context={"of": 5}):
        assert [account().merge(5), account.of_class(5), account().merge(6)] == [42, 42, 6]


def test_instrumented() -> None:
    """A function of a module may have such annotations, too."""
    module = sys.modules[__name__]
    module.theirs = compiled("def theirs(of: Missing) -> int: return of")["theirs"]  # type: ignore[attr-defined]
    with instrument(f"{__name__}:theirs", "lazy.theirs", context=["of"]), configured("lazy.theirs", "return(42)"):
        assert module.theirs(1) == 42


def test_a_return_annotation_that_cannot_be_evaluated() -> None:
    """Only a text that is to be returned needs the return annotation, and the error says what is wrong with it."""
    function = compiled("@failpoint('lazy')\ndef function() -> Missing: return 1")["function"]
    with configured("lazy", Return(7)):
        assert function() == 7
    with configured("lazy", "return(7)"), pytest.raises(FailpointUsageError, match="cannot be resolved .*'Missing'"):
        function()


def test_copied_without_evaluating() -> None:
    """Copying a function keeps its annotations unevaluated, or those that were set."""
    function = compiled("def function(of: Missing) -> int: return of")["function"]
    copy: Any = arming.copied(function, function.__code__, None)
    assert copy.__annotate__ is function.__annotate__
    function.__annotations__ = {"of": int}
    copy = arming.copied(function, function.__code__, None)
    assert copy.__annotations__ == {"of": int}
