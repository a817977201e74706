"""The marker `@pytest.mark.failpoints`."""

from __future__ import annotations

from importlib.metadata import version
from textwrap import dedent

import pytest

from tests.plugin.inner_files import GATEWAY, GATEWAY_IMPORTS, RunTests

MARKED = """
pytestmark = pytest.mark.failpoints({name: "return(module)" for name in "abcde"}, expect_hit=False)


def seen():
    return [outcome.value if outcome else None for outcome in (failpoint(name).hit() for name in "abcde")]


def test_of_the_module():
    assert seen() == ["module"] * 5


@pytest.mark.failpoints({"b": "return(class)", "c": "return(class)", "d": "return(class)"})
class TestLevels:
    def test_of_the_class(self):
        assert seen() == ["module", "class", "class", "class", "module"]

    @pytest.mark.failpoints({"c": "return(function)", "d": "return(function)"})
    @pytest.mark.parametrize("parameter", [
        pytest.param("its own", marks=pytest.mark.failpoints({"d": "return(parameter)", "e": "return(parameter)"})),
        "none",
    ])
    def test_of_the_function_and_the_parameter(self, parameter):
        closest = ["parameter", "parameter"] if parameter == "its own" else ["function", "module"]
        assert seen() == ["module", "class", "function", *closest]


@pytest.mark.failpoints({"a": "return(upper)", "b": "return(upper)"})
@pytest.mark.failpoints({"a": "return(lower)"})
def test_two_on_one_function():
    assert seen()[:2] == ["lower", "upper"]


@pytest.mark.failpoints({"a": "return(matched)"}, context={"k": "v"})
def test_with_matchers(failpoints):
    assert failpoint("a", context={"k": "v"}).hit() == Return("matched")
    assert failpoint("a").hit() == Return("module")
    assert (failpoints.handle("a").hits, failpoints.handle("a").misses) == (1, 1)


@pytest.mark.failpoints({"a": "return(far)"}, context={"k": "v"})
@pytest.mark.failpoints({"a": "return(close)"}, context={"k": "v"})
@pytest.mark.failpoints({"a": "return(other)"}, context={"k": "w"})
def test_with_different_matchers(failpoints):
    assert failpoint("a", context={"k": "v"}).hit() == Return("close")
    assert failpoint("a", context={"k": "w"}).hit() == Return("other")
    assert failpoint("a").hit() == Return("module")
    assert [each.hits for each in failpoints.status("a").configurations] == [1, 1, 1]


@pytest.mark.failpoints({"a": "return(matched)"}, context={"k": "v"})
@pytest.mark.failpoints({"a": "return(all)"})
def test_without_matchers_closer_to_the_test(failpoints):
    assert failpoint("a", context={"k": "v"}).hit() == Return("all")
    assert len(failpoints.status("a").configurations) == 1


@pytest.mark.failpoints({"a": Return([1]), "b": [Term(Off(), times=1), Return(2)]})
def test_with_actions_in_python():
    assert [failpoint(name).hit() for name in "abb"] == [Return([1]), Continue(), Return(2)]


@pytest.mark.failpoints({"a": "return(marker)"})
def test_that_sets_over_it(failpoints):
    assert failpoint("a").hit() == Return("marker")
    failpoints.set("a", "return(set)")
    assert failpoint("a").hit() == Return("set")
"""

MARKED_FIXTURES = """
pytestmark = pytest.mark.parametrize("asked_for", [1, 2])


@pytest.fixture(scope="session", autouse=True)
def in_session():
    return refund()


@pytest.fixture(scope="module")
def in_module():
    return refund()


@pytest.fixture(scope="class")
def in_class():
    return refund()


@pytest.fixture(autouse=True)
def autouse():
    return refund()


@pytest.fixture
def in_function():
    return refund()


@pytest.mark.failpoints({"gateway.refund": "return(7)"})
def test_without_the_fixture(in_function, autouse, in_class, in_module, in_session, asked_for):
    assert (in_session, in_module, in_class) == (PRICE, PRICE, PRICE)
    assert (autouse, in_function, refund()) == (7, 7, 7)


@pytest.mark.failpoints({"gateway.refund": "return(7)"})
def test_with_the_fixture(in_function, autouse, in_class, in_module, in_session, asked_for, failpoints):
    assert (in_session, in_module, in_class) == (PRICE, PRICE, PRICE)
    assert (autouse, in_function, refund()) == (7, 7, 7)


@pytest.mark.failpoints({"gateway.refund": "return(7)"})
@pytest.mark.usefixtures("in_function", "failpoints")
def test_with_usefixtures(autouse, in_module, asked_for):
    assert (in_module, autouse, refund()) == (PRICE, 7, 7)


def test_without_a_marker(autouse, in_function, asked_for):
    assert (autouse, in_function, refund()) == (PRICE, PRICE, PRICE)
"""


