"""An engine that calls Python tasks in this process, as the workers do: for unit tests, and for debuggers.

In flow the same jobs, out flow the same results: arguments, checks, published data and values that can be handed on are
judged by the code that workers run. A function is called in the thread of the loop, so that breakpoints stop where one
looks; hence one at a time, and no timeout. What it prints is in the run's log, and on the standard output as well.
"""

import contextlib
import importlib
import inspect
import io
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pipelines.authoring import Task
from pipelines.checks.finding import Finding
from pipelines.datasets.target import parse_target
from pipelines.datasets.values import as_frame, computed
from pipelines.datasets.written import schema_of
from pipelines.errors import TaskFailed
from pipelines.kind import EngineSettings
from pipelines.ports import TaskContext, TaskResult
from pipelines.workers.calling import bound
from pipelines.workers.frames import Job
from pipelines.workers.function_task import FunctionOptions, make_job, read_answer, read_options
from pipelines.workers.functions import Functions
from pipelines.workers.job import answer_to, context_of, finish
from pipelines.workers.pool import Outcome
from pipelines.workers.publishing import read_inputs


class InlineOptions(FunctionOptions):
    """Options of the engines whose tasks are called here: those of `python`."""

    in_loop: bool = False


@dataclass(frozen=True, slots=True)
class Stub:
    """What a task is taken to return (or, for an exception, to raise) without being called."""

    value: Any


class InlineEngine:
    """Calls functions here. Without `publish`, outputs are checked and told of, and nothing is written outside."""

    survives = False
    dedupes = False
    poll_every = 0.01

    def __init__(
        self, settings: EngineSettings, stubs: Mapping[str, Stub], inputs: Mapping[str, Any], *, publish: bool
    ) -> None:
        """`inputs` are frames by what tasks call the datasets that they read; others are read, where `publish`."""
        self._settings = settings
        self._stubs = stubs
        self._inputs = inputs
        self._publish = publish
        self.values: dict[str, Any] = {}
        self.errors: dict[str, BaseException] = {}

    async def open(self) -> None:
        """Nothing to make ready."""

    async def start(self, context: TaskContext) -> str:
        """Return a handle; the work is done by `poll`."""
        return context.task_run.uid

    async def find(self, context: TaskContext) -> str | None:
        """Find nothing: what was under way is gone."""
        return None

    async def poll(self, context: TaskContext, handle: str) -> TaskResult | None:
        """Call the function, or take its stub, and return what a worker would return."""
        stub = self._stubs.get(context.task.name)
        options = read_options(InlineOptions, replace(context, options=_known(context.options)), self._settings.base)
        output = options.output
        if stub is not None or not self._publish or (output is not None and "://" not in output):
            options = options.model_copy(update={"output": None})
        given = {name: self._inputs[place] for name, place in context.task.inputs.items() if place in self._inputs}
        rest = {} if stub is not None else {n: p for n, p in context.task.inputs.items() if n not in given}
        if rest and not self._publish:
            name = next(iter(rest.values()))
            raise TaskFailed(
                f"task {context.task.name!r} reads {name!r}, which the test does not give; "
                f"run(…, inputs={{{name!r}: frame}})",
                "input",
                retryable=False,
            )
        job = make_job(replace(context, task=replace(context.task, inputs=rest)), options, self._settings)
        job = replace(job, args={**job.args, **given}) if stub is None else replace(job, checks=())
        findings: list[Finding] = []
        try:
            value = await self._value(job, context, stub)
            self.values[context.task_run.label] = value
            answer = finish(job, value, findings, Functions(first=False))
            if output is not None and job.target is None and stub is None:
                answer["datasets"] = [self._would_write(output, value, job)]
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a task may fail in any way
            self.errors[context.task_run.label] = error
            answer = answer_to(error, job, findings, lambda line: context.log("stderr", line))
        return read_answer(Outcome(answer, None, None), context.task_run.task, self._settings.clock.now())

    async def cancel(self, context: TaskContext, handle: str) -> None:
        """Nothing runs that could be stopped."""

    async def close(self) -> None:
        """Nothing to stop."""

    async def _value(self, job: Job, context: TaskContext, stub: Stub | None) -> Any:
        if stub is not None:
            if isinstance(stub.value, BaseException):
                raise stub.value
            return stub.value
        function = find_function(job.function)
        frames, _ = read_inputs(job, function)
        job = replace(job, args={**job.args, **frames})
        known = context_of(job, lambda text: context.log("log", str(text)), lambda: False)
        positional, named = bound(function, known, job)
        with _printed(context.log):
            value = function(*positional, **named)
            if inspect.isawaitable(value):
                value = await value
        return computed(value) if job.checks else value

    def _would_write(self, uri: str, value: Any, job: Job) -> dict[str, Any]:
        frame = as_frame(value)
        if frame is None:
            raise TaskFailed(
                f"the task's output goes to {uri}, but it returned {type(value).__name__}; return a DataFrame",
                "output",
                retryable=False,
            )
        told = {"rows": frame.height, "schema": schema_of(frame)}
        if "://" not in uri:  # an entry of `datasets`: what it stands for is the configuration's business
            return {"namespace": "", "name": uri, **told}
        target = parse_target(uri, self._settings.base)
        return {"namespace": target.namespace, "name": target.name, **told}


def find_function(reference: str) -> Callable[..., Any]:
    """Import here and return the function that `module:name` names."""
    module, _, qualname = reference.partition(":")
    found: Any = importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    if isinstance(found, Task):
        found = found.function
    if not callable(found):
        raise TaskFailed(f"{reference} is no function", "definition", retryable=False)
    return found  # type: ignore[no-any-return]  # a callable, as checked


def _known(options: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what only says where a task runs."""
    return {name: value for name, value in options.items() if name in InlineOptions.model_fields}


class _Printed(io.TextIOBase):
    """A standard file whose lines go to a log as well."""

    def __init__(self, file: Any, line: Callable[[str], None]) -> None:
        self._file = file
        self._line = line
        self._rest = ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._line(line)
        self._file.write(text)
        return len(text)

    def flush(self) -> None:
        self._file.flush()

    def end(self) -> None:
        if self._rest:
            self._line(self._rest)
            self._rest = ""


@contextlib.contextmanager
def _printed(log: Callable[[str, str], None]) -> Iterator[None]:
    """Copy what is printed meanwhile to the log."""
    out = _Printed(sys.stdout, lambda line: log("stdout", line))
    err = _Printed(sys.stderr, lambda line: log("stderr", line))
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            yield
    finally:
        out.end()
        err.end()
