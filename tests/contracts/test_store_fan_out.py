"""Runs that fan out over every store: expanded once, cancelled to the last process, resumed where they failed."""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

from config.model import ServiceConfig
from pipelines.dispatcher import Dispatcher
from pipelines.engines.command import KIND as COMMAND
from pipelines.errors import TaskFailed
from pipelines.executor import EngineTraits
from pipelines.hands import TASK_SCOPE, DispatchSettings, Doors, Render
from pipelines.kind import EngineSettings
from pipelines.pipeline import PipelineDef
from pipelines.ports import Engine, TaskContext, TaskResult
from pipelines.run import Run, TaskRun
from pipelines.task import TaskDef
from pipelines.testing import SilentObserver
from sensors.clock import SystemClock
from tests.support.scripted_engine import ScriptedEngine
from tidegate.rules import RulesInForce, compile_rules
from tidegate.run_store import StoreRuns
from tidegate.runs import Advance, Cancel, Claim, OwnEvents
from tidegate.start import ResumeAsk, ResumeRun, StartAsk, StartRun, UnknownPipeline, UnknownRun
from tidegate.store.tx import Store
from triggers.activation import Activation
from triggers.template import compile_template


def _compiled(options: Mapping[str, Any]) -> Render:
    template = compile_template(dict(options), TASK_SCOPE)
    return lambda scope: template.render(Activation(scope))


class House:
    """A dispatcher over a store, for one pipeline."""

    def __init__(self, store: Store, pipeline: PipelineDef, engines: Mapping[str, Engine], base: Path) -> None:
        config = ServiceConfig(name="t", base=base, listen="", store="", hash="t", pipelines={"p": pipeline})
        self.store = store
        self.rules = RulesInForce(compile_rules(config, {}))
        own = OwnEvents(self.rules, "t", "t")
        traits = {name: EngineTraits(one.survives, one.dedupes) for name, one in engines.items()}
        self.runs = StoreRuns(store, Claim(self.rules, lambda: traits, own), Advance(own), Cancel(own), lambda _: None)
        settings = DispatchSettings(poll=0.05)
        doors = Doors(compile=_compiled)
        self.dispatcher = Dispatcher("t", self.runs, engines, SilentObserver(), SystemClock(), settings, doors)

    async def start(self) -> Run:
        answer = await self.store.submit(StartRun(self.rules), StartAsk(pipeline="p"))
        assert not isinstance(answer, UnknownPipeline)
        return answer[0]

    async def resume(self, run: Run) -> Run:
        answer = await self.store.submit(ResumeRun(), ResumeAsk(run.uid))
        assert not isinstance(answer, UnknownRun)
        return answer

    async def end(self, run: Run) -> str:
        """Wait for a run's end; return its state."""
        self.dispatcher.wake()
        while True:
            found = await self.store.read(lambda reader: reader.run(run.uid))
            if found is not None and found.state.final:
                return str(found.state)
            await asyncio.sleep(0.005)

    async def tasks(self, run: Run) -> dict[str, TaskRun]:
        return {task.label: task for task in await self.store.read(lambda reader: list(reader.tasks(run.uid)))}


@asynccontextmanager
async def housed(store: Store, base: Path, engine: Engine, *tasks: TaskDef) -> AsyncIterator[House]:
    house = House(store, PipelineDef(name="p", tasks=tasks), {"e": engine}, base)
    house.dispatcher.start()
    try:
        yield house
    finally:
        await house.dispatcher.stop(patience=0)
        await engine.close()


async def test_a_resumed_run_repeats_the_failed_slices_only(store: Store, tmp_path: Path) -> None:
    """The list is cut once, from an output; the resumed run keeps names, elements and outputs of what succeeded."""
    calls: Counter[str] = Counter()
    bad = {"fan[k3]", "fan[k7]"}

    async def work(context: TaskContext) -> TaskResult:
        label = context.task_run.label
        calls[label] += 1
        if label in bad:
            raise TaskFailed("no")
        return TaskResult(output=[f"k{n}" for n in range(10)] if label == "list" else context.item)

    fan = TaskDef(name="fan", engine="e", needs=("list",), partitions="tasks.list.output")
    last = TaskDef(name="last", engine="e", needs=("fan",))
    async with housed(store, tmp_path, ScriptedEngine(work=work), TaskDef(name="list", engine="e"), fan, last) as house:
        first = await house.start()
        assert await house.end(first) == "failed"
        calls.clear()
        bad.clear()
        second = await house.resume(first)
        assert await house.end(second) == "succeeded"

        assert calls == {"fan[k3]": 1, "fan[k7]": 1, "last": 1}
        tasks = await house.tasks(second)
        assert orjson.loads(tasks["fan"].output or "") == [f"k{n}" for n in range(10)]
        assert [task.item for task in tasks.values() if task.partition] == [f'"k{n}"' for n in range(10)]


async def test_cancelling_reaches_the_processes_of_all_slices(store: Store, tmp_path: Path) -> None:
    """Programs of slices under way are gone when the run is cancelled; the figures of those that ended stay."""
    marks = tmp_path / "pids"
    marks.mkdir()
    clock = SystemClock()
    engine = COMMAND.build(EngineSettings(clock=clock, service="t", state=tmp_path, base=tmp_path))
    script = f'echo > "{marks}/$$"; if [ "$0" = quick ]; then exit 0; fi; exec sleep 100'
    fan = TaskDef(
        name="fan", engine="e", partitions=["quick", "a", "b"], options={"argv": ["sh", "-c", script, "${{ item }}"]}
    )
    async with housed(store, tmp_path, engine, fan) as house:
        run = await house.start()
        house.dispatcher.wake()
        while len(list(marks.iterdir())) < 3 or (await house.tasks(run))["fan[quick]"].finished_at is None:
            await asyncio.sleep(0.01)
        await house.runs.request_cancel(run.uid, "enough")
        house.dispatcher.cancel_hint(run.uid, "enough")
        assert await house.end(run) == "cancelled"

        tasks = await house.tasks(run)
        assert {label: str(task.state) for label, task in tasks.items()} == {
            "fan": "cancelled",
            "fan[quick]": "succeeded",
            "fan[a]": "cancelled",
            "fan[b]": "cancelled",
        }
        quick = tasks["fan[quick]"]
        assert (quick.cpu_seconds or 0) >= 0
        assert (quick.peak_rss_bytes or 0) > 100_000
        assert [file.name for file in marks.iterdir() if _alive(int(file.name))] == []


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
