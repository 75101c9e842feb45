"""A house to knock at: the real store, rules, ingest and run writes, without sensors, engines or a dispatcher."""

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from config.model import SensorEntry, ServiceConfig
from pipelines.executor import EngineTraits
from pipelines.pipeline import Param, PipelineDef
from pipelines.run import CheckResult, DatasetWrite, LogLine, Run, RunState, RunStep, TaskState
from pipelines.task import Retries, TaskDef
from sensors.audit import AuditReport
from sensors.batch import Batch, DeadLetter
from sensors.clock import SystemClock
from sensors.event import Event
from sensors.kind import Emits, SensorKind, SensorOptions
from sensors.ports import Unavailable
from sensors.uid import EVENT, new_uid
from sensors.w3c import new_root
from tidegate.absorb import Facts
from tidegate.alerts.sender import Tried
from tidegate.failpoints import pass_by
from tidegate.ingest import Ingest, StoreInbox
from tidegate.refusals import Refusals
from tidegate.replays.desk import ReplayDesk
from tidegate.replays.step import StepReplay
from tidegate.replays.worker import Holding, Replays
from tidegate.rules import RulesInForce, compile_rules
from tidegate.run_store import StoreRuns
from tidegate.runs import Advance, Cancel, Claim, OwnEvents
from tidegate.start import ResumeAsk, ResumeRun, StartAsk, StartRun, UnknownPipeline, UnknownRun
from tidegate.store.alert_records import Undelivered
from tidegate.store.factory import open_store
from tidegate.store.tx import Store
from triggers.trigger import Paused, RunRule, Source, Trigger

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
EVIL = "<script>alert(1)</script>\x1b[31m[bold]"


class PathOptions(SensorOptions):
    """Options with a path, as webhooks and folders have one."""

    path: str = "/hooks/landing"


def _kind(name: str, *, push: bool) -> SensorKind:
    emits = Emits(
        {"object.created": "a file is there"},
        "its name",
        "none",
        "its size",
        "none",
        {"type": "object.created", "id": "a"},
    )
    return SensorKind(name, "a kind for tests", PathOptions, _build, emits, push=push)


def _build(options: Any, context: Any) -> Any:
    raise AssertionError("the house of the tests builds no sensor")


def config(base: Path, **changes: Any) -> ServiceConfig:
    """Return a configuration with two sensors, three triggers and two pipelines."""
    orders = PipelineDef(
        name="orders",
        tasks=(
            TaskDef(name="extract", engine="python", retries=Retries(attempts=2)),
            TaskDef(name="load", engine="python", needs=("extract",), outputs=("daily",)),
        ),
        params={"path": Param(type="str", required=True), "n": Param(type="int", default=1)},
    )
    anything = PipelineDef(name="anything", tasks=(TaskDef(name="call", engine="http"),))
    made = ServiceConfig(
        name="orders-gate",
        base=base,
        listen="127.0.0.1:8080",
        store="memory:",
        hash="c" * 64,
        sensors={
            "landing": SensorEntry("landing", _kind("files", push=False), PathOptions(path="./inbox", tags=("in",))),
            "hook": SensorEntry("hook", _kind("webhook", push=True), PathOptions()),
            "off": SensorEntry("off", _kind("files", push=False), PathOptions(enabled=False)),
        },
        triggers={
            "orders-arrived": Trigger(
                name="orders-arrived",
                on=(Source(sensor="landing", filter={"suffix": {"subject": ".csv"}}),),
                runs=(RunRule(pipeline="orders", params={"path": "${{ event.subject }}"}, key="event.subject"),),
                when="event.data.size > 10",
                version="v1",
            ),
            "everything": Trigger(name="everything", on=(Source(sensor="hook"),), runs=(RunRule(pipeline="anything"),)),
            "sleeping": Trigger(
                name="sleeping", on=(Source(sensor="hook"),), runs=(RunRule(pipeline="anything"),), enabled=False
            ),
        },
        pipelines={"orders": orders, "anything": anything},
    )
    return replace(made, **changes)


