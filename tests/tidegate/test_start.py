"""Runs that people start, and start again after a failure."""

import asyncio
from pathlib import Path

import pytest

from pipelines.run import Run, RunState, TaskState
from tests.support.stores import do
from tests.support.works import make_config, make_event, make_pipeline, make_trigger
from tests.tidegate.conftest import OpenWorks
from tidegate.start import UnknownPipeline, UnknownRun
from triggers.trigger import Repeat

EVERYWHERE = pytest.mark.parametrize(
    "url",
    ["sqlite", "memory", pytest.param("postgresql", marks=[pytest.mark.postgres, pytest.mark.integration])],
    indirect=True,
)
CONFIG = make_config([make_trigger(run={"key": "event.subject"})], [make_pipeline("p", "one", "two", "three")])


async def test_a_run_by_hand(works: OpenWorks) -> None:
    """A run by hand is queued with its parameters, has no trigger, and goes like any other."""
    house = await works(CONFIG)
    run, new = await house.start("p", params={"day": "2026-01-01"}, partition="2026-01-01")
    uids = await house.work()

    (row,) = await house.all_runs()
    assert new
    assert uids == [run.uid]
    assert (row["state"], row["trigger"], row["params"], row["partition"]) == (
        "succeeded", None, {"day": "2026-01-01"}, "2026-01-01",
    )  # fmt: skip


@EVERYWHERE
async def test_a_key_by_hand_starts_one_run(works: OpenWorks) -> None:
    """With a key, or a uid of the caller's own, asking again answers the run that is there; without, each is new."""
    house = await works(CONFIG)
    answers = await asyncio.gather(*(house.start("p", key="k") for _ in range(4)))
    with_uid = [await house.start("p", uid="run_mine") for _ in range(2)]
    bare = [await house.start("p") for _ in range(2)]

    assert [new for _, new in answers] == [True, False, False, False]
    assert len({run.uid for run, _ in answers}) == 1
    assert [(run.uid, new) for run, new in with_uid] == [("run_mine", True), ("run_mine", False)]
    assert [new for _, new in bare] == [True, True]


async def test_a_key_by_hand_does_not_burn_a_triggers_key(works: OpenWorks) -> None:
    """Starting by hand under a trigger's key leaves the trigger free to start its own run."""
    house = await works(CONFIG)
    await house.start("p", key="k")
    await house.put(make_event(subject="k"))

    assert len(await house.all_runs()) == 2


async def test_a_key_whose_run_was_forgotten_goes_on_counting(works: OpenWorks) -> None:
    """When the run of a key by hand was pruned, the next one is that key's next generation."""
    house = await works(CONFIG)
    await house.start("p", key="k")
    await house.work()
    await do(house.store, lambda tx: tx.prune("runs", house.clock.now() + 1, 100))
    run, new = await house.start("p", key="k")

    assert new
    assert run.generation == 2


async def test_an_unknown_pipeline_fails_nobody_else(works: OpenWorks) -> None:
    """A pipeline that a reload took away is answered as unknown; the run asked for beside it starts."""
    house = await works(CONFIG)
    answers = await asyncio.gather(house.start("gone"), house.start("p"), return_exceptions=True)

    assert isinstance(answers[0], UnknownPipeline)
    assert not isinstance(answers[1], BaseException)
    assert len(await house.all_runs()) == 1


async def _fail_at_two(house: object, state: RunState = RunState.FAILED, output: str = '{"rows": 7}') -> str:
    """Start a run whose first task succeeds (and hands `output` on) and whose second does not; return its uid."""
    from tests.support.works import T0, Works, _ended

    assert isinstance(house, Works)
    run, _ = await house.start("p", params={"x": 1})
    (claimed,) = await house.claim()
    one, two, three = claimed.tasks
    from dataclasses import replace

    tasks = [
        replace(_ended(one, TaskState.SUCCEEDED), output=output),
        _ended(two, TaskState(state.value)),
        replace(three, state=TaskState.UPSTREAM_FAILED, finished_at=T0),
    ]
    assert await house.end(claimed, state, tasks=tasks)
    return run.uid


