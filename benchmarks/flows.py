"""Flow control against single events: what does gathering cost, and a throttle, and a line of 100,000 that waits?

In-process, the ingest transaction over SQLite on disk, batches of 100 events of 50 keys, as `benchmarks.joins`.
`flow_ratio` is events per second of a batch (100 events or a minute, by key) ÷ those of a trigger that starts a run for
every event, in turn in the same run; `throttle_ratio` the same for a throttle by key that lets one of two events go on.
Then 20,000 events join one line: what an event costs behind so many, and how memory grows.
"""

import asyncio
import gc
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.joins import GROUP, HOURS, open_house, rate, rss_mb
from sensors.event import Event
from sensors.uid import EVENT, new_uid
from triggers.control import Active, Batch, Control, Over, Throttle, Window
from triggers.pattern import SECOND
from triggers.trigger import RunRule, Source, Trigger

KEYS = 50
_RUN = (RunRule(pipeline="p", params={"customer": "${{ event.subject }}"}),)
_MANY = (RunRule(pipeline="p", params={"customer": "${{ key }}"}),)


def measure_flows(rounds: int = 5, events: int = 2_000, line: int = 20_000) -> Mapping[str, Any]:
    """Return rates, ratios, and what a long line costs."""
    return asyncio.run(_measure(rounds, events, line))


async def _measure(rounds: int, events: int, line: int) -> Mapping[str, Any]:
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder:
        batch = Batch(within=60 * SECOND, count=100, by="event.subject")
        throttle = Throttle(events=KEYS, per=24 * HOURS, burst=events * rounds // KEYS // 2, by="event.subject")
        closed = Active(windows=(Window(cron="0 0 29 2 *", length=SECOND),), outside=Over.HOLD)
        houses = {
            "single": await open_house(Path(folder) / "single.db", _trigger(None, _RUN)),
            "batch": await open_house(Path(folder) / "batch.db", _trigger(Control(gather=batch), _MANY)),
            "throttle": await open_house(Path(folder) / "throttle.db", _trigger(Control(throttle=throttle), _RUN)),
            "line": await open_house(Path(folder) / "line.db", _trigger(Control(active=closed), _RUN)),
        }
        rates: list[dict[str, float]] = [
            {name: await rate(houses[name], _events(events, number)) for name in ("single", "batch", "throttle")}
            for number in range(rounds)
        ]
        first = await rate(houses["line"], _events(GROUP * 5, rounds))
        gc.collect()
        before = rss_mb()
        await rate(houses["line"], _events(line, rounds + 1))
        gc.collect()
        grown = rss_mb() - before
        last = await rate(houses["line"], _events(GROUP * 5, rounds + 2))
        for house in houses.values():
            await house.store.close()
        return {
            "flow_ratio": round(statistics.median(one["batch"] / one["single"] for one in rates), 3),
            "batched_per_s": round(statistics.median(one["batch"] for one in rates)),
            "throttle_ratio": round(statistics.median(one["throttle"] / one["single"] for one in rates), 3),
            "line_waiting": line,
            "line_rss_growth_mb": round(grown, 1),
            "line_first_per_s": round(first),
            "line_behind_per_s": round(last),
        }


def _trigger(control: Control | None, runs: Sequence[RunRule]) -> Trigger:
    return Trigger(name="t", on=(Source(sensor="s"),), runs=runs, control=control, version="1")


def _events(n: int, series: int) -> list[Event]:
    now = time.time_ns() // 1000
    return [
        Event(
            sensor="s",
            id=f"{series}/{i}",
            uid=new_uid(EVENT, now),
            source="/bench",
            type="test",
            subject=f"customer-{i % KEYS}",
            received_at=now,
            data=b'{"amount":12.5,"customer":"acme"}',
            content_type="application/json",
        )
        for i in range(n)
    ]
