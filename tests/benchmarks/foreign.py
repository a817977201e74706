"""Functions of another package, which know nothing of failpoints."""

from __future__ import annotations


async def function() -> int:
    return 1


async def copied() -> int:
    return 1


class Thing:
    async def call(self) -> int:
        return 1


class Copied:
    async def call(self) -> int:
        return 1


def sync_function() -> int:
    return 1


def sync_copied() -> int:
    return 1
