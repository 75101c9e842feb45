"""Replays of what several events fired together: as a whole, once, and what waits is left alone."""

from typing import Any

from pipelines.run import RunState
from tests.support.join_works import came, join_of, waiting_for
from tests.support.replaying import Replaying
from tests.support.works import T0, Works, make_config, make_trigger
from tests.tidegate.conftest import OpenWorks
from tests.tidegate.test_replays import EVERYWHERE
from tidegate.rules import compile_rules
from triggers.trigger import WhenBusy

RUN = {"key": "key", "params": {"types": "${{ events.map(e, e.type) }}"}}
UNTIL = T0 + 10**9


def _config(**fields: Any) -> Any:
    return make_config([waiting_for(join_of("a", "b"), run=RUN, **fields)])


async def _waiting(house: Works) -> list[tuple[str, tuple[str, ...]]]:
    return [(row["uid"], tuple(row["events"])) for row in await house.decisions() if row["outcome"] == "waiting"]


@EVERYWHERE
async def test_a_join_is_repeated_as_a_whole(works: OpenWorks) -> None:
    """As it was, a firing is repeated once with all its events, whichever of them are named; what waits goes on."""
    house = await works(_config())
    for n, (kind, key) in enumerate((("a", "k1"), ("b", "k1"), ("a", "k2"), ("b", "k2"), ("a", "k3"))):
        await house.put(came(kind, key, at=T0 + n))
    await house.work()
    name = next(iter(house.config.triggers))
    before = await _waiting(house)
    events = [row["uid"] for row in await house.events()]
    replaying = Replaying(house)
    named = await replaying.run(events=events, as_was=True)
    ranged = await replaying.run(trigger=name, since=0, until=UNTIL, as_was=True)
    one = await replaying.run(events=events[:1], as_was=True, trigger=name)
    rows = await house.all_runs()
    notes = await replaying.replayed(named.uid)

    assert named.counts == {"looked": 5, "started": 2, "not_fired": 1}
    assert ranged.counts == {"looked": 2, "started": 2}
    assert one.counts == {"looked": 1, "started": 1}
    assert sorted((row["key"], row["generation"]) for row in rows) == [
        *(("k1", generation) for generation in (1, 2, 3, 4)),
        *(("k2", generation) for generation in (1, 2, 3)),
    ]
    assert {note["cause"][:4] for note in notes} == {"trg_"}
    again = await house.store.read(lambda reader: reader.run(notes[0]["run"]))
    origin = await house.store.read(lambda reader: reader.run(notes[0]["origin"]))
    assert again is not None
    assert origin is not None
    assert (again.events, again.params, again.key) == (origin.events, origin.params, origin.key)
    assert await _waiting(house) == before
    await house.put(came("b", "k3"))
    assert [row["key"] for row in await house.all_runs()][-1] == "k3"


async def test_todays_rules_leave_joins_alone(works: OpenWorks) -> None:
    """By today's rules an event of a join starts nothing of it, and is no part of it a second time."""
    house = await works(make_config([waiting_for(join_of("a", "b"), run=RUN), make_trigger("plain", types=("a",))]))
    for kind in ("a", "b"):
        await house.put(came(kind, "k1"))
    await house.put(came("a", "k2"))
    before = await _waiting(house)
    events = [row["uid"] for row in await house.events()]
    replay = await Replaying(house).run(events=events)

    assert replay.counts == {"looked": 3, "pattern": 3, "started": 2}
    assert await _waiting(house) == before
    assert {row["trigger"] for row in (await house.all_runs())[3:]} == {"plain"}


@EVERYWHERE
async def test_what_was_merged_is_repeated_with_what_it_was_merged_into(works: OpenWorks) -> None:
    """An event that was merged into a waiting run repeats that run, with all its events; named twice, once."""
    trigger = make_trigger(
        run={"lane": '"l" + event.type', "params": {"id": "${{ event.id }}"}}, when_busy=WhenBusy.COALESCE
    )
    house = await works(make_config([trigger]))
    uids = [(await house.put(came("a", f"k{n}", at=T0 + n))).receipts[0].uid for n in range(4)]
    outcomes = await house.outcomes()
    replay = await Replaying(house).run(events=uids[1:], as_was=True)
    rows = await house.all_runs()
    run = await house.store.read(lambda reader: reader.run(rows[-1]["uid"]))

    assert outcomes.count("coalesced") == 3
    assert replay.counts == {"looked": 3, "started": 1}
    assert run is not None
    assert list(run.events) == uids
    assert run.params == rows[0]["params"]


async def test_resumed_runs_are_repeated_once(works: OpenWorks) -> None:
    """A trigger event whose run was resumed is repeated once, after its first run."""
    house = await works(make_config([make_trigger(run={"key": "event.id"})]))
    uid = (await house.put(came("a"))).receipts[0].uid
    (first,) = await house.work(RunState.FAILED)
    await house.resume(first)
    replay = await Replaying(house).run(events=[uid], as_was=True)
    rows = await house.all_runs()

    assert replay.counts == {"looked": 1, "started": 1}
    assert [row["generation"] for row in rows] == [1, 2, 3]


async def test_a_repeat_that_cannot_start_is_counted_once(works: OpenWorks) -> None:
    """A firing whose pipeline is gone is one error, however many of its events are named; another one can be named."""
    house = await works(_config())
    for kind in ("a", "b"):
        await house.put(came(kind, "k1"))
    events = [row["uid"] for row in await house.events()]
    house.rules.swap(compile_rules(make_config([make_trigger("other", pipeline="spare")]), {}))
    replaying = Replaying(house)
    gone = await replaying.run(events=events, as_was=True)
    spare = await replaying.run(events=events, as_was=True, pipeline="spare")

    assert gone.counts == {"looked": 2, "error": 1}
    assert "is not configured any more; name another `pipeline`" in gone.samples[0]["reason"]
    assert spare.counts == {"looked": 2, "started": 1}
