"""Held triggers going on: what a pause held is judged once, in order, by the rules in force."""

import asyncio
from typing import Any

import pytest

from sensors.w3c import parse_traceparent
from tests.support.works import Works, make_config, make_event, make_trigger
from tests.tidegate.conftest import OpenWorks
from tidegate.rules import compile_rules
from triggers.trigger import Paused, WhenBusy

EVERYWHERE = pytest.mark.parametrize(
    "url",
    ["sqlite", "memory", pytest.param("postgresql", marks=[pytest.mark.postgres, pytest.mark.integration])],
    indirect=True,
)
POINTS = ("ingest.runs", "ingest.decided", "store.begin", "store.before_commit")


def _config(*, paused: bool = True, hash: str = "c1", **fields: Any) -> Any:
    rule = {"key": "event.id", "lane": "event.subject"}
    return make_config([make_trigger(run=rule, paused=Paused.HOLD if paused else None, **fields)], hash=hash)


async def _hold(house: Works, count: int, start: int = 0) -> list[str]:
    """Put events one transaction each; return their ids."""
    ids = [f"{n:04}" for n in range(start, start + count)]
    for id_ in ids:
        await house.put(make_event(id_, subject="x"))
    return ids


async def _keys(house: Works) -> list[str]:
    return [run["key"] for run in await house.all_runs()]


@EVERYWHERE
async def test_what_was_held_starts_its_runs_in_order(works: OpenWorks) -> None:
    """Every held event starts its run when the trigger goes on: once, in the order of arrival, in bounded batches."""
    house = await works(_config(), batch=7)
    ids = await _hold(house, 10)
    await house.put(*(make_event(f"{n:04}", subject="x") for n in range(10, 25)))
    held = await house.outcomes()
    house.releases.release(["t"])
    await house.releases.settled()

    assert held == ["paused"] * 25
    assert await _keys(house) == [*ids, *(f"{n:04}" for n in range(10, 25))]
    assert await house.outcomes() == ["fired"] * 25
    assert max(len(facts.runs) for facts in house.facts) == 7
    assert house.rules.current.paused == {}
    assert sum(len(facts.runs) for facts in house.facts) == 25


async def test_what_arrives_meanwhile_comes_after(works: OpenWorks) -> None:
    """While a backlog is worked off, new events wait behind it; afterwards they are judged at once."""
    house = await works(_config(), batch=2)
    ids = await _hold(house, 9)
    house.releases.release(["t"])
    later = await _hold(house, 6, start=9)
    await house.releases.settled()
    last = await _hold(house, 1, start=15)

    assert await _keys(house) == [*ids, *later, *last]
    assert await house.outcomes() == ["fired"] * 16


async def test_the_rules_in_force_judge(works: OpenWorks) -> None:
    """A rule that was changed meanwhile decides: what it lets through fires, the rest is recorded as filtered."""
    house = await works(_config())
    await _hold(house, 4)
    house.rules.swap(compile_rules(_config(paused=False, hash="c2", when='event.id >= "0002"'), {}))
    house.releases.release(["t"])
    await house.releases.settled()

    assert await _keys(house) == ["0002", "0003"]
    decisions = await house.decisions()
    assert sorted(row["outcome"] for row in decisions) == ["filtered", "filtered", "fired", "fired"]
    assert {event for row in decisions for event in row["events"]} == {row["uid"] for row in await house.events()}
    assert (await house.counts("trigger"))["t", "filtered"] == 2
    assert {run["key"] for run in await house.all_runs()} == {"0002", "0003"}


@EVERYWHERE
@pytest.mark.parametrize("point", POINTS)
async def test_a_release_that_dies_is_all_or_nothing(works: OpenWorks, point: str) -> None:
    """Whatever fails within a batch, all of it stays held, and at the next start each event is judged exactly once."""
    house = await works(_config(), batch=3)
    ids = await _hold(house, 7)
    house.fail.arm(point)
    house.releases.release(["t"])
    await house.releases.settled()
    between = await house.outcomes()
    await house.restart(_config(paused=False))
    await house.releases.start()
    await house.releases.settled()

    assert between == ["paused"] * 7
    assert await _keys(house) == ids
    assert await house.outcomes() == ["fired"] * 7


