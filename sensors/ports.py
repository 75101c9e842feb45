"""What the sensors stage needs from the house; `tidegate/` implements it.

`Inbox` is where batches go: it returns only when the batch is durable. `Lookup` reads remembered objects in pages, and
takes ownership of shards. `Prefilter` lets a stream sensor skip what no trigger could match.
"""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Protocol

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


@dataclass(frozen=True, slots=True)
class Owned:
    """A shard that is owned from now on; batches prove it with `epoch`. `cursor` is its position, if any."""

    shard: str
    epoch: int
    cursor: Cursor | None


class Lookup(Protocol):
    """Reads what a sensor remembers of objects, in bounded pages, and what is to be done to them; takes shards."""

    async def own(self, shards: Sequence[str]) -> Mapping[str, Owned]:
        """Take ownership of shards, durably: what others still hold a fence of lower epoch for is stale from now on.

        Returns when it is durable, with the positions as they are now. Raises `Unavailable`.
        """
        ...

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


class Record(Protocol):
    """What is known of a record before an event is made of it: what filters look at. Read only what they ask for."""

    @property
    def id(self) -> str:
        """The id that its event would have."""
        ...

    @property
    def sensor(self) -> str:
        """The sensor's name."""
        ...

    @property
    def source(self) -> str:
        """The event's source."""
        ...

    @property
    def type(self) -> str:
        """The event's type."""
        ...

    @property
    def subject(self) -> str | None:
        """The event's subject."""
        ...

    @property
    def time(self) -> int | None:
        """The source's own moment, UTC microseconds."""
        ...

    @property
    def attributes(self) -> Mapping[str, str]:
        """The event's attributes."""
        ...

    @property
    def match(self) -> Mapping[str, str]:
        """The captures of a pattern."""
        ...

    def data(self) -> Any:
        """Return the content as expressions see it."""
        ...


class Sieve(Protocol):
    """The filters of one configuration, for the records of one batch.

    Whoever asks says what became of the answer: records that are counted instead of stored are told by `refuse`.
    """

    def wants(self, record: Record) -> bool:
        """Return False only when the filter of no trigger matches. Counts nothing."""
        ...

    def quick(self, type: str) -> Callable[[Any], bool] | None:
        """Return a look at parsed content alone that says False only where `wants` would; None where there is none."""
        ...

    def refuse(self, type: str, n: int = 1) -> None:
        """Count records of a type that are not wanted and will not be stored, exactly."""
        ...

    def unwanted(self) -> Mapping[tuple[str, str], int]:
        """Return how many records were refused, by counter and configuration, for `Batch.unwanted`."""
        ...


class Prefilter(Protocol):
    """Says whether any trigger could match."""

    def wants(self, type: str, subject: str | None) -> bool:
        """Return False only when no trigger could possibly match such an event of this sensor."""
        ...

    def sieve(self) -> Sieve:
        """Return the filters in force now; ask for them once per batch."""
        ...


class WantsAll:
    """The prefilter, and the sieve, that let everything through."""

    def wants(self, *_: object) -> bool:
        """Want it."""
        return True

    def sieve(self) -> "WantsAll":
        """Return itself."""
        return self

    def quick(self, type: str) -> None:
        """There is no quick no."""

    def refuse(self, type: str, n: int = 1) -> None:
        """Count nothing."""

    def unwanted(self) -> Mapping[tuple[str, str], int]:
        """Return nothing."""
        return {}
