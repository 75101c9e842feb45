"""The datasets of one job, in a worker: inputs become arguments before the function runs, a frame becomes the output.

In flow what the Job says of datasets; out flow frames, and what is told of each read and write as JSON values.
"""

import typing
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from time import time_ns
from typing import Any

from pipelines.datasets.registry import open_table
from pipelines.datasets.target import Target, parse_target
from pipelines.datasets.written import Content, How, Judge, Stamp, TargetBusy, TargetUnusable, Written
from pipelines.errors import TaskFailed
from pipelines.workers.frames import Job


def read_inputs(job: Job, function: Callable[..., Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the frames of the job's inputs by the names of parameters, and what is told of each read."""
    frames: dict[str, Any] = {}
    told: list[dict[str, Any]] = []
    for name, place in job.inputs.items():
        target = _target(place["uri"], job)
        try:
            with closing(open_table(target, place.get("connection"))) as table:
                content = table.read()
        except TargetBusy as error:
            raise TaskFailed(f"the inputs could not be read: {error}", "busy") from error
        except TargetUnusable as error:
            raise TaskFailed(f"the inputs could not be read: {error}", "input", retryable=error.retryable) from error
        frames[name] = _wanted(content.frame, function, name)
        told.append(_read(target, content, place.get("dataset", "")))
    return frames, told


def publish(job: Job, frame: Any, judge: Judge) -> dict[str, Any]:
    """Write a Polars DataFrame where the job's output goes; return what is told of it."""
    if job.target is None:
        raise ValueError("the job has no output")
    target = _target(job.target, job)
    how = How.of(job.how) if job.how is not None else How.of({"mode": job.mode})
    stamp = Stamp(job.run, job.fence, job.task, job.partition, job.attempt, time_ns() // 1000, job.resumes)
    with closing(open_table(target, job.connection)) as table:
        written = table.write(frame, stamp, how, judge)
    return _write(target, written, how, job)


def _target(uri: str, job: Job) -> Target:
    try:
        return parse_target(uri, Path(job.base))
    except ValueError as error:
        raise TaskFailed(str(error), "bad_options", retryable=False) from error


def _read(target: Target, content: Content, dataset: str) -> dict[str, Any]:
    return {
        "namespace": target.namespace,
        "name": target.name,
        "dataset": dataset,
        "mode": "read",
        "rows": content.frame.height,
        "bytes": content.bytes,
        "schema": content.schema,
        "version": content.version,
    }


def _write(target: Target, written: Written, how: How, job: Job) -> dict[str, Any]:
    return {
        "namespace": target.namespace,
        "name": target.name,
        "rows": written.rows,
        "bytes": written.bytes,
        "schema": written.schema,
        "version": written.version,
        "disposition": how.mode,
        "partition": job.partition,
        "dataset": job.dataset,
        "changes": {**written.changes.plain(), **({"created": True} if written.created else {})},
        "repeated": written.repeated,
    }


def _wanted(frame: Any, function: Callable[..., Any], name: str) -> Any:
    """Return the frame in the library that the function's annotation asks for."""
    hints: Mapping[str, Any] = {}
    with suppress(Exception):  # annotations are the user's
        hints = typing.get_type_hints(function)
    hint = hints.get(name)
    library = str(getattr(hint, "__module__", "")).partition(".")[0]
    if library == "pandas":
        return frame.to_pandas()
    if library == "pyarrow":
        return frame.to_arrow()
    return frame.lazy() if getattr(hint, "__name__", "") == "LazyFrame" else frame
