"""The output of strace as a sequence of system calls. Strings in it are hexadecimal, which makes it easy to split."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

_CALL: Final = re.compile(
    r"(\d+) +(\w+)\((.*)\) += (-?\d+|0x[0-9a-f]+)(?:<[^>]*>(?:\(deleted\))?)?(?: .*)?$", re.DOTALL
)
_UNFINISHED: Final = re.compile(r"(\d+) +(\w+\(.*?),? *<unfinished \.\.\.>$")
_RESUMED: Final = re.compile(r"(\d+) +<\.\.\. (\w+) resumed> ?(.*)$")
_STRING: Final = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_DESCRIPTOR: Final = re.compile(r"(-?\d+|AT_FDCWD)(?:<(.*?)>)?")


@dataclass(frozen=True, slots=True)
class Call:
    """A system call that has returned, or that has only begun if it starts a process: `result` is `None` then."""

    process: int
    name: str
    arguments: tuple[str, ...]
    result: int | None

    def text(self, index: int) -> bytes:
        """Return the string in an argument; of a list of buffers, all of them together."""
        return b"".join(bytes.fromhex(part.replace("\\x", "")) for part in _STRING.findall(self.arguments[index]))

    def path(self, index: int) -> str:
        """Return the path in an argument."""
        return self.text(index).decode("utf-8", "surrogateescape")

    def number(self, index: int) -> int | None:
        """Return the number in an argument, also if it is behind a pointer, or `None`."""
        found = re.match(r"\[?(-?\d+)", self.arguments[index])
        return int(found[1]) if found else None

    def descriptor(self, index: int) -> int:
        """Return the descriptor in an argument, or -1 for the current folder."""
        found = _DESCRIPTOR.match(self.arguments[index])
        return int(found[1]) if found and found[1] != "AT_FDCWD" else -1

    def folder(self, index: int) -> str:
        """Return the path that strace has found for a descriptor, or for the current folder."""
        found = _DESCRIPTOR.match(self.arguments[index])
        return bytes.fromhex((found[2] or "").replace("\\x", "")).decode("utf-8", "surrogateescape") if found else ""

    def has(self, index: int, flag: str) -> bool:
        """Return whether an argument has a flag."""
        return len(self.arguments) > index and flag in re.split(r"[|, ]", self.arguments[index])


_STARTING: Final = ("clone", "clone3", "fork", "vfork")


def calls(lines: Iterable[str]) -> Iterator[Call]:
    """Yield the calls that succeeded, in the order in which they returned, and the beginnings of those that fork."""
    begun: dict[int, str] = {}
    for line in lines:
        unfinished = _UNFINISHED.match(line)
        if unfinished:
            process, text = int(unfinished[1]), unfinished[2]
            begun[process] = text
            name, _, arguments = text.partition("(")
            if name in _STARTING:
                yield Call(process, name, tuple(_split(arguments)), None)
            continue
        resumed = _RESUMED.match(line)
        if resumed:
            text = begun.pop(int(resumed[1]), "")
            separator = ", " if text and not text.endswith("(") and not resumed[3].startswith((")", ",")) else ""
            line = f"{resumed[1]} {text}{separator}{resumed[3]}"
        found = _CALL.match(line)
        if found and int(found[4], 0) >= 0:
            yield Call(int(found[1]), found[2], tuple(_split(found[3])), int(found[4], 0))


def _split(text: str) -> Iterator[str]:
    """Yield the arguments of a call: commas inside brackets do not separate them."""
    depth, start = 0, 0
    for found in re.finditer(r"[\[\]{}(),]", text):
        sign = found[0]
        if sign in "[{(":
            depth += 1
        elif sign in "]})":
            depth -= 1
        elif not depth:
            yield text[start : found.start()].strip()
            start = found.end()
    if text[start:].strip():
        yield text[start:].strip()
