"""Twice the load that a service can take, at fixed moments: what is accepted, refused, lost, and how it recovers.

Many rules look into every event, so that the capacity is low enough for one sender to offer twice as much. A request
leaves when its moment has come, over a connection of its own if all others wait for their answers: a slow service is
not spared.
"""

import asyncio
import json
import re
import sqlite3
import time
import urllib.request
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.harness import Process, quantile, service, signature, webhook_sensor
from tests.campaigns._wire import Answer, Wire

BACKLOG = 64  # batches that may wait for a commit
_RULES = 150
_PATIENCE = 30.0
_RECOVERY = 5.0  # seconds in which a service must be itself again
_GROWTH = 64.0  # MB
_MANY = 2_000  # connections at once
_BACKLOG_LINE = re.compile(r"^tidegate_store_backlog(?:_items?)?(?:\{[^}]*\})? ([0-9.e+]+)$", re.MULTILINE)


@dataclass
class Flood:
    """What became of the load."""

    capacity: float
    offered: float
    seconds: float
    times: list[float] = field(default_factory=list)
    refused_times: list[float] = field(default_factory=list)
    uids: set[str] = field(default_factory=set)
    odd: list[Answer] = field(default_factory=list)
    unanswered: int = 0
    late: int = 0
    lost: int = 0
    backlog: float = 0.0
    grown: float = 0.0
    recovery: float = 0.0

    @property
    def accepted(self) -> int:
        """Return how many were accepted."""
        return len(self.times)

    @property
    def refused(self) -> int:
        """Return how many were refused as they should be."""
        return len(self.refused_times)

    @property
    def p50(self) -> float:
        """Return the median time of an acceptance."""
        return quantile(self.times or [0.0], 0.5)

    @property
    def p99(self) -> float:
        """Return the time within which 99 % were accepted."""
        return quantile(self.times or [0.0], 0.99)

    @property
    def refused_p99(self) -> float:
        """Return the time within which 99 % were refused."""
        return quantile(self.refused_times or [0.0], 0.99)

    def note(self, answer: Answer) -> None:
        """Sort one answer."""
        if answer.status == 202:
            self.times.append(answer.seconds)
            self.uids.update(one["event"] for one in json.loads(answer.body)["events"])
        elif answer.status in (429, 503) and int(answer.headers.get("retry-after", "0")) >= 1:
            self.refused_times.append(answer.seconds)
        elif answer.status <= 0:
            self.unanswered += 1
        else:
            self.odd.append(answer)

    def broken(self) -> list[str]:
        """Return the promises that were broken."""
        said = []
        if self.odd:
            said.append(f"{len(self.odd)} answers were neither 202 nor 429 or 503 with Retry-After: {self.odd[0]}")
        if self.unanswered:
            said.append(f"{self.unanswered} requests were not answered")
        if self.lost:
            said.append(f"{self.lost} accepted events are not in the store")
        if not self.refused:
            said.append("nothing was refused: the load was no overload")
        if self.backlog > BACKLOG + 1:
            said.append(f"{self.backlog:.0f} batches waited, and at most {BACKLOG} may")
        if self.grown > _GROWTH:
            said.append(f"memory grew by {self.grown:.1f} MB")
        if self.recovery > _RECOVERY:
            said.append(f"the service needed {self.recovery:.1f} s to recover")
        return said


def _configuration() -> Mapping[str, Any]:
    rules = {
        f"rule-{n}": {"on": {"sensor": "hooks"}, "when": f"event.data.n == -{n + 1}", "run": {"pipeline": "p"}}
        for n in range(_RULES)
    }
    return {
        "service": {"limits": {"backlog": BACKLOG}},
        "sensors": {"hooks": webhook_sensor()},
        "triggers": rules,
        "pipelines": {"p": {"engine": "command", "argv": ["true"]}},
    }


