"""What a program is told of the attempt that it works for, as variables: the same on every engine. Pure."""

from collections.abc import Mapping
from typing import Final

from pipelines.ports import TaskContext

TRACE: Final = frozenset({"TRACEPARENT", "TRACESTATE", "BAGGAGE"})  # of an outer trace, stale below us


def with_attempt(environment: Mapping[str, str], context: TaskContext) -> dict[str, str]:
    """Return an environment without an outer trace's variables, with who it works for and the context's own."""
    task_run = context.task_run
    return {
        **{name: value for name, value in environment.items() if name not in TRACE},
        "TIDEGATE_RUN": context.run.uid,
        "TIDEGATE_TASK": task_run.task,
        "TIDEGATE_ATTEMPT": str(task_run.attempt),
        "TIDEGATE_KEY": task_run.engine_key or "",
        **context.environ,
    }