@EVERYWHERE
@pytest.mark.parametrize("state", [RunState.FAILED, RunState.CANCELLED])
async def test_resume_keeps_what_succeeded(works: OpenWorks, state: RunState) -> None:
    """A resumed run is a new generation with the same parameters that runs only what did not succeed."""
    house = await works(CONFIG)
    old = await _fail_at_two(house, state)
    new = await house.resume(old)
    assert isinstance(new, Run)
    (claimed,) = await house.claim()

    tasks = {task.task: task for task in claimed.tasks}
    assert (claimed.run.uid, claimed.run.generation, claimed.run.resumed_from) == (new.uid, 2, old)
    assert claimed.run.params == {"x": 1}
    assert (tasks["one"].state, tasks["one"].output) == (TaskState.SUCCEEDED, '{"rows": 7}')
    assert tasks["two"].state == TaskState.RUNNING
    assert tasks["three"].state == TaskState.PENDING
    assert tasks["two"].engine_key != next(
        task.engine_key for task in await house.store.read(lambda reader: reader.tasks(old)) if task.task == "two"
    )


async def test_resume_makes_a_lost_value_anew(works: OpenWorks, tmp_path: Path) -> None:
    """A task whose value's file is gone runs again in the resumed run, visibly; one whose file is there does not."""
    house = await works(CONFIG)
    for file, state in ((tmp_path / "gone.arrow", TaskState.RUNNING), (tmp_path / "there.arrow", TaskState.SUCCEEDED)):
        if state is TaskState.SUCCEEDED:
            file.write_bytes(b"x")
        handle = f'{{"$value": {{"path": "{file}", "format": "arrow"}}}}'
        await house.resume(await _fail_at_two(house, output=handle))
        (claimed,) = await house.claim()

        assert {task.task: task.state for task in claimed.tasks}["one"] == state


@pytest.mark.parametrize("state", [None, RunState.QUEUED, RunState.RUNNING, RunState.SUCCEEDED])
async def test_only_what_failed_can_be_resumed(works: OpenWorks, state: RunState | None) -> None:
    """What is not there, waits, runs or succeeded is refused with a sentence; nothing is started."""
    house = await works(CONFIG)
    uid = "run_none"
    if state is not None:
        run, _ = await house.start("p")
        uid = run.uid
        if state is RunState.RUNNING:
            await house.claim()
        elif state is RunState.SUCCEEDED:
            await house.work()
    refused = await house.resume(uid)

    assert isinstance(refused, UnknownRun)
    assert ("there is no run" if state is None else f"is {state}") in str(refused)
    assert len(await house.all_runs()) == (0 if state is None else 1)


@EVERYWHERE
async def test_only_the_last_generation_can_be_resumed(works: OpenWorks) -> None:
    """Of many who resume the same run at once, one does; an older generation names the one to resume."""
    house = await works(CONFIG)
    old = await _fail_at_two(house)
    answers = await asyncio.gather(*(house.resume(old) for _ in range(4)))
    resumed = [answer for answer in answers if isinstance(answer, Run)]

    (new,) = resumed
    assert all(new.uid in str(answer) for answer in answers if isinstance(answer, UnknownRun))
    await house.work(RunState.FAILED)
    third = await house.resume(new.uid)
    assert isinstance(third, Run)
    assert third.generation == 3
    assert isinstance(await house.resume(old), UnknownRun)


async def test_a_resumed_run_counts_for_its_triggers_key(works: OpenWorks) -> None:
    """After a resume has succeeded, an event with the same key is a duplicate of it."""
    house = await works(make_config([make_trigger(repeat=Repeat.RETRY_FAILED, run={"key": "event.subject"})]))
    await house.put(make_event(subject="k"))
    (uid,) = await house.work(RunState.FAILED)
    resumed = await house.resume(uid)
    assert isinstance(resumed, Run)
    await house.put(make_event(subject="k"))
    await house.work()
    await house.put(make_event(subject="k"))

    decisions = await house.decisions()
    assert [row["outcome"] for row in decisions] == ["fired", "duplicate", "duplicate"]
    assert {row["run"] for row in decisions[1:]} == {resumed.uid}
    assert list(resumed.events) == decisions[0]["events"]


async def test_resume_uses_the_definition_it_started_with(works: OpenWorks) -> None:
    """A pipeline that was changed since does not change a run that is resumed."""
    house = await works(CONFIG)
    old = await _fail_at_two(house)
    await house.restart(make_config([], [make_pipeline("p", "other")], hash="c2"))
    new = await house.resume(old)
    assert isinstance(new, Run)
    (claimed,) = await house.claim()

    assert [task.name for task in claimed.definition.tasks] == ["one", "two", "three"]
