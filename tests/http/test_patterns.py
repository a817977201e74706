"""Patterns that come over HTTP: matched in linear time, and exactly as `re` matches them, or refused in words."""

from __future__ import annotations

import copy
import json
import pickle
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import failpoints
from failpoints import FailpointNameError, FailpointTimeout, FailpointUsageError, configure, failpoint, status
from failpoints._core.context import Matchers
from failpoints._http import patterns
from failpoints._http.budget import Budget, TooMuchWork
from failpoints._http.patterns import Compiler
from failpoints.admin import admin_app

pytestmark = pytest.mark.anyio

AT = "/v1/failpoints"
SLOW = "(a+)+b"  # for which `re` takes some minutes with forty times the letter a
MANY = "a" * 40

with_re2 = pytest.mark.skipif(patterns._re2 is None, reason="google-re2 is not installed")


def client_of(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1")


def entry(pattern: object, name: str = "x") -> list[dict[str, Any]]:
    return [{"name": name, "actions": "return", "context_matchers": {"key": pattern}}]


def compiled(pattern: str, *, allow_any: bool = False) -> Any:
    return Compiler(Budget("too much"), allow_any=allow_any).matchers({"key": pattern})["key"]


def refusal(pattern: str) -> str:
    with pytest.raises(FailpointNameError) as error:
        compiled(pattern)
    return str(error.value)


def translated(pattern: str) -> Callable[[str], object]:
    """Return what matches a pattern if RE2 does, even if it is so simple that `re` would."""
    return patterns._linear(patterns._parser.parse(pattern), Budget("too much"))


# the same matches

CHARACTERS = "aAbkKsS\u017f\u212aiI\u0130\u0131é\u4e2d1\u0661 _-\n\u2028\ud800\U0010ffff"
PATTERNS = [
    "a", "", ".", "(?s).", "a|b|", "[ab]", "[^a]", "a*", "a+?", "(?:a|b)*k", "(a|b){2,3}", "(?:ab){2}", "a{0}",
    r"\d", r"\D", r"\w", r"\W", r"\s", r"\S", r"[\w-]+", r"[^\W\d_]+", r"[\W\d]+", r"[\s\S]*", r"[^\s\S]",
    r"(?a)\w+", r"(?a)\W+", r"(?a)\d", r"(?a)\b\w\b", r"(?a:\d)\d",
    "(?i)k", "(?i)K+", "(?i)s", "(?i)i", "(?i)[^k]", "(?i)[a-z]+", "(?i)[^a-z]", "(?i)[J-t]", r"(?i)\w",
    r"(?i)[\W1]", "(?i)1-_",
    "(?i)[\u4e00-\u4fff]", "(?ai)k", "(?ai)[k-s]", "(?ai)é", "(?i:k)s", "(?i)(?-i:k)s",
    "[Ss]|é", "(?:[Kk]|b)", "(?ai)(?:é|(?i:s))",
    "^a", "a$", r"\Aa", r"a\Z", "(?m)^a$", r"(?m)(?:^a$\n?)+", "(?:a$|b)", "(?:^)*a",
    "(?P<first>a)(?P<second>b)", "(?#a comment)a", "(?x) a b # a comment", r"\x61\u00e9\U00004e2d\141", r"\.\*\(\]",
    "(?:)", "(?:|a)+b", "(?:a?)*?b", "(?:a*)*", "(a|)+", r"[\x80-\U0010ffff]",
]  # fmt: skip


@with_re2
@pytest.mark.parametrize("pattern", PATTERNS)
def test_both_engines_match_the_same(pattern: str) -> None:
    """RE2 matches the translation of a pattern with the texts that `re` matches with the pattern."""
    whole, linear = re.compile(pattern).fullmatch, translated(pattern)
    texts = [first + second + third for first in ["", *CHARACTERS] for second in ["", *CHARACTERS] for third in "\0b"]
    texts = [text.rstrip("\0") for text in texts]
    assert [text for text in texts if linear(text)] == [text for text in texts if whole(text)]


@cache
def every_character() -> str:
    return "".join(map(chr, range(0x110000)))


SETS = [r"\w", r"\d", r"\s", r"\W", r"[^\W_]", "(?i)k", "(?i)[^k]", "(?i)[a-z]", "(?i)[A-z]", "(?i)[^ -~]", r"(?i)\w"]


@with_re2
@pytest.mark.parametrize("pattern", [*SETS, *(f"(?a:{each})".replace("(?a:(?i)", "(?ai:") for each in SETS)])
def test_sets_have_the_same_characters(pattern: str) -> None:
    """A set has the characters that it has in `re` of this Python, of all that there are."""
    flags = "(?i)" if pattern.startswith("(?i)") else ""
    found = re.finditer(f"{flags}(?:{pattern.removeprefix(flags)})+", every_character())
    tree = patterns._parser.parse(pattern)
    text = patterns._sequence(tree, tree.state.flags, last=True)
    ranges = re.findall(r"\\x\{(\w+)\}(?:-\\x\{(\w+)\})?", text)
    ours = [(int(start, 16), int(end or start, 16)) for start, end in ranges if start != "D800"]
    assert ours == [(each.start(), each.end() - 1) for each in found]


def test_no_character_has_an_unknown_case() -> None:
    """A character without another case is equal to no other one for `re`, even if case is ignored."""
    others = [chr(code) for code in range(0x80, 0x110000) if patterns._is_cased(code)]
    uncased = [each for each in {other for one in others for other in one.lower() + one.upper()} if each > "\x7f"]
    uncased = [each for each in uncased if not patterns._is_cased(ord(each))]
    for each in uncased:
        assert re.findall(f"(?i){each}", "".join(others)) == []


ATOMS = ["a", "b", "k", "S", "é", "\n", ".", r"\w", r"\d", r"\W", "[ab]", "[^a]", "[Ss]", " ", "^", "$", r"\Z",
         "(?i:k)", "(?s:.)", "(?m:^)", "(?m:$)", r"(?a:\w)", r"(?a:\b)", "(?-i:s)", "\U0001f600"]  # fmt: skip
REPEATS = ["*", "+", "?", "*?", "{2}", "{0,2}", "{1,}", "{2,3}?", "{0}"]


def larger(smaller: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(smaller, smaller).map("".join),
        st.tuples(smaller, smaller).map(lambda both: f"(?:{both[0]}|{both[1]})"),
        smaller.map(lambda one: f"({one})"),
        st.tuples(smaller, st.sampled_from(REPEATS)).map(lambda both: f"(?:{both[0]}){both[1]}"),
    )


@with_re2
@settings(derandomize=True, deadline=None, max_examples=400)
@given(
    st.sampled_from(["", "(?i)", "(?s)", "(?m)", "(?a)", "(?ai)"]),
    st.recursive(st.sampled_from(ATOMS), larger, max_leaves=6),
    st.lists(st.text("abkKsS\u017f\u212aé1 \n\ud800\U0001f600", max_size=4), min_size=8, max_size=8),
)
def test_no_pattern_matches_differently(flags: str, pattern: str, texts: list[str]) -> None:
    """A pattern either is refused, or matches what `re` matches."""
    whole = re.compile(flags + pattern).fullmatch
    try:
        linear = translated(flags + pattern)
    except patterns._Refused:
        return
    for text in texts:
        assert bool(linear(text)) == bool(whole(text)), (flags + pattern, text)


# what is refused


@with_re2
@pytest.mark.parametrize(
    ("pattern", "because"),
    [
        ("(?!a).*b+", "a look-around such as (?!…) is not matched in linear time"),
        ("(?=a)a*b*", "a look-around such as (?=…) is not matched in linear time"),
        ("(?<=a)b*c*", "a look-around such as (?=…) is not matched in linear time"),
        ("(?!)", "a look-around such as (?!…) is not matched in linear time"),
        (r"(a+)b\1", "a reference to a group is not matched in linear time"),
        (r"(a)?b(?(1)c|d)", "a reference to a group is not matched in linear time"),
        ("(?>a+)b+", "an atomic group (?>…) is not matched in linear time"),
        ("a++b*c*", "a possessive repetition such as *+ is not matched in linear time"),
        (r"\ba*b*\b", r"\b (without (?a)) and \B mean something else in RE2"),
        (r"(?a)a*\Bb*", r"\b (without (?a)) and \B mean something else in RE2"),
        (r"(a+$)+", "$ before the end, which also stands before a final newline, means something else in RE2"),
        ("(?i)é*k*", "it ignores the case of other letters than those of ASCII, which must be written as in [äÄ]"),
        ("(?i)[à-ÿ]*k*", "it ignores the case of other letters than those of ASCII, which must be written as in [äÄ]"),
        ("\ud800*k*", "it tells surrogates, or U+10FFFF, from other characters"),
        ("[\ue000-\U0010ffff]*k*", "it tells surrogates, or U+10FFFF, from other characters"),
        ("(a{1001})*", "it repeats too much"),
        ("((a{100}){100})*", "it repeats too much"),
    ],
)
def test_patterns_that_are_not_accepted(pattern: str, because: str) -> None:
    """A pattern that RE2 cannot match, or matches in another way, is refused with the reason and the way out."""
    text = repr(pattern)
    assert refusal(pattern) == (
        f"the pattern for 'key' is not accepted from outside, because {because}: simplify {text}, or let the control"
        " plane accept any pattern (FAILPOINTS_HTTP_ALLOW=any-pattern, or admin_app(allow_any_pattern=True))"
    )
    whole = re.compile(pattern).fullmatch
    allowed = compiled(pattern, allow_any=True)
    assert all(bool(allowed.fullmatch(text)) == bool(whole(text)) for text in ["", "ab", "aab", "k", "é"])


def test_patterns_that_are_not_valid() -> None:
    """A pattern that `re` does not accept is refused as `configure` refuses it, also if any pattern is allowed."""
    for text in "(", "a**", "(?P<a", "[b-a]", r"\8", "a{99999999999}":
        with pytest.raises(FailpointNameError) as ours:
            compiled(text, allow_any=True)
        with pytest.raises(FailpointNameError) as theirs:
            configure("x", "off", context={"key": text})
        assert str(ours.value) == str(theirs.value)


def test_nested_patterns() -> None:
    """A pattern that is nested too deeply is refused."""
    assert refusal("(" * 1_000 + ")" * 1_000) == "the pattern for 'key' is nested too deeply"


@with_re2
def test_long_patterns() -> None:
    """A pattern may have 10,000 characters."""
    assert compiled("a" * 10_000).fullmatch("a" * 10_000)
    assert refusal("a" * 10_001) == "the pattern for 'key' must have at most 10000 characters; got 10001"


def test_a_doubtful_pattern() -> None:
    """A pattern of which `re` warns is refused where warnings are errors, and accepted elsewhere."""
    assert "is not a valid regular expression" in refusal("[[a]")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert compiled("[[a]").fullmatch("[")


@with_re2
@pytest.mark.parametrize(
    "given",
    [
        "(?:" * 90 + "a" * 9_000 + ")" * 90,
        r"\w" * 90 + "+x*",
        "(a{1001})*",
        "[\x00-\uffff]*" * 20,
        f"(?i){'[a-z]' * 500}",
    ],
)
def test_patterns_cost_work(given: str) -> None:
    """The patterns of one request are compiled in a moment, or the request is too much work."""
    compiler = Compiler(Budget("too much"), allow_any=True)
    started = time.process_time()
    with pytest.raises(TooMuchWork):
        for number in range(1_000):
            compiler.matchers({"key": given, "other": f"{given}{number}"[:10_000]})
    assert time.process_time() - started < 10


# linear time


@with_re2
async def test_a_slow_pattern_cannot_stop_the_program() -> None:
    """A pattern for which `re` takes exponential time is matched at once, at the visit and in messages."""
    async with client_of(admin_app()) as client:
        assert (await client.put(AT, json=entry(SLOW))).status_code == 200
        context = {"other": 1, "key": MANY}
        assert not failpoint("x", context=context).hit()
        assert status("x").last_mismatch == f"key={MANY!r} does not match {SLOW!r}"
        assert failpoint("x", context={"key": f"{MANY}b"}).hit()
        both = {"other": "a", "key": SLOW}
        await client.put(AT, json=[{"name": "y", "actions": "off", "context_matchers": both}])
        failpoint("y", context=context).hit()
        with pytest.raises(FailpointTimeout, match=re.escape(f"key={MANY!r} does not match {SLOW!r}")):
            await failpoints.wait_until_hit("y", timeout=0)
        waited = await client.get(f"{AT}/y/wait?timeout=0")
        assert waited.status_code == 408


@pytest.mark.parametrize(
    ("pattern", "simple"),
    [
        ("test_.*", True),
        ("", True),
        (r"(?i)straße-\d+", True),
        (r"[0-9a-f]{8}-[0-9a-f]{4}", True),
        ("t1|t2|t3.*", True),
        ("test_(a|b|c)", True),
        ("(?P<tenant>test_.+)", True),
        (r"\bshop\b.*", True),
        (".*a.*", False),
        ("(aa|b)c", False),
        ("(ab)*", False),
        ("(?=a).", False),
        ("a" * 1_001, False),
    ],
)
def test_simple_patterns_are_matched_by_re(pattern: str, simple: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Patterns for which `re` takes linear time need no google-re2. Without it, all others are refused."""
    monkeypatch.setattr(patterns, "_re2", None)
    if simple:
        assert isinstance(compiled(pattern).fullmatch.__self__, re.Pattern)
    else:
        message = refusal(pattern)
        assert "because matching it in linear time takes google-re2, which is not installed (pip install" in message
        assert "\n" not in message
        assert compiled(pattern, allow_any=True).fullmatch.__self__.pattern == pattern


# what else a pattern is


@with_re2
def test_a_compiled_pattern_is_the_text() -> None:
    """A pattern from outside is equal to the same text, so both are matchers of one configuration. A copy is a text."""
    pattern = compiled("(a|b)*c")
    assert pattern == "(a|b)*c"
    assert Matchers({"key": pattern}).same_as(Matchers({"key": "(a|b)*c"}))
    for copied in copy.deepcopy(pattern), pickle.loads(pickle.dumps(pattern)):
        assert (type(copied), copied) == (str, "(a|b)*c")


async def test_replacing_a_pattern_from_inside() -> None:
    """A configuration with the same pattern from Python replaces the one from outside."""
    async with client_of(admin_app()) as client:
        await client.put(AT, json=entry("t.*"))
        configure("x", "off", context={"key": "t.*"})
        assert len(status("x").configurations) == 1
        shown = (await client.get(f"{AT}/x")).json()
        assert shown["matchers"] == {"key": "t.*"}


async def test_a_refused_pattern_over_http() -> None:
    """A pattern that is refused is a 400, and changes nothing; `allow_any_pattern` accepts it."""
    body = entry("(?!test_).*")
    async with client_of(admin_app()) as client:
        answer = await client.put(AT, json=[*entry("a", "y"), *body])
        assert answer.status_code == 400
        assert answer.json()["msg"].startswith("entry 2: the pattern for 'key' is not accepted from outside, because")
        assert failpoints.statuses() == []
    async with client_of(admin_app(allow_any_pattern=True)) as client:
        assert (await client.put(AT, json=body)).status_code == 200
        assert failpoint("x", context={"key": "t1"}).hit()
        assert not failpoint("x", context={"key": "test_1"}).hit()


def test_allow_any_pattern_is_a_bool() -> None:
    """Only `True` allows any pattern."""
    with pytest.raises(FailpointUsageError, match="allow_any_pattern must be True or False; got 'no'"):
        admin_app(allow_any_pattern="no")  # type: ignore[arg-type]


def test_the_variable(run: Callable[..., Any], raw: Any) -> None:
    """With `FAILPOINTS_HTTP_ALLOW=any-pattern`, the control plane of a program accepts any pattern."""
    program = run("from prelude import *\nready()", FAILPOINTS_HTTP="127.0.0.1:0", FAILPOINTS_HTTP_ALLOW="any-pattern")
    assert raw.ask(program.ready(), "PUT", AT, json=entry("(?!a)b")).status == 200


def test_a_wrong_variable(run: Callable[..., Any]) -> None:
    """Any other value of `FAILPOINTS_HTTP_ALLOW` stops the program at its start, with the nearest one."""
    program = run("import failpoints", FAILPOINTS_HTTP="127.0.0.1:0", FAILPOINTS_HTTP_ALLOW="any-patern")
    status, output = program.ended()
    assert status == 1
    assert "FAILPOINTS_HTTP_ALLOW is 'any-patern': expected any-pattern; did you mean 'any-pattern'?" in output


def test_another_module_of_that_name(tmp_path: Any) -> None:
    """A module `re2` that is not google-re2 counts as not installed."""
    (tmp_path / "re2.py").write_text("")
    code = "import json, failpoints._http.patterns as p; print(json.dumps(p._re2 is None))"
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {code}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout) is True, done.stderr
