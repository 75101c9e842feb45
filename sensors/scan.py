"""One whole look at a source, page by page, against what is remembered: O(page) memory, however much there is.

In flow pages of listed keys (with the entries among them that are wanted), out flow changes, page by page; and when the
look was whole and without an error, what is remembered and was not seen. Unchanged pages write nothing.

Where pages come in key order, memory is read beside them in the same order: remembered keys between two listed ones are
a gap, and gaps are all that is kept. Where they do not, a Bloom filter of fixed size keeps which keys were listed: it
may take a missing key for a listed one, never the other way round, and is salted anew for each scan, so that a deletion
may be seen a scan later and never wrongly.
"""

import hashlib
import os
from bisect import bisect
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from sensors.batch import SeenObject
from sensors.listing import PRESENT, Change, Entry, compare
from sensors.ports import Lookup

D = TypeVar("D")

MAX_GAPS = 10_000
MAX_TOUCHED = 10_000
ROWS = 5_000
LAST = "\U0010ffff" * 4  # sorts behind whatever a key goes on with
_FILTER_BITS = 1 << 25  # 4 MiB: one wrong answer in 10⁶ at a million keys
_PROBES = 7


@dataclass(slots=True)
class Shard:
    """How far the listing below one prefix is. `token` continues it, `after` is the last key that was handled."""

    prefix: str
    token: str | None = None
    after: str = ""
    done: bool = False


