"""The stepper of one run: gathers what happened, lets the board say what follows, and makes it durable, step by step.

In flow ends of attempts, handles, the passing of time; out flow `RunStep`s, one after the other. What happens while a
step is being written goes into the next one together, so that many short tasks share one transaction. Nothing is acted
upon before it is durable: `applied` is called after each step with what it changed. A step that the store refuses for
what one attempt left is taken apart, and only that attempt fails.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from pipelines.board import Board
from pipelines.contexts import Decision
from pipelines.errors import LeaseLost, TaskFailed
from pipelines.executor import Advance, AttemptOutcome, Verdict, end_attempt
from pipelines.hands import Hands
from pipelines.ports import TaskResult
from pipelines.run import LogLine, Run, RunStep, TaskRun
from sensors.ports import Unavailable
from sensors.uid import new_uid

logger = logging.getLogger(__name__)

FIRST_WAIT = 0.05  # seconds before a step is tried again that the store could not take
LONGEST_WAIT = 2.0
TOGETHER = 256  # ends of attempts that go into one step
MANY = 16  # attempts under way from which on an end waits a little for others to share its step with
A_LITTLE = 0.004  # seconds


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of one attempt with all that it left."""

    outcome: AttemptOutcome
    result: TaskResult
    lines: Sequence[LogLine]


class Stepper:
    """Steps one run under one fence. All calls from the loop's thread."""

    def __init__(
        self,
        hands: Hands,
        board: Board,
        decide: Callable[[Run, str], Awaitable[Decision]],
        may_start: Callable[[], bool],
        applied: Callable[[Advance, RunStep, Sequence[str]], None],
    ) -> None:
        """`decide` evaluates a task's conditions, `applied` gets each durable step and the labels of ended attempts."""
        self.board = board
        self.stalled = False  # a step waits for the store to come back
        self.concluded = False
        self._hands = hands
        self._decide = decide
        self._may_start = may_start
        self._applied = applied
        self._lock = asyncio.Lock()
        self._ended: list[Ended] = []
        self._ticked = False
        self._pumping = False
        self._enough: asyncio.Event | None = None  # somebody gathers ends, and wants to know of many

    async def ended(self, ended: Ended) -> None:
        """Write the end of an attempt with all that follows from it (or leave it to the step that is on its way)."""
        self._ended.append(ended)
        if self._enough is not None and len(self._ended) >= MANY:
            self._enough.set()
        await self._pump()

    async def tick(self) -> None:
        """Write what time or a request to cancel asks for."""
        self._ticked = True
        await self._pump()

    async def record(self, label: str, handle: str) -> None:
        """Make the handle of an attempt durable; returns when it is."""
        async with self._lock:
            known = replace(self.board.tasks[label], handle=handle)
            await self._write(self._step((known,)))
            self.board.patch(known)

    async def _pump(self) -> None:
        if self._pumping:
            return
        self._pumping = True
        try:
            while (self._ended or self._ticked) and not self.concluded:
                if not self._ticked and self.board.running >= MANY + len(self._ended):
                    await self._gather()
                async with self._lock:
                    together, self._ended = self._ended[:TOGETHER], self._ended[TOGETHER:]
                    self._ticked = False
                    await self._advance(together)
        finally:
            self._pumping = False

    async def _gather(self) -> None:
        """Wait a little for more ends: where many attempts are under way, one transaction is to serve many of them."""
        self._enough = asyncio.Event()
        try:
            async with asyncio.timeout(A_LITTLE):
                await self._enough.wait()
        except TimeoutError:
            pass
        finally:
            self._enough = None

    async def _advance(self, together: Sequence[Ended]) -> None:
        """Take one step."""
        board, doors = self.board, self._hands.doors
        board.step(self._hands.clock.now())
        settled = [one for one in together if end_attempt(board, one.outcome, doors.random)]
        start = self._may_start()
        if start:
            await self._open_gates()
        advance = board.advance(start=start)
        step = self._step(advance.tasks, advance, settled)
        if not advance.empty:
            try:
                await self._write(step)
            except (LeaseLost, asyncio.CancelledError):
                raise
            except Exception as error:  # noqa: BLE001 - told and taken apart, whatever the store said
                self.board = board.undone()
                await self._take_apart(settled, error)
                return
            self.concluded = advance.state is not None
        self._applied(advance, step, [one.outcome.label for one in settled])

    async def _take_apart(self, together: Sequence[Ended], error: Exception) -> None:
        """Go on after the store refused a step: each end alone, and one that is refused alone fails."""
        if len(together) > 1:
            for one in together:
                await self._advance([one])
            return
        if not together or together[0].outcome.error_kind == "not_stored":
            raise error
        outcome = together[0].outcome
        logger.error("the outcome of task %s could not be stored: %r", outcome.label, error, exc_info=error)
        failed = AttemptOutcome(
            task=outcome.task,
            partition=outcome.partition,
            attempt=outcome.attempt,
            verdict=Verdict.FAILED,
            error=f"what the task left could not be stored: {error}",
            error_kind="not_stored",
            retryable=False,
        )
        await self._advance([Ended(failed, TaskResult(), ())])

    async def _open_gates(self) -> None:
        """Decide about the conditions of tasks whose needs are met, and of those that follow from that."""
        board = self.board
        at = self._hands.clock.now()
        while names := board.gates():
            for name in names:
                try:
                    decision = await self._decide(board.run, name)
                except TaskFailed as problem:
                    board.refuse(name, str(problem), problem.kind)
                    continue
                if decision.skip:
                    board.skip(name, decision.skip)
                elif decision.slices is not None:
                    board.expand(name, decision.slices, lambda prefix: new_uid(prefix, at))
                else:
                    board.open(name)

    def _step(self, tasks: Sequence[TaskRun], advance: Advance | None = None, settled: Sequence[Ended] = ()) -> RunStep:
        run = self.board.run
        return RunStep(
            run=run.uid,
            fence=run.fence,
            at=self.board.at if advance is not None else self._hands.clock.now(),
            tasks=tasks,
            state=None if advance is None else advance.state,
            error=None if advance is None else advance.error,
            logs=[line for one in settled for line in one.lines],
            datasets=[write for one in settled for write in one.result.datasets],
            checks=[check for one in settled for check in one.result.checks],
        )

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
            raise LeaseLost(f"run {step.run} has another holder")
