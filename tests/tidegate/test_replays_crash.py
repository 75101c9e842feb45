"""Replays that are interrupted: whatever dies, each item has one run of a replay; of two replicas, one works."""

import asyncio
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.replaying import Replaying
from tests.support.works import T0, Works, make_config, make_event, make_trigger, open_works
from tests.tidegate.conftest import OpenWorks
from tests.tidegate.test_replays import EVERYWHERE
from tidegate.store.replay_records import ReplayState
from triggers.trigger import RunRule, Source, Trigger

POINTS = ("replay.begun", "replay.started", "replay.moved", "store.begin", "store.before_commit")


def _config() -> Any:
    """Two triggers: one asks for a run of each element, the other for two of each event, without a key."""
    each = make_trigger("each", run={"key": "event.id + string(item)"}, each="event.data")
    plain = Trigger(name="plain", on=(Source(sensor="s"),), runs=(RunRule(pipeline="p"), RunRule(pipeline="q")))
    return make_config([each, plain])


async def _put(house: Works, count: int) -> list[str]:
    events = [
        make_event(f"{n:04}", received_at=T0 + n, data=b"[1, 2, 3]", content_type="application/json")
        for n in range(count)
    ]
    stored = await house.put(*events)
    return [receipt.uid for receipt in stored.receipts]


def _items(uids: list[str]) -> list[tuple[str, str, int, int]]:
    """Return what a replay of these events stands for."""
    each = [(uid, "each", 0, item) for uid in uids for item in range(3)]
    return sorted([*each, *((uid, "plain", rule, -1) for uid in uids for rule in range(2))])


async def _found(replaying: Replaying, uid: str) -> list[tuple[str, str, int, int]]:
    notes = await replaying.replayed(uid)
    runs = {row["uid"] for row in await replaying.works.all_runs()}
    assert {note["run"] for note in notes} <= runs
    return sorted((note["cause"], note["trigger"], note["rule"], note["item"]) for note in notes)


@EVERYWHERE
@pytest.mark.parametrize("point", POINTS)
async def test_a_step_that_dies_is_all_or_nothing(works: OpenWorks, point: str) -> None:
    """Whatever fails within a step, nothing of it is left, and after a restart every item has exactly one run."""
    house = await works(_config())
    uids = await _put(house, 45)
    before = len(await house.all_runs())
    replaying = Replaying(house)
    uid = await replaying.start(events=uids)
    await replaying.step()
    halfway = await replaying.replay(uid)
    house.fail.arm(point)
    await replaying.step()
    after = await replaying.replay(uid)
    started = len(await house.all_runs()) - before
    await house.restart()
    done = await Replaying(house, holder="another").finish(uid)

    assert (after.position, after.counts) == (halfway.position, halfway.counts)
    assert started == halfway.counts["started"] == 100
    assert done.counts == {"looked": 45, "started": 225}
    assert await _found(Replaying(house), uid) == _items(uids)
    assert len(await house.all_runs()) == before + 225


@EVERYWHERE
async def test_two_replicas_start_each_run_once(works: OpenWorks) -> None:
    """Two that work at the same replays at the same time, without leases, start every run exactly once."""
    one = await works(_config())
    uids = await _put(one, 30)
    before = len(await one.all_runs())
    replicas = [Replaying(one, holder="one"), Replaying(one, holder="two")]
    started = [await replicas[0].start(events=uids, rate=rate) for rate in (None, 300.0)]

    async def work(replaying: Replaying) -> None:
        for _ in range(400):
            if all([(await replaying.replay(uid)).state.final for uid in started]):
                return
            wait = await replaying.step()
            await one.clock.sleep(min(wait, 0.05))
            await asyncio.sleep(0)

    await asyncio.gather(*(work(replaying) for replaying in replicas))

    for uid in started:
        assert (await replicas[0].replay(uid)).counts == {"looked": 30, "started": 150}
        assert await _found(replicas[0], uid) == _items(uids)
    assert len(await one.all_runs()) == before + 300


@pytest.mark.postgres
@pytest.mark.integration
async def test_two_processes_on_one_database_start_each_run_once(database: str) -> None:
    """Two stores over one PostgreSQL race at every step: one of them moves the replay, and no run is started twice."""
    async with open_works(database, _config()) as one, open_works(database, _config(), shard="two") as two:
        uids = await _put(one, 40)
        before = len(await one.all_runs())
        replicas = [Replaying(one, holder="one"), Replaying(two, holder="two")]
        uid = await replicas[0].start(events=uids)

        async def work(replaying: Replaying) -> None:
            while not (await replaying.replay(uid)).state.final:
                await replaying.step()

        await asyncio.gather(*(work(replaying) for replaying in replicas))

        assert (await replicas[0].replay(uid)).counts == {"looked": 40, "started": 200}
        assert await _found(replicas[0], uid) == _items(uids)
        assert len(await one.all_runs()) == before + 200


