#!/usr/bin/env bash
# Expected: an alternation matches what one of its parts matches.
# Happens: RE2 takes the set [Ss] for the letter s without its case. In an alternation with another single character, it
#     becomes a set again, and that also has U+017F (long s), which is the same letter without its case. In the same
#     way, [Kk] has the Kelvin sign there.
# Why it matters: a pattern that is translated for RE2, to be matched in linear time, matches a text that Python's re does
#     not match with it. A third character in the set, which no text contains, prevents it.
# Source: re2/parse.cc, Regexp::ParseState::PushRegexp and the third round of Regexp::FactorAlternationRecursive.
set -euo pipefail
VERSION=1.1.20251105
EXPECTED="re  [Ss]|é matches ['s', 'S']
re2 [Ss]   matches ['s', 'S']
re2 [Ss]|é matches ['s', 'S', '\\u017f']
re2 [Kk]|é matches ['k', 'K', '\\u212a']"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "google-re2==$VERSION" 2>/dev/null
cat >"$work/program.py" <<'PROGRAM'
import re

import re2

for engine, name, pattern in (re, "re ", "[Ss]|é"), (re2, "re2", "[Ss]"), (re2, "re2", "[Ss]|é"), (re2, "re2", "[Kk]|é"):
    matched = [each for each in "sS\u017fkK\u212a" if engine.fullmatch(pattern, each)]
    print(name, pattern.ljust(6), "matches", ascii(matched))
PROGRAM
output=$("$work/venv/bin/python" "$work/program.py")
echo "google-re2 $VERSION"
echo "$output"
[ "$output" = "$EXPECTED" ] || { echo "the behaviour has changed; expected:"; echo "$EXPECTED"; exit 1; }
