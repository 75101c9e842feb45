"""Functions that are called in the service's own loop, because their tasks say so: many waits, no process for each.

In flow jobs whose function is an `async def`, out flow outcomes. Such a function shares the service's process: it must
await whatever takes time. It gets its timeout and its cancellation as any other; what it prints goes to the service's
output, `context.log` to the run. Modules are imported in a thread, after the service's own; a run keeps the version it
began with here too. While one runs, a watch looks whether the loop still turns, and names the line that holds it up.
"""

import asyncio
import inspect
import logging
from pathlib import Path
from typing import Any

from pipelines.checks.finding import Finding
from pipelines.errors import TaskFailed, TaskTimedOut
from pipelines.workers.calling import bound
from pipelines.workers.frames import Job
from pipelines.workers.functions import Functions, folders_of
from pipelines.workers.job import answer_to, context_of, finish
from pipelines.workers.loop_watch import LoopWatch
from pipelines.workers.pool import Log, Outcome

logger = logging.getLogger(__name__)
_STOP_WITHIN = 4.0


class LoopCalls:
    """Calls functions in the running loop. `watch` tells of what holds the loop up."""

    def __init__(self, watch: LoopWatch) -> None:
        self._functions = Functions(first=False)
        self._importing = asyncio.Lock()
        self._watch = watch

    async def run(self, job: Job, log: Log, seconds: float | None) -> Outcome:
        """Run one job within `seconds` (None: for ever). Raises TaskTimedOut; cancelling cancels the function."""
        findings: list[Finding] = []
        stopping = asyncio.Event()
        try:
            async with self._importing:
                function = await asyncio.to_thread(self._resolve, job)
            if not inspect.iscoroutinefunction(function):
                raise TaskFailed(
                    f"{job.function!r} is to run in the service's loop, but is no `async def`; leave out `in_loop`",
                    "bad_options",
                    retryable=False,
                )
            context = context_of(job, lambda text: log("log", str(text)), stopping.is_set)
            positional, named = await asyncio.to_thread(bound, function, context, job)
            value = await self._call(function(*positional, **named), job, log, seconds, stopping)
            answer = await asyncio.to_thread(finish, job, value, findings, self._functions)
        except (asyncio.CancelledError, TaskTimedOut):
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a task may fail in any way
            answer = answer_to(error, job, findings, lambda line: log("stderr", line))
        return Outcome(answer, None, None)

    async def close(self) -> None:
        """Forget what was imported."""
        async with self._importing:
            self._functions.close()

    async def _call(self, work: Any, job: Job, log: Log, seconds: float | None, stopping: asyncio.Event) -> Any:
        """Await the function, watched; stop it when its time is up or when it is cancelled."""
        task = asyncio.get_running_loop().create_task(work, name=f"{job.run}/{job.task}")
        with self._watch.over(task, log):
            try:
                async with asyncio.timeout(seconds):
                    return await asyncio.shield(task)
            except TimeoutError:
                if task.done():
                    return task.result()  # the function's own TimeoutError, or a result at the last moment
                await _stop(task, stopping, log)
                raise TaskTimedOut("the task took longer than its timeout and was stopped") from None
            except asyncio.CancelledError:
                if task.cancelled():
                    raise TaskFailed("the function cancelled itself", "cancelled") from None
                await _stop(task, stopping, log)
                raise

    def _resolve(self, job: Job) -> Any:
        if not self._functions.fit(job):
            self._functions.forget()
            self._functions.fit(job)
        function = self._functions.resolve(job)
        _refuse_namesakes(job, function)
        return function


async def _stop(task: "asyncio.Task[Any]", stopping: asyncio.Event, log: Log) -> None:
    """Cancel a function; one that goes on all the same cannot be killed, and is told of."""
    stopping.set()
    task.cancel()
    await asyncio.wait([task], timeout=_STOP_WITHIN)
    if not task.done():
        said = f"the function goes on {_STOP_WITHIN:g} s after it was cancelled, in the service's loop; let it end"
        log("engine", said)
        logger.error("task %s: %s", task.get_name(), said, extra={"action": "task_ignores_cancel"})
    elif not task.cancelled():
        task.exception()  # looked at: it was stopped, what it says now does not matter


def _refuse_namesakes(job: Job, function: Any) -> None:
    """Refuse a module whose name means another one in this process: what would run is not what the user wrote."""
    name = job.function.rpartition(":")[0]
    if name.endswith(".py"):
        return
    top = name.partition(".")[0]
    file = Path(inspect.getsourcefile(function) or "")
    for folder in map(Path, folders_of(job)):
        if (folder / f"{top}.py").exists() or (folder / top).is_dir():
            if not file.is_relative_to(folder):
                raise TaskFailed(
                    f"module {top!r} in {folder} cannot be had in the service's process, where that name is taken "
                    f"({file}); rename it, or leave out `in_loop`",
                    "import",
                    retryable=False,
                )
            return
