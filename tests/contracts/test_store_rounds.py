"""What every store promises about the keys that patterns wait for."""

from dataclasses import replace

import pytest

from tests.support.stores import T0, do, event, fired
from tidegate.store.records import StoredEvent, Timer
from tidegate.store.tx import ItemRefused, Store, Tx
from triggers.decision import Outcome
from triggers.gather import Waiting
from triggers.round import Occurrence, Phase, Round, RoundName

A, B = RoundName("t", "a"), RoundName("t", "b/ø")
ONE, TWO, THREE = (Occurrence(part="p", event=f"evt_{n}", at=T0 + n, depth=n) for n in (1, 2, 3))
OPEN = Round(
    name=A,
    phase=Phase.OPEN,
    uid="dec_a",
    meaning="m",
    version="v1",
    since=T0,
    due=T0 + 9,
    taken=2,
    counted=5,
    as_of=T0 + 1,
    held=(ONE, TWO),
)


def _put(tx: Tx, *rounds: Round) -> None:
    before = tx.lock_rounds([one.name for one in rounds])
    tx.put_rounds(rounds, before)


async def test_keys_come_back_as_they_were_put(store: Store) -> None:
    """What is new is in phase NEW and nothing more; what was put has all its fields and what it holds, in order."""
    new = await do(store, lambda tx: dict(tx.lock_rounds([B, A])))
    await do(store, lambda tx: _put(tx, replace(OPEN, held=(TWO, ONE))))
    found = await do(store, lambda tx: dict(tx.lock_rounds([A, B])))

    assert new == {A: Round(name=A), B: Round(name=B)}
    assert found == {A: OPEN, B: Round(name=B)}
    assert await do(store, lambda tx: dict(tx.lock_rounds([]))) == {}


async def test_only_keys_that_are_there_come_without_waiting(store: Store) -> None:
    """A look that must not wait neither makes a key nor finds one that nobody put."""
    await do(store, lambda tx: _put(tx, OPEN))

    assert await do(store, lambda tx: dict(tx.lock_rounds([A, B], wait=False))) == {A: OPEN}


async def test_what_a_key_holds_follows_it(store: Store) -> None:
    """Events are added and taken away one by one; a key that is forgotten holds nothing when it is new again."""
    await do(store, lambda tx: _put(tx, OPEN, replace(OPEN, name=B, uid="dec_b")))
    await do(store, lambda tx: _put(tx, replace(OPEN, held=(TWO, THREE), taken=3)))
    changed = await do(store, lambda tx: dict(tx.lock_rounds([A, B])))
    await do(store, lambda tx: _put(tx, Round(name=A)))
    gone = await do(store, lambda tx: dict(tx.lock_rounds([A], wait=False)))
    await do(store, lambda tx: _put(tx, replace(OPEN, held=())))
    again = await do(store, lambda tx: dict(tx.lock_rounds([A])))

    assert [one.event for one in changed[A].held] == ["evt_2", "evt_3"]
    assert changed[B].held == (ONE, TWO)
    assert gone == {}
    assert again[A].held == ()


async def test_an_event_may_be_two_parts(store: Store) -> None:
    """Taking it away as one part leaves it as the other."""
    both = (ONE, replace(ONE, part="q"), TWO)
    await do(store, lambda tx: _put(tx, replace(OPEN, held=both)))
    await do(store, lambda tx: _put(tx, replace(OPEN, held=both[1:])))
    found = await do(store, lambda tx: tx.lock_rounds([A])[A].held)
    await do(store, lambda tx: _put(tx, replace(OPEN, held=both[1:2])))

    assert found == both[1:]
    assert (await do(store, lambda tx: tx.lock_rounds([A])[A].held)) == both[1:2]


async def test_an_open_decision_grows_and_shrinks(store: Store) -> None:
    """It is replaced under its uid; its events are those that were added and not removed, in order."""
    first = fired("dec_1", ["evt_1", "evt_2"], outcome=Outcome.WAITING, reason="two")
    later = replace(first, reason="other two", details={"key": "k"})
    await do(store, lambda tx: tx.put_waiting([Waiting(first, ("evt_1", "evt_2"), (), 0, new=True)]))
    await do(store, lambda tx: tx.put_waiting([Waiting(later, ("evt_3",), ("evt_1",), 2, new=False)]))
    rows, _ = await store.read(lambda reader: reader.decisions(limit=9))
    of_one, _ = await store.read(lambda reader: reader.decisions(limit=9, event="evt_1"))
    of_three, _ = await store.read(lambda reader: reader.decisions(limit=9, event="evt_3"))

    assert [(row["reason"], row["outcome"], row["events"]) for row in rows] == [
        ("other two", "waiting", ["evt_2", "evt_3"])
    ]
    assert rows[0]["details"] == {"key": "k"}
    assert (len(of_one), len(of_three)) == (0, 1)


async def test_events_are_read_with_their_content_and_context(store: Store) -> None:
    """Small and large content alike; what is not there is left out."""
    stored = [StoredEvent(event(f"evt_{n}", data=b"x" * n), f"00-span-{n}") for n in (5, 5_000)]
    await do(store, lambda tx: tx.insert_events(stored))

    found = await do(store, lambda tx: dict(tx.get_events(["evt_5", "evt_5000", "evt_none"])))
    spans = await do(store, lambda tx: dict(tx.get_spans(["evt_5", "evt_none"])))

    assert found == {one.event.uid: one for one in stored}
    assert spans == {"evt_5": "00-span-5"}


