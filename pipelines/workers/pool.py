"""Warm worker processes for Python tasks: jobs wait in order, run one per worker, and cannot hurt the service.

In flow jobs, out flow outcomes; log lines go to the job's `log` as they come, all of them before the outcome. The
first job starts all workers; until then there are none. Waiting jobs are served first come, first served. A job that
exceeds its time, its memory, or is cancelled is killed with everything in its process group, and its worker is
replaced. A worker is also replaced after some number of jobs, when it keeps too much memory between jobs (a leak), and
when it has imported another version of the user's code than a job is to run.
"""

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from pipelines.errors import TaskFailed, TaskTimedOut
from pipelines.propagated import TRACE
from pipelines.workers.frames import HEAD, MAX_FRAME, Job
from pipelines.workers.output import LinePipe, read_lines
from pipelines.workers.wards import Exit, SpawnRefused, Ward, Wards

_OUTPUT_WITHIN = 0.5  # seconds that the rest of a job's output may take to arrive after its answer
_DEATH_WITHIN = 10.0
_STOP_WITHIN = 4.0  # less than an attempt's time to let go
_ROOT = str(Path(__file__).parents[2])
_START = f"import sys; sys.path.insert(0, {_ROOT!r}); from pipelines.workers.main import main; main()"

Log = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A job's answer: its JSON fields (see `pipelines.workers.frames`), CPU seconds and peak resident bytes.

    The figures are None where the job shared its process.
    """

    answer: Mapping[str, Any]
    cpu: float | None
    rss: int | None


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """When a worker is replaced: after `jobs` jobs, or when it has more than `kept` bytes resident between two."""

    jobs: int = 10_000
    kept: int = 1 << 30


class WorkerPool:
    """At most `size` workers whose working folder is `base`."""

    def __init__(self, size: int, base: Path, limits: WorkerLimits = WorkerLimits()) -> None:
        self._size = max(1, size)
        self._base = base
        self._limits = limits
        self._turns = asyncio.Semaphore(self._size)
        self._wards = Wards()
        self._idle: list[_Worker] = []
        self._all: set[_Worker] = set()
        self._chores: set[asyncio.Task[None]] = set()
        self._warm = False
        self._closed = False

    async def run(self, job: Job, log: Log, seconds: float | None = None, memory: int = 0) -> Outcome:
        """Run one job within `seconds` (None: for ever) and `memory` bytes resident (0: any).

        Raises TaskFailed when the worker crashed or was killed for its memory, TaskTimedOut when time was up; in both
        cases nothing of the job lives on. Cancelling kills the job as well.
        """
        deadline = None if seconds is None else asyncio.get_running_loop().time() + seconds
        if self._turns.locked():
            await self._turn(deadline)
        else:
            await self._turns.acquire()
        try:
            while True:
                worker = await self._take(job.run)
                outcome = await self._on(worker, job, log, deadline, memory)
                if not outcome.answer.get("stale"):
                    return outcome
        finally:
            self._turns.release()

    async def _turn(self, deadline: float | None) -> None:
        """Wait for a free worker."""
        try:
            async with asyncio.timeout_at(deadline):
                await self._turns.acquire()
        except TimeoutError:
            raise TaskTimedOut(
                f"the task waited for a free worker until its timeout ({self._size} are busy); it was not started"
            ) from None

    async def close(self) -> None:
        """Kill all workers; returns when they are gone."""
        self._closed = True
        chores = list(self._chores)
        for chore in chores:
            chore.cancel()
        if chores:
            await asyncio.wait(chores)
        await self._wards.close()
        for worker in list(self._all):
            worker.close()
        self._all.clear()
        self._idle.clear()

    async def _on(self, worker: "_Worker", job: Job, log: Log, deadline: float | None, memory: int) -> Outcome:
        """Run the job on this worker; afterwards the worker is idle, or gone."""
        keep = spent = False
        try:
            outcome = await worker.run(job, log, deadline, memory)
            keep = not outcome.answer.get("stale") and not self._spent(worker, outcome) and not self._closed
            spent = not keep and not outcome.answer.get("stale")
        finally:
            if keep and len(self._idle) < self._size:
                self._idle.append(worker)
            else:
                self._all.discard(worker)
                worker.close()
                if spent and not self._closed:
                    self._start_chore()
        return outcome

    def _spent(self, worker: "_Worker", outcome: Outcome) -> bool:
        """Say whether a worker has done its share, or keeps more than it may."""
        return worker.jobs >= self._limits.jobs or outcome.answer.get("kept", 0) > self._limits.kept

    async def _take(self, run: str) -> "_Worker":
        """Return an idle worker (that of the run, for it has its code), one that is being started, or a new one."""
        while True:
            worker = self._pop(run)
            if worker is not None:
                return worker
            if not self._chores:
                self._warm_up()
                return await self._spawn()
            await asyncio.wait(self._chores, return_when=asyncio.FIRST_COMPLETED)

    def _pop(self, run: str) -> "_Worker | None":
        self._idle.sort(key=lambda worker: worker.last_run == run)  # stable: else the one that was used last
        while self._idle:
            worker = self._idle.pop()
            if worker.alive:
                return worker
            self._all.discard(worker)
            worker.close()
        return None

    def _warm_up(self) -> None:
        """Start the other workers behind the first job."""
        if not self._warm:
            self._warm = True
            for _ in range(self._size - 1):
                self._start_chore()

    def _start_chore(self) -> None:
        chore = asyncio.get_running_loop().create_task(self._add_idle())
        self._chores.add(chore)
        chore.add_done_callback(self._chores.discard)

    async def _add_idle(self) -> None:
        with contextlib.suppress(TaskFailed):  # the next job meets the same trouble, and reports it
            worker = await self._spawn()
            if len(self._idle) < self._size and not self._closed:
                self._idle.append(worker)
            else:
                self._all.discard(worker)
                worker.close()

    async def _spawn(self) -> "_Worker":
        try:
            worker = await _Worker.start(self._wards, self._base)
        except (OSError, SpawnRefused) as error:
            raise TaskFailed(f"no worker process could be started: {error}", "no_worker") from error
        self._all.add(worker)
        return worker


class _Worker:
    """One worker process and the three channels to it."""

    def __init__(
        self, ward: Ward, channel: tuple[asyncio.StreamReader, asyncio.StreamWriter], out: LinePipe, err: LinePipe
    ) -> None:
        self._ward = ward
        self._reader, self._writer = channel
        self._out = out
        self._err = err
        self._cooperates = False
        self._secret = f"\x00{secrets.token_hex(8)}-"  # that a job cannot print, for it does not know it
        self.jobs = 0
        self.last_run = ""

    @property
    def alive(self) -> bool:
        """Say whether the process runs, as far as is known."""
        return not self._ward.exited.done()

    @classmethod
    async def start(cls, wards: Wards, base: Path) -> "_Worker":
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        out, out_end = os.pipe()
        err, err_end = os.pipe()
        env = {k: v for k, v in os.environ.items() if k not in TRACE and not k.startswith("TIDEGATE_")}
        ward, pipes, unread = None, list[LinePipe](), [out, err]
        try:
            ward = await wards.spawn([sys.executable, "-c", _START], env, base, (theirs.detach(), out_end, err_end))
            channel = await asyncio.open_unix_connection(sock=ours)
            while unread:
                pipes.append(await read_lines(unread.pop(0)))
        except BaseException:
            ours.close()
            for pipe in pipes:
                pipe.close()
            for end in unread:
                os.close(end)
            if ward is not None:
                ward.kill()
            raise
        return cls(ward, channel, pipes[0], pipes[1])

    async def run(self, job: Job, log: Log, deadline: float | None, memory: int) -> Outcome:
        self.jobs += 1
        self.last_run, self._cooperates = job.run, False
        mark = f"{self._secret}{self.jobs}"
        self._out.follow(lambda line: log("stdout", line))
        self._err.follow(lambda line: log("stderr", line))
        self._out.expect(mark.encode())
        self._err.expect(mark.encode())
        try:
            body = orjson.dumps([mark, job])
        except TypeError as error:
            raise TaskFailed(
                f"an argument of the task is no plain value: {error}", "bad_arguments", retryable=False
            ) from error
        clean = False
        try:
            if memory:
                self._ward.limit(memory)
            async with asyncio.timeout_at(deadline):
                self._writer.write(HEAD.pack(len(body)) + body)
                answer = await self._answer(log)
            if answer.get("marked"):
                await self._rest_of_output()
            else:
                self._out.end()
                self._err.end()
            if memory:
                self._ward.limit(0)
            clean = True
        except asyncio.CancelledError:
            await self._ask_to_stop(log)
            raise
        except TimeoutError:
            raise TaskTimedOut("the task took longer than its timeout and was killed") from None
        except (asyncio.IncompleteReadError, ConnectionError):
            raise await self._crash(memory) from None
        finally:
            if not clean:
                await self._kill()
            self._out.follow(None)
            self._err.follow(None)
        return Outcome(answer, answer.get("cpu", 0.0), answer.get("rss", 0))

    async def _answer(self, log: Log) -> dict[str, Any]:
        while True:
            (size,) = HEAD.unpack(await self._reader.readexactly(HEAD.size))
            if size > MAX_FRAME:
                raise ConnectionError("the worker's frames are out of step")
            message: dict[str, Any] = orjson.loads(await self._reader.readexactly(size))
            if "log" in message:
                log("log", message["log"])
            elif "cooperates" in message:
                self._cooperates = True
            else:
                return message

    async def _ask_to_stop(self, log: Log) -> None:
        """Give a job that looks for it the time to end by itself; a second cancellation ends the patience."""
        if not self._cooperates:
            return
        self._ward.kill(signal.SIGTERM)
        with contextlib.suppress(TimeoutError, asyncio.IncompleteReadError, ConnectionError, ValueError):
            async with asyncio.timeout(_STOP_WITHIN):
                await self._answer(log)

    async def _rest_of_output(self) -> None:
        """Wait until all that the job printed has come; not for ever, for its code may have closed the files."""
        if self._out.expects or self._err.expects:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_OUTPUT_WITHIN):
                    await self._out.mark_came()
                    await self._err.mark_came()

    async def _crash(self, memory: int) -> TaskFailed:
        """Say how the worker died, with its last words."""
        end = Exit(-signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DEATH_WITHIN):
                end = await self._ward.end()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_OUTPUT_WITHIN):
                await self._out.closed.wait()
                await self._err.closed.wait()
        if end.over:
            failure = TaskFailed(
                f"the task used {_mib(end.over)}, more than its memory limit of {_mib(memory)}, and was killed; "
                "raise `memory`, or work in smaller pieces",
                "memory",
            )
            failure.cpu_seconds, failure.peak_rss_bytes = end.cpu or None, end.over
            return failure
        last = "\n".join(line for line in self._err.last if line.strip())
        message = f"the task brought its worker down ({end})"
        failure = TaskFailed(f"{message}; its last words:\n{last}" if last else message, "crashed")
        failure.cpu_seconds, failure.peak_rss_bytes = end.cpu or None, end.rss or None
        return failure

    async def _kill(self) -> None:
        """Kill the process group and wait until it is gone, also while being cancelled."""
        self._ward.kill()
        waiting = asyncio.ensure_future(asyncio.wait([self._ward.exited], timeout=_DEATH_WITHIN))
        cancelled = False
        while not waiting.done():
            try:
                await asyncio.shield(waiting)
            except asyncio.CancelledError:
                cancelled = True
        if cancelled:
            raise asyncio.CancelledError

    def close(self) -> None:
        """Kill what is left and close the channels."""
        self._ward.kill()
        self._writer.close()
        self._out.close()
        self._err.close()


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.0f} MiB"
