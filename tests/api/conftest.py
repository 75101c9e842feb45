"""A house with nothing in it, and one in which something happened."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2 as httpx
import pytest

from pipelines.run import RunState
from tests.support.asking import client_of
from tests.support.house import EVIL, FakeHouse, open_house


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[FakeHouse]:
    async with open_house(tmp_path) as made:
        yield made


@pytest.fixture
async def lived_in(house: FakeHouse) -> FakeHouse:
    """Two runs succeeded, one failed, one is queued; two events were filtered, one is a dead letter."""
    await house.receive("a.csv")
    await house.work()
    await house.receive("b.csv")
    await house.work(RunState.FAILED)
    await house.receive("small.csv", data=b'{"size": 1}')
    await house.receive("a.parquet")
    await house.receive(EVIL, sensor="hook")
    await house.work()
    await house.receive("c.csv")
    await house.bury()
    return house


@pytest.fixture
async def client(house: FakeHouse) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(house) as made:
        yield made
