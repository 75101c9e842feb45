"""Flow control in the one transaction: events gather, wait in line or are stopped, and the ledger says so meanwhile."""

from dataclasses import replace

import pytest

from tests.support.flow_works import BATCH, HOUR, IDS, LATER, LINE, ONE, SECOND, config, event
from tests.support.join_works import Bells
from tests.support.works import T0
from tests.tidegate.conftest import OpenWorks
from triggers.control import Batch, Control, Debounce, Keep, Over, Sample, Throttle
from triggers.open_keys import OpenKeys
from triggers.trigger import Paused

EVERYWHERE = pytest.mark.parametrize(
    "url",
    ["sqlite", "memory", pytest.param("postgresql", marks=[pytest.mark.postgres, pytest.mark.integration])],
    indirect=True,
)


@EVERYWHERE
async def test_a_full_batch_starts_one_run_with_its_events(works: OpenWorks) -> None:
    """Events of one key gather over transactions; the run gets all of them, in order, and each is one of its causes."""
    house = await works(config(IDS, gather=BATCH))
    await house.put(event("1"), event("2", "other"))
    await house.put(event("3", at=1))
    await house.put(event("4", at=2), event("5", at=2))
    (run,) = await house.all_runs()
    stored = await house.store.read(lambda reader: reader.run(run["uid"]))
    waits = {row["details"]["key"]: row for row in await house.decisions(outcome="buffered")}
    (fired,) = await house.decisions(outcome="fired")
    ids = {row["uid"]: row["id"] for row in await house.events()}

    assert run["params"] == {"ids": ["1", "3", "4"], "key": "k"}
    assert stored is not None
    assert [ids[uid] for uid in stored.events] == ["1", "3", "4"]
    assert [ids[uid] for uid in fired["events"]] == ["1", "3", "4"]
    assert {key: [ids[uid] for uid in row["events"]] for key, row in waits.items()} == {"other": ["2"], "k": ["5"]}
    assert waits["k"]["details"] == {"key": "k", "until": "2027-01-15T08:01:02Z", "events": 1, "bytes": 0}
    assert "1 of 3 events of key 'k'" in waits["k"]["reason"]
    assert (await house.counts("trigger"))["t", "buffered"] == 5


async def test_a_batch_goes_when_its_first_event_has_waited(works: OpenWorks) -> None:
    """The timer fires what is there, once, also after a restart; a late ring of an older batch is harmless."""
    house = await works(config(IDS, gather=BATCH))
    bells = Bells(house)
    await house.put(event("1"), event("2", at=30))
    await house.restart()
    bells = Bells(house)
    early = await bells.ring(T0 + 59 * SECOND)
    rung = await bells.ring(T0 + 61 * SECOND)
    again = await bells.ring(T0 + 900 * SECOND)

    assert (early, rung, again) == (0, 1, 0)
    assert [run["params"]["ids"] for run in await house.all_runs()] == [["1", "2"]]
    assert await house.outcomes() == ["fired"]


async def test_a_batch_whose_timer_is_late_goes_before_what_comes(works: OpenWorks) -> None:
    """An event that comes after the time of a batch opens the next one, whether or not the timer rang."""
    house = await works(config(IDS, gather=BATCH))
    await house.put(event("1"))
    await house.put(event("2", at=75))
    await Bells(house).ring(T0 + 70 * SECOND)

    assert [run["params"]["ids"] for run in await house.all_runs()] == [["1"]]
    assert [row["details"]["until"] for row in await house.decisions(outcome="buffered")] == ["2027-01-15T08:02:15Z"]


async def test_a_batch_never_holds_more_bytes_than_allowed(works: OpenWorks) -> None:
    """What would be too much goes first; an event that is too large alone goes alone."""
    house = await works(config(IDS, gather=Batch(within=60 * SECOND, bytes=10)))
    sizes = {"1": 4, "2": 5, "3": 4, "4": 20, "5": 10}
    await house.put(*(event(name, data=b"x" * size) for name, size in sizes.items()))

    assert [run["params"]["ids"] for run in await house.all_runs()] == [["1", "2"], ["3"], ["4"], ["5"]]


