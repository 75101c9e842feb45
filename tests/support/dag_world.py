"""A run of a drawn pipeline under the real dispatcher, disturbed: holders die, the store goes away, somebody cancels.

Every durable step is checked as it is written against what must always hold: no task starts before its needs allow, no
success is lost, no attempt does its work twice.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from pipelines.dispatcher import Dispatcher
from pipelines.errors import TaskFailed
from pipelines.hands import Doors
from pipelines.ports import Claimed, TaskContext, TaskResult
from pipelines.run import Run, RunState, RunStep, TaskRun, TaskState
from pipelines.task import TaskDef
from tests.support.dag_model import LISTED, PARAMS, Case
from tests.support.dispatching import Bench
from tests.support.manual_clock import settle
from tests.support.scripted_engine import ScriptedEngine

LIMITS = {"db": 2}
LEASE, GRACE = 9.0, 2.0
PATIENCE = 400  # looks at the run, each a few seconds after the other, within which it must have ended


@dataclass
class World:
    """One run and what was seen of it."""

    case: Case
    survives: bool = False
    pauses: Sequence[float] = (0.0,)
    effects: Counter[tuple[str, int]] = field(default_factory=Counter)
    starts: Counter[str] = field(default_factory=Counter)
    inside: int = 0
    most_inside: int = 0
    stored: dict[str, TaskRun] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.bench = Bench(engine=ScriptedEngine(work=self._work, survives=self.survives, on_start=self._effect))
        self.run: Run = self.bench.add(definition=self.case.definition, params=PARAMS)
        self.stored = dict(self.bench.store.tasks(self.run.uid))
        self._holders = 0
        self._seen = 0
        self.tasks = {task.name: task for task in self.case.definition.tasks}
        self._claim = self.bench.store.claim
        self.bench.store.claim = self._claimed  # type: ignore[method-assign]  # claims write start intentions as well

    async def _claimed(self, holder: str, limit: int, lease: float, grace: float) -> Sequence[Claimed]:
        """Claim, and check what the claim wrote, in its place among the steps."""
        self.check()
        found = await self._claim(holder, limit, lease, grace)
        for claimed in found:
            if claimed.run.uid == self.run.uid:
                changed = [task for task in claimed.tasks if task != self.stored.get(task.label)]
                self._check_step(RunStep(run=self.run.uid, fence=claimed.run.fence, at=0, tasks=changed))
        return found

    @property
    def state(self) -> RunState:
        return self.bench.state(self.run)

    def hire(self) -> None:
        """Start one more holder."""
        self._holders += 1
        doors = Doors(random=lambda: 1.0, pools=lambda: LIMITS)
        self.bench.dispatcher(f"h{self._holders}", doors=doors, lease=LEASE, grace=GRACE)

    async def go_on(self, seconds: float) -> None:
        """Let time pass, and check what was written meanwhile."""
        await self.bench.clock.advance(seconds)
        self.check()

    async def to_the_end(self) -> None:
        """Let time pass until the run has ended."""
        self.bench.store.away = False
        for _ in range(PATIENCE):
            if self.state.final:
                break
            await self.go_on(3.0)
        await settle(5)
        self.check()
        assert self.state.final, {label: str(task.state) for label, task in self.stored.items()}

    async def close(self) -> None:
        for dispatcher in self.bench.made:
            await dispatcher.stop(patience=0)

    async def _work(self, context: TaskContext) -> TaskResult:
        task_run = context.task_run
        self.inside += 1
        pooled = bool(context.task.pools)
        try:
            if pooled:
                self.most_inside = max(self.most_inside, self._pooled(+1))
            await self.bench.clock.sleep(self.pauses[(len(self.effects) * 7) % len(self.pauses)])
        finally:
            self.inside -= 1
            if pooled:
                self._pooled(-1)
        if not self.case.fates[task_run.label][task_run.failures]:
            raise TaskFailed("drawn")
        return TaskResult(output=LISTED if not task_run.partition else context.item)

    def _pooled(self, by: int) -> int:
        self.starts["pooled"] += by
        return self.starts["pooled"]

    def _effect(self, context: TaskContext) -> None:
        self.effects[context.task_run.label, context.task_run.attempt] += 1

    # -- what must always hold --------------------------------------------------------------------------------------
    def check(self) -> None:
        """Check the steps that were written since the last look, in their order, then what the store shows."""
        steps = self.bench.store.steps[self._seen :]
        self._seen += len(steps)
        for step in steps:
            self._check_step(step)
        for label, task in self.bench.store.tasks(self.run.uid).items():
            old = self.stored.get(label)
            assert old is None or old.state is not TaskState.SUCCEEDED or task == old, f"the success of {label} is lost"
            self.stored[label] = task
        assert all(count == 1 for count in self.effects.values()), self.effects
        assert self.most_inside <= LIMITS["db"] or self._holders > 1

    def _check_step(self, step: RunStep) -> None:
        after = {**self.stored, **{task.label: task for task in step.tasks}}
        for task in step.tasks:
            old = self.stored.get(task.label)
            assert old is None or old.state is not TaskState.SUCCEEDED, f"{task.label} succeeded and changes"
            if task.state is TaskState.RUNNING and (old is None or old.attempt < task.attempt):
                self._check_start(task, after)
        self.stored = after

    def _check_start(self, task: TaskRun, tasks: dict[str, TaskRun]) -> None:
        definition = self.tasks[task.task]
        assert definition.when != "params.no", f"{task.label} runs though its condition is false"
        needs = [need for need in definition.needs if need != definition.per or f"{need}[" not in str(list(tasks))]
        assert _allowed(definition, [tasks[need].state for need in needs]), f"{task.label} started too early"
        if definition.per is not None and task.partition:
            assert tasks[f"{definition.per}[{task.partition}]"].state is TaskState.SUCCEEDED
        if definition.max_parallel is not None:
            running = [one for one in tasks.values() if one.task == task.task and one.partition]
            count = sum(one.state is TaskState.RUNNING for one in running)
            assert count <= definition.max_parallel, f"{count} slices of {task.task} run at once"


def _allowed(task: TaskDef, states: Sequence[TaskState]) -> bool:
    if task.upstream == "all_done":
        return all(state.final for state in states)
    succeeded = sum(state is TaskState.SUCCEEDED for state in states)
    if not states:
        return True
    return succeeded >= {"any_success": 1, "2_of": 2}.get(task.upstream, len(states))


async def disturb(world: World, doings: Sequence[str]) -> None:
    """Let things happen, one every two seconds: `time`, `kill`, `second` (holder), `away`, `back`."""
    if not world.bench.made:
        world.hire()
    for doing in doings:
        if doing == "kill":
            kill(world.bench.made[-1])
            world.hire()
        elif doing == "second":
            world.hire()
        elif doing in ("away", "back"):
            world.bench.store.away = doing == "away"
        await world.go_on(2.0)


def kill(dispatcher: Dispatcher) -> None:
    """End a holder as `kill -9` does: nothing of it runs any more, nothing is told to anybody."""
    for loop in dispatcher._loops:
        loop.cancel()
    for driver in [*dispatcher._active.values(), *dispatcher._going]:
        for thread in driver._threads:
            thread.cancel()
