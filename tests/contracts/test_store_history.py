"""Going over what is stored again, from the oldest on: the same on every store."""

from sensors.event import Event
from tests.support.stores import T0, do, event, trigger_event
from tidegate.backtest.history import StoreHistory
from tidegate.store.records import StoredEvent
from tidegate.store.rows import event_of
from tidegate.store.tx import Store

BIG = b"x" * 5_000  # beside its row


async def stored(store: Store, *events: Event) -> None:
    await do(store, lambda tx: tx.insert_events([StoredEvent(one) for one in events]))


async def test_events_come_in_the_order_in_which_they_were_received(store: Store) -> None:
    """Of one sensor, from after a place up to a moment, so many at most; those of one moment by uid."""
    events = [event(f"evt_{n}", received_at=T0 + n // 2) for n in range(6)]
    await stored(store, *reversed(events), event("evt_x", sensor="other"))
    all_of_them = await store.read(lambda reader: reader.history("hook", (0, ""), 2 * T0, 100))
    page = await store.read(lambda reader: reader.history("hook", (T0, "evt_0"), T0 + 2, 2))
    end = await store.read(lambda reader: reader.history("hook", (T0 + 1, "evt_2"), T0 + 2, 2))

    assert [row[0] for row in all_of_them] == [one.uid for one in events]
    assert [row[0] for row in page] == ["evt_1", "evt_2"]
    assert [row[0] for row in end] == ["evt_3"]


async def test_rows_are_whole_events(store: Store) -> None:
    """Content that is kept beside its row comes with it, and so does everything else."""
    events = [
        event("evt_1", data=BIG, content_type="text/plain", attributes={"a": "b"}, match={"day": "1"}, subject="s"),
        event("evt_2", received_at=T0 + 1, data=b"{}", time=T0 - 5, depth=3, trusted=True),
        event("evt_3", received_at=T0 + 2),
    ]
    await stored(store, *events)
    rows = await store.read(lambda reader: reader.history("hook", (0, ""), 2 * T0, 100))

    assert [event_of(row) for row in rows] == events
    found = await store.read(lambda reader: reader.events_by_uid(["evt_3", "evt_1", "evt_9"]))
    assert found == {"evt_1": events[0], "evt_3": events[2]}
    assert await store.read(lambda reader: reader.events_by_uid([])) == {}


async def test_sensors_are_merged(store: Store) -> None:
    """Events of several sensors come in one order, page after page, each once."""
    events = [
        event(f"evt_{n:04}", sensor=("hook", "other", "third")[n % 3], received_at=T0 + n // 2) for n in range(900)
    ]
    await stored(store, *events)

    def read(reader: object) -> list[str]:
        history = StoreHistory(lambda fn: fn(reader))  # type: ignore[arg-type]
        return [row[0] for row in history.rows(["hook", "other"], T0 + 3, T0 + 440)]

    expected = [one.uid for one in events if one.sensor != "third" and T0 + 3 <= one.received_at < T0 + 440]
    assert await store.read(read) == expected


async def test_what_fired_comes_with_its_causes(store: Store) -> None:
    """Trigger events of some triggers after one, with parameters and causes in order, and when the last cause came."""
    await stored(store, event("evt_1"), event("evt_2", received_at=T0 + 7))
    fired = [
        trigger_event("trg_1", ["evt_1"], params={"n": 1}, partition="p1", lane="l"),
        trigger_event("trg_2", ["evt_2", "evt_1", "evt_gone"], at=T0 + 9),
        trigger_event("trg_3", [], at=T0 + 5),
        trigger_event("trg_4", ["evt_1"], trigger="another"),
    ]
    await do(store, lambda tx: tx.insert_trigger_events(fired))
    found = await store.read(lambda reader: reader.fired_after(["t", "u"], "", 100))
    later = await store.read(lambda reader: reader.fired_after(["t", "another"], "trg_2", 1))

    assert [(one.uid, tuple(one.events), last) for one, last in found] == [
        ("trg_1", ("evt_1",), T0),
        ("trg_2", ("evt_2", "evt_1", "evt_gone"), T0 + 7),
        ("trg_3", (), T0 + 5),
    ]
    first = found[0][0]
    assert (first.params, first.partition, first.lane, first.pipeline, first.key) == ({"n": 1}, "p1", "l", "p", "trg_1")
    assert [one.uid for one, _ in later] == ["trg_3"]
