"""What every store promises about shards: who took one last, and nobody else, writes it."""

import asyncio

from sensors.batch import Batch, Cursor, DeadLetter, Fence
from sensors.event import Event
from sensors.ports import Owned, Stored
from tests.support.rules import rule_set
from tests.support.stores import T0
from tidegate.ingest import Ingest, StoreInbox
from tidegate.lookup import StoreLookup
from tidegate.rules import Rules, RulesInForce
from tidegate.store.tx import Store

SENSOR = "payments"


def _inbox(store: Store) -> StoreInbox:
    rules = RulesInForce(Rules(rule_set(), {}, {}, "c1", {}))
    return StoreInbox(store, Ingest(rules, "one"), lambda _: None)


def _event(n: int) -> Event:
    return Event(
        sensor=SENSOR,
        id=f"t#0/0/{n}",
        uid=f"evt_{n:026d}",
        source="kafka://t",
        type="kafka.record",
        received_at=T0,
        data=b"{}",
    )


def _batch(owned: Owned, n: int) -> Batch:
    return Batch(
        events=(_event(n),),
        cursors=(Cursor(owned.shard, str(n)),),
        fences=(Fence(owned.shard, owned.epoch),),
        dead_letters=(DeadLetter("bad", "it is", f"{owned.shard}/{n}"),),
        counts={"unmatched": 3},
        unwanted={("payments|*", "c1"): 3},
    )


async def _stored(store: Store) -> tuple[int, int, int]:
    letters, _ = await store.read(lambda reader: reader.dead_letters(limit=10))
    counts = await store.read(lambda reader: reader.counts("sensor"))
    candidates = await store.read(lambda reader: reader.counts("candidates"))
    return len(letters), counts.get((SENSOR, "unmatched"), 0), sum(candidates.values())


async def test_a_shard_is_owned_by_who_took_it_last(store: Store) -> None:
    """Each taking raises the epoch and tells the position; a shard that nobody has written has none."""
    lookup, inbox = StoreLookup(store, SENSOR), _inbox(store)
    first = await lookup.own(["t/0", "t/1"])
    assert {shard: (one.epoch, one.cursor) for shard, one in first.items()} == {"t/0": (1, None), "t/1": (1, None)}
    assert not (await inbox.put(SENSOR, _batch(first["t/0"], 7))).stale
    second = await lookup.own(["t/0"])

    assert second == {"t/0": Owned("t/0", 2, Cursor("t/0", "7"))}
    assert (await StoreLookup(store, "another").own(["t/0"]))["t/0"] == Owned("t/0", 1, None)


async def test_who_was_replaced_writes_nothing(store: Store) -> None:
    """Of a stale batch there is no event, position, dead letter or count; that of the owner is whole."""
    lookup, inbox = StoreLookup(store, SENSOR), _inbox(store)
    old = (await lookup.own(["t/0"]))["t/0"]
    new = (await lookup.own(["t/0"]))["t/0"]
    stale, good = await asyncio.gather(inbox.put(SENSOR, _batch(old, 8)), inbox.put(SENSOR, _batch(new, 9)))

    assert (stale, good.stale) == (Stored((), stale=True), False)
    assert (await inbox.cursors(SENSOR))["t/0"].value == "9"
    assert await _stored(store) == (1, 3, 3)


async def test_a_batch_of_several_shards_is_stale_with_one_of_them(store: Store) -> None:
    """It is all or nothing; put apart, what is still owned is stored."""
    lookup, inbox = StoreLookup(store, SENSOR), _inbox(store)
    owned = await lookup.own(["t/0", "t/1"])
    await lookup.own(["t/1"])
    pieces = [_batch(owned["t/0"], 1), _batch(owned["t/1"], 2)]
    both = Batch(
        events=[event for piece in pieces for event in piece.events],
        cursors=[cursor for piece in pieces for cursor in piece.cursors],
        fences=[fence for piece in pieces for fence in piece.fences],
    )
    assert (await inbox.put(SENSOR, both)).stale
    assert [(await inbox.put(SENSOR, piece)).stale for piece in pieces] == [False, True]

    assert {shard: cursor.value for shard, cursor in (await inbox.cursors(SENSOR)).items()} == {"t/0": "1"}
    assert await _stored(store) == (1, 3, 3)


async def test_takers_take_turns(store: Store) -> None:
    """However many take a shard at once, each gets an epoch of its own, and only the highest writes."""
    lookup, inbox = StoreLookup(store, SENSOR), _inbox(store)
    taken = await asyncio.gather(*(lookup.own(["t/0", "t/1"]) for _ in range(8)))
    epochs = [one["t/0"].epoch for one in taken]
    assert sorted(epochs) == [1, 2, 3, 4, 5, 6, 7, 8]
    stored = [(await inbox.put(SENSOR, _batch(one["t/0"], n))).stale for n, one in enumerate(taken)]

    assert stored == [epoch < 8 for epoch in epochs]
