"""The kafka campaign itself: troubles come one after the other while records flow, and at the end all is read.

Members are killed, paused past their session, added and taken away; brokers are stopped and killed, one at a time and
only while all replicas are in step, so that what is acknowledged must stay; the store goes away while more comes than a
batch may hold, or its answers to commits are lost. After each trouble the positions must come up to where the log ended
then. Beside that, positions are sampled all the time: the brokers' own (read first) against ours, and events against
positions in one snapshot; the store itself notes positions that fall.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from tests.campaigns._checker import Violation
from tests.campaigns._kafka_checker import TOPIC, History, Ledger, check, told_ahead
from tests.campaigns._kafka_members import GROUP, SESSION, Members
from tests.campaigns._kafka_store import Database, running_database
from tests.campaigns._kafka_traffic import Traffic, read_log
from tests.campaigns._kafka_wire import Wire
from tests.support.kafka import Kafka, Topic
from tests.support.kafka_apache import Cluster, running_cluster, running_node

_SAMPLE_EVERY = 0.4
_CATCHES_UP_WITHIN = 120.0
_FLOOD = 12_000  # records that come at once while the store is away: more than one batch may hold
_ANSWERS = 6  # commits in a row of which nobody hears
ALL = (
    "members 1 to 3",
    "member killed",
    "member paused",
    "broker stopped",
    "store away",
    "answers lost",
    "answers lost and nobody to ask",
    "broker killed",
    "members 3 to 2",
    "killed while the store is away",
    "paused while a broker is killed",
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a campaign does. `rate` is in records a second; each of `troubles` comes at least once."""

    records: int = 200_000
    partitions: int = 12
    brokers: int = 3
    rate: float = 900.0
    troubles: Sequence[str] = ALL
    launcher: Sequence[str] = ()


@dataclass(slots=True)
class Outcome:
    """What a campaign found."""

    history: History
    ledger: Ledger = field(default_factory=Ledger)
    violations: list[Violation] = field(default_factory=list)
    unknown: int = 0
    seconds: float = 0.0


def run(plan: Plan, seed: int, folder: Path) -> Outcome:
    """Run a campaign in a folder that stays. Raises KafkaMissing, PostgresMissing."""
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        if plan.brokers == 1:
            cluster = Cluster([stack.enter_context(running_node())])
        else:
            cluster = stack.enter_context(running_cluster(folder / "kafka"))
        database = stack.enter_context(running_database())
        outcome = asyncio.run(Campaign(plan, seed, folder, cluster, database).run())
        if outcome.violations:
            database.keep(folder)
    outcome.seconds = time.monotonic() - began
    return outcome


