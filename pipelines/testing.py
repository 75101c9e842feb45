"""The test kit for people who write pipelines: run one in a unit test, without the service, its store or its workers.

    def test_orders() -> None:
        report = run(orders, {"path": "orders.csv"}, stubs={"extract": pl.DataFrame({"id": [1]})})
        assert report.check().values["orders"].height == 1

The real executor and dispatcher do the work, over runs in memory. `run` and `run_task` treat Python tasks as a worker
does: the same arguments, checks, and values that can be handed on; nothing is written outside unless `base` says where.
With `workers` they go to real worker processes. `run_pipeline` is for engines and their authors: tasks of the engine
`python` hand over whatever they return; other engines are given as `engines`. Retries never wait.
"""

import asyncio
import importlib
import inspect
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from pipelines.authoring import Pipeline, Task
from pipelines.context import Context
from pipelines.describe import CONTEXT, SLICE, describe, parameter_type
from pipelines.errors import DefinitionError, TaskFailed
from pipelines.graph import nearest
from pipelines.hands import Render, literal_options
from pipelines.inline import Stub
from pipelines.params import check_params, to_python
from pipelines.pipeline import PipelineDef
from pipelines.ports import Engine, TaskContext, TaskResult
from pipelines.trial import Around, RunReport, SilentObserver, run_here, run_through

__all__ = ["InProcess", "RunReport", "SilentObserver", "run", "run_pipeline", "run_task"]


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
    local = InProcess()
    definition = pipeline if isinstance(pipeline, PipelineDef) else describe(pipeline)
    report = await run_through(
        definition,
        check_params(definition.params, params or {}),
        {"python": local, **(engines or {})},
        Around(events, partition, compile_options, within),
    )
    return replace(report, values={task: value for (_, task), value in local.values.items()})


def run(
    pipeline: "PipelineDef | Pipeline | Task[..., Any]",
    params: Mapping[str, Any] | None = None,
    *,
    events: Sequence[Any] = (),
    partition: str | None = None,
    stubs: "Mapping[str | Task[..., Any], Any] | None" = None,
    inputs: Mapping[str, Any] | None = None,
    base: Path | None = None,
    workers: int = 0,
    engines: Mapping[str, Engine] | None = None,
    within: float = 60.0,
) -> RunReport:
    """Run a pipeline to its end and return how it went; from ordinary code, a loop may run in this thread or not.

    `stubs` says by task what it returns, or raises, without being called. `inputs` are the frames of datasets that
    tasks read, by what the tasks call them; with `base`, others are read where they are. `events` are the causing
    events as expressions see them. Outputs are checked and reported, and written only with `base`, the folder where
    relative ones start. `workers` is how many worker processes to use; 0 calls everything here, one at a time, where
    breakpoints work. `engines` are for tasks that are no Python. Raises DefinitionError, ParameterError, and
    TimeoutError after `within` seconds.
    """
    definition = pipeline if isinstance(pipeline, PipelineDef) else describe(pipeline)
    given = check_params(definition.params, params or {})
    stubbed = _stubs(definition, stubs or {})
    around = Around(events, partition, literal_options, within, inputs or {})
    return _from_anywhere(lambda: run_here(definition, given, stubbed, around, base, workers, engines or {}))


def run_task(
    task: "Task[..., Any]",
    params: Mapping[str, Any] | None = None,
    *,
    given: "Mapping[str | Task[..., Any], Any] | None" = None,
    inputs: Mapping[str, Any] | None = None,
    events: Sequence[Any] = (),
    partition: str | None = None,
    base: Path | None = None,
    workers: int = 0,
) -> RunReport:
    """Run one task as the service would, `given` what the tasks that it needs handed on; return how it went.

    Raises DefinitionError when something that it needs is not given, ParameterError, and TimeoutError after a minute.
    """
    whole = describe(task)
    one = whole.task(task.name)
    there = {_name(key) for key in given or {}}
    for need in one.needs:
        if need not in there:
            raise DefinitionError(f"task {task.name!r} needs {need!r}", "given", f"given={{{need!r}: …}}")
    names = set(inspect.signature(task.function).parameters)
    definition = replace(
        whole,
        tasks=(*(replace(whole.task(need), needs=()) for need in one.needs), one),
        params={name: param for name, param in (whole.params or {}).items() if name in names},
    )
    return run(
        definition,
        params,
        events=events,
        partition=partition,
        stubs=given,
        inputs=inputs,
        base=base,
        workers=workers,
    )


def _stubs(definition: PipelineDef, stubs: "Mapping[str | Task[..., Any], Any]") -> dict[str, Stub]:
    names = [task.name for task in definition.tasks]
    found = {}
    for key, value in stubs.items():
        name = _name(key)
        if name not in names:
            raise DefinitionError(f"there is no task {name!r} to stub", "stubs", nearest(name, names))
        found[name] = Stub(value)
    return found


def _name(key: "str | Task[..., Any]") -> str:
    return key if isinstance(key, str) else key.name


def _from_anywhere(work: Callable[[], Coroutine[Any, Any, RunReport]]) -> RunReport:
    """Run to the end, also where a loop runs already: then beside it, in a thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work())
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(work())).result()


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
                given[name] = _context(context)
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


def _context(context: TaskContext) -> Context:
    """Return what a worker would give the function as its context."""
    run, task_run = context.run, context.task_run
    return Context(
        run=run.uid,
        task=task_run.task,
        attempt=task_run.attempt,
        pipeline=run.pipeline,
        key=run.key,
        trigger=run.trigger,
        partition=task_run.partition or run.partition or "",
        params=context.params,
        event_uids=tuple(run.events),
        environ=context.environ,
        headers=context.headers,
        log=lambda text: context.log("log", str(text)),
    )


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
