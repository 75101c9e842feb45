"""What every store promises about events, cursors, memories and dead letters."""

import asyncio
from typing import Any

import pytest

from sensors.batch import Cursor, DeadLetter, SeenObject
from sensors.event import Event
from tests.support.stores import T0, Each, do, event, fired, ingest
from tidegate.store.pages import BadCursor
from tidegate.store.reader import Reader
from tidegate.store.records import CursorRow, HeldEvent, NewId, StoredEvent
from tidegate.store.tx import ItemRefused, Store
from triggers.decision import Clause, Outcome

FULL = Event(
    uid="evt_full",
    sensor="hook",
    id="delivery/1",
    source="github.com/a",
    type="github.push",
    received_at=T0,
    subject="blå/😀",
    time=T0 - 5,
    data=b'{"a": 1}\x00\xff',
    content_type="application/json",
    attributes={"x-header": "é", "n": ""},
    match={"day": "2026-01-01"},
    traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01",
    tracestate="v=1",
    trusted=True,
    depth=3,
    cause_run="run_1",
)


@pytest.mark.parametrize(
    "wanted",
    [
        pytest.param(FULL, id="every field"),
        pytest.param(event("evt_bare"), id="no optional field"),
        pytest.param(event("evt_empty", data=b""), id="empty data"),
        pytest.param(event("evt_large", data=bytes(range(256)) * 40), id="large data"),
    ],
)
async def test_an_event_comes_back_as_it_was(store: Store, wanted: Event) -> None:
    """What was stored of an event is what is read, also above the inline limit."""
    await do(store, lambda tx: tx.insert_events([StoredEvent(wanted, "00-span", "stored")]))
    found = await store.read(lambda reader: reader.event(wanted.uid))

    assert found == wanted


async def test_an_unknown_event_is_none(store: Store) -> None:
    """Asking for what is not there gives None."""
    assert await store.read(lambda reader: reader.event("evt_none")) is None


async def test_the_first_uid_of_an_id_stands(store: Store) -> None:
    """An id seen again, in the same call or later, keeps the uid it got first; ids of other sensors are others."""

    def remember(tx: Any) -> Any:
        ids = [NewId("a", "1", "u1"), NewId("a", "1", "u2"), NewId("b", "1", "u3"), NewId("a", "2", "u4")]
        return tx.new_event_ids(ids)

    first = await do(store, remember)
    second = await do(store, lambda tx: tx.new_event_ids([NewId("a", "1", "u5"), NewId("a", "3", "u6")]))

    assert first == {("a", "1"): "u1", ("b", "1"): "u3", ("a", "2"): "u4"}
    assert second == {("a", "1"): "u1", ("a", "3"): "u6"}


async def test_an_expired_id_is_new_again(store: Store) -> None:
    """An id past its expiry counts as new even before it was pruned; one that has not expired does not."""

    def remember(tx: Any, late: str, soon: str) -> Any:
        now = tx.now()
        return tx.new_event_ids([NewId("a", "late", late, now - 1), NewId("a", "soon", soon, now + 60_000_000)])

    await do(store, lambda tx: remember(tx, "u1", "u2"))
    again = await do(store, lambda tx: remember(tx, "u3", "u4"))

    assert again == {("a", "late"): "u3", ("a", "soon"): "u2"}


async def test_hostile_text_is_refused_alone(store: Store) -> None:
    """Of a hundred events one with a NUL and one with a lone surrogate are refused; the others are stored."""
    write = Each(ingest, "ingest")
    items = [event(f"evt_{n:03}") for n in range(100)]
    items[17] = event("evt_nul", subject="a\0b")
    items[63] = event("evt_surrogate", subject="a\ud800b")
    answers = await asyncio.gather(*[store.submit(write, item) for item in items], return_exceptions=True)
    rows, _ = await store.read(lambda reader: reader.events(limit=200))

    refused = [n for n, answer in enumerate(answers) if isinstance(answer, ItemRefused)]
    assert refused == [17, 63]
    assert all(answers[n].__cause__ is not None for n in refused if isinstance(answers[n], ItemRefused))
    assert {row["uid"] for row in rows} == {item.uid for n, item in enumerate(items) if n not in refused}


async def test_cursors_and_epochs(store: Store) -> None:
    """Positions are replaced, epochs only rise, and a shard that is owned but has no position is not listed."""

    def move(tx: Any) -> Any:
        tx.put_cursors("k", [Cursor("0", '{"v":1}'), Cursor("1", "x")])
        epoch = tx.raise_epoch("k", "0").epoch
        tx.put_cursors("k", [Cursor("0", '{"v":2}')])
        owned = tx.raise_epoch("k", "9")
        return epoch, owned, tx.lock_cursors([("k", "9"), ("k", "0"), ("k", "none")])

    epoch, owned, locked = await do(store, move)
    listed = await store.read(lambda reader: reader.cursors("k"))

    assert epoch == 1
    assert owned == CursorRow("k", "9", "", 1)
    assert locked == {("k", "0"): CursorRow("k", "0", '{"v":2}', 1), ("k", "9"): owned}
    assert list(listed) == [CursorRow("k", "0", '{"v":2}', 1), CursorRow("k", "1", "x", 0)]


