"""The `check` engine: a task that judges a dataset where it lies, whoever wrote it.

In flow a dataset (a configured name, or a URI) and checks; out flow their results. Checks run in a worker process:
pushed down as SQL in DuckDB and over local files, on the rows of a table of PostgreSQL or Snowflake. A failed check of
severity `fail` fails the task, so that what needs it does not run. For what a Python task of ours returns, put the
checks on that task instead: there they come before anything is published.
"""

from collections.abc import Mapping
from math import inf
from typing import Any

from pydantic import Field, model_validator

from pipelines.checks.registry import needs_memory
from pipelines.checks.spec import as_plain
from pipelines.checks.written import Entries
from pipelines.datasets.asking import refuse_unasked
from pipelines.datasets.values import values_folder
from pipelines.errors import TaskFailed
from pipelines.kind import EngineKind, EngineOptions, EngineSettings, said_of
from pipelines.ports import TaskContext, TaskResult
from pipelines.run import CheckResult
from pipelines.workers.frames import Job
from pipelines.workers.pool import Outcome, WorkerPool
from sensors.units import Size

FUNCTION = "pipelines.checks.standing:judge_dataset"


class CheckTaskOptions(EngineOptions):
    """A task that checks a dataset."""

    dataset: str = Field(
        min_length=1, description="the name of an entry of `datasets`, whose own checks are made as well, or a URI"
    )
    uri: str | None = Field(None, description="where it lies; that of the entry of `datasets` comes by itself")
    connection: str | None = Field(None, description="the entry of `connections` through which it is read")
    checks: Entries = Field((), description="what must hold of the data")
    sys_path: tuple[str, ...] = Field((), description="folders in which functions of one's own are looked for")
    memory: Size | None = Field(None, description="the most that the worker may have resident; empty: any")

    @model_validator(mode="after")
    def _fits(self) -> "CheckTaskOptions":
        place = self.uri or self.dataset
        if "://" in place and "${{" not in place:
            refuse_unasked(place)
        for check in self.checks:
            if needs_memory(check.spec):
                raise ValueError(
                    f"{check.spec.label} compares with earlier writes, of which a check from outside knows none; "
                    "put it on the task that writes, or say what you expect: row_count min, schema columns"
                )
        return self


class CheckEngine:
    """Judges datasets in one worker of its own, which starts with the first task."""

    survives = False
    dedupes = False
    poll_every = 1.0

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._pool: WorkerPool | None = None

    async def open(self) -> None:
        return

    async def start(self, context: TaskContext) -> str:
        self._job(context)  # what is wrong with the options is said before anything is written of a start
        return "checking"

    async def find(self, context: TaskContext) -> str | None:
        return None

    async def poll(self, context: TaskContext, handle: str) -> TaskResult | None:
        job, dataset, memory = self._job(context)
        if self._pool is None:
            self._pool = WorkerPool(1, self._settings.base)
        left = context.deadline - self._settings.clock.monotonic()
        outcome = await self._pool.run(job, context.log, None if left == inf else max(0.0, left), memory)
        return self._result(context, outcome, dataset)

    async def cancel(self, context: TaskContext, handle: str) -> None:
        return  # the job ends with the question that waits for it

    async def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()

    def _job(self, context: TaskContext) -> tuple[Job, str, int]:
        try:
            options = CheckTaskOptions.model_validate(context.options)
            uri, checks = options.uri or options.dataset, options.checks
            refuse_unasked(uri)
            named = {options.connection, *(check.options.get("connection") for check in checks)}
            known = self._settings.connections
            missing = [name for name in named if name is not None and name not in known]
            if missing:
                raise ValueError(f"there is no connection {missing[0]!r}; there are {', '.join(known) or 'none'}")
            if not checks:
                raise ValueError(f"nothing is checked; give `checks`, here or at the dataset {options.dataset!r}")
        except ValueError as error:
            said = f"the check task's options are wrong: {said_of(error)}"
            raise TaskFailed(said, "bad_options", retryable=False) from error
        base = str(self._settings.base.absolute())
        run, task_run = context.run, context.task_run
        job = Job(
            function=FUNCTION,
            base=base,
            sys_path=options.sys_path,
            args={
                "uri": uri,
                "dataset": options.dataset,
                "checks": [as_plain(check.spec) for check in checks],
                "base": base,
                "connection": None if options.connection is None else known[options.connection],
                "connections": {name: known[name] for name in named if name is not None},
            },
            environ=context.environ,
            run=run.uid,
            fence=run.fence,
            task=task_run.task,
            partition=task_run.partition or run.partition or "",
            attempt=task_run.attempt,
            values=str(values_folder(self._settings.state.absolute(), run.uid)),
        )
        return job, options.dataset, options.memory or 0

    def _result(self, context: TaskContext, outcome: Outcome, dataset: str) -> TaskResult:
        answer, at, task = outcome.answer, self._settings.clock.now(), context.task_run.task
        if "failed" in answer:
            raise _costing(
                outcome, TaskFailed(answer["failed"], answer["kind"], retryable=answer["retryable"])
            )  # fmt: skip
        found: Mapping[str, Any] = answer["output"]
        checks = tuple(CheckResult(task=task, at=at, **check) for check in found["checks"])
        if found["failed"]:
            failure = _costing(outcome, TaskFailed(f"{dataset}: {found['failed']}", "check_failed"))
            failure.checks = checks
            raise failure
        passed = sum(check.passed for check in checks)
        return TaskResult(
            output={"passed": passed, "warned": len(checks) - passed},
            checks=checks,
            cpu_seconds=outcome.cpu,
            peak_rss_bytes=outcome.rss,
        )


def _costing(outcome: Outcome, failure: TaskFailed) -> TaskFailed:
    failure.cpu_seconds, failure.peak_rss_bytes = outcome.cpu, outcome.rss
    return failure


KIND = EngineKind(
    name="check",
    help="Checks a dataset where it lies (DuckDB, files, PostgreSQL, Snowflake); what needs it runs only if it passes.",
    options=CheckTaskOptions,
    build=CheckEngine,
    example=(
        "verify: {engine: check, needs: [build], dataset: 'duckdb://shop.duckdb/main.orders', "
        "checks: [{row_count: {min: 1}}, {unique: id}]}"
    ),
)
