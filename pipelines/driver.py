"""The driver of one claimed run: carries its attempts out and writes every step, as long as the lease is ours.

In flows a claim; out flow `RunStep`s, in order, one for each end of an attempt, with the starts that follow from it: a
run of one task costs one write after its claim. Nothing is acted upon before it is durable. There is one asyncio task
per attempt under way (or per wait for a retry) and none besides; it carries on with what its attempt made ready.

A driver ends when its run ends, or when it lets the run go: the lease was lost, or the service goes down. Then what
dies with us is stopped, what survives is left to the next holder, and nothing more is written.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pipelines import executor
from pipelines.attempt import Attempt, Stop, Stopped
from pipelines.errors import LeaseLost, ParameterError, TaskFailed
from pipelines.executor import Advance, AttemptOutcome, Verdict
from pipelines.hands import Hands, ReadyDefinition
from pipelines.logbook import AttemptLog
from pipelines.outcomes import failure, stopped, success
from pipelines.params import check_params
from pipelines.ports import Claimed, TaskContext, TaskResult
from pipelines.run import RunState, RunStep, TaskRun, TaskState
from pipelines.scope import task_scope, upstream_outputs
from sensors.clock import SECOND
from sensors.ports import Unavailable

logger = logging.getLogger(__name__)

FIRST_WAIT = 0.05  # seconds before a step is tried again that the store could not take
LONGEST_WAIT = 2.0


class Driver:
    """Drives one run under one fence. All calls from the loop's thread."""

    def __init__(
        self, hands: Hands, ready: ReadyDefinition, claimed: Claimed, ended: Callable[["Driver"], None]
    ) -> None:
        """`ended` is called once, when nothing of the run is under way here any more."""
        self.run = claimed.run
        self.concluded = False
        self.let_go = False
        self.lease_until = float("inf")  # Clock.monotonic; the dispatcher moves it with every renewal
        self.waited = False  # it had queued for long before it was claimed
        self.stalled = False  # a step waits for the store to come back
        self.concurrency = ready.definition.concurrency
        self._hands = hands
        self._ready = ready
        self._taken_over = claimed.taken_over
        self._tasks = {task.task: task for task in claimed.tasks}
        self._ended = ended
        self._attempts: dict[str, Attempt] = {}
        self._threads: dict[asyncio.Task[None], bool] = {}  # each with whether it merely waits for a retry
        self._lock = asyncio.Lock()
        self._params: Mapping[str, Any] | None = None
        self._events: Sequence[Any] | None = None
        self._quiet = False

    def launch(self) -> None:
        """Take up what the claim found: attempts to carry out, retries to wait for, or nothing but the end to write."""
        for task in list(self._tasks.values()):
            if task.state is TaskState.RUNNING:
                self._spawn(self._carry(task.task, resumed=self._taken_over))
            elif task.state is TaskState.RETRY_WAIT and self.run.state is not RunState.CANCELLING:
                self._wait_for(task)
        if not self._threads:
            self._spawn(self._step())

    def cancel(self, reason: str) -> None:
        """Stop the run because somebody asked: attempts are stopped, the rest is cancelled with the last of them."""
        if self.run.state is RunState.CANCELLING or self.concluded or self.let_go:
            return
        self.run = replace(self.run, state=RunState.CANCELLING, cancel_reason=reason)
        self._stop_waiting()
        for attempt in list(self._attempts.values()):
            attempt.interrupt(Stop.CANCEL)
        self._spawn(self._step())

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
    def _spawn(self, work: Coroutine[Any, Any, None], *, waits: bool = False) -> None:
        thread = asyncio.get_running_loop().create_task(self._guarded(work))
        self._threads[thread] = waits
        thread.add_done_callback(self._thread_ended)

    def _thread_ended(self, thread: "asyncio.Task[None]") -> None:
        del self._threads[thread]
        if not self._threads:
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

    def _wait_for(self, task_run: TaskRun) -> None:
        if not self._quiet and not self.let_go:
            self._spawn(self._retry_later(task_run), waits=True)

    async def _retry_later(self, task_run: TaskRun) -> None:
        clock = self._hands.clock
        while (left := (task_run.next_at or 0) - clock.now()) > 0:
            await clock.sleep(left / SECOND)
        thread = asyncio.current_task()
        if thread is not None:
            self._threads[thread] = False  # no longer a mere wait: not to be cut short in the middle of a write
        await self._step()

    async def _step(self) -> None:
        """Write what time or a request to cancel asks for, and carry on with what starts."""
        async with self._lock:
            if self.let_go:
                return
            definition, doors = self._ready.definition, self._hands.doors
            at = self._hands.clock.now()
            advance = executor.wake(
                definition, self.run, self._all(), at, doors.mint_span, start=not (self._quiet or self.let_go)
            )
            following = None if advance.empty else await self._apply(advance, self._step_of(advance, at))
        if following is not None:
            await self._carry(following, resumed=False)

    async def _carry(self, name: str, *, resumed: bool) -> None:
        """Carry out the attempt that `name` has under way, then whatever its end makes ready, one after the other."""
        following: str | None = name
        while following is not None and not self.let_go:
            following = await self._carry_one(following, resumed=resumed)
            resumed = False

    async def _carry_one(self, name: str, *, resumed: bool) -> str | None:
        task_run = self._tasks[name]
        log = self._hands.logs.open(self.run.uid, name, task_run.attempt)
        try:
            result = await self._attempt(task_run, log, resumed=resumed)
            outcome = success(task_run, result)
        except Stopped as halt:
            if halt.why is Stop.LET_GO:
                return None
            result, outcome = TaskResult(), stopped(task_run, halt.why, self._ready.tasks[name].task.timeout)
        except TaskFailed as problem:
            result, outcome = TaskResult(checks=problem.checks), failure(task_run, problem)
        except LeaseLost:
            raise
        except Exception as error:
            logger.exception("engine %s failed unexpectedly", task_run.engine, extra={"action": "engine_error"})
            said = f"the engine {task_run.engine} failed unexpectedly: {type(error).__name__}: {error}"
            result, outcome = TaskResult(), failure(task_run, TaskFailed(said, "engine_error"))
        finally:
            self._attempts.pop(name, None)
        if self.let_go and outcome.verdict is not Verdict.SUCCEEDED:
            return None  # it ended because we let go; the next holder decides
        return await self._settle(task_run, outcome, result, log)

    async def _attempt(self, task_run: TaskRun, log: AttemptLog, *, resumed: bool) -> TaskResult:
        """Prepare and carry out one attempt."""
        hands = self._hands
        engine = hands.engines.get(task_run.engine)
        if engine is None:
            said = f"no engine {task_run.engine!r} is configured in this service"
            raise TaskFailed(said, "engine_missing", retryable=False)
        cancelling = self.run.state is RunState.CANCELLING
        if cancelling and not resumed:
            raise Stopped(Stop.CANCEL)
        context = await self._context(task_run, log, resumed=resumed)
        attempt = Attempt(
            engine, context, hands.clock, hands.doors.fail_point, self._recorder(task_run), resumed=resumed
        )
        self._attempts[task_run.task] = attempt
        if self.run.state is RunState.CANCELLING:
            attempt.interrupt(Stop.CANCEL)
        if self.let_go:
            attempt.interrupt(Stop.LET_GO)
        return await attempt.carry_out()

    async def _context(self, task_run: TaskRun, log: AttemptLog, *, resumed: bool) -> TaskContext:
        """Gather all that the engine may know; raise TaskFailed where it cannot be made."""
        hands, ready = self._hands, self._ready.tasks[task_run.task]
        params = self._checked_params()
        options: Mapping[str, Any] = ready.task.options
        if ready.render is not None:
            events = await self._causing_events() if ready.wants_events else ()
            scope = task_scope(self.run, params, events, self._tasks, ready.above)
            try:
                options = ready.render(scope)
            except Exception as error:
                said = f"the options of task {task_run.task} cannot be evaluated: {error}"
                raise TaskFailed(said, "expression", retryable=False) from error
        environ, headers = hands.doors.propagate(self.run, task_run)
        gone = (hands.clock.now() - (task_run.started_at or 0)) / SECOND if resumed else 0.0
        return TaskContext(
            run=self.run,
            task=ready.task,
            task_run=task_run,
            options=options,
            params=params,
            upstream=upstream_outputs(ready.task, self._tasks),
            environ=environ,
            headers=headers,
            log=log.add,
            deadline=hands.clock.monotonic() + ready.task.timeout - max(0.0, gone),
            held=self._held,
        )

    def _held(self) -> bool:
        """Say whether the run is still ours to act for."""
        return not self.let_go and self._hands.clock.monotonic() < self.lease_until

    def _checked_params(self) -> Mapping[str, Any]:
        if self._params is None:
            try:
                self._params = check_params(self._ready.definition.params, self.run.params)
            except ParameterError as error:
                raise TaskFailed(str(error), "parameters", retryable=False) from error
        return self._params

    async def _causing_events(self) -> Sequence[Any]:
        while self._events is None:
            try:
                self._events = (await self._hands.store.parameters(self.run)).get("events", ())
            except Unavailable as error:
                await self._hands.clock.sleep(error.retry_after)
        return self._events

    # -- durable steps --------------------------------------------------------------------------------------------
    def _recorder(self, task_run: TaskRun) -> Callable[[str], Coroutine[Any, Any, None]]:
        """Return what makes the handle of an attempt durable."""

        async def record(handle: str) -> None:
            async with self._lock:
                known = replace(self._tasks[task_run.task], handle=handle)
                at = self._hands.clock.now()
                await self._apply(
                    Advance((known,)), RunStep(run=self.run.uid, fence=self.run.fence, at=at, tasks=(known,))
                )

        return record

    async def _settle(
        self, task_run: TaskRun, outcome: AttemptOutcome, result: TaskResult, log: AttemptLog
    ) -> str | None:
        """Write the end of an attempt with all that follows from it; return a task to carry on with."""
        lines = await log.take()
        doors = self._hands.doors
        async with self._lock:
            while True:
                at = self._hands.clock.now()
                advance = executor.settle(
                    self._ready.definition,
                    self.run,
                    self._all(),
                    outcome,
                    at,
                    doors.random,
                    doors.mint_span,
                    start=not (self._quiet or self.let_go),
                )
                if advance.empty:
                    return None
                step = self._step_of(advance, at, logs=lines, datasets=result.datasets, checks=result.checks)
                try:
                    return await self._apply(advance, step, ended=task_run.task)
                except (LeaseLost, asyncio.CancelledError):
                    raise
                except Exception as error:
                    if outcome.error_kind == "not_stored":
                        raise
                    logger.exception("the outcome of task %s could not be stored", task_run.task)
                    said = f"what the task left could not be stored: {error}"
                    outcome = failure(task_run, TaskFailed(said, "not_stored", retryable=False))
                    lines, result = (), TaskResult()

    def _step_of(self, advance: Advance, at: int, **more: Any) -> RunStep:
        return RunStep(
            run=self.run.uid,
            fence=self.run.fence,
            at=at,
            tasks=advance.tasks,
            state=advance.state,
            error=advance.error,
            **more,
        )

    async def _apply(self, advance: Advance, step: RunStep, ended: str | None = None) -> str | None:
        """Write a step; then remember it, tell of it and set going what it starts, except the one that is returned."""
        await self._write(step)
        for task_run in advance.tasks:
            self._tasks[task_run.task] = task_run
        if ended is not None:
            self._tell(lambda: self._hands.observer.task_ended(self.run, self._tasks[ended]))
        if advance.state is not None:
            self.concluded = True
            state = advance.state
            self.run = replace(self.run, state=state, finished_at=step.at, error=advance.error)
            self._tell(lambda: self._hands.observer.run_ended(self.run, state))
            self._stop_waiting()
            return None
        if ended is not None and self._tasks[ended].state is TaskState.RETRY_WAIT:
            self._wait_for(self._tasks[ended])
        if not advance.starts or self.let_go:
            return None
        for name in advance.starts[1:]:
            self._spawn(self._carry(name, resumed=False))
        return advance.starts[0]

    async def _write(self, step: RunStep) -> None:
        """Make a step durable, however long the store is away: the fence refuses it if the run is not ours any more."""
        hands = self._hands
        wait = FIRST_WAIT
        applied: bool | None = None
        hands.doors.fail_point("dispatch.before_advance")
        while applied is None:
            try:
                applied = await hands.store.advance(step)
            except Unavailable:
                self.stalled = True
                await hands.clock.sleep(wait)
                wait = min(wait * 2, LONGEST_WAIT)
        self.stalled = False
        hands.doors.fail_point("dispatch.after_advance")
        if not applied:
            raise LeaseLost(f"run {self.run.uid} has another holder")

    def _all(self) -> list[TaskRun]:
        return list(self._tasks.values())

    def _tell(self, tell: Callable[[], None]) -> None:
        try:
            tell()
        except Exception:
            logger.exception("an observer failed", extra={"action": "observer_failed"})
