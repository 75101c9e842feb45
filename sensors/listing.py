"""The difference engine of every sensor that lists: what a page of entries means against what is remembered.

In flow one page of entries (and what `Lookup.seen` remembers of their keys), out flow changes in the order of the page,
each with the memory to store beside its event. Nothing flows for an entry that is remembered as it is, so an unchanged
source writes nothing. Deletions are a separate question, to be asked only after a complete scan without an error.

An object's event id is `key@token#incarnation`: the same by every route on which the object is seen. The incarnation
rises when an object comes back after an observed deletion, and when one takes the place of another that is not older
(written in the same second, or moved there): so one that has the token of an earlier one is a new fact all the same.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from sensors.batch import SeenObject

PRESENT = "present"
DELETED = "deleted"

D = TypeVar("D")


class What(StrEnum):
    """What happened to an object; the value is the event type."""

    CREATED = "object.created"
    OVERWRITTEN = "object.overwritten"
    RENAMED = "object.renamed"
    DELETED = "object.deleted"
    COMPLETED = "object.set.completed"


@dataclass(frozen=True, slots=True)
class Entry(Generic[D]):
    """One listed object: its key, its version token, when it was modified (UTC micros), and the kind's own."""

    key: str
    token: str
    modified: int | None
    detail: D


@dataclass(frozen=True, slots=True)
class Change(Generic[D]):
    """One difference: what happened, the entry (None for a deletion), and the memory to store with the event.

    `before` is the token that was remembered, of an overwritten object.
    """

    what: What
    entry: Entry[D] | None
    seen: SeenObject
    before: str = ""

    @property
    def id(self) -> str:
        """Return the event id that identifies this change wherever it is observed."""
        return object_id(self.seen)


def object_id(seen: SeenObject) -> str:
    """Return `key@token#incarnation`, with `!deleted` at the end for the deletion of that version."""
    end = "!deleted" if seen.state == DELETED else ""
    return f"{seen.key}@{seen.token}#{seen.incarnation}{end}"


def compare(entries: Iterable[Entry[D]], seen: Mapping[str, SeenObject], now: int) -> list[Change[D]]:
    """Return what is new or different in these entries. `now` (UTC micros) stamps the memory. Pure.

    A key that occurs twice in the entries counts as its last occurrence.
    """
    changes: list[Change[D]] = []
    for entry in {entry.key: entry for entry in entries}.values():
        known = seen.get(entry.key)
        if known is None:
            memory = SeenObject(entry.key, entry.token, 0, PRESENT, now, now)
            changes.append(Change(What.CREATED, entry, memory))
        elif known.state == DELETED:
            memory = SeenObject(entry.key, entry.token, known.incarnation + 1, PRESENT, now, now)
            changes.append(Change(What.CREATED, entry, memory))
        elif known.token != entry.token:
            incarnation = known.incarnation + (not _later(known.token, entry.token))
            memory = SeenObject(entry.key, entry.token, incarnation, PRESENT, known.first_seen, now, known.extra)
            changes.append(Change(What.OVERWRITTEN, entry, memory, known.token))
    return changes


def _later(before: str, after: str) -> bool:
    """Say whether a version's modification, with which its token ends, is after that of the one before."""
    old, new = before.rpartition("+")[2], after.rpartition("+")[2]
    return old.isdecimal() and new.isdecimal() and int(new) > int(old)


def vanished(objects: Iterable[SeenObject], now: int) -> list[Change[D]]:
    """Return the deletions of remembered objects whose absence is proven. `now` in UTC micros. Pure."""
    return [
        Change(What.DELETED, None, SeenObject(o.key, o.token, o.incarnation, DELETED, o.first_seen, now, o.extra))
        for o in objects
        if o.state == PRESENT
    ]
