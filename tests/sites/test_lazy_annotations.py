"""Annotations that Python 3.14 and newer do not evaluate, and that this package does not evaluate either."""

from __future__ import annotations

import inspect
import sys
import textwrap
import typing
from typing import Any

import pytest

from failpoints import FailpointUsageError, Return, configure, configured, failpoint, reset
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


def test_not_evaluated_by_the_decorator() -> None:
    """A name that is defined after the decoration is found when a program asks, in every format."""
    from annotationlib import Format, get_annotations

    namespace = compiled("@failpoint('lazy')\ndef function(of: Later) -> int: return of")
    function = namespace["function"]
    for _ in range(2):
        assert get_annotations(function, format=Format.STRING) == {"of": "Later", "return": "int"}
        assert get_annotations(function, format=Format.FORWARDREF)["of"].__forward_arg__ == "Later"
        with pytest.raises(NameError, match="Later"):
            function.__annotations__
        configure("lazy", "off")
    reset()
    namespace["Later"] = float
    assert function.__annotations__ == {"of": float, "return": int}
    assert get_annotations(function, format=Format.FORWARDREF) == {"of": float, "return": int}
    assert typing.get_type_hints(function) == {"of": float, "return": int}


@pytest.mark.parametrize("first", ["decorated", "changed"])
def test_changed_in_place(first: str) -> None:
    """A decorated function has the annotations that another decorator changes in place, before or after."""
    plain = compiled("def function(of: int) -> int: return of")["function"]
    if first == "changed":
        plain.__annotations__["of"] = str
    decorated: Any = failpoint("lazy")(plain)
    plain.__annotations__["of"] = str
    assert decorated.__annotations__ is plain.__annotations__ == {"of": str, "return": int}
    assert inspect.signature(decorated).parameters["of"].annotation is str


def test_an_annotate_function_of_its_own() -> None:
    """A function that was given annotations, or its own way to make them, is copied with these."""
    plain = compiled("def function(of: Missing) -> int: return of")["function"]
    plain.__annotate__ = lambda form: {"of": f"made in format {form}"}
    decorated: Any = failpoint("lazy")(plain)
    assert decorated.__annotate__(1) == decorated.__annotations__ == {"of": "made in format 1"}
    plain.__annotations__ = {"of": int}
    decorated = failpoint("lazy")(plain)
    assert (decorated.__annotations__, decorated.__annotate__) == ({"of": int}, None)