class KeyFilter:
    """Which keys were listed: never wrong about one that was, hardly ever about one that was not."""

    __slots__ = ("_bits", "_salt")

    def __init__(self, bits: int = _FILTER_BITS) -> None:
        self._bits = bytearray(bits // 8)
        self._salt = os.urandom(8)

    def add(self, key: str) -> None:
        """Note a key."""
        bits = self._bits
        for at in self._places(key):
            bits[at >> 3] |= 1 << (at & 7)

    def __contains__(self, key: str) -> bool:
        bits = self._bits
        return all(bits[at >> 3] & (1 << (at & 7)) for at in self._places(key))

    def _places(self, key: str) -> list[int]:
        digest = hashlib.blake2b(key.encode(), digest_size=16, salt=self._salt).digest()
        first, step = int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big") | 1
        size = len(self._bits) * 8
        return [(first + n * step) % size for n in range(_PROBES)]


@dataclass(slots=True)
class Scan(Generic[D]):
    """A look under way. `begun` is UTC micros; `whole` is False when a part of it was done by a former process.

    `within` are the prefixes that the shards are parts of (by default the shards' own): what is remembered below them
    and below no shard is missing as well.
    What is missing is asked for with `missing` after all shards are done. `again` says that there was more to note than
    is kept: another scan should follow soon.
    """

    begun: int
    ordered: bool
    shards: Sequence[Shard]
    whole: bool = True
    within: Sequence[str] = ()
    again: bool = False
    _gaps: list[tuple[str, str]] = field(default_factory=list)
    _filter: KeyFilter | None = None
    _touched: set[str] = field(default_factory=set)
    _swept: str = ""
    _sweeping: int = 0
    _void: bool = False
    _between_noted: bool = False

    @property
    def done(self) -> bool:
        """Say whether all shards were listed to their end."""
        return all(shard.done for shard in self.shards)

    def touch(self, key: str) -> None:
        """Note that a key was looked at by another route meanwhile: its absence from the listing proves nothing."""
        if len(self._touched) >= MAX_TOUCHED:
            self._void = self.again = True
        else:
            self._touched.add(key)

    async def page(
        self, lookup: Lookup, shard: Shard, keys: Sequence[str], entries: Sequence[Entry[D]], now: int, asked: int = 0
    ) -> list[Change[D]]:
        """Compare one page. `keys` are all that it lists, `entries` those of them that are wanted.

        `asked` is when the page was asked for (UTC micros; 0: just now). What another replica has stored since knows
        more than the page: the next scan decides.
        `shard.done` and `shard.token` tell of the page's end already; `shard.after` is moved here.
        """
        if self.ordered:
            known = await self._beside(lookup, shard, keys)
        else:
            known = await lookup.seen([entry.key for entry in entries]) if entries else {}
        self.note(shard, keys)
        if asked:
            newer = {key for key, row in known.items() if row.last_changed > asked}
            entries = [entry for entry in entries if entry.key not in newer] if newer else entries
        return compare(entries, known, now) if entries else []

    def note(self, shard: Shard, keys: Sequence[str]) -> None:
        """Note that these keys were listed."""
        if not self.ordered and self.whole:
            if self._filter is None:
                self._filter = KeyFilter()
            for key in keys:
                self._filter.add(key)
        if keys:
            shard.after = keys[-1]

    async def _beside(self, lookup: Lookup, shard: Shard, keys: Sequence[str]) -> Mapping[str, SeenObject]:
        """Read the memory beside a page in key order; note the gaps."""
        low = _askable(shard.after) or before_prefix(shard.prefix)
        high = shard.prefix + LAST if shard.done else _askable(keys[-1]) if keys else None
        known: dict[str, SeenObject] = {}
        if high is None:
            return known
        listed = frozenset(keys)
        while True:
            rows = await lookup.seen_range(low, high, ROWS)
            for row in rows:
                if row.key in listed:
                    known[row.key] = row
            self._note_gaps(shard.prefix, rows, keys, listed)
            if len(rows) < ROWS:
                return known
            low = rows[-1].key

    def _note_gaps(self, prefix: str, rows: Sequence[SeenObject], keys: Sequence[str], listed: Collection[str]) -> None:
        """Note runs of remembered keys that have no listed key, remembered or not, between them."""
        absent = [
            row.key for row in rows if row.state == PRESENT and row.key not in listed and row.key.startswith(prefix)
        ]
        if not absent:
            return
        place = None
        for key in absent:
            here = bisect(keys, key)  # code points sort as UTF-8 bytes do
            if here == place:
                self._gaps[-1] = (self._gaps[-1][0], key)
            elif len(self._gaps) >= MAX_GAPS:
                self.again = True  # what this scan deletes is no gap in the next one
                return
            else:
                self._gaps.append((key, key))
                place = here

    async def missing(self, lookup: Lookup, limit: int) -> tuple[Sequence[SeenObject], bool]:
        """Return some of what is remembered and was not listed, and whether that was all. Call until it was."""
        if self._void or not (self.ordered or self.whole):
            return (), True
        if self.ordered:
            if not self._between_noted:
                self._between_noted = True
                self._gaps += self._between()
            return await self._missing_in_gaps(lookup, limit)
        return await self._missing_by_filter(lookup, limit)

    def _between(self) -> list[tuple[str, str]]:
        """Return the ranges that lie below `within` and below no shard."""
        found: list[tuple[str, str]] = []
        for whole in self.within:
            parts = [shard.prefix for shard in self.shards if shard.prefix.startswith(whole)]
            if parts == [whole]:
                continue
            first = whole
            for part in parts:
                found.append((first, before_prefix(part)))
                first = part + LAST
            found.append((first, whole + LAST))
        return found

    async def _missing_in_gaps(self, lookup: Lookup, limit: int) -> tuple[Sequence[SeenObject], bool]:
        found: list[SeenObject] = []
        while self._gaps and len(found) < limit:
            first, last = self._gaps[0]
            rows = await lookup.seen_range(self._swept or before_prefix(first), last, limit)
            found += [row for row in rows if self._gone(row) and row.key >= first]
            if len(rows) < limit:
                self._gaps.pop(0)
                self._swept = ""
            else:
                self._swept = rows[-1].key
        return found, not self._gaps

    async def _missing_by_filter(self, lookup: Lookup, limit: int) -> tuple[Sequence[SeenObject], bool]:
        prefixes = self.within or [shard.prefix for shard in self.shards]
        if self._sweeping >= len(prefixes):
            return (), True
        rows = await lookup.seen_after(self._swept, limit, prefixes[self._sweeping])
        if not rows:
            self._sweeping += 1
            self._swept = ""
            return (), self._sweeping >= len(prefixes)
        self._swept = rows[-1].key
        listed = self._filter or KeyFilter(64)
        return [row for row in rows if self._gone(row) and row.key not in listed], False

    def _gone(self, row: SeenObject) -> bool:
        return row.state == PRESENT and row.key not in self._touched and row.last_changed < self.begun


def _askable(key: str) -> str:
    """Return the last key up to this one that a store can be asked for: none that is kept lies between the two."""
    return key.partition("\0")[0]


def before_prefix(prefix: str) -> str:
    """Return a key that sorts before all keys with this prefix, and behind (nearly) all that sort before them."""
    if not prefix:
        return ""
    code = ord(prefix[-1])
    if code == 0:
        return prefix[:-1]
    return prefix[:-1] + chr(code - 1 if code != 0xE000 else 0xD7FF) + LAST
