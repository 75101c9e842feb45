"""Fanning out: slices of their own, retried alone, gathered in order, resumed where they failed."""

import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from pipelines.errors import TaskFailed
from pipelines.executor import plan_resume
from pipelines.fanout import MAX_LIST, slices_of
from pipelines.pipeline import PipelineDef
from pipelines.ports import TaskContext, TaskResult
from pipelines.run import Run, RunState, TaskState
from pipelines.task import Retries, TaskDef
from tests.support.dag_world import kill
from tests.support.dispatching import Bench
from tests.support.scripted_engine import Gate, ScriptedEngine

MakeBench = Callable[..., Bench]


class Work:
    """Answers with its slice's element; slices listed in `bad` fail. `calls` counts by label."""

    def __init__(self, *bad: str) -> None:
        self.bad = set(bad)
        self.calls: Counter[str] = Counter()
        self.contexts: dict[str, TaskContext] = {}

    async def __call__(self, context: TaskContext) -> TaskResult:
        label = context.task_run.label
        self.calls[label] += 1
        self.contexts[label] = context
        if label in self.bad:
            raise TaskFailed(f"{label} is broken")
        if context.task.name == "list":
            return TaskResult(output=["x", "y", "z"])
        return TaskResult(output=context.item if context.task_run.partition else context.task.name)


def fan(**more: Any) -> TaskDef:
    given: dict[str, Any] = {"name": "fan", "engine": "e", "partitions": ["x", "y", "z"], **more}
    return TaskDef(**given)


AFTER = TaskDef(name="after", engine="e", needs=("fan",))


def states(bench: Bench, run: Run) -> dict[str, str]:
    return {label: str(task.state) for label, task in bench.store.tasks(run.uid).items()}


def outputs(bench: Bench, run: Run) -> dict[str, Any]:
    tasks = bench.store.tasks(run.uid)
    return {label: orjson.loads(task.output) for label, task in tasks.items() if task.output is not None}


async def test_each_partition_is_a_task_run_of_its_own(make_bench: MakeBench) -> None:
    """Slices run with name and element; what follows waits for all and gets their outputs in the elements' order."""
    work = Work()
    bench = make_bench(ScriptedEngine(work=work))
    run = bench.add(fan(partitions={"no": {"vat": 25}, "de": {"vat": 19}}), AFTER)
    bench.dispatcher()
    await bench.settled()

    assert states(bench, run) == dict.fromkeys(["fan", "fan[no]", "fan[de]", "after"], "succeeded")
    assert outputs(bench, run)["fan"] == [{"vat": 25}, {"vat": 19}]
    assert work.contexts["after"].upstream == {"fan": [{"vat": 25}, {"vat": 19}]}
    assert (work.contexts["fan[de]"].partition, work.contexts["fan[de]"].item) == ("de", {"vat": 19})
    assert work.calls == Counter(["fan[no]", "fan[de]", "after"])
    assert len({key for verb, key in bench.engine.asked if verb == "start"}) == 3


async def test_the_slices_appear_in_one_step(make_bench: MakeBench) -> None:
    """Expansion is durable at once: the step that ends what the list came from inserts all slices."""
    bench = make_bench(ScriptedEngine(work=Work()))
    run = bench.add(
        TaskDef(name="list", engine="e"), fan(needs=("list",), partitions="tasks.list.output", max_parallel=1)
    )
    bench.dispatcher()
    await bench.settled()

    new = [step for step in bench.store.steps if any(task.partition and task.attempt <= 1 for task in step.tasks)]
    first = new[0]
    assert {task.label for task in first.tasks} == {"list", "fan", "fan[x]", "fan[y]", "fan[z]"}
    assert Counter(task.state for task in first.tasks if task.partition) == {
        TaskState.RUNNING: 1,
        TaskState.READY: 2,
    }
    assert bench.state(run) is RunState.SUCCEEDED


