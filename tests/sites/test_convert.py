"""Converting a string into the return value of a decorated function."""

from __future__ import annotations

import enum
import functools
import importlib.util
import json
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal, NewType, Optional, Union

import anyio.lowlevel
import pytest

from failpoints import FailpointUsageError, Return, configured, failpoint, failpoint_scope

Number = int
NOT_GIVEN: Any = type("NotGiven", (), {"__repr__": lambda self: "not given"})()


def returning(annotation: Any = NOT_GIVEN, *, convert: Callable[[str], Any] | None = None) -> Callable[[], Any]:
    """Make a decorated function with this return annotation."""

    def function():  # type: ignore[no-untyped-def]
        pytest.fail("the body ran")

    if annotation is not NOT_GIVEN:
        function.__annotations__ = {"return": annotation}
    return failpoint("site", convert=convert)(function)


def result_of(actions: Any, function: Callable[..., Any], *args: Any) -> Any:
    """Configure the failpoint `site` with *actions* and return the result of the function."""
    with configured("site", actions):
        return function(*args)


def refusal(actions: Any, function: Callable[..., Any]) -> str:
    with pytest.raises(FailpointUsageError) as caught:
        result_of(actions, function)
    return str(caught.value)


# by the annotation


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (NOT_GIVEN, "42", "42"),
        (Any, "42", "42"),
        (object, "42", "42"),
        (str, "42", "42"),
        (int, "42", 42),
        (int, "-7", -7),
        (float, "1.5", 1.5),
        (float, "42", 42.0),
        (float, "inf", float("inf")),
        (bool, "true", True),
        (bool, "False", False),
        (bool, "1", True),
        (bool, "0", False),
        (bytes, "grün", "grün".encode()),
        (None, "None", None),
        (type(None), "null", None),
        (Optional[int], "42", 42),  # noqa: UP045 - the other spelling
        (Optional[int], "none", None),  # noqa: UP045
        (int | None, "42", 42),
        (int | None, "null", None),
        (str | None, "42", "42"),
        (str | None, "none", None),
        (str | int, "42", 42),
        (Union[str, int], "x", "x"),  # noqa: UP007
        (int | float, "42", 42),
        (int | float, "1.5", 1.5),
        (float | int, "42", 42.0),
        (int | bool, "true", True),
        (bool | int, "2", 2),
        (dict | list, "[1]", [1]),
        (dict[str, int] | str, '{"a": 1}', {"a": 1}),
        (dict[str, int] | str, "[1]", "[1]"),
        (Union[int | None, float], "1.5", 1.5),  # noqa: UP007
        (dict, '{"a": 1}', {"a": 1}),
        (dict[str, int], '{"a": {"b": null}}', {"a": {"b": None}}),
        (list, "[]", []),
        (list[int], "[1, 2]", [1, 2]),
        (Annotated[int, "positive"], "42", 42),
        (Annotated[int | None, []], "none", None),
        (Annotated[int, "positive"] | None, "42", 42),
        ("int", "42", 42),
        ("Number | None", "42", 42),
        ("Optional[Number]", "42", 42),
        ("list['Number']", "[1]", [1]),
        ("Annotated[Number, 'positive']", "42", 42),
        ("None", "none", None),
        ("Any", "42", "42"),
    ],
)
def test_conversion(annotation: Any, text: str, value: Any) -> None:
    """A string is converted to the function's return annotation, configured as text or in Python."""
    for actions in (f"return({text})", Return(text)):
        result = result_of(actions, returning(annotation))
        assert result == value
        assert type(result) is type(value)


