"""What a task may do to its worker, and what becomes of both: memory, leaks, being asked to stop, what it may know."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines.engines.python import KIND, PythonEngine
from pipelines.errors import TaskFailed
from pipelines.ports import TaskContext, TaskResult
from tests.support.engine_contexts import TRACEPARENT, make_context, make_settings
from tests.support.memory import anonymous, peak
from tests.support.processes import gone, read_pid

TASKS = """
import os
import subprocess
import sys
import time

from pipelines.authoring import Context

KEPT = []


def pid():
    return os.getpid()


def leak(size):
    KEPT.append(bytearray(size))
    return os.getpid()


def child_grows():
    code = "kept = bytearray(400_000_000); import time; time.sleep(600)"
    subprocess.run([sys.executable, "-c", code], check=True)


def polite(ready, *, me: Context):
    if me.cancelled:
        return
    with open(ready, "w") as file:
        file.write(str(os.getpid()))
    while not me.cancelled:
        time.sleep(0.005)
    print("tidied up", flush=True)
    with open(ready + ".tidied", "w") as file:
        file.write("1")


def stubborn(ready, context):
    context.cancelled
    with open(ready, "w") as file:
        file.write(str(os.getpid()))
    while True:
        time.sleep(60)


def who(n: int, *, ctx: Context):
    ctx.log("known")
    (ctx.scratch / "file").write_text("x")
    return {
        "run": ctx.run, "task": ctx.task, "attempt": ctx.attempt, "pipeline": ctx.pipeline, "partition": ctx.partition,
        "params": dict(ctx.params), "events": list(ctx.events), "uids": list(ctx.event_uids), "key": ctx.key,
        "traceparent": ctx.headers["traceparent"], "remaining": ctx.remaining(), "deadline": ctx.deadline.isoformat(),
        "base": str(ctx.base), "scratch": str(ctx.scratch), "cancelled": ctx.cancelled, "n": n,
    }
"""


FRAMES = """
import polars as pl


def wide(rows):
    return pl.LazyFrame({"id": pl.int_range(rows, eager=True)})


def add(wide: pl.DataFrame):
    return wide["id"].sum()
"""


@asynccontextmanager
async def opened(folder: Path, **settings: Any) -> AsyncIterator[PythonEngine]:
    (folder / "jobs.py").write_text(TASKS)
    (folder / "frames.py").write_text(FRAMES)
    engine = KIND.build(replace(make_settings(folder), **settings))
    assert isinstance(engine, PythonEngine)
    try:
        yield engine
    finally:
        await engine.close()


async def run(engine: PythonEngine, context: TaskContext) -> TaskResult:
    result = await engine.poll(context, await engine.start(context))
    assert result is not None
    return result


def call(name: str, params: dict[str, Any] | None = None, **more: Any) -> TaskContext:
    module = "frames" if name in ("wide", "add") else "jobs"
    options = {"function": f"{module}:{name}", **more.pop("options", {})}
    return make_context("python", options, params=params, **more)


async def test_a_memory_limit_counts_children_and_says_both_figures(tmp_path: Path) -> None:
    """What the task started counts as its own; the error names the limit and what was used, the peak is recorded."""
    async with opened(tmp_path, task_memory=300 << 20) as engine:
        with pytest.raises(TaskFailed, match=r"used \d{3} MiB, more than its memory limit of 300 MiB") as caught:
            await run(engine, call("child_grows"))
        assert caught.value.kind == "memory"
        assert caught.value.peak_rss_bytes is not None
        assert 300 << 20 < caught.value.peak_rss_bytes < 500 << 20
        assert (await run(engine, call("leak", {"size": 310 << 20}, options={"memory": "600MiB"}))).output


async def test_a_worker_that_leaks_is_replaced(tmp_path: Path) -> None:
    """A worker that keeps more than it may between two tasks serves no third one; one that keeps less stays warm."""
    async with opened(tmp_path, worker_memory=128 << 20) as engine:
        first = (await run(engine, call("leak", {"size": 1 << 20}))).output
        assert (await run(engine, call("leak", {"size": 200 << 20}))).output == first
        assert (await run(engine, call("pid"))).output != first
        await gone(first)


async def test_a_worker_is_replaced_after_its_tasks(tmp_path: Path) -> None:
    """`tasks_per_worker` bounds how long a worker lives."""
    async with opened(tmp_path, tasks_per_worker=2) as engine:
        pids = [(await run(engine, call("pid"))).output for _ in range(4)]

    assert pids[0] == pids[1] != pids[2] == pids[3]


async def test_a_task_that_looks_for_it_may_tidy_up_when_cancelled(tmp_path: Path) -> None:
    """`context.cancelled` becomes true, the task ends by itself, and what it printed is in the log."""
    lines: list[str] = []
    async with opened(tmp_path) as engine:
        context = call("polite", {"ready": str(tmp_path / "ready")}, log=lambda _, text: lines.append(text))
        handle = await engine.start(context)
        worker = await read_pid(tmp_path / "ready")
        await engine.cancel(context, handle)
        await gone(worker)

    assert (tmp_path / "ready.tidied").exists()
    assert "tidied up" in lines


async def test_a_task_that_looks_and_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Patience has an end: cancelling takes seconds, and nothing is left."""
    monkeypatch.setattr("pipelines.workers.pool._STOP_WITHIN", 0.2)
    async with opened(tmp_path) as engine:
        context = call("stubborn", {"ready": str(tmp_path / "ready")})
        handle = await engine.start(context)
        worker = await read_pid(tmp_path / "ready")
        async with asyncio.timeout(5):
            await engine.cancel(context, handle)
        await gone(worker)


async def test_the_context_tells_what_a_task_may_know(tmp_path: Path) -> None:
    """By annotation, whatever its name; events only where they are asked for; its scratch folder is gone afterwards."""
    lines: list[tuple[str, str]] = []
    async with opened(tmp_path) as engine:
        context = call(
            "who", {"n": 4}, options={"events": [{"uid": "evt_1"}]}, log=lambda s, t: lines.append((s, t)), seconds=60.0
        )
        told = (await run(engine, context)).output
        again = (await run(engine, call("who", {"n": 4}))).output

    assert (told["run"], told["task"], told["attempt"], told["pipeline"]) == ("run_01", "work", 1, "p")
    assert (told["partition"], told["params"], told["n"], told["key"]) == ("2026-01-01", {"n": 4}, 4, "k")
    assert (told["events"], again["events"]) == ([{"uid": "evt_1"}], [])
    assert told["traceparent"] == TRACEPARENT
    assert 50 < told["remaining"] <= 60
    assert told["base"] == str(tmp_path)
    assert Path(told["scratch"]).is_relative_to(tmp_path / "state" / "values" / "run_01")
    assert not Path(told["scratch"]).exists()
    assert told["cancelled"] is False
    assert lines == [("log", "known")]


async def test_a_large_frame_does_not_pass_through_the_service(tmp_path: Path) -> None:
    """100 MB go from task to task while the service's own memory stays where it is, and its peak too."""
    rows = 12_500_000
    async with opened(tmp_path) as engine:
        await run(engine, call("pid"))
        before, highest = anonymous(), peak()
        made = await run(engine, call("wide", {"rows": rows}, task="wide"))
        added = await run(engine, call("add", upstream={"wide": made.output}))

    assert Path(made.output["$value"]["path"]).stat().st_size > 95_000_000
    assert added.output == rows * (rows - 1) // 2
    assert anonymous() - before < 5_000_000
    assert peak() - highest < 5_000_000
