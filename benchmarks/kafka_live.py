"""How long a record takes from its producer into our store: an open loop of 500 records a second.

Records leave at fixed moments, whatever happens; the store is read by a connection of our own every millisecond or two,
so a record that is seen is committed. One clock measures the whole way.
"""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.harness import quantile, service
from benchmarks.kafka_rig import Eye, record
from tests.support.kafka import Kafka, Record, Topic

RATE, SECONDS, WARM = 500, 16, 3


def latency(folder: Path, kafka: Kafka) -> Mapping[str, Any]:
    """Return p50 and p99 in milliseconds, after some seconds to warm up."""
    topic = Topic(kafka, "live")
    asyncio.run(topic.create(3))
    config = {
        "sensors": {
            "live": {
                "kind": "kafka",
                "brokers": [kafka.bootstrap],
                "topics": ["live"],
                "start": "beginning",
                "keep": "all",
            }
        },
        "triggers": {
            "hot": {"on": {"sensor": "live", "filter": {"exact": {"data.kind": "never"}}}, "run": {"pipeline": "noop"}}
        },
        "pipelines": {"noop": {"engine": "command", "argv": ["true"]}},
    }
    with service(folder, "live", config):
        eye = Eye(folder / "live", "live")
        sent, seen = asyncio.run(_drive(topic, eye))
        eye.close()
    steady = [(seen[n] - sent[n]) * 1000 for n in range(RATE * WARM, RATE * SECONDS)]
    return {
        "p50_ms": round(quantile(steady, 0.5), 2),
        "p99_ms": round(quantile(steady, 0.99), 2),
        "latency_per_s": RATE,
        "latency_records": len(steady),
    }


async def _drive(topic: Topic, eye: Eye) -> tuple[Mapping[int, float], Mapping[int, float]]:
    """Send, and look; return the moments by number at which each was due and seen."""
    total = RATE * SECONDS
    sent: dict[int, float] = {}
    seen: dict[int, float] = {}

    async def look() -> None:
        row, end = 0, time.monotonic() + SECONDS + 60
        while len(seen) < total:
            found = eye.after(row)
            now = time.monotonic()
            for row, subject in found:  # noqa: B007 - the last row is where the next look begins
                seen[int(subject)] = now
            if now > end:
                raise RuntimeError(f"{len(seen)} of {total} records are durable")
            await asyncio.sleep(0.0015)

    async with topic.producer(linger_ms=0) as producer:
        await (await topic.send(producer, Record(record(0), key=b"0", partition=0)))
        sent[0] = time.monotonic()
        looking = asyncio.ensure_future(look())
        start = time.monotonic() + 3.0  # the service is ready before its sensor is
        under_way = []
        for n in range(1, total):
            due = start + n / RATE
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            sent[n] = due
            under_way.append(await topic.send(producer, Record(record(n), key=b"%d" % n, partition=n % 3)))
        await asyncio.gather(*under_way, looking)
    return sent, seen
