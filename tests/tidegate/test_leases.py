"""Sensor leases in a whole service: who reads, what the other's health says, and how a lease changes hands."""

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from config.model import Dispatch
from tests.support.running import Running, load, running, until

TEXT = """
service: {name: svc, store: "sqlite:///store.db"}
sensors:
  ticks: {kind: schedule, every: 1h}
  landing: {kind: files, path: ./in, create: true, start: beginning}
  hook: {kind: webhook, path: /hooks/in, verify: none}
"""
LONG = Dispatch(lease=4.0, grace=60.0)  # asked for every second; nobody waits for the end of one and its grace


def _state(gate: Running, name: str = "ticks") -> str:
    return str(gate.service.sensor_health()[name]["state"])


async def _two(stack: AsyncExitStack, folder: Path, database: str) -> tuple[Running, Running]:
    config = await load(folder, TEXT, store=database, dispatch=LONG)
    one = await stack.enter_async_context(running(config))
    await until(lambda: _state(one) == "healthy")
    two = await stack.enter_async_context(running(config))
    await until(lambda: two.service.sensor_health()["ticks"]["reason"].startswith("read by "))
    return one, two


@pytest.mark.postgres
async def test_one_replica_reads_and_the_other_says_who(tmp_path: Path, database: str) -> None:
    """A source that is asked is read once; a folder and a webhook belong to every replica."""
    async with AsyncExitStack() as stack:
        one, two = await _two(stack, tmp_path, database)
        reason = two.service.sensor_health()["ticks"]["reason"]
        await until(lambda: _state(two, "landing") == _state(one, "landing") == "healthy")

        assert reason == f"read by {one.service._parts.leases._ask.holder}"  # type: ignore[union-attr]
        assert _state(two, "hook") in ("starting", "healthy")
        assert two.service.ready() == (True, "")


@pytest.mark.postgres
async def test_a_soft_stop_hands_over_at_once(tmp_path: Path, database: str) -> None:
    """What a stopping replica read is given back: the other does not wait for the lease's end."""
    async with AsyncExitStack() as stack:
        config = await load(tmp_path, TEXT, store=database, dispatch=LONG)
        async with running(config) as one:
            await until(lambda: _state(one) == "healthy")
            two = await stack.enter_async_context(running(config))
            await until(lambda: two.service.sensor_health()["ticks"]["reason"].startswith("read by "))
        await until(lambda: _state(two) == "healthy")


@pytest.mark.postgres
async def test_a_pause_and_a_reload_keep_one_reader(tmp_path: Path, database: str) -> None:
    """A paused sensor reads nowhere and goes on in one place; a changed one is read under a lease anew."""
    async with AsyncExitStack() as stack:
        one, two = await _two(stack, tmp_path, database)
        await one.service.pause_sensor("ticks", "hold")
        await until(lambda: _state(one) == "paused")
        leases = one.service._parts.leases
        assert leases is not None
        assert not leases.wants("ticks")
        await one.service.pause_sensor("ticks", None)
        await until(lambda: sorted((_state(one), _state(two))) == ["healthy", "standby"])
        reader = one if _state(one) == "healthy" else two
        changed = TEXT.replace("every: 1h", "every: 2h")
        await reader.service.reload(await load(tmp_path, changed, store=database, dispatch=LONG))
        await until(lambda: sorted((_state(one), _state(two))) == ["healthy", "standby"])


async def test_on_sqlite_there_are_none(tmp_path: Path) -> None:
    """A store that one process has needs no leases: the sensor reads at once, under no fence."""
    async with running(await load(tmp_path, TEXT)) as gate:
        await until(lambda: _state(gate) == "healthy")
        assert gate.service._parts.leases is None