async def test_another_goes_on_when_the_lease_has_ended(works: OpenWorks) -> None:
    """A replay that somebody works at is left alone; it is taken over when the lease has ended, or was given back."""
    house = await works(_config())
    uids = await _put(house, 90)
    first, second, third = (Replaying(house, holder=name, lease=30.0) for name in ("one", "two", "three"))
    uid = await first.start(events=uids)
    await first.step()
    wait = await second.step()
    held = await first.replay(uid)
    await house.clock.sleep(31)
    await second.step()
    taken = await first.replay(uid)
    second.worker.stop()
    await second.worker.run()
    given_back = await first.replay(uid)
    await third.step()

    assert (held.holder, held.counts["started"]) == ("one", 100)
    assert 0 < wait <= 15
    assert (taken.holder, taken.counts["started"]) == ("two", 200)
    assert given_back.holder == ""
    assert (await first.replay(uid)).holder == "three"


async def test_what_the_store_cannot_hold_is_passed_over(works: OpenWorks) -> None:
    """A cause whose run cannot be stored is counted as an error; the others of its page have their runs."""
    house = await works(make_config([make_trigger(run={"key": "event.id", "lane": "event.attributes.lane"})]))
    uids = []
    for n in range(5):
        stored = await house.put(make_event(f"{n}", received_at=T0 + n, attributes={"lane": "a"}))
        uids.append(stored.receipts[0].uid)
    replaying = Replaying(house)
    uid = await replaying.start(events=uids)
    write = replaying.worker._step
    original = write._step

    def refuse(tx: Any, ask: Any) -> Any:
        if not ask.refused and any(cause.uid == uids[2] for cause in ask.page.causes):
            raise OverflowError("a number too large")
        return original(tx, ask)

    write._step = refuse  # type: ignore[method-assign]
    replay = await replaying.finish(uid)

    assert replay.state is ReplayState.SUCCEEDED
    assert replay.counts == {"looked": 5, "started": 4, "error": 1}
    assert replay.samples[0]["cause"] == uids[2]
    assert replay.samples[0]["reason"] == "the store cannot hold it: a number too large"


async def test_what_fails_again_and_again_fails_the_replay(works: OpenWorks) -> None:
    """A fault of ours is tried again a few times; then the replay has failed, and says why."""
    house = await works(_config())
    uids = await _put(house, 3)
    replaying = Replaying(house)
    uid = await replaying.start(events=uids)
    house.fail.arm("replay.started", 100)
    replay = await replaying.finish(uid)

    assert replay.state is ReplayState.FAILED
    assert replay.reason == "5 steps in a row failed: failed at replay.started"


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), rate=st.sampled_from([None, 20.0, 75.0, 1000.0]), as_was=st.booleans())
async def test_any_interruption_leaves_each_item_once(seed: int, rate: float | None, as_was: bool) -> None:
    """Over random deaths, restarts, changes of hands and waits, every item has one run, and the counts are exact."""
    chance = random.Random(seed)
    async with open_works("memory:", _config()) as house:
        uids = await _put(house, 25)
        replaying = Replaying(house)
        uid = await replaying.start(trigger="each", since=T0, until=T0 + 10**12, rate=rate, as_was=as_was)
        for _ in range(3_000):
            if (await replaying.replay(uid)).state.final:
                break
            wait = await replaying.step()
            await house.clock.sleep(wait * chance.random() * 3)
            if chance.random() < 0.1:
                house.fail.arm(chance.choice(POINTS))
            if chance.random() < 0.1:
                house.fail.armed.clear()
                await house.restart()
                replaying = Replaying(house, holder=chance.choice("abc"))
        house.fail.armed.clear()
        replay = await replaying.replay(uid)
        notes = await replaying.replayed(uid)

        assert replay.state is ReplayState.SUCCEEDED
        assert replay.counts == {"looked": 75 if as_was else 25, "started": 75}
        assert len({(note["cause"], note["trigger"], note["rule"], note["item"]) for note in notes}) == len(notes) == 75
        assert len({note["origin"] for note in notes}) == 75
        assert {row["generation"] for row in await house.all_runs(trigger="each")} == {1, 2}
        assert set(uids) == {event for row in notes for event in await _events(house, row["run"])}


async def _events(house: Works, run: str) -> list[str]:
    found = await house.store.read(lambda reader: reader.run(run))
    assert found is not None
    return list(found.events)
