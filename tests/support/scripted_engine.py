"""An engine that does what a test says, and notes what it was asked."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from pipelines.ports import TaskContext, TaskResult
from pipelines.run import Run, RunState, TaskRun

Work = Callable[[TaskContext], Awaitable[TaskResult]]


async def succeed(context: TaskContext) -> TaskResult:
    """Succeed at once, handing on the task's name."""
    return TaskResult(output={"task": context.task.name})


@dataclass
class ScriptedEngine:
    """Does `work` in `poll`. What outlives a dispatcher, outlives it here: `started` maps keys to handles."""

    work: Work = succeed
    survives: bool = False
    dedupes: bool = False
    poll_every: float = 1.0
    on_start: Callable[[TaskContext], None] = lambda _context: None
    on_find: Callable[[TaskContext], None] = lambda _context: None
    contexts: list[TaskContext] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)
    started: dict[str, str] = field(default_factory=dict)
    under_way: set[str] = field(default_factory=set)

    async def open(self) -> None:
        """Nothing to make ready."""

    async def start(self, context: TaskContext) -> str:
        key = context.task_run.engine_key or ""
        self.asked.append(("start", key))
        self.contexts.append(context)
        self.on_start(context)
        self.started[key] = f"handle-{key}"
        return self.started[key]

    async def find(self, context: TaskContext) -> str | None:
        key = context.task_run.engine_key or ""
        self.asked.append(("find", key))
        self.on_find(context)
        return self.started.get(key)

    async def poll(self, context: TaskContext, handle: str) -> TaskResult | None:
        key = context.task_run.engine_key or ""
        self.asked.append(("poll", key))
        self.under_way.add(key)
        try:
            return await self.work(context)
        finally:
            self.under_way.discard(key)

    async def cancel(self, context: TaskContext, handle: str) -> None:
        self.asked.append(("cancel", context.task_run.engine_key or ""))

    async def close(self) -> None:
        """Nothing to stop."""

    def verbs(self) -> list[str]:
        """Return what was asked, without the keys."""
        return [verb for verb, _ in self.asked]


class Gate:
    """Work that waits until the test opens it; `waiting` counts who is inside."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self.waiting = 0

    async def __call__(self, context: TaskContext) -> TaskResult:
        self.waiting += 1
        try:
            await self._open.wait()
        finally:
            self.waiting -= 1
        return TaskResult(output={"task": context.task.name})

    def open(self) -> None:
        """Let all through."""
        self._open.set()


@dataclass
class NotingObserver:
    """Notes what it is told as (what, name, state)."""

    told: list[tuple[str, str, str]] = field(default_factory=list)

    def task_ended(self, run: Run, task: TaskRun) -> None:
        self.told.append(("task", task.task, str(task.state)))

    def run_ended(self, run: Run, state: RunState) -> None:
        self.told.append(("run", run.pipeline, str(state)))

    def run_started(self, run: Run) -> None:
        self.told.append(("started", run.pipeline, str(run.state)))
