"""The driver of one claimed run: carries its attempts out and has every step written, as long as the lease is ours.

In flows a claim; out flow `RunStep`s, in order, each with the ends of attempts that came together and the starts that
follow from them: a run of one task costs one write after its claim. Nothing is acted upon before it is durable. There
is one asyncio task per attempt under way, and one each to wait for the next retry, for room in pools, and for the end
of the run's time.

A driver ends when its run ends, or when it lets the run go: the lease was lost, or the service goes down. Then what
dies with us is stopped, what survives is left to the next holder, and nothing more is written.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from math import inf
from typing import Any

from pipelines.attempt import Attempt, Stop, Stopped
from pipelines.board import Board
from pipelines.contexts import Contexts, time_left
from pipelines.errors import LeaseLost, TaskFailed
from pipelines.executor import Advance, Verdict, run_deadline
from pipelines.hands import Hands, ReadyDefinition
from pipelines.logbook import AttemptLog
from pipelines.outcomes import failure, stopped, success
from pipelines.pools import Waiter
from pipelines.ports import Claimed, TaskResult
from pipelines.run import Run, RunState, RunStep, TaskRun, TaskState
from pipelines.stepper import Ended, Stepper
from pipelines.task import TaskDef
from sensors.clock import SECOND

logger = logging.getLogger(__name__)


class Driver:
    """Drives one run under one fence. All calls from the loop's thread."""

    def __init__(
        self, hands: Hands, ready: ReadyDefinition, claimed: Claimed, ended: Callable[["Driver"], None]
    ) -> None:
        """`ended` is called once, when nothing of the run is under way here any more."""
        self.concluded = False
        self.let_go = False
        self.lease_until = float("inf")  # Clock.monotonic; the dispatcher moves it with every renewal
        self.waited = False  # it had queued for long before it was claimed
        self.concurrency = ready.definition.concurrency
        self._hands = hands
        self._ready = ready
        self._taken_over = claimed.taken_over
        self._ended = ended
        self._attempts: dict[str, Attempt] = {}
        self._threads: dict[asyncio.Task[None], bool] = {}  # each with whether it merely waits
        self._quiet = False
        self._waiter = Waiter()
        self._rooms: dict[str, Sequence[str]] = {}  # the pools in which task runs under way have room
        self._waits_for_room = False
        self._alarm: tuple[int, asyncio.Task[None]] | None = None  # when the next retry is due, and who waits for it
        board = Board(ready.shape, claimed.run, claimed.tasks, hands.doors.mint_span, self._take_room)
        self._contexts = Contexts(hands, ready, lambda: self._stepper.board.tasks)
        self._stepper = Stepper(hands, board, self._contexts.decide, self._may_start, self._applied)

    @property
    def run(self) -> Run:
        """Return the run as it stands."""
        return self._stepper.board.run

    @property
    def stalled(self) -> bool:
        """Say whether a step waits for the store to come back."""
        return self._stepper.stalled

    def launch(self) -> None:
        """Take up what the claim found: attempts to carry out, retries to wait for, or nothing but the end to write."""
        board, now = self._stepper.board, self._hands.clock.now()
        shape = board.shape
        until = run_deadline(shape.definition, self.run, now)
        late = until <= now and self.run.state is not RunState.CANCELLING
        if late:
            self._expire()
        step_now = late or self.run.state is RunState.CANCELLING
        for label, task in list(board.tasks.items()):
            fans_out = shape.tasks[task.task].fans_out
            if task.state is TaskState.RUNNING and not (fans_out and not task.partition):
                pools = shape.tasks[task.task].pools
                if pools and label not in self._rooms:
                    self._hands.pools.hold(pools)
                    self._rooms[label] = pools
                self._spawn(self._carry(label, resumed=self._taken_over))
            elif not task.state.final:
                step_now = (
                    step_now or fans_out or task.state is TaskState.READY or shape.tasks[task.task].when is not None
                )
        self._wait_for_retries()
        if step_now or not self._threads:
            self._spawn(self._stepper.tick())
        if not late and until < inf:
            self._spawn(self._expire_at(until), waits=True)

    def cancel(self, reason: str) -> None:
        """Stop the run because somebody asked: attempts are stopped, the rest is cancelled with the last of them."""
        if self.run.state is RunState.CANCELLING or self.concluded or self.let_go:
            return
        self._stepper.board.run = replace(self.run, state=RunState.CANCELLING, cancel_reason=reason)
        self._halt()

    def _halt(self) -> None:
        """Stop what is under way, and write what follows."""
        self._stop_waiting()
        for attempt in list(self._attempts.values()):
            attempt.interrupt(Stop.CANCEL)
        self._spawn(self._stepper.tick())

    def _expire(self) -> None:
        """Note that the run's time is up."""
        limit = self._ready.definition.timeout or 0.0
        self._stepper.board.expired = f"the run took longer than its timeout of {limit:g} s"

    async def _expire_at(self, until: float) -> None:
        """Stop the run when its time is up."""
        clock = self._hands.clock
        while (left := until - clock.now()) > 0:
            await clock.sleep(left / SECOND)
        self._no_longer_waits()
        if not (self.let_go or self.concluded or self.run.state is RunState.CANCELLING):
            self._expire()
            self._halt()

    @property
    def _halting(self) -> bool:
        board = self._stepper.board
        return board.run.state is RunState.CANCELLING or bool(board.expired)

    def quieten(self) -> None:
        """Start nothing more: the service goes down. What is under way may end."""
        self._quiet = True
        self._stop_waiting()

    def drop(self) -> None:
        """Let the run go: stop what dies with us, write nothing more."""
        if self.let_go:
            return
        self.let_go = True
        self._stop_waiting()
        for attempt in list(self._attempts.values()):
            attempt.interrupt(Stop.LET_GO)

    def kill(self) -> None:
        """Abandon everything at once: the last resort of a hard stop."""
        self.drop()
        for thread in list(self._threads):
            thread.cancel()

    # -- threads of work ----------------------------------------------------------------------------------------
    def _spawn(self, work: Coroutine[Any, Any, None], *, waits: bool = False) -> "asyncio.Task[None]":
        thread = asyncio.get_running_loop().create_task(self._guarded(work))
        self._threads[thread] = waits
        thread.add_done_callback(self._thread_ended)
        return thread

    def _thread_ended(self, thread: "asyncio.Task[None]") -> None:
        del self._threads[thread]
        if not self._threads:
            self._leave_pools()
            self._ended(self)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        """Do the work; a defect of ours lets the run go, so that its lease ends and it is taken up anew."""
        try:
            await work
        except LeaseLost:
            self.drop()
        except Exception:
            logger.exception(
                "run %s is let go after an unexpected error", self.run.uid, extra={"action": "run_dropped"}
            )
            self.drop()

    def _stop_waiting(self) -> None:
        for thread, waits in list(self._threads.items()):
            if waits:
                thread.cancel()

    def _no_longer_waits(self) -> None:
        """Note that this thread is not to be cut short any more: it is about to write."""
        thread = asyncio.current_task()
        if thread is not None:
            self._threads[thread] = False

    def _may_start(self) -> bool:
        return not (self._quiet or self.let_go)

    # -- waiting --------------------------------------------------------------------------------------------------
    def _wait_for_retries(self) -> None:
        """See to it that somebody waits for the next retry."""
        due = self._stepper.board.queue.next_due()
        if due is None or self._quiet or self.let_go or self._halting:
            return
        if self._alarm is not None:
            at, thread = self._alarm
            if at <= due and not thread.done():
                return
            if self._threads.get(thread):
                thread.cancel()
        self._alarm = (due, self._spawn(self._ring_at(due), waits=True))

    async def _ring_at(self, due: int) -> None:
        clock = self._hands.clock
        while (left := due - clock.now()) > 0:
            await clock.sleep(left / SECOND)
        self._no_longer_waits()
        self._alarm = None
        await self._step()

    def _take_room(self, task: TaskDef, label: str) -> bool:
        """Take room in a task's pools."""
        if not self._hands.pools.take(task.pools, self._waiter):
            return False
        self._rooms[label] = task.pools
        return True

    def _give_room(self, labels: Sequence[str]) -> None:
        """Give back the room of what is not under way any more; wait for room where more is wanted."""
        tasks = self._stepper.board.tasks
        for label in labels:
            if label in self._rooms and tasks[label].state is not TaskState.RUNNING:
                self._hands.pools.give(self._rooms.pop(label))
        self._hands.pools.end_turn(self._waiter)
        if self._waiter.queued and not self._waits_for_room and self._may_start() and not self._halting:
            self._waits_for_room = True
            self._spawn(self._room_comes(), waits=True)

    async def _room_comes(self) -> None:
        try:
            await self._waiter.turn.wait()
        finally:
            self._waits_for_room = False
        self._waiter.turn.clear()
        self._no_longer_waits()
        self._stepper.board.queue.look_at_all()
        await self._step()

    def _leave_pools(self) -> None:
        for pools in self._rooms.values():
            self._hands.pools.give(pools)
        self._rooms.clear()
        self._hands.pools.leave(self._waiter)

    async def _step(self) -> None:
        if not self.let_go:
            await self._stepper.tick()

    # -- attempts ---------------------------------------------------------------------------------------------------
    async def _carry(self, label: str, *, resumed: bool) -> None:
        """Carry out the attempt that a task run has under way, and have its end written."""
        if self._gone():
            return
        task_run = self._stepper.board.tasks[label]
        log = self._hands.logs.open(self.run.uid, label, task_run.attempt)
        left, bound = time_left(self._ready.tasks[task_run.task].task, task_run, self._hands.clock.now())
        try:
            result = await self._attempt(task_run, log, left, resumed=resumed)
            outcome = success(task_run, result)
        except Stopped as halt:
            if halt.why is Stop.LET_GO:
                return
            result, outcome = TaskResult(), stopped(task_run, halt.why, bound)
        except TaskFailed as problem:
            result, outcome = TaskResult(checks=problem.checks), failure(task_run, problem)
        except LeaseLost:
            raise
        except Exception as error:
            logger.exception("engine %s failed unexpectedly", task_run.engine, extra={"action": "engine_error"})
            said = f"the engine {task_run.engine} failed unexpectedly: {type(error).__name__}: {error}"
            result, outcome = TaskResult(), failure(task_run, TaskFailed(said, "engine_error"))
        finally:
            self._attempts.pop(label, None)
        if self.let_go and outcome.verdict is not Verdict.SUCCEEDED:
            return  # it ended because we let go; the next holder decides
        await self._stepper.ended(Ended(outcome, result, await log.take()))

    async def _attempt(self, task_run: TaskRun, log: AttemptLog, left: float, *, resumed: bool) -> TaskResult:
        """Prepare and carry out one attempt."""
        hands = self._hands
        engine = hands.engines.get(task_run.engine)
        if engine is None:
            said = f"no engine {task_run.engine!r} is configured in this service"
            raise TaskFailed(said, "engine_missing", retryable=False)
        if self._halting and not resumed:
            raise Stopped(Stop.CANCEL)
        deadline = hands.clock.monotonic() + left
        context = await self._contexts.context(self.run, task_run, log, deadline=deadline, held=self._held)
        label = task_run.label
        attempt = Attempt(engine, context, hands.clock, hands.doors.fail_point, self._recorder(label), resumed=resumed)
        self._attempts[label] = attempt
        if self._halting:
            attempt.interrupt(Stop.CANCEL)
        if self.let_go:
            attempt.interrupt(Stop.LET_GO)
        return await attempt.carry_out()

    def _gone(self) -> bool:
        return self.let_go

    def _held(self) -> bool:
        """Say whether the run is still ours to act for."""
        return not self.let_go and self._hands.clock.monotonic() < self.lease_until

    def _recorder(self, label: str) -> Callable[[str], Coroutine[Any, Any, None]]:
        """Return what makes the handle of an attempt durable."""

        async def record(handle: str) -> None:
            await self._stepper.record(label, handle)

        return record

    # -- after a step -------------------------------------------------------------------------------------------------
    def _applied(self, advance: Advance, step: RunStep, ended: Sequence[str]) -> None:
        """Tell of a step that is durable, and set going what it starts."""
        board, observer = self._stepper.board, self._hands.observer
        for label in ended:
            self._tell(partial(observer.task_ended, self.run, board.tasks[label]))
        if advance.state is not None:
            self.concluded = True
            state = advance.state
            board.run = replace(board.run, state=state, finished_at=step.at, error=advance.error)
            self._tell(lambda: observer.run_ended(self.run, state))
            self._stop_waiting()
            return
        if not self.let_go:
            for label in advance.starts:
                self._spawn(self._carry(label, resumed=False))
        if self._rooms or self._waiter.queued or self._waiter.offers:
            self._give_room([task.label for task in advance.tasks])
        self._wait_for_retries()

    def _tell(self, tell: Callable[[], None]) -> None:
        try:
            tell()
        except Exception:
            logger.exception("an observer failed", extra={"action": "observer_failed"})
