"""The house's writes over a real store, driven by hand: no sensors, no engines, no dispatcher, no time.

`fail` arms a fail point: the transaction that passes it is ended by an error of the store's kind `error`.
"""

import itertools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from config.model import ServiceConfig
from pipelines.executor import EngineTraits
from pipelines.pipeline import PipelineDef
from pipelines.ports import Claimed
from pipelines.run import Run, RunState, RunStep, TaskState
from pipelines.task import TaskDef
from sensors.batch import Batch
from sensors.event import Event
from sensors.ports import Stored
from sensors.uid import EVENT, new_uid
from tests.support.stores import do
from tidegate.absorb import Facts
from tidegate.held import ReleaseHeld, Releases
from tidegate.ingest import Ingest, StoreInbox
from tidegate.rules import RulesInForce, compile_rules
from tidegate.run_store import StoreRuns
from tidegate.runs import Advance, Cancel, Claim, OwnEvents
from tidegate.start import ResumeAsk, ResumeRun, StartAsk, StartRun, UnknownPipeline, UnknownRun
from tidegate.store.factory import open_store
from tidegate.store.reader import Row
from tidegate.store.store import GroupStore
from triggers.trigger import Paused, RunRule, Source, Trigger

T0 = 1_800_000_000_000_000
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
_NUMBERS = itertools.count(1)


class Tick:
    """A clock whose time a test sets; each look at it is a microsecond later."""

    def __init__(self, start: int = T0) -> None:
        self.at = start

    def now(self) -> int:
        self.at += 1
        return self.at

    def monotonic(self) -> float:
        return self.at / 1e6

    async def sleep(self, seconds: float) -> None:
        self.at += int(seconds * 1e6)


class Broken(RuntimeError):
    """What an armed fail point raises."""


class FailPoints:
    """Fail points that raise: `arm(name)` makes the next pass fail, `arm(name, 3)` the next three."""

    def __init__(self) -> None:
        self.armed: dict[str, int] = {}
        self.passed: list[str] = []

    def arm(self, name: str, times: int = 1) -> None:
        self.armed[name] = times

    def __call__(self, name: str) -> None:
        self.passed.append(name)
        if self.armed.get(name, 0) > 0:
            self.armed[name] -= 1
            raise Broken(f"failed at {name}")


def make_trigger(name: str = "t", pipeline: str = "p", **fields: Any) -> Trigger:
    """Return a trigger of sensor `s` that starts one run; `run` holds fields of its rule, `filter` is that of `on`."""
    source = Source(sensor=fields.pop("sensor", "s"), types=fields.pop("types", ()), filter=fields.pop("filter", None))
    rule = RunRule(pipeline=pipeline, **fields.pop("run", {}))
    return Trigger(name=name, on=(source,), runs=(rule,), version="v1", **fields)


def chain(name: str, after: str, pipeline: str, change: str = "succeeded", **fields: Any) -> Trigger:
    """Return a trigger that starts `pipeline` when a run of `after` has changed."""
    exact = {"exact": {"type": f"tidegate.run.{change}", "subject": after}}
    return make_trigger(name, pipeline, sensor="tidegate", filter=exact, **fields)


def make_pipeline(name: str = "p", *tasks: str, **fields: Any) -> PipelineDef:
    """Return a pipeline whose tasks follow one another."""
    names = tasks or ("work",)
    defs = tuple(
        TaskDef(name=task, engine="e", needs=(names[index - 1],) if index else ()) for index, task in enumerate(names)
    )
    return PipelineDef(name=name, tasks=defs, **fields)


def make_config(
    triggers: Sequence[Trigger] = (), pipelines: Sequence[PipelineDef] = (), *, hash: str = "c1", **fields: Any
) -> ServiceConfig:
    """Return a configuration of these; the pipelines that triggers name are there."""
    known = {pipeline.name: pipeline for pipeline in pipelines}
    for trigger in triggers:
        for rule in (*trigger.runs, *trigger.overdue_runs):
            known.setdefault(rule.pipeline, make_pipeline(rule.pipeline))
    return ServiceConfig(
        name="svc",
        base=Path(),
        listen="127.0.0.1:0",
        store="memory:",
        hash=hash,
        triggers={trigger.name: trigger for trigger in triggers},
        pipelines=known,
        **fields,
    )


def make_event(id: str = "", **fields: Any) -> Event:
    """Return an event of sensor `s`; its id is new unless given."""
    values: dict[str, Any] = {
        "sensor": "s",
        "id": id or f"id-{next(_NUMBERS)}",
        "uid": new_uid(EVENT, T0),
        "source": "/test",
        "type": "test",
        "received_at": T0,
    }
    return Event(**{**values, **fields})


