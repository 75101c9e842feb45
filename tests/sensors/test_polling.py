"""Alarms, intervals, and the virtual clock they are tested with."""

import asyncio

from sensors.polling import Alarm, Interval
from sensors.testing import VirtualClock, settle


async def test_sleepers_wake_in_the_order_of_their_due_time() -> None:
    """Advancing far wakes each sleeper at its own moment, and those that sleep again too."""
    clock = VirtualClock()
    woken: list[tuple[str, float]] = []

    async def nap(name: str, *seconds: float) -> None:
        for wait in seconds:
            await clock.sleep(wait)
            woken.append((name, clock.monotonic()))

    tasks = [asyncio.create_task(nap("a", 3.0)), asyncio.create_task(nap("b", 1.0, 1.0, 5.0))]
    await clock.advance(4.0)

    assert woken == [("b", 1.0), ("b", 2.0), ("a", 3.0)]
    assert clock.sleeping == 1
    assert clock.now() == 1_800_000_004_000_000
    await clock.advance(3.0)
    await asyncio.gather(*tasks)


async def test_a_sleep_of_nothing_yields() -> None:
    """Zero and negative waits end without the clock being moved."""
    await VirtualClock().sleep(0)
    await VirtualClock().sleep(-1)


async def test_an_alarm_ends_by_time_or_by_ring() -> None:
    """`wait` says which of the two it was."""
    clock = VirtualClock()
    alarm = Alarm(clock)
    waiting = asyncio.create_task(alarm.wait(5.0))
    await clock.advance(5.0)
    assert await waiting is False

    waiting = asyncio.create_task(alarm.wait(None))
    await settle()
    alarm.ring()
    assert await waiting is True


async def test_a_ring_before_the_wait_is_not_lost_and_counts_once() -> None:
    """Ringing while nobody waits ends the next wait, and only that."""
    clock = VirtualClock()
    alarm = Alarm(clock)
    alarm.ring()
    alarm.ring()

    assert await alarm.wait(60.0) is True
    waiting = asyncio.create_task(alarm.wait(60.0))
    await settle()
    assert not waiting.done()
    waiting.cancel()
    await settle()
    assert clock.sleeping == 0


def test_an_interval_spreads_and_can_be_set() -> None:
    """The first time is now; then it lies within the jitter, or exactly where it was put."""
    clock = VirtualClock()
    assert Interval(clock, 60.0).remaining() == 0.0
    for rand, expected in ((0.0, 54.0), (0.5, 60.0), (1.0, 66.0)):
        interval = Interval(clock, 60.0, rand=lambda rand=rand: rand)  # type: ignore[misc]
        interval.restart()
        assert round(interval.remaining(), 6) == expected
        interval.restart(5.0)
        assert interval.remaining() == 5.0
