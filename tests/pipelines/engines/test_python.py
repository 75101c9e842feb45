import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipelines.datasets.values import remove_values
from pipelines.engines.python import KIND, PythonEngine, PythonOptions
from pipelines.errors import TaskFailed, TaskTimedOut
from pipelines.ports import TaskContext, TaskResult
from tests.support.engine_contexts import TRACEPARENT, make_context, make_settings
from tests.support.processes import gone, read_pid
from tests.support.worker_tasks import FRAMES, PLAIN

IN_FRAMES = frozenset({"typed", "frame", "lazy", "total", "odd"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "plain.py").write_text(PLAIN)
    (tmp_path / "frames.py").write_text(FRAMES)
    return tmp_path


@asynccontextmanager
async def opened(folder: Path, workers: int = 1) -> AsyncIterator[PythonEngine]:
    engine = KIND.build(make_settings(folder, workers=workers))
    assert isinstance(engine, PythonEngine)
    await engine.open()
    try:
        yield engine
    finally:
        await engine.close()


async def run(engine: PythonEngine, context: TaskContext) -> TaskResult:
    result = await engine.poll(context, await engine.start(context))
    assert result is not None
    return result


def call(name: str, params: dict[str, Any] | None = None, **options: Any) -> TaskContext:
    return make_context(
        "python", {"function": f"{'frames' if name in IN_FRAMES else 'plain'}:{name}", **options}, params=params
    )


async def failure(engine: PythonEngine, context: TaskContext) -> TaskFailed:
    with pytest.raises(TaskFailed) as caught:
        await run(engine, context)
    return caught.value


async def test_arguments_log_and_output(folder: Path) -> None:
    """Arguments come by name, the context is given, prints and log lines arrive before the result, usage is told."""
    lines: list[tuple[str, str]] = []
    context = make_context(
        "python",
        {"function": "plain:hello"},
        params={"name": "Ada", "unused": 1},
        log=lambda s, t: lines.append((s, t)),
    )
    async with opened(folder) as engine:
        result = await run(engine, context)

        assert result.output == {"text": "hi Ada", "attempt": 1, "run": "run_01"}
        assert sorted(lines) == [("log", "logged"), ("stderr", "err of Ada"), ("stdout", "out of Ada")]
        assert result.cpu_seconds is not None
        assert result.peak_rss_bytes is not None
        assert result.peak_rss_bytes > 5_000_000


async def test_arguments_follow_annotations(folder: Path) -> None:
    """A date parameter becomes a date, and an upstream frame becomes lazy where the function asks for that."""
    async with opened(folder) as engine:
        made = await run(engine, call("frame"))
        context = make_context(
            "python", {"function": "frames:typed"}, params={"day": "2026-02-03"}, upstream={"frame": made.output}
        )

        assert (await run(engine, context)).output == {"day": 2026, "rows": 3}


async def test_coroutines_and_keyword_arguments(folder: Path) -> None:
    """An `async def` runs to its end; `**params` gets all parameters; `args` of the task win."""
    async with opened(folder) as engine:
        assert (await run(engine, call("later", {"n": 1}))).output == 2
        assert (await run(engine, call("later", {"n": 1}, args={"n": 5}))).output == 6
        assert (await run(engine, call("everything", {"a": 1, "b": 2}))).output == {"a": 1, "b": 2}


async def test_trace_context_is_in_the_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """During the task TRACEPARENT is the task's, a stale TRACESTATE is gone, our own secrets are not there."""
    monkeypatch.setenv("TRACESTATE", "stale")
    monkeypatch.setenv("TIDEGATE_TOKEN", "secret")
    monkeypatch.setenv("MINE", "yes")
    async with opened(folder) as engine:
        result = await run(engine, call("environment"))

    assert result.output == {"TRACEPARENT": TRACEPARENT, "TRACESTATE": None, "TIDEGATE_TOKEN": None, "MINE": "yes"}


async def test_workers_are_warm(folder: Path) -> None:
    """One worker serves task after task without starting again, within milliseconds."""
    async with opened(folder) as engine:
        first = (await run(engine, call("pid"))).output
        begun = time.perf_counter()
        pids = {(await run(engine, call("pid"))).output for _ in range(50)}

        assert pids == {first}
        assert (time.perf_counter() - begun) / 50 < 0.05


async def test_frames_travel_as_files(folder: Path) -> None:
    """A frame is handed on as a file whose handle names rows and schema; the next task gets a DataFrame back."""
    async with opened(folder) as engine:
        made = await run(engine, call("frame"))
        lazy = await run(engine, call("lazy"))
        total = await run(engine, make_context("python", {"function": "frames:total"}, upstream={"frame": made.output}))

    handle = made.output["$value"]
    assert (handle["rows"], handle["schema"]) == (3, [["id", "Int64"], ["amount", "Float64"]])
    assert Path(handle["path"]).is_relative_to(folder / "state" / "values" / "run_01")
    assert lazy.output["$value"]["rows"] == 2
    assert total.output == 3
    remove_values(folder / "state", "run_01")
    assert not Path(handle["path"]).exists()


async def test_large_values_travel_as_files(folder: Path) -> None:
    """Plain values over 256 KiB leave the ledger alone and arrive whole."""
    async with opened(folder) as engine:
        made = await run(engine, call("large"))
        assert made.output["$value"]["format"] == "json"
        context = make_context("python", {"function": "plain:measure"}, upstream={"large": made.output})
        assert (await run(engine, context)).output == 1000
        Path(made.output["$value"]["path"]).unlink()
        gone_value = await failure(engine, context)

    assert gone_value.kind == "value"
    assert "another machine" in str(gone_value)


@pytest.mark.parametrize(
    ("name", "kind", "word", "retryable"),
    [
        pytest.param("boom", "ValueError", "no luck", True, id="raises"),
        pytest.param("leave", "SystemExit", "4", True, id="exits"),
        pytest.param("hard_exit", "crashed", "exit code 7", True, id="hard-exit"),
        pytest.param("strange", "value", "plain values", False, id="not-serialisable"),
        pytest.param("hello", "bad_arguments", "'name' is neither", False, id="missing-argument"),
        pytest.param("nowhere", "import", "has no 'nowhere'", False, id="no-function"),
        pytest.param("date.today.nope", "import", "has no", False, id="no-attribute"),
        pytest.param("sys.path", "import", "not a function", False, id="no-function-but-a-list"),
        pytest.param("retry_later", "busy", "busy now", True, id="own-failure"),
    ],
)
async def test_failures_are_told_apart(folder: Path, name: str, kind: str, word: str, retryable: bool) -> None:
    """Each way to fail is a failure with its own kind and a sentence that helps."""
    async with opened(folder) as engine:
        failed = await failure(engine, call(name))

    assert (failed.kind, failed.retryable) == (kind, retryable)
    assert word in str(failed)


async def test_own_failures_keep_their_wait(folder: Path) -> None:
    """A task that raises TaskFailed decides when it is tried again."""
    async with opened(folder) as engine:
        assert (await failure(engine, call("retry_later"))).retry_after == 9.0


async def test_tracebacks_show_the_users_code(folder: Path) -> None:
    """The traceback is in the log, from the user's function on."""
    lines: list[str] = []
    context = make_context("python", {"function": "plain:boom"}, log=lambda _, text: lines.append(text))
    async with opened(folder) as engine:
        await failure(engine, context)

    text = "\n".join(lines)
    assert "plain.py" in text
    assert 'raise ValueError("no luck")' in text
    assert "workers/job.py" not in text


async def test_missing_modules_are_named(folder: Path) -> None:
    """A module that cannot be found is named, with where it was looked for."""
    async with opened(folder) as engine:
        failed = await failure(engine, make_context("python", {"function": "no_such_module:f"}))

    assert "no_such_module" in str(failed)
    assert str(folder) in str(failed)


@pytest.mark.parametrize("how", ["SIGSEGV", "SIGKILL", "SIGABRT"])
async def test_a_crash_is_contained(folder: Path, how: str) -> None:
    """A task that kills its worker fails with the signal's name and its last words; the next task runs."""
    async with opened(folder) as engine:
        failed = await failure(engine, call("die", {"how": how}))
        assert failed.kind == "crashed"
        assert how in str(failed)
        assert "last words" in str(failed)
        assert (await run(engine, call("later", {"n": 1}))).output == 2


async def test_timeout_kills_the_group(folder: Path) -> None:
    """A task that hangs and ignores SIGTERM is killed with its children when time is up; the next task runs."""
    async with opened(folder) as engine:
        await run(engine, call("pid"))
        ready = folder / "ready"
        context = make_context("python", {"function": "plain:hang"}, params={"ready": str(ready)}, seconds=1.0)
        with pytest.raises(TaskTimedOut, match="was killed"):
            await run(engine, context)
        await gone(await read_pid(ready))
        assert (await run(engine, call("later", {"n": 1}))).output == 2


async def test_cancel_kills(folder: Path) -> None:
    """A cancelled task is killed with its children, whether by `cancel` or by cancelling the poll."""
    async with opened(folder) as engine:
        for number, way in enumerate(("cancel", "poll")):
            ready = folder / f"ready{number}"
            context = call("hang", {"ready": str(ready)})
            handle = await engine.start(context)
            poll = asyncio.create_task(engine.poll(context, handle))
            child = await read_pid(ready)
            if way == "cancel":
                await engine.cancel(context, handle)
                with pytest.raises(TaskFailed):
                    await poll
            else:
                poll.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await poll
            await gone(child)


async def test_close_ends_even_what_left_the_group(folder: Path) -> None:
    """A child in a session of its own does not outlive the engine."""
    async with opened(folder) as engine:
        await run(engine, call("orphan", {"ready": str(folder / "ready")}))
        child = await read_pid(folder / "ready")
    await gone(child)


async def test_memory_limit_kills(folder: Path) -> None:
    """A task over its memory limit is killed and says so; the limit does not stick to the worker."""
    async with opened(folder) as engine:
        failed = await failure(engine, call("grow", memory="300MiB"))
        assert failed.kind == "memory"
        assert (await run(engine, call("later", {"n": 1}, memory="300MiB"))).output == 2
        assert (await run(engine, call("big_and_gone", {"size": 400_000_000}))).output == 400_000_000


async def test_peak_memory_and_cpu_belong_to_the_task(folder: Path) -> None:
    """A small task after a big one does not inherit its peak; CPU seconds are the task's own."""
    async with opened(folder) as engine:
        big = await run(engine, call("big_and_gone", {"size": 200_000_000}))
        small = await run(engine, call("burn", {"seconds": 0.05}))

    assert big.peak_rss_bytes is not None
    assert small.peak_rss_bytes is not None
    assert small.cpu_seconds is not None
    assert big.peak_rss_bytes - small.peak_rss_bytes > 150_000_000
    assert 0.04 < small.cpu_seconds < 0.5


async def test_changed_code_is_run(folder: Path) -> None:
    """After the user's file changed, the next run's task runs the new code in a new worker."""
    module = folder / "changing.py"
    module.write_text("def answer():\n    return 1\n")
    async with opened(folder) as engine:
        assert (await run(engine, make_context("python", {"function": "changing:answer"}, run="run_1"))).output == 1
        module.write_text("def answer():\n    return 'another one'\n")
        after = make_context("python", {"function": "changing:answer"}, run="run_2")
        assert (await run(engine, after)).output == "another one"


async def test_functions_in_files_and_decorated_ones(folder: Path) -> None:
    """`file.py:name` works without a package, and a decorated function is unwrapped."""
    (folder / "jobs").mkdir()
    (folder / "jobs" / "my-job.py").write_text(
        "class Wrapped:\n    def __init__(self, f): self.__wrapped__ = f\n\n@Wrapped\ndef work():\n    return 'done'\n"
    )
    async with opened(folder) as engine:
        assert (await run(engine, make_context("python", {"function": "jobs/my-job.py:work"}))).output == "done"
        failed = await failure(engine, make_context("python", {"function": "jobs/none.py:work"}))

    assert "there is no file" in str(failed)


async def test_output_of_the_file_descriptors_is_kept_apart(folder: Path) -> None:
    """What a task writes past Python, unfinished lines too, is in its own log and in no other task's."""
    logs: list[list[str]] = [[], []]
    async with opened(folder) as engine:
        first = make_context("python", {"function": "plain:raw"}, log=lambda _, text: logs[0].append(text))
        second = make_context(
            "python",
            {"function": "plain:hello"},
            params={"name": "B"},
            log=lambda _, text: logs[1].append(text),
        )
        for _ in range(5):
            logs[0].clear()
            logs[1].clear()
            await run(engine, first)
            await run(engine, second)

            assert logs[0] == ["raw line", "no endfrom a child"]
            assert sorted(logs[1]) == ["err of B", "logged", "out of B"]


async def test_floods_and_closed_files_do_no_harm(folder: Path) -> None:
    """Many lines all arrive, in order; a task that closes the standard files only loses its lines."""
    lines: list[str] = []
    async with opened(folder) as engine:
        context = make_context(
            "python", {"function": "plain:flood"}, params={"lines": 20_000}, log=lambda _, text: lines.append(text)
        )
        await run(engine, context)
        assert lines == [f"line {n}" for n in range(20_000)]
        await run(engine, call("close_files"))
        assert (await run(engine, call("later", {"n": 1}))).output == 2


async def test_waiting_tasks_are_served_in_order(folder: Path) -> None:
    """With one worker, tasks run in the order in which they came; two workers run beside each other."""
    order: list[int] = []

    async def one(engine: PythonEngine, n: int) -> None:
        await run(engine, call("later", {"n": n}))
        order.append(n)

    async with opened(folder) as engine:
        await asyncio.gather(*(one(engine, n) for n in range(20)))
        assert order == list(range(20))
    async with opened(folder, workers=2) as engine:
        results = await asyncio.gather(*(run(engine, call("burn", {"seconds": 0.2})) for _ in range(2)))
        assert len(results) == 2


async def test_a_task_that_never_got_a_worker_times_out(folder: Path) -> None:
    """Waiting counts: a task whose time passes in the queue was not started, and says so."""
    async with opened(folder) as engine:
        hanging = call("hang", {"ready": str(folder / "ready")})
        handle = await engine.start(hanging)
        await read_pid(folder / "ready")
        with pytest.raises(TaskTimedOut, match="waited for a free worker"):
            await run(engine, make_context("python", {"function": "plain:pid"}, seconds=0.05))
        await engine.cancel(hanging, handle)


@pytest.mark.parametrize("scheme", ["duckdb", "parquet", "csv"])
async def test_outputs_are_published(folder: Path, scheme: str) -> None:
    """A returned frame is written to its dataset, told in OpenLineage naming with rows and schema."""
    path = folder / "out" / f"orders.{scheme}"
    uri = "duckdb://out/orders.duckdb/main.orders" if scheme == "duckdb" else f"{scheme}://out/orders.{scheme}"
    async with opened(folder) as engine:
        result = await run(engine, call("frame", output=uri, checks=[{"kind": "row_count", "options": {"min": 1}}]))

    (write,) = result.datasets
    assert (write.namespace, write.rows) == ("duckdb" if scheme == "duckdb" else "file", 3)
    assert write.name == (f"{path}/main.orders" if scheme == "duckdb" else str(path))
    assert write.schema == (("id", "Int64"), ("amount", "Float64"))
    assert write.task == "work"
    assert [(check.check, check.passed, check.dataset) for check in result.checks] == [("row_count", True, write.name)]
    assert result.output["$value"]["rows"] == 3


async def test_failed_checks_publish_nothing(folder: Path) -> None:
    """A failed check keeps the old data, and the failure says what was found and carries the findings."""
    uri = "parquet://out.parquet"
    checks = [
        {"kind": "between", "options": {"column": "amount", "min": 0, "max": 1e6}},
        {"kind": "unique", "options": {"columns": ["id"]}, "severity": "warn"},
    ]
    async with opened(folder) as engine:
        await run(engine, call("frame", output=uri, checks=checks))
        context = call("odd", {"frame": 1}, output=uri, checks=checks)
        failed = await failure(engine, context)

    assert (failed.kind, failed.retryable) == ("check_failed", True)
    assert "amount: 2 of 3 values are not between 0 and 1000000.0, such as -5.0, 2000000.0" in str(failed)
    assert [(check.passed, check.severity) for check in failed.checks] == [(False, "fail"), (False, "warn")]
    assert pl.read_parquet(folder / "out.parquet").height == 3


async def test_outputs_need_frames(folder: Path) -> None:
    """A task with an output that returns no frame fails for good."""
    async with opened(folder) as engine:
        failed = await failure(engine, call("pid", output="csv://x.csv"))

    assert (failed.kind, failed.retryable) == ("output", False)


@pytest.mark.parametrize(
    "options",
    [
        {"function": "plain"},
        {"function": "plain:f", "output": "s3://x/y"},
        {"function": "plain:f", "output": "csv://x.csv", "mode": "append"},
        {"function": "plain:f", "checks": [{"kind": "x", "severity": "loud"}]},
        {"function": "plain:f", "memory": "much"},
        {"function": "plain:f", "colour": "red"},
    ],
)
async def test_bad_options_start_nothing(tmp_path: Path, options: dict[str, Any]) -> None:
    """Options that cannot be are refused before a worker starts."""
    async with opened(tmp_path) as engine:
        with pytest.raises(TaskFailed) as caught:
            await engine.start(make_context("python", options))

    assert (caught.value.kind, caught.value.retryable) == ("bad_options", False)


def test_options_may_hold_expressions() -> None:
    """At load, options may hold expressions that are evaluated later."""
    options = PythonOptions.model_validate({"function": "a.b:c", "output": "${{ params.out }}", "mode": "append"})

    assert options.output == "${{ params.out }}"


async def test_unknown_handles_are_lost(tmp_path: Path) -> None:
    """A task of a former process is lost, and cancelling it is no error."""
    async with opened(tmp_path) as engine:
        with pytest.raises(TaskFailed) as caught:
            await engine.poll(call("pid"), "99")
        await engine.cancel(call("pid"), "99")

    assert caught.value.kind == "lost"