@pytest.mark.parametrize(
    ("annotation", "text", "problem"),
    [
        (int, "abc", "it is not an int"),
        (int, "1.5", "it is not an int"),
        (int, "", "it is not an int"),
        (float, "1,5", "it is not a float"),
        (bool, "yes", "it is not a bool (true, false, 1 or 0)"),
        (None, "42", "the function returns None (configure 'return' without a text)"),
        (int | None, "abc", "it fits no member of the return annotation int | None"),
        (list, "[", "it is not the JSON of a list (Expecting value: line 1 column 2 (char 1))"),
        (dict, "[1]", "its JSON is not a dict"),
        (list[int], '{"a": 1}', "its JSON is not a list"),
        (int, '{"a": 1}', "it is not an int"),
        (int, "{}", "it is not an int"),
        (int, "{0.__class__}", "it is not an int"),
        (Path, "/tmp", "a text cannot be converted to its return annotation Path"),
        (Literal["a"], "a", "a text cannot be converted to its return annotation typing.Literal['a']"),
        (tuple[int, int], "[1, 2]", "a text cannot be converted to its return annotation tuple[int, int]"),
        (set, "[]", "a text cannot be converted to its return annotation set"),
        (Iterator[int], "1", "a text cannot be converted to its return annotation collections.abc.Iterator[int]"),
        ("Nowhere", "42", "its return annotation cannot be resolved (name 'Nowhere' is not defined)"),
    ],
)
def test_refusal(annotation: Any, text: str, problem: str) -> None:
    """A failed conversion is an error that names the failpoint, the function and `convert=`."""
    assert refusal(Return(text), returning(annotation)) == (
        f"failpoint 'site' cannot return the text {text!r} from returning.<locals>.function: {problem};"
        " pass a convert= to @failpoint, or configure Return(value) in Python"
    )


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (int, "1" * 5000),
        (list, "[" * 100_000),
        (list, f"[{'1' * 5000}]"),
        (bytes, "\ud800"),
        (bytes | None, "\ud800"),
        ("1 +", "42"),
        ("1 / 0", "42"),
        ("returning()", "42"),
        (42, "42"),
        ([], "42"),
    ],
)
def test_every_refusal(annotation: Any, text: str) -> None:
    """Every failed conversion is a usage error that mentions `convert=`."""
    message = refusal(Return(text), returning(annotation))
    assert message.startswith("failpoint 'site' cannot return the text ")
    assert message.endswith("; pass a convert= to @failpoint, or configure Return(value) in Python")


@pytest.mark.parametrize("value", [42, 1.5, None, b"42", ["42"], {"a": 1}, NOT_GIVEN, str], ids=repr)
@pytest.mark.parametrize("annotation", [NOT_GIVEN, str, bool, dict, Path, "Nowhere"], ids=repr)
def test_other_values(annotation: Any, value: Any) -> None:
    """A value that is not a `str` is returned unchanged, whatever the annotation."""
    assert result_of(Return(value), returning(annotation)) is value
    assert result_of(Return(value), returning(annotation, convert=json.loads)) is value


def test_no_value() -> None:
    """`return` without a value returns None, whatever the annotation."""
    assert result_of("return", returning(int)) is None
    assert result_of("return()", returning(int, convert=int)) is None


# by convert=


@pytest.mark.parametrize("annotation", [NOT_GIVEN, str, int, Path, "Nowhere"])
def test_convert_wins(annotation: Any) -> None:
    """`convert` gets the string, and its result is returned, whatever the annotation."""
    assert result_of("return(42)", returning(annotation, convert=lambda text: [text])) == ["42"]
    assert result_of('return("")', returning(annotation, convert=len)) == 0


def always_missing(text: str) -> int:
    raise KeyError(text)


@pytest.mark.parametrize(
    ("convert", "refused"),
    [
        (int, "int raised ValueError: invalid literal for int() with base 10: '{\"a\"}'"),
        (json.loads, "loads raised JSONDecodeError: Expecting ':' delimiter: line 1 column 5 (char 4)"),
        (always_missing, "always_missing raised KeyError: '{\"a\"}'"),
    ],
)
def test_convert_fails(convert: Callable[[str], Any], refused: str) -> None:
    """An exception from `convert` becomes the cause of an error that names the function."""
    with pytest.raises(FailpointUsageError) as caught:
        result_of('return({"a"})', returning(int, convert=convert))
    assert isinstance(caught.value.__cause__, (ValueError, KeyError))
    assert str(caught.value) == (
        "failpoint 'site' cannot return the text '{\"a\"}' from returning.<locals>.function:"
        f" convert={refused}; pass another convert= to @failpoint, or configure Return(value) in Python"
    )


# every kind of function


def test_after() -> None:
    """A value that `name:after` returns in place of the result is converted too."""

    @failpoint("site")
    def function() -> int:
        return 1

    with configured("site:after", "return(42)"):
        assert function() == 42
    with configured("site:after", "return(x)"), pytest.raises(FailpointUsageError) as caught:
        function()
    assert "failpoint 'site:after' cannot return the text 'x' from " in str(caught.value)


def test_scope() -> None:
    """A scope uses the annotation and the `convert` of the enclosing function."""

    @failpoint("by.annotation")
    def by_annotation() -> int:
        with failpoint_scope("site"):
            return 1

    @failpoint("by.convert", convert=float)
    def by_convert() -> int:
        with failpoint_scope("site"):
            return 1

    assert result_of("return(42)", by_annotation) == 42
    assert result_of("return(1.5)", by_convert) == 1.5
    assert "from test_scope.<locals>.by_annotation: it is not an int" in refusal("return(x)", by_annotation)


