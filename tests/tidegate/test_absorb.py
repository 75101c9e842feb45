"""From events to runs: keys and generations, lanes, what happens when a pipeline is busy; with real ends of runs."""

import asyncio

import pytest

from pipelines.run import RunState
from tests.support.works import Works, chain, make_config, make_event, make_pipeline, make_trigger
from tests.tidegate.conftest import OpenWorks
from triggers.trigger import Repeat, WhenBusy

EVERYWHERE = pytest.mark.parametrize(
    "url",
    ["sqlite", "memory", pytest.param("postgresql", marks=[pytest.mark.postgres, pytest.mark.integration])],
    indirect=True,
)
KEYED = {"key": "event.subject"}
LANED = {"lane": "event.subject"}
ENDS = (RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED)


async def _finish(house: Works, state: RunState) -> None:
    """End the one queued run in `state`, the way that state comes about."""
    (claimed,) = await house.claim()
    if state is RunState.CANCELLED:
        assert await house.runs.request_cancel(claimed.run.uid, "enough") == "cancelling"
    assert await house.end(claimed, state)


@pytest.mark.parametrize("state", ENDS)
@pytest.mark.parametrize(
    ("repeat", "again"),
    [
        (Repeat.SKIP, frozenset()),
        (Repeat.RETRY_FAILED, frozenset({RunState.FAILED, RunState.CANCELLED})),
        (Repeat.ALWAYS, frozenset(ENDS)),
    ],
)
async def test_a_key_that_was_used(
    works: OpenWorks, repeat: Repeat, state: RunState, again: frozenset[RunState]
) -> None:
    """What a second event with the same key does depends on `repeat` and on how the last run of that key ended."""
    house = await works(make_config([make_trigger(repeat=repeat, run=KEYED)]))
    await house.put(make_event(subject="k"))
    await house.put(make_event(subject="k"))
    active = await house.outcomes()
    if repeat is Repeat.ALWAYS:
        await house.work()
        assert active == ["fired", "fired"]
        return
    await _finish(house, state)
    await house.restart()
    await house.put(make_event(subject="k"))

    runs = await house.all_runs()
    assert active == ["fired", "duplicate"]
    assert [run["generation"] for run in runs] == ([1, 2] if state in again else [1])
    assert (await house.decisions())[-1]["outcome"] == ("fired" if state in again else "duplicate")
    assert (await house.decisions())[-1]["run"] == runs[-1]["uid"]


async def test_always_counts_generations(works: OpenWorks) -> None:
    """`always` starts one run per event, each a generation of its key."""
    house = await works(make_config([make_trigger(repeat=Repeat.ALWAYS, run=KEYED)]))
    for state in ENDS:
        await house.put(make_event(subject="k"))
        await _finish(house, state)

    assert [run["generation"] for run in await house.all_runs()] == [1, 2, 3]


@EVERYWHERE
async def test_equal_keys_at_the_same_moment_start_one_run(works: OpenWorks) -> None:
    """Of many different events with one key that come at once, one fires; the others name its run."""
    house = await works(make_config([make_trigger(run=KEYED)]))
    await asyncio.gather(*(house.put(make_event(subject="k")) for _ in range(20)))

    (run,) = await house.all_runs()
    decisions = await house.decisions()
    assert sorted(row["outcome"] for row in decisions) == ["duplicate"] * 19 + ["fired"]
    assert {row["run"] for row in decisions} == {run["uid"]}


async def test_a_key_belongs_to_its_trigger_unless_shared(works: OpenWorks) -> None:
    """Two triggers with equal keys start two runs; with `key_scope: pipeline` they share one."""
    shared = {"key": "event.subject", "key_scope": "pipeline"}
    triggers = [
        make_trigger("a", run=KEYED),
        make_trigger("b", run=KEYED),
        make_trigger("c", "q", run=shared),
        make_trigger("d", "q", run=shared),
    ]
    house = await works(make_config(triggers))
    await house.put(make_event(subject="k"))

    assert [(run["pipeline"], run["trigger"]) for run in await house.all_runs()] == [("p", "a"), ("p", "b"), ("q", "c")]


@EVERYWHERE
async def test_a_lane_is_strictly_in_order(works: OpenWorks) -> None:
    """Runs of one lane are claimed one at a time in the order of arrival, whatever other lanes do."""
    house = await works(make_config([make_trigger(run=LANED)]))
    arrivals = [(n, "xyz"[n % 3]) for n in range(12)]
    await asyncio.gather(*(house.put(make_event(f"e{n}", subject=lane)) for n, lane in arrivals))
    order: dict[str, list[str]] = {}
    while claims := await house.claim():
        assert len({claimed.run.lane for claimed in claims}) == len(claims)
        for claimed in claims:
            order.setdefault(claimed.run.lane or "", []).append(claimed.run.uid)
            await house.end(claimed, RunState.FAILED if len(order) == 2 else RunState.SUCCEEDED)

    by_lane: dict[str, list[str]] = {}
    for run in await house.all_runs():
        by_lane.setdefault(run["lane"], []).append(run["uid"])
    assert order == by_lane
    assert {len(uids) for uids in order.values()} == {4}


