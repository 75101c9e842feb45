"""Flow control while rules change: what waits is kept, or goes on by the new rule, or ends with a word."""

from dataclasses import replace

from tests.support.flow_works import BATCH, HOUR, IDS, LATER, LINE, ONE, SECOND, config, event
from tests.support.join_works import Bells
from tests.support.works import T0, make_config, make_trigger
from tests.tidegate.conftest import OpenWorks
from tidegate.rules import compile_rules
from triggers.control import Window
from triggers.rate import RELEASE


async def test_a_batch_is_kept_while_it_means_the_same(works: OpenWorks) -> None:
    """Other numbers hold from the next event on; another key lets go at once what had gathered, in one run."""
    house = await works(config(IDS, gather=BATCH))
    await house.put(event("1"), event("2"))
    smaller = config(IDS, hash="c2", gather=replace(BATCH, count=5))
    house.rules.swap(compile_rules(smaller, {}))
    await house.put(event("3"))
    kept = await house.all_runs()
    house.rules.swap(compile_rules(config(IDS, hash="c3", gather=replace(BATCH, by="event.type")), {}))
    await house.put(event("4"))
    await Bells(house).ring(T0 + 61 * SECOND)
    runs = [run["params"]["ids"] for run in await house.all_runs()]
    reasons = [row["reason"] for row in await house.decisions()]

    assert kept == []
    assert sorted(runs) == [["1", "2", "3"], ["4"]]
    assert any("the rule of the trigger has changed" in reason for reason in reasons)


async def test_what_waits_outlives_the_stage_that_held_it(works: OpenWorks) -> None:
    """A batch that is taken out of the rule lets its events go one by one; a gate that is taken out lets all go."""
    house = await works(config(IDS, gather=BATCH))
    await house.put(event("1"), event("2"))
    house.rules.swap(compile_rules(make_config([make_trigger("t", run=ONE)], hash="c2"), {}))
    await Bells(house).ring(T0 + 61 * SECOND)
    alone = [run["params"] for run in await house.all_runs()]
    held = await works(config(ONE, active=LATER), url="memory:")
    await held.put(event("3"), event("4"))
    held.rules.swap(compile_rules(make_config([make_trigger("t", run=ONE)], hash="c2"), {}))
    await Bells(held).ring(T0 + HOUR + SECOND)

    assert alone == [{"id": "1"}, {"id": "2"}]
    assert [run["params"] for run in await held.all_runs()] == [{"id": "3"}, {"id": "4"}]
    assert set(await house.outcomes()) == set(await held.outcomes()) == {"fired"}


async def test_a_long_line_ends_a_bounded_number_at_a_time(works: OpenWorks) -> None:
    """A gate that is taken out lets go no more in one transaction than it would have, in order, until all have gone."""
    house = await works(config(ONE, active=LATER))
    names = [f"{n:04}" for n in range(2 * RELEASE + 50)]
    for start in range(0, len(names), 150):
        await house.put(*(event(name) for name in names[start : start + 150]))
    house.rules.swap(compile_rules(make_config([make_trigger("t", run=ONE)], hash="c2"), {}))
    house.facts.clear()
    await Bells(house).ring(T0 + HOUR + SECOND)
    found: list[str] = []
    for facts in house.facts:
        assert len(facts.runs) <= RELEASE
        found += [run.params["id"] for run in facts.runs]

    assert found == names
    assert await house.counts("trigger") == {("t", "held"): len(names), ("t", "fired"): len(names)}


async def test_a_changed_calendar_counts_at_once(works: OpenWorks) -> None:
    """After a reload what waits goes on when the window opens as it is written now, not as it was."""
    house = await works(config(ONE, active=LATER))
    await house.put(event("1"))
    sooner = replace(LATER, windows=(Window(start="08:10", end="08:20"),))
    house.rules.swap(compile_rules(config(ONE, hash="c2", active=sooner), {}))
    bells = Bells(house)
    await bells.arm()
    early = await bells.ring(T0 + 599 * SECOND)
    rung = await bells.ring(T0 + 601 * SECOND)

    assert (early, rung) == (0, 1)
    assert [run["params"]["id"] for run in await house.all_runs()] == ["1"]


async def test_what_waits_for_a_trigger_that_is_gone_ends_visibly(works: OpenWorks) -> None:
    """Nothing vanishes: each event of a removed trigger's batch or line ends in an error that says so."""
    house = await works(config(IDS, throttle=LINE, gather=BATCH))
    await house.put(event("1"), event("2"))
    house.rules.swap(compile_rules(make_config([make_trigger("other")], hash="c2"), {}))
    await Bells(house).ring(T0 + 61 * SECOND)
    decisions = await house.decisions()

    assert [row["outcome"] for row in decisions] == ["error", "error"]
    assert all("gone, disabled" in row["reason"] for row in decisions)
    assert await house.all_runs() == []