async def test_events_can_be_fanned_out_over(make_bench: MakeBench) -> None:
    """`partitions` sees the run's causing events."""
    bench = make_bench(ScriptedEngine(work=Work()))
    run = bench.add(
        fan(partitions="events.map(e, e.data.url)"), events=({"data": {"url": "a"}}, {"data": {"url": "b"}})
    )
    bench.dispatcher()
    await bench.settled()

    assert outputs(bench, run)["fan"] == ["a", "b"]


async def test_a_slice_is_retried_alone(make_bench: MakeBench) -> None:
    """One slice fails once and comes again; its neighbours do not."""
    work = Work("fan[y]")
    bench = make_bench(ScriptedEngine(work=work))
    run = bench.add(fan(retries=Retries(attempts=1, backoff=5, jitter=0)), AFTER)
    bench.dispatcher()
    await bench.settled()
    assert states(bench, run)["fan[y]"] == "retry_wait"
    assert states(bench, run)["after"] == "pending"
    work.bad.clear()
    await bench.clock.advance(6)

    assert bench.state(run) is RunState.SUCCEEDED
    assert work.calls == {"fan[x]": 1, "fan[y]": 2, "fan[z]": 1, "after": 1}


async def test_a_failed_slice_fails_the_task_when_all_have_ended(make_bench: MakeBench) -> None:
    """The others run on to their ends; the task names what failed; nothing follows; resuming does only what is left."""
    work = Work("fan[y]")
    bench = make_bench(ScriptedEngine(work=work))
    run = bench.add(fan(max_parallel=1), AFTER)
    bench.dispatcher()
    await bench.settled()
    tasks = bench.store.tasks(run.uid)
    assert bench.state(run) is RunState.FAILED
    assert tasks["fan"].error == "1 of 3 partitions did not succeed: y; y: fan[y] is broken"
    assert {label: str(task.state) for label, task in tasks.items()} == {
        "fan": "failed",
        "fan[x]": "succeeded",
        "fan[y]": "failed",
        "fan[z]": "succeeded",
        "after": "upstream_failed",
    }

    work.bad.clear()
    work.calls.clear()
    definition = PipelineDef(name="p", tasks=(fan(max_parallel=1), AFTER))
    again = bench.add(definition=definition, tasks=lambda uid, make: plan_resume(definition, tasks.values(), uid, make))
    bench.made[0].wake()
    await bench.settled()

    assert bench.state(again) is RunState.SUCCEEDED
    assert work.calls == {"fan[y]": 1, "after": 1}
    assert outputs(bench, again)["fan"] == ["x", "y", "z"]


@pytest.mark.parametrize(
    ("require", "bad", "ends"),
    [(2, ("y",), "succeeded"), (2, ("x", "y"), "failed"), (0.6, ("z",), "succeeded"), (1.0, ("z",), "failed")],
)
async def test_so_many_as_are_required_must_succeed(
    make_bench: MakeBench, require: float, bad: tuple[str, ...], ends: str
) -> None:
    """`require` is a number or a share; missing outputs are null in the list."""
    bench = make_bench(ScriptedEngine(work=Work(*(f"fan[{name}]" for name in bad))))
    run = bench.add(fan(require=require), AFTER)
    bench.dispatcher()
    await bench.settled()

    assert states(bench, run)["fan"] == ends
    if ends == "succeeded":
        assert outputs(bench, run)["fan"] == [None if name in bad else name for name in ("x", "y", "z")]


async def test_at_most_max_parallel_at_once(make_bench: MakeBench) -> None:
    """A fanned-out task at its limit leaves the run's room to others."""
    gate = Gate()
    bench = make_bench(ScriptedEngine(work=gate))
    run = bench.add(fan(max_parallel=2), TaskDef(name="other", engine="e"))
    bench.dispatcher()
    await bench.settled()

    assert gate.waiting == 3
    assert Counter(states(bench, run).values()) == {"running": 4, "ready": 1}  # with the task that stands for them
    gate.open()
    await bench.settled()
    assert bench.state(run) is RunState.SUCCEEDED


