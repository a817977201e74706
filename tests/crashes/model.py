"""The contract's model of a disk, written down a second time, for small programs: every crash, one by one."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

from failpoints._crashes.operations import (
    ROOT,
    Acknowledge,
    Kind,
    Link,
    Make,
    Operation,
    Remove,
    Rename,
    Sync,
    Truncate,
    Write,
)

Folder = tuple[tuple[str, bytes], ...]


def all_states(operations: Sequence[Operation], disk: str) -> set[tuple[Folder, int]]:
    """Return every folder that a crash leaves, with how many values were acknowledged by then."""
    found: set[tuple[Folder, int]] = set()
    for cut in range(len(operations) + 1):
        done = operations[:cut]
        acknowledged = sum(isinstance(each, Acknowledge) for each in done)
        if disk == "process":
            everything = dict.fromkeys(range(cut), "whole")
            found.add((folder_after(done, everything), acknowledged))
            continue
        for kept in kept_names(done):
            loose = [index for index in range(cut) if isinstance(done[index], Write) and not is_synced(done, index)]
            for parts in product(("none", "half", "whole"), repeat=len(loose)):
                chosen = {index: "whole" for index in range(cut) if isinstance(done[index], Write)}
                chosen |= dict.fromkeys(kept, "whole") | dict(zip(loose, parts, strict=True))
                found.add((folder_after(done, chosen), acknowledged))
    return found


def is_synced(done: Sequence[Operation], index: int) -> bool:
    file: Any = done[index]
    return any(each in (Sync(file.file), Sync(None)) for each in done[index:])


def kept_names(done: Sequence[Operation]) -> Iterator[set[int]]:
    """Yield each set of operations on names that can persist: they do so in order, and what is synced does."""
    ordered = [index for index, each in enumerate(done) if isinstance(each, Make | Link | Rename | Remove | Truncate)]
    jumped = {index for index in ordered if isinstance(done[index], Truncate) and is_synced(done, index)}
    least = 0
    for end, each in enumerate(done):
        if each == Sync(None):
            least = end
        elif isinstance(each, Sync) and (each.file == ROOT or each.file in folders_made(done)):
            changed = [index for index in ordered if index < end and each.file in parents(done, index)]
            least = max([least, *(index + 1 for index in changed)])
    must = {index for index in ordered if index < least} | jumped
    queue = [index for index in ordered if index not in must]
    for count in range(len(queue) + 1):
        yield must | set(queue[:count])


def folders_made(done: Sequence[Operation]) -> set[int]:
    return {each.file for each in done if isinstance(each, Make) and each.kind is Kind.FOLDER}


def parents(done: Sequence[Operation], index: int) -> set[int]:
    """Return the folders of which an operation changes a name, as they were named at that time."""
    names = names_after(done[:index], set(range(index)))
    each: Any = done[index]
    if isinstance(each, Truncate):
        return set()
    paths = [each.path, each.source] if isinstance(each, Rename) else [each.path]
    return {names["/".join(path.split("/")[:-1])] if "/" in path else ROOT for path in paths}


def names_after(done: Sequence[Operation], kept: set[int]) -> dict[str, int]:
    names: dict[str, int] = {}
    for index, each in enumerate(done):
        if index not in kept:
            continue
        if isinstance(each, Make | Link):
            names[each.path] = each.file
        elif isinstance(each, Remove):
            del names[each.path]
        elif isinstance(each, Rename):
            names.pop(each.path, None)
            moved = {path: file for path, file in names.items() if (path + "/").startswith(each.source + "/")}
            for path, file in moved.items():
                del names[path]
                names[each.path + path[len(each.source) :]] = file
    return names


def folder_after(done: Sequence[Operation], chosen: dict[int, str]) -> Folder:
    contents: dict[int, bytearray] = {}
    is_missing: dict[int, bool] = {}  # the creation or a truncation of the file
    for index, each in enumerate(done):
        if isinstance(each, Make):
            contents[each.file] = bytearray()
            is_missing[each.file] = index not in chosen
        elif isinstance(each, Truncate) and index not in chosen:
            is_missing[each.file] = True
        elif isinstance(each, Truncate):
            content = contents[each.file]
            contents[each.file] = content[: each.size] + bytes(max(0, each.size - len(content)))
        elif isinstance(each, Write) and not is_missing[each.file] and chosen[index] != "none":
            data = each.data if chosen[index] == "whole" else each.data[: len(each.data) // 2]
            content = contents[each.file]
            if data:
                content.extend(bytes(max(0, each.offset - len(content))))
                content[each.offset : each.offset + len(data)] = data
    names = names_after(done, {index for index in chosen if not isinstance(done[index], Write)})
    return tuple(sorted((path, bytes(contents[file])) for path, file in names.items()))


def random_program(seed: int) -> list[Operation]:
    """Return a short valid program of file operations, in a folder with at most one folder inside."""
    draw = random.Random(seed)
    operations: list[Operation] = []
    names: dict[str, int] = {}
    kinds: dict[int, Kind] = {}
    paths = ["a", "b", "d/a"]
    loose = 0
    for _ in range(draw.randint(2, 9)):
        files = [path for path, file in names.items() if kinds[file] is Kind.FILE]
        usable = [path for path in paths if "/" not in path or "d" in names]
        free = [path for path in usable if path not in names]
        chosen = draw.choice(
            ("make", "write", "write", "truncate", "rename", "link", "remove", "sync", "sync", "folder")
        )
        new: Operation | None = None
        if chosen == "make" and free:
            new = Make(draw.choice(free), len(kinds) + 1)
        elif chosen == "folder" and "d" not in names:
            new = Make("d", len(kinds) + 1, Kind.FOLDER)
        elif chosen == "write" and kinds and loose < 4:
            file = draw.choice([number for number, kind in kinds.items() if kind is Kind.FILE] or [0])
            new = Write(file, draw.choice((0, 0, 2)), draw.choice((b"1111", b"22", b"3"))) if file else None
            loose += 1
        elif chosen == "truncate" and files:
            new = Truncate(names[draw.choice(files)], draw.choice((0, 0, 1, 3)))
        elif chosen == "rename" and files:
            source, target = draw.choice(files), draw.choice(usable)
            new = Rename(source, target) if names.get(target) != names[source] else None
        elif chosen == "link" and files and free:
            new = Link(draw.choice(free), names[draw.choice(files)])
        elif chosen == "remove" and files:
            new = Remove(draw.choice(files))
        elif chosen == "sync":
            new = Sync(draw.choice([None, ROOT, *kinds]))
        if new is None:
            new = Acknowledge(b"") if draw.random() < 0.3 else Sync(ROOT)
        if isinstance(new, Make):
            kinds[new.file] = new.kind
        operations.append(new)
        names = names_after(operations, set(range(len(operations))))
    return operations
