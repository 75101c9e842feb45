"""`make rows`: a table of a million rows on a real PostgreSQL, while others write, with a process that dies on the way.

`python -m tests.campaigns.rows [--rows N]`. Writers change rows in transactions that commit in any order while it is
read; the sensor is dropped without a word every so often and begins again from what is durable. Prints what was
written, told, lost and doubled, how fast, and how much memory it took; exits 1 when a version was lost or doubled.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
import psycopg

from sensors.adapters.sql_sensor import SqlSensor
from sensors.batch import Batch, Cursor, ObjectAction, SeenObject
from sensors.clock import SystemClock
from sensors.kind import SensorContext
from sensors.kinds.sql import KIND, SqlOptions
from sensors.testing import EverythingWanted, FakeLookup
from tests.support.postgres import fresh_database, running_server

_TABLE = "create table t (id int primary key, n int not null, at timestamptz not null, note text)"
_WRITERS = 4


class _Memory(FakeLookup):
    """A store of small numbers instead of rows: which version of each id is durable."""

    def __init__(self) -> None:
        super().__init__()
        self.versions: dict[int, int] = {}
        self.told: dict[tuple[int, int], int] = {}
        self.cursors: dict[str, Cursor] = {}
        self.events = 0

    def put(self, batch: Batch) -> None:
        for event in batch.events:
            key = (json.loads(event.id.partition("@")[0])[0], json.loads(event.id.partition("@")[2])[0])
            self.told[key] = self.told.get(key, 0) + 1
            self.events += 1
        for seen in batch.seen:
            self.versions[json.loads(seen.key)[0]] = json.loads(seen.token)[0]
        self.cursors.update({cursor.shard: cursor for cursor in batch.cursors})

    async def seen(self, keys: Sequence[str]) -> Mapping[str, SeenObject]:
        found = {key: self.versions.get(json.loads(key)[0]) for key in keys}
        return {key: SeenObject(key, f"[{n}]", 0, "present", 0, 0, "0") for key, n in found.items() if n is not None}

    async def seen_after(self, key: str, limit: int, prefix: str = "") -> Sequence[SeenObject]:
        return ()

    async def seen_range(self, after: str, upto: str | None, limit: int) -> Sequence[SeenObject]:
        return ()

    async def due_actions(self, limit: int) -> Sequence[ObjectAction]:
        return ()

    async def open_actions(self, keys: Sequence[str]) -> Mapping[str, Sequence[ObjectAction]]:
        return {}


async def _write(url: str, number: int, rows: int, written: set[tuple[int, int]], until: asyncio.Event) -> None:
    """Change rows of its own share, some transactions staying open for a while."""
    rand = random.Random(number)
    versions: dict[int, int] = {}
    async with await psycopg.AsyncConnection.connect(url) as connection:
        while not until.is_set():
            # ids of one writer only, so that the version it wrote last is known
            for _ in range(20):
                id_ = rand.randrange(rows // _WRITERS) * _WRITERS + number
                versions[id_] = versions.get(id_, 0) + 1
                await connection.execute("update t set n = %s, at = now() where id = %s", (versions[id_], id_))
            await asyncio.sleep(rand.choice((0.0, 0.0, 0.01, 0.5)))
            await connection.commit()
    written.update(versions.items())


def _build(url: str) -> SqlSensor:
    options = {"url": url, "table": "t", "key": "id", "high": "at", "version": "n", "start": "beginning", "every": "1s"}
    sensor = KIND.build(SqlOptions.model_validate(options), SensorContext("t", "svc", SystemClock(), Path()))
    if not isinstance(sensor, SqlSensor):
        raise TypeError("another sensor")
    return sensor


async def _campaign(url: str, rows: int) -> bool:
    memory, process, rand = _Memory(), psutil.Process(), random.Random(1)
    last: set[tuple[int, int]] = set()
    until = asyncio.Event()
    writers = [asyncio.create_task(_write(url, n, rows, last, until)) for n in range(_WRITERS)]
    sensor, deaths, quiet = _build(url), 0, 0
    await sensor.connect(memory.cursors, memory, EverythingWanted())
    began, first, before, most = time.monotonic(), 0.0, process.memory_info().rss, 0
    while quiet < 2:  # whole looks after the last write
        batch = await sensor.read()
        if rand.random() < 0.002:  # what was read is lost with the process
            deaths += 1
            await sensor.close()
            sensor = _build(url)
            await sensor.connect(memory.cursors, memory, EverythingWanted())
            continue
        memory.put(batch)
        most = max(most, process.memory_info().rss)
        if not first and len(memory.versions) >= rows:
            first = time.monotonic() - began
            until.set()
            await asyncio.gather(*writers)
        elif until.is_set() and sensor._look is None:
            quiet += 1
            sensor.poll()
    await sensor.close()
    # what the harness keeps of a row is an entry in two maps; it grows with the rows, and is told apart below
    kept = sys.getsizeof(memory.versions) + sys.getsizeof(memory.told) + 200 * len(memory.told)
    lost = [version for version in last if version not in memory.told]
    untold = rows - len({id_ for id_, _ in memory.told})
    doubled = sum(n - 1 for n in memory.told.values())
    print(
        f"rows={rows:,} told={memory.events:,} last_versions={len(last):,} lost={len(lost) + untold} doubled={doubled}"
        f" deaths={deaths} rows_per_s={rows / first:,.0f} rss_growth_mb={(most - before) / 1e6:.0f}"
        f" of_which_harness_mb={kept / 1e6:.0f}"
    )
    return not lost and not untold and not doubled


def main() -> int:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    with running_server() as server, fresh_database(server, empty=True) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(_TABLE)
            connection.execute(
                "insert into t select i, 0, '2026-01-01'::timestamptz + make_interval(secs => i / 1000),"
                " repeat('x', 200)"
                f" from generate_series(0, {rows - 1}) i"
            )
            connection.execute("create index on t (at, id)")
            connection.execute("analyze t")
        return 0 if asyncio.run(_campaign(url, rows)) else 1


if __name__ == "__main__":
    sys.exit(main())
