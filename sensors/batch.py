"""Value types of what a sensor hands over: the batch, and the positions and memories that become durable with it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

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


@dataclass(frozen=True, slots=True)
class ObjectAction:
    """What is to be done to an object after its run: kept from the event's commit until a batch says that it is done.

    `event` is the uid of the causing event, `key` and `etag` the object and the version that the event told of, `to`
    where it is moved or copied. Its time has come at once (`now`), when the event has a run (`accepted`), or when all
    runs of the event succeeded (`succeeded`). `created_at` is UTC micros; the uid comes from `sensors.uid.new_uid`.
    """

    uid: str
    event: str
    key: str
    etag: str
    what: Literal["move", "copy", "tag", "delete"]
    when: Literal["now", "accepted", "succeeded"]
    created_at: int
    to: str = ""
    tags: Mapping[str, str] = field(default_factory=lambda: EMPTY)


async def _no_ack() -> None:
    """Acknowledge nothing: the source keeps no position of ours."""


@dataclass(frozen=True, slots=True)
class Batch:
    """All that must become durable together. `lease` is a second fence, of the house: see `tidegate.leases`.

    `counts` are exact numbers of what was seen and not stored, by outcome (`skipped`, `ignored`, …). `forget` names
    seen objects to erase. `actions` are kept for events of this batch that are new, and dropped with those that are
    not; one of an event that is not in the batch is kept only with `when` `now`. `actions_done` are uids of actions to
    forget. `dedup_for` is how long the ids are remembered, in seconds; None means for ever. `ack` is
    awaited after the commit; when it fails the source redelivers and the ids drop the repeats.
    """

    events: Sequence[Event] = ()
    cursors: Sequence[Cursor] = ()
    fence: Fence | None = None
    lease: Fence | None = None
    seen: Sequence[SeenObject] = ()
    forget: Sequence[str] = ()
    dead_letters: Sequence[DeadLetter] = ()
    actions: Sequence[ObjectAction] = ()
    actions_done: Sequence[str] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    dedup_for: float | None = None
    ack: Callable[[], Awaitable[None]] = _no_ack

    @property
    def empty(self) -> bool:
        """Say whether there is nothing to make durable."""
        return not (
            self.events
            or self.cursors
            or self.seen
            or self.forget
            or self.dead_letters
            or self.counts
            or self.actions
            or self.actions_done
        )
