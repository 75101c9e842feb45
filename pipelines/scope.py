"""What a task's `${{ … }}` can see: `params`, `partition`, `run`, `events`, `tasks.NAME.output`. Pure."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from pipelines.run import Run, TaskRun, TaskState
from sensors.clock import SECOND


def task_scope(
    run: Run, params: Mapping[str, Any], events: Sequence[Any], tasks: Mapping[str, TaskRun], above: Sequence[str]
) -> dict[str, Any]:
    """Return the scope of one task. `tasks` shows only those `above` it: the others' progress is a matter of luck."""
    return {
        "params": dict(params),
        "partition": run.partition or "",
        "run": {
            "uid": run.uid,
            "pipeline": run.pipeline,
            "key": run.key,
            "generation": run.generation,
            "partition": run.partition or "",
            "lane": run.lane or "",
            "trigger": run.trigger or "",
            "created_at": datetime.fromtimestamp(run.created_at / SECOND, UTC).isoformat().replace("+00:00", "Z"),
        },
        "events": list(events),
        "tasks": {
            name: {"output": decode_output(tasks[name]), "state": str(tasks[name].state)}
            for name in above
            if name in tasks
        },
    }


def decode_output(task_run: TaskRun) -> Any:
    """Return what a task handed on, None unless it succeeded."""
    if task_run.state is not TaskState.SUCCEEDED or task_run.output is None:
        return None
    return orjson.loads(task_run.output)
