import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import TaskFailed
from pipelines.workers.frames import Job
from pipelines.workers.pool import WorkerLimits, WorkerPool
from pipelines.workers.wards import Exit, SpawnRefused, Wards
from tests.support.processes import gone
from tests.support.worker_tasks import PLAIN


def job(folder: Path, name: str, **args: Any) -> Job:
    return Job(
        function=f"plain:{name}",
        base=str(folder),
        args=args,
        run="run_1",
        fence=1,
        task="t",
        partition="",
        attempt=1,
        values=str(folder / "values"),
    )


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def drop(stream: str, text: str) -> None:
    """Keep no log."""


@asynccontextmanager
async def opened(folder: Path, size: int = 1, max_jobs: int = 1000) -> AsyncIterator[WorkerPool]:
    (folder / "plain.py").write_text(PLAIN)
    pool = WorkerPool(size, folder, WorkerLimits(max_jobs))
    try:
        yield pool
    finally:
        await pool.close()


async def pid(pool: WorkerPool, folder: Path) -> int:
    return int((await pool.run(job(folder, "pid"), drop)).answer["output"])


async def test_a_worker_is_replaced_after_its_jobs(tmp_path: Path) -> None:
    """A worker serves `max_jobs` jobs and is gone."""
    async with opened(tmp_path, max_jobs=3) as pool:
        pids = [await pid(pool, tmp_path) for _ in range(7)]

        assert len(set(pids[:3])) == len(set(pids[3:6])) == 1
        assert len(set(pids)) == 3
        await gone(pids[0], pids[3])


async def test_nothing_starts_before_the_first_job(tmp_path: Path) -> None:
    """A pool that is not used has no process; one that is has all its workers soon."""
    async with opened(tmp_path, size=2) as pool:
        assert not children()
        first = await pid(pool, tmp_path)
        burning = asyncio.create_task(pool.run(job(tmp_path, "burn", seconds=0.3), drop))
        await asyncio.sleep(0)
        assert await pid(pool, tmp_path) != first
        await burning
    assert not children()


def children() -> list[str]:
    me = os.getpid()
    return [
        child
        for child in Path(f"/proc/{me}/task/{me}/children").read_text().split()
        if "warden.py" in Path(f"/proc/{child}/cmdline").read_text()
    ]


async def test_an_idle_worker_that_died_is_not_used(tmp_path: Path) -> None:
    """A worker killed while idle is replaced without a job noticing."""
    async with opened(tmp_path) as pool:
        first = await pid(pool, tmp_path)
        os.kill(first, signal.SIGKILL)
        await gone(first)
        for _ in range(100):
            await asyncio.sleep(0.002)

        assert await pid(pool, tmp_path) != first


async def test_close_fails_what_runs(tmp_path: Path) -> None:
    """Closing the pool ends running jobs as failures."""
    async with opened(tmp_path) as pool:
        worker = await pid(pool, tmp_path)
        running = asyncio.create_task(pool.run(job(tmp_path, "burn", seconds=600), drop))
        await asyncio.sleep(0.05)
        await pool.close()
        with pytest.raises(TaskFailed):
            await running
        await gone(worker)


async def test_arguments_must_be_plain(tmp_path: Path) -> None:
    """An argument that is no plain value is a failure that names it."""
    async with opened(tmp_path) as pool:
        with pytest.raises(TaskFailed, match="no plain value"):
            await pool.run(job(tmp_path, "everything", a=object()), drop)


async def test_a_lost_warden_is_replaced(tmp_path: Path) -> None:
    """When the warden is killed the running job fails, its worker is gone, and the next job works."""
    async with opened(tmp_path) as pool:
        worker = await pid(pool, tmp_path)
        running = asyncio.create_task(pool.run(job(tmp_path, "burn", seconds=600), drop))
        await asyncio.sleep(0.05)
        (warden,) = children()
        os.kill(int(warden), signal.SIGKILL)
        with pytest.raises(TaskFailed) as caught:
            await running
        await gone(worker)

        assert caught.value.kind == "crashed"
        assert await pid(pool, tmp_path) != worker


async def test_wards_report_exits_exactly(tmp_path: Path) -> None:
    """Exit codes, signals and usage come back as they were; what cannot start is refused with its errno."""
    wards = Wards()
    try:

        async def end(*argv: str) -> Exit:
            files = [os.open(os.devnull, os.O_RDWR) for _ in range(3)]
            ward = await wards.spawn(argv, {"PATH": os.defpath}, tmp_path, (files[0], files[1], files[2]))
            return await ward.end()

        ends = await asyncio.gather(end("true"), end("false"), end("sh", "-c", "kill -TERM $$"))

        assert [one.code for one in ends] == [0, 1, -signal.SIGTERM]
        assert [str(one) for one in ends] == ["exit code 0", "exit code 1", "SIGTERM"]
        with pytest.raises(SpawnRefused) as caught:
            await end("./none")
        assert caught.value.errno == 2
        before = open_files()
        await asyncio.gather(*(end("true") for _ in range(20)))
        assert open_files() == before
    finally:
        await wards.close()


async def test_children_start_with_default_signals(tmp_path: Path) -> None:
    """The warden's own handling of signals is not inherited: SIGTERM ends a child."""
    wards = Wards()
    try:
        files = [os.open(os.devnull, os.O_RDWR) for _ in range(3)]
        ward = await wards.spawn(["sleep", "600"], {"PATH": os.defpath}, tmp_path, (files[0], files[1], files[2]))
        ward.kill(signal.SIGTERM)

        assert (await ward.end()).code == -signal.SIGTERM
    finally:
        await wards.close()
