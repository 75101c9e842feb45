"""A dispatcher over runs in memory, a manual clock and a scripted engine, with a store that can be made to fail."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipelines.dispatcher import Dispatcher
from pipelines.executor import EngineTraits
from pipelines.hands import DispatchSettings, Doors
from pipelines.memory_runs import MemoryRuns
from pipelines.pipeline import PipelineDef
from pipelines.ports import Claimed, Renewal
from pipelines.run import LogLine, Run, RunState, RunStep
from pipelines.task import TaskDef
from sensors.ports import Unavailable
from tests.support.manual_clock import ManualClock, settle
from tests.support.scripted_engine import NotingObserver, ScriptedEngine


class FailingRuns(MemoryRuns):
    """Runs in memory whose store can be away (`away`) and which counts calls."""

    away = False
    refuse: type[Exception] | None = None
    calls: list[str]

    def _answer(self, name: str) -> None:
        self.calls.append(name)
        if self.away:
            raise Unavailable("the store is away")

    async def claim(self, holder: str, limit: int, lease: float, grace: float) -> Sequence[Claimed]:
        self._answer("claim")
        return await super().claim(holder, limit, lease, grace)

    async def renew(self, holder: str, runs: Sequence[str], lease: float) -> Renewal:
        self._answer("renew")
        return await super().renew(holder, runs, lease)

    async def release(self, holder: str, runs: Sequence[str]) -> None:
        self._answer("release")
        await super().release(holder, runs)

    async def advance(self, step: RunStep) -> bool:
        self._answer("advance")
        if self.refuse is not None and any(task.output for task in step.tasks):
            raise self.refuse("no such text")
        return await super().advance(step)

    async def log(self, lines: Sequence[LogLine]) -> None:
        self._answer("log")
        await super().log(lines)


@dataclass
class Bench:
    """All of it. `dispatcher(name)` makes one more holder over the same store and engines."""

    engine: ScriptedEngine = field(default_factory=ScriptedEngine)
    clock: ManualClock = field(default_factory=ManualClock)
    observer: NotingObserver = field(default_factory=NotingObserver)
    made: list[Dispatcher] = field(default_factory=list)
    points: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = FailingRuns(self.clock, {"e": EngineTraits(self.engine.survives, self.engine.dedupes)})
        self.store.calls = []

    def dispatcher(self, holder: str = "one", *, doors: Doors | None = None, **settings: Any) -> Dispatcher:
        """Make and start a dispatcher."""
        made = Dispatcher(
            holder,
            self.store,
            {"e": self.engine},
            self.observer,
            self.clock,
            DispatchSettings(**settings),
            doors or Doors(fail_point=self.points.append, random=lambda: 1.0),
        )
        made.start()
        self.made.append(made)
        return made

    def add(self, *tasks: TaskDef, params: Mapping[str, Any] | None = None, **more: Any) -> Run:
        """Queue a run of a pipeline of these tasks (by default one task `a`)."""
        definition = more.pop("definition", None) or PipelineDef(
            name="p", tasks=tasks or (TaskDef(name="a", engine="e"),)
        )
        return self.store.add(definition, params, **more)

    def state(self, run: Run) -> RunState:
        return self.store.runs[run.uid].state

    async def settled(self) -> None:
        """Let everything happen that needs no time."""
        await settle(60)
