"""Durable alarms."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence

import pytest

from sensors.testing import VirtualClock, settle
from tests.support.running import until
from tests.support.stores import do
from tests.support.works import Tick
from tidegate.store.factory import open_store
from tidegate.store.records import Timer
from tidegate.store.tx import Store, Tx
from tidegate.timers import FireTimers, Timers


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    opened = open_store(url, shard="one", clock=Tick(1_000_000))
    await opened.open()
    yield opened
    await opened.close()


class Bell:
    """A handler that notes its timers, and does what it is told first."""

    def __init__(self) -> None:
        self.rung: list[str] = []
        self.broken: set[str] = set()

    def __call__(self, tx: Tx, timer: Timer) -> None:
        tx.put_setting(f"rung/{timer.key}", timer.payload)
        if timer.key in self.broken:
            raise ValueError(f"cannot handle {timer.key}")
        self.rung.append(timer.key)


async def _left(store: Store) -> list[Timer]:
    """Return all timers, whenever due, without keeping them away."""

    def look(tx: Tx) -> list[Timer]:
        found = list(tx.due_timers(1_000))
        tx.set_timers(found)
        return found

    return await do(store, look)


async def _run_once(store: Store, bell: Bell, *, clock: VirtualClock | None = None) -> None:
    timers = Timers(store, {"bell": bell}, clock or VirtualClock())
    task = asyncio.create_task(timers.run())
    await until(lambda: timers._wake._waiters != [] and bool(timers._wake._waiters))  # it has looked, and waits
    timers.stop()
    await task


async def test_due_timers_fire_once_in_order(store: Store) -> None:
    """What is due is handled in the order of its due time, once; what is not due stays."""
    bell = Bell()
    timers = [Timer(due, "bell", key) for due, key in ((30, "c"), (10, "a"), (20, "b"), (2**60, "later"))]
    await do(store, lambda tx: tx.set_timers(timers))
    await _run_once(store, bell)
    await _run_once(store, bell)

    assert bell.rung == ["a", "b", "c"]


async def test_more_than_one_batch_is_worked_off_at_one_look(store: Store) -> None:
    """However many are due, they do not wait for the next look."""
    bell = Bell()
    await do(store, lambda tx: tx.set_timers([Timer(n, "bell", f"{n:04}") for n in range(450)]))
    await _run_once(store, bell)

    assert bell.rung == [f"{n:04}" for n in range(450)]


async def test_a_failing_handler_does_not_stop_the_others(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """A handler that fails is undone and put off, and said so in the log; the timers before and after it come about."""
    bell = Bell()
    bell.broken = {"b", "d"}
    await do(store, lambda tx: tx.set_timers([Timer(n, "bell", key) for n, key in enumerate("abcde")]))
    with caplog.at_level(logging.ERROR):
        await _run_once(store, bell)
    written = await store.read(lambda reader: reader.settings("rung/"))

    assert bell.rung[-3:] == ["a", "c", "e"]
    assert sorted(written) == ["rung/a", "rung/c", "rung/e"]
    assert sum("cannot handle" in record.getMessage() for record in caplog.records) == 2
    assert {timer.key for timer in await do(store, _due_by_far)} == {"b", "d"}


def _due_by_far(tx: Tx) -> list[Timer]:
    """Take what is due within the next two minutes, by moving the store's clock."""
    clock = tx._now if hasattr(tx, "_now") else None
    if clock is not None:
        tx._now = clock + 120_000_000  # type: ignore[attr-defined]
        return list(tx.due_timers(100))
    session = tx._s  # type: ignore[attr-defined]
    rows = session.select("SELECT due, kind, key, payload FROM timers WHERE due <= ?", tx.now() + 120_000_000)
    return [Timer(*row) for row in rows]


async def test_a_handler_that_works_again_gets_its_timer(store: Store) -> None:
    """A timer that was put off is handled at a later look, once its handler can."""
    bell = Bell()
    bell.broken = {"a"}
    await do(store, lambda tx: tx.set_timers([Timer(1, "bell", "a", "x")]))
    await _run_once(store, bell)
    bell.broken = set()
    await do(store, lambda tx: tx.set_timers([Timer(1, "bell", timer.key, timer.payload) for timer in _due_by_far(tx)]))
    await _run_once(store, bell)

    assert bell.rung == ["a"]
    assert dict(await store.read(lambda reader: reader.settings("rung/"))) == {"rung/a": "x"}


async def test_timers_of_unknown_kinds_stay(store: Store) -> None:
    """What another version has set is neither lost nor in the way."""
    bell = Bell()
    await do(store, lambda tx: tx.set_timers([Timer(1, "future", "x", "p"), Timer(2, "bell", "a")]))
    await _run_once(store, bell)

    assert bell.rung == ["a"]
    assert [(timer.kind, timer.key, timer.payload) for timer in await do(store, _due_by_far)] == [("future", "x", "p")]


async def test_a_wake_looks_now_and_time_looks_again(store: Store) -> None:
    """Between looks nothing happens until somebody wakes the loop or its time has come."""
    bell = Bell()
    clock = VirtualClock()
    timers = Timers(store, {}, clock, every=5.0)
    timers.handle("bell", bell)
    task = asyncio.create_task(timers.run())
    await until(lambda: clock.sleeping == 1)
    await do(store, lambda tx: tx.set_timers([Timer(1, "bell", "a")]))
    timers.wake()
    await until(lambda: bell.rung == ["a"])
    await do(store, lambda tx: tx.set_timers([Timer(1, "bell", "b")]))
    await settle()
    quiet = list(bell.rung)
    await until(lambda: clock.sleeping == 1)
    await clock.advance(5.0)
    await until(lambda: bell.rung == ["a", "b"])
    timers.stop()
    await task

    assert quiet == ["a"]


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_taking_is_undone_with_its_transaction(url: str, store: Store) -> None:
    """A timer that was taken in a transaction that failed is still there; one that was taken is gone."""
    await do(store, lambda tx: tx.set_timers([Timer(1, "bell", "a")]))

    def take_and_fail(tx: Tx) -> None:
        tx.due_timers(10)
        raise ValueError("no")

    with pytest.raises(Exception, match="no"):
        await do(store, take_and_fail)

    assert [timer.key for timer in await _left(store)] == ["a"]


async def test_timers_of_a_kind_may_be_handled_together(store: Store) -> None:
    """All that are due come in one call, in order; one that makes it fail is put off, and the others come about."""
    calls: list[list[str]] = []

    def ring(tx: Tx, timers: Sequence[Timer]) -> None:
        names = [timer.key for timer in timers]
        if "bad" in names:
            raise ValueError("cannot handle bad")
        calls.append(names)

    await do(store, lambda tx: tx.set_timers([Timer(n, "choir", name) for n, name in enumerate(("b", "a", "c"))]))
    first = FireTimers({}, {"choir": ring})
    fired = await store.submit(first, frozenset())
    await do(store, lambda tx: tx.set_timers([Timer(n, "choir", name) for n, name in enumerate(("d", "bad", "e"))]))
    timers = Timers(store, {}, VirtualClock())
    timers.handle_together("choir", ring)
    task = asyncio.create_task(timers.run())
    await until(lambda: len(calls) > 2)
    timers.stop()
    await task

    assert (fired.handled, calls[0]) == (3, ["b", "a", "c"])
    assert sorted(name for names in calls[1:] for name in names) == ["d", "e"]
    assert [timer.key for timer in await _left(store)] == []
