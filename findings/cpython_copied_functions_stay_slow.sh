#!/usr/bin/env bash
# Expected: a function that is made by `types.FunctionType` from another one's code is called as fast as that one.
# Happens: since CPython 3.13 its calls are never specialized. Only a `def` or a `lambda` that is run gives a function
#     the version that the specializer asks for. Whoever assigns `__code__` takes it away for good, even to put back the
#     code that was there. Until CPython 3.12 both kinds of function get a version when a call first needs one.
# Why it matters: tools that copy functions or exchange their code (patching, tracing, hot reloading, serializing) make
#     each later call slower, and nothing shows it: the bytecode is the same. A trivial call of such a function takes
#     some 10 to 20 % more time than one of its original.
# Source: Objects/funcobject.c, PyFunction_NewWithQualName, func_set_code and _PyFunction_SetVersion;
#     Python/bytecodes.c, MAKE_FUNCTION.
set -euo pipefail
OLD="made by def: specialized
a copy of it: specialized
assigned its own code: specialized"
NEW="made by def: specialized
a copy of it: not specialized
assigned its own code: not specialized"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/program.py" <<'PROGRAM'
import dis
from types import FunctionType


def make():
    def add(first, second):
        return first + second

    return add


def is_specialized(function):
    def caller():
        for _ in range(1_000):
            function(1, 2)

    caller()
    names = [each.opname for each in dis.get_instructions(caller, adaptive=True)]
    return any(name.startswith("CALL_PY") for name in names)


def report(label, function):
    print(f"{label}: {'' if is_specialized(function) else 'not '}specialized")


made = make()
report("made by def", made)
report("a copy of it", FunctionType(made.__code__, made.__globals__, "copy"))
assigned = make()
assigned.__code__ = assigned.__code__
report("assigned its own code", assigned)
PROGRAM
output=$(python3 "$work/program.py")
python3 --version
echo "$output"
if python3 -c 'import sys; sys.exit(sys.version_info < (3, 13))'; then expected=$NEW; else expected=$OLD; fi
[ "$output" = "$expected" ] || { echo "this has changed: other functions are specialized"; exit 1; }
