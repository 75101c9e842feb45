"""Contexts of task attempts and settings of engines, as tests of engines need them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipelines.kind import EngineSettings
from pipelines.ports import TaskContext
from pipelines.run import Run, RunState, TaskRun, TaskState
from pipelines.task import TaskDef
from sensors.clock import SystemClock

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03"


def _drop(stream: str, text: str) -> None:
    """Keep no log."""


def make_settings(folder: Path, *, workers: int = 1, allow: tuple[str, ...] = ("127.0.0.0/8",)) -> EngineSettings:
    """Build settings whose state lies in `folder`/state and whose base is `folder`."""
    return EngineSettings(
        clock=SystemClock(),
        service="test",
        state=folder / "state",
        base=folder,
        network_allow=allow,
        workers=workers,
    )


def make_context(
    engine: str,
    options: Mapping[str, Any],
    *,
    params: Mapping[str, Any] | None = None,
    upstream: Mapping[str, Any] | None = None,
    log: Callable[[str, str], None] = _drop,
    task: str = "work",
    run: str = "run_01",
    fence: int = 1,
    attempt: int = 1,
    seconds: float = 30.0,
    held: Callable[[], bool] = lambda: True,
) -> TaskContext:
    """Build the context of one attempt that must end `seconds` from now."""
    return TaskContext(
        run=Run(
            uid=run,
            pipeline="p",
            definition="d",
            state=RunState.RUNNING,
            key="k",
            created_at=1_000_000,
            fence=fence,
            partition="2026-01-01",
        ),
        task=TaskDef(name=task, engine=engine, options=options),
        task_run=TaskRun(
            uid=f"tsk_{run}_{task}",
            run=run,
            task=task,
            state=TaskState.RUNNING,
            attempt=attempt,
            engine=engine,
            engine_key=f"key-{run}-{task}-{attempt}",
            partition="2026-01-01",
        ),
        options=options,
        params=params or {},
        upstream=upstream or {},
        environ={"TRACEPARENT": TRACEPARENT},
        headers={"traceparent": TRACEPARENT},
        log=log,
        deadline=SystemClock().monotonic() + seconds,
        held=held,
    )
