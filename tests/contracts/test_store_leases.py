"""Leases of sensors on every store: one holder at a time, each under a token of its own."""

import asyncio
from collections.abc import Mapping

import pytest

from sensors.batch import Batch, Cursor, Fence
from sensors.clock import SystemClock
from sensors.errors import NotConnected
from tests.support.clocks import SetClock
from tests.support.stores import do
from tests.support.works import make_config, make_event
from tidegate.ingest import Ingest, StoreInbox
from tidegate.leases import LEASE, LeaseAnswer, LeaseAsk, LeasedInbox, Leases, Renew
from tidegate.rules import RulesInForce, compile_rules
from tidegate.store.tx import Store


async def _ask(store: Store, holder: str, lease: float = 60.0, grace: float = 5.0, **asked: object) -> LeaseAnswer:
    return await store.submit(Renew(), LeaseAsk(holder, lease, grace, **asked))  # type: ignore[arg-type]


async def test_who_asks_first_has_it(store: Store) -> None:
    """A free lease is taken, renewed under the same token, and refused to others by its holder's name."""
    first = await _ask(store, "one", take=["a", "b"])
    second = await _ask(store, "two", take=["b", "a", "c"])
    again = await _ask(store, "one", held=first.held)

    assert set(first.held) == {"a", "b"}
    assert second == LeaseAnswer({"c": second.held["c"]}, {"a": "one", "b": "one"})
    assert again == LeaseAnswer(first.held, {})


async def test_a_lease_that_ended_is_taken_after_the_grace(store: Store) -> None:
    """Not at its end but after end and grace; the old token is then worth nothing, and its holder learns who has it."""
    first = await _ask(store, "one", lease=0.0, take=["a"])
    early = await _ask(store, "two", grace=60.0, take=["a"])
    late = await _ask(store, "two", grace=0.0, take=["a"])
    lost = await _ask(store, "one", held=first.held)

    assert early.others == {"a": "one"}
    assert late.held["a"] > first.held["a"]
    assert lost == LeaseAnswer({}, {"a": "two"})


async def test_a_lease_that_was_given_back_is_free_at_once(store: Store) -> None:
    """Whoever waits need not wait for the end; giving back under an old token changes nothing."""
    first = await _ask(store, "one", take=["a"])
    await _ask(store, "one", release=first.held)
    second = await _ask(store, "two", take=["a"])
    await _ask(store, "one", release=first.held)
    third = await _ask(store, "three", take=["a"])

    assert second.held["a"] > first.held["a"]
    assert third.others == {"a": "two"}


async def test_a_lease_is_no_position(store: Store) -> None:
    """A sensor does not see its lease among its positions, and its positions do not touch the lease."""
    inbox = _inbox(store)
    taken = await _ask(store, "one", take=["a"])
    await inbox.put("a", Batch(cursors=(Cursor("", "here"),)))

    assert await inbox.cursors("a") == {"": Cursor("", "here")}
    assert (await _ask(store, "one", held=taken.held)).held == taken.held


@pytest.mark.parametrize("value", ["", "x", "[]", '{"v":9}'])
async def test_a_row_that_says_nothing_is_free(store: Store, value: str) -> None:
    """What cannot be read has no holder; it is taken under a new token."""
    await do(store, lambda tx: tx.put_cursors("a", [Cursor(LEASE, value)]))

    assert (await _ask(store, "one", take=["a"])).held["a"] == 1


def _inbox(store: Store) -> StoreInbox:
    rules = RulesInForce(compile_rules(make_config(), {}))
    return StoreInbox(store, Ingest(rules, "one"), lambda _: None)


async def test_what_a_former_holder_brings_is_refused(store: Store) -> None:
    """A batch under an old token stores nothing: no event, no position, and a neighbour in the group is not hurt."""
    inbox = _inbox(store)
    old = (await _ask(store, "one", lease=0.0, take=["a"])).held["a"]
    new = (await _ask(store, "two", grace=0.0, take=["a"])).held["a"]
    late = Batch((make_event(sensor="a", id="late"),), cursors=(Cursor("", "old"),), lease=Fence(LEASE, old))
    good = Batch((make_event(sensor="a", id="good"),), cursors=(Cursor("", "new"),), lease=Fence(LEASE, new))
    answers = await asyncio.gather(inbox.put("a", late), inbox.put("a", good))

    assert [answer.stale for answer in answers] == [True, False]
    rows, _ = await store.read(lambda reader: reader.events(limit=10, sensor="a"))
    assert [row["id"] for row in rows] == ["good"]
    assert await inbox.cursors("a") == {"": Cursor("", "new")}


