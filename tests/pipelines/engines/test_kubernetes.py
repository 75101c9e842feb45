"""The engine `kubernetes` against an API server of ours that runs containers as processes (`fake_kubernetes`)."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from pipelines.engines.kubernetes import KIND
from pipelines.errors import Ambiguous, LeaseLost, TaskFailed, TaskTimedOut
from pipelines.kubernetes_jobs import Succeeded, Waiting, judge, laid_over
from pipelines.ports import Engine, TaskContext, TaskResult
from tests.support.engine_contexts import TRACEPARENT, make_context, make_settings
from tests.support.fake_kubernetes import FakeKubernetes, kubernetes, status

SCRIPTS = Path(__file__).parents[1] / "pipes" / "scripts"
Lines = list[tuple[str, str]]


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[tuple[Engine, FakeKubernetes, Callable[..., TaskContext]]]:
    async with kubernetes() as cluster:
        kubeconfig = cluster.kubeconfig(folder)
        engine = KIND.build(make_settings(folder))

        def context(code: str = "", lines: Lines | None = None, **options: Any) -> TaskContext:
            kept: Lines = [] if lines is None else lines
            told = {
                "image": "acme/load:7",
                "command": [sys.executable, "-c", code],
                "kubeconfig": str(kubeconfig),
                **{key: value for key, value in options.items() if key not in ("params", "attempt", "held")},
            }
            more = {key: value for key, value in options.items() if key in ("params", "attempt", "held")}
            return make_context("kubernetes", told, log=lambda s, t: kept.append((s, t)), **more)

        try:
            yield engine, cluster, context
        finally:
            await engine.close()


async def finish(engine: Engine, context: TaskContext, handle: str) -> TaskResult:
    """Poll to the end, as the dispatcher does."""
    while True:
        result = await engine.poll(context, handle)
        if result is not None:
            return result
        await asyncio.sleep(0.02)


async def run(engine: Engine, context: TaskContext) -> TaskResult:
    return await finish(engine, context, await engine.start(context))


async def test_a_container_runs_to_its_end(tmp_path: Path) -> None:
    """Its log becomes ours line by line, its last line the output; environment, labels and limits are in the Job."""
    lines: Lines = []
    code = "import os, json; print('one'); print(json.dumps([os.environ['TRACEPARENT'], os.environ['DAY']]))"
    async with opened(tmp_path) as (engine, cluster, context):
        asked = context(
            code,
            lines,
            env={"DAY": 7, "TRACEPARENT": "stale", "GONE": None},
            output="last_line_json",
            resources={"limits": {"memory": "1Gi"}},
            template={"spec": {"nodeSelector": {"disk": "ssd"}, "containers": [{"name": "side", "image": "i"}]}},
        )
        result = await run(engine, asked)
    assert result.output == [TRACEPARENT, "7"]
    assert lines[0] == ("stdout", "one")
    (job,) = cluster.created
    assert job["spec"]["backoffLimit"] == 0
    assert job["spec"]["ttlSecondsAfterFinished"] == 3600
    assert job["metadata"]["annotations"]["tidegate.dev/run"] == "run_01"
    pod = job["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"disk": "ssd"}
    assert [one["name"] for one in pod["containers"]] == ["main", "side"]
    assert pod["containers"][0]["resources"] == {"limits": {"memory": "1Gi"}}
    assert not [one for one in pod["containers"][0]["env"] if one["name"] == "GONE"]


async def test_a_pipes_program_runs_unchanged(tmp_path: Path) -> None:
    """The script that runs under `command` runs in a container too: messages and prints come through its log."""
    lines: Lines = []
    script = (SCRIPTS / "orders.py").read_text()
    async with opened(tmp_path) as (engine, _cluster, context):
        result = await run(engine, context(script, lines, pipes={"assets": ["orders"]}, params={"rows": 3}))
    assert [(write.name, write.rows, write.version) for write in result.datasets] == [("orders", 3, "v7")]
    assert [(check.check, check.passed) for check in result.checks] == [("not_empty", True)]
    assert result.output["messages"] == [{"trace": TRACEPARENT, "retry": 0}]
    assert ("log", "INFO loading 2026-01-01") in lines
    assert ("stdout", "printed as ever") in lines
    assert not [text for _, text in lines if "__dagster_pipes_version" in text]


async def test_one_attempt_is_one_job(tmp_path: Path) -> None:
    """Starting again under the same key attaches to the Job that is there; the next attempt makes another."""
    async with opened(tmp_path) as (engine, cluster, context):
        asked = context("print('x')")
        assert await engine.find(asked) is None
        first = await engine.start(asked)
        assert await engine.start(asked) == first
        assert await engine.find(asked) == first
        again = context("print('x')", attempt=2)
        assert await engine.start(again) != first
        await finish(engine, asked, first)
    assert len(cluster.created) == 2


async def test_a_lost_answer_is_looked_up(tmp_path: Path) -> None:
    """When the connection breaks after the Job was made, nobody claims to know; it is found by its name."""
    async with opened(tmp_path) as (engine, cluster, context):
        cluster.faults["POST jobs"] = [lambda: "after"]
        asked = context("print('x')", output="text")
        with pytest.raises(Ambiguous):
            await engine.start(asked)
        handle = await engine.find(asked)
        assert handle is not None
        assert (await finish(engine, asked, handle)).output == "x\n"
    assert len(cluster.created) == 1


async def test_another_process_follows_a_job_from_its_beginning(tmp_path: Path) -> None:
    """After a takeover the whole log is read again: nothing that the container reported is missing."""
    async with opened(tmp_path) as (engine, _cluster, context):
        asked = context("import time; print('a', flush=True); input() if 0 else None; print('b')", output="text")
        handle = await engine.start(asked)
        await engine.poll(asked, handle)
        other = KIND.build(make_settings(tmp_path))
        try:
            found = await other.find(asked)
            assert found is not None
            assert (await finish(other, asked, found)).output == "a\nb\n"
        finally:
            await other.close()


async def test_a_broken_log_goes_on_where_it_was(tmp_path: Path) -> None:
    """A cut stream is followed on from its last stamp: every line once, in order."""
    lines: Lines = []
    async with opened(tmp_path) as (engine, cluster, context):
        cluster.cut_logs_after = 37
        await run(engine, context("for i in range(100): print(i)", lines))
    assert [text for stream, text in lines if stream == "stdout"] == [str(i) for i in range(100)]


@pytest.mark.parametrize(
    ("code", "image", "kind", "said"),
    [
        pytest.param("raise SystemExit(3)", "a", "exit_code", "ended with exit code 3", id="exit"),
        pytest.param("import os; os.kill(os.getpid(), 11)", "a", "crashed", "ended by signal 11", id="signal"),
        pytest.param("raise SystemExit(137)", "greedy/a", "memory", "more than its memory limit", id="memory"),
        pytest.param("print('no')", "a", "bad_output", "not JSON", id="output"),
    ],
)
async def test_a_bad_end_is_told(tmp_path: Path, code: str, image: str, kind: str, said: str) -> None:
    """How the container ended is the failure's words and kind."""
    async with opened(tmp_path) as (engine, _cluster, context):
        with pytest.raises(TaskFailed, match=said) as caught:
            await run(engine, context(code, image=image, output="json" if kind == "bad_output" else "none"))
    assert caught.value.kind == kind


