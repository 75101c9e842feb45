"""Where a sensor stands in a partition: versioned JSON, with fingerprints of records before.

A topic that was deleted and created again has other records at the same offsets, and so has a log whose end was lost
with a broker. The fingerprint of the last record shows it when the partition is taken up; the older ones (a few, each
further back) tell the two apart, and where the log is still the one that was read. The number in the events' ids
(`topic#n/partition/offset`) rises in both cases, for other records at the same offsets are other events.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from sensors.batch import Cursor
from sensors.errors import NotConnected

VERSION = 1
_MARKS = 8


class Stamped(Protocol):
    """A record, as far as its fingerprint is concerned."""

    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int


@dataclass(frozen=True, slots=True)
class Mark:
    """A record that was read: its offset and its fingerprint."""

    offset: int
    print: str


@dataclass(frozen=True, slots=True)
class Position:
    """The next offset to read, the topic's incarnation, and marks of records that were read, the last one first.

    `next` may be beyond the last record: transactions leave offsets that hold none.
    """

    next: int
    incarnation: int = 0
    marks: Sequence[Mark] = ()

    @property
    def last(self) -> Mark | None:
        """Return the last record that was read."""
        return self.marks[0] if self.marks else None

    def after(self, record: Stamped) -> "Position":
        """Return the position after a batch that ends with this record."""
        mark = Mark(record.offset, fingerprint(record))
        return replace(self, next=record.offset + 1, marks=thinned((mark, *self.marks)))

    def cursor(self, topic: str, partition: int) -> Cursor:
        """Return what is stored."""
        value = {
            "v": VERSION,
            "next": self.next,
            "incarnation": self.incarnation,
            "marks": [[mark.offset, mark.print] for mark in self.marks],
        }
        return Cursor(shard_of(topic, partition), json.dumps(value, separators=(",", ":")))


def thinned(marks: Sequence[Mark]) -> tuple[Mark, ...]:
    """Return a few of the marks: of those that are nearly as far back as the one before, the newer goes."""
    if len(marks) <= _MARKS:
        return tuple(marks)
    newest = marks[0].offset
    ages = [newest - mark.offset for mark in marks]
    # The mark to leave out is the one whose older neighbour does most nearly the same service.
    tight = min(range(1, len(marks) - 1), key=lambda n: (ages[n + 1] - ages[n - 1]) / max(1, ages[n + 1]))
    return tuple(mark for n, mark in enumerate(marks) if n != tight)


@dataclass(frozen=True, slots=True)
class Baseline:
    """Where the partitions of a topic began when it was first read; those added later begin at their start."""

    starts: Mapping[int, int]

    def cursor(self, topic: str) -> Cursor:
        """Return what is stored."""
        value = {"v": VERSION, "starts": {str(partition): at for partition, at in self.starts.items()}}
        return Cursor(topic, json.dumps(value, separators=(",", ":")))


def shard_of(topic: str, partition: int) -> str:
    """Return the name of a partition's shard; that of a topic's baseline is the topic."""
    return f"{topic}/{partition}"


def read_position(cursor: Cursor) -> Position:
    """Read a stored position. Raises NotConnected for another form."""
    value = _read(cursor)
    try:
        marks = tuple(Mark(int(offset), str(print_)) for offset, print_ in value["marks"])
        return Position(int(value["next"]), int(value["incarnation"]), marks)
    except (KeyError, TypeError, ValueError) as error:
        raise _odd(cursor) from error


def read_baseline(cursor: Cursor) -> Baseline:
    """Read a stored baseline. Raises NotConnected for another form."""
    value = _read(cursor)
    try:
        return Baseline({int(partition): int(at) for partition, at in value["starts"].items()})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _odd(cursor) from error


def fingerprint(record: Stamped) -> str:
    """Return what tells a record from another one at the same offset."""
    digest = hashlib.blake2b(digest_size=8)
    for part in (record.key, record.value):
        digest.update(b"-" if part is None else b"%d:" % len(part))
        digest.update(part or b"")
    digest.update(b"@%d" % record.timestamp)
    return digest.hexdigest()


def _read(cursor: Cursor) -> Mapping[str, Any]:
    try:
        value = json.loads(cursor.value)
    except ValueError as error:
        raise _odd(cursor) from error
    if not isinstance(value, dict) or value.get("v") != VERSION:
        raise _odd(cursor)
    return value


def _odd(cursor: Cursor) -> NotConnected:
    return NotConnected(
        f"the stored position of {cursor.shard} has another form than version {VERSION}; was it written by a newer one?"
    )