def test_the_closest_marker_wins(run_tests: RunTests) -> None:
    """For each name and matchers the closest marker wins: of the module, the class, the function, the parameter."""
    run_tests(GATEWAY_IMPORTS + MARKED, files={"shop.py": GATEWAY}).assert_outcomes(passed=10)


def test_markers_act_in_fixtures(run_tests: RunTests) -> None:
    """A marker acts in all function-scoped fixtures of its test, and in none of a wider scope."""
    run_tests(GATEWAY_IMPORTS + MARKED_FIXTURES, files={"shop.py": GATEWAY}).assert_outcomes(passed=8)


@pytest.mark.skipif(
    tuple(map(int, version("anyio").split(".")[:2])) < (4, 13), reason="older versions look for their marker earlier"
)
def test_markers_that_a_conftest_adds(run_tests: RunTests) -> None:
    """A marker that a conftest.py adds during collection acts like one in the source, even beside other markers."""
    conftest = """
        import inspect
        import pytest

        def pytest_collection_modifyitems(items):
            items[0].add_marker(pytest.mark.failpoints({"gateway.refund": "return(7)"}))
            for item in items:
                if inspect.iscoroutinefunction(item.function):
                    item.add_marker("anyio")
    """
    tests = """
        def test_marked():
            assert refund() == 7

        def test_not_marked():
            assert refund() == PRICE

        @pytest.mark.failpoints({"gateway.charge": "return(7)"})
        async def test_made_async():
            assert await charge("1") == 7
    """
    result = run_tests(GATEWAY_IMPORTS + dedent(tests), files={"shop.py": GATEWAY, "conftest.py": conftest})
    result.assert_outcomes(passed=4)


DOCTESTS = {
    "conftest.py": """
        import pytest

        def pytest_collection_modifyitems(items):
            for item in items:
                item.add_marker(pytest.mark.failpoints({"gateway.refund": "return(7)"}))
    """,
    "test_text.txt": """
        >>> from shop import refund
        >>> refund()
        7
    """,
    "test_never_hit.txt": """
        >>> 1 + 1
        2
    """,
}


def test_markers_on_doctests(run_tests: RunTests) -> None:
    """A marker acts in the doctests of modules and text files, and fails one that does not hit its failpoint."""
    source = """
    from shop import refund

    def seven():
        '''
        >>> refund()
        7
        '''
    """
    arguments = ("--doctest-modules", "--doctest-glob=*.txt")
    result = run_tests(source, *arguments, files={"shop.py": GATEWAY, **DOCTESTS})
    result.assert_outcomes(passed=2, failed=1)
    assert "failpoint 'gateway.refund' was set and never hit: the test passed" in result.stdout.str()
    place = "test_never_hit.txt:1 (marker of [doctest] test_never_hit.txt)"
    assert f"  configured: return(7), at {place}" in result.outlines


ITEMS_WITHOUT_FIXTURES = """
    import pytest


    class TextItem(pytest.Item):
        def runtest(self):
            assert self.path.read_text() == "text"


    class TextFile(pytest.File):
        def collect(self):
            item = TextItem.from_parent(self, name="item")
            item.add_marker(pytest.mark.failpoints({"x": "off"}))
            yield item


    def pytest_collect_file(file_path, parent):
        if file_path.suffix == ".text":
            return TextFile.from_parent(parent, path=file_path)
"""


def test_markers_on_items_without_fixtures(run_tests: RunTests) -> None:
    """A marker does not break an item of another plugin that cannot have fixtures."""
    run_tests("", files={"conftest.py": ITEMS_WITHOUT_FIXTURES, "a.text": "text"}).assert_outcomes(passed=1)
