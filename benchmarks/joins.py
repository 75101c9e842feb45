"""Joins against single events: what does waiting cost, and what do 100,000 keys that wait cost?

In-process, the ingest transaction over SQLite on disk, batches of 100 events. `joins_ratio` is events per second of a
join of two parts (every second event completes a key and starts its run) ÷ those of a trigger that starts a run for
every event, in turn in the same run. Then 100,000 keys are opened and left waiting: the growth of memory, and what a
look for due timers costs among as many pending ones, against a look where there are none.
"""

import asyncio
import gc
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from config.model import ServiceConfig
from pipelines.pipeline import PipelineDef
from pipelines.task import TaskDef
from sensors.batch import Batch
from sensors.event import Event
from sensors.uid import EVENT, new_uid
from tidegate.absorb import Facts
from tidegate.ingest import Ingest, StoreInbox
from tidegate.join_timers import JoinTimers
from tidegate.joins import KIND
from tidegate.rules import RulesInForce, compile_rules
from tidegate.runs import OwnEvents
from tidegate.store.factory import open_store
from tidegate.store.store import GroupStore
from tidegate.timers import FireTimers
from tidegate.watched import SensorWatch
from triggers.pattern import SECOND, Join, Part, Source
from triggers.trigger import RunRule, Trigger

GROUP = 100
HOURS = 3_600 * SECOND
_RUN = (RunRule(pipeline="p", key="event.subject"),)


def measure_joins(keys: int = 100_000, rounds: int = 5, events: int = 2_000) -> Mapping[str, Any]:
    """Return rates, the ratio, memory and the cost of a look at timers."""
    return asyncio.run(_measure(keys, rounds, events))


async def _measure(keys: int, rounds: int, events: int) -> Mapping[str, Any]:
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder:
        single = await open_house(Path(folder) / "single.db", _single())
        joined = await open_house(Path(folder) / "joined.db", _joined())
        pairs = []
        for number in range(rounds):
            one = await rate(single, _events(events, number, ("a",)))
            two = await rate(joined, _events(events, number, ("a", "b")))
            pairs.append((one, two))
        none = await _look(single)
        gc.collect()
        before = rss_mb()
        waiting = await rate(joined, _events(keys, rounds, ("a",)))
        gc.collect()
        grown = rss_mb() - before
        found = {
            "joins_ratio": round(statistics.median(two / one for one, two in pairs), 3),
            "joins_per_s": round(statistics.median(two for _, two in pairs)),
            "single_per_s": round(statistics.median(one for one, _ in pairs)),
            "open_keys": keys,
            "opened_per_s": round(waiting),
            "open_keys_rss_growth_mb": round(grown, 1),
            "timer_look_ms_none": round(none, 3),
            "timer_look_ms_pending": round(await _look(joined), 3),
            "completed_per_s_among_open": round(await rate(joined, _events(events, rounds, ("b",)))),
        }
        for house in (single, joined):
            await house.store.close()
        return found


class House:
    """An ingest transaction over a store of its own, and a look at timers."""

    def __init__(self, store: GroupStore, rules: RulesInForce) -> None:
        self.store = store
        own = OwnEvents(rules, "bench", "bench")
        self.inbox = StoreInbox(store, Ingest(rules, "bench", own=own), _ignore)
        self.fire = FireTimers({KIND: JoinTimers(rules, "bench", own, SensorWatch()).ring})


async def open_house(file: Path, trigger: Trigger) -> House:
    """Open a house with one trigger."""
    store = open_store(f"sqlite:///{file}", shard="bench")
    await store.open()
    pipeline = PipelineDef(name="p", tasks=(TaskDef(name="work", engine="command"),))
    config = ServiceConfig(
        name="bench",
        base=file.parent,
        listen="127.0.0.1:0",
        store="",
        hash="bench",
        triggers={trigger.name: trigger},
        pipelines={"p": pipeline},
    )
    return House(store, RulesInForce(compile_rules(config, {})))


def _single() -> Trigger:
    return Trigger(name="t", on=(Source(sensor="s"),), runs=_RUN, version="1")


def _joined() -> Trigger:
    parts = tuple(Part(name=name, source=Source(sensor="s", types=(name,)), by="event.subject") for name in ("a", "b"))
    join = Join(parts=parts, within=24 * HOURS)
    runs = (RunRule(pipeline="p", key="key"),)
    return Trigger(name="t", on=tuple(part.source for part in parts), runs=runs, pattern=join, version="1")


def _events(n: int, series: int, types: Sequence[str]) -> list[Event]:
    """Return events: of two types both parts of a key come one after the other, of one type every key is another."""
    now = time.time_ns() // 1000
    return [
        Event(
            sensor="s",
            id=f"{series}/{types[i % len(types)]}/{i}",
            uid=new_uid(EVENT, now),
            source="/bench",
            type=types[i % len(types)],
            subject=f"{series}/{i // len(types)}",
            received_at=now,
            data=b'{"amount":12.5,"customer":"acme"}',
            content_type="application/json",
        )
        for i in range(n)
    ]


async def rate(house: House, events: Sequence[Event]) -> float:
    """Return events per second."""
    started = time.perf_counter()
    for at in range(0, len(events), GROUP):
        await house.inbox.put("s", Batch(events=events[at : at + GROUP]))
    return len(events) / (time.perf_counter() - started)


async def _look(house: House, times: int = 50) -> float:
    """Return milliseconds for a look at timers of which none is due."""
    found = []
    for _ in range(times):
        started = time.perf_counter()
        fired = await house.store.submit(house.fire, frozenset())
        found.append((time.perf_counter() - started) * 1e3)
        if fired.handled:
            raise RuntimeError("a timer was due; the benchmark would compare nothing")
    return statistics.median(found)


def rss_mb() -> float:
    """Return how much memory this process has."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("/proc/self/status has no VmRSS")


def _ignore(facts: Facts) -> None:
    """Nobody is told."""
