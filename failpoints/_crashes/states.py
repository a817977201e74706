"""Every state in which a crash can leave a disk, from what a program did to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Final, TypeAlias

from .content import Content, digest
from .disk import Disk, File, Names, applied
from .losses import Loss, Part
from .operations import Acknowledge, Kind, Link, Make, Operation, Remove, Rename, Sync, Truncate, Visit, Write

_LEVELS: Final = (0, 1, 2)  # losses in one state: those with as many come before those with more

_Lost: TypeAlias = tuple[tuple[int, Part], ...]


@dataclass(frozen=True, slots=True)
class State:
    """What a crash leaves behind.

    Attributes:
        loss: When the crash comes, and what the disk loses.
        names: The file at each path.
        files: The kind of each of these files, with where a symbolic link leads, and its bytes.
        acknowledged: How many values were acknowledged by then.
    """

    loss: Loss
    names: Names
    files: Mapping[int, tuple[Kind, str, Content]]
    acknowledged: int

    @property
    def key(self) -> bytes:
        """What tells the state from others: names, bytes, and what was acknowledged."""
        hashed = blake2b(self.acknowledged.to_bytes(8), digest_size=16)
        for path in sorted(self.names):
            kind, target, content = self.files[self.names[path]]
            for part in (path, kind.value, target):
                hashed.update(part.encode("utf-8", "surrogateescape") + b"\0")
            hashed.update(digest(content))
        return hashed.digest()


class CrashStates:
    """The states of a disk after a crash at any point of a program, each once.

    Those in which nothing is lost come first, one for each point, then those with one loss, and so on. Of these, the
    ones right after an acknowledgement come first.

    Args:
        start: The disk before the program. Nothing of it can be lost.
        operations: What the program does.
        is_power: Whether the power fails. If it does not, only the process dies, and nothing is lost.
        limit: The most versions of one file to look at.
        known: The keys of the states that are known already.
        acknowledged: How many values were acknowledged before.
    """

    def __init__(
        self,
        start: Disk,
        operations: Sequence[Operation],
        *,
        is_power: bool,
        limit: int,
        known: set[bytes],
        acknowledged: int = 0,
    ) -> None:
        self._operations = operations
        self._is_power = is_power
        self._limit = limit
        self._known = known
        self.is_cut_off = False  # whether versions were left out because of the limit
        self._disks = [start]
        for position, operation in enumerate(operations):
            self._disks.append(self._disks[-1].after(position, operation))
        self._acknowledged = [acknowledged]
        for operation in operations:
            self._acknowledged.append(self._acknowledged[-1] + isinstance(operation, Acknowledge))

    def state(self, loss: Loss) -> State | None:
        """Return the state with exactly this loss, or `None` if the program has no such crash."""
        if loss.cut >= len(self._disks) or loss.dropped > len(self._disks[loss.cut].pending):
            return None
        names, taken_back = self._taken_back(loss.cut, loss.dropped)
        lost = dict(loss.lost)
        files: dict[int, tuple[Kind, str, Content]] = {}
        for number in set(names.values()):
            file = self._disks[loss.cut].files[number]
            content = file.content
            for step in file.loose:
                if step.position in taken_back:
                    break
                operation = _partly(step.operation, lost.get(step.position))
                content = content if operation is None else applied(content, operation)
            files[number] = (file.kind, file.target, content)
        return State(loss, names, files, self._acknowledged[loss.cut])

    def __iter__(self) -> Iterator[State]:
        """Yield each state that is not known yet, and add its key to the known ones."""
        for low, high in [(level, level) for level in _LEVELS] + [(_LEVELS[-1] + 1, None)]:
            if not self._is_power and low:
                return
            for cut in self._cuts(is_complete=not high):
                for state in self._new_at(cut, low, high):
                    key = state.key
                    if key not in self._known:
                        self._known.add(key)
                        yield state

    def _cuts(self, *, is_complete: bool) -> Iterable[int]:
        """Return the points of the crash. Those right after an acknowledgement matter most, if there is a limit."""
        cuts = range(len(self._disks))
        if is_complete:
            return cuts
        return sorted(cuts, key=lambda cut: not (cut and isinstance(self._operations[cut - 1], Acknowledge)))

    def _new_at(self, cut: int, low: int, high: int | None) -> Iterable[State]:
        """Return the states at a crash point that the point before does not have, by the number of losses."""
        disk = self._disks[cut]
        if not cut:
            return self._at(cut, low, high, forced=None)
        match self._operations[cut - 1]:
            case Write(file):  # the write is there, at least by half
                return self._at(cut, low, high, forced=(file, cut - 1))
            case Make(None):
                return ()
            case Make() | Link() | Rename() | Remove() | Truncate():
                return self._at(cut, low, high, forced=None, most_dropped=0)
            case Sync(number):
                before = self._disks[cut - 1]
                is_file = number is not None and disk.files[number].kind is Kind.FILE
                has_jumped = is_file and len(disk.pending) < len(before.pending)  # a truncation left the queue
                return self._at(cut, low, high, forced=None) if has_jumped else ()
            case Acknowledge():
                return self._at(cut, low, high, forced=None)
            case Visit():
                return ()

    def _at(
        self, cut: int, low: int, high: int | None, *, forced: tuple[int, int] | None, most_dropped: int | None = None
    ) -> Iterator[State]:
        """Yield the states at a crash point with *low* to *high* losses.

        Args:
            cut: How many operations are done.
            low: The fewest losses.
            high: The most losses, or `None` for any number.
            forced: A file and the position of a write to it that must not be lost as a whole.
            most_dropped: The most operations on names to take back.
        """
        disk = self._disks[cut]
        most = min(each for each in (len(disk.pending), high, most_dropped) if each is not None)
        for dropped in range(most + 1):
            names, taken_back = self._taken_back(cut, dropped)
            numbers = sorted(set(names.values()))
            if forced is not None and forced[0] not in numbers:
                continue
            must = -1 if forced is None else forced[1]
            budget = None if high is None else high - dropped
            choices = [
                (number, self._versions(disk.files[number], taken_back, budget, must))
                for number in numbers
                if disk.files[number].loose
            ]
            certain = {
                number: (file.kind, file.target, file.content)
                for number in numbers
                if not (file := disk.files[number]).loose
            }
            for versions, lost in _combinations(choices, max(0, low - dropped), budget):
                files = {number: (Kind.FILE, "", content) for number, content in versions.items()}
                loss = Loss(cut, dropped, tuple(sorted(lost)))
                yield State(loss, names, {**certain, **files}, self._acknowledged[cut])

    def _taken_back(self, cut: int, dropped: int) -> tuple[Names, set[int]]:
        """Return the names that are left, and the positions of the operations on names that are lost."""
        disk = self._disks[cut]
        kept = len(disk.pending) - dropped
        names = disk.pending[kept - 1].names if kept else disk.names
        return names, {each.position for each in disk.pending[kept:]}

    def _versions(
        self, file: File, taken_back: set[int], budget: int | None, must: int
    ) -> Mapping[Content, tuple[int, _Lost]]:
        """Return all contents that a file can have, with the fewest losses that lead to each.

        Data comes after the creation and the truncations of its file: without these, it is not there.
        """
        versions: dict[Content, tuple[int, _Lost]] = {file.content: (0, ())}
        for step in file.loose:
            position, operation = step.position, step.operation
            if position in taken_back:
                return {} if must > position and _is_of(file, must) else versions
            parts: list[Part | None] = [None]
            if isinstance(operation, Write):
                parts += [Part.HALF] if len(operation.data) > 1 else []
                parts += [Part.NONE] if position != must else []
            versions = self._branched(versions, position, {part: _partly(operation, part) for part in parts}, budget)
        return versions

    def _branched(
        self,
        versions: Mapping[Content, tuple[int, _Lost]],
        position: int,
        outcomes: Mapping[Part | None, Write | Truncate | None],
        budget: int | None,
    ) -> dict[Content, tuple[int, _Lost]]:
        found: dict[Content, tuple[int, _Lost]] = {}
        for content, (count, lost) in versions.items():
            for part, operation in outcomes.items():
                losses = count + (part is not None)
                if budget is not None and losses > budget:
                    continue
                changed = content if operation is None else applied(content, operation)
                known = found.get(changed)
                if known is None or losses < known[0]:
                    found[changed] = (losses, lost if part is None else (*lost, (position, part)))
        if len(found) > self._limit:
            self.is_cut_off = True
            found = dict(sorted(found.items(), key=lambda item: item[1][0])[: self._limit])
        return found


def _partly(operation: Write | Truncate, part: Part | None) -> Write | Truncate | None:
    """Return what is left of an operation of which only a part persists, or all of it if *part* is `None`."""
    if part is None or isinstance(operation, Truncate):
        return operation
    if part is Part.NONE:
        return None
    return replace(operation, data=operation.data[: len(operation.data) // 2])


def _is_of(file: File, position: int) -> bool:
    return any(step.position == position for step in file.loose)


def _combinations(
    choices: Sequence[tuple[int, Mapping[Content, tuple[int, _Lost]]]], low: int, high: int | None
) -> Iterator[tuple[dict[int, Content], _Lost]]:
    """Yield one content for each file in every way, with *low* to *high* losses in all of them together."""
    if not choices:
        if low <= 0:
            yield {}, ()
        return
    (number, versions), *rest = choices
    for content, (count, lost) in versions.items():
        if high is not None and count > high:
            continue
        for others, also_lost in _combinations(rest, low - count, None if high is None else high - count):
            yield {number: content, **others}, (*lost, *also_lost)