@pytest.mark.parametrize(("image", "said"), [("none/a", "Back-off pulling image"), ("full/a", "0/3 nodes")])
async def test_a_pod_that_cannot_start_is_no_silent_wait(tmp_path: Path, image: str, said: str) -> None:
    """The reason is in the log at once; after `start_within` it is the failure, and the Job cannot start any more."""
    lines: Lines = []
    async with opened(tmp_path) as (engine, cluster, context):
        asked = context("", lines, image=image, start_within="50ms")
        with pytest.raises(TaskFailed, match=said) as caught:
            await run(engine, asked)
        assert not cluster.jobs
    assert caught.value.kind == "not_started"
    assert len([text for stream, text in lines if stream == "engine" and said in text]) == 1


async def test_cancel_ends_job_and_process(tmp_path: Path) -> None:
    """Cancelling deletes the Job with its pods; work that is gone is no error."""
    async with opened(tmp_path) as (engine, cluster, context):
        asked = context("import time; time.sleep(600)")
        handle = await engine.start(asked)
        while not cluster.pods:
            await asyncio.sleep(0.01)
        (pod,) = cluster.pods.values()
        await engine.cancel(asked, handle)
        await engine.cancel(asked, handle)
        assert len(cluster.deleted) == 1
        await asyncio.wait_for(pod.ended.wait(), 10)
        with pytest.raises(TaskFailed, match="gone from the cluster"):
            await engine.poll(asked, handle)


