"""What an attempt may know: parameters, events, outputs above it, its partition; and the scopes of its expressions.

In flow a run and its task runs, out flow `TaskContext`s for engines and decisions about conditions. What all slices of
a task share is made once. A slice is not handed the very list that it was cut from again, when that list is large: ten
thousand slices would carry ten thousand lists.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from pipelines.errors import ParameterError, TaskFailed
from pipelines.fanout import Slices, slices_of
from pipelines.hands import Hands, ReadyDefinition, ReadyTask
from pipelines.logbook import AttemptLog
from pipelines.params import check_params
from pipelines.ports import TaskContext
from pipelines.run import Run, TaskRun
from pipelines.scope import decode_output, task_scope
from pipelines.task import TaskDef
from sensors.clock import SECOND
from sensors.ports import Unavailable

LARGE = 16_384  # bytes of an upstream output from which on it is not handed to every slice that was made of it


@dataclass(frozen=True, slots=True)
class Decision:
    """What the conditions of a task say: why it is skipped, or what it fans out into (None: it does not)."""

    skip: str = ""
    slices: Slices | None = None


class Contexts:
    """Makes the contexts of one run's attempts. `tasks` gives its task runs by label, as they stand at each moment."""

    def __init__(self, hands: Hands, ready: ReadyDefinition, tasks: Callable[[], Mapping[str, TaskRun]]) -> None:
        self._tasks = tasks
        self._hands = hands
        self._ready = ready
        self._params: Mapping[str, Any] | None = None
        self._events: Sequence[Any] | None = None
        self._scopes: dict[str, Mapping[str, Any]] = {}
        self._outputs: dict[str, Mapping[str, Any]] = {}

    async def context(self, run: Run, task_run: TaskRun, log: AttemptLog, **more: Any) -> TaskContext:
        """Gather all that the engine may know; raise TaskFailed where it cannot be made."""
        hands, ready = self._hands, self._ready.tasks[task_run.task]
        params = self._checked_params(run)
        item = None if task_run.item is None else orjson.loads(task_run.item)
        options: Mapping[str, Any] = ready.task.options
        if ready.render is not None:
            scope = await self._scope(run, ready, task_run, item)
            try:
                options = ready.render(scope)
            except Exception as error:
                said = f"the options of task {task_run.label} cannot be evaluated: {error}"
                raise TaskFailed(said, "expression", retryable=False) from error
        environ, headers = hands.doors.propagate(run, task_run)
        return TaskContext(
            run=run,
            task=ready.task,
            task_run=task_run,
            options=options,
            params=params,
            upstream=self._upstream(ready.task, task_run),
            environ=environ,
            headers=headers,
            log=log.add,
            item=item,
            **more,
        )

    async def decide(self, run: Run, name: str) -> Decision:
        """Evaluate `when`, then `partitions`. Raises TaskFailed where that cannot be done."""
        ready = self._ready.tasks[name]
        scope = None
        if ready.when is not None:
            scope = await self._scope(run, ready, self._tasks()[name], None)
            try:
                holds = ready.when(scope)
            except Exception as error:
                said = f"`when` of task {name} cannot be evaluated: {error}"
                raise TaskFailed(said, "expression", retryable=False) from error
            if holds is False:
                return Decision(skip=f"skipped: `when` is false: {ready.task.when}")
            if holds is not True:
                said = f"`when` of task {name} is neither true nor false but {holds!r}"
                raise TaskFailed(said, "expression", retryable=False)
        if not ready.task.fans_out:
            return Decision()
        if ready.task.per is not None:
            return Decision(slices=())
        value = ready.task.partitions
        if ready.partitions is not None:
            scope = scope or await self._scope(run, ready, self._tasks()[name], None)
            try:
                value = ready.partitions(scope)
            except Exception as error:
                said = f"`partitions` of task {name} cannot be evaluated: {error}"
                raise TaskFailed(said, "expression", retryable=False) from error
        return Decision(slices=slices_of(value))

    async def _scope(self, run: Run, ready: ReadyTask, task_run: TaskRun, item: Any) -> Mapping[str, Any]:
        """Return what the expressions of a task may see."""
        name = ready.task.name
        scope = self._scopes.get(name) if task_run.partition else None
        if scope is None:
            events = await self._causing_events(run) if ready.wants_events else ()
            scope = {**task_scope(run, self._checked_params(run), events, self._tasks(), ready.above), "item": None}
            if task_run.partition:
                self._scopes[name] = scope
        if not task_run.partition:
            return scope
        scope = {**scope, "partition": task_run.partition, "item": item}
        if ready.task.per is not None:
            above = self._tasks()[f"{ready.task.per}[{task_run.partition}]"]
            seen = {"output": decode_output(above), "state": str(above.state)}
            scope["tasks"] = {**scope["tasks"], ready.task.per: seen}
        return scope

    def _upstream(self, task: TaskDef, task_run: TaskRun) -> Mapping[str, Any]:
        """Return the outputs of the tasks that `task` needs; None for one that did not succeed (or left nothing)."""
        if not task_run.partition:
            return {need: decode_output(self._tasks()[need]) for need in task.needs}
        found = self._outputs.get(task.name)
        if found is None:
            left_out = [need for need in task.needs if self._cut_from(task, need)]
            needs = [need for need in task.needs if need not in left_out and need != task.per]
            found = self._outputs[task.name] = {need: decode_output(self._tasks()[need]) for need in needs}
        if task.per is None:
            return found
        return {**found, task.per: decode_output(self._tasks()[f"{task.per}[{task_run.partition}]"])}

    def _cut_from(self, task: TaskDef, need: str) -> bool:
        """Say whether the slices of a task were made of the large output of this need."""
        text = self._tasks()[need].output
        if text is None or len(text) <= LARGE or not isinstance(task.partitions, str):
            return False
        return re.search(rf"\btasks\.{re.escape(need)}\b", task.partitions) is not None

    def _checked_params(self, run: Run) -> Mapping[str, Any]:
        if self._params is None:
            try:
                self._params = check_params(self._ready.definition.params, run.params)
            except ParameterError as error:
                raise TaskFailed(str(error), "parameters", retryable=False) from error
        return self._params

    async def _causing_events(self, run: Run) -> Sequence[Any]:
        while self._events is None:
            try:
                self._events = (await self._hands.store.parameters(run)).get("events", ())
            except Unavailable as error:
                await self._hands.clock.sleep(error.retry_after)
        return self._events


def time_left(task: TaskDef, task_run: TaskRun, now: int) -> tuple[float, str]:
    """Return the seconds that an attempt has at a moment, and which of its task's bounds that is."""
    left = task.timeout - max(0.0, (now - (task_run.started_at or now)) / SECOND)
    if task.timeout_all is not None:
        whole = task.timeout_all - (now - (task_run.first_started_at or task_run.started_at or now)) / SECOND
        if whole < left:
            return whole, f"stopped: its timeout_all of {task.timeout_all:g} s is over"
    return left, f"stopped after its timeout of {task.timeout:g} s"
