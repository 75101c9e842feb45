"""What the kinds that watch object storage share: an object as it is seen, where objects come from, and notifications.

A kind implements `ObjectSource` (and `NoticeQueue` where there are notifications) over its SDK; `object_sensor` makes a
sensor of them. Listings are the truth. A notification is only a hint that says where to look now, so that both routes
end in the same `Listed`, the same token and the same event id.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from sensors.batch import DeadLetter
from sensors.event import EMPTY

SECOND: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Listed:
    """One object, the same by a listing and by a HEAD.

    `key` is the whole key or path within the bucket or file system, `etag` without quotes, `modified` UTC micros in
    whole seconds (a listing of some servers is more exact than their HEAD; both are cut). `version` is set only where
    versions are watched. `content_type`, `metadata` and `tags` are known only after a HEAD that asked for them.
    `deleted`: this version is a delete marker (only where versions are watched; no size, no etag).
    """

    key: str
    size: int
    etag: str
    modified: int
    version: str = ""
    content_type: str | None = None
    metadata: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    tags: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    deleted: bool = False

    @property
    def token(self) -> str:
        """Return what tells one version of the object from another."""
        return self.version or f"{self.etag}+{self.size}+{self.modified // SECOND}"


@dataclass(frozen=True, slots=True)
class ObjectPage:
    """One page of a listing. `next` continues it; None when the shard is complete."""

    objects: Sequence[Listed]
    next: str | None = None


class ObjectSource(Protocol):
    """Where objects are. All calls raise `NotConnected` with a sentence that names the cause, or `BackOff`.

    `place` names bucket or file system as OpenLineage does (`s3://bucket`, `abfss://fs@account.dfs.core.windows.net`).
    `ordered`: the pages of a shard come in the order of the keys' UTF-8 bytes.
    """

    @property
    def place(self) -> str: ...  # see above

    @property
    def ordered(self) -> bool: ...  # see above

    async def open(self) -> None:
        """Connect, and prove with one call that the bucket or file system is there and may be listed."""
        ...

    async def shards(self, prefixes: Sequence[str]) -> Sequence[str]:
        """Split the listing below these prefixes into disjoint prefixes, in key order, that are listed one by one.

        Returns `prefixes` themselves when there is nothing to be gained.
        """
        ...

    async def page(self, prefix: str, token: str | None, after: str = "") -> ObjectPage:
        """List one page below a prefix: from `token`, else from the first key greater than `after`.

        Folder placeholders are left out.
        """
        ...

    async def head(self, key: str, *, details: bool = False) -> Listed | None:
        """Look at one object; None when there is none. `details` fills content type, metadata and tags."""
        ...

    async def read(self, key: str, start: int, length: int) -> bytes:
        """Read at most `length` bytes from `start`; a negative `start` counts from the end."""
        ...

    def url(self, key: str) -> str:
        """Return the object's URL, `place` + `/` + key, for people and for lineage."""
        ...

    # -- what may be done to an object after its run (see `after` in the options) ------------------------------------
    async def copy(self, key: str, etag: str, to: str) -> None:
        """Copy the object to another key of the same bucket, if it still has this etag; harmless when done twice."""
        ...

    async def move(self, key: str, etag: str, to: str) -> None:
        """Move the object to another key if it still has this etag; harmless when done twice."""
        ...

    async def delete(self, key: str, etag: str) -> None:
        """Delete the object if it still has this etag; harmless when it is gone."""
        ...

    async def tag(self, key: str, etag: str, tags: Mapping[str, str]) -> None:
        """Add tags (metadata, where there are no tags) if it still has this etag; harmless when done twice."""
        ...

    async def close(self) -> None:
        """Let go; never raises."""
        ...


@dataclass(frozen=True, slots=True)
class Hint:
    """What a notification says of one key. `time` is the notification's (UTC micros).

    `written`: look at the key. `removed`: look whether it is gone. `renamed`: `old_key` became `key`. `subtree`: `key`
    is a folder (ending in `/`) that came with all that is in it: list it (`old_key`: the folder that it was before).
    """

    key: str
    what: Literal["written", "removed", "renamed", "subtree"]
    old_key: str = ""
    sequencer: str = ""
    time: int | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """One message of a queue: its hints (none: nothing to do), or why it cannot be read, and what settles it."""

    hints: Sequence[Hint]
    receipt: Any
    dead: DeadLetter | None = None


class NoticeQueue(Protocol):
    """A queue of notifications. Errors as of `ObjectSource`.

    `keep_every`: `keep` must be called this often (seconds), or messages that are being worked on are delivered again.
    """

    keep_every: float

    async def open(self) -> None:
        """Connect, and prove that the queue is there and may be read."""
        ...

    async def receive(self) -> Sequence[Notice]:
        """Wait for messages, at most for the queue's long poll; return a few of them, or none."""
        ...

    async def keep(self, receipts: Sequence[Any]) -> None:
        """Hide these messages from others for longer: the work on them goes on."""
        ...

    async def done(self, receipts: Sequence[Any]) -> None:
        """Delete these messages; what they told of is durable."""
        ...

    async def give_back(self, receipts: Sequence[Any]) -> None:
        """Let others have these messages at once: nobody works on them here any more."""
        ...

    def waiting(self) -> float | None:
        """Return about how many messages wait, None while unknown. Never blocks."""
        ...

    async def close(self) -> None:
        """Let go; never raises."""
        ...
