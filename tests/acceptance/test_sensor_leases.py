"""Two replicas over one PostgreSQL: one reads each source, and the other takes over, whatever happens to the first."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest

from tests.support.postgres import Server, fresh_database, running_server
from tests.support.replicas import Replica

pytestmark = [pytest.mark.acceptance, pytest.mark.postgres]
CONFIG = """
service:
  name: twins
  store: {store}
  dispatch: {{lease: 1s, grace: 300ms}}
sensors:
  orders: {{kind: sql, url: "{shop}", table: orders, key: id, high: at, start: beginning, every: 100ms}}
  ticks: {{kind: schedule, every: 1s, catch_up: all}}
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A PostgreSQL server."""
    with running_server() as made:
        yield made


class Twins:
    """Two replicas, and the table that they watch."""

    def __init__(self, folder: Path, store: str, shop: str) -> None:
        config = folder / "tidegate.yaml"
        config.write_text(CONFIG.format(store=store, shop=shop))
        self.one, self.two = (Replica(folder, name, config) for name in ("one", "two"))
        self._shop = psycopg.connect(shop, autocommit=True)
        self._store = psycopg.connect(store, autocommit=True)
        self._shop.execute("create table orders (id serial primary key, at timestamptz not null default now())")

    def insert(self, count: int) -> None:
        self._shop.execute("insert into orders select from generate_series(1, %s)", (count,))

    def told(self, sensor: str) -> list[str]:
        """Return the ids of a sensor's events, sorted."""
        rows = self._store.execute("select id from events where sensor = %s order by id", (sensor,)).fetchall()
        return [row[0] for row in rows]

    def count(self, outcome: str) -> int:
        rows = self._store.execute("select sum(n) from counters where kind = 'sensor' and outcome = %s", (outcome,))
        row = rows.fetchone()
        return int(row[0] or 0) if row else 0

    def readers(self) -> int:
        """Return how many sessions watch the table."""
        found = self._shop.execute(
            "select count(*) from pg_stat_activity where application_name = 'tidegate/twins/orders'"
        ).fetchone()
        return int(found[0]) if found else 0

    async def settled(self) -> bool:
        """Say whether one replica reads everything and the other stands by."""
        one, two = self.one, self.two
        return (await one.has_all() and await two.stands_by()) or (await two.has_all() and await one.stands_by())

    def close(self) -> None:
        self._shop.close()
        self._store.close()


@pytest.fixture
async def twins(server: Server, tmp_path: Path) -> AsyncIterator[Twins]:
    async with AsyncExitStack() as stack:
        store = stack.enter_context(fresh_database(server))
        shop = stack.enter_context(fresh_database(server, empty=True))
        made = Twins(tmp_path, store, shop)
        stack.callback(made.close)
        for replica in (made.one, made.two):
            stack.push_async_callback(replica.end)
        await asyncio.gather(made.one.start(), made.two.start())
        if not await made.one.until(made.settled) or await made.two.has_all():
            made.one, made.two = made.two, made.one
        yield made


async def _told(replica: Replica, twins: Twins, count: int) -> None:
    async def all_of_them() -> bool:
        return len(twins.told("orders")) == count

    await replica.until(all_of_them)


async def test_frozen_woken_and_killed(twins: Twins) -> None:
    """One reads. Frozen, the other takes over; woken, it stands by; when the other is killed, it takes over.

    No row and no tick is lost, told twice, or brought twice.
    """
    one, two = twins.one, twins.two
    twins.insert(5)
    await _told(one, twins, 5)
    assert twins.readers() == 1

    one.send(signal.SIGSTOP)
    twins.insert(5)
    await two.until(two.has_all)
    await _told(two, twins, 10)
    one.send(signal.SIGCONT)
    await one.until(one.stands_by)
    twins.insert(5)
    await _told(two, twins, 15)
    assert await two.has_all()
    assert twins.readers() == 1

    two.send(signal.SIGKILL)
    twins.insert(5)
    await one.until(one.has_all)
    await _told(one, twins, 20)

    ticks = twins.told("ticks")
    seconds = [int(tick[17:19]) for tick in ticks]
    assert [(b - a) % 60 for a, b in pairwise(seconds)] == [1] * (len(ticks) - 1)
    assert len(ticks) >= 3
    assert twins.count("duplicate") == 0
