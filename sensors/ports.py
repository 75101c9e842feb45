"""What the sensors stage needs from the house; `tidegate/` implements it.

`Inbox` is where batches go: it returns only when the batch is durable. `Lookup` reads remembered objects in pages.
`Prefilter` lets a stream sensor skip what no trigger could match.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Protocol

from sensors.batch import Batch, Cursor, ObjectAction, SeenObject


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of one event of a batch: its uid (the first one's, for a duplicate) and whether it was one."""

    uid: str
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Stored:
    """The answer of the inbox. `stale` says that the fence had moved on and nothing was stored."""

    receipts: Sequence[Receipt]
    stale: bool = False


class Inbox(Protocol):
    """Makes batches durable."""

    async def put(self, sensor: str, batch: Batch, parent: str | None = None) -> Stored:
        """Store the batch; returns after the commit. `parent` is the traceparent of the span that received it.

        Raises `sensors.ports.Unavailable` when the store cannot accept now: keep the batch and try again.
        """
        ...

    async def cursors(self, sensor: str) -> Mapping[str, Cursor]:
        """Return the durable positions of a sensor by shard."""
        ...


class Unavailable(Exception):
    """The store cannot accept now (gone, locked, disk full, draining); try again after `retry_after` seconds."""

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Overloaded(Unavailable):
    """Too much waits already; the sender should slow down (HTTP 429)."""


class Lookup(Protocol):
    """Reads what a sensor remembers of objects, in bounded pages, and what is to be done to them."""

    async def seen(self, keys: Sequence[str]) -> Mapping[str, SeenObject]:
        """Return what is remembered of these keys (at most 5,000 at once)."""
        ...

    async def seen_after(self, key: str, limit: int, prefix: str = "") -> Sequence[SeenObject]:
        """Return up to `limit` remembered objects with state `present`, key greater than `key`, in key order."""
        ...

    async def seen_range(self, after: str, upto: str | None, limit: int) -> Sequence[SeenObject]:
        """Return up to `limit` remembered objects of any state with `after` < key <= `upto`, in key order.

        The order is that of the keys' UTF-8 bytes; `upto` None has no end. A scan calls this page by page.
        """
        ...

    async def due_actions(self, limit: int) -> Sequence[ObjectAction]:
        """Return up to `limit` actions whose time has come, oldest first; again and again until a batch has them done.

        `succeeded` waits for all runs of the event. One that failed or was cancelled keeps waiting until the latest run
        of its key succeeded (resumed or tried again); so does an event that a trigger still holds or waits with. An
        action is forgotten with its event, and with the first of the event's runs that is forgotten.
        """
        ...

    async def open_actions(self, keys: Sequence[str]) -> Mapping[str, Sequence[ObjectAction]]:
        """Return the actions that are still to be done to these keys (at most 5,000 at once), oldest first."""
        ...

    async def known(self, ids: Sequence[str]) -> Mapping[str, str]:
        """Return the uids of events by their ids, of those ids (at most 5,000 at once) that are remembered."""
        ...

    async def unfinished(self, events: Sequence[str]) -> AbstractSet[str]:
        """Return which of these events (uids, at most 5,000 at once) are not done with.

        They have a run that has not ended, however it ends, or a trigger holds them or waits with them. An event that
        started nothing is done with, and so is one that was forgotten.
        """
        ...


class Prefilter(Protocol):
    """Says whether any trigger could match, from envelope attributes alone."""

    def wants(self, type: str, subject: str | None) -> bool:
        """Return False only when no trigger could possibly match such an event of this sensor."""
        ...
