"""The same functions on a real Dask cluster: a scheduler and two workers."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipelines.datasets.values import load
from pipelines.engines.dask import KIND, DaskEngine
from pipelines.errors import Ambiguous, LeaseLost, TaskFailed, TaskTimedOut
from pipelines.pipeline import PipelineDef
from pipelines.ports import TaskContext, TaskResult
from pipelines.task import Retries, TaskDef
from pipelines.testing import run_pipeline
from tests.support.dask import DaskCluster, dask_cluster, free_port
from tests.support.engine_contexts import TRACEPARENT, make_context, make_settings
from tests.support.processes import gone, read_pid
from tests.support.worker_tasks import FRAMES, PLAIN

COUNTED = """
import os
import time


def counted(ready, wait):
    with open(ready + ".count", "a") as file:
        file.write("x")
    with open(ready + ".tmp", "w") as file:
        file.write(str(os.getpid()))
    os.rename(ready + ".tmp", ready)
    while wait and not os.path.exists(ready + ".go"):
        time.sleep(0.005)
    print("done waiting")
    return os.getppid()
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    running = dask_cluster(tmp_path_factory.mktemp("dask"))
    with asyncio.Runner() as runner:
        yield runner.run(running.__aenter__())
        runner.run(running.__aexit__(None, None, None))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in (("plain", PLAIN), ("frames", FRAMES), ("counting", COUNTED)):
        (tmp_path / f"{name}.py").write_text(text)
    return tmp_path


@asynccontextmanager
async def opened(folder: Path, **connection: Any) -> AsyncIterator[DaskEngine]:
    settings = replace(
        make_settings(folder), connections={"dask": {"kind": "dask", **connection}} if connection else {}
    )
    engine = KIND.build(settings)
    assert isinstance(engine, DaskEngine)
    await engine.open()
    try:
        yield engine
    finally:
        await engine.close()


def call(cluster: DaskCluster, function: str, params: dict[str, Any] | None = None, **more: Any) -> TaskContext:
    options = {"function": function, "scheduler": cluster.address, **more.pop("options", {})}
    return make_context("dask", options, params=params, run=f"run_{os.urandom(6).hex()}", **more)


async def run(engine: DaskEngine, context: TaskContext) -> TaskResult:
    result = await engine.poll(context, await engine.start(context))
    assert result is not None
    return result


async def test_a_function_runs_as_it_does_here(cluster: DaskCluster, folder: Path) -> None:
    """Arguments, context, output, usage and log lines are those of the `python` engine, and so is the trace context."""
    lines: list[tuple[str, str]] = []
    async with opened(folder) as engine:
        context = call(cluster, "plain:hello", {"name": "Ada"}, log=lambda s, t: lines.append((s, t)))
        result = await run(engine, context)
        environ = await run(engine, call(cluster, "plain:environment"))

    assert result.output == {"text": "hi Ada", "attempt": 1, "run": context.run.uid}
    assert sorted(lines[:3]) == [("log", "logged"), ("stderr", "err of Ada"), ("stdout", "out of Ada")]
    assert lines[3][1].startswith("ran on the Dask worker at tcp://127.0.0.1:")
    assert result.peak_rss_bytes is not None
    assert result.peak_rss_bytes > 5_000_000
    assert environ.output["TRACEPARENT"] == TRACEPARENT


async def test_two_workers_work_beside_each_other(cluster: DaskCluster, folder: Path) -> None:
    """Tasks that wait for each other's files end, on processes of different Dask workers."""
    async with opened(folder) as engine:
        contexts = [call(cluster, "counting:counted", {"ready": str(folder / f"r{n}"), "wait": True}) for n in range(4)]
        polls = [asyncio.create_task(run(engine, context)) for context in contexts]
        for n in range(4):
            await read_pid(folder / f"r{n}")
        for n in range(4):
            (folder / f"r{n}.go").touch()
        results = await asyncio.gather(*polls)

    assert len({result.output for result in results}) == 2


async def test_every_line_arrives_before_the_result(cluster: DaskCluster, folder: Path) -> None:
    """A flood is complete and in order when the result is there."""
    lines: list[str] = []
    async with opened(folder) as engine:
        await run(engine, call(cluster, "plain:flood", {"lines": 5_000}, log=lambda _, text: lines.append(text)))

    assert lines[:-1] == [f"line {n}" for n in range(5_000)]


@pytest.mark.parametrize(
    ("function", "params", "kind", "said"),
    [
        pytest.param("plain:boom", {}, "ValueError", "no luck", id="raises"),
        pytest.param("plain:die", {"how": "SIGSEGV"}, "crashed", "SIGSEGV", id="crash"),
        pytest.param("plain:hard_exit", {}, "crashed", "exit code 7", id="exit"),
        pytest.param("plain:grow", {}, "memory", "memory limit of 300 MiB", id="memory"),
        pytest.param("nowhere:f", {}, "import", "'nowhere:f' cannot be imported", id="import"),
        pytest.param("plain:strange", {}, "value", "plain values", id="value"),
    ],
)
async def test_failures_are_those_of_the_function(
    cluster: DaskCluster, folder: Path, function: str, params: dict[str, Any], kind: str, said: str
) -> None:
    """A crash, a leak or an exception fails the attempt as it does in a local worker, and no Dask worker is lost."""
    async with opened(folder) as engine:
        with pytest.raises(TaskFailed, match=said) as caught:
            await run(engine, call(cluster, function, params, options={"memory": "300MiB"}))

    assert caught.value.kind == kind
    assert all(worker.poll() is None for worker in cluster.workers)