async def test_five_thousand_events_are_one_run(works: OpenWorks) -> None:
    """The largest batch: all of its events in one run, in order, and nothing of it is left behind."""
    house = await works(config({"params": {"ids": "${{ events.map(e, e.id) }}"}}, gather=Batch(within=HOUR)))
    for start in range(0, 5_001, 500):
        await house.put(*(event(f"{n:04}") for n in range(start, min(start + 500, 5_001))))
    (run,) = await house.all_runs()
    stored = await house.store.read(lambda reader: reader.run(run["uid"]))
    (waits,) = await house.decisions(outcome="buffered")

    assert run["params"] == {"ids": [f"{n:04}" for n in range(5_000)]}
    assert len(set(stored.events)) == 5_000
    assert len(waits["events"]) == 1


async def test_a_debounced_key_goes_when_it_is_quiet(works: OpenWorks) -> None:
    """Each event moves the deadline, up to `max_wait` after the first; then the run gets all of them."""
    house = await works(config(IDS, gather=Debounce(quiet=10 * SECOND, max_wait=25 * SECOND, by="event.subject")))
    bells = Bells(house)
    for n, at in enumerate((0, 8, 16, 24)):
        await house.put(event(str(n), at=at))
    await bells.ring(T0 + 15 * SECOND)
    none = await house.all_runs()
    (waits,) = await house.decisions(outcome="buffered")
    await bells.ring(T0 + 26 * SECOND)

    assert none == []
    assert waits["details"]["until"] == "2027-01-15T08:00:25Z"
    assert [run["params"]["ids"] for run in await house.all_runs()] == [["0", "1", "2", "3"]]
    assert "it moved for `max_wait`" in (await house.decisions())[0]["reason"]


async def test_only_the_latest_event_of_a_debounced_key_may_count(works: OpenWorks) -> None:
    """With `keep: latest` the run gets the newest; each one before it is told to have yielded."""
    debounce = Debounce(quiet=10 * SECOND, max_wait=25 * SECOND, keep=Keep.LATEST)
    house = await works(config(IDS, gather=debounce))
    await house.put(event("1"), event("2"))
    await house.put(event("3", at=5))
    (waits,) = await house.decisions(outcome="buffered")
    ids = {row["uid"]: row["id"] for row in await house.events()}
    await Bells(house).ring(T0 + 16 * SECOND)
    yielded = [ids[row["events"][0]] for row in await house.decisions(outcome="coalesced")]

    assert [ids[uid] for uid in waits["events"]] == ["3"]
    assert [run["params"]["ids"] for run in await house.all_runs()] == [["3"]]
    assert sorted(yielded) == ["1", "2"]


async def test_what_is_too_fast_is_throttled(works: OpenWorks) -> None:
    """Events beyond the rate of their key start nothing; the decision says what the rate was and when there is room."""
    throttle = Throttle(events=2, per=10 * SECOND, burst=2, by="event.subject")
    house = await works(config(ONE, throttle=throttle))
    await house.put(*(event(str(n)) for n in range(4)), event("other", "m"))
    await house.put(event("later", at=5))
    refused = await house.decisions(outcome="throttled")

    assert [run["params"]["id"] for run in await house.all_runs()] == ["0", "1", "other", "later"]
    assert len(refused) == 2
    assert refused[0]["clause"]["path"] == "throttle.rate"
    assert "used up its rate of 2 per 10 s; there is room again in 5 s" in refused[0]["reason"]


