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
    """Proof of ownership of a shard: a batch is dropped as stale unless the stored epoch is still `epoch`."""

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


@dataclass(frozen=True, slots=True)
class Reply:
    """What a sender is answered instead of the standard answer. `headers` have lower-case names."""

    status: int
    body: bytes = b""
    content_type: str | None = None
    headers: Mapping[str, str] = field(default_factory=lambda: EMPTY)


@dataclass(frozen=True, slots=True)
class Notice:
    """What people should be told beside the events: that a set of objects is overdue, or that none is any more.

    `about` names what it is about (a manifest), empty for the sensor as a whole; `since` is UTC microseconds.
    """

    what: Literal["set_overdue", "sets_in_time"]
    about: str
    detail: str
    since: int


async def _no_ack() -> None:
    """Acknowledge nothing: the source keeps no position of ours."""


@dataclass(frozen=True, slots=True)
class Batch:
    """All that must become durable together. `lease` is a second fence, of the house: see `tidegate.leases`.

    `counts` are exact numbers of what was seen and not stored, by outcome (`skipped`, `ignored`, …). `forget` names
    seen objects to erase. `actions` are kept for events of this batch that are new, and dropped with those that are
    not; one of an event that is not in the batch is kept only with `when` `now`. `actions_done` are uids of actions to
    forget. `notices` are told to people, where anybody is to be told. A batch is stale as a whole when one of its
    `fences`, or the `lease` of its sensor, is; then what is in `apart` is put instead: the same once more, in pieces of
    which each is stale by itself.
    `unwanted` are exact numbers of records that no filter let through, by counter and configuration
    (`sensors.ports.Sieve`). `dedup_for` is how long the ids are remembered, in seconds; None means for ever. `ack` is
    awaited after the commit; when it fails the source redelivers and the ids drop the repeats. `reply` is of push
    sensors: what the sender is answered once the batch is durable; None for the standard answer.
    """

    events: Sequence[Event] = ()
    cursors: Sequence[Cursor] = ()
    fences: Sequence[Fence] = ()
    lease: Fence | None = None
    seen: Sequence[SeenObject] = ()
    forget: Sequence[str] = ()
    dead_letters: Sequence[DeadLetter] = ()
    actions: Sequence[ObjectAction] = ()
    actions_done: Sequence[str] = ()
    notices: Sequence[Notice] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    unwanted: Mapping[tuple[str, str], int] = field(default_factory=dict)
    dedup_for: float | None = None
    ack: Callable[[], Awaitable[None]] = _no_ack
    reply: Reply | None = None
    apart: "Sequence[Batch]" = ()

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
            or self.unwanted
            or self.actions
            or self.actions_done
            or self.notices
        )


def merged(pieces: Sequence[Batch]) -> Batch:
    """Return one batch of several that share nothing; they stay at hand as its `apart`.

    Memories and actions are not merged, for what has fences has none.
    """
    if len(pieces) == 1:
        return pieces[0]
    counts: dict[str, int] = {}
    unwanted: dict[tuple[str, str], int] = {}
    for piece in pieces:
        for outcome, n in piece.counts.items():
            counts[outcome] = counts.get(outcome, 0) + n
        for name, n in piece.unwanted.items():
            unwanted[name] = unwanted.get(name, 0) + n

    async def ack() -> None:
        for piece in pieces:
            await piece.ack()

    return Batch(
        events=[event for piece in pieces for event in piece.events],
        cursors=[cursor for piece in pieces for cursor in piece.cursors],
        fences=[fence for piece in pieces for fence in piece.fences],
        dead_letters=[letter for piece in pieces for letter in piece.dead_letters],
        counts=counts,
        unwanted=unwanted,
        dedup_for=pieces[0].dedup_for,
        ack=ack,
        apart=tuple(pieces),
    )
