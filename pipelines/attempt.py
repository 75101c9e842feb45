"""One attempt of one task on its engine: start, find, poll, cancel, in the order that never does the work twice.

In flows a TaskContext, out flows a TaskResult or an error of `pipelines.errors`. An attempt may be interrupted from
outside (its time is up, the run is cancelled, the lease is gone); it is then stopped as its engine allows before
`Stopped` is raised. An interruption lands only while the engine is being asked, never while something is written.

After a takeover, work that survives is looked for before it is started. After an ambiguous answer it is looked for;
where the engine cannot be asked but drops repeats, it is started again under the same key, a few times, with back-off.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from enum import IntEnum

from pipelines.errors import Ambiguous, LeaseLost, PipelineError, TaskFailed
from pipelines.ports import Engine, TaskContext, TaskResult
from pipelines.step import AMBIGUOUS
from sensors.clock import Clock

logger = logging.getLogger(__name__)

RESTARTS = 5  # starts under the same key after ambiguous answers, within one attempt
FIRST_WAIT = 0.5  # seconds before the first of them; doubles
LONGEST_WAIT = 30.0
STOP_WITHIN = 30.0  # seconds that an engine has to stop cancelled work
LET_GO_WITHIN = 5.0  # seconds that it has when the lease is gone or the service goes down
NO_TIMER = 10 * 365 * 86_400.0


class Stop(IntEnum):
    """Why an attempt is interrupted; a higher one outranks a lower."""

    TIMEOUT = 1
    CANCEL = 2
    LET_GO = 3  # the lease is gone, or the service goes down: stop what dies with us, write nothing


class Stopped(PipelineError):
    """The attempt was interrupted and is stopped, as far as its engine could."""

    def __init__(self, why: Stop) -> None:
        super().__init__(f"the attempt was interrupted: {why.name}")
        self.why = why


class Attempt:
    """One attempt under way. `carry_out` once; `interrupt` at any time, from the loop."""

    __slots__ = (
        "_clock",
        "_context",
        "_cut",
        "_engine",
        "_exposed",
        "_fail_point",
        "_handle",
        "_record",
        "_sent",
        "_task",
        "stop",
    )

    def __init__(
        self,
        engine: Engine,
        context: TaskContext,
        clock: Clock,
        fail_point: Callable[[str], None],
        record: Callable[[str], Awaitable[None]],
        *,
        resumed: bool,
    ) -> None:
        """`record` makes a handle durable; `resumed` says that a former holder may have started the work."""
        self._engine = engine
        self._context = context
        self._clock = clock
        self._fail_point = fail_point
        self._record = record
        self._handle = context.task_run.handle
        self._sent = resumed
        self._exposed = False
        self._cut = False
        self._task: asyncio.Task[object] | None = None
        self.stop: Stop | None = None

    def interrupt(self, why: Stop) -> None:
        """Ask the attempt to stop. The first call wakes it; later ones can only make the reason graver."""
        if self.stop is None or why > self.stop:
            self.stop = why
        if self._exposed and self._task is not None:
            self._exposed = False
            self._cut = True
            self._task.cancel()

    async def carry_out(self) -> TaskResult:
        """Do the work. Raises TaskFailed (and TaskTimedOut by the engine itself) or Stopped."""
        self._task = asyncio.current_task()
        left = self._context.deadline - self._clock.monotonic()
        timer = None
        if left < NO_TIMER:
            timer = asyncio.get_running_loop().call_later(max(0.0, left), self.interrupt, Stop.TIMEOUT)
        try:
            return await self._work()
        except asyncio.CancelledError:
            if self.stop is None or not self._cut or self._task is None or self._task.cancelling() > 1:
                raise
            await self._give_up()
            raise Stopped(self.stop) from None
        except (TaskFailed, LeaseLost):
            raise
        except Exception:
            await self._give_up()  # interrupted between two questions, or the engine is broken: leave nothing behind
            raise
        finally:
            self._exposed = False
            if timer is not None:
                timer.cancel()
            if self._cut and self._task is not None:
                self._task.uncancel()  # whether or not the engine swallowed it: this cancellation was ours

    async def _work(self) -> TaskResult:
        """Start or find the work, then follow it to its end; ambiguous answers are cleared up on the way."""
        engine, context = self._engine, self._context
        look_first = self._sent and engine.survives
        restarts = 0
        wait = FIRST_WAIT
        while True:
            try:
                if self._handle is None and look_first:
                    self._expose()
                    await self._found(await engine.find(context))
                if self._handle is None:
                    await self._start()
                return await self._follow()
            except Ambiguous as error:
                self._exposed = False
                context.log("engine", f"not known whether the work started or goes on: {error}")
                if engine.survives:
                    look_first = True  # asked again, for as long as the attempt's time lasts, before anything starts
                    if self._handle is None and await self._looked_up():
                        continue
                if self._handle is None or not engine.survives:
                    if not engine.dedupes or restarts >= RESTARTS:
                        raise TaskFailed(f"nobody knows whether the work was done: {error}", AMBIGUOUS) from error
                    restarts += 1
                    self._handle = None
                await self._pause(wait)
                wait = min(wait * 2, LONGEST_WAIT)

    async def _looked_up(self) -> bool:
        """Look the work up by its key until the engine answers; say whether it was found."""
        wait = FIRST_WAIT
        while True:
            self._expose()
            try:
                handle = await self._engine.find(self._context)
            except Ambiguous as error:
                self._context.log("engine", f"the engine could not be asked: {error}")
                await self._pause(wait)
                wait = min(wait * 2, LONGEST_WAIT)
                continue
            await self._found(handle)
            return handle is not None

    async def _start(self) -> None:
        """Start the work under its key, and keep the handle where it is worth keeping."""
        self._expose()
        self._fail_point("dispatch.before_start")
        if not self._context.held():
            raise LeaseLost(f"the lease on run {self._context.run.uid} ended before the attempt started")
        self._sent = True
        handle = await self._engine.start(self._context)
        self._fail_point("dispatch.after_start")
        await self._found(handle)

    async def _found(self, handle: str | None) -> None:
        """Take over a handle; make it durable when the work outlives us."""
        self._exposed = False
        if handle is not None:
            self._handle = handle
            if self._engine.survives and handle != self._context.task_run.handle:
                await self._record(handle)

    async def _follow(self) -> TaskResult:
        """Poll until the end."""
        engine, context, handle = self._engine, self._context, self._handle
        if handle is None:
            raise TaskFailed("the engine gave no handle for the work that it started", "engine_error")
        self._expose()
        while True:
            result = await engine.poll(context, handle)
            if result is not None:
                self._exposed = False
                return result
            await self._clock.sleep(engine.poll_every)

    async def _pause(self, seconds: float) -> None:
        """Wait between two questions."""
        self._expose()
        await self._clock.sleep(seconds)
        self._exposed = False

    def _expose(self) -> None:
        """Let interruptions land from here on; raise the one that came before."""
        if self.stop is not None:
            raise Stopped(self.stop)
        self._exposed = True

    async def _give_up(self) -> None:
        """Stop the work as the reason asks; work that survives is left to the next holder when we only let go."""
        engine, context = self._engine, self._context
        self._exposed = False
        letting_go = self.stop is Stop.LET_GO
        if not self._sent or (letting_go and engine.survives):
            return
        try:
            async with asyncio.timeout(LET_GO_WITHIN if letting_go else STOP_WITHIN):
                if self._handle is None and engine.survives:
                    self._handle = await engine.find(context)
                if self._handle is not None:
                    await engine.cancel(context, self._handle)
        except Exception as error:  # noqa: BLE001 - whatever a broken engine raises, the run must go on to its end
            context.log("engine", f"the work could not be stopped for sure: {error!r}")
            logger.warning(
                "task %s of run %s could not be stopped for sure: %r",
                context.task.name,
                context.run.uid,
                error,
                extra={"action": "cancel_failed"},
            )
