"""What every store promises about submitting: groups, order, results, refusals, limits, closing."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from sensors.ports import Overloaded, Unavailable
from tests.support.stores import Each, do, event, ingest
from tidegate.store.factory import open_store
from tidegate.store.records import StoredEvent
from tidegate.store.tx import ItemRefused, Store, Tx
from tidegate.store.writer import Limits


class Together:
    """A write that notes the groups it was called with."""

    def __init__(self, name: str, log: list[tuple[str, list[Any]]]) -> None:
        self.name = name
        self._log = log

    def __call__(self, tx: Tx, items: Sequence[Any]) -> Sequence[Any]:
        """Return each item twice."""
        self._log.append((self.name, list(items)))
        return [item * 2 for item in items]


async def stored(store: Store) -> set[str]:
    """Return the uids of all events."""
    rows, _ = await store.read(lambda reader: reader.events(limit=1_000))
    return {row["uid"] for row in rows}


async def test_what_is_submitted_together_is_one_group(store: Store) -> None:
    """Items of one turn of the loop go into one transaction: each write once, in order of first arrival."""
    log: list[tuple[str, list[Any]]] = []
    a, b = Together("a", log), Together("b", log)
    futures = [store.submit(write, item) for write, item in ((b, 1), (a, 2), (b, 3), (a, 4), (b, 5))]
    answers = await asyncio.gather(*futures)

    assert log == [("b", [1, 3, 5]), ("a", [2, 4])]
    assert answers == [2, 4, 6, 8, 10]


async def test_one_bad_item_fails_alone(store: Store) -> None:
    """Of a hundred items the bad one is refused with its cause, ninety-nine are stored, in their order."""

    def write(tx: Tx, n: int) -> int:
        tx.insert_events([StoredEvent(event(f"evt_{n:03}"))])
        if n == 41:
            raise KeyError("forty-one")
        return n

    answers = await asyncio.gather(*[store.submit(Each(write), n) for n in range(100)], return_exceptions=True)

    bad = answers.pop(41)
    assert isinstance(bad, ItemRefused)
    assert isinstance(bad.__cause__, KeyError)
    assert answers == [n for n in range(100) if n != 41]
    assert await stored(store) == {f"evt_{n:03}" for n in range(100) if n != 41}
    assert store.health().ok


async def test_a_refused_item_leaves_nothing(store: Store) -> None:
    """What a write did before it failed is undone, and the store goes on."""

    def write(tx: Tx) -> None:
        tx.insert_events([StoredEvent(event("evt_1"))])
        tx.new_event_ids([])
        tx.put_setting("name", "value")
        tx.add_counts("a", {("k", "n", "o"): 1})
        raise ValueError("no")

    with pytest.raises(ItemRefused, match="no"):
        await do(store, write)
    left = await store.read(lambda reader: (reader.settings(""), reader.counts("k"), reader.events(limit=1)[0]))

    assert left == ({}, {}, [])
    assert await store.submit(Each(ingest), event("evt_1")) == "evt_1"


async def test_the_same_row_twice_is_a_data_error(store: Store) -> None:
    """A row that exists already is refused; it does not make the store unavailable."""
    await do(store, lambda tx: tx.insert_events([StoredEvent(event("evt_1"))]))
    with pytest.raises(ItemRefused):
        await do(store, lambda tx: tx.insert_events([StoredEvent(event("evt_1"))]))

    assert store.health().ok


async def test_a_write_must_answer_every_item(store: Store) -> None:
    """A write that gives too few results is refused and what it did is undone."""

    class Careless:
        name = "careless"

        def __call__(self, tx: Tx, items: Sequence[Any]) -> Sequence[Any]:
            tx.put_setting("careless", "x")
            return []

    with pytest.raises(ItemRefused):
        await store.submit(Careless(), 1)

    assert await store.read(lambda reader: reader.settings("")) == {}


async def test_readers_see_only_what_is_committed(store: Store) -> None:
    """A reader that runs while a transaction is open sees nothing of it, and all of it afterwards."""
    loop = asyncio.get_running_loop()
    inside, go_on = asyncio.Event(), asyncio.Event()

    def write(tx: Tx) -> None:
        tx.insert_events([StoredEvent(event("evt_1"))])
        loop.call_soon_threadsafe(inside.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(20)

    future = asyncio.ensure_future(do(store, write))
    await inside.wait()
    before = await stored(store)
    go_on.set()
    await future

    assert before == set()
    assert await stored(store) == {"evt_1"}


async def test_a_reader_s_own_error_is_its_own(store: Store) -> None:
    """An error of a read function comes back as it is, and the connection stays usable."""

    def fail(reader: Any) -> None:
        raise LookupError("mine")

    for _ in range(3):
        with pytest.raises(LookupError, match="mine"):
            await store.read(fail)
    assert await stored(store) == set()


async def test_too_much_waiting_is_refused(url: str) -> None:
    """Above the limits of items or bytes a submit fails with Overloaded, and what waited is stored all the same."""
    store = open_store(url, shard="one", limits=Limits(items=3, bytes=100))
    await store.open()
    futures = [store.submit(Each(ingest), event(f"evt_{n}"), 1) for n in range(5)]
    assert store.backlog == (3, 3)
    answers = await asyncio.gather(*futures, return_exceptions=True)
    heavy = [store.submit(Each(ingest), event(f"evt_h{n}"), 80) for n in range(2)]
    weighed = store.backlog
    more = await asyncio.gather(*heavy, return_exceptions=True)
    left = store.backlog
    await store.close()

    assert answers[:3] == ["evt_0", "evt_1", "evt_2"]
    assert [type(answer) for answer in [*answers[3:], more[1]]] == [Overloaded] * 3
    assert more[0] == "evt_h0"
    assert (weighed, left) == ((1, 80), (0, 0))


async def test_the_houses_own_writes_pass_a_flood(url: str) -> None:
    """A write of weight 0 (a lease's renewal, a claim) is taken however much waits."""
    store = open_store(url, shard="one", limits=Limits(items=1, bytes=100))
    await store.open()
    flood = [store.submit(Each(ingest), event(f"evt_{n}"), 60) for n in range(3)]
    own = await store.submit(Each(ingest), event("evt_own"))
    answers = await asyncio.gather(*flood, return_exceptions=True)
    await store.close()

    assert own == "evt_own"
    assert [type(answer) for answer in answers] == [str, Overloaded, Overloaded]


async def test_closing_finishes_what_waits(url: str) -> None:
    """What was submitted before close is committed; what comes after is told that the store closes."""
    store = open_store(url, shard="one")
    await store.open()
    futures = [store.submit(Each(ingest), event(f"evt_{n}")) for n in range(10)]
    closing = asyncio.ensure_future(store.close())
    answers = await asyncio.gather(*futures)
    await closing
    with pytest.raises(Unavailable, match="closing"):
        await store.submit(Each(ingest), event("evt_late"))

    assert answers == [f"evt_{n}" for n in range(10)]


async def test_the_named_points_are_passed_in_order(url: str) -> None:
    """A transaction passes begin, before_commit and after_commit, once each, and a rolled back one never commits."""
    passed: list[str] = []
    store = open_store(url, shard="one", fail_point=passed.append)
    await store.open()
    await do(store, lambda tx: tx.now())
    once = list(passed)
    with pytest.raises(ItemRefused):
        await do(store, lambda tx: tx.now() // 0)
    await store.close()

    assert once == ["store.begin", "store.before_commit", "store.after_commit"]
    assert passed[3:] == ["store.begin"]


async def test_a_cancelled_caller_hurts_nobody(store: Store) -> None:
    """A caller that stopped waiting changes nothing for the others of its group."""
    futures = [store.submit(Each(ingest), event(f"evt_{n}")) for n in range(3)]
    futures[1].cancel()
    answers = await asyncio.gather(*futures, return_exceptions=True)

    assert [answers[0], answers[2]] == ["evt_0", "evt_2"]
    assert store.backlog == (0, 0)


async def test_many_groups_keep_the_order_of_arrival(store: Store) -> None:
    """Thousands of items in many groups run in the order in which they were submitted."""
    seen: list[int] = []
    futures = []

    def note(tx: Tx, n: int) -> None:
        seen.append(n)

    for start in range(0, 5_000, 500):
        futures += [store.submit(Each(note), n) for n in range(start, start + 500)]
        await asyncio.sleep(0)
    await asyncio.gather(*futures)

    assert seen == list(range(5_000))
