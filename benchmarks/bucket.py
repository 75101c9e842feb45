"""A bucket that is a formula: any number of objects in key order, and none of them in memory.

In flow a number of objects and, later, some more that appear at random places; out flow pages of `ListObjectsV2` as
XML, ready to be sent. Object n of `landing/` has the key `landing/FFF/NNNNNNN.parquet` (10,000 to a folder). A later
one has the key of its neighbour with a word added, so that it sorts just before it: in the middle of what was listed
long ago.
"""

import bisect
import random
import time
from dataclasses import dataclass, field

_FOLDER = 10_000
_MASK = (1 << 128) - 1
_GOLDEN = 0x9E3779B97F4A7C15F39CC0605CEDC835
_END = "\x7f"  # sorts behind every character of the keys

_HEAD = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    b"<Name>%s</Name><Prefix>%s</Prefix><KeyCount>%d</KeyCount><MaxKeys>%d</MaxKeys><EncodingType>url</EncodingType>"
)
_ENTRY = (
    b"<Contents><Key>%s/%03d/%07d%s.parquet</Key><LastModified>%s.000Z</LastModified>"
    b"<ETag>&quot;%032x&quot;</ETag><Size>%d</Size><StorageClass>STANDARD</StorageClass></Contents>"
)
_MORE = b"<IsTruncated>true</IsTruncated><NextContinuationToken>%s</NextContinuationToken>"
_LAST = b"<IsTruncated>false</IsTruncated>"
_SHARED = b"<CommonPrefixes><Prefix>%s</Prefix></CommonPrefixes>"
_TAIL = b"</ListBucketResult>"
_OLD = [b"2026-01-%02dT%02d:00:00" % (day, hour) for day in range(1, 29) for hour in range(24)]


@dataclass(slots=True)
class Part:
    """The objects below one top folder. `later` are those that appeared since, as (key, n, word, time), by key."""

    name: str
    count: int
    later: list[tuple[str, int, bytes, bytes]] = field(default_factory=list)

    def key(self, n: int) -> str:
        """Return the key of object n."""
        return f"{self.name}/{n // _FOLDER:03d}/{n:07d}.parquet"

    def first_after(self, key: str) -> int:
        """Return the number of the first object whose key is greater; `count` when there is none."""
        return bisect.bisect_right(range(self.count), key, key=self.key)

    def add(self, number: int, word: str, rand: random.Random) -> None:
        """Let objects appear, at random places, modified now."""
        now = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()).encode()
        for n in rand.sample(range(self.count), number):
            folder, stem = f"{self.name}/{n // _FOLDER:03d}", f"{n:07d}-{word}"
            bisect.insort(self.later, (f"{folder}/{stem}.parquet", n, b"-" + word.encode(), now))

    def _old(self, n: int) -> bytes:
        etag = n * _GOLDEN & _MASK
        size = 1_000 + n % 9_000
        return _ENTRY % (self.name.encode(), n // _FOLDER, n, b"", _OLD[n % len(_OLD)], etag, size)

    def _new(self, at: int) -> bytes:
        _, n, word, modified = self.later[at]
        etag = (n * _GOLDEN ^ int.from_bytes(word, "big")) & _MASK
        return _ENTRY % (self.name.encode(), n // _FOLDER, n, word, modified, etag, 1_000 + n % 9_000)

    def entries(self, after: str, until: str, limit: int) -> tuple[list[bytes], str | None]:
        """Return the XML of at most `limit` objects with `after` < key < `until`, and the last key if not all."""
        first = self.first_after(after)
        last = min(first + limit + 1, self.first_after(until))
        begin = bisect.bisect_right(self.later, after, key=lambda item: item[0])
        end = bisect.bisect_left(self.later, until, key=lambda item: item[0])
        end = min(end, begin + limit + 1)
        if end == begin or (last - first > limit and self.later[begin][0] > self.key(first + limit)):
            found = [self._old(n) for n in range(first, min(last, first + limit))]
            return found, self.key(first + limit - 1) if last - first > limit else None
        merged = [(self.key(n), n, False) for n in range(first, last)]
        merged = sorted(merged + [(self.later[at][0], at, True) for at in range(begin, end)])
        found = [self._new(n) if new else self._old(n) for _, n, new in merged[:limit]]
        return found, merged[limit - 1][0] if len(merged) > limit else None


class Bucket:
    """Parts in key order. `rand` says where later objects appear."""

    def __init__(self, name: str, parts: dict[str, int], seed: int = 20_261_122) -> None:
        self.name = name
        self.parts = {part: Part(part, count) for part, count in sorted(parts.items())}
        self._rand = random.Random(seed)
        self._words = 0

    def add(self, part: str, number: int) -> None:
        """Let objects appear below a part, each at a place of its own."""
        self._words += 1
        self.parts[part].add(number, f"new{self._words}", self._rand)

    def listing(self, prefix: str, after: str, limit: int, delimiter: str = "") -> bytes:
        """Return one page of the listing below `prefix`, after a key."""
        found: list[bytes] = []
        more: str | None = None
        for part in self.parts.values():
            home = part.name + "/"
            if not (home.startswith(prefix) or prefix.startswith(home)):
                continue
            if delimiter:
                found += [_SHARED % folder.encode() for folder in self._folders(part, prefix, delimiter)]
                continue
            low = max(after, prefix[:-1] + chr(ord(prefix[-1]) - 1) + _END if prefix else "")
            some, more = part.entries(low, (prefix if len(prefix) > len(home) else home) + _END, limit - len(found))
            found += some
            if more is not None:
                break
            if len(found) >= limit and part is not list(self.parts.values())[-1]:
                more = part.key(part.count - 1)
                break
        head = _HEAD % (self.name.encode(), prefix.encode(), len(found), limit)
        return b"".join((head, _LAST if more is None else _MORE % more.encode(), *found, _TAIL))

    def _folders(self, part: Part, prefix: str, delimiter: str) -> list[str]:
        folders: list[str] = []
        n = part.first_after(prefix)
        while n < part.count and part.key(n).startswith(prefix):
            key = part.key(n)
            at = key.find(delimiter, len(prefix))
            if at < 0:
                break
            folders.append(key[: at + 1])
            n = part.first_after(folders[-1] + _END)
        return folders
