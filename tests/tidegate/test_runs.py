"""Claims, steps, cancels and the own events that they write in the same transaction."""

import asyncio

import pytest

from pipelines.run import CheckResult, DatasetWrite, RunState
from sensors.event import MAX_DEPTH
from sensors.w3c import parse_traceparent
from tests.support.works import Broken, chain, make_config, make_event, make_trigger
from tests.tidegate.conftest import OpenWorks
from tidegate.store.tx import ItemRefused

EVERYWHERE = pytest.mark.parametrize(
    "url",
    ["sqlite", "memory", pytest.param("postgresql", marks=[pytest.mark.postgres, pytest.mark.integration])],
    indirect=True,
)


@EVERYWHERE
async def test_a_success_starts_the_next_pipeline_in_the_same_transaction(works: OpenWorks) -> None:
    """When the step that ends a run is durable, so is the next pipeline's run, with the own event as its cause."""
    house = await works(make_config([make_trigger(), chain("next", "p", "q")]))
    await house.put(make_event())
    (claimed,) = await house.claim()
    commits = house.fail.passed.count("store.after_commit")
    await house.end(claimed)

    _, following = await house.all_runs()
    (own,) = await house.events("tidegate")
    assert house.fail.passed.count("store.after_commit") == commits + 1
    assert (following["pipeline"], following["trigger"], following["depth"]) == ("q", "next", 1)
    assert (own["type"], own["subject"], own["id"]) == (
        "tidegate.run.succeeded", "p", f"{claimed.run.uid}/succeeded",
    )  # fmt: skip
    assert own["depth"] == 1


@pytest.mark.parametrize("point", ["ingest.events", "ingest.runs", "store.before_commit"])
async def test_an_end_and_its_chain_are_all_or_nothing(works: OpenWorks, point: str) -> None:
    """A transaction that fails after a run's end leaves the run under way; the next try leaves both runs."""
    house = await works(make_config([make_trigger(), chain("next", "p", "q")]))
    await house.put(make_event())
    (claimed,) = await house.claim()
    house.fail.arm(point)
    with pytest.raises(ItemRefused) as refusal:
        await house.end(claimed)
    between = [run["state"] for run in await house.all_runs()]
    again = await house.end(claimed)

    assert isinstance(refusal.value.__cause__, Broken)
    assert between == ["running"]
    assert again
    assert [(run["pipeline"], run["state"]) for run in await house.all_runs()] == [("p", "succeeded"), ("q", "queued")]


@EVERYWHERE
async def test_a_step_that_is_sent_again_tells_nothing_twice(works: OpenWorks) -> None:
    """When a step comes again because its answer was lost, its events are written once and its chain starts once."""
    house = await works(make_config([make_trigger(), chain("next", "p", "q")]))
    await house.put(make_event())
    (claimed,) = await house.claim()
    await house.end(claimed)
    house.runs._held[claimed.run.uid] = claimed.run
    again = await house.end(claimed)

    assert again
    assert [run["pipeline"] for run in await house.all_runs()] == ["p", "q"]
    assert len(await house.events("tidegate")) == 1


async def test_a_step_of_a_holder_that_lost_the_run_writes_nothing(works: OpenWorks) -> None:
    """After a takeover the old holder's step is not applied, and nothing is told of it."""
    house = await works(make_config([make_trigger(), chain("next", "p", "q")]))
    await house.put(make_event())
    (old,) = await house.claim()
    house.clock.at += 61_000_000
    (new,) = await house.claim(holder="other")
    lost = await house.end(old)

    assert new.taken_over
    assert not lost
    assert [run["state"] for run in await house.all_runs()] == ["running"]
    assert await house.events("tidegate") == []
    house.runs._held[new.run.uid] = new.run
    assert await house.end(new)


async def test_a_pipeline_that_triggers_itself_ends_by_itself(works: OpenWorks) -> None:
    """A loop of own events stops after ten runs with an error decision that says why; nothing is left queued."""
    house = await works(make_config([make_trigger(), chain("loop", "p", "p")]))
    await house.put(make_event())
    rounds = 0
    while await house.work():
        rounds += 1
        assert rounds < 50

    runs = await house.all_runs()
    (error,) = await house.decisions(outcome="error")
    assert [run["depth"] for run in runs] == list(range(MAX_DEPTH))
    assert error["trigger"] == "loop"
    assert "a loop?" in error["reason"]
    assert {run["state"] for run in runs} == {"succeeded"}


async def test_two_pipelines_that_trigger_each_other_end_too(works: OpenWorks) -> None:
    """The depth counts runs between, whatever their pipelines: `p` and `q` starting each other end as well."""
    house = await works(make_config([make_trigger(), chain("pq", "p", "q"), chain("qp", "q", "p", "started")]))
    await house.put(make_event())
    for _ in range(30):
        await house.work()

    assert len(await house.all_runs()) == MAX_DEPTH
    assert await house.claim() == []


