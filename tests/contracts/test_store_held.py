"""What every store promises about events that paused triggers hold."""

from tests.support.stores import T0, do, event, fired
from tidegate.store.records import HeldEvent, StoredEvent
from tidegate.store.tx import Store, Tx
from triggers.decision import Outcome


async def _hold(store: Store) -> dict[str, StoredEvent]:
    """Store four events; trigger `t` holds three of them, the last one's event is gone, and trigger `u` holds one."""
    stored = {
        uid: StoredEvent(event(uid, data=bytes(data), received_at=T0 + n), f"00-span-{uid}", "stored")
        for n, (uid, data) in enumerate((("evt_1", 5), ("evt_2", 5_000), ("evt_3", 0), ("evt_4", 1)))
    }

    def write(tx: Tx) -> None:
        tx.insert_events(list(stored.values()))
        tx.insert_decisions(
            [
                fired("dec_2", ["evt_1"], outcome=Outcome.PAUSED, at=T0 + 2),
                fired("dec_1", ["evt_2"], outcome=Outcome.PAUSED, at=T0 + 2),
                fired("dec_9", ["evt_3"], outcome=Outcome.PAUSED, at=T0 + 1),
                fired("dec_3", ["evt_gone"], outcome=Outcome.PAUSED, at=T0 + 3),
                fired("dec_4", ["evt_4"], outcome=Outcome.FIRED, at=T0),
                fired("dec_5", ["evt_4"], outcome=Outcome.PAUSED, at=T0, trigger="u"),
            ]
        )

    await do(store, write)
    return stored


async def test_held_events_come_in_order_of_arrival(store: Store) -> None:
    """The oldest first, by moment and then uid, with their data and span, no more than asked for."""
    stored = await _hold(store)
    held = await do(store, lambda tx: list(tx.held("t", 10)))
    first = await do(store, lambda tx: list(tx.held("t", 2)))

    assert held == [
        HeldEvent("dec_9", "evt_3", stored["evt_3"]),
        HeldEvent("dec_1", "evt_2", stored["evt_2"]),
        HeldEvent("dec_2", "evt_1", stored["evt_1"]),
        HeldEvent("dec_3", "evt_gone", None),
    ]
    assert first == held[:2]
    assert await do(store, lambda tx: list(tx.held("none", 2))) == []


async def test_closed_decisions_are_gone(store: Store) -> None:
    """A closed decision holds nothing any more; the others stay, and closing nothing is nothing."""
    await _hold(store)
    await do(store, lambda tx: tx.close_decisions(["dec_9", "dec_1", "dec_none"]))
    await do(store, lambda tx: tx.close_decisions([]))

    rows, _ = await store.read(lambda reader: reader.decisions(limit=10))
    assert sorted(row["uid"] for row in rows) == ["dec_2", "dec_3", "dec_4", "dec_5"]
    assert [item.decision for item in await do(store, lambda tx: list(tx.held("t", 10)))] == ["dec_2", "dec_3"]


async def test_the_triggers_that_hold_are_named(store: Store) -> None:
    """Each trigger with a `paused` decision is named once, sorted; the others are not."""
    before = await store.read(lambda reader: reader.held_triggers())
    await _hold(store)
    after = await store.read(lambda reader: reader.held_triggers())
    await do(store, lambda tx: tx.close_decisions(["dec_5"]))

    assert (list(before), list(after)) == ([], ["t", "u"])
    assert list(await store.read(lambda reader: reader.held_triggers())) == ["t"]
