"""Turns and pauses at hosts: in order, never more than allowed, and none lost when somebody gives up."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensors.hosts import Hosts
from sensors.testing import VirtualClock, settle


async def test_turns_are_given_in_the_order_of_asking() -> None:
    """One at a time; who asked first is next; another host is another line."""
    hosts, order = Hosts(VirtualClock()), list[str]()

    async def visit(name: str, host: str = "a:1") -> None:
        async with hosts.turn(host, 1):
            order.append(name)
            await asyncio.sleep(0)

    await asyncio.gather(visit("1"), visit("2"), visit("other", "b:1"), visit("3"))

    assert [name for name in order if name != "other"] == ["1", "2", "3"]
    assert order.index("other") < order.index("2")


@given(st.lists(st.tuples(st.integers(1, 3), st.booleans()), min_size=1, max_size=12))
def test_giving_up_never_loses_a_place(visits: list[tuple[int, bool]]) -> None:
    """Whoever is cancelled, waiting or inside: at the end the place is free, and the limit was never passed."""

    async def run() -> int:
        hosts = Hosts(VirtualClock())
        active = most = 0

        async def visit(limit: int) -> None:
            nonlocal active, most
            async with hosts.turn("a:1", limit):
                active += 1
                most = max(most, active)
                try:
                    await asyncio.sleep(0.001)
                finally:
                    active -= 1

        tasks = [asyncio.create_task(visit(limit)) for limit, _ in visits]
        await asyncio.sleep(0)
        for task, (_, leaves) in zip(tasks, visits, strict=True):
            if leaves:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        async with asyncio.timeout(1), hosts.turn("a:1", 1):
            return most

    assert asyncio.run(run()) <= max(limit for limit, _ in visits)


async def test_a_pause_is_for_all_and_the_longest_counts() -> None:
    """A shorter demand does not shorten a longer one; it is over when its time is."""
    clock = VirtualClock()
    hosts = Hosts(clock)
    hosts.pause("a:1", 30, "because")
    hosts.pause("a:1", 5, "less")
    await clock.advance(10)
    assert hosts.remaining("a:1") == (20.0, "because")
    assert hosts.remaining("b:1") == (0.0, "")
    await clock.advance(20)
    assert hosts.remaining("a:1")[0] == 0.0


async def test_strangers_do_not_fill_the_memory() -> None:
    """Hosts with nothing to remember are dropped; one that is to be left alone stays."""
    clock = VirtualClock()
    hosts = Hosts(clock)
    hosts.pause("kept:1", 1e6, "because")
    for n in range(5_000):
        async with hosts.turn(f"h{n}:1", 1):
            pass
    await settle()

    assert len(hosts._hosts) <= 1_001
    assert hosts.remaining("kept:1")[0] == pytest.approx(1e6)