@pytest.mark.parametrize("state", [RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED])
async def test_unwatched_own_events_are_counted_not_stored(works: OpenWorks, state: RunState) -> None:
    """What no rule could want of ourselves leaves a count and nothing else."""
    house = await works(make_config([make_trigger()]))
    await house.put(make_event())
    await house.work(state)

    assert await house.events("tidegate") == []
    assert (await house.counts("sensor"))["tidegate", "unwatched"] == 2


async def test_datasets_and_failed_checks_are_told_before_the_end(works: OpenWorks) -> None:
    """A step's dataset writes and failed checks become own events of their own, then the run's end; reads do not."""
    house = await works(make_config([make_trigger(), make_trigger("all", "q", sensor="tidegate")]))
    await house.put(make_event())
    (claimed,) = await house.claim()
    at = house.clock.now()
    write = DatasetWrite(namespace="duckdb://w", name="daily", task="work", at=at, rows=3)
    read = DatasetWrite(namespace="duckdb://w", name="raw", task="work", at=at, mode="read")
    passed = CheckResult(check="rows", task="work", dataset="daily", passed=True, severity="fail", message="3", at=at)
    failed = CheckResult(check="age", task="work", dataset="daily", passed=False, severity="warn", message="old", at=at)
    await house.end(claimed, datasets=(write, read), checks=(passed, failed))

    own = await house.events("tidegate")
    kinds = sorted(row["type"] for row in own)
    whole = {row["type"]: await house.store.read(lambda reader, uid=row["uid"]: reader.event(uid)) for row in own}
    assert kinds == [
        "tidegate.check.failed", "tidegate.dataset.updated", "tidegate.run.started", "tidegate.run.succeeded",
    ]  # fmt: skip
    assert b'"rows":3' in (whole["tidegate.dataset.updated"].data or b"")
    assert b'"check":"age"' in (whole["tidegate.check.failed"].data or b"")


async def test_an_own_event_continues_the_trace_of_its_run(works: OpenWorks) -> None:
    """The process span of `tidegate.run.succeeded` is in the trace of the RUN span that ended."""
    house = await works(make_config([make_trigger(), chain("next", "p", "q")]))
    await house.put(make_event())
    (claimed,) = await house.claim()
    await house.end(claimed)

    (own,) = await house.events("tidegate")
    run, event = parse_traceparent(claimed.run.run_span), parse_traceparent(own["span"])
    assert run is not None
    assert event is not None
    assert event.trace_id == run.trace_id
    assert event.span_id != run.span_id


@EVERYWHERE
async def test_cancelling_a_queued_run_ends_it_and_tells_once(works: OpenWorks) -> None:
    """However many ask at once, a queued run is cancelled once, told once, and its chain starts once."""
    house = await works(make_config([make_trigger(), chain("after", "p", "cleanup", "cancelled")]))
    await house.put(make_event())
    (run,) = await house.all_runs()
    answers = await asyncio.gather(*(house.runs.request_cancel(run["uid"], f"{n}") for n in range(4)))
    later = await house.runs.request_cancel(run["uid"], "late")

    assert {*answers, later} == {"cancelled"}
    assert [(row["pipeline"], row["state"]) for row in await house.all_runs()] == [
        ("p", "cancelled"), ("cleanup", "queued"),
    ]  # fmt: skip
    assert len(await house.events("tidegate")) == 1


async def test_cancelling_a_running_run_asks_its_holder(works: OpenWorks) -> None:
    """A running run becomes `cancelling`, its holder hears the reason, and the end is told when it comes."""
    house = await works(make_config([make_trigger(), chain("after", "p", "cleanup", "cancelled")]))
    await house.put(make_event())
    (claimed,) = await house.claim()
    state = await house.runs.request_cancel(claimed.run.uid, "not needed")
    renewal = await house.runs.renew("me", [claimed.run.uid], 60.0)
    before = await house.events("tidegate")
    await house.end(claimed, RunState.CANCELLED)

    assert (state, dict(renewal.cancel), before) == ("cancelling", {claimed.run.uid: "not needed"}, [])
    assert [row["pipeline"] for row in await house.all_runs()] == ["p", "cleanup"]
    assert await house.runs.request_cancel(claimed.run.uid, "again") == "cancelled"
    assert await house.runs.request_cancel("run_none", "nothing there") is None


async def test_a_released_run_can_be_claimed_at_once(works: OpenWorks) -> None:
    """A holder that lets go need not be waited for; the next one takes over what was begun."""
    house = await works(make_config([make_trigger()]))
    await house.put(make_event())
    (first,) = await house.claim()
    nobody = await house.claim(holder="other")
    await house.runs.release("me", [first.run.uid])
    (second,) = await house.claim(holder="other")

    assert nobody == []
    assert second.taken_over
    assert second.run.fence == first.run.fence + 1


@EVERYWHERE
async def test_two_holders_never_claim_the_same_run(works: OpenWorks) -> None:
    """Claims that come at the same moment share the queue: each run goes to one, oldest first."""
    house = await works(make_config([make_trigger()], []))
    await house.put(*(make_event() for _ in range(12)))
    claims = await asyncio.gather(*(house.claim(3, holder=f"h{n}") for n in range(4)))

    claimed = [one.run.uid for found in claims for one in found]
    assert len(claimed) == len(set(claimed)) == 12