async def test_a_lease_goes_beside_a_fence_of_the_sensors_own(store: Store) -> None:
    """Both must hold: either of them stale makes the batch stale."""
    inbox = _inbox(store)
    token = (await _ask(store, "one", take=["a"])).held["a"]
    shard = (await do(store, lambda tx: tx.raise_epoch("a", "0"))).epoch
    for n, (fence, lease, stale) in enumerate([(0, 0, False), (1, 0, True), (0, 1, True)]):
        batch = Batch(
            (make_event(sensor="a", id=str(n)),), fences=(Fence("0", shard + fence),), lease=Fence(LEASE, token + lease)
        )
        assert (await inbox.put("a", batch)).stale is stale


class _Process:
    """One process that strives for the leases of two sensors, and what was told to them."""

    def __init__(self, store: Store, holder: str, lease: float = 0.3, grace: float = 0.1) -> None:
        self.leases = Leases(store, holder, SystemClock(), lease, grace)
        self.told: dict[str, list[str | None]] = {"a": [], "b": []}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        for name, told in self.told.items():
            self.leases.want(name, told.append)
        self._task = asyncio.create_task(self.leases.run())

    async def die(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @property
    def has(self) -> Mapping[str, bool]:
        return {name: self.leases.epoch(name) is not None for name in self.told}


async def _until(condition: object, seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.01)


async def test_one_of_two_processes_has_each_lease(store: Store) -> None:
    """The second stands by and is told who reads; when the first is gone without a word, it takes over and is told."""
    one, two = _Process(store, "one"), _Process(store, "two")
    one.start()
    await _until(lambda: all(one.has.values()))
    two.start()
    await _until(lambda: all(two.told.values()))
    await asyncio.sleep(0.6)  # longer than a lease: it is renewed
    kept = (dict(one.has), dict(two.has), {name: list(told) for name, told in two.told.items()})
    await one.die()
    await _until(lambda: all(two.has.values()))
    await two.die()

    assert kept == ({"a": True, "b": True}, {"a": False, "b": False}, {"a": ["read by one"], "b": ["read by one"]})
    assert two.told == {"a": ["read by one", None], "b": ["read by one", None]}
    assert one.told == {"a": [None], "b": [None]}


async def test_a_dropped_lease_changes_hands_at_once(store: Store) -> None:
    """A process that wants a sensor no longer (it pauses, reloads, stops) does not make the other wait for the end."""
    one, two = _Process(store, "one", lease=600.0), _Process(store, "two", lease=0.4)
    one.start()
    await _until(lambda: all(one.has.values()))
    two.start()
    await _until(lambda: all(two.told.values()))
    one.leases.drop("a")
    await one.leases.give_back()
    await _until(lambda: two.has["a"])
    one.leases.want("a", one.told["a"].append)
    await _until(lambda: one.told["a"] == [None, "read by two"])
    await one.die()
    await two.die()

    assert two.has == {"a": True, "b": False}


async def test_a_process_that_woke_learns_that_its_lease_is_gone(store: Store) -> None:
    """What it reads after that is refused until it connects again under a token of its own."""
    one, two = _Process(store, "one"), _Process(store, "two")
    one.start()
    await _until(lambda: all(one.has.values()))
    inbox = LeasedInbox(_inbox(store), one.leases, "a")
    await inbox.cursors("a")
    await one.die()  # as if it stood still
    two.start()
    await _until(lambda: all(two.has.values()))
    refused = await inbox.put("a", Batch((make_event(sensor="a", id="1"),)))
    task = asyncio.create_task(one.leases.run())
    await _until(lambda: one.told["a"] == [None, "read by two"])
    with pytest.raises(NotConnected, match="another replica reads this source"):
        await inbox.cursors("a")
    task.cancel()
    await two.die()

    assert refused.stale


async def test_a_wrong_clock_keeps_nobody_from_taking_over(store: Store) -> None:
    """A machine that is hours behind sees a lease stand still, and asks the database, whose clock is right."""
    await _ask(store, "one", lease=0.0, take=["a"])
    clock = SetClock(1_000_000)
    leases = Leases(store, "two", clock, 5.0, 1.0)
    told: list[str | None] = []
    leases.want("a", told.append)
    task = asyncio.create_task(leases.run())
    await _until(lambda: told == ["read by one"] and clock.sleeping > 0)
    seconds = 0
    async with asyncio.timeout(20):
        while told[-1] is not None:
            await clock.advance(1.0)
            await asyncio.sleep(0.01)
            seconds += 1
    task.cancel()

    assert told == ["read by one", None]
    assert seconds >= 6  # a lease and a grace
