"""The board: one run as it stands, stepped from what happened to everything that follows from it. No input, no output.

A board is set up once from a run's task runs and then told what happened (`settle`, `decide`, `expand`, `restart`);
`advance` lets needs decide, ends what will not start any more, starts what may, ends the run when nothing is left, and
gives the step to write. What a step costs depends on what it changes, not on how many task runs there are. When a step
could not be written, `undone` gives a board as it stood before.
"""

from collections import deque
from collections.abc import Callable, Sequence

from pipelines import fanout, upstream
from pipelines.endings import cancelled, closed, conclusion, ended, stopped
from pipelines.run import Run, RunState, TaskRun, TaskState, evolve
from pipelines.shape import Shape
from pipelines.start_queue import StartQueue
from pipelines.step import Advance, MintSpan, begun
from pipelines.task import TaskDef
from pipelines.upstream import Met, Needs

_NOT_STARTED = frozenset({TaskState.PENDING, TaskState.READY})

Take = Callable[[TaskDef, str], bool]


class Board:
    """One run's task runs by label. `uid` makes uids of slices, `take` claims room in a task's pools.

    Without `take`, tasks that have pools do not start here.
    """

    __slots__ = (
        "_fans", "_gates", "_needs", "_new", "_open", "_running", "_stop", "_stop_late", "_swept", "_take",
        "_todo", "at", "changed", "expired", "held", "mint_span", "queue", "run", "shape", "starts", "tasks", "undo",
    )  # fmt: skip

    def __init__(
        self, shape: Shape, run: Run, tasks: Sequence[TaskRun], mint_span: MintSpan, take: Take | None = None
    ) -> None:
        self.shape = shape
        self.run = run
        self.mint_span = mint_span
        self.at = 0
        self.tasks: dict[str, TaskRun] = {}
        self.expired = ""  # why the run's time is up
        self._take = take
        self._needs = {task.name: Needs(len(task.needs)) for task in shape.order}
        self._fans: dict[str, fanout.Fan] = {}
        self._gates: dict[str, None] = {}  # tasks that may start as far as needs go, and whose conditions are open
        self.queue = StartQueue(shape.index.__getitem__)
        self._open = self._running = 0
        self._stop: int | None = None  # the place of the first task that failed and had to succeed
        self._stop_late: int | None = None  # the same of tasks that never started because of others
        self._swept = ""  # what the rest was ended for
        self._new = True  # nobody has looked yet whose needs are met
        self._todo: deque[str] = deque()
        self._begin()
        for task in tasks:
            self._enter(task)

    def _begin(self) -> None:
        """Forget the last step."""
        self.changed: dict[str, TaskRun] = {}
        self.undo: dict[str, TaskRun | None] = {}
        self.starts: list[str] = []
        self.held: set[str] = set()

    def step(self, at: int) -> None:
        """Begin a new step at a moment."""
        self.at = at
        self._begin()

    def undone(self) -> "Board":
        """Return a board as this one was before the step."""
        tasks = {**self.tasks, **{label: old for label, old in self.undo.items() if old is not None}}
        for label, old in self.undo.items():
            if old is None:
                del tasks[label]
        board = Board(self.shape, self.run, list(tasks.values()), self.mint_span, self._take)
        board.expired = self.expired
        return board

    # -- bookkeeping --------------------------------------------------------------------------------------------------
    def _enter(self, task_run: TaskRun) -> None:
        """Count a task run that is stored."""
        label = task_run.label
        self.tasks[label] = task_run
        if task_run.partition:
            self._fan(task_run.task).labels.append(label)
        self._count(task_run, None)
        if task_run.state is TaskState.READY:
            self.queue.add(task_run.task, label)
        elif task_run.state is TaskState.RETRY_WAIT:
            self.queue.wait(task_run.next_at or 0, task_run.task, label)
        elif task_run.state.final and not task_run.partition:
            self._ended(task_run)

    def _fan(self, task: str) -> fanout.Fan:
        found = self._fans.get(task)
        if found is None:
            found = self._fans[task] = fanout.Fan()
        return found

    def put(self, task_run: TaskRun) -> None:
        """Replace one task run, or add a slice."""
        label = task_run.label
        old = self.tasks.get(label)
        if label not in self.undo:
            self.undo[label] = old
        if old is None:
            self._fan(task_run.task).labels.append(label)
        self.tasks[label] = self.changed[label] = task_run
        self._count(task_run, old)
        if task_run.state.final and (old is None or not old.state.final):
            self._todo.append(label)

    def _count(self, new: TaskRun, old: TaskRun | None) -> None:
        was_open = old is not None and not old.state.final
        change = (not new.state.final) - was_open
        self._open += change
        slice_of = self._fans[new.task] if new.partition else None
        if slice_of is not None:
            slice_of.open += change
        elif self.shape.tasks[new.task].fans_out:
            return  # it stands for its slices and runs nowhere
        runs = (new.state is TaskState.RUNNING) - (old is not None and old.state is TaskState.RUNNING)
        self._running += runs
        if slice_of is not None:
            slice_of.running += runs
        if runs < 0:
            self.queue.look_again(new.task)

    def patch(self, task_run: TaskRun) -> None:
        """Note what is stored about an attempt under way, such as its handle."""
        self.tasks[task_run.label] = task_run

    def _ended(self, task_run: TaskRun) -> None:
        """Count the end of a task: for those that need it, and for the run."""
        task = self.shape.tasks[task_run.task]
        for name in self.shape.below[task.name]:
            self._needs[name].count(task_run)
        if task.on_failure == "stop" and task_run.state not in (TaskState.SUCCEEDED, TaskState.SKIPPED):
            place = self.shape.index[task.name]
            if task_run.state is TaskState.UPSTREAM_FAILED:
                self._stop_late = place if self._stop_late is None else min(place, self._stop_late)
            else:
                self._stop = place if self._stop is None else min(place, self._stop)

    @property
    def running(self) -> int:
        """How many task runs are under way."""
        return self._running

    def stopper(self) -> TaskRun | None:
        """Return the task that stopped the run: the first that must succeed, is final and did not."""
        place = self._stop_late if self._stop is None else self._stop
        return None if place is None else self.tasks[self.shape.order[place].name]

    # -- what happens ---------------------------------------------------------------------------------------------
    def start(self, task_run: TaskRun) -> None:
        """Write the intention to start a new attempt."""
        self.put(begun(self.run, task_run, self.at, self.mint_span))
        self.starts.append(task_run.label)

    def restart(self, task_run: TaskRun) -> None:
        """Let an attempt that was lost go again: at once, or when its pools have room."""
        if self.shape.tasks[task_run.task].pools:
            self.put(evolve(task_run, state=TaskState.READY))
            self.queue.add(task_run.task, task_run.label, first=True)
        else:
            self.start(task_run)

    def settle(self, task_run: TaskRun) -> None:
        """Take over the end of an attempt; it does not start again within the same step."""
        self.put(task_run)
        if task_run.state is TaskState.RETRY_WAIT:
            self.queue.wait(task_run.next_at or 0, task_run.task, task_run.label)
            self.held.add(task_run.label)

    def gates(self) -> list[str]:
        """Return the tasks whose needs are met and whose `when` and `partitions` are to be decided now."""
        self._consequences()
        return [name for name in self._gates if self.tasks[name].state is TaskState.PENDING]

    def skip(self, name: str, why: str) -> None:
        """Leave a task out: its condition is false."""
        self._end(self.tasks[name], TaskState.SKIPPED, why, "when")

    def refuse(self, name: str, why: str, kind: str) -> None:
        """Fail a task whose condition or partitions cannot be evaluated."""
        self._end(evolve(self.tasks[name], failures=1), TaskState.FAILED, why, kind)

    def open(self, name: str) -> None:
        """Let a task start: its condition holds."""
        self._gates.pop(name, None)
        self._make_ready(self.tasks[name])

    def expand(self, name: str, slices: fanout.Slices, uid: Callable[[str], str]) -> None:
        """Fan a task out into these slices; a task that copies another's partitions takes those."""
        self._gates.pop(name, None)
        task = self.shape.tasks[name]
        if task.per is not None:
            fan = self._fans.get(task.per)
            above = [self.tasks[label] for label in fan.labels] if fan is not None else []
            slices = [(one.partition, one.item or "null") for one in above]
        node = self.tasks[name]
        for one in fanout.task_runs(node, slices, uid):
            self.put(one)
        self._reopen(task)

    # -- what follows -------------------------------------------------------------------------------------------------
    def advance(self, *, start: bool = True) -> Advance:
        """Let consequences run their course, start what may start, end the run if all is done."""
        self._consequences()
        if start and not self._ending:
            self._start_ready()
        state, error = None, None
        if not self._open:
            state, error = conclusion(self.shape, self.tasks, self.run, self.expired, self.stopper())
        return Advance(tuple(self.changed.values()), tuple(self.starts), state, error)

    @property
    def _ending(self) -> bool:
        """Say whether nothing starts any more, whatever it is."""
        return self.run.state is RunState.CANCELLING or bool(self.expired)

    def _consequences(self) -> None:
        """Follow every end; cancel or skip what will not start any more."""
        if self._ending and self._swept != "ending":
            self._swept = "ending"
            reason = self.expired or self.run.cancel_reason or "the run was cancelled"
            kind = "run_timeout" if self.expired else "cancelled"
            self._end_all(cancelled(self.tasks.values(), self.at, reason, kind))
        elif self._new:
            self._new = False
            for task in self.shape.order:
                self._weigh(task)
        while True:
            while self._todo:
                self._follow(self.tasks[self._todo.popleft()])
            stopper = self.stopper()
            if self._swept or stopper is None:
                return
            self._swept = "stopped"
            self._end_all(stopped(self.tasks.values(), self.at, self.shape.exempt, stopper))

    def _end_all(self, ends: Sequence[TaskRun]) -> None:
        for task_run in ends:
            self._gates.pop(task_run.label, None)
            self.put(task_run)

    def _follow(self, done: TaskRun) -> None:
        if not done.partition:
            self._ended(done)
            for name in self.shape.below[done.task]:
                self._weigh(self.shape.tasks[name])
            return
        for name in self.shape.copies.get(done.task, ()):
            copy = self.tasks.get(f"{name}[{done.partition}]")
            if copy is not None and copy.state is TaskState.PENDING:
                self._weigh_copy(copy, done)
        if self._fans[done.task].open == 0:
            self._close(self.shape.tasks[done.task])

    def _weigh(self, task: TaskDef) -> None:
        """Move a PENDING task whose needs have decided."""
        task_run = self.tasks[task.name]
        if task_run.state is not TaskState.PENDING:
            return
        met = self.met(task)
        if met is Met.START:
            if not all(self.tasks[need].state.final for need in self.shape.reads[task.name]):
                return
            if task.name in self._fans:
                self._reopen(task)  # a resumed run: its partitions are known
            elif task.when is not None or task.fans_out:
                self._gates[task.name] = None
            else:
                self._make_ready(task_run)
        elif met is not Met.WAIT:
            why = upstream.blame(task.needs, self.tasks, skipped=met is Met.SKIP)
            if met is Met.SKIP:
                self._end(task_run, TaskState.SKIPPED, why, "skipped")
            else:
                self._end(task_run, TaskState.UPSTREAM_FAILED, why, "upstream_failed")

    def met(self, task: TaskDef) -> Met:
        """Say what the needs mean. A task that copies another's partitions waits for these, not for their ends."""
        if task.per is None or task.per not in self._fans:
            return self._needs[task.name].met(task.upstream)
        above = self.tasks[task.per]
        others = Needs(len(task.needs) - 1)
        for need in task.needs:
            if need != task.per and self.tasks[need].state.final:
                others.count(self.tasks[need])
        return Met.WAIT if above.state in _NOT_STARTED else others.met("all_success")

    def _make_ready(self, task_run: TaskRun) -> None:
        self.put(evolve(task_run, state=TaskState.READY))
        self.queue.add(task_run.task, task_run.label)

    def _reopen(self, task: TaskDef) -> None:
        """Let the slices of a task go; its own task run stands for them from here on."""
        node = self.tasks[task.name]
        self._gates.pop(task.name, None)
        if task.name not in self._fans:
            self.put(evolve(node, state=TaskState.SUCCEEDED, started_at=self.at, finished_at=self.at, output="[]"))
            return
        self.put(evolve(node, state=TaskState.RUNNING, attempt=1, started_at=self.at))
        fan = self._fans[task.name]
        for label in fan.labels:
            one = self.tasks[label]
            if one.state is TaskState.PENDING:
                if task.per is None:
                    self._make_ready(one)
                else:
                    above = self.tasks[f"{task.per}[{one.partition}]"]
                    if above.state.final:
                        self._weigh_copy(one, above)
        if fan.open == 0:
            self._close(task)
        for name in self.shape.copies.get(task.name, ()):
            self._weigh(self.shape.tasks[name])

    def _weigh_copy(self, copy: TaskRun, above: TaskRun) -> None:
        """Move a slice whose counterpart above has ended."""
        if above.state is TaskState.SUCCEEDED:
            self._make_ready(copy)
        else:
            why = f"not started: what it needs did not succeed: {above.label} ({above.state})"
            self._end(copy, TaskState.UPSTREAM_FAILED, why, "upstream_failed")

    def _close(self, task: TaskDef) -> None:
        """End a task that fanned out: all its slices have ended."""
        node = self.tasks[task.name]
        if not node.state.final:
            self.put(closed(task, node, [self.tasks[label] for label in self._fans[task.name].labels], self.at))

    def _end(self, task_run: TaskRun, state: TaskState, error: str, kind: str | None) -> None:
        """End a task run that has no attempt under way."""
        self._gates.pop(task_run.label, None)
        self.put(ended(task_run, state, self.at, error, kind))

    def _start_ready(self) -> None:
        """Start what is ready or due to be retried, as far as `max_tasks` and the tasks' own limits allow."""
        again = []
        for task, label in self.queue.due(self.at):
            task_run = self.tasks[label]
            if task_run.state is TaskState.RETRY_WAIT and (task_run.next_at or 0) <= self.at:
                if label in self.held:
                    again.append(task_run)
                else:
                    self.put(evolve(task_run, state=TaskState.READY, next_at=None))
                    self.queue.add(task, label, first=True)
        most = max(1, self.shape.definition.max_tasks)
        if self._running < most:
            for label in self.queue.take(self._waits, self._has_room):
                self.start(self.tasks[label])
                if self._running >= most:
                    break
        for task_run in again:
            self.queue.wait(task_run.next_at or 0, task_run.task, task_run.label)

    def _waits(self, label: str) -> bool:
        return self.tasks[label].state is TaskState.READY

    def _has_room(self, name: str, label: str) -> bool:
        task = self.shape.tasks[name]
        if task.max_parallel is not None and name in self._fans and self._fans[name].running >= task.max_parallel:
            return False
        return not task.pools or (self._take is not None and self._take(task, label))
