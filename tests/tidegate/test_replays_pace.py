"""Replays are asked for once, kept to their rate, made to wait, and cancelled."""

from itertools import pairwise

from tests.support.replaying import Replaying
from tests.support.works import T0, make_config, make_event, make_trigger
from tests.tidegate.conftest import OpenWorks
from tests.tidegate.test_replays import again_config, put_events
from tidegate.replays.changing import MOST_ACTIVE, ReplayRefused
from tidegate.store.replay_records import ReplayState


async def test_the_same_request_is_the_same_replay(works: OpenWorks) -> None:
    """A request id answers its replay when the same is asked again, and is refused for something else."""
    house = await works(again_config())
    uids = await put_events(house, 1)
    replaying = Replaying(house)
    first = await replaying.ask("r1", events=uids)
    await replaying.step()
    second = await replaying.ask("r1", events=uids)
    other = await replaying.ask("r1", events=uids, as_was=True)

    assert not isinstance(first, ReplayRefused)
    assert not isinstance(second, ReplayRefused)
    assert (first[1], second[1], second[0].uid) == (True, False, first[0].uid)
    assert isinstance(other, ReplayRefused)
    assert str(other).startswith("request r1 was made before and asked for something else")
    assert len(await house.all_runs()) == 2


async def test_so_many_replays_and_no_more(works: OpenWorks) -> None:
    """Above the bound of replays under way another one is refused; one that has ended makes room."""
    house = await works(again_config())
    replaying = Replaying(house)
    first = await replaying.start(trigger="t", since=T0)
    for _ in range(MOST_ACTIVE - 1):
        await replaying.start(trigger="t", since=T0)
    refused = await replaying.ask(trigger="t", since=T0)
    await replaying.cancel(first)

    assert isinstance(refused, ReplayRefused)
    assert not isinstance(await replaying.ask(trigger="t", since=T0), ReplayRefused)


async def test_a_replay_can_be_cancelled(works: OpenWorks) -> None:
    """A cancelled replay starts nothing more; what it started goes on."""
    house = await works(again_config())
    await put_events(house, 110)
    replaying = Replaying(house)
    uid = await replaying.start(trigger="t", since=T0)
    await replaying.step()
    await replaying.cancel(uid)
    await replaying.step()
    replay = await replaying.replay(uid)

    assert (replay.state, replay.reason) == (ReplayState.CANCELLED, "enough")
    assert replay.counts == {"looked": 100, "started": 100}
    assert len(await house.all_runs()) == 210


async def test_a_rate_is_kept(works: OpenWorks) -> None:
    """No more runs start in any time than the rate allows, and what stood still is not made up for."""
    house = await works(again_config())
    await put_events(house, 40)
    replaying = Replaying(house)
    uid = await replaying.start(trigger="t", since=T0, rate=5.0)
    started: list[tuple[int, int]] = []
    while not (await replaying.replay(uid)).state.final:
        wait = await replaying.step()
        started.append((house.clock.at, len(await replaying.replayed(uid))))
        await house.clock.sleep(60.0 if len(started) == 20 else wait)
    begin = started[0][0]

    assert started[-1][1] == 40
    assert all(n <= 2 + 5 * (at - begin) / 1e6 for at, n in started)
    assert all(later - n <= 2 + 5 * (then - at) / 1e6 + 5 for (at, n), (then, later) in pairwise(started))
    assert (started[-1][0] - begin) / 1e6 >= 7.0


async def test_a_rate_stops_within_an_event(works: OpenWorks) -> None:
    """An event with more runs than a step may start is gone on with where it stopped, and counted once."""
    trigger = make_trigger(each="event.data", when="item > 2", run={"key": "string(item)"})
    house = await works(make_config([trigger]))
    stored = await house.put(make_event("a", data=b"[1, 2, 3, 4, 5, 6, 7]", content_type="application/json"))
    replay = await Replaying(house).run(events=[stored.receipts[0].uid], rate=10.0)

    assert replay.counts == {"looked": 1, "filtered": 2, "started": 5}
    assert [row["key"] for row in (await house.all_runs())[5:]] == ["3", "4", "5", "6", "7"]


async def test_a_replay_waits_while_too_much_is_queued(works: OpenWorks) -> None:
    """While more runs wait than are meant to, no replay starts more; a dry run goes on."""
    house = await works(again_config())
    uids = await put_events(house, 1)
    reasons = ["2 runs are queued"]
    replaying = Replaying(house, pressure=lambda: reasons[0])
    uid = await replaying.start(events=uids)
    dry = await replaying.start(events=uids, dry_run=True)
    await replaying.step()
    before = (await replaying.replay(uid)).state, (await replaying.replay(dry)).state
    reasons[0] = ""
    await replaying.finish(uid)

    assert before == (ReplayState.QUEUED, ReplayState.SUCCEEDED)
