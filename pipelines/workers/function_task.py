"""A task that is a Python function, as data: its options, the job that a worker gets, and what its answer means.

In flow a task's evaluated options and context; out flows a `Job`, and from the worker's answer a TaskResult or the
TaskFailed that it stands for. Shared by the engines that call functions, wherever their workers are.
"""

from collections.abc import Mapping
from functools import lru_cache
from math import inf
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from pipelines.checks.registry import needs_memory
from pipelines.checks.spec import as_plain
from pipelines.checks.written import Entries
from pipelines.datasets.catalog import Bound, plain_how
from pipelines.datasets.values import values_folder
from pipelines.errors import TaskFailed
from pipelines.kind import EngineOptions, EngineSettings, said_of
from pipelines.ports import TaskContext, TaskResult
from pipelines.run import CheckResult, DatasetWrite
from pipelines.workers.frames import Job
from pipelines.workers.pool import Outcome
from sensors.clock import SECOND, Clock
from sensors.units import Size


class FunctionOptions(EngineOptions):
    """A function task. `function` is `module:name` (or `file.py:name`), found from the base folder and `sys_path`.

    `args` are arguments of its own. `output` is the dataset that the returned DataFrame is written to: a name of
    `datasets`, or a URI. `mode` is what becomes of what is there, and `key` the columns by which `merge` and
    `soft_delete` know a row again; both only where they differ from the dataset's entry. `memory` is the
    most that the task and what it starts may use; empty: as `service.limits` says. `events` becomes the context's
    `events`.
    """

    function: str = Field(pattern=r"^[^:]+:[^:]+$")
    args: Mapping[str, Any] = Field(default_factory=dict)
    sys_path: tuple[str, ...] = ()
    output: str | None = None
    mode: Literal["replace", "append", "merge", "soft_delete"] | None = None
    key: tuple[str, ...] = ()
    checks: Entries = ()
    memory: Size | None = None
    events: Any = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.mode is not None and self.output is None:
            raise ValueError("`mode` says how `output` is written; name the dataset with `output`")
        uri = self.output is not None and "://" in self.output
        if uri and self.mode in ("merge", "soft_delete") and not self.key:
            raise ValueError(f"mode {self.mode} needs to know rows again; name the columns: `key: [id]`")
        text = (self.output or "").startswith(("csv://", "json://", "jsonl://"))
        if text and self.mode not in (None, "replace"):
            raise ValueError("such a file can only be replaced; name a folder (a slash at the end), or parquet://")
        comparing = [check.spec.label for check in self.checks if needs_memory(check.spec)]
        if comparing and self.output is None:
            raise ValueError(f"{comparing[0]} compares with earlier writes, and the task writes nothing; add an output")
        return self


def read_options(model: type[FunctionOptions], context: TaskContext, _base: Path) -> Any:
    """Return the evaluated options as `model`; raises TaskFailed (not retryable) that says what is wrong with them."""
    try:
        return model.model_validate(context.options)
    except ValueError as error:
        raise TaskFailed(
            f"the options of task {context.task.name!r} are wrong: {said_of(error)}", "bad_options", retryable=False
        ) from error


def make_job(context: TaskContext, options: FunctionOptions, settings: EngineSettings) -> Job:
    """Return the job of an attempt, with absolute paths of this machine; raises TaskFailed for unknown datasets."""
    run, task_run = context.run, context.task_run
    output = None if options.output is None else _bound(options.output, context, settings)
    left = time_left(context, settings.clock)
    base, values, code = _folders(settings.base, settings.state, run.uid)
    return Job(
        function=options.function,
        base=base,
        sys_path=options.sys_path,
        args=options.args,
        slice={"item": context.item, "partition": task_run.partition} if context.task.fans_out else {},
        upstream=context.upstream,
        params=context.params,
        environ=context.environ,
        run=run.uid,
        fence=run.fence,
        task=task_run.task,
        partition=task_run.partition or run.partition or "",
        attempt=task_run.attempt,
        values=values,
        target=None if output is None else output.uri,
        how=None if output is None else plain_how(output.how(options.mode, options.key)),
        connection=None if output is None else output.connection,
        inputs={name: _bound(reference, context, settings).plain() for name, reference in context.task.inputs.items()},
        dataset="" if output is None else output.name,
        resumes=run.resumed_from or "",
        checks=tuple(as_plain(check.spec) for check in options.checks),
        connections=connections_of(options.checks, settings.connections),
        code=code,
        pipeline=run.pipeline,
        key=run.key,
        trigger=run.trigger,
        event_uids=tuple(run.events),
        events=tuple(options.events) if isinstance(options.events, list | tuple) else None,
        headers=context.headers,
        deadline=None if left is None else settings.clock.now() / SECOND + left,
    )


def _bound(reference: str, context: TaskContext, settings: EngineSettings) -> Bound:
    try:
        return settings.catalog.bind(reference)
    except ValueError as error:
        raise TaskFailed(
            f"the options of task {context.task.name!r} are wrong: {error}", "bad_options", retryable=False
        ) from error


@lru_cache(maxsize=64)
def _folders(base: Path, state: Path, run: str) -> tuple[str, str, str]:
    """Return the base folder, that of a run's values and that of its code: the same for all tasks of a run."""
    there = state.absolute()
    return str(base.absolute()), str(values_folder(there, run)), str(there / "code")


def time_left(context: TaskContext, clock: Clock) -> float | None:
    """Return the seconds until the attempt's deadline, None when it has none."""
    left = context.deadline - clock.monotonic()
    return None if left == inf else max(0.0, left)


def read_answer(outcome: Outcome, task: str, at: int) -> TaskResult:
    """Return the result that a worker's answer stands for; raises the TaskFailed that it stands for."""
    answer = outcome.answer
    checks = tuple(CheckResult(task=task, at=at, **check) for check in answer["checks"])
    if "failed" in answer:
        failure = TaskFailed(
            answer["failed"], answer["kind"], retryable=answer["retryable"], retry_after=answer["retry_after"]
        )
        failure.checks = checks
        failure.cpu_seconds, failure.peak_rss_bytes = outcome.cpu, outcome.rss
        raise failure
    datasets = tuple(
        DatasetWrite(
            task=task,
            at=at,
            **{
                **{name: value for name, value in write.items() if name in DatasetWrite.__dataclass_fields__},
                "schema": tuple((name, kind) for name, kind in write["schema"]),
            },
        )
        for write in answer["datasets"]
    )
    return TaskResult(
        output=answer["output"],
        datasets=datasets,
        checks=checks,
        cpu_seconds=outcome.cpu,
        peak_rss_bytes=outcome.rss,
    )


def connections_of(checks: Entries, known: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the connections that checks name: what a worker is told of them, and no more."""
    named = {check.options.get("connection") for check in checks}
    return {name: connection for name, connection in known.items() if name in named}