@pytest.mark.parametrize(
    ("fault", "error", "said"),
    [
        pytest.param(lambda: status(403, "Forbidden", "no rights"), TaskFailed, "role", id="forbidden"),
        pytest.param(lambda: status(422, "Invalid", "bad name"), TaskFailed, "bad name", id="invalid"),
        pytest.param(lambda: status(500, "InternalError", "etcd"), Ambiguous, "etcd", id="server-error"),
        pytest.param(lambda: status(429, "TooManyRequests", "later"), Ambiguous, "later", id="overload"),
        pytest.param(lambda: web.Response(text="<html>"), Ambiguous, "no JSON", id="not-json"),
    ],
)
async def test_refusals_are_judged(tmp_path: Path, fault: Any, error: type[Exception], said: str) -> None:
    """A refusal is a failure in the cluster's words; what may have been carried out is ambiguous."""
    async with opened(tmp_path) as (engine, cluster, context):
        cluster.faults["POST jobs"] = [fault]
        with pytest.raises(error, match=said):
            await engine.start(context(""))


async def test_configuration_faults_are_sentences(tmp_path: Path) -> None:
    """No cluster, a wrong token, a missing namespace, an unreachable server, a lost lease: each says what it is."""
    async with opened(tmp_path) as (engine, cluster, context):
        with pytest.raises(TaskFailed, match="no cluster is configured"):
            await engine.start(context("", kubeconfig=str(tmp_path / "absent")))
        with pytest.raises(TaskFailed, match="no namespace absent"):
            await engine.start(context("", namespace="absent"))
        with pytest.raises(TaskFailed, match="namespace"):
            await engine.start(context("", namespace="a/../b"))
        with pytest.raises(LeaseLost):
            await engine.start(context("", held=lambda: False))
        stranger = tmp_path / "stranger"
        stranger.mkdir()
        with pytest.raises(TaskFailed, match="refuses us"):
            await engine.start(context("", kubeconfig=str(cluster.kubeconfig(stranger, "wrong"))))
        nowhere = tmp_path / "nowhere"
        nowhere.mkdir()
        cluster.url = "http://127.0.0.1:9"
        with pytest.raises(TaskFailed, match="cannot be reached"):
            await engine.start(context("", kubeconfig=str(cluster.kubeconfig(nowhere))))
    assert not cluster.created


def condition(kind: str, **more: str) -> dict[str, Any]:
    return {"metadata": {"name": "j"}, "status": {"conditions": [{"type": kind, "status": "True", **more}]}}


def test_verdicts() -> None:
    """Complete, suspended, past its deadline, evicted, failed without a word: each is its own end."""
    assert judge(condition("Complete"), []) == Succeeded()
    assert judge({"status": {}}, []) == Waiting()
    stuck = judge(condition("Suspended"), [])
    assert isinstance(stuck, Waiting)
    assert "suspended" in stuck.stuck
    with pytest.raises(TaskTimedOut):
        judge(condition("Failed", reason="DeadlineExceeded"), [])
    with pytest.raises(TaskFailed, match="evicted: disk"):
        judge(condition("Failed"), [{"status": {"reason": "Evicted", "message": "disk"}}])
    with pytest.raises(TaskFailed, match="BackoffLimitExceeded"):
        judge(condition("Failed", reason="BackoffLimitExceeded"), [])


def test_a_template_is_laid_over() -> None:
    """Maps are merged deep, named lists by name, anything else is replaced."""
    below = {"a": {"x": 1, "y": 2}, "l": [{"name": "m", "v": 1}], "p": [1, 2]}
    above = {"a": {"y": 3}, "l": [{"name": "m", "w": 2}, {"name": "n"}], "p": [3]}
    assert laid_over(below, above) == {
        "a": {"x": 1, "y": 3},
        "l": [{"name": "m", "v": 1, "w": 2}, {"name": "n"}],
        "p": [3],
    }
