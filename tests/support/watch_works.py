"""Works whose datasets and deadlines are watched, in virtual time on every store, by one replica or several."""

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson
import psycopg
import pytest

from config.model import AlertRoute
from pipelines.datasets.definition import DatasetDef, Freshness
from pipelines.run import DatasetWrite, RunState
from tests.support.works import T0, Works
from tidegate.deadline_timers import ArmDeadlines, DeadlineTimers
from tidegate.deadlines import KIND as DEADLINE
from tidegate.freshness import Answer, ArmFreshness, FreshnessTimers, TellAnswers
from tidegate.store import postgres
from tidegate.timers import FireTimers
from tidegate.watching import FRESHNESS
from triggers.pattern import Source
from triggers.trigger import RunRule, Trigger

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
EVERYWHERE = pytest.mark.parametrize(
    "url",
    ["sqlite", "memory", pytest.param("postgresql", marks=[pytest.mark.postgres, pytest.mark.integration])],
    indirect=True,
)
ROUTE = AlertRoute(
    name="oncall",
    to=("memory://oncall",),
    events=frozenset({"run_late", "dataset_stale", "probe_failed", "resolved"}),
)


def dataset(name: str = "daily", **freshness: Any) -> DatasetDef:
    """Return a dataset that is watched."""
    return DatasetDef(name=name, uri=f"parquet:///data/{name}.parquet", freshness=Freshness(**freshness))


def wrote(name: str = "daily", at: int = T0) -> DatasetWrite:
    """Return a write of such a dataset."""
    return DatasetWrite(namespace="file", name=f"/data/{name}.parquet", task="work", at=at, rows=3)


def on_own(type: str, pipeline: str, name: str = "t") -> Trigger:
    """Return a trigger on own events of a type; the run is told what they say."""
    source = Source(sensor="tidegate", types=(type,))
    return Trigger(
        name=name,
        on=(source,),
        runs=(RunRule(pipeline=pipeline, params={"about": "${{ event.data }}", "of": "${{ event.subject }}"}),),
        version="v1",
    )


class Watch:
    """What is watched over some works (replicas over one store), with the time in one hand."""

    def __init__(self, *houses: Works) -> None:
        self.houses = houses
        self.asked: list[str] = []

    @property
    def house(self) -> Works:
        """Return the first replica."""
        return self.houses[0]

    async def at(self, moment: int) -> None:
        """Set the time."""
        for house in self.houses:
            house.clock.at = moment
        if self.house.store.name == "postgresql":
            await asyncio.to_thread(_set, self.house.url, moment)

    async def arm(self) -> None:
        """Do what a start of each replica does."""
        for house in self.houses:
            await house.store.submit(ArmFreshness(house.rules), None)
            await house.store.submit(ArmDeadlines(house.rules), None)

    async def ring(self, at: int | None = None) -> None:
        """Set the time (if told to), and let all replicas handle what is due, at once, until nothing is."""
        if at is not None:
            await self.at(at)
        for _ in range(10):
            fired = await asyncio.gather(*(self._fire(house) for house in self.houses))
            if not any(fired):
                return
        raise AssertionError("timers ring for ever")

    async def _fire(self, house: Works) -> int:
        freshness = FreshnessTimers(house.rules, house.own, "svc", self.asked.append)
        deadlines = DeadlineTimers(house.rules, house.own, "svc")
        fired = await house.store.submit(
            FireTimers({FRESHNESS: freshness.ring, DEADLINE: deadlines.ring}), frozenset()
        )  # fmt: skip
        house.facts.extend(fired.facts)
        return fired.handled

    async def answer(self, *answers: Answer) -> None:
        """Let every replica take the answers of probes."""
        for house in self.houses:
            for answer in answers:
                facts = await house.store.submit(TellAnswers(house.rules, house.own, "svc"), answer)
                if facts is not None:
                    house.facts.append(facts)

    async def work(self, *writes: DatasetWrite, state: RunState = RunState.SUCCEEDED) -> None:
        """Claim what waits, and end it with these writes."""
        for claimed in await self.house.claim():
            assert await self.house.end(claimed, state, datasets=writes)

    # -- what is there ----------------------------------------------------------------------------------------------
    async def told(self) -> list[tuple[str, str]]:
        """Return type and subject of the own events that were stored, oldest first."""
        return [(row["type"].removeprefix("tidegate."), row["subject"]) for row in await self.house.events("tidegate")]

    async def data(self, n: int = -1) -> dict[str, Any]:
        """Return what an own event says."""
        row = (await self.house.events("tidegate"))[n]
        event = await self.house.store.read(lambda reader: reader.event(row["uid"]))
        assert event is not None
        found: dict[str, Any] = orjson.loads(event.data or b"")
        return found

    async def alerts(self) -> list[tuple[str, str, bool]]:
        """Return kind, severity and whether it ends something, of all alerts in order."""
        rows, _ = await self.house.store.read(lambda reader: reader.alerts(limit=100))
        return [
            (row["kind"], row["severity"], row["ends"]) for row in sorted(rows, key=lambda row: (row["at"], row["uid"]))
        ]

    async def texts(self) -> Sequence[str]:
        """Return what alerts say, in order."""
        rows, _ = await self.house.store.read(lambda reader: reader.alerts(limit=100))
        return [str(row["text"]) for row in sorted(rows, key=lambda row: (row["at"], row["uid"]))]


def _set(url: str, moment: int) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE tests_clock SET at = %s", (moment,))


def own_clock(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Let a PostgreSQL store go by a clock that `Watch.at` sets."""
    if not url.startswith("postgresql"):
        return
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS tests_clock (at bigint)")
        connection.execute("INSERT INTO tests_clock VALUES (%s)", (T0,))
    monkeypatch.setattr(postgres, "_BEGIN", "BEGIN; SELECT (SELECT at FROM tests_clock), txid_current()")
