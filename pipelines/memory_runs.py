"""Runs in memory: the `RunStore` of unit tests and of the test kit; leases, fences and lanes as in the durable ones.

It is strict where a database is patient: a transition that `pipelines.run` does not list, and a step that names a task
run it does not know, are errors at once. Nothing here outlives the object; time is the injected clock's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pipelines.executor import EngineTraits, begin, plan_tasks
from pipelines.pipeline import PipelineDef, definition_hash, to_json
from pipelines.ports import Claimed, Renewal
from pipelines.run import (
    RUN_TRANSITIONS,
    TASK_TRANSITIONS,
    CheckResult,
    DatasetWrite,
    LogLine,
    Run,
    RunState,
    RunStep,
    TaskRun,
    TaskState,
)
from sensors.clock import SECOND, Clock
from sensors.uid import RUN, new_uid
from sensors.w3c import child_of, new_root


class MemoryRuns:
    """All runs of one imaginary database. `traits` says what `begin` must know of the engines."""

    def __init__(self, clock: Clock, traits: Mapping[str, EngineTraits]) -> None:
        self._clock = clock
        self._traits = traits
        self._definitions: dict[str, PipelineDef] = {}
        self._tasks: dict[str, dict[str, TaskRun]] = {}
        self._events: dict[str, Sequence[Any]] = {}
        self._open: dict[str, None] = {}  # uids of runs that are not final, in arrival order
        self.runs: dict[str, Run] = {}
        self.logs: list[LogLine] = []
        self.datasets: list[DatasetWrite] = []
        self.checks: list[CheckResult] = []
        self.steps: list[RunStep] = []

    def add(
        self,
        definition: PipelineDef,
        params: Mapping[str, Any] | None = None,
        *,
        key: str = "",
        lane: str | None = None,
        partition: str | None = None,
        events: Sequence[Any] = (),
        tasks: Callable[[str, Callable[[str], str]], Sequence[TaskRun]] | None = None,
    ) -> Run:
        """Queue a run. `tasks` may plan its task runs (for a resumed run) from the run's uid and a maker of uids."""
        now = self._clock.now()
        uid = new_uid(RUN, now)
        name = definition_hash(to_json(definition))
        self._definitions.setdefault(name, definition)
        run = Run(
            uid=uid,
            pipeline=definition.name,
            definition=name,
            state=RunState.QUEUED,
            key=key or uid,
            created_at=now,
            seq=len(self.runs),
            params=dict(params or {}),
            partition=partition,
            lane=lane,
            run_span=new_root(),
        )

        def make(prefix: str) -> str:
            return new_uid(prefix, now)

        planned = plan_tasks(definition, uid, make) if tasks is None else tasks(uid, make)
        self.runs[uid] = run
        self._tasks[uid] = {task.uid: task for task in planned}
        self._events[uid] = events
        self._open[uid] = None
        return run

    def tasks(self, run: str) -> Mapping[str, TaskRun]:
        """Return the task runs of a run by label: the task's name, for slices with the partition."""
        return {task.label: task for task in self._tasks[run].values()}

    def request_cancel(self, run: str, reason: str) -> RunState:
        """Ask a run to stop: a queued one is cancelled at once, a running one becomes `cancelling`."""
        found = self.runs[run]
        if found.state is RunState.QUEUED:
            now = self._clock.now()
            self._move(found, RunState.CANCELLED, cancel_reason=reason, finished_at=now)
            for uid, task in self._tasks[run].items():
                if not task.state.final:
                    self._tasks[run][uid] = replace(task, state=TaskState.CANCELLED, finished_at=now)
            del self._open[run]
        elif found.state is RunState.RUNNING:
            self._move(found, RunState.CANCELLING, cancel_reason=reason)
        return self.runs[run].state

    async def claim(self, holder: str, limit: int, lease: float, grace: float) -> Sequence[Claimed]:
        """Claim up to `limit` runs, oldest first."""
        now = self._clock.now()
        under_way: dict[str, int] = {}
        lanes: set[tuple[str, str]] = set()
        for uid in self._open:
            run = self.runs[uid]
            if run.state is not RunState.QUEUED:
                under_way[run.pipeline] = under_way.get(run.pipeline, 0) + 1
                if run.lane is not None:
                    lanes.add((run.pipeline, run.lane))
        claimed: list[Claimed] = []
        for uid in self._open:
            if len(claimed) >= limit:
                break
            run = self.runs[uid]
            definition = self._definitions[run.definition]
            taken_over = run.state is not RunState.QUEUED
            if taken_over:
                if run.lease_until is not None and run.lease_until + int(grace * SECOND) > now:
                    continue
            else:
                lane = (run.pipeline, run.lane or "")
                if under_way.get(run.pipeline, 0) >= definition.concurrency or (run.lane is not None and lane in lanes):
                    continue
                under_way[run.pipeline] = under_way.get(run.pipeline, 0) + 1
                if run.lane is not None:
                    lanes.add(lane)
            claimed.append(self._claim(run, definition, holder, now + int(lease * SECOND), taken_over=taken_over))
        return claimed

    async def renew(self, holder: str, runs: Sequence[str], lease: float) -> Renewal:
        """Extend leases."""
        until = self._clock.now() + int(lease * SECOND)
        lost, asked = [], {}
        for uid in runs:
            run = self.runs[uid]
            if run.holder != holder or run.state.final:
                lost.append(uid)
                continue
            self.runs[uid] = replace(run, lease_until=until)
            if run.state is RunState.CANCELLING:
                asked[uid] = run.cancel_reason or ""
        return Renewal(lost, asked)

    async def release(self, holder: str, runs: Sequence[str]) -> None:
        """Give up leases."""
        for uid in runs:
            run = self.runs[uid]
            if run.holder == holder and not run.state.final:
                self.runs[uid] = replace(run, holder=None, lease_until=None)

    async def advance(self, step: RunStep) -> bool:
        """Apply one step if its fence is still the run's."""
        run = self.runs[step.run]
        if run.fence != step.fence:
            return False
        if run.state.final:
            raise AssertionError(f"run {run.uid} is {run.state} and is advanced again: {step}")
        stored = self._tasks[run.uid]
        new = [task for task in step.tasks if task.partition and task.uid not in stored]
        known = {task.label for task in stored.values()} if new else set()
        for task in step.tasks:
            if task.uid in stored or not task.partition:
                check_transition(stored[task.uid], task)
            elif task.label in known:
                raise AssertionError(f"run {run.uid} has a slice {task.label} already")
            stored[task.uid] = task
        if step.state is not None:
            self._move(run, step.state, finished_at=step.at, error=step.error)
            if step.state.final:
                del self._open[run.uid]
        self.logs.extend(step.logs)
        self.datasets.extend(step.datasets)
        self.checks.extend(step.checks)
        self.steps.append(step)
        return True

    async def parameters(self, run: Run) -> Mapping[str, Any]:
        """Return the causing events."""
        return {"events": self._events[run.uid]}

    async def log(self, lines: Sequence[LogLine]) -> None:
        """Keep log lines."""
        self.logs.extend(lines)

    def _claim(self, run: Run, definition: PipelineDef, holder: str, until: int, *, taken_over: bool) -> Claimed:
        now = self._clock.now()
        state = RunState.RUNNING if run.state is RunState.QUEUED else run.state
        run = replace(
            run,
            state=state,
            holder=holder,
            lease_until=until,
            fence=run.fence + 1,
            started_at=now if run.started_at is None else run.started_at,
        )
        self.runs[run.uid] = run
        stored = self._tasks[run.uid]
        before = tuple(stored.values())
        for task in begin(definition, run, before, self._traits, now, taken_over=taken_over, mint_span=child_of):
            check_transition(stored[task.uid], task)
            stored[task.uid] = task
        return Claimed(run, tuple(stored.values()), definition, taken_over)

    def _move(self, run: Run, state: RunState, **changes: Any) -> None:
        if state is not run.state and state not in RUN_TRANSITIONS[run.state]:
            raise AssertionError(f"run {run.uid} cannot go from {run.state} to {state}")
        self.runs[run.uid] = replace(run, state=state, **changes)


def check_transition(old: TaskRun, new: TaskRun) -> None:
    """Raise AssertionError unless a task run may go from one to the other."""
    if old.state is new.state:
        if old.state.final and old != new:
            raise AssertionError(f"task run {old.uid} is {old.state} and changes: {old} -> {new}")
    elif new.state not in TASK_TRANSITIONS[old.state] and not _over_nothing(old, new):
        raise AssertionError(f"task run {old.uid} cannot go from {old.state} to {new.state}")
    if new.attempt < old.attempt or new.attempt > old.attempt + 1:
        raise AssertionError(f"task run {old.uid} jumps from attempt {old.attempt} to {new.attempt}")


def _over_nothing(old: TaskRun, new: TaskRun) -> bool:
    """Say whether a task fanned out over an empty list: then it has succeeded without ever running."""
    return (old.state, new.state) == (TaskState.PENDING, TaskState.SUCCEEDED) and (new.attempt, new.output) == (0, "[]")