class Campaign:
    """One campaign on running servers."""

    def __init__(self, plan: Plan, seed: int, folder: Path, cluster: Cluster, database: Database) -> None:
        self.history = History(wanted=frozenset(plan.troubles))
        self._plan = plan
        self._rng = random.Random(seed)
        self._cluster = cluster
        self._database = database
        self._kafka = Kafka("apache", cluster.bootstrap)
        self._topic = Topic(self._kafka, TOPIC)
        self._wire = Wire(database.port)
        self._members = Members(folder, self._wire, cluster.bootstrap, self.history, plan.launcher)
        self._traffic = Traffic(self._kafka, self.history, plan.records, plan.partitions, plan.rate)
        self._cursors: dict[int, int] = {}

    async def run(self) -> Outcome:
        """Run it to the end; a violation that can only get worse ends it early."""
        await self._wire.open()
        await self._topic.create(self._plan.partitions)
        await self._members.start(0)
        sending = asyncio.create_task(self._traffic.run())
        sampling = asyncio.create_task(self._sample())
        try:
            await self._troubles()
            self._traffic.enough = True
            await sending
            await self._rest()
        finally:
            for task in (sending, sampling):
                task.cancel()
            await asyncio.gather(sending, sampling, return_exceptions=True)
            await self._members.close()
            await self._wire.close()
        await read_log(self._kafka, self.history)
        self.history.committed = await self._committed()
        self.history.answers_lost = self._wire.lost
        ledger = await asyncio.to_thread(self._database.ledger)
        return Outcome(self.history, ledger, check(self.history, ledger), self._traffic.unknown)

    # -- troubles -----------------------------------------------------------------------------------------------------
    async def _troubles(self) -> None:
        """Let every trouble come in turn, until enough is sent and each has come."""
        ways: dict[str, Callable[[], Awaitable[None]]] = {
            "members 1 to 3": self._up,
            "members 3 to 2": self._down,
            "member killed": self._kill_member,
            "member paused": self._pause_member,
            "broker stopped": lambda: self._broker(kill=False),
            "broker killed": lambda: self._broker(kill=True),
            "store away": self._store_away,
            "answers lost": self._answers_lost,
            "answers lost and nobody to ask": self._nobody_to_ask,
            "killed while the store is away": self._kill_without_store,
            "paused while a broker is killed": self._pause_and_broker,
        }
        while True:
            for name in self._plan.troubles:
                if any(violation.kind in ("stuck", "exit") for violation in self.history.seen):
                    return
                await asyncio.sleep(1.0 + 2.0 * self._rng.random())
                began = time.monotonic()
                await ways[name]()
                await self._catch_up()
                self.history.troubles[name] += 1
                print(
                    f"kafka: {name}; {self._traffic.sent} sent, {sum(self._cursors.values())} behind us"
                    f" ({time.monotonic() - began:.0f} s)",
                    flush=True,
                )
                if self._traffic.sent >= self._plan.records and self.history.wanted <= set(self.history.troubles):
                    return

    async def _up(self) -> None:
        for slot in (0, 1, 2):
            if slot not in self._members.alive:
                await self._members.start(slot)
                await asyncio.sleep(2.0 * self._rng.random())

    async def _down(self) -> None:
        if len(self._members.alive) > 2:
            await self._members.stop(self._any())

    async def _kill_member(self) -> None:
        slot = self._any()
        await self._members.kill(slot)
        await asyncio.sleep(2.0 * self._rng.random())
        await self._members.start(slot)

    async def _pause_member(self) -> None:
        await self._members.pause(self._any(), SESSION + 2.0 + 3.0 * self._rng.random())

    async def _broker(self, *, kill: bool) -> None:
        await self._in_step()
        node = self._rng.choice(self._cluster.nodes)
        await asyncio.to_thread(node.kill if kill else node.stop)
        await asyncio.sleep(3.0 * self._rng.random())
        node.start()
        await asyncio.to_thread(node.await_ready, len(self._cluster.nodes), 90.0)
        await self._in_step()

    async def _store_away(self) -> None:
        await asyncio.to_thread(self._database.stop)
        self._traffic.hurry(_FLOOD)
        await asyncio.sleep(2.0 + 5.0 * self._rng.random())
        await asyncio.to_thread(self._database.start)

    async def _answers_lost(self) -> None:
        await self._lose(_ANSWERS)

    async def _nobody_to_ask(self) -> None:
        for _ in range(3):
            await self._lose(1, silent=8.0)
            await self._catch_up()

    async def _lose(self, answers: int, silent: float = 0.0) -> None:
        """Lose answers to commits; each time let nothing pass for some seconds, or go on at once."""
        self._wire.lose(answers, silent=bool(silent))
        end = time.monotonic() + 30
        while self._wire.to_lose and time.monotonic() < end:
            await asyncio.sleep(0.1)
        if self._wire.to_lose:
            self.history.seen.append(Violation("unproven", "no transaction of some size ended within 30 s"))
        await asyncio.sleep(silent)
        self._wire.lose(0)

    async def _kill_without_store(self) -> None:
        slot = self._any()
        await asyncio.gather(self._store_away(), self._members.kill(slot))
        await self._members.start(slot)

    async def _pause_and_broker(self) -> None:
        pause = self._members.pause(self._any(), SESSION + 4.0)
        await asyncio.gather(pause, self._broker(kill=True))

    def _any(self) -> int:
        return self._rng.choice(sorted(self._members.alive))

    async def _in_step(self) -> None:
        """Wait until all replicas of all partitions are in step: only then a broker may go."""
        end = time.monotonic() + 120
        while True:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(20), self._kafka.admin() as admin:
                    topics = await admin.describe_topics()
                parts = [part for topic in topics for part in topic["partitions"]]
                if parts and all(len(part["isr"]) == len(part["replicas"]) for part in parts):
                    return
            if time.monotonic() > end:
                raise RuntimeError("the replicas do not come into step within 120 s; the bench itself is ill")
            await asyncio.sleep(0.3)

    async def _catch_up(self) -> None:
        """Wait until all that is in the log now is behind us."""
        ends = await self._topic.ends()
        end = time.monotonic() + _CATCHES_UP_WITHIN
        while any(self._cursors.get(partition, 0) < at for partition, at in ends.items()):
            self._members.look()
            if time.monotonic() > end:
                late = {p: (self._cursors.get(p, 0), at) for p, at in ends.items() if self._cursors.get(p, 0) < at}
                self.history.seen.append(Violation("stuck", f"partition: (position, end) after 120 s: {late}"))
                return
            await asyncio.sleep(0.1)
        self._members.look()

    async def _rest(self) -> None:
        """Let everything come to rest, stop softly, and start once more: nothing may happen again."""
        await self._catch_up()
        for slot in list(self._members.alive):
            await self._members.stop(slot)
        before = (await asyncio.to_thread(self._database.ledger)).epochs
        await self._members.start(0)
        end = time.monotonic() + 60
        while (await asyncio.to_thread(self._database.ledger)).epochs < before + self._plan.partitions:
            if time.monotonic() > end:
                self.history.seen.append(Violation("stuck", "the last member does not take the partitions within 60 s"))
                break
            await asyncio.sleep(0.5)
        await asyncio.sleep(2.0)
        await self._members.stop(0)

    # -- samples ------------------------------------------------------------------------------------------------------
    async def _sample(self) -> None:
        """Look at the positions again and again; servers that are away are no violation."""
        while True:
            committed: dict[int, int] = {}
            with contextlib.suppress(Exception):
                async with asyncio.timeout(5):
                    committed = await self._committed()
            with contextlib.suppress(psycopg.Error):
                cursors = await asyncio.to_thread(self._database.cursors)
                found = list(told_ahead(committed, cursors))
                self._cursors = cursors
                self.history.samples += 1
                if self.history.samples % 10 == 0:
                    beyond = await asyncio.to_thread(self._database.beyond)
                    found += [Violation("ahead", text) for text in beyond]
                self.history.seen += found
            await asyncio.sleep(_SAMPLE_EVERY)

    async def _committed(self) -> dict[int, int]:
        return {partition: at for (_, partition), at in (await self._kafka.committed(GROUP)).items()}