async def test_what_is_held_goes_on_in_order(works: OpenWorks) -> None:
    """With `over: hold` events wait in line, each with a decision until when, and none overtakes another."""
    house = await works(config(ONE, throttle=LINE))
    bells = Bells(house)
    await house.put(event("1"), event("2"), event("3"))
    waits = await house.decisions(outcome="held")
    await house.restart()
    bells = Bells(house)
    await house.put(event("4", at=12))
    between = [run["params"]["id"] for run in await house.all_runs()]
    for at in range(20, 80, 5):
        await bells.ring(T0 + at * SECOND)

    assert [row["details"]["ahead"] for row in waits] == [0, 1]
    assert [row["details"]["until"] for row in waits] == ["2027-01-15T08:00:10Z", "2027-01-15T08:00:20Z"]
    assert between == ["1", "2"]
    assert [run["params"]["id"] for run in await house.all_runs()] == ["1", "2", "3", "4"]
    assert set(await house.outcomes()) == {"fired"}


async def test_a_window_that_opens_lets_out_what_waited(works: OpenWorks) -> None:
    """Events outside wait for the opening, in order; what comes before the timer has rung goes behind them."""
    house = await works(config(ONE, active=LATER))
    await house.put(event("1"), event("2"))
    waits = await house.decisions()
    await house.put(event("3", at=3_600))
    await Bells(house).ring(T0 + HOUR + SECOND)

    assert [(row["outcome"], row["details"]["until"]) for row in waits] == [("held", "2027-01-15T09:00:00Z")] * 2
    assert [run["params"]["id"] for run in await house.all_runs()] == ["1", "2", "3"]
    assert await house.outcomes() == ["fired"] * 3


async def test_a_late_bell_starts_nothing_outside_of_the_window(works: OpenWorks) -> None:
    """If nobody looked while the window was open, what waits goes on at the next opening."""
    house = await works(config(ONE, active=LATER))
    await house.put(event("1"))
    await Bells(house).ring(T0 + 5 * HOUR)
    early = await house.all_runs()
    await Bells(house).ring(T0 + 25 * HOUR + SECOND)

    assert early == []
    assert [run["params"]["id"] for run in await house.all_runs()] == ["1"]


async def test_outside_of_the_window_events_may_be_dropped(works: OpenWorks) -> None:
    """They start nothing, which is counted exactly and explained."""
    house = await works(config(ONE, active=replace(LATER, outside=Over.DROP)))
    await house.put(event("1"), event("2", at=3_600))
    (dropped,) = await house.decisions(outcome="out_of_window")

    assert [run["params"]["id"] for run in await house.all_runs()] == ["2"]
    assert "outside of the active windows; the next opens at 2027-01-15T09:00:00Z" in dropped["reason"]
    assert (await house.counts("trigger"))["t", "out_of_window"] == 1


async def test_a_sample_is_counted_and_told(works: OpenWorks) -> None:
    """Events outside of it are `sampled_out`; all are counted, examples are kept, and repeats make no difference."""
    house = await works(config(ONE, sample=Sample(every=4)))
    events = [event(f"e{n}") for n in range(40)]
    await house.put(*events)
    runs = len(await house.all_runs())
    await house.put(*(event(f"e{n}") for n in range(40)))
    counts = await house.counts("trigger")

    assert 2 < runs < 25
    assert len(await house.all_runs()) == runs
    assert counts["t", "sampled_out"] == 40 - runs
    assert set(await house.outcomes()) == {"fired", "sampled_out"}


async def test_stages_follow_one_another(works: OpenWorks) -> None:
    """Throttle, then window, then batch: what waited in line and for the opening gathers with what comes."""
    control = Control(throttle=replace(LINE, burst=2), active=LATER, gather=replace(BATCH, count=9))
    house = await works(config(IDS, throttle=control.throttle, active=control.active, gather=control.gather))
    bells = Bells(house)
    await house.put(event("1"), event("2"), event("3"))
    first = sorted((row["clause"]["path"], len(row["events"])) for row in await house.decisions())
    for at in (10, 11, 3_600, 3_601):
        await bells.ring(T0 + at * SECOND)
    await house.put(event("4", at=3_605))
    (waits,) = await house.decisions(outcome="buffered")
    await bells.ring(T0 + HOUR + 62 * SECOND)

    assert first == [("active", 1), ("active", 1), ("throttle.rate", 1)]
    assert len(waits["events"]) == 4
    assert [run["params"]["ids"] for run in await house.all_runs()] == [["1", "2", "3", "4"]]


