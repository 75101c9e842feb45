"""One job, carried out in a worker: call the function, judge what it returned, publish it, keep the value.

In flows a Job, out flows the answer for the service as plain JSON values. The order is the promise: checks are
evaluated before anything is published; a dataset is published before its value is handed on; and a failure of any of
these is an answer that says what happened, never a dead worker.
"""

import os
import shutil
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from time import time_ns
from types import FrameType
from typing import Any

from pipelines.checks.evaluate import evaluate
from pipelines.checks.finding import Around, Finding
from pipelines.checks.results import failures, told
from pipelines.checks.spec import from_plain
from pipelines.context import Context
from pipelines.datasets.target import parse_target
from pipelines.datasets.values import ValueTrouble, as_frame, computed, keep
from pipelines.datasets.written import Last, StaleWrite, TargetBusy, TargetUnusable
from pipelines.errors import TaskFailed
from pipelines.workers.calling import call
from pipelines.workers.frames import Job
from pipelines.workers.functions import Functions
from pipelines.workers.publishing import publish, read_inputs

Resolve = Callable[[str], Callable[..., Any]]
PROPAGATION = ("TRACEPARENT", "TRACESTATE", "BAGGAGE")


def carry_out(
    job: Job, functions: Functions, log: Callable[[str], None], asked_to_stop: Callable[[], bool] = lambda: False
) -> dict[str, Any]:
    """Run the job to its end and return its answer. Nothing that a function does raises out of here."""
    before = {name: os.environ.get(name) for name in {*PROPAGATION, *job.environ}}
    findings: list[Finding] = []
    context = context_of(job, log, asked_to_stop)
    try:
        for name in PROPAGATION:
            os.environ.pop(name, None)
        os.environ.update(job.environ)
        function = functions.resolve(job)
        frames, datasets = read_inputs(job, function)
        value = call(function, context, with_frames(job, frames))

        def resolve(reference: str) -> Callable[..., Any]:
            return functions.resolve(replace(job, function=reference))

        return finish(job, value, findings, resolve, datasets)
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001 - a task may fail in any way
        return answer_to(error, job, findings)
    finally:
        for name, old in before.items():
            if old is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = old
        if context.folder.is_dir():
            shutil.rmtree(context.folder, ignore_errors=True)


def with_frames(job: Job, frames: Mapping[str, Any]) -> Job:
    """Return the job with the tables of its inputs among its arguments."""
    return replace(job, args={**job.args, **frames}) if frames else job


def finish(
    job: Job, value: Any, findings: list[Finding], resolve: Resolve, read: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """Judge, publish and keep what was returned; return the job's answer. `resolve` finds functions of checks.

    `read` is what is told of the datasets that were read.
    """
    if job.target is not None or job.checks:
        value = computed(value)
    written = _publish(job, value, findings, resolve)
    output = keep(value, Path(job.values), _value_name(job))
    return {
        "output": output,
        "datasets": [*read, *written],
        "checks": told(findings, _judged_dataset(job)),
    }


def _print_error(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def answer_to(
    error: BaseException, job: Job, findings: list[Finding], tell: Callable[[str], None] = _print_error
) -> dict[str, Any]:
    """Return the answer that an exception stands for; `tell` gets the lines of a traceback where it helps the user."""
    match error:
        case TaskFailed():
            if error.__cause__ is not None and error.kind == "import":
                _tell_trace(error.__cause__, tell)
            return _failed(str(error), error.kind, error.retryable, error.retry_after, job, findings)
        case StaleWrite():
            return _failed(f"nothing was published: {error}", "fenced", False, None, job, findings)
        case TargetBusy():
            return _failed(f"nothing was published: {error}", "busy", True, None, job, findings)
        case TargetUnusable():
            return _failed(f"nothing was published: {error}", "output", error.retryable, None, job, findings)
        case ValueTrouble():
            return _failed(f"task {job.task!r}: {error}", "value", False, None, job, findings)
    _tell_trace(error, tell)
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return _failed(said, type(error).__name__, True, None, job, findings)


def context_of(job: Job, log: Callable[[str], None], asked_to_stop: Callable[[], bool]) -> Context:
    """Return what the function may know of its attempt."""
    return Context(
        run=job.run,
        task=job.task,
        attempt=job.attempt,
        pipeline=job.pipeline,
        key=job.key,
        trigger=job.trigger,
        partition=job.partition,
        params=job.params,
        event_uids=job.event_uids,
        given_events=job.events,
        environ=job.environ,
        headers=job.headers,
        deadline=None if job.deadline is None else datetime.fromtimestamp(job.deadline, UTC),
        base=Path(job.base),
        log=log,
        asked_to_stop=asked_to_stop,
        folder=Path(job.values, f"{_value_name(job)}.scratch"),
    )


def _value_name(job: Job) -> str:
    """Return a file name that people recognise and no other task run of the run shares."""
    unique = sha256(f"{job.task}\0{job.partition}".encode()).hexdigest()[:8]
    return f"{job.task[:80]}-{job.attempt}-{unique}"


def _publish(job: Job, value: Any, findings: list[Finding], resolve: Resolve) -> list[dict[str, Any]]:
    """Check the value and write it where the task's output goes; return what is told of the write, if there is one."""
    if job.target is None and not job.checks:
        return []
    frame = as_frame(value)
    if frame is None:
        what = f"output goes to {job.target}" if job.target else "checks are on"
        raise TaskFailed(
            f"the task's {what}, but it returned {type(value).__name__}; return a DataFrame", "output", retryable=False
        )
    specs = [from_plain(check) for check in job.checks]

    def judge(last: Last | None) -> None:
        around = Around(
            now=time_ns() // 1000,
            last=last,
            remembers=job.target is not None,
            resolve=resolve,
            base=Path(job.base),
            connections=job.connections,
        )
        findings[:] = evaluate(frame, specs, around)
        failed = failures(findings)
        if failed:
            raise TaskFailed(f"nothing was published: {failed}", "check_failed")

    if job.target is None:
        judge(None)
        return []
    return [publish(job, frame, judge)]


def _judged_dataset(job: Job) -> str:
    """Return the name of what the checks judged: the dataset, or the task whose value goes nowhere."""
    return job.task if job.target is None else parse_target(job.target, Path(job.base)).name


def _failed(
    message: str, kind: str, retryable: bool, retry_after: float | None, job: Job, findings: list[Finding]
) -> dict[str, Any]:
    return {
        "failed": message,
        "kind": kind,
        "retryable": retryable,
        "retry_after": retry_after,
        "checks": told(findings, _judged_dataset(job)),
    }


def _tell_trace(error: BaseException, tell: Callable[[str], None]) -> None:
    """Tell the traceback, without the frames of this worker above the user's function."""
    trace = error.__traceback__
    here = Path(__file__).parent
    while trace is not None and _ours(trace.tb_frame, here) and trace.tb_next is not None:
        trace = trace.tb_next
    for part in traceback.format_exception(type(error), error, trace):
        for line in part.rstrip("\n").split("\n"):
            tell(line)


def _ours(frame: FrameType, here: Path) -> bool:
    return Path(frame.f_code.co_filename).parent == here