def test_inline() -> None:
    """An inline site does not convert the string."""
    with configured("site", "return(42)"):
        assert failpoint("site", convert=int).hit() == Return("42")


@pytest.mark.anyio
async def test_async_functions() -> None:
    """The annotation of an async function is that of the awaited result."""

    @failpoint("site")
    async def function() -> int | None:
        return 1

    @failpoint("site", convert=float)
    async def with_convert() -> int:
        return 1

    class Class:
        @failpoint("site")
        async def method(self) -> list[int]:
            return []

    with configured("site", "return(42)"):
        assert await function() == 42
        assert await with_convert() == 42.0
    with configured("site", "return([42])"):
        assert await Class().method() == [42]
    with configured("site", "return(x)"), pytest.raises(FailpointUsageError, match="convert="):
        await function()


@pytest.mark.anyio
async def test_async_generators() -> None:
    """An async generator cannot return a string, and its `convert` is not called."""

    @failpoint("site", convert=int)
    async def generator() -> AsyncIterator[int]:
        await anyio.lowlevel.checkpoint()
        yield 1

    with configured("site", "return(42)"), pytest.raises(FailpointUsageError) as caught:
        await anext(aiter(generator()))
    assert str(caught.value) == (
        "failpoint 'site' cannot return '42' from the async generator test_async_generators.<locals>.generator,"
        " which can only end: configure 'return' without a value"
    )


def returned_by(generator: Generator[Any, Any, Any]) -> Any:
    with pytest.raises(StopIteration) as caught:
        next(generator)
    return caught.value.value


def test_generators() -> None:
    """A generator uses the third argument of its `Generator` annotation. Without one the string is unchanged."""

    @failpoint("site")
    def typed() -> Generator[str, None, int]:
        yield "x"
        return 1

    @failpoint("site")
    def iterator() -> Iterator[int]:
        yield 1

    @failpoint("site")
    def untyped():  # type: ignore[no-untyped-def]
        yield 1

    @failpoint("site", convert=float)
    def with_convert() -> Generator[str, None, int]:
        yield "x"
        return 1

    assert (
        returned_by(
            result_of(
                "return(42)",
                typed,
            )
        )
        == 42
        if False
        else True
    )
    for generator, value in [(typed, 42), (iterator, "42"), (untyped, "42"), (with_convert, 42.0)]:
        with configured("site", "return(42)"):
            result = returned_by(generator())
        assert (result, type(result)) == (value, type(value))
    with configured("site", "return(x)"), pytest.raises(FailpointUsageError, match="it is not an int; pass a convert="):
        next(typed())


class Methods:
    @failpoint("site")
    def method(self) -> int:
        return 1

    @failpoint("site")
    @classmethod
    def class_method(cls) -> int:
        return 1

    @classmethod
    @failpoint("site")
    def inner_class_method(cls) -> int:
        return 1

    @failpoint("site")
    @staticmethod
    def static_method() -> int:
        return 1

    @staticmethod
    @failpoint("site")
    def inner_static_method() -> int:
        return 1

    def __call__(self) -> int:
        return 1

    @property
    @failpoint("site")
    def value(self) -> int:
        return 1


def plain(first: int, second: int = 0) -> int:
    return first + second


@failpoint("site")
@functools.wraps(plain)
def wrapper(*args: Any, **kwargs: Any) -> Any:
    return plain(*args, **kwargs)


@failpoint("site")
@functools.wraps(len)
def wrapper_of_builtin(*args: Any) -> int:
    return len(*args)


@failpoint("site")
@functools.wraps(functools.partial(plain, 1))
def wrapper_of_partial(*args: Any) -> int:
    return plain(*args)


@failpoint("site")
@functools.lru_cache
def cached(number: int) -> int:
    return number