async def test_a_timeout_kills_there(cluster: DaskCluster, folder: Path) -> None:
    """The function is killed on its worker, with its children, when the attempt's time is up."""
    async with opened(folder) as engine:
        context = call(cluster, "plain:hang", {"ready": str(folder / "ready")}, seconds=1.0)
        with pytest.raises(TaskFailed, match="longer than its timeout") as caught:
            await run(engine, context)
        await gone(await read_pid(folder / "ready"))

    assert caught.value.kind == TaskTimedOut("").kind


async def test_cancel_reaches_the_worker(cluster: DaskCluster, folder: Path) -> None:
    """Cancelling kills the function and its children where they run, and the scheduler forgets the task."""
    async with opened(folder) as engine:
        context = call(cluster, "plain:hang", {"ready": str(folder / "ready")})
        handle = await engine.start(context)
        child = await read_pid(folder / "ready")
        await engine.cancel(context, handle)
        await gone(child)

        assert await engine.find(context) is None
        await engine.cancel(context, handle)


async def test_what_waits_in_the_cluster_is_not_begun_after_it_was_cancelled(
    cluster: DaskCluster, folder: Path
) -> None:
    """With all places taken, a cancelled task never runs."""
    async with opened(folder) as engine:
        busy = [call(cluster, "counting:counted", {"ready": str(folder / f"b{n}"), "wait": True}) for n in range(4)]
        polls = [asyncio.create_task(run(engine, context)) for context in busy]
        for n in range(4):
            await read_pid(folder / f"b{n}")
        waiting = call(cluster, "counting:counted", {"ready": str(folder / "w"), "wait": False})
        await engine.cancel(waiting, await engine.start(waiting))
        for n in range(4):
            (folder / f"b{n}.go").touch()
        await asyncio.gather(*polls)
        after = call(cluster, "counting:counted", {"ready": str(folder / "after"), "wait": False})
        await run(engine, after)

    assert not (folder / "w.count").exists()


async def test_one_key_is_run_once(cluster: DaskCluster, folder: Path) -> None:
    """Started again under its key, a task is the one that is there; a lost lease submits nothing."""
    async with opened(folder) as engine:
        context = call(cluster, "counting:counted", {"ready": str(folder / "r"), "wait": True})
        handles = [await engine.start(context) for _ in range(3)]
        assert await engine.find(context) == handles[0]
        await read_pid(folder / "r")
        (folder / "r.go").touch()
        await engine.poll(context, handles[0])
        with pytest.raises(LeaseLost):
            await engine.start(call(cluster, "plain:pid", held=lambda: False))

    assert len(set(handles)) == 1
    assert (folder / "r.count").read_text() == "x"


async def test_the_work_survives_the_service(cluster: DaskCluster, folder: Path) -> None:
    """A new service finds the task under its key, gets its lines and its result; it was run once."""
    lines: list[str] = []
    context = call(
        cluster, "counting:counted", {"ready": str(folder / "r"), "wait": True}, log=lambda _, text: lines.append(text)
    )
    async with opened(folder) as engine:
        await engine.start(context)
        await read_pid(folder / "r")
    (folder / "r.go").touch()
    async with opened(folder) as engine:
        handle = await engine.find(context)
        assert handle is not None
        result = await engine.poll(context, handle)

    assert result is not None
    assert lines[0] == "done waiting"
    assert (folder / "r.count").read_text() == "x"


@pytest.mark.parametrize("shared", [False, True], ids=["sent-along", "spool"])
async def test_frames_go_both_ways(cluster: DaskCluster, folder: Path, shared: bool) -> None:
    """Through a shared folder, or sent along: what the next task gets is equal, and the service can read it."""
    options = {"spool": str(folder / "shared")} if shared else {}
    async with opened(folder) as engine:
        made = await run(engine, call(cluster, "frames:frame", {"rows": 1000}, task="frame", options=options))
        context = call(cluster, "frames:total", upstream={"frame": made.output}, options=options)
        total = await run(engine, context)
        published = await run(
            engine, call(cluster, "frames:frame", options={**options, "output": "parquet://out/f.parquet"})
        )

    assert load(made.output).equals(pl.DataFrame({"id": range(1000), "amount": [float(n) for n in range(1000)]}))
    assert Path(made.output["$value"]["path"]).is_relative_to(folder / ("shared" if shared else "state"))
    assert total.output == sum(range(1000))
    assert [(write.rows, Path(write.name)) for write in published.datasets] == [(3, folder / "out" / "f.parquet")]