async def test_a_paused_trigger_lets_nothing_go(works: OpenWorks) -> None:
    """The clock of a batch waits for its trigger; what was held meanwhile gathers with it."""
    house = await works(config(IDS, gather=replace(BATCH, count=9)))
    bells = Bells(house)
    await house.put(event("1"))
    house.rules.pause("t", Paused.HOLD)
    await house.put(event("2", at=5))
    await bells.ring(T0 + 90 * SECOND)
    paused = sorted(await house.outcomes())
    house.releases.release(["t"])
    await house.releases.settled()
    await bells.ring(T0 + 200 * SECOND)

    assert paused == ["buffered", "paused"]
    assert [run["params"]["ids"] for run in await house.all_runs()] == [["1", "2"]]


@EVERYWHERE
@pytest.mark.parametrize("point", ["flow.passed", "ingest.runs", "store.before_commit"])
async def test_a_transaction_that_dies_gathers_nothing(works: OpenWorks, point: str) -> None:
    """What fails while an event comes leaves the batch as it was; the event comes again, and is in one run."""
    house = await works(config(IDS, gather=replace(BATCH, count=2)))
    await house.put(event("1"))
    house.fail.arm(point, 1 if point == "store.before_commit" else 2)
    last = event("2")
    try:
        await house.put(last)
    except Exception:  # whatever it says, nothing of it may be there
        assert await house.all_runs() == []
        await house.put(replace(last, uid=event("x").uid))
    await house.restart()
    await house.put(replace(last, uid=event("y").uid))

    assert [run["params"]["ids"] for run in await house.all_runs()] == [["1", "2"]]
    assert await house.outcomes() == ["fired"]


async def test_a_key_that_cannot_be_told_is_an_error(works: OpenWorks) -> None:
    """An event without the field that `by` names is neither lost nor put to the others."""
    house = await works(config(IDS, gather=replace(BATCH, by="event.data.customer")))
    await house.put(event("1", data=b"{}", content_type="application/json"))
    (decision,) = await house.decisions()

    assert (decision["outcome"], decision["clause"]["path"]) == ("error", "batch.by")


async def test_a_flood_of_keys_is_bounded_and_loses_nothing(works: OpenWorks) -> None:
    """Where no more keys may be open, the event of a new one goes alone at once; open ones go on gathering."""
    house = await works(config(IDS, gather=BATCH))
    house.rules.current.rules.open_keys = OpenKeys(most=2)
    await house.put(event("1", "a"), event("2", "b"), event("3", "c"), event("4", "a"))
    await house.put(event("5", "d"), event("6", "b"), event("7", "a"))
    alone = [row["reason"] for row in await house.decisions(outcome="fired")]
    house.clock.at += 2 * SECOND
    await house.put(event("8", "e", at=2))

    assert [run["params"]["ids"] for run in await house.all_runs()] == [["3"], ["5"], ["1", "4", "7"]]
    assert sum("the event of a new one goes alone" in reason for reason in alone) == 2
    assert sorted(row["details"]["key"] for row in await house.decisions(outcome="buffered")) == ["b", "e"]


async def test_a_batch_survives_the_retention_of_its_events(works: OpenWorks) -> None:
    """Events that wait are kept however old they are; what was decided about them is, too."""
    house = await works(config(IDS, throttle=LINE, gather=replace(BATCH, within=HOUR)))
    await house.put(event("1"), event("2"))

    from tests.support.stores import do

    await do(house.store, lambda tx: tx.prune("decisions", T0 + HOUR, 9))
    await do(house.store, lambda tx: tx.prune("events", T0 + HOUR, 9))
    await do(house.store, lambda tx: tx.prune("rounds", T0 + HOUR, 9))

    assert len(await house.events()) == 2
    assert sorted(await house.outcomes()) == ["buffered", "held"]