def seen(key: str, state: str = "present", token: str = "t") -> SeenObject:
    """Make a remembered object."""
    return SeenObject(key, token, 0, state, T0, T0, '{"a":1}')


async def test_seen_objects_in_byte_order(store: Store) -> None:
    """Remembered objects come in the order of their UTF-8 bytes, present ones only, from behind a key, by prefix."""
    keys = ["a/1", "a/10", "a/2", "a/é", "a/\U0001f600", "a/\uffee", "b", "A"]
    await do(store, lambda tx: tx.put_seen("s", [*map(seen, keys), seen("a/gone", "deleted")], []))
    await do(store, lambda tx: tx.put_seen("other", [seen("a/3")], []))
    await do(store, lambda tx: tx.put_seen("s", [seen("a/2", token="new")], ["b"]))

    def look(reader: Reader) -> Any:
        return (
            [item.key for item in reader.seen_after("s", "", 100, "")],
            [item.key for item in reader.seen_after("s", "a/1", 3, "a/")],
            reader.seen("s", ["a/2", "b", "a/gone"]),
        )

    everything, page, some = await store.read(look)

    assert everything == ["A", "a/1", "a/10", "a/2", "a/é", "a/\uffee", "a/\U0001f600"]
    assert page == ["a/10", "a/2", "a/é"]
    assert some == {"a/2": seen("a/2", token="new"), "a/gone": seen("a/gone", "deleted")}


async def test_dead_letters(store: Store) -> None:
    """A dead letter keeps its payload and reason until it is dropped; lists leave the payload out."""
    letter = DeadLetter("bad", "not JSON", "line 1", b"\x00raw", "text/plain", "evt_1", {"h": "v"})
    other = DeadLetter("bad", "", "")
    await do(store, lambda tx: tx.insert_dead_letters([("ddl_1", "s", 5, letter), ("ddl_2", "z", 6, other)]))
    rows, _ = await store.read(lambda reader: reader.dead_letters(limit=10))
    one, _ = await store.read(lambda reader: reader.dead_letters(limit=10, sensor="s"))
    row = await store.read(lambda reader: reader.dead_letter("ddl_1"))
    dropped = await do(store, lambda tx: tx.drop_dead_letters(["ddl_1", "none"]))

    assert [row["uid"] for row in rows] == ["ddl_2", "ddl_1"]
    assert row is not None
    assert dict(row) == {**one[0], "payload": b"\x00raw"}
    assert one[0] == {
        "uid": "ddl_1",
        "sensor": "s",
        "at": 5,
        "reason": "bad",
        "detail": "not JSON",
        "position": "line 1",
        "content_type": "text/plain",
        "event_uid": "evt_1",
        "attributes": {"h": "v"},
        "size": 4,
        "retried_at": None,
        "became": None,
    }
    assert dropped == 1
    assert await store.read(lambda reader: reader.dead_letter("ddl_1")) is None


async def test_event_lists_page_newest_first(store: Store) -> None:
    """Pages hold every event once, newest first, and what arrives between two pages disturbs nothing."""
    items = [event(f"evt_{n:02}", sensor=f"s{n % 3}", received_at=T0 + n // 2) for n in range(20)]
    await do(store, lambda tx: tx.insert_events([StoredEvent(item) for item in items]))
    found: list[str] = []
    cursor = None
    while True:
        rows, cursor = await store.read(lambda reader, at=cursor: reader.events(limit=3, cursor=at))  # type: ignore[misc]
        found += [row["uid"] for row in rows]
        if cursor is None:
            break
        late = event(f"evt_late{len(found)}", received_at=T0 + 1_000 + len(found))
        await do(store, lambda tx, late=late: tx.insert_events([StoredEvent(late)]))  # type: ignore[misc]

    assert found == sorted((item.uid for item in items), reverse=True)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        pytest.param({"sensor": "a"}, ["evt_3", "evt_1"], id="sensor"),
        pytest.param({"sensor": "a", "id": "one"}, ["evt_1"], id="sensor and id"),
        pytest.param({"id": "one"}, ["evt_2", "evt_1"], id="id"),
        pytest.param({"type": "y"}, ["evt_3"], id="type"),
        pytest.param({"since": T0 + 1}, ["evt_3", "evt_2"], id="since"),
        pytest.param({"until": T0 + 2}, ["evt_2", "evt_1"], id="until"),
        pytest.param({"sensor": "none"}, [], id="nothing"),
    ],
)
async def test_event_lists_filter(store: Store, filters: dict[str, Any], expected: list[str]) -> None:
    """Each filter keeps exactly what it names; `until` is exclusive."""
    items = [
        event("evt_1", sensor="a", id="one", type="x", received_at=T0),
        event("evt_2", sensor="b", id="one", type="x", received_at=T0 + 1),
        event("evt_3", sensor="a", id="two", type="y", received_at=T0 + 2),
    ]
    await asyncio.gather(*[store.submit(Each(ingest, "ingest"), item) for item in items])
    rows, cursor = await store.read(lambda reader: reader.events(limit=10, **filters))

    assert [row["uid"] for row in rows] == expected
    assert cursor is None