class FakeHouse:
    """Implements `tidegate.api.house.House` over an open store. `down` makes the store's readers unavailable."""

    version = "9.9.9"

    def __init__(self, store: Store, configuration: ServiceConfig) -> None:
        self.real_store = store
        self.store: Any = _Gate(self, store)
        self.config = configuration
        self.rules = RulesInForce(compile_rules(configuration, {}))
        self.refusals = Refusals()
        self.down = False
        self.reads = 0
        self.polled: list[str] = []
        self.paused: dict[str, str] = {}
        self.audit: AuditReport | Exception = AuditReport()
        self.peek: Batch | Exception = Batch()
        self.peeked: list[tuple[str, int]] = []
        self.audited: list[tuple[str, bool]] = []
        self.health: dict[str, dict[str, Any]] = {
            "landing": {"state": "healthy", "reason": "", "since": "2026-01-01T00:00:00Z", "last_success": None}
        }
        self.readiness = (True, "")
        self.tests: dict[str, list[Tried]] = {}
        self.not_delivered: list[Undelivered] = []
        own = OwnEvents(self.rules, "test", configuration.name)
        self._start_run, self._resume_run, cancel = StartRun(self.rules), ResumeRun(), Cancel(own)
        traits = {name: EngineTraits(survives=False, dedupes=False) for name in ("python", "http")}
        self.runs = StoreRuns(store, Claim(self.rules, lambda: traits, own), Advance(own), cancel, _ignore)
        self.inbox = StoreInbox(store, Ingest(self.rules, "test"), _ignore)
        self.replays = ReplayDesk(store, SystemClock(), lambda: None)
        step = StepReplay(self.rules, "test", pass_by, new_root)
        self.replay_worker = Replays(store, self.rules, step, Holding("test", 0.0), SystemClock(), _ignore, lambda: "")

    async def start_run(self, ask: StartAsk) -> tuple[Run, bool]:
        answer = await self.real_store.submit(self._start_run, ask)
        if isinstance(answer, UnknownPipeline):
            raise answer
        return answer

    async def resume_run(self, uid: str) -> Run:
        answer = await self.real_store.submit(self._resume_run, ResumeAsk(uid))
        if isinstance(answer, UnknownRun):
            raise answer
        return answer

    async def cancel_run(self, uid: str, reason: str) -> str | None:
        return await self.runs.request_cancel(uid, reason)

    async def pause_sensor(self, name: str, how: Literal["hold", "drop"] | None) -> None:
        self.paused.pop(name, None)
        if how is not None:
            self.paused[name] = how

    async def poll_sensor(self, name: str) -> None:
        self.polled.append(name)

    async def peek_sensor(self, name: str, limit: int) -> Batch:
        self.peeked.append((name, limit))
        if isinstance(self.peek, Exception):
            raise self.peek
        return self.peek

    async def source_history(self, name: str, since: int, limit: int) -> Sequence[Event]:
        self.peeked.append((name, limit))
        if isinstance(self.peek, Exception):
            raise self.peek
        return self.peek.events[:limit]

    async def audit_sensor(self, name: str, heal: bool) -> AuditReport:
        self.audited.append((name, heal))
        if isinstance(self.audit, Exception):
            raise self.audit
        return self.audit

    async def pause_trigger(self, name: str, how: Literal["hold", "drop"] | None) -> None:
        self.rules.pause(name, None if how is None else Paused(how))

    async def test_alert(self, route: str) -> Sequence[Tried]:
        return self.tests[route]

    def undelivered(self) -> Sequence[Undelivered]:
        return self.not_delivered

    def sensor_health(self) -> Mapping[str, Mapping[str, Any]]:
        return self.health

    def ready(self) -> tuple[bool, str]:
        return self.readiness

    def metrics_text(self) -> str:
        return "# TYPE tidegate_up gauge\ntidegate_up 1\n"

    # -- what tests make happen --------------------------------------------------------------------------------------
    async def receive(
        self, subject: str, *, sensor: str = "landing", data: bytes = b'{"size": 99}', **fields: Any
    ) -> str:
        """Take in one event; return its uid."""
        values: dict[str, Any] = {
            "sensor": sensor,
            "id": f"{subject}@1",
            "uid": new_uid(EVENT, _now()),
            "source": f"/{sensor}",
            "type": "object.created",
            "received_at": _now(),
            "subject": subject,
            "data": data,
            "content_type": "application/json",
            "traceparent": TRACEPARENT,
        }
        stored = await self.inbox.put(sensor, Batch([Event(**{**values, **fields})]))
        return stored.receipts[0].uid

    async def bury(self, payload: bytes = b"\xff\x00broken", sensor: str = "hook") -> None:
        """Keep a dead letter."""
        letter = DeadLetter("bad_payload", f"it is no JSON {EVIL}", "delivery 7", payload, "application/json")
        await self.inbox.put(sensor, Batch(dead_letters=[letter]))

    async def work(self, state: RunState = RunState.SUCCEEDED) -> list[Run]:
        """Claim what is queued and end it in `state`, with logs, a dataset and a check."""
        claims = await self.runs.claim("tester", 100, 30.0, 5.0)
        for claim in claims:
            now = _now()
            good = state is RunState.SUCCEEDED
            tasks = [
                replace(
                    task,
                    state=TaskState.SUCCEEDED if good or index == 0 else TaskState.FAILED,
                    attempt=1,
                    started_at=now,
                    finished_at=now + 1_520_000,
                    output='{"rows": 42}',
                    error=None if good or index == 0 else f"ValueError: no such column {EVIL}",
                    error_kind=None if good or index == 0 else "error",
                    peak_rss_bytes=64 * 1024 * 1024,
                )
                for index, task in enumerate(claim.tasks)
            ]
            run, last = claim.run.uid, claim.tasks[-1].task
            step = RunStep(
                run=run,
                fence=claim.run.fence,
                at=now + 2_000_000,
                tasks=tasks,
                state=state,
                error=None if good else f"task {last} failed",
                logs=[
                    LogLine(run, tasks[0].task, 1, now, "stdout", "reading a.csv"),
                    LogLine(run, last, 1, now + 1, "stderr", f"careful {EVIL}"),
                ],
                datasets=[
                    DatasetWrite(
                        namespace="duckdb://warehouse",
                        name="daily",
                        task=last,
                        at=now,
                        rows=42,
                        bytes=1234,
                        schema=(("id", "Int64"),),
                        version="1",
                    )
                ]
                if good
                else (),
                checks=[
                    CheckResult(
                        check="row_count",
                        task=last,
                        dataset="daily",
                        passed=True,
                        severity="fail",
                        message="42",
                        at=now,
                    )
                ]
                if good
                else (),
            )
            if not await self.runs.advance(step):
                raise AssertionError("the step was not applied")
        return [claim.run for claim in claims]


class _Gate:
    """Passes everything to the store, unless the house is down."""

    def __init__(self, house: FakeHouse, store: Store) -> None:
        self._house = house
        self._store = store

    async def read(self, fn: Any) -> Any:
        self._house.reads += 1
        if self._house.down:
            raise Unavailable("the database is away", 3.2)
        return await self._store.read(fn)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@asynccontextmanager
async def open_house(folder: Path, url: str = "memory:", **changes: Any) -> AsyncIterator[FakeHouse]:
    """Open a house over a fresh store."""
    store = open_store(url, shard="test")
    await store.open()
    try:
        yield FakeHouse(store, config(folder, **changes))
    finally:
        await store.close()


def _ignore(facts: Facts) -> None:
    """Nobody projects here."""


def _now() -> int:
    return time.time_ns() // 1000
