"""The steps between a change that was seen and the event that it becomes: completeness, then content.

In flow changes of wanted keys, in the order in which they were seen; out flow those that are complete now, sets that
became complete as a whole, and memory to store without an event. What waits is kept small: an object that is not in the
memory yet is found again by the next scan, so nothing waits that could not be forgotten in a crash, except what the
step puts into its cursor.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sensors.adapters.objects import Listed
from sensors.batch import Cursor, Notice, SeenObject
from sensors.listing import Change

ObjectChange = Change[Listed]
Read = Callable[[int, int], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class CompleteSet:
    """Objects that are complete together: one event. `id` is `subject@digest…`, the same however often it is found.

    `subject` is the folder (with `/` at the end) or the manifest's key, `members` are in key order, `time` is the
    marker's or manifest's modification (UTC micros), `match` the captures that all share.
    """

    id: str
    subject: str
    members: Sequence[Listed]
    time: int
    match: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Judged:
    """What a step made of changes.

    `seen` is memory without an event; `cursors` is the step's own durable state; `notices` are for people.
    """

    ready: Sequence[ObjectChange] = ()
    sets: Sequence[CompleteSet] = ()
    seen: Sequence[SeenObject] = ()
    cursors: Sequence[Cursor] = ()
    notices: Sequence[Notice] = ()


class Completeness(Protocol):
    """Says when objects are complete. Called from one task; may ask the source (errors as of `ObjectSource`)."""

    def take_up(self, cursors: Mapping[str, Cursor]) -> None:
        """Go on from the durable state (its own shard's cursor, if there is one); forgets all else."""
        ...

    def marks(self, key: str) -> bool:
        """Say whether a key is a marker or a manifest: it is wanted although the pattern does not match it."""
        ...

    async def judge(self, changes: Sequence[ObjectChange], now: int) -> Judged:
        """Judge changes; those in no part of the answer wait, and will be seen again or fall due. `now` UTC micros."""
        ...

    def next_due(self) -> float | None:
        """Return when `due` should be called, in seconds of the monotonic clock; None when nothing waits."""
        ...

    async def due(self, now: int) -> Judged:
        """Judge what waits."""
        ...

    def trouble(self) -> str | None:
        """Return the sentence that makes the sensor unhealthy (a set that is overdue), None when all is well."""
        ...


@dataclass(frozen=True, slots=True)
class Inspected:
    """What was read of an object's content.

    `data` are further fields of the event's data (`schema`, `rows`, `format`). `violation` is the sentence that says
    how it breaks what is expected, None when it does not; `difference` the same as data, for the dead letter.
    """

    data: Mapping[str, Any] = field(default_factory=dict)
    violation: str | None = None
    difference: Mapping[str, Any] = field(default_factory=dict)


class Inspector(Protocol):
    """Reads head or footer of files, bounded in bytes, and compares with what is expected."""

    def take_up(self, cursors: Mapping[str, Cursor]) -> None:
        """Go on from the durable state (what the last accepted file looked like)."""
        ...

    async def inspect(self, name: str, size: int, read: Read) -> Inspected:
        """Inspect one file. `read(start, length)` reads a part of it; a negative start counts from the end.

        A file that cannot be read as what it claims to be is a violation where something is expected, and data with
        `error` where not. Raises only what `read` raises.
        """
        ...

    def cursors(self) -> Sequence[Cursor]:
        """Return the state to store with what was inspected since the last call; empty when it did not change."""
        ...
