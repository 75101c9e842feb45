"""What every store promises about ranges of remembered objects, which scans compare their pages with."""

import asyncio
from typing import Any

import pytest

from sensors.batch import SeenObject
from sensors.testing import FakeInbox
from tests.support.stores import T0, do
from tidegate.lookup import StoreLookup
from tidegate.store.reader import Reader
from tidegate.store.tx import Store

# In the order of their UTF-8 bytes, which is neither that of UTF-16 nor that of any language.
KEYS = (
    " ",
    "%41",
    "/odd/1",
    "A",
    "B/z",
    "Z",
    "_",
    "a",
    "a/",
    "a/1",
    "a/10",
    "a/2",
    "a/b/c",
    "a/ü",
    "a0",
    "aü",
    "b",
    "u\u0308",
    "z",
    "{",
    "~",
    "\u00fc",
    "\u00fc/1",
    "\u0130",
    "\u65e5\u672c",
    "\uffee",
    "\U0001f600",
    "\U0010ffff",
)
DELETED = frozenset(KEYS[3::5])


def remembered(key: str) -> SeenObject:
    """Make a remembered object; every fifth key is one of a deleted object."""
    state = "deleted" if key in DELETED else "present"
    return SeenObject(key, f"t-{key}", len(key), state, T0, T0 + 1, '{"a":1}')


@pytest.fixture
async def filled(store: Store) -> Store:
    """A store in which two sensors remember objects."""
    keys = sorted(KEYS, key=hash)
    await do(store, lambda tx: tx.put_seen("s", list(map(remembered, keys)), []))
    await do(store, lambda tx: tx.put_seen("r", [remembered("a/0")], []))
    await do(store, lambda tx: tx.put_seen("t", [remembered("a/3")], []))
    return store


def test_the_keys_are_in_byte_order() -> None:
    """The list above is what the other tests take it for."""
    assert list(KEYS) == sorted(KEYS, key=str.encode)


async def test_a_range_holds_objects_of_any_state_in_byte_order(filled: Store) -> None:
    """Without bounds a range is everything that this sensor remembers, deleted objects too, whole and in order."""
    found = await filled.read(lambda reader: reader.seen_range("s", "", None, 1_000))

    assert list(found) == [remembered(key) for key in KEYS]


async def test_bounds_and_limit(filled: Store) -> None:
    """`after` is excluded, `upto` included, whether or not such keys are there; the limit cuts at the end."""

    def look(reader: Reader) -> Any:
        def ask(after: str, upto: str | None, limit: int = 1_000) -> list[str]:
            return [item.key for item in reader.seen_range("s", after, upto, limit)]

        return [
            (after, upto, ask(after, upto), [key for key in KEYS if after < key and (upto is None or key <= upto)])
            for after in ("", "0", "a/", "a/~", *KEYS[::4])
            for upto in (None, "", "a/", "a/~", "zz", *KEYS[::3])
        ], ask("a/", None, 3)

    asked, cut = await filled.read(look)

    assert [(after, upto) for after, upto, found, wanted in asked if found != wanted] == []
    assert cut == ["a/1", "a/10", "a/2"]


@pytest.mark.parametrize("limit", [1, 2, 5])
async def test_pages_meet_without_gaps(filled: Store, limit: int) -> None:
    """Going on after the last key of each page visits every object once."""
    lookup = StoreLookup(filled, "s")
    found: list[str] = []
    while page := await lookup.seen_range(found[-1] if found else "", None, limit):
        assert len(page) <= limit
        found += [item.key for item in page]

    assert found == list(KEYS)


async def test_present_objects_come_in_the_same_order(filled: Store) -> None:
    """The pages of present objects keep the order of a range."""
    found = await filled.read(lambda reader: reader.seen_after("s", "", 1_000, ""))

    assert [item.key for item in found] == [key for key in KEYS if key not in DELETED]


async def test_the_fake_lookup_keeps_the_same_promise(filled: Store) -> None:
    """The lookup of the sensors' test kit answers as the stores do."""
    fake = FakeInbox().lookup("s")
    fake.objects.update({key: remembered(key) for key in reversed(KEYS)})
    for after, upto in (("", None), ("a/", "a0"), ("Z", "\uffee"), ("\U0010ffff", None)):
        real, mine = await asyncio.gather(
            StoreLookup(filled, "s").seen_range(after, upto, 7), fake.seen_range(after, upto, 7)
        )
        assert list(real) == list(mine)


async def test_a_range_is_read_from_the_index_in_order(store: Store) -> None:
    """Pages of a large memory, of which no statistics exist yet, are never sorted, nor read beyond their end."""
    if store.name == "memory":
        return
    for part in range(4):
        rows = [SeenObject(f"k/{part}/{n:04}", "t", 0, "present", T0, T0) for n in range(5_000)]
        await do(store, lambda tx, rows=rows: tx.put_seen("s", rows, []))  # type: ignore[misc]
    explain = "EXPLAIN QUERY PLAN " if store.name == "sqlite" else "EXPLAIN "
    asked = (
        "SELECT key FROM seen_objects WHERE sensor = 's' AND key > 'k/1' ORDER BY key LIMIT 1000",
        "SELECT key FROM seen_objects WHERE sensor = 's' AND key > 'k/1' AND key <= 'k/3' ORDER BY key LIMIT 1000",
        "SELECT key FROM seen_objects WHERE sensor = 's' AND state = 'present' AND key > 'k/1' ORDER BY key LIMIT 1000",
        "SELECT uid FROM object_actions WHERE sensor = 's' AND ready = 1 AND uid > 'a' ORDER BY uid LIMIT 500",
    )
    plans = await store.read(lambda reader: [reader._s.fetch(explain + sql) for sql in asked])  # type: ignore[attr-defined]
    told = [" ".join(str(value) for row in plan for value in row) for plan in plans]

    assert [text for text in told if "Sort" in text or "TEMP B-TREE" in text] == []
    assert [text for text in told if "seen_objects_pkey" not in text and "PRIMARY KEY" not in text] == told[3:]
    assert "ix_object_actions_ready" in told[3]
