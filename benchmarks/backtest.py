"""A million stored events, and a changed rule: how fast is the past gone over, and does memory stay where it was?

SQLite on disk, filled with bulk inserts. `ratio` is events per second of the back-test ÷ those of bare reading: the
same pages of the same rows, read and thrown away, in the same run. The rule (a filter on one field of the content that
lets a tenth through, a condition, a key, parameters) is judged twice, as it was and as it shall be. `every_…` judges
every event by a condition, without a filter before it; `joins_…` brings two parts of a key together; both go over less.
"""

import asyncio
import gc
import os
import random
import sqlite3
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from benchmarks.harness import workspace
from sensors.event import Event
from sensors.uid import UidSeries
from tidegate.backtest.drive import backtest
from tidegate.backtest.history import StoreHistory
from tidegate.backtest.reading import reading
from tidegate.backtest.values import Ask, Report
from tidegate.store.factory import open_store
from tidegate.store.records import StoredEvent
from tidegate.store.rows import EVENT, event_row, names
from triggers.pattern import SECOND, Join, Part, Source
from triggers.trigger import RunRule, Trigger

EVENTS, SOME = 1_000_000, 200_000
START = 1_767_225_600_000_000
STEP = 100_000  # µs between two events
KINDS = ("orders", "refunds", "carts", "views", "views", "views", "views", "views", "logins", "searches")