@dataclass
class Works:
    """Everything. `facts` are those that were told, one per transaction."""

    url: str
    config: ServiceConfig
    shard: str = "one"
    clock: Tick = field(default_factory=Tick)
    fail: FailPoints = field(default_factory=FailPoints)
    facts: list[Facts] = field(default_factory=list)
    paused: Mapping[str, Paused] = field(default_factory=dict)
    batch: int = 500

    def __post_init__(self) -> None:
        self.store: GroupStore = open_store(self.url, shard=self.shard, fail_point=self.fail, clock=self.clock)
        self.rules = RulesInForce(compile_rules(self.config, self.paused))
        told: Callable[[Facts], None] = self.facts.append
        self.own = OwnEvents(self.rules, self.shard, "svc", self.fail)
        self.inbox = StoreInbox(self.store, Ingest(self.rules, self.shard, self.fail, own=self.own), told)
        traits = {"e": EngineTraits(survives=False, dedupes=False)}
        claim, advance, cancel = Claim(self.rules, lambda: traits, self.own), Advance(self.own), Cancel(self.own)
        self.runs = StoreRuns(self.store, claim, advance, cancel, told)
        self.release = ReleaseHeld(self.rules, self.shard, self.fail, own=self.own, batch=self.batch)
        self.releases = Releases(self.store, self.rules, self.release, told, self.clock)

    async def restart(self, config: ServiceConfig | None = None, paused: Mapping[str, Paused] | None = None) -> None:
        """Close the store, open it anew (not the one in memory, which stays) and make all writes anew."""
        kept = self.store
        if self.store.name != "memory":
            await self.store.close()
        self.config = config or self.config
        self.paused = self.paused if paused is None else paused
        self.__post_init__()
        if kept.name == "memory":
            await self.store.open()
            self.store._backend._state = kept._backend._state  # type: ignore[attr-defined]
            await kept.close()
        else:
            await self.store.open()

    async def put(self, *events: Event, **batch: Any) -> Stored:
        """Take in one batch of the sensor of its first event (`s` without one)."""
        sensor = events[0].sensor if events else "s"
        parent = batch.pop("parent", None)
        return await self.inbox.put(sensor, Batch(events=events, **batch), parent)

    async def start(self, pipeline: str, **ask: Any) -> tuple[Run, bool]:
        answer = await self.store.submit(StartRun(self.rules), StartAsk(pipeline=pipeline, **ask))
        if isinstance(answer, UnknownPipeline):
            raise answer
        return answer

    async def resume(self, uid: str) -> Run | UnknownRun:
        return await self.store.submit(ResumeRun(), ResumeAsk(uid))

    async def claim(self, limit: int = 100, holder: str = "me") -> Sequence[Claimed]:
        return await self.runs.claim(holder, limit, 60.0, 0.0)

    async def end(self, claimed: Claimed, state: RunState = RunState.SUCCEEDED, **step: Any) -> bool:
        """End a claimed run: all its tasks are done, or its last one failed or was cancelled."""
        last = TaskState(state.value)
        tasks = [
            _ended(task, TaskState.SUCCEEDED if index < len(claimed.tasks) - 1 else last)
            for index, task in enumerate(claimed.tasks)
        ]
        at = self.clock.now()
        values: dict[str, Any] = {"run": claimed.run.uid, "fence": claimed.run.fence, "at": at, "state": state}
        return await self.runs.advance(RunStep(**{**values, "tasks": tasks, **step}))

    async def work(self, state: RunState = RunState.SUCCEEDED) -> list[str]:
        """Claim what may run now and end it; return the runs' uids in the order of their claim."""
        claims = await self.claim()
        for claimed in claims:
            assert await self.end(claimed, state)
        return [claimed.run.uid for claimed in claims]

    # -- what is there ----------------------------------------------------------------------------------------------
    async def all_runs(self, **wanted: Any) -> list[Row]:
        """Return runs, oldest first."""
        rows, _ = await self.store.read(lambda reader: reader.runs(limit=1_000, **wanted))
        return sorted(rows, key=lambda row: int(row["seq"]))

    async def decisions(self, **wanted: Any) -> list[Row]:
        """Return decisions, oldest first."""
        rows, _ = await self.store.read(lambda reader: reader.decisions(limit=1_000, **wanted))
        return sorted(rows, key=lambda row: (row["at"], row["uid"]))

    async def outcomes(self, **wanted: Any) -> list[str]:
        return [row["outcome"] for row in await self.decisions(**wanted)]

    async def events(self, sensor: str = "s") -> list[Row]:
        """Return events of a sensor, oldest first."""
        rows, _ = await self.store.read(lambda reader: reader.events(limit=1_000, sensor=sensor))
        return list(reversed(rows))

    async def counts(self, kind: str) -> dict[tuple[str, str], int]:
        return dict(await self.store.read(lambda reader: reader.counts(kind)))

    async def dead_letters(self) -> list[Row]:
        rows, _ = await self.store.read(lambda reader: reader.dead_letters(limit=100))
        return list(rows)

    async def everything(self) -> dict[str, Any]:
        """Return all that a transaction could have left behind, for comparing before and after."""
        return {
            "events": [(row["id"], row["state"]) for row in await self.events()],
            "decisions": sorted((row["trigger"], row["outcome"]) for row in await self.decisions()),
            "runs": [(row["pipeline"], row["key"], row["state"]) for row in await self.all_runs()],
            "dead": [(row["reason"], row["position"]) for row in await self.dead_letters()],
            "cursors": await self.inbox.cursors("s"),
            "seen": await self.store.read(lambda reader: reader.seen("s", ["a", "b"])),
            "sensor": await self.counts("sensor"),
            "trigger": await self.counts("trigger"),
        }


def _ended(task: Any, state: TaskState) -> Any:
    from dataclasses import replace

    return replace(task, state=state, attempt=max(1, task.attempt), finished_at=T0)


@asynccontextmanager
async def open_works(url: str, config: ServiceConfig, **fields: Any) -> AsyncIterator[Works]:
    """Open the works over a store; it is closed at the end."""
    works = Works(url, config, **fields)
    await works.store.open()
    try:
        yield works
    finally:
        await works.store.close()


async def epoch(works: Works, shard: str) -> int:
    """Take a shard over; return its epoch."""
    row = await do(works.store, lambda tx: tx.raise_epoch("s", shard))
    return row.epoch