async def test_forgetting_takes_only_keys_that_are_done_with(store: Store) -> None:
    """Open keys stay however old; closed ones go when their time of being remembered has ended, with what they hold."""
    rounds = [
        replace(OPEN, due=T0),
        replace(OPEN, name=B, phase=Phase.FIRED, due=T0),
        replace(OPEN, name=RoundName("u", "c"), phase=Phase.OVERDUE, due=T0 + 100),
    ]
    await do(store, lambda tx: _put(tx, *rounds))
    gone = await do(store, lambda tx: tx.prune("rounds", T0 + 50, 10))
    left = await do(store, lambda tx: set(tx.lock_rounds([one.name for one in rounds], wait=False)))

    assert gone == 1
    assert left == {A, RoundName("u", "c")}
    assert (await do(store, lambda tx: tx.lock_rounds([B])))[B] == Round(name=B)


async def test_a_timer_that_is_not_needed_any_more_goes(store: Store) -> None:
    """Dropping names what is there and what is not."""
    await do(store, lambda tx: tx.set_timers([Timer(1, "join", "x"), Timer(1, "join", "y")]))
    await do(store, lambda tx: tx.drop_timers([("join", "x"), ("join", "none")]))
    await do(store, lambda tx: tx.drop_timers([]))

    assert [timer.key for timer in await do(store, lambda tx: tx.due_timers(9))] == ["y"]


async def test_open_keys_are_counted_by_what_they_mean(store: Store) -> None:
    """Keys that are done with do not count; of one trigger those of another meaning are found, in order, so many."""
    other = [replace(OPEN, name=RoundName("t", f"k{n}"), uid=f"dec_{n}", meaning="old") for n in (2, 1, 3)]
    done_with = replace(OPEN, name=B, uid="dec_b", phase=Phase.FIRED, meaning="old")
    elsewhere = replace(OPEN, name=RoundName("u", "a"), uid="dec_u", meaning="old")
    await do(store, lambda tx: _put(tx, OPEN, done_with, elsewhere, *other))

    assert await store.read(lambda reader: dict(reader.open_keys())) == {
        ("t", "m"): 1,
        ("t", "old"): 3,
        ("u", "old"): 1,
    }
    stale = await store.read(lambda reader: reader.stale_keys("t", "m", 2))
    assert list(stale) == [RoundName("t", "k1"), RoundName("t", "k2")]
    assert list(await store.read(lambda reader: reader.stale_keys("u", "old", 9))) == []


async def test_a_queue_gives_back_in_order_what_joined(store: Store) -> None:
    """The first come first, a few at a time; each queue has its own, and a round without a look at it holds nothing."""
    line = [Occurrence(part=f"{n:012}/dec_{9 - n}", event=f"evt_{9 - n}", at=T0 - n, depth=n) for n in range(5)]
    await do(store, lambda tx: _put(tx, replace(OPEN, held=()), replace(OPEN, name=B, uid="dec_b", held=())))
    await do(store, lambda tx: tx.push_held([(A, one) for one in (line[2], line[0], line[1])]))
    await do(store, lambda tx: tx.push_held([(A, line[3]), (B, line[4])]))
    numbers = await do(store, lambda tx: dict(tx.lock_numbers([A, B])))
    first = await do(store, lambda tx: list(tx.pull_held(A, 3)))
    rest = await do(store, lambda tx: [*tx.pull_held(A, 9), *tx.pull_held(A, 9)])

    assert numbers[A] == replace(OPEN, held=())
    assert (first, rest) == (line[:3], line[3:4])
    assert await do(store, lambda tx: list(tx.pull_held(B, 9))) == line[4:]


async def test_what_joins_and_leaves_within_a_transaction_that_fails_is_as_it_was(store: Store) -> None:
    """A queue is part of the transaction, like everything else."""

    def fails(tx: Tx) -> None:
        tx.push_held([(A, replace(TWO, part="2"))])
        tx.pull_held(A, 1)
        raise LookupError("no")

    await do(store, lambda tx: tx.push_held([(A, replace(ONE, part="1"))]))
    with pytest.raises(ItemRefused):
        await do(store, fails)

    assert await do(store, lambda tx: list(tx.pull_held(A, 9))) == [replace(ONE, part="1")]


async def test_rounds_that_are_not_there_are_not_made_without_waiting(store: Store) -> None:
    """A look by numbers alone neither makes a round nor waits for one."""
    await do(store, lambda tx: _put(tx, OPEN))

    assert set(await do(store, lambda tx: dict(tx.lock_numbers([A, B], wait=False)))) == {A}
    assert await do(store, lambda tx: dict(tx.lock_numbers([]))) == {}


async def test_open_rounds_are_counted_up_to_a_bound(store: Store) -> None:
    """Those of one trigger that are open, and no more than asked for."""
    names = [RoundName("t", f"k{n}") for n in range(4)]
    rounds = [replace(OPEN, name=name, uid=f"dec_{name.key}", held=()) for name in names]
    other = replace(rounds[0], name=RoundName("u", "k"), uid="dec_u")
    await do(store, lambda tx: _put(tx, *rounds[:3], replace(rounds[3], phase=Phase.FIRED), other))

    assert await do(store, lambda tx: (tx.count_open("t", 9), tx.count_open("t", 2), tx.count_open("v", 9))) == (
        3,
        2,
        0,
    )