async def test_fanning_out_over_nothing_is_a_success(make_bench: MakeBench) -> None:
    """An empty list has no slices; what follows gets an empty list."""
    work = Work()
    bench = make_bench(ScriptedEngine(work=work))
    run = bench.add(fan(partitions=[]), AFTER, TaskDef(name="copy", engine="e", needs=("fan",), per="fan"))
    bench.dispatcher()
    await bench.settled()

    assert bench.state(run) is RunState.SUCCEEDED
    assert work.contexts["after"].upstream == {"fan": []}
    assert outputs(bench, run)["copy"] == []


async def test_a_slice_follows_its_counterpart(make_bench: MakeBench) -> None:
    """`per`: each slice starts when its counterpart succeeded and gets that one's output, while others still run."""
    work = Work("fan[y]")
    bench = make_bench(ScriptedEngine(work=work))
    copy = TaskDef(name="copy", engine="e", needs=("fan",), per="fan", require=2)
    gather = TaskDef(name="gather", engine="e", needs=("copy",))
    run = bench.add(fan(on_failure="continue", retries=Retries(attempts=1, backoff=60)), copy, gather)
    bench.dispatcher()
    await bench.settled()
    assert states(bench, run)["copy[x]"] == "succeeded"
    assert states(bench, run)["copy[y]"] == "pending"
    await bench.clock.advance(61)

    assert states(bench, run)["copy[y]"] == "upstream_failed"
    assert work.contexts["copy[z]"].upstream == {"fan": "z"}
    assert outputs(bench, run)["copy"] == ["x", None, "z"]
    assert bench.state(run) is RunState.SUCCEEDED


async def test_a_large_list_is_not_handed_to_each_of_its_slices(make_bench: MakeBench) -> None:
    """A slice gets its element; the list that it was cut from only while it is small."""
    names = [f"partition-{n:05}" for n in range(2000)]
    seen: list[TaskContext] = []

    async def work(context: TaskContext) -> TaskResult:
        seen.append(context)
        return TaskResult(output=names if context.task.name == "list" else None)

    bench = make_bench(ScriptedEngine(work=work))
    run = bench.add(TaskDef(name="list", engine="e"), fan(needs=("list",), partitions="tasks.list.output"))
    bench.dispatcher()
    for _ in range(200):
        await bench.settled()

    assert bench.state(run) is RunState.SUCCEEDED
    assert [context.item for context in seen[1:]] == names
    assert all(context.upstream == {} for context in seen[1:])


async def test_outputs_past_the_limit_become_a_summary(make_bench: MakeBench) -> None:
    """The list of all outputs is bounded; past that it says how many there were."""

    async def work(context: TaskContext) -> TaskResult:
        return TaskResult(output="x" * 250_000)

    bench = make_bench(ScriptedEngine(work=work))
    run = bench.add(fan(partitions=[str(n) for n in range(6)]))
    bench.dispatcher()
    await bench.settled()

    assert outputs(bench, run)["fan"] == {
        "summarised": True,
        "partitions": 6,
        "succeeded": 6,
        "limit_bytes": MAX_LIST,
    }


