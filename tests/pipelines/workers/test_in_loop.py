"""Coroutines in the service's own loop: only where declared, with timeout and cancel, and watched."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pipelines.engines.python import KIND, PythonEngine
from pipelines.errors import TaskFailed, TaskTimedOut
from pipelines.ports import TaskContext, TaskResult
from pipelines.workers.loop_watch import LoopWatch
from tests.support.engine_contexts import make_context, make_settings
from tests.support.processes import read_pid

TASKS = """
import asyncio
import os

from pipelines.authoring import Context


async def here(n: int, ctx: Context):
    ctx.log("in the loop")
    await asyncio.sleep(0)
    return {"pid": os.getpid(), "n": n, "run": ctx.run}


async def waits(ready, context):
    with open(ready, "w") as file:
        file.write("1")
    try:
        await asyncio.Event().wait()
    finally:
        with open(ready + ".ended", "w") as file:
            file.write(str(context.cancelled))


async def boom():
    raise ValueError("no luck")


async def odd():
    return {1}


def plain():
    return 1
"""


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[PythonEngine]:
    (folder / "loop_jobs.py").write_text(TASKS)
    engine = KIND.build(make_settings(folder))
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
    return make_context("python", {"function": f"loop_jobs:{name}", "in_loop": True}, params=params, **more)


async def test_only_what_is_declared_runs_in_the_loop(tmp_path: Path) -> None:
    """With `in_loop` the function runs in this process; without, the same function runs in a worker."""
    import os

    lines: list[tuple[str, str]] = []
    async with opened(tmp_path) as engine:
        here = await run(engine, call("here", {"n": 3}, log=lambda s, t: lines.append((s, t))))
        there = await run(engine, make_context("python", {"function": "loop_jobs:here"}, params={"n": 3}))

    assert here.output == {"pid": os.getpid(), "n": 3, "run": "run_01"}
    assert there.output["pid"] != os.getpid()
    assert lines == [("log", "in the loop")]
    assert here.cpu_seconds is None


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        pytest.param("boom", "ValueError", "no luck", id="raises"),
        pytest.param("odd", "value", "builtins.set", id="value"),
        pytest.param("plain", "bad_options", "no `async def`", id="not-async"),
        pytest.param("here", "bad_arguments", "'n' is neither", id="argument"),
    ],
)
async def test_failures_are_those_of_workers(tmp_path: Path, name: str, kind: str, said: str) -> None:
    """The same kinds and sentences, with the traceback in the run's log."""
    lines: list[str] = []
    async with opened(tmp_path) as engine:
        with pytest.raises(TaskFailed, match=said) as caught:
            await run(engine, call(name, log=lambda _, text: lines.append(text)))

    assert caught.value.kind == kind
    assert ('    raise ValueError("no luck")' in lines) is (name == "boom")


@pytest.mark.parametrize("way", ["timeout", "cancel"])
async def test_it_is_stopped_as_any_other(tmp_path: Path, way: str) -> None:
    """When its time is up, or its run is cancelled, the function is cancelled and its `finally` runs."""
    ready = tmp_path / "ready"
    async with opened(tmp_path) as engine:
        context = call("waits", {"ready": str(ready)}, seconds=0.3 if way == "timeout" else 60.0)
        handle = await engine.start(context)
        poll = asyncio.create_task(engine.poll(context, handle))
        await read_pid(ready)
        if way == "cancel":
            await engine.cancel(context, handle)
        with pytest.raises(TaskTimedOut if way == "timeout" else TaskFailed):
            await poll

    assert (tmp_path / "ready.ended").read_text() == "True"


async def test_new_runs_run_new_code_and_old_ones_theirs(tmp_path: Path) -> None:
    """A run keeps its version in this process as well, which cannot be replaced."""
    (tmp_path / "changing_in_loop.py").write_text("async def answer():\n    return 1\n")

    async def answer(run_uid: str) -> Any:
        context = make_context("python", {"function": "changing_in_loop:answer", "in_loop": True}, run=run_uid)
        return (await run(engine, context)).output

    async with opened(tmp_path) as engine:
        first = await answer("run_old")
        (tmp_path / "changing_in_loop.py").write_text("async def answer():\n    return 22\n")
        got = [await answer(uid) for uid in ("run_new", "run_old", "run_new")]

    assert (first, got) == (1, [22, 1, 22])


async def test_a_name_that_is_taken_in_the_service_is_refused(tmp_path: Path) -> None:
    """A module that would be another one here is not run by mistake."""
    (tmp_path / "config.py").write_text("async def load():\n    return 1\n")
    async with opened(tmp_path) as engine:
        with pytest.raises(TaskFailed, match=r"config"):
            await run(engine, make_context("python", {"function": "config:load", "in_loop": True}))


async def test_a_blocked_loop_is_told_while_and_after_it_is_blocked(caplog: pytest.LogCaptureFixture) -> None:
    """The service's log names task and line at once, from another thread; the run's log says it as well."""
    lines: list[str] = []
    watch = LoopWatch(patience=0.05, every=0.01)

    async def blocks() -> None:
        while not any("blocks it at" in record.getMessage() for record in caplog.records):
            pass

    with caplog.at_level(logging.ERROR):
        task = asyncio.create_task(blocks(), name="run_1/greedy")
        with watch.over(task, lambda _, text: lines.append(text)):
            await asyncio.wait([task], timeout=20)
    await asyncio.sleep(0)

    (record,) = caplog.records
    assert "task run_1/greedy blocks it at" in record.getMessage()
    assert "test_in_loop.py" in record.getMessage()
    assert len(lines) == 1
    assert "this task blocks it" in lines[0]