def measure(events: int = EVENTS, some: int = SOME) -> Mapping[str, Any]:
    """Return rates, the ratio, CPU per event and the growth of memory."""
    with workspace() as folder:
        file = folder / "tidegate.db"
        began = time.perf_counter()
        asyncio.run(_made(file))
        _fill(file, events)
        filled = time.perf_counter() - began
        url = f"sqlite:///{file}"
        _bare(url, some)  # what is read for the first time comes from the disk
        bare, bare_cpu = _timed(lambda: _bare(url, events))
        memory = _Memory()
        report, wall, cpu = _gone_over(url, _changed(), events, memory)
        every, every_wall, every_cpu = _gone_over(url, _every(), some, _Memory())
        joins, joins_wall, joins_cpu = _gone_over(url, _joins(), some, join_memory := _Memory())
        return {
            "ratio": round(bare / wall, 3),
            "events": report.events,
            "per_s": round(events / wall),
            "bare_per_s": round(events / bare),
            "cpu_us_per_event": round(cpu / events * 1e6, 2),
            "bare_cpu_us_per_event": round(bare_cpu / events * 1e6, 2),
            "events_per_cpu_s": round(events / cpu),
            "rss_growth_mb": memory.growth,
            "rss_by_events": memory.samples[:: max(1, len(memory.samples) // 10)],
            "gained": report.triggers[0].gained,
            "lost": report.triggers[0].lost,
            "same": report.triggers[0].same,
            "every_per_s": round(every.events / every_wall),
            "every_cpu_us_per_event": round(every_cpu / every.events * 1e6, 2),
            "joins_per_s": round(joins.events / joins_wall),
            "joins_cpu_us_per_event": round(joins_cpu / joins.events * 1e6, 2),
            "joins_rss_growth_mb": join_memory.growth,
            "store_mb": round(file.stat().st_size / 1e6),
            "fill_s": round(filled, 1),
        }


async def _made(file: Path) -> None:
    store = open_store(f"sqlite:///{file}", shard="bench")
    await store.open()
    await store.close()


def _fill(file: Path, events: int) -> None:
    """Write events straight into their table, as they stand after the service took them in."""
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    marks = ", ".join("?" * len(EVENT.split()))
    connection.execute("BEGIN")
    connection.executemany(f"INSERT INTO events ({names(EVENT)}) VALUES ({marks})", _rows(events))
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    connection.close()


def _rows(events: int) -> Iterator[tuple[Any, ...]]:
    dice = random.Random(7)
    uid = UidSeries("evt_", START)
    for n in range(events):
        kind = KINDS[dice.randrange(10)]
        content = {"kind": kind, "id": n, "amount": dice.randrange(1_000), "customer": f"c{dice.randrange(5_000)}"}
        event = Event(
            sensor="shop",
            id=f"shop#0/{n % 12}/{n // 12}",
            uid=uid(),
            source="kafka://shop",
            type=("paid", "packed")[n % 2],
            subject=f"order/{n // 2}",
            time=START + n * STEP,
            received_at=START + n * STEP,
            data=orjson.dumps(content),
            content_type="application/json",
            attributes={"key": f"c{n % 97}", "partition": str(n % 12)},
        )
        yield event_row(StoredEvent(event, f"00-{n:032x}-{n:016x}-01"), 262_144)


def _bare(url: str, events: int) -> None:
    read = 0
    with reading(url) as read_in:
        for _ in StoreHistory(read_in).rows(["shop"], 0, 2**62):
            read += 1
            if read >= events:
                break
    if read != events:
        raise RuntimeError(f"{read} of {events} events were read")


def _timed(work: Any) -> tuple[float, float]:
    began, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began, time.process_time() - cpu


def _gone_over(url: str, pair: tuple[Trigger, Trigger], events: int, memory: "_Memory") -> tuple[Report, float, float]:
    old, new = pair
    ask = Ask(
        names=["t"],
        old={"t": old},
        new={"t": new},
        since=START,
        until=START + events * STEP,
        limit=2 * events,
        seconds=3_600.0,
    )
    gc.collect()
    with reading(url) as read:
        began, cpu = time.perf_counter(), time.process_time()
        report = backtest(ask, StoreHistory(read), progress=memory.look)
        wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    diff = report.triggers[0]
    if report.events != events or not (diff.gained and diff.lost and diff.same) or report.stopped:
        raise RuntimeError(f"the benchmark compares nothing: {report}")
    return report, wall, cpu


class _Memory:
    """Resident memory while events are gone over: growth since the first tenth of them."""

    def __init__(self) -> None:
        self.samples: list[tuple[int, float]] = []

    def look(self, events: int) -> None:
        if events % 10_000 == 0:
            self.samples.append((events, round(_rss_mb(), 1)))

    @property
    def growth(self) -> float:
        settled = self.samples[max(1, len(self.samples) // 10)][1]
        return round(max(rss for _, rss in self.samples[1:]) - settled, 1)


def _rss_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20


def _trigger(when: str | None, **fields: Any) -> Trigger:
    run = RunRule(pipeline="p", key="string(event.data.id)", params={"customer": "${{ event.data.customer }}"})
    return Trigger(name="t", runs=(run,), when=when, **fields)


def _changed() -> tuple[Trigger, Trigger]:
    on = (Source(sensor="shop", filter={"exact": {"data.kind": "orders"}}),)
    return (
        _trigger("event.data.amount > 500", on=on, version="1"),
        _trigger("event.data.amount > 400 && event.data.amount < 900", on=on, version="2"),
    )


def _every() -> tuple[Trigger, Trigger]:
    on = (Source(sensor="shop"),)
    return (
        _trigger('event.data.kind == "orders" && event.data.amount > 500', on=on, version="1"),
        _trigger('event.data.kind == "orders" && event.data.amount < 600', on=on, version="2"),
    )


def _joins() -> tuple[Trigger, Trigger]:
    def join(when: str) -> Trigger:
        parts = (
            Part(name="paid", source=Source(sensor="shop", types=("paid",)), by="event.subject", when=when),
            Part(name="packed", source=Source(sensor="shop", types=("packed",)), by="event.subject"),
        )
        pattern = Join(parts=parts, within=3_600 * SECOND)
        runs = (RunRule(pipeline="p", key="key"),)
        return Trigger(name="t", on=tuple(part.source for part in parts), runs=runs, pattern=pattern, version=when)

    return join("event.data.amount > 300"), join("event.data.amount < 700")
