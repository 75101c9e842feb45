"""The `python` engine: a task is a Python function, called in a warm worker process.

In flow arguments by the names of the function's parameters: tasks that it needs, parameters of the run, `args` of the
task; out flows what it returned, as JSON or as a handle to a file that the next function gets back as a DataFrame. With
`output`, a returned DataFrame is checked and then published as a dataset. See `pipelines.workers.pool` for what a
function may do to the service (nothing) and `pipelines.workers.job` for the order of checks, publication and value.
"""

import asyncio
import itertools
from collections.abc import Mapping
from math import inf
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from pipelines.checks.spec import Severity
from pipelines.datasets.target import parse_target
from pipelines.datasets.values import values_folder
from pipelines.errors import TaskFailed
from pipelines.kind import EngineKind, EngineOptions, EngineSettings
from pipelines.ports import TaskContext, TaskResult
from pipelines.run import CheckResult, DatasetWrite
from pipelines.workers.frames import Job
from pipelines.workers.pool import Outcome, WorkerPool
from sensors.units import Size


class CheckOptions(EngineOptions):
    """One check of the returned DataFrame; see `pipelines.checks.spec` for kinds and their options."""

    kind: str
    options: Mapping[str, Any] = Field(default_factory=dict)
    severity: Severity = "fail"


class PythonOptions(EngineOptions):
    """A function task. `function` is `module:name` (or `file.py:name`), found from the base folder and `sys_path`.

    `args` are arguments of its own. `output` is a dataset URI for the returned DataFrame (`duckdb://`, `parquet://`,
    `csv://`), `mode` what becomes of what is there. `memory` is the most that the worker may have resident; empty: any.
    """

    function: str = Field(pattern=r"^[^:]+:[^:]+$")
    args: Mapping[str, Any] = Field(default_factory=dict)
    sys_path: tuple[str, ...] = ()
    output: str | None = None
    mode: Literal["replace", "append"] = "replace"
    checks: tuple[CheckOptions, ...] = ()
    memory: Size | None = None

    @model_validator(mode="after")
    def _fits(self) -> "PythonOptions":
        if self.mode == "append" and self.output is not None and not self.output.startswith(("duckdb://", "${{")):
            raise ValueError("mode append needs a duckdb:// output; files are replaced")
        return self


class PythonEngine:
    """Runs functions in the workers of one pool, which starts with the first task."""

    survives = False
    dedupes = False
    poll_every = 1.0

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._pool: WorkerPool | None = None
        self._jobs: dict[str, asyncio.Task[Outcome]] = {}
        self._numbers = itertools.count(1)

    async def open(self) -> None:
        return

    async def start(self, context: TaskContext) -> str:
        try:
            options = PythonOptions.model_validate(context.options)
            if options.output is not None:
                parse_target(options.output, self._settings.base)
        except ValueError as error:
            raise TaskFailed(
                f"the python task's options are wrong: {_said(error)}", "bad_options", retryable=False
            ) from error
        if self._pool is None:
            self._pool = WorkerPool(self._settings.workers, self._settings.base)
        handle = str(next(self._numbers))
        left = context.deadline - self._settings.clock.monotonic()
        run = self._pool.run(
            self._job(context, options), context.log, None if left == inf else max(0.0, left), options.memory or 0
        )
        self._jobs[handle] = asyncio.get_running_loop().create_task(run)
        return handle

    async def find(self, context: TaskContext) -> str | None:
        return None

    async def poll(self, context: TaskContext, handle: str) -> TaskResult | None:
        job = self._jobs.get(handle)
        if job is None:
            raise TaskFailed("the task's worker is gone with the service that started it", "lost")
        try:
            outcome = await job
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise
            raise TaskFailed("the task was cancelled", "cancelled", retryable=False) from None
        finally:
            if job.done():
                self._jobs.pop(handle, None)
        return self._result(context, outcome)

    async def cancel(self, context: TaskContext, handle: str) -> None:
        job = self._jobs.pop(handle, None)
        if job is not None:
            job.cancel()
            await asyncio.wait([job])

    async def close(self) -> None:
        jobs = list(self._jobs.values())
        self._jobs.clear()
        for job in jobs:
            job.cancel()
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()
        if jobs:
            await asyncio.wait(jobs, timeout=5)

    def _job(self, context: TaskContext, options: PythonOptions) -> Job:
        run, task_run = context.run, context.task_run
        return Job(
            function=options.function,
            base=str(self._settings.base.absolute()),
            sys_path=options.sys_path,
            args={"item": context.item, "partition": task_run.partition, **options.args}
            if context.task.fans_out
            else options.args,
            upstream=context.upstream,
            params=context.params,
            environ=context.environ,
            run=run.uid,
            fence=run.fence,
            task=task_run.task,
            partition=task_run.partition or run.partition or "",
            attempt=task_run.attempt,
            values=str(values_folder(self._settings.state.absolute(), run.uid)),
            target=options.output,
            mode=options.mode,
            checks=tuple(check.model_dump() for check in options.checks),
        )

    def _result(self, context: TaskContext, outcome: Outcome) -> TaskResult:
        answer, at, task = outcome.answer, self._settings.clock.now(), context.task_run.task
        checks = tuple(CheckResult(task=task, at=at, **check) for check in answer["checks"])
        if "failed" in answer:
            failure = TaskFailed(
                answer["failed"], answer["kind"], retryable=answer["retryable"], retry_after=answer["retry_after"]
            )
            failure.checks = checks
            failure.cpu_seconds, failure.peak_rss_bytes = outcome.cpu, outcome.rss
            raise failure
        datasets = tuple(
            DatasetWrite(task=task, at=at, **{**write, "schema": tuple((name, kind) for name, kind in write["schema"])})
            for write in answer["datasets"]
        )
        return TaskResult(
            output=answer["output"],
            datasets=datasets,
            checks=checks,
            cpu_seconds=outcome.cpu,
            peak_rss_bytes=outcome.rss,
        )


def _said(error: ValueError) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'options'}: {e['msg']}" for e in error.errors())
    return str(error)


KIND = EngineKind(
    name="python",
    help="Calls a Python function in a warm worker process; a returned DataFrame can be checked and published.",
    options=PythonOptions,
    build=PythonEngine,
    example="clean: {engine: python, function: 'shop.orders:clean', output: 'duckdb://shop.duckdb/main.orders'}",
)
