"""The `python` engine: a task is a Python function, called in a warm worker process.

In flow arguments by the names of the function's parameters: tasks that it needs, parameters of the run, `args` of the
task; out flows what it returned, as JSON or as a handle to a file that the next function gets back as a DataFrame. With
`output`, a returned DataFrame is checked and then published as a dataset. See `pipelines.workers.pool` for what a
function may do to the service (nothing) and `pipelines.workers.job` for the order of checks, publication and value.
"""

import asyncio
import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipelines.datasets.values import values_folder
from pipelines.errors import TaskFailed
from pipelines.kind import EngineKind, EngineSettings
from pipelines.ports import TaskContext, TaskResult
from pipelines.workers.frames import Job
from pipelines.workers.function_task import FunctionOptions, make_job, read_answer, read_options, time_left
from pipelines.workers.pool import Outcome, WorkerLimits, WorkerPool

if TYPE_CHECKING:
    from pipelines.workers.in_loop import LoopCalls


_KNOWN_OPTIONS = 4096


class PythonOptions(FunctionOptions):
    """A function task in a warm worker of this service. `in_loop`: in its own loop instead, for an `async def`."""

    in_loop: bool = False


class PythonEngine:
    """Runs functions in the workers of one pool, which starts with the first task."""

    survives = False
    dedupes = False
    poll_every = 1.0

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._pool: WorkerPool | None = None
        self._calls: LoopCalls | None = None
        self._jobs: dict[str, asyncio.Task[Outcome]] = {}
        self._numbers = itertools.count(1)
        self._read: dict[int, tuple[Mapping[str, Any], PythonOptions]] = {}

    async def open(self) -> None:
        return

    async def start(self, context: TaskContext) -> str:
        settings = self._settings
        options = self._options(context)
        handle = str(next(self._numbers))
        job, left = make_job(context, options, settings), time_left(context, settings.clock)
        if options.in_loop:
            if context.task.inputs:
                raise TaskFailed(
                    f"task {context.task.name!r} has `in_loop`, for tasks that only wait, and `inputs`; take one out",
                    "bad_options",
                    retryable=False,
                )
            if self._calls is None:
                from pipelines.workers.in_loop import LoopCalls  # with all that workers import, for this case alone
                from pipelines.workers.loop_watch import LoopWatch

                self._calls = LoopCalls(LoopWatch())
            run = self._calls.run(job, context.log, left)
        else:
            run = self._workers().run(job, context.log, left, options.memory or settings.task_memory)
        self._jobs[handle] = asyncio.get_running_loop().create_task(run)
        return handle

    def _options(self, context: TaskContext) -> PythonOptions:
        """Return the options of a task; those that hold no expressions are the same object in every run."""
        known = self._read.get(id(context.options))
        if known is not None and known[0] is context.options:
            return known[1]
        options: PythonOptions = read_options(PythonOptions, context, self._settings.base)
        if len(self._read) >= _KNOWN_OPTIONS:
            self._read.clear()
        self._read[id(context.options)] = (context.options, options)
        return options

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
        return read_answer(outcome, context.task_run.task, self._settings.clock.now())

    async def cancel(self, context: TaskContext, handle: str) -> None:
        job = self._jobs.pop(handle, None)
        if job is not None:
            job.cancel()
            await asyncio.wait([job])

    async def call(self, function: str, args: Mapping[str, Any], seconds: float) -> Any:
        """Call a function of ours in a worker, outside of any run, and return its JSON value. Raises TaskFailed."""
        state = self._settings.state.absolute()
        job = Job(
            function=function,
            base=str(self._settings.base.absolute()),
            args=args,
            run="",
            fence=0,
            task=function,
            partition="",
            attempt=0,
            values=str(values_folder(state, "own")),
        )
        outcome = await self._workers().run(job, _unheard, seconds)
        return read_answer(outcome, function, self._settings.clock.now()).output

    def _workers(self) -> WorkerPool:
        """Return the pool, which starts with the first task."""
        if self._pool is None:
            settings = self._settings
            limits = WorkerLimits(settings.tasks_per_worker, settings.worker_memory)
            self._pool = WorkerPool(settings.workers, settings.base, limits)
        return self._pool

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
        calls, self._calls = self._calls, None
        if calls is not None:
            await calls.close()


def _unheard(_stream: str, _text: str) -> None:
    """Drop a line of a call that belongs to no run."""


KIND = EngineKind(
    name="python",
    help="Calls a Python function in a warm worker process; a returned DataFrame can be checked and published.",
    options=PythonOptions,
    build=PythonEngine,
    example="clean: {engine: python, function: 'shop.orders:clean', output: 'duckdb://shop.duckdb/main.orders'}",
)