async def test_busy_queue_waits(works: OpenWorks) -> None:
    """With `queue` every event gets its run, however busy the lane."""
    house = await works(make_config([make_trigger(run=LANED)]))
    for _ in range(3):
        await house.put(make_event(subject="x"))

    assert await house.outcomes() == ["fired"] * 3
    assert [len(await house.work()) for _ in range(4)] == [1, 1, 1, 0]


@EVERYWHERE
async def test_busy_coalesce_merges_into_the_one_that_waits(works: OpenWorks) -> None:
    """While one run goes on, what comes is merged into one waiting run with all events and the newest parameters."""
    rule = {**LANED, "params": {"id": "${{ event.id }}"}}
    house = await works(make_config([make_trigger(when_busy=WhenBusy.COALESCE, run=rule)]))
    await house.put(make_event("0", subject="x"))
    (running,) = await house.claim()
    await asyncio.gather(*(house.put(make_event(str(n), subject="x")) for n in range(1, 5)))
    await house.end(running)
    (merged,) = await house.claim()

    names = {row["uid"]: row["id"] for row in await house.events()}
    assert [names[uid] for uid in merged.run.events] == ["1", "2", "3", "4"]
    assert merged.run.params == {"id": "4"}
    assert await house.outcomes() == ["fired", "fired", "coalesced", "coalesced", "coalesced"]
    assert {row["run"] for row in await house.decisions(outcome="coalesced")} == {merged.run.uid}


async def test_busy_skip_names_the_run_in_the_way(works: OpenWorks) -> None:
    """With `skip` nothing starts while the lane is occupied, and the decision says by what."""
    house = await works(make_config([make_trigger(when_busy=WhenBusy.SKIP, run=LANED)]))
    await house.put(make_event(subject="x"))
    (running,) = await house.claim()
    await house.put(make_event(subject="x"))
    await house.put(make_event(subject="y"))
    await house.end(running)
    await house.put(make_event(subject="x"))

    decisions = await house.decisions()
    assert [row["outcome"] for row in decisions] == ["fired", "skipped_busy", "fired", "fired"]
    assert decisions[1]["run"] == running.run.uid


async def test_busy_is_the_pipelines_concurrency_too(works: OpenWorks) -> None:
    """Without lanes a pipeline is busy when as many runs are under way as it may have."""
    trigger = make_trigger(when_busy=WhenBusy.SKIP)
    house = await works(make_config([trigger], [make_pipeline("p", concurrency=2)]))
    for _ in range(4):
        await house.put(make_event())

    assert await house.outcomes() == ["fired", "fired", "skipped_busy", "skipped_busy"]


@EVERYWHERE
async def test_busy_cancel_running_replaces(works: OpenWorks) -> None:
    """With `cancel_running` the running run is asked to stop, the waiting one is cancelled, the newest waits."""
    house = await works(make_config([make_trigger(when_busy=WhenBusy.CANCEL_RUNNING, run=LANED)]))
    await house.put(make_event(subject="x"))
    (running,) = await house.claim()
    await house.put(make_event(subject="x"))
    await house.put(make_event(subject="x"))
    renewal = await house.runs.renew("me", [running.run.uid], 60.0)

    assert list(renewal.cancel) == [running.run.uid]
    assert [run["state"] for run in await house.all_runs()] == ["cancelling", "cancelled", "queued"]
    assert running.run.uid in [uid for facts in house.facts for uid, _ in facts.cancels]
    await house.end(running, RunState.CANCELLED)
    (last,) = await house.claim()
    assert last.run.uid == (await house.all_runs())[-1]["uid"]


async def test_a_waiting_run_that_is_replaced_tells_of_its_end(works: OpenWorks) -> None:
    """A run that `cancel_running` cancels before it started is told as cancelled, and chains on it fire."""
    triggers = [
        make_trigger(when_busy=WhenBusy.CANCEL_RUNNING, run=LANED),
        chain("after", "p", "cleanup", "cancelled", run={"params": {"of": "${{ event.data.run }}"}}),
    ]
    house = await works(make_config(triggers))
    await house.put(make_event(subject="x"))
    await house.put(make_event(subject="x"))

    first, _, cleanup = await house.all_runs()
    assert (first["state"], cleanup["pipeline"], cleanup["params"]) == ("cancelled", "cleanup", {"of": first["uid"]})


async def test_uids_of_one_transaction_rise(works: OpenWorks) -> None:
    """Decisions and runs that one transaction makes sort by uid in the order in which they were made."""
    house = await works(make_config([make_trigger(run={"key": "event.id"})]))
    await house.put(*(make_event(f"{n:03}") for n in range(200)))

    runs = await house.all_runs()
    assert [run["key"] for run in sorted(runs, key=lambda run: str(run["uid"]))] == [f"{n:03}" for n in range(200)]
