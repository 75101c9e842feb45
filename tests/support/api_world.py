"""An API that is only Python, with a history and faults; and the simplest model of what a sensor of it must bring.

Rows are created, changed (also twice in one second), become visible late, and go. The list is ordered by what rises;
pages are read from the live list (`offset`) or from a snapshot (`cursor`), and rows may move between two pages. Faults
are those that a caller sees: no answer, half an answer, a demand for patience, rows twice, rows in another order.
"""

import asyncio
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from sensors.adapters.http_asking import Answer, Ask
from sensors.adapters.http_judge import Waits
from sensors.errors import BackOff, NotConnected
from sensors.testing import VirtualClock
from tests.support.http_watch import Watch, make_context

Rising = Literal["moment", "number", "nothing"]
Paging = Literal["none", "offset", "cursor"]
Fault = Literal["timeout", "half", "429", "date", "double", "shuffle", "crash", "quota"]
LATE = 30  # seconds, or numbers, by which rows become visible late; the overlap


@dataclass
class Row:
    """One row. `at` is when its version was made, `seq` its number among all changes."""

    id: int
    version: int
    at: int
    seq: int
    seen_from: float


@dataclass
class World:
    """The API, its clock, and what it served in polls that ended."""

    rising: Rising
    paging: Paging
    clock: VirtualClock = field(default_factory=VirtualClock)
    rows: dict[int, Row] = field(default_factory=dict)
    made: set[tuple[int, int]] = field(default_factory=set)
    served: set[tuple[int, int]] = field(default_factory=set)  # in the poll under way
    faults: dict[int, Fault] = field(default_factory=dict)  # by number of the request within a poll
    between: list[Callable[[], None]] = field(default_factory=list)  # what happens between two pages
    _count: int = 0
    _ids: int = 0
    _seq: int = 0
    _snapshots: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    _rand: random.Random = field(default_factory=lambda: random.Random(1))

    # -- its history --------------------------------------------------------------------------------------------------
    def create(self, late: int) -> None:
        """Make a row that is visible `late` seconds later."""
        self._ids += 1
        self._put(self._ids, 1, late)

    def change(self, which: int, late: int = 0) -> None:
        """Make a new version of some row."""
        if self.rows:
            row = sorted(self.rows.values(), key=lambda row: row.id)[which % len(self.rows)]
            self._put(row.id, row.version + 1, late if row.seen_from <= self.clock.monotonic() else LATE)

    def delete(self, which: int) -> None:
        """Take some row away."""
        if self.rows:
            del self.rows[sorted(self.rows)[which % len(self.rows)]]

    def _put(self, id_: int, version: int, late: int) -> None:
        self._seq += 1
        self.made.add((id_, version))
        now = self.clock.now() // 1_000_000
        self.rows[id_] = Row(id_, version, now, self._seq, self.clock.monotonic() + late)

    def visible(self) -> list[Row]:
        """Return the rows that a caller could see now, in the order of the list."""
        seen = [row for row in self.rows.values() if row.seen_from <= self.clock.monotonic()]
        return sorted(seen, key=lambda row: (row.at if self.rising == "moment" else row.seq, row.id))

    # -- the client of the sensor -------------------------------------------------------------------------------------
    async def open(self) -> None:
        self._count = 0

    async def close(self) -> None:
        self._snapshots.clear()

    async def exchange(self, ask: Ask) -> Answer:
        """Answer, or fail as told."""
        self._count += 1
        fault = self.faults.pop(self._count, None)
        if self._count > 1 and self.between:
            self.between.pop(0)()
        if fault == "timeout":
            raise NotConnected("it fell silent")
        if fault == "429":
            return Answer(429, {"retry-after": "7"}, b"", ask.url)
        if fault == "date":
            at = datetime.fromtimestamp(self.clock.now() / 1e6 + 9, UTC)
            return Answer(503, {"retry-after": f"{at:%a, %d %b %Y %H:%M:%S} GMT"}, b"", ask.url)
        found, following = self._page(
            {name: values[-1] for name, values in parse_qs(urlsplit(ask.target).query).items()}
        )
        if fault == "double":
            found += found
        if fault == "shuffle" and self.paging != "offset":
            self._rand.shuffle(found)
        body = json.dumps({"items": found, "next": following}).encode()
        if fault == "half":
            return Answer(200, {}, body[: len(body) // 2], ask.url)
        self.served |= {(row["id"], row["v"]) for row in found}
        headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "11"} if fault == "quota" else {}
        return Answer(200, headers, body, ask.url)

    def _page(self, query: dict[str, str]) -> tuple[list[dict[str, Any]], str | None]:
        if self.paging == "cursor" and "after" in query:
            name, _, at = query["after"].partition(":")
            listed, start = self._snapshots.get(name, []), int(at)
        else:
            listed, start = [_json(row) for row in self.visible() if self._asked(row, query.get("since"))], 0
            name = f"s{len(self._snapshots)}"
            self._snapshots[name] = listed
        if self.paging == "none":
            return listed, None
        if self.paging == "offset":
            start = int(query["offset"])
        page = listed[start : start + 3]
        return list(page), f"{name}:{start + 3}" if start + 3 < len(listed) else None

    def _asked(self, row: Row, since: str | None) -> bool:
        if since is None or self.rising == "nothing":
            return True
        if self.rising == "number":
            return row.seq > int(since)  # as APIs with `after=` do: without the mark itself
        return datetime.fromtimestamp(row.at, UTC) >= datetime.fromisoformat(since)

    # -- the sensor ---------------------------------------------------------------------------------------------------
    def watch(self, start: str) -> Watch:
        """Return a sensor of this API."""
        options: dict[str, Any] = {
            "url": "https://api.example.com/rows",
            "start": start,
            "items": "body.items",
            "id": "item.id",
            "version": "item.v",
            "on": ["created", "changed"],
        }
        if self.rising != "nothing":
            moment = self.rising == "moment"
            options |= {"high": "item.at" if moment else "item.seq", "overlap": f"{LATE}s" if moment else LATE}
            options["query"] = {"since": "${{ cursor.high }}"}
        if self.paging == "offset":
            options["paging"] = {"by": "offset"}
        if self.paging == "cursor":
            options["paging"] = {"by": "cursor", "next": "body.next", "param": "after"}
        return Watch(options, make_context(self.clock), lambda: self)

    async def poll(self, watch: Watch) -> bool:
        """Have one poll made, under the faults that are due; return whether it was complete."""
        self._count, self.served = 0, set()
        try:
            if not watch.connected:
                await watch.connect()
            watch.sensor.poll()
            watch.sensor._completed = None
            for _ in range(200):
                if watch.sensor.lag() is not None and watch.sensor._ended is None:
                    return True
                if self.faults.get(self._count + 1) == "crash":
                    del self.faults[self._count + 1]
                    complete = watch.sensor.lag() is not None  # only memory was left to look through
                    await watch.sensor.read()  # what it brings is lost with the process
                    await watch.restart()
                    return complete
                await self._step(watch)
        except NotConnected:
            await watch.close()
            return False
        except BackOff as wait:  # while connecting
            await watch.close()
            await self.clock.advance(wait.wait)
            return False
        raise AssertionError("a poll neither ends nor fails")

    async def _step(self, watch: Watch) -> None:
        stepping = asyncio.create_task(watch.step())
        for _ in range(50):
            await self.clock.advance(0)
            if stepping.done():
                break
            await self.clock.advance(1)
        try:
            await stepping
        except Waits:
            raise
        except BackOff as wait:
            await self.clock.advance(wait.wait)


def _json(row: Row) -> dict[str, Any]:
    at = datetime.fromtimestamp(row.at, UTC)
    return {"id": row.id, "v": row.version, "seq": row.seq, "at": f"{at:%Y-%m-%dT%H:%M:%SZ}"}