async def test_an_event_row_tells_all_but_the_data(store: Store) -> None:
    """A row of the list holds the envelope, the size and the state."""
    await do(store, lambda tx: tx.insert_events([StoredEvent(FULL, "00-span", "dead")]))
    rows, _ = await store.read(lambda reader: reader.events(limit=1))

    assert rows[0] == {
        **{name: getattr(FULL, name) for name in ("uid", "sensor", "id", "source", "type", "subject", "time")},
        **{name: getattr(FULL, name) for name in ("received_at", "content_type", "traceparent", "tracestate", "depth")},
        "attributes": dict(FULL.attributes),
        "match": dict(FULL.match),
        "trusted": True,
        "cause_run": "run_1",
        "size": 10,
        "span": "00-span",
        "state": "dead",
    }


async def test_a_foreign_cursor_is_refused(store: Store) -> None:
    """A cursor that this list did not hand out is an error that says so."""
    for cursor in ("", "x", "bm90IGpzb24", "WzEsMl0"):
        with pytest.raises(BadCursor, match="not a cursor of this list"):
            await store.read(lambda reader, cursor=cursor: reader.events(limit=1, cursor=cursor))  # type: ignore[misc]


async def test_held_events_come_in_order_and_are_released(store: Store) -> None:
    """What a paused trigger holds is named, comes back oldest first with its event, and is gone once closed."""
    held = [
        fired(f"dec_{n}", [f"evt_{n}"], trigger=name, outcome=Outcome.PAUSED, at=T0 - n)
        for n, name in enumerate(["t", "t", "u", "t"])
    ]
    item = StoredEvent(event("evt_3", data=b"x" * 5_000), "00-span", "stored")
    await do(store, lambda tx: tx.insert_events([StoredEvent(event("evt_0")), item]))
    await do(store, lambda tx: tx.insert_decisions([*held, fired("dec_9", ["evt_0"])]))
    names = await store.read(lambda reader: reader.held_triggers())
    first = await do(store, lambda tx: tx.held("t", 2))
    await do(store, lambda tx: tx.close_decisions([row.decision for row in first]))
    rest = await do(store, lambda tx: tx.held("t", 9))
    left, _ = await store.read(lambda reader: reader.decisions(limit=9))

    assert list(names) == ["t", "u"]
    assert list(first) == [HeldEvent("dec_3", "evt_3", item), HeldEvent("dec_1", "evt_1", None)]
    assert list(rest) == [HeldEvent("dec_0", "evt_0", StoredEvent(event("evt_0")))]
    assert [row["uid"] for row in left] == ["dec_9", "dec_2", "dec_0"]


BOTH: list[list[str]] = [["dec_2", "dec_1"], [], [], ["dec_2", "dec_1"]]  # from now, later, before, until now


async def test_decisions(store: Store) -> None:
    """A decision comes back whole, and is found by trigger, by each of its events, by outcome and by time."""
    full = fired(
        "dec_1",
        ["evt_1", "evt_2"],
        clause=Clause("when", "a > 1", "true", "false"),
        trigger_event="trg_1",
        run="run_1",
        item=2,
        sampled=True,
        span="00-x",
        details={"n": [1, None]},
    )
    other = fired("dec_2", ["evt_2"], trigger="u", outcome=Outcome.DUPLICATE)
    await do(store, lambda tx: tx.insert_decisions([full, other]))

    def look(reader: Reader) -> Any:
        ask = reader.decisions
        pages = [ask(limit=9), ask(limit=9, trigger="t"), ask(limit=9, event="evt_1"), ask(limit=9, event="evt_2")]
        pages += [
            ask(limit=9, since=T0),
            ask(limit=9, since=T0 + 1),
            ask(limit=9, until=T0),
            ask(limit=9, until=T0 + 1),
        ]
        pages += [ask(limit=9, outcome="duplicate"), ask(limit=1)]
        return [[row["uid"] for row in rows] for rows, _ in pages], ask(limit=9, trigger="t")[0][0], pages[-1][1]

    found, row, cursor = await store.read(look)
    rest, end = await store.read(lambda reader: reader.decisions(limit=1, cursor=cursor))

    assert found == [["dec_2", "dec_1"], ["dec_1"], ["dec_1"], ["dec_2", "dec_1"], *BOTH, ["dec_2"], ["dec_2"]]
    assert [item["uid"] for item in rest] == ["dec_1"]
    assert end is None
    assert row == {
        "uid": "dec_1",
        "trigger": "t",
        "version": "v1",
        "outcome": "fired",
        "at": T0,
        "reason": "it matched",
        "clause": {"path": "when", "text": "a > 1", "expected": "true", "actual": "false"},
        "trigger_event": "trg_1",
        "run": "run_1",
        "item": 2,
        "sampled": True,
        "span": "00-x",
        "details": {"n": [1, None]},
        "events": ["evt_1", "evt_2"],
    }