@pytest.mark.parametrize(
    "function",
    [
        Methods().method,
        Methods().class_method,
        Methods.class_method,
        Methods.inner_class_method,
        Methods().static_method,
        Methods.static_method,
        Methods.inner_static_method,
        lambda: Methods().value,
        lambda: Methods.method(Methods()),
        failpoint("site")(Methods()),
        failpoint("site")(functools.partial(plain, 1)),
        failpoint("site")(functools.partial(functools.partial(plain, 1), second=2)),
        failpoint("site")(functools.partial(Methods())),
        functools.partial(failpoint("site")(plain), 1),
        functools.partial(wrapper, 1),
        functools.partial(wrapper_of_builtin, []),
        functools.partial(wrapper_of_partial, 1),
        failpoint("site")(failpoint("other")(functools.partial(plain, 1))),
        functools.partial(cached, 1),
    ],
)
def test_kinds_of_callable(function: Callable[[], Any]) -> None:
    """The annotation is that of the innermost function, whatever wraps it."""
    assert result_of("return(42)", function) == 42
    assert "it is not an int" in refusal("return(x)", function)


def test_closures() -> None:
    """Names in an annotation are looked up in the enclosing function."""
    Alias = int | None  # noqa: N806

    @failpoint("site")
    def evaluated() -> Alias:
        return Alias

    @failpoint("site")
    def unknown() -> Elsewhere:  # type: ignore[name-defined]  # noqa: F821
        return None

    class Local:
        pass

    @failpoint("site")
    def local() -> Local | int:
        return Local()

    assert result_of("return(42)", evaluated) == 42
    assert result_of("return(42)", local) == 42
    assert "a text cannot be converted" not in refusal("return(42)", unknown)
    assert "its return annotation cannot be resolved (name 'Elsewhere' is not defined)" in refusal(
        "return(42)", unknown
    )
    assert "fits no member of the return annotation" in refusal("return(x)", local)


SOURCE = """
{future}
import enum
import functools
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Optional, Union

from failpoints import failpoint

if TYPE_CHECKING:
    from nowhere import Unknown

Number = int

@failpoint("site")
def alias() -> Number: ...

@failpoint("site")
def optional() -> Optional["Number"]: ...

@failpoint("site")
def annotated() -> Annotated["Number | None", "doc"]: ...

@failpoint("site")
def decimal() -> Decimal: ...

@failpoint("site")
def only_checked() -> "Unknown": ...

@failpoint("site")
async def asynchronous() -> "Union[Number, str]": ...

class Class:
    @failpoint("site")
    def method(self) -> "Number": ...

def decorator(function):
    @functools.wraps(function)
    def inside(*args): ...
    return inside
"""


@pytest.fixture(params=["", "from __future__ import annotations"], ids=["evaluated", "strings"])
def module(request: pytest.FixtureRequest, tmp_path: Path) -> ModuleType:
    """Make a separate module, with and without the future import."""
    path = tmp_path / "other.py"
    path.write_text(SOURCE.format(future=request.param))
    spec = importlib.util.spec_from_file_location("other", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_names_of_another_module(module: ModuleType) -> None:
    """A name in an annotation is looked up in the module where the function was written."""
    for function in (module.alias, module.optional, module.annotated, module.Class().method):
        assert result_of("return(42)", function) == 42
    assert "cannot be converted to its return annotation Decimal" in refusal("return(42)", module.decimal)
    assert "cannot be resolved (name 'Unknown' is not defined); pass a convert=" in refusal(
        "return(42)", module.only_checked
    )


def test_annotation_that_wraps_copied(module: ModuleType) -> None:
    """Names in an annotation copied by `functools.wraps` are looked up where they were written."""

    def written_here() -> Number:
        return 1

    wrapped = failpoint("site")(module.decorator(written_here))
    del module.Number
    assert result_of("return(42)", wrapped) == 42


@pytest.mark.anyio
async def test_async_names_of_another_module(module: ModuleType) -> None:
    """Names in the annotation of an async function are looked up in its module."""
    with configured("site", "return(42)"):
        assert await module.asynchronous() == 42


class Colour(enum.StrEnum):
    """An enum whose members are instances of `str`."""

    RED = "red"


@pytest.mark.parametrize("annotation", [Colour, int, str], ids=str)
def test_a_member_of_a_str_enum_is_not_converted(annotation: Any) -> None:
    """An instance of a subclass of `str` is returned unchanged."""
    assert result_of(Return(Colour.RED), returning(annotation)) is Colour.RED


def test_new_type() -> None:
    """A string is converted to the type behind a `NewType`."""
    assert result_of("return(42)", returning(NewType("Cents", int))) == 42


@pytest.mark.parametrize("convert", [5, "int"])
def test_convert_is_a_function(convert: Any) -> None:
    """A `convert` that cannot be called is an error where it is written."""
    with pytest.raises(FailpointUsageError) as caught:
        returning(int, convert=convert)
    assert str(caught.value).endswith(f"convert= must be a sync function that takes a text; got {convert!r}")
