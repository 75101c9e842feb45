"""Where a sensor stands in a partition: versioned JSON, with a fingerprint of the record before.

A topic that was deleted and created again has other records at the same offsets. The fingerprint shows it when the
partition is taken up, and the number in the events' ids (`topic#n/partition/offset`) rises.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sensors.batch import Cursor
from sensors.errors import NotConnected

VERSION = 1


class Stamped(Protocol):
    """A record, as far as its fingerprint is concerned."""

    key: bytes | None
    value: bytes | None
    timestamp: int


@dataclass(frozen=True, slots=True)
class Position:
    """The next offset to read, the topic's incarnation, and the fingerprint of the record before (empty: none)."""

    next: int
    incarnation: int = 0
    last: str = ""

    def cursor(self, topic: str, partition: int) -> Cursor:
        """Return what is stored."""
        value = {"v": VERSION, "next": self.next, "incarnation": self.incarnation, "last": self.last}
        return Cursor(shard_of(topic, partition), json.dumps(value, separators=(",", ":")))


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
        return Position(int(value["next"]), int(value["incarnation"]), str(value["last"]))
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
