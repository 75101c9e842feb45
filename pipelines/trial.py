"""Runs of the test kit: the real executor and dispatcher over runs in memory, and the report of how a run went.

In flow a definition, parameters, engines; out flows a `RunReport` when the run has ended. Retries do not wait. Nothing
is left behind but what tasks themselves write.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson

from pipelines.datasets.values import load
from pipelines.dispatcher import Dispatcher
from pipelines.executor import EngineTraits
from pipelines.hands import DispatchSettings, Doors, Render
from pipelines.inline import InlineEngine, Stub
from pipelines.kind import EngineSettings
from pipelines.memory_runs import MemoryRuns
from pipelines.pipeline import PipelineDef
from pipelines.ports import Engine
from pipelines.run import CheckResult, DatasetWrite, LogLine, Run, RunState, TaskRun
from pipelines.task import TaskDef
from sensors.clock import SystemClock


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """How a run went. `tasks` by name; `outputs` what they handed on as JSON; `values` what Python tasks returned.

    `errors` are the exceptions that Python tasks raised, where they were called in this process.
    """

    run: Run
    tasks: Mapping[str, TaskRun]
    outputs: Mapping[str, Any]
    values: Mapping[str, Any] = field(default_factory=dict)
    logs: Sequence[LogLine] = ()
    datasets: Sequence[DatasetWrite] = ()
    checks: Sequence[CheckResult] = ()
    errors: Mapping[str, BaseException] = field(default_factory=dict)

    @property
    def states(self) -> Mapping[str, str]:
        """Return the state of each task: `succeeded`, `failed`, `skipped`, …"""
        return {name: str(task.state) for name, task in self.tasks.items()}

    @property
    def log(self) -> str:
        """Return the log as text."""
        return "\n".join(f"{line.task}: {line.text}" for line in self.logs)

    def check(self) -> "RunReport":
        """Return the report itself when the run succeeded; else raise AssertionError that tells why, with the log.

        The exception of the task that failed is its cause.
        """
        if self.succeeded:
            return self
        states = ", ".join(f"{name} {state}" for name, state in self.states.items())
        cause = next(iter(self.errors.values()), None)
        raise AssertionError(f"the run {self.run.state}: {self.error}\ntasks: {states}\n{self.log}") from cause

    @property
    def succeeded(self) -> bool:
        """Say whether the run succeeded."""
        return self.run.state is RunState.SUCCEEDED

    @property
    def error(self) -> str | None:
        """Return why the run did not succeed."""
        return self.run.error


@dataclass(frozen=True, slots=True)
class Around:
    """What a run is started with, besides its parameters."""

    events: Sequence[Any]
    partition: str | None
    compile_options: Callable[[Mapping[str, Any]], Render]
    within: float
    inputs: Mapping[str, Any] = field(default_factory=dict)


class SilentObserver:
    """An observer that notes nothing."""

    def task_ended(self, run: Run, task: TaskRun) -> None:
        """Note nothing."""

    def run_ended(self, run: Run, state: RunState) -> None:
        """Note nothing."""

    def run_started(self, run: Run) -> None:
        """Note nothing."""


async def run_here(
    definition: PipelineDef,
    given: Mapping[str, Any],
    stubs: Mapping[str, Stub],
    around: Around,
    base: Path | None,
    workers: int,
    engines: Mapping[str, Engine],
) -> RunReport:
    """Run Python tasks as a worker does, in this process or in `workers` processes; see `pipelines.testing.run`."""
    with TemporaryDirectory(prefix="tidegate-test-", ignore_cleanup_errors=True) as state:
        settings = EngineSettings(
            clock=SystemClock(), service="test", state=Path(state), base=base or Path.cwd(), workers=max(1, workers)
        )
        inline = InlineEngine(settings, stubs, around.inputs, publish=base is not None)
        using: dict[str, Engine] = {"dask": inline, **engines, "stub": inline, "python": inline}
        if workers:
            from pipelines.engines.python import PythonEngine

            using["python"] = PythonEngine(settings)
            using["dask"] = engines.get("dask", using["python"])
        hide = bool(workers) and base is None
        tasks = tuple(_prepared(task, around, stub=task.name in stubs, hide=hide) for task in definition.tasks)
        report = await run_through(replace(definition, tasks=tasks), given, using, around)
        values = {**{name: load(output) for name, output in report.outputs.items()}, **inline.values}
        return replace(report, values=values, errors=inline.errors)


def _prepared(task: TaskDef, around: Around, *, stub: bool, hide: bool) -> TaskDef:
    """Return a task as the kit runs it: its stub instead, the events in place, its output written only where asked."""
    if stub:
        return replace(task, engine="stub", options={"function": "stub:stub"})
    options = dict(task.options)
    if "events" in options:
        options["events"] = list(around.events)
    if hide and "output" in options:
        options["output"] = None
    return replace(task, options=options)


async def run_through(
    definition: PipelineDef, given: Mapping[str, Any], using: Mapping[str, Engine], around: Around
) -> RunReport:
    """Run a definition to its end with these engines, which are opened and closed here."""
    definition = replace(definition, tasks=tuple(_unhurried(task) for task in definition.tasks))
    clock = SystemClock()
    store = MemoryRuns(clock, {name: EngineTraits(one.survives, one.dedupes) for name, one in using.items()})
    run = store.add(definition, given, partition=around.partition, events=around.events)
    doors = Doors(compile=around.compile_options)
    dispatcher = Dispatcher("test", store, using, SilentObserver(), clock, DispatchSettings(poll=0.05), doors)
    engines = list({id(one): one for one in using.values()}.values())
    for one in engines:
        await one.open()
    try:
        dispatcher.start()
        async with asyncio.timeout(around.within):
            while not store.runs[run.uid].state.final:
                await asyncio.sleep(0.001)
                await dispatcher.calm()
    finally:
        await dispatcher.stop(patience=0)
        for one in engines:
            await one.close()
    tasks = store.tasks(run.uid)
    return RunReport(
        run=store.runs[run.uid],
        tasks=tasks,
        outputs={name: orjson.loads(task.output) for name, task in tasks.items() if task.output is not None},
        logs=store.logs,
        datasets=store.datasets,
        checks=store.checks,
    )


def _unhurried(task: Any) -> Any:
    return replace(task, retries=replace(task.retries, backoff=0.0, max_delay=0.0))
