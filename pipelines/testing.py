"""The test kit for people who write pipelines: run one in a unit test, without the service, its store or its workers.

    async def test_orders() -> None:
        report = await run_pipeline(orders, {"path": "orders.csv"})
        assert report.succeeded, report.error
        assert report.values["orders"].height == 3

The real executor and dispatcher do the work, over runs in memory. Tasks of the engine `python` are called in this
process, in a thread, and hand over whatever they return; other engines are given as `engines`. Retries do not wait.
"""

import asyncio
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from pipelines.authoring import Pipeline, Task
from pipelines.describe import CONTEXT, SLICE, describe, parameter_type
from pipelines.dispatcher import Dispatcher
from pipelines.errors import TaskFailed
from pipelines.executor import EngineTraits
from pipelines.hands import DispatchSettings, Doors, Render, literal_options
from pipelines.memory_runs import MemoryRuns
from pipelines.params import check_params, to_python
from pipelines.pipeline import PipelineDef
from pipelines.ports import Engine, TaskContext, TaskResult
from pipelines.run import CheckResult, DatasetWrite, LogLine, Run, RunState, TaskRun
from sensors.clock import SystemClock

__all__ = ["InProcess", "RunReport", "SilentObserver", "run_pipeline"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """How a run went. `tasks` by name; `outputs` what they handed on as JSON; `values` what Python tasks returned."""

    run: Run
    tasks: Mapping[str, TaskRun]
    outputs: Mapping[str, Any]
    values: Mapping[str, Any] = field(default_factory=dict)
    logs: Sequence[LogLine] = ()
    datasets: Sequence[DatasetWrite] = ()
    checks: Sequence[CheckResult] = ()

    @property
    def succeeded(self) -> bool:
        """Say whether the run succeeded."""
        return self.run.state is RunState.SUCCEEDED

    @property
    def error(self) -> str | None:
        """Return why the run did not succeed."""
        return self.run.error


async def run_pipeline(
    pipeline: "PipelineDef | Pipeline | Task[..., Any]",
    params: Mapping[str, Any] | None = None,
    *,
    engines: Mapping[str, Engine] | None = None,
    events: Sequence[Any] = (),
    partition: str | None = None,
    compile_options: Callable[[Mapping[str, Any]], Render] = literal_options,
    within: float = 60.0,
) -> RunReport:
    """Run a pipeline to its end and return how it went.

    `events` are the causing events as expressions see them; `compile_options` evaluates `${{ … }}` in options (without
    it they stay as written). Raises DefinitionError, ParameterError, and TimeoutError after `within` seconds.
    """
    definition = pipeline if isinstance(pipeline, PipelineDef) else describe(pipeline)
    definition = replace(definition, tasks=tuple(_unhurried(task) for task in definition.tasks))
    given = check_params(definition.params, params or {})
    local = InProcess()
    using: dict[str, Engine] = {"python": local, **(engines or {})}
    clock = SystemClock()
    store = MemoryRuns(clock, {name: EngineTraits(one.survives, one.dedupes) for name, one in using.items()})
    run = store.add(definition, given, partition=partition, events=events)
    doors = Doors(compile=compile_options)
    dispatcher = Dispatcher("test", store, using, SilentObserver(), clock, DispatchSettings(poll=0.05), doors)
    for one in using.values():
        await one.open()
    try:
        dispatcher.start()
        async with asyncio.timeout(within):
            while not store.runs[run.uid].state.final:
                await asyncio.sleep(0.001)
                await dispatcher.calm()
    finally:
        await dispatcher.stop(patience=0)
        for one in using.values():
            await one.close()
    tasks = store.tasks(run.uid)
    return RunReport(
        run=store.runs[run.uid],
        tasks=tasks,
        outputs={name: orjson.loads(task.output) for name, task in tasks.items() if task.output is not None},
        values={task: value for (_, task), value in local.values.items()},
        logs=store.logs,
        datasets=store.datasets,
        checks=store.checks,
    )


def _unhurried(task: Any) -> Any:
    return replace(task, retries=replace(task.retries, backoff=0.0, max_delay=0.0))


class SilentObserver:
    """An observer that notes nothing."""

    def task_ended(self, run: Run, task: TaskRun) -> None:
        """Note nothing."""

    def run_ended(self, run: Run, state: RunState) -> None:
        """Note nothing."""

    def run_started(self, run: Run) -> None:
        """Note nothing."""


class InProcess:
    """An engine that calls Python tasks in this process: each in a thread, coroutines on the loop."""

    survives = False
    dedupes = False
    poll_every = 0.01

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], Any] = {}

    async def open(self) -> None:
        """Nothing to make ready."""

    async def start(self, context: TaskContext) -> str:
        """Return a handle; the work is done by `poll`."""
        return context.task_run.uid

    async def find(self, context: TaskContext) -> str | None:
        """Find nothing: what was under way is gone."""
        return None

    async def poll(self, context: TaskContext, handle: str) -> TaskResult | None:
        """Call the function and return what it returned, as far as it is JSON."""
        function = _function(context.options["function"])
        arguments = self._arguments(function, context)
        try:
            if inspect.iscoroutinefunction(inspect.unwrap(function)):
                value = await function(**arguments)
            else:
                value = await asyncio.to_thread(function, **arguments)
        except TaskFailed:
            raise
        except Exception as error:
            context.log("stderr", f"{type(error).__name__}: {error}")
            raise TaskFailed(f"{type(error).__name__}: {error}", type(error).__name__) from error
        self.values[context.run.uid, context.task_run.label] = value
        return TaskResult(output=_as_json(value))

    def _handed_on(self, context: TaskContext, need: str) -> Any:
        """Return what a task above returned: as it was where one function returned it, else as JSON."""
        label = f"{need}[{context.task_run.partition}]" if need == context.task.per else need
        return self.values.get((context.run.uid, label), context.upstream[need])

    async def cancel(self, context: TaskContext, handle: str) -> None:
        """Stop waiting; a thread cannot be stopped."""

    async def close(self) -> None:
        """Nothing to stop."""

    def _arguments(self, function: Callable[..., Any], context: TaskContext) -> dict[str, Any]:
        given: dict[str, Any] = {}
        for name, parameter in inspect.signature(function).parameters.items():
            if name == CONTEXT:
                given[name] = context
            elif context.task.fans_out and name in SLICE:
                given[name] = context.item if name == "item" else context.partition
            elif name in context.upstream:
                given[name] = self._handed_on(context, name)
            elif context.params.get(name) is not None:
                value = context.params[name]
                given[name] = to_python(parameter_type(function, name), value) if isinstance(function, Task) else value
            elif parameter.default is inspect.Parameter.empty:
                given[name] = None
        return given


def _function(reference: str) -> Callable[..., Any]:
    module, _, qualname = reference.partition(":")
    found: Any = importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    if not callable(found):
        raise TaskFailed(f"{reference} is no function", "definition", retryable=False)
    return found  # type: ignore[no-any-return]  # a callable, as checked


def _as_json(value: Any) -> Any:
    try:
        encoded = orjson.dumps(value)
    except TypeError:
        return {"type": type(value).__name__}
    return value if len(encoded) <= 262_144 else {"type": type(value).__name__}
