"""Scratch space on disk for what is too much for memory and of no use afterwards: a map and a set.

Both keep what was used last in memory, and the rest in a nameless SQLite file of their own that is gone when they are
closed. Nothing of it is durable, and nothing else sees it.
"""

import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

V = TypeVar("V")

_CACHE = "PRAGMA cache_size = -4096"


def _scratch(table: str) -> sqlite3.Connection:
    connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)  # "" is a file without a name
    for pragma in ("PRAGMA journal_mode = OFF", "PRAGMA synchronous = OFF", _CACHE):
        connection.execute(pragma)
    connection.execute(table)
    connection.execute("BEGIN")  # never ended: pages leave memory only when there is no room for them
    return connection


class ScratchMap(Generic[V]):
    """A map from text to values; the `kept` ones used last are in memory, the others as the bytes of `encode`."""

    def __init__(self, encode: Callable[[V], bytes], decode: Callable[[bytes], V], kept: int = 5_000) -> None:
        self._encode = encode
        self._decode = decode
        self._kept = kept
        self._near: OrderedDict[str, V] = OrderedDict()
        self._far: sqlite3.Connection | None = None

    def get(self, key: str) -> V | None:
        """Return a value, None for none."""
        found = self._near.get(key)
        if found is not None:
            self._near.move_to_end(key)
            return found
        if self._far is None:
            return None
        row = self._far.execute("SELECT value FROM scratch WHERE key = ?", (_bytes(key),)).fetchone()
        return None if row is None else self._decode(row[0])

    def put(self, key: str, value: V) -> None:
        """Keep a value."""
        near = self._near
        near[key] = value
        near.move_to_end(key)
        if len(near) > self._kept:
            self._move(self._kept // 10 + 1)

    def drop(self, key: str) -> None:
        """Forget a value."""
        self._near.pop(key, None)
        if self._far is not None:
            self._far.execute("DELETE FROM scratch WHERE key = ?", (_bytes(key),))

    def close(self) -> None:
        """Let the file go."""
        if self._far is not None:
            self._far.close()
            self._far = None
        self._near.clear()

    def _move(self, n: int) -> None:
        """Move those not used for longest to disk."""
        if self._far is None:
            self._far = _scratch("CREATE TABLE scratch (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID")
        rows = []
        for _ in range(n):
            key, value = self._near.popitem(last=False)
            rows.append((_bytes(key), self._encode(value)))
        self._far.executemany("INSERT OR REPLACE INTO scratch VALUES (?, ?)", rows)


class ScratchSet:
    """A set of whole numbers of 64 bits; the `kept` ones added last are in memory."""

    def __init__(self, kept: int = 65_536) -> None:
        self._kept = kept
        self._near: set[int] = set()
        self._far: sqlite3.Connection | None = None

    def __contains__(self, number: int) -> bool:
        if number in self._near:
            return True
        if self._far is None:
            return False
        return self._far.execute("SELECT 1 FROM scratch WHERE n = ?", (number,)).fetchone() is not None

    def update(self, numbers: Iterable[int]) -> None:
        """Add numbers."""
        self._near.update(numbers)
        if len(self._near) > self._kept:
            if self._far is None:
                self._far = _scratch("CREATE TABLE scratch (n INTEGER PRIMARY KEY)")
            self._far.executemany("INSERT OR IGNORE INTO scratch VALUES (?)", [(n,) for n in sorted(self._near)])
            self._near.clear()

    def close(self) -> None:
        """Let the file go."""
        if self._far is not None:
            self._far.close()
            self._far = None
        self._near.clear()


def _bytes(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")
