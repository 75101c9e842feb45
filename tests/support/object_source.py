"""An object storage in memory: keys with bytes, etag and modification, listed in pages of any size, failing on demand.

In flow what a test puts, touches and removes; out flow pages, heads and bytes as of `ObjectSource`. A listing is live:
what changes behind its position is missed and what changes before it is seen, as with a real one.
"""

import asyncio
import bisect
import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sensors.adapters.objects import SECOND, Listed, ObjectPage
from sensors.event import EMPTY


@dataclass(frozen=True, slots=True)
class Stored:
    """One object: its bytes and what a listing says of it."""

    body: bytes
    etag: str
    modified: int
    version: str = ""
    size: int | None = None  # when it shall claim another size than its bytes have
    content_type: str | None = None
    metadata: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    tags: Mapping[str, str] = field(default_factory=lambda: EMPTY)

    def listed(self, key: str, *, details: bool = False) -> Listed:
        """Return the object as the contract shows it."""
        size = len(self.body) if self.size is None else self.size
        plain = Listed(key, size, self.etag, self.modified, self.version)
        if not details:
            return plain
        return Listed(
            key, size, self.etag, self.modified, self.version, self.content_type, dict(self.metadata), dict(self.tags)
        )


class MemoryObjects:
    """An `ObjectSource` in memory. `now` gives the time of writes (UTC micros), cut to whole seconds.

    `objects` may be changed at will. `failures` are raised by the next calls, whatever they are; `fail[name]` by the
    next calls of that method (None lets one pass); `broken[key]` by every head or read of that key. `asked` lists all
    calls as (method, key or prefix), `counts` numbers them. `on_page` is called after each page, so that a test may
    write during a listing. `unordered` lists backwards. `versioned` gives every write a version of its own.
    """

    def __init__(self, now: Callable[[], int], *, page_size: int = 1000, place: str = "mem://bucket") -> None:
        self.now = now
        self.page_size = page_size
        self.place = place
        self.objects: dict[str, Stored] = {}
        self.failures: list[Exception | None] = []
        self.fail: dict[str, list[Exception | None]] = {}
        self.broken: dict[str, Exception] = {}
        self.asked: list[tuple[str, str]] = []
        self.on_page: Callable[[str, ObjectPage], None] | None = None
        self.unordered = False
        self.pages: Callable[[], Sequence[Listed]] | None = None  # what is listed instead, all on one page
        self.versioned = False
        self.split: Sequence[str] | None = None  # what `shards` answers
        self.busy = 0  # calls under way
        self.busiest = 0
        self.opened = 0
        self.closed = 0
        self._serial = itertools.count(1)

    # -- what a test does ---------------------------------------------------------------------------------------------
    def put(
        self,
        key: str,
        body: bytes = b"x",
        *,
        modified: int | None = None,
        etag: str | None = None,
        size: int | None = None,
        content_type: str | None = None,
        metadata: Mapping[str, str] = EMPTY,
        tags: Mapping[str, str] = EMPTY,
    ) -> Listed:
        """Write an object and return it. The etag is a hash of the bytes, the time is now, unless given."""
        moment = self.now() if modified is None else modified
        stored = Stored(
            body,
            hashlib.md5(body).hexdigest() if etag is None else etag,
            moment // SECOND * SECOND,
            f"v{next(self._serial)}" if self.versioned else "",
            size,
            content_type,
            dict(metadata),
            dict(tags),
        )
        self.objects[key] = stored
        return stored.listed(key)

    def remove(self, *keys: str) -> None:
        """Remove objects, if they are there."""
        for key in keys:
            self.objects.pop(key, None)

    def listed(self, key: str) -> Listed:
        """Return an object that is there."""
        return self.objects[key].listed(key)

    @property
    def counts(self) -> Counter[str]:
        """Return how often each method was called."""
        return Counter(method for method, _ in self.asked)

    # -- the contract -------------------------------------------------------------------------------------------------
    @property
    def ordered(self) -> bool:
        """Say whether pages come in key order."""
        return not self.unordered

    async def open(self) -> None:
        """Connect."""
        await self._ask("open")
        self.opened += 1

    async def shards(self, prefixes: Sequence[str]) -> Sequence[str]:
        """Return the prefixes, or what a test set."""
        await self._ask("shards")
        return prefixes if self.split is None else self.split

    async def page(self, prefix: str, token: str | None, after: str = "") -> ObjectPage:
        """List one page; tokens are texts that only this class reads."""
        await self._ask("page", prefix)
        if self.pages is not None:
            return ObjectPage([listed for listed in self.pages() if listed.key.startswith(prefix)])
        keys = sorted((key for key in self.objects if key.startswith(prefix)), key=str.encode)
        if self.unordered:
            keys = [key for key in reversed(keys) if key > after]
            start = next((i for i, key in enumerate(keys) if token is not None and key < token[1:]), len(keys))
            start = start if token is not None else 0
        else:
            start = bisect.bisect_right(keys, (token[1:] if token is not None else after).encode(), key=str.encode)
        part = keys[start : start + self.page_size]
        more = start + self.page_size < len(keys)
        page = ObjectPage([self.listed(key) for key in part], f">{part[-1]}" if more else None)
        if self.on_page is not None:
            self.on_page(prefix, page)
        return page

    async def head(self, key: str, *, details: bool = False) -> Listed | None:
        """Look at one object."""
        await self._ask("head", key)
        stored = self.objects.get(key)
        return None if stored is None else stored.listed(key, details=details)

    async def read(self, key: str, start: int, length: int) -> bytes:
        """Read a part; nothing of an object that is gone."""
        await self._ask("read", key)
        stored = self.objects.get(key)
        body = b"" if stored is None else stored.body
        begin = max(0, len(body) + start) if start < 0 else start
        return body[begin : begin + length]

    def url(self, key: str) -> str:
        """Return place and key."""
        return f"{self.place}/{key}"

    async def copy(self, key: str, etag: str, to: str) -> None:
        """Copy, if the etag is still the same."""
        await self._ask("copy", key)
        stored = self.objects.get(key)
        if stored is not None and stored.etag == etag:
            self.put(to, stored.body, etag=stored.etag, metadata=stored.metadata, tags=stored.tags)

    async def move(self, key: str, etag: str, to: str) -> None:
        """Rename, if the etag is still the same."""
        await self._ask("move", key)
        stored = self.objects.get(key)
        if stored is not None and stored.etag == etag:
            self.objects[to] = self.objects.pop(key)

    async def delete(self, key: str, etag: str) -> None:
        """Delete, if the etag is still the same."""
        await self._ask("delete", key)
        stored = self.objects.get(key)
        if stored is not None and stored.etag == etag:
            del self.objects[key]

    async def tag(self, key: str, etag: str, tags: Mapping[str, str]) -> None:
        """Add tags, if the etag is still the same."""
        await self._ask("tag", key)
        stored = self.objects.get(key)
        if stored is not None and stored.etag == etag:
            self.objects[key] = Stored(
                stored.body,
                stored.etag,
                stored.modified,
                stored.version,
                stored.size,
                stored.content_type,
                stored.metadata,
                {**stored.tags, **tags},
            )

    async def close(self) -> None:
        """Count it."""
        self.closed += 1

    async def _ask(self, method: str, key: str = "") -> None:
        self.asked.append((method, key))
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        try:
            await asyncio.sleep(0)
            for failures in (self.failures, self.fail.get(method)):
                failure = failures.pop(0) if failures else None
                if failure is not None:
                    raise failure
            if method in ("head", "read") and key in self.broken:
                raise self.broken[key]
        finally:
            self.busy -= 1
