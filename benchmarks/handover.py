"""Handing a 100 MB frame from one Python task to the next, and starting a task in a warm worker.

Ours: two tasks of the `python` engine, the frame an Arrow file between them (written, synced, mapped). The baseline:
the same functions in a `ProcessPoolExecutor`, the frame pickled through its pipes to the parent and on. Both are warm,
live at the same time, and take turns. `start_over_bare_ms` is the p50 of a no-op task less that of a no-op submission.
"""

import asyncio
import multiprocessing
import statistics
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks import handover_tasks as tasks
from benchmarks.harness import fdatasync_ms, quantile, workspace
from pipelines.engines.python import PythonEngine
from pipelines.kind import EngineSettings
from pipelines.ports import TaskContext
from pipelines.run import Run, RunState, TaskRun, TaskState
from pipelines.task import TaskDef
from sensors.clock import SystemClock

ROWS = 6_250_000  # of two columns of eight bytes: 100 MB
ROUNDS, STARTS = 7, 300
ROOT = Path(__file__).resolve().parent.parent


def measure(rows: int = ROWS, rounds: int = ROUNDS, starts: int = STARTS) -> Mapping[str, Any]:
    """Return the ratio of medians, and the figures behind it."""
    with workspace() as folder:
        return {**asyncio.run(_measure(folder, rows, rounds, starts)), "fdatasync_ms": round(fdatasync_ms(folder), 3)}


async def _measure(folder: Path, rows: int, rounds: int, starts: int) -> dict[str, Any]:
    settings = EngineSettings(clock=SystemClock(), service="bench", state=folder, base=ROOT, workers=2)
    engine = PythonEngine(settings)
    ours, bare, ours_start, bare_start = [], [], [], []
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            for _ in range(2):
                await _ours(engine, 1000)
                await _bare(pool, 1000)
            before = _anonymous()
            growth = 0
            for _ in range(rounds):
                ours.append(await _timed(_ours(engine, rows)))
                growth = max(growth, _anonymous() - before)
                bare.append(await _timed(_bare(pool, rows)))
                before = _anonymous()
            for _ in range(starts):
                ours_start.append(await _timed(_call(engine, "nothing", {}, {})))
                bare_start.append(await _timed(_submit(pool)))
        finally:
            await engine.close()
    over = (statistics.median(ours_start) - statistics.median(bare_start)) * 1000
    return {
        "ratio": round(statistics.median(ours) / statistics.median(bare), 3),
        "handover_ms": round(statistics.median(ours) * 1000, 1),
        "pickled_ms": round(statistics.median(bare) * 1000, 1),
        "megabytes": round(rows * 16 / 1e6),
        "rss_growth_mb": round(growth / 1e6, 1),
        "p50_ms": round(statistics.median(ours_start) * 1000, 3),
        "p99_ms": round(quantile(ours_start, 0.99) * 1000, 3),
        "bare_p50_ms": round(statistics.median(bare_start) * 1000, 3),
        "start_over_bare_ms": round(over, 3),
        "python": sys.version.split()[0],
    }


async def _ours(engine: PythonEngine, rows: int) -> None:
    made = await _call(engine, "make", {"rows": rows}, {})
    total = await _call(engine, "total", {}, {"make": made})
    if total != tasks.expected(rows):
        raise RuntimeError(f"the frame arrived changed: {total}")


async def _bare(pool: ProcessPoolExecutor, rows: int) -> None:
    loop = asyncio.get_running_loop()
    made = await loop.run_in_executor(pool, tasks.make, rows)
    if await loop.run_in_executor(pool, tasks.total, made) != tasks.expected(rows):
        raise RuntimeError("the frame arrived changed")


async def _submit(pool: ProcessPoolExecutor) -> None:
    await asyncio.get_running_loop().run_in_executor(pool, tasks.nothing)


async def _timed(work: Any) -> float:
    begun = time.perf_counter()
    await work
    return time.perf_counter() - begun


async def _call(engine: PythonEngine, name: str, params: Mapping[str, Any], upstream: Mapping[str, Any]) -> Any:
    options = {"function": f"benchmarks.handover_tasks:{name}"}
    run = Run(uid="run_bench", pipeline="p", definition="d", state=RunState.RUNNING, key="k", created_at=0, fence=1)
    context = TaskContext(
        run=run,
        task=TaskDef(name=name, engine="python", options=options),
        task_run=TaskRun(uid="tsk_1", run=run.uid, task=name, state=TaskState.RUNNING, attempt=1, engine="python"),
        options=options,
        params=params,
        upstream=upstream,
    )
    result = await engine.poll(context, await engine.start(context))
    return None if result is None else result.output


def _anonymous() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0
