"""Value types of what a sensor hands over: the batch, and the positions and memories that become durable with it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sensors.event import EMPTY, Event


@dataclass(frozen=True, slots=True)
class Cursor:
    """A sensor's durable position in one shard (partition, prefix): `value` is versioned JSON text."""

    shard: str
    value: str


@dataclass(frozen=True, slots=True)
class Fence:
    """Proof of ownership of a shard: the batch is dropped as stale unless the stored epoch is still `epoch`."""

    shard: str
    epoch: int


@dataclass(frozen=True, slots=True)
class SeenObject:
    """What a listing sensor remembers of one object.

    `token` is its version (etag, size, modified), `incarnation` rises after an observed deletion, `state` is
    `present` or `deleted`; `first_seen` and `last_changed` are UTC microseconds. `extra` is small JSON of the kind's
    own.
    """

    key: str
    token: str
    incarnation: int
    state: str
    first_seen: int
    last_changed: int
    extra: str = ""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A payload that could not become an event, or an event that could not be judged: why, where, and the raw bytes."""

    reason: str
    detail: str
    position: str
    payload: bytes = b""
    content_type: str | None = None
    event_uid: str | None = None
    attributes: Mapping[str, str] = field(default_factory=lambda: EMPTY)


async def _no_ack() -> None:
    """Acknowledge nothing: the source keeps no position of ours."""


@dataclass(frozen=True, slots=True)
class Batch:
    """All that must become durable together.

    `counts` are exact numbers of what was seen and not stored, by outcome (`skipped`, `ignored`, …). `forget` names
    seen objects to erase. `dedup_for` is how long the ids are remembered, in seconds; None means for ever. `ack` is
    awaited after the commit; when it fails the source redelivers and the ids drop the repeats.
    """

    events: Sequence[Event] = ()
    cursors: Sequence[Cursor] = ()
    fence: Fence | None = None
    seen: Sequence[SeenObject] = ()
    forget: Sequence[str] = ()
    dead_letters: Sequence[DeadLetter] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    dedup_for: float | None = None
    ack: Callable[[], Awaitable[None]] = _no_ack

    @property
    def empty(self) -> bool:
        """Say whether there is nothing to make durable."""
        return not (self.events or self.cursors or self.seen or self.forget or self.dead_letters or self.counts)