async def test_a_restart_goes_on_where_it_stopped(works: OpenWorks) -> None:
    """A service that ends in the middle of a backlog works off the rest when it starts, and nothing twice."""
    house = await works(_config(), batch=3)
    ids = await _hold(house, 8)
    house.rules.hold_until_released("t")
    await house.store.submit(house.release, "t")
    await house.restart(_config(paused=False))
    halfway = await _keys(house)
    await house.releases.start()
    held_meanwhile = house.rules.current.paused
    await house.releases.settled()

    assert halfway == ids[:3]
    assert held_meanwhile == {"t": Paused.HOLD}
    assert await _keys(house) == ids


async def test_a_start_leaves_paused_triggers_alone(works: OpenWorks) -> None:
    """What a trigger holds that is still paused, or is gone from the configuration, stays held."""
    house = await works(_config())
    await _hold(house, 2)
    await house.restart()
    await house.releases.start()
    await house.releases.settled()
    still = await house.outcomes()
    await house.restart(make_config([make_trigger("another")]))
    await house.releases.start()
    await house.releases.settled()

    assert still == ["paused", "paused"]
    assert await house.outcomes() == ["paused", "paused"]
    assert await house.all_runs() == []


async def test_pausing_again_stops_the_release(works: OpenWorks) -> None:
    """A trigger that is paused again while its backlog is worked off goes on holding what is left."""
    house = await works(_config(), batch=2)
    await _hold(house, 6)
    house.releases.release(["t"])
    await asyncio.sleep(0)
    house.rules.pause("t", Paused.HOLD)
    await house.releases.settled()
    await _hold(house, 1, start=6)

    outcomes = await house.outcomes()
    assert house.rules.current.paused == {"t": Paused.HOLD}
    assert outcomes.count("paused") >= 5
    house.releases.release(["t"])
    await house.releases.settled()
    assert await _keys(house) == [f"{n:04}" for n in range(7)]


async def test_only_the_trigger_that_goes_on_judges(works: OpenWorks) -> None:
    """Other triggers have judged a held event when it came: they do not judge it again, and no count is doubled."""
    triggers = [make_trigger("held", "p", paused=Paused.HOLD), make_trigger("free", "q")]
    house = await works(make_config(triggers))
    await house.put(make_event("a"))
    before = {kind: await house.counts(kind) for kind in ("candidates", "matched", "sensor")}
    house.releases.release(["held"])
    await house.releases.settled()

    assert [run["pipeline"] for run in await house.all_runs()] == ["q", "p"]
    assert {kind: await house.counts(kind) for kind in before} == before
    counts = await house.counts("trigger")
    assert (counts["held", "paused"], counts["held", "fired"], counts["free", "fired"]) == (1, 1, 1)


async def test_keys_and_busy_lanes_hold_for_released_events(works: OpenWorks) -> None:
    """Held events with one key start one run; with `when_busy: skip` a released one that finds the lane taken skips."""
    rule = {"key": "event.subject", "lane": "event.type"}
    house = await works(make_config([make_trigger(paused=Paused.HOLD, when_busy=WhenBusy.SKIP, run=rule)]))
    for subject in ("a", "a", "b"):
        await house.put(make_event(subject=subject))
    house.releases.release(["t"])
    await house.releases.settled()

    assert await house.outcomes() == ["fired", "duplicate", "skipped_busy"]


async def test_a_released_run_continues_the_stored_trace(works: OpenWorks) -> None:
    """The run of a held event is in the trace of that event's process span, which was stored when it came."""
    house = await works(_config())
    await _hold(house, 1)
    house.releases.release(["t"])
    await house.releases.settled()

    (event,) = await house.events()
    (run,) = await house.all_runs()
    spans = [parse_traceparent(text) for text in (event["span"], run["span"], run["run_span"])]
    assert len({span.trace_id for span in spans if span is not None}) == 1
    (facts,) = [facts for facts in house.facts if facts.runs]
    assert facts.known == {event["uid"]: event["span"]}
    assert facts.events == []


async def test_a_swap_that_lifts_the_pause_keeps_the_order(works: OpenWorks) -> None:
    """Rules that lift `paused: hold` go on holding until the backlog is worked off; the swap names the triggers."""
    house = await works(_config(), batch=2)
    ids = await _hold(house, 5)
    lifted = house.rules.swap(compile_rules(_config(paused=False, hash="c2"), {}))
    house.releases.release(lifted)
    later = await _hold(house, 2, start=5)
    await house.releases.settled()

    assert lifted == {"t"}
    assert await _keys(house) == [*ids, *later]
    assert {run["uid"] for run in await house.all_runs()}
    assert house.rules.current.paused == {}