def _request(n: int) -> bytes:
    body = b'{"id": "order-%d", "n": %d, "customer": "acme"}' % (n, n)
    head = b"POST /hooks/bench HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    return b"%sx-signature: %s\r\ncontent-length: %d\r\n\r\n%s" % (head, signature(body).encode(), len(body), body)


def flood(folder: Path, seconds: float) -> Flood:
    """Run the second part."""
    with service(folder, "load", _configuration()) as process:
        found = asyncio.run(_flood(process, seconds))
        found.lost = missing(folder / "load" / "tidegate.db", found.uids)
    return found


def missing(database: Path, uids: set[str]) -> int:
    """Return how many of these events the store does not hold."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        there = {_bare(str(row[0])) for row in db.execute("select uid from events")}
    return len({_bare(uid) for uid in uids} - there)


def _bare(uid: str) -> str:
    return uid.rpartition("_")[2]


async def _flood(process: Process, seconds: float) -> Flood:
    host, port = process.url.removeprefix("http://").split(":")
    await _capacity(host, int(port), 3.0)  # rules are asked for the first time, samples of their decisions are stored
    capacity = await _capacity(host, int(port))
    found = Flood(capacity, capacity * 2, seconds)
    before = process.rss_mb()
    watching = asyncio.create_task(_watch(process, found))
    await _offer(host, int(port), found)
    found.recovery = await _recovered(host, int(port), max(0.05, found.p50))
    watching.cancel()
    found.grown = process.rss_mb() - before
    return found


async def _capacity(host: str, port: int, seconds: float = 4.0, connections: int = 32) -> float:
    """Return how many a second are accepted when each sender waits for its answer."""
    accepted = 0
    end = time.monotonic() + seconds

    async def sender(first: int) -> None:
        nonlocal accepted
        wire = Wire(host, port, _PATIENCE)
        n = first
        while time.monotonic() < end:
            answer = await wire.ask(_request(n))
            accepted += answer.status == 202
            n += connections
        wire.close()

    await asyncio.gather(*(sender(-1_000_000 + n) for n in range(connections)))
    return accepted / seconds


async def _offer(host: str, port: int, found: Flood) -> None:
    """Send at fixed moments, whatever the answers do."""
    idle: list[Wire] = []
    tasks: set[asyncio.Task[None]] = set()
    start = time.monotonic() + 0.1

    async def one(n: int) -> None:
        wire = idle.pop() if idle else Wire(host, port, _PATIENCE)
        found.note(await wire.ask(_request(n)))
        idle.append(wire)

    for n in range(int(found.offered * found.seconds)):
        due = start + n / found.offered
        wait = due - time.monotonic()
        if wait > 0.0005:
            await asyncio.sleep(wait)
        elif n % 20 == 0:
            await asyncio.sleep(0)
        if wait < -0.05:
            found.late += 1
        while len(tasks) >= _MANY:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        task = asyncio.create_task(one(n))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    if tasks:
        await asyncio.wait(tasks)
    for wire in idle:
        wire.close()


async def _recovered(host: str, port: int, usual: float) -> float:
    """Return after how many seconds requests are accepted again as quickly as under load's median."""
    started = time.monotonic()
    wire = Wire(host, port, _PATIENCE)
    good = 0
    while good < 5:
        answer = await wire.ask(_request(int(time.monotonic() * 1e6)))
        good = good + 1 if answer.status == 202 and answer.seconds <= max(usual, 0.1) else 0
        if time.monotonic() - started > _PATIENCE:
            break
    wire.close()
    return time.monotonic() - started


async def _watch(process: Process, found: Flood) -> None:
    """Note the longest queue that the service itself measures."""

    def look() -> float:
        text = urllib.request.urlopen(process.url + "/metrics", timeout=_PATIENCE).read().decode()
        return max((float(value) for value in _BACKLOG_LINE.findall(text)), default=0.0)

    while True:
        found.backlog = max(found.backlog, await asyncio.to_thread(look))
        await asyncio.sleep(0.25)