async def test_a_new_holder_goes_on_with_the_same_slices(make_bench: MakeBench) -> None:
    """After its holder died, a run's slices are neither cut anew nor doubled, and what succeeded stays."""
    numbers = itertools.count()

    async def work(context: TaskContext) -> TaskResult:
        if next(numbers) in (1, 2):
            await bench.clock.sleep(1_000)
        return TaskResult(output=context.item)

    bench = make_bench(ScriptedEngine(work=work))
    run = bench.add(fan(), AFTER)
    first = bench.dispatcher("first", lease=9.0, grace=2.0)
    await bench.settled()
    before = {label: task.uid for label, task in bench.store.tasks(run.uid).items()}
    assert Counter(states(bench, run).values())["succeeded"] == 1
    kill(first)
    bench.dispatcher("second", lease=9.0, grace=2.0)
    for _ in range(10):
        await bench.clock.advance(5)

    assert bench.state(run) is RunState.SUCCEEDED
    tasks = bench.store.tasks(run.uid)
    assert {label: task.uid for label, task in tasks.items()} == before
    assert outputs(bench, run)["fan"] == ["x", "y", "z"]
    assert sorted(task.attempt for task in tasks.values() if task.partition) == [1, 2, 2]


async def test_cancelling_reaches_every_slice(make_bench: MakeBench) -> None:
    """Slices under way are stopped, those that wait are cancelled, and so is the task that stands for them."""
    bench = make_bench(ScriptedEngine(work=Gate()))
    run = bench.add(fan(max_parallel=2), AFTER)
    dispatcher = bench.dispatcher()
    await bench.settled()
    bench.store.request_cancel(run.uid, "enough")
    dispatcher.cancel_hint(run.uid, "enough")
    await bench.settled()

    assert bench.state(run) is RunState.CANCELLED
    assert set(states(bench, run).values()) == {"cancelled"}
    assert bench.engine.verbs().count("cancel") == 2


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (["a", "b", "a"], "elements 0 and 2 of `partitions` are both named 'a'"),
        ([{"size": 1}], "element 0 of `partitions` has no name: give it one of the fields `partition`, `name`"),
        ([None], "element 0 of `partitions` is null, which has no name"),
        ([[1]], "element 0 of `partitions` is a list, which has no name"),
        ([""], "element 0 of `partitions` has the unusable name ''"),
        (["a\0b"], "element 0 of `partitions` has the unusable name 'a\\x00b'"),
        ("abc", "`partitions` gave a str, not a list or a map"),
        (list(range(60_000)), "`partitions` gave 60000 elements; a task takes at most 50000"),
        (["x" * 300], "unusable name"),
        ([{"name": "a", "data": "x" * 70_000}], "element 0 of `partitions` takes 70022 bytes, more than 65536"),
    ],
)
def test_what_cannot_be_sliced_is_refused(value: Any, said: str) -> None:
    """Each refusal names the element and the remedy."""
    with pytest.raises(TaskFailed) as caught:
        slices_of(value)

    assert said in str(caught.value)
    assert not caught.value.retryable


def test_how_slices_are_named() -> None:
    """Texts, numbers and booleans name themselves; maps are named by a field, or by their key."""
    assert slices_of(["a", 7, 1.5, True]) == [("a", '"a"'), ("7", "7"), ("1.5", "1.5"), ("true", "true")]
    assert [
        name for name, _ in slices_of([{"partition": "p", "name": "n"}, {"name": "m"}, {"key": 3}, {"id": "i"}])
    ] == [
        "p",
        "m",
        "3",
        "i",
    ]
    assert slices_of({"a": 1}) == [("a", "1")]


async def test_a_list_that_cannot_be_sliced_fails_the_task_visibly(make_bench: MakeBench) -> None:
    """A duplicate name in an upstream output fails the task before anything of it ran."""

    async def work(context: TaskContext) -> TaskResult:
        return TaskResult(output=["a", "a"])

    bench = make_bench(ScriptedEngine(work=work))
    run = bench.add(TaskDef(name="list", engine="e"), fan(needs=("list",), partitions="tasks.list.output"), AFTER)
    bench.dispatcher()
    await bench.settled()

    tasks = bench.store.tasks(run.uid)
    assert set(tasks) == {"list", "fan", "after"}
    assert (tasks["fan"].state, tasks["fan"].error_kind) == (TaskState.FAILED, "partitions")
    assert "both named 'a'" in str(bench.store.runs[run.uid].error)
