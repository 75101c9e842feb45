"""What runs on a Dask worker: one job in a warm process of that worker, as `pipelines.workers.pool` runs it anywhere.

In flow a payload (the job as JSON values, its limits, files that came along); out flow log events, in order, and one
answer. The Dask worker itself is never blocked and never runs a line of the user's: a crash, a leak or a timeout costs
a process, and cancelling kills it. A job is claimed once under its key: when Dask gives it to a second worker (the
first one died), or gives it out after it was called off, it is not run and the answer says so.

Imported by the processes of the Dask cluster, which need Tidegate installed, and by the service to name its functions.
"""

import asyncio
import contextlib
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from distributed import get_worker

from pipelines.datasets.values import handle_of, moved
from pipelines.errors import TaskFailed
from pipelines.workers.frames import Job
from pipelines.workers.pool import WorkerLimits, WorkerPool

MAX_PARCEL = 64 << 20
_FLUSH_EVERY = 0.1
_CLAIM_WITHIN = 0.2  # seconds, on the scheduler's side: a claim that is free is had at once


class _House:
    """What one Dask worker keeps for us: its processes and the jobs under way."""

    def __init__(self, pool: WorkerPool) -> None:
        self.pool = pool
        self.jobs: dict[str, asyncio.Task[Any]] = {}


async def carry(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Run a job here, once, and return its answer."""
    worker = get_worker()
    house = _house(worker, payload)
    key: str = payload["key"]
    inner = asyncio.get_running_loop().create_task(_claimed(worker, house, payload))
    house.jobs[key] = inner
    try:
        await asyncio.wait([inner])
    finally:
        house.jobs.pop(key, None)
    if inner.cancelled():
        return {"failed": "the task was cancelled", "kind": "cancelled", "retryable": False, "lines": 0}
    return inner.result()


async def stop(key: str, dask_worker: Any = None) -> bool:
    """Kill the job of a key, if it is here; returns when nothing of it is left."""
    house = dask_worker.extensions.get("tidegate")
    job = None if house is None else house.jobs.get(key)
    if job is None:
        return False
    job.cancel()
    await asyncio.wait([job])
    return True


def _house(worker: Any, payload: Mapping[str, Any]) -> _House:
    house = worker.extensions.get("tidegate")
    if house is None:
        limits = WorkerLimits(payload["tasks_per_worker"], payload["worker_memory"])
        folder = Path(payload["job"]["base"])
        pool = WorkerPool(worker.state.nthreads, folder if folder.is_dir() else Path.cwd(), limits)
        house = worker.extensions["tidegate"] = _House(pool)
    return house  # type: ignore[no-any-return]  # we put it there


async def _claimed(worker: Any, house: _House, payload: Mapping[str, Any]) -> dict[str, Any]:
    """Claim the job, then run it."""
    try:
        await worker.scheduler.queue_put(
            name=payload["key"], data=worker.address, client=worker.id, timeout=_CLAIM_WITHIN
        )
    except TimeoutError:
        return _lost("the Dask worker that ran the task died, or was taken away, while it ran")
    except KeyError:
        return _lost("the task was called off before a Dask worker had begun it")
    folder = Path(worker.local_directory, "tidegate", payload["key"])
    try:
        return await _run(worker, house, payload, folder)
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _lost(said: str) -> dict[str, Any]:
    return {"failed": said, "kind": "lost_worker", "retryable": True, "lines": 0}


async def _run(worker: Any, house: _House, payload: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    job = Job(**{**payload["job"], "sys_path": tuple(payload["job"]["sys_path"])})
    if not job.values:
        job = replace(job, values=str(folder))
    job = replace(job, upstream=await asyncio.to_thread(_unpacked, job.upstream, payload["parcels"], folder))
    lines = _Lines(worker, payload["topic"], payload["key"])
    try:
        outcome = await house.pool.run(job, lines.add, payload["seconds"], payload["memory"])
        answer = {**outcome.answer, "cpu": outcome.cpu, "rss": outcome.rss}
        answer["parcel"] = await asyncio.to_thread(_packed, answer.get("output"), folder, payload["limit"])
    except TaskFailed as failed:
        answer = {
            "failed": str(failed),
            "kind": failed.kind,
            "retryable": failed.retryable,
            "retry_after": failed.retry_after,
            "cpu": failed.cpu_seconds,
            "rss": failed.peak_rss_bytes,
        }
    finally:
        lines.close()
    return {**answer, "lines": lines.sent, "host": worker.address}


class _Lines:
    """Log lines on their way to the service: gathered for a moment, sent in order."""

    def __init__(self, worker: Any, topic: str, key: str) -> None:
        self._worker = worker
        self._topic = topic
        self._key = key
        self._waiting: list[tuple[str, str]] = []
        self._timer: asyncio.TimerHandle | None = None
        self.sent = 0

    def add(self, stream: str, text: str) -> None:
        self._waiting.append((stream, text))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH_EVERY, self._flush)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._flush()

    def _flush(self) -> None:
        self._timer = None
        if self._waiting:
            lines, self._waiting = self._waiting, []
            self._worker.log_event(self._topic, {"key": self._key, "first": self.sent, "lines": lines})
            self.sent += len(lines)


def _unpacked(upstream: Mapping[str, Any], parcels: Mapping[str, bytes], folder: Path) -> dict[str, Any]:
    """Place the files that came along (by the paths that they have at the service), and let their handles name them."""
    places: dict[str, str] = {}
    for number, (path, data) in enumerate(parcels.items()):
        folder.mkdir(parents=True, exist_ok=True)
        place = folder / f"upstream-{number}-{Path(path).name}"
        place.write_bytes(data)
        places[path] = str(place)
    return {
        name: moved(output, lambda handle: places.get(handle["path"], handle["path"]))
        for name, output in upstream.items()
    }


def _packed(output: Any, folder: Path, limit: int) -> bytes | None:
    """Return the file of an output that nobody but this worker can read; raises TaskFailed when it is too large."""
    handle = handle_of(output)
    if handle is None or not Path(handle["path"]).is_relative_to(folder):
        return None
    return read_parcel(Path(handle["path"]), limit)


def read_parcel(path: Path, limit: int = MAX_PARCEL) -> bytes:
    """Return the bytes of a value's file; raises TaskFailed (not retryable) when it is too large to be sent."""
    size = 0
    with contextlib.suppress(OSError):
        size = path.stat().st_size
    if size > limit:
        raise TaskFailed(
            f"a value of {size >> 20} MiB is more than the {limit >> 20} MiB that are sent between service and Dask "
            "workers; set `spool` to a folder that they share, or write it with `output` and read it there",
            "too_large",
            retryable=False,
        )
    return path.read_bytes()
