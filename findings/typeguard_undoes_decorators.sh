#!/usr/bin/env bash
# Expected: `@typechecked` above another decorator checks the types around whatever that decorator made of the function.
# Happens: if the decorator changed the function instead of wrapping it (it set `__code__`, or returned a function made
#     with other code), `@typechecked` compiles the source of the undecorated function and returns that. What the other
#     decorator did is gone, without a warning. It heeds only a `__wrapped__`: such a function is left alone, with a
#     warning that its types are not checked.
# Why it matters: fault injection, tracing and coverage tools that rewrite code look active but never run. In a class
#     with `@typechecked` this happens to every method. Put `@typechecked` below, next to the function.
# Source: typeguard/_decorators.py, instrument() and typechecked().
set -euo pipefail
VERSION=4.6.1
EXPECTED="changed code, alone: injected
changed code, under @typechecked: done
changed code, in a class under @typechecked: done
changed code, above @typechecked: injected
with __wrapped__, under @typechecked: injected"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "typeguard==$VERSION" 2>/dev/null
cat >"$work/program.py" <<'PROGRAM'
import functools
import types

from typeguard import typechecked


def fails(*args):
    return "injected"


def rewritten(function):
    """Make a function fail by giving a copy of it other code, as a fault injector or a tracer may."""
    copy = types.FunctionType(fails.__code__, function.__globals__, function.__name__)
    for name in ("__module__", "__qualname__", "__doc__", "__annotations__"):
        setattr(copy, name, getattr(function, name))
    copy.__code__ = copy.__code__.replace(
        co_name=function.__name__, co_qualname=function.__qualname__,
        co_filename=function.__code__.co_filename, co_firstlineno=function.__code__.co_firstlineno,
    )
    return copy


def wrapping(function):
    return functools.wraps(function)(lambda *args: fails())


@rewritten
def alone(cents: int) -> str:
    return "done"


@typechecked
@rewritten
def under(cents: int) -> str:
    return "done"


@typechecked
class Shop:
    @rewritten
    def charge(self, cents: int) -> str:
        return "done"


@rewritten
@typechecked
def above(cents: int) -> str:
    return "done"


@typechecked
@wrapping
def wrapped(cents: int) -> str:
    return "done"


print("changed code, alone:", alone(1))
print("changed code, under @typechecked:", under(1))
print("changed code, in a class under @typechecked:", Shop().charge(1))
print("changed code, above @typechecked:", above(1))
print("with __wrapped__, under @typechecked:", wrapped(1))
PROGRAM
output=$("$work/venv/bin/python" -W ignore "$work/program.py")
echo "typeguard $VERSION"
echo "$output"
[ "$output" = "$EXPECTED" ] || { echo "this has changed: @typechecked treats decorated functions differently"; exit 1; }