async def test_what_is_too_large_to_be_sent_says_what_to_do(
    cluster: DaskCluster, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a shared folder a large frame fails for good, in either direction, and names the way out."""
    monkeypatch.setattr("pipelines.dask_node.MAX_PARCEL", 1 << 20)
    async with opened(folder) as engine:
        with pytest.raises(TaskFailed, match=r"more than the 1 MiB that are sent.*set `spool`") as caught:
            await run(engine, call(cluster, "frames:frame", {"rows": 200_000}, task="frame"))
        large = await run(engine, call(cluster, "frames:frame", {"rows": 3}, task="frame"))
        Path(large.output["$value"]["path"]).write_bytes(b"x" * (2 << 20))
        with pytest.raises(TaskFailed, match="set `spool`"):
            await run(engine, call(cluster, "frames:total", upstream={"frame": large.output}))

    assert (caught.value.kind, caught.value.retryable) == ("too_large", False)


async def test_a_task_of_a_lost_worker_fails_and_is_not_run_twice(folder: Path, cluster: DaskCluster) -> None:
    """When the Dask worker dies, Dask gives the task to another one, which does not run it: a new attempt is ours."""
    async with opened(folder) as engine:
        context = call(cluster, "counting:counted", {"ready": str(folder / "r"), "wait": True})
        poll = asyncio.create_task(run(engine, context))
        process = await read_pid(folder / "r")
        victim = next(worker for worker in cluster.workers if _below(worker.pid, process))
        victim.send_signal(signal.SIGKILL)
        with pytest.raises(TaskFailed, match="died, or was taken away") as caught:
            await poll
        await gone(process)
        (folder / "r.go").touch()
        cluster.add_worker()
        await cluster.ready()

    assert (caught.value.kind, caught.value.retryable) == ("lost_worker", True)
    assert (folder / "r.count").read_text() == "x"


async def test_a_run_retries_what_a_lost_worker_took_along(folder: Path, cluster: DaskCluster) -> None:
    """Through the executor: the first attempt is lost with its worker, the second succeeds on another one."""
    definition = PipelineDef(
        name="p",
        tasks=(
            TaskDef(
                name="work",
                engine="dask",
                options={
                    "function": "counting:counted",
                    "scheduler": cluster.address,
                    "args": {"ready": str(folder / "r"), "wait": True},
                },
                retries=Retries(attempts=1),
            ),
        ),
    )
    async with opened(folder) as engine:
        running = asyncio.create_task(run_pipeline(definition, engines={"dask": engine}))
        process = await read_pid(folder / "r")
        victim = next(worker for worker in cluster.workers if _below(worker.pid, process))
        victim.send_signal(signal.SIGKILL)
        await gone(process)
        (folder / "r.go").touch()
        report = await running
        cluster.add_worker()
        await cluster.ready()

    assert report.succeeded, report.error
    assert report.tasks["work"].attempt == 2
    assert (folder / "r.count").read_text() == "xx"


async def test_a_scheduler_that_is_gone_is_asked_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is away nobody knows; when it is back and knows nothing, the attempt has failed and may be repeated."""
    monkeypatch.setattr("pipelines.dask_cluster._CONNECT_WITHIN", 1.0)
    async with dask_cluster(folder / "dask", workers=1) as own, opened(folder, scheduler=own.address) as engine:
        context = make_context(
            "dask", {"function": "counting:counted"}, params={"ready": str(folder / "r"), "wait": True}
        )
        handle = await engine.start(context)
        process = await read_pid(folder / "r")
        poll = asyncio.create_task(engine.poll(context, handle))
        own.kill_scheduler()
        with pytest.raises(Ambiguous, match="Dask scheduler at"):
            await poll
        await gone(process, seconds=30)
        await own.restart_scheduler()
        assert await engine.find(context) is None
        with pytest.raises(TaskFailed, match="knows nothing of the task any more") as caught:
            await engine.poll(context, handle)

    assert (caught.value.kind, caught.value.retryable) == ("lost_worker", True)


async def test_a_scheduler_that_is_not_there_is_a_failure_before_anything_is_sent(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the address; with no address at all it says where to write one."""
    monkeypatch.setattr("pipelines.dask_cluster._CONNECT_WITHIN", 0.3)
    address = f"tcp://127.0.0.1:{free_port()}"
    async with opened(folder) as engine:
        with pytest.raises(TaskFailed, match=f"{address} does not answer.*nothing was submitted") as caught:
            await engine.start(make_context("dask", {"function": "plain:pid", "scheduler": address}))
        assert (caught.value.kind, caught.value.retryable) == ("connect", True)
        with pytest.raises(TaskFailed, match=r"no Dask scheduler is known.*scheduler: tcp://host:8786"):
            await engine.start(make_context("dask", {"function": "plain:pid"}))
        with pytest.raises(TaskFailed, match="there is no connection 'other'"):
            await engine.start(make_context("dask", {"function": "plain:pid", "connection": "other"}))


def _below(pid: int, descendant: int) -> bool:
    """Say whether a process is below another."""
    while descendant > 1:
        if descendant == pid:
            return True
        descendant = int(Path(f"/proc/{descendant}/stat").read_text().rpartition(")")[2].split()[1])
    return False
