"""What the Kafka benchmark is made of: the broker, a topic full of records, the bare loop, and looks at our positions.

The broker is Apache Kafka with a heap and a compiler for speed, on the core of the load. Records are JSON of 1 KiB; one
in a hundred is `hot`, which is what the triggers ask for.
"""

import asyncio
import contextlib
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import LOAD_CORE, ROOT, SERVER_CORE, Process, pin
from benchmarks.listing_rig import StoreEye, until
from tests.support.kafka import Kafka, Topic, of_node
from tests.support.kafka_apache import Heap, running_node

SIZE, EVERY, PARTITIONS = 1024, 100, 6


@contextlib.contextmanager
def broker() -> Iterator[Kafka]:
    """Run the broker. Raises KafkaMissing: another broker would be another benchmark."""
    with running_node(Heap("1g", fast=True), ("taskset", "-c", str(LOAD_CORE))) as node:
        yield of_node(node)


def record(n: int) -> bytes:
    """Return record number n, as an order of a shop: nested, with numbers and texts, 1 KiB in all."""
    order: dict[str, Any] = {
        "id": f"order-{n}",
        "n": n,
        "kind": "hot" if n % EVERY == 0 else "cold",
        "customer": {"id": f"c-{n % 10_007}", "name": "Ada Lovelace", "vip": n % 7 == 0},
        "amount": n % 997 + 0.25,
        "placed": "2026-11-28T07:30:00Z",
        "lines": [{"sku": f"sku-{(n + i) % 1009}", "quantity": i + 1, "price": 9.75 + i} for i in range(8)],
        "note": "",
    }
    order["note"] = "x" * (SIZE - len(json.dumps(order, separators=(",", ":"))))
    return json.dumps(order, separators=(",", ":")).encode()


async def fill(kafka: Kafka, topic: str, records: int) -> None:
    """Make a topic and write records 0 … N-1 into it, evenly over the partitions."""
    made = Topic(kafka, topic)
    await made.create(PARTITIONS)
    async with made.producer(enable_idempotence=False, max_batch_size=1 << 18) as producer:
        sent: set[asyncio.Future[Any]] = set()
        n = 0
        while n < records:
            partition = (n // 200) % PARTITIONS
            batch = producer.create_batch()
            while n < records and batch.record_count() < 200:
                batch.append(key=None, value=record(n), timestamp=None)
                n += 1
            sent.add(await producer.send_batch(batch, topic, partition=partition))
            if len(sent) >= 2 * PARTITIONS:
                await asyncio.gather(*sent)
                sent.clear()
        await asyncio.gather(*sent)


@dataclass(frozen=True, slots=True)
class Bare:
    """The baseline's process."""

    popen: "subprocess.Popen[str]"

    def read(self, records: int) -> Mapping[str, Any]:
        """Read so many records from the beginning; return records a second and the figures behind it."""
        assert self.popen.stdin is not None
        assert self.popen.stdout is not None
        self.popen.stdin.write(f"{records}\n")
        self.popen.stdin.flush()
        told: dict[str, Any] = json.loads(self.popen.stdout.readline())
        return told


@contextlib.contextmanager
def bare(kafka: Kafka, topic: str) -> Iterator[Bare]:
    """Run the baseline on the core of the service."""
    command = [sys.executable, "-m", "benchmarks.baseline_kafka", kafka.bootstrap, topic]
    popen = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, **pin(SERVER_CORE)
    )
    try:
        assert popen.stdout is not None
        if popen.stdout.readline().strip() != "ready":
            raise RuntimeError("the baseline did not start")
        yield Bare(popen)
    finally:
        popen.terminate()
        popen.wait(20)


class Eye(StoreEye):
    """Looks at the positions of sensors on one topic."""

    def __init__(self, house: Path, topic: str) -> None:
        super().__init__(house)
        self._topic = topic

    def read(self, sensor: str) -> int:
        """Return how many records lie before the durable positions of a sensor."""
        found = self.one(
            "SELECT sum(CASE value WHEN '' THEN 0 ELSE json_extract(value, '$.next') END) FROM cursors"
            " WHERE sensor = ? AND shard LIKE ?",
            *(sensor, f"{self._topic}/%"),
        )
        return int(found or 0)

    def rate(self, sensor: str, records: int) -> float:
        """Wait until all records are behind us; return records a second after the first tenth."""
        warm = until(lambda: (n := self.read(sensor)) >= records // 10 and n, 120, "the first tenth", 0.005)
        began = time.perf_counter()
        until(lambda: self.read(sensor) >= records, 240, "the last record", 0.005)
        return float(records - warm) / (time.perf_counter() - began)

    def after(self, row: int) -> list[tuple[int, str]]:
        """Return (row, subject) of the events that were stored after a row."""
        return self._db.execute("SELECT rowid, subject FROM events WHERE rowid > ? ORDER BY rowid", (row,)).fetchall()


def ask(service: Process, sensor: str, what: str) -> None:
    """Let a sensor `resume`, or `pause`: it lets go of the brokers and reads nothing."""
    body = b'{"how": "hold"}' if what == "pause" else b""
    headers = {"content-type": "application/json"}
    url = f"{service.url}/api/v1/sensors/{sensor}/{what}"
    urllib.request.urlopen(urllib.request.Request(url, method="POST", data=body, headers=headers), timeout=30).read()
