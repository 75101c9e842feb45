"""Replays: what happened is judged again, or repeated as it was, once for everything it stands for."""

from itertools import pairwise
from typing import Any

import pytest

from pipelines.run import RunState
from sensors.w3c import parse_traceparent
from tests.support.replaying import Replaying
from tests.support.works import T0, Works, make_config, make_event, make_pipeline, make_trigger
from tests.tidegate.conftest import OpenWorks
from tidegate.replays.changing import MOST_ACTIVE, ReplayRefused
from tidegate.rules import compile_rules
from tidegate.store.replay_records import ReplayState
from triggers.trigger import Paused, Repeat, RunRule, Source, Trigger, WhenBusy

EVERYWHERE = pytest.mark.parametrize(
    "url",
    ["sqlite", "memory", pytest.param("postgresql", marks=[pytest.mark.postgres, pytest.mark.integration])],
    indirect=True,
)


def _config(**fields: Any) -> Any:
    """One trigger whose key is the event's id and whose partition is its subject."""
    rule = {"key": "event.id", "partition": "event.subject", "params": {"id": "${{ event.id }}"}}
    version = fields.pop("hash", "c1")
    return make_config([make_trigger(run={**rule, **fields.pop("run", {})}, **fields)], hash=version)


async def _put(house: Works, count: int, start: int = 0) -> list[str]:
    """Put events, one each moment; return their uids."""
    found = []
    for n in range(start, start + count):
        stored = await house.put(make_event(f"{n:04}", subject=f"day-{n % 2}", received_at=T0 + n))
        found.append(stored.receipts[0].uid)
    return found


@EVERYWHERE
async def test_an_event_runs_again(works: OpenWorks) -> None:
    """A replay by event starts a new generation of the run's key, tied to the run that it replays."""
    house = await works(_config())
    uids = await _put(house, 3)
    await house.work()
    before = await house.everything()
    replaying = Replaying(house)
    replay = await replaying.run(events=[uids[1]])
    rows = await house.all_runs()
    again, notes = rows[-1], await replaying.replayed(replay.uid)

    assert replay.state is ReplayState.SUCCEEDED
    assert replay.counts == {"looked": 1, "started": 1}
    assert [row["generation"] for row in rows] == [1, 1, 1, 2]
    assert (again["key"], again["params"], again["partition"]) == ("0001", {"id": "0001"}, "day-1")
    assert [(note["run"], note["origin"], note["cause"]) for note in notes] == [(again["uid"], rows[1]["uid"], uids[1])]
    after = await house.everything()
    assert after["events"] == before["events"]
    decision = (await house.decisions())[-1]
    assert decision["outcome"] == "fired"
    assert decision["reason"].startswith(f"replay {replay.uid} of run {rows[1]['uid']}; run {again['uid']} started")
    assert decision["details"] == {"replay": replay.uid, "replayed_from": rows[1]["uid"]}


@EVERYWHERE
async def test_a_time_range_runs_again_in_order(works: OpenWorks) -> None:
    """By trigger and time, every event that came in it runs again, in the order of arrival, page after page."""
    house = await works(_config())
    uids = await _put(house, 250)
    await house.put(make_event("elsewhere", sensor="other", received_at=T0 + 20))
    replaying = Replaying(house)
    replay = await replaying.run(trigger="t", since=T0 + 10, until=T0 + 245)
    notes = await replaying.replayed(replay.uid)

    assert replay.counts == {"looked": 235, "started": 235}
    assert sorted(note["cause"] for note in notes) == sorted(uids[10:245])
    assert [row["key"] for row in (await house.all_runs())[250:]] == [f"{n:04}" for n in range(10, 245)]
    assert max(len(facts.runs) for facts in house.facts) == 100


async def test_todays_rules_judge(works: OpenWorks) -> None:
    """A changed rule decides: what it lets through starts, the rest is counted with the reason, by sample."""
    house = await works(_config())
    uids = await _put(house, 10)
    house.rules.swap(compile_rules(_config(when='event.id >= "0008"', hash="c2"), {}))
    replaying = Replaying(house)
    replay = await replaying.run(trigger="t", since=T0)

    assert replay.counts == {"looked": 10, "filtered": 8, "started": 2}
    assert [sample["cause"] for sample in replay.samples] == uids[:5]
    assert replay.samples[0]["reason"] == "when does not hold"
    assert (await house.counts("trigger"))["t", "fired"] == 12


@EVERYWHERE
async def test_as_it_was_keeps_what_was_rendered_then(works: OpenWorks) -> None:
    """As it was, key, parameters and partition are those of then, whatever the rules say today."""
    house = await works(_config())
    uids = await _put(house, 3)
    changed = _config(run={"params": {"id": "new"}, "key": '"new-" + event.id'}, when="false", hash="c2")
    house.rules.swap(compile_rules(changed, {}))
    replaying = Replaying(house)
    today = await replaying.run(events=uids)
    then = await replaying.run(events=uids, as_was=True)
    ranged = await replaying.run(trigger="t", since=0, as_was=True)
    rows = await house.all_runs()

    assert today.counts == {"looked": 3, "filtered": 3}
    assert then.counts == ranged.counts == {"looked": 3, "started": 3}
    assert sorted((row["generation"], row["key"], row["params"]["id"]) for row in rows) == [
        (generation, f"{n:04}", f"{n:04}") for generation in (1, 2, 3) for n in range(3)
    ]
    notes = await replaying.replayed(then.uid)
    assert {note["origin"] for note in notes} == {row["uid"] for row in rows[:3]}
    fired = [facts.trigger_events for facts in house.facts if facts.replays]
    assert {(one.version, one.config_hash) for some in fired for one in some} == {("v1", "c1")}


async def test_as_it_was_says_what_is_not_known(works: OpenWorks) -> None:
    """An event that fired nothing is told apart from one that is gone."""
    house = await works(_config(when='event.id != "0001"'))
    uids = await _put(house, 2)
    replaying = Replaying(house)
    gone = uids[0][:-2] + "zz"
    replay = await replaying.run(events=[*uids, gone], as_was=True)

    assert replay.counts == {"looked": 3, "started": 1, "not_fired": 1, "gone": 1}
    assert [(sample["outcome"], sample["cause"]) for sample in replay.samples] == [
        ("not_fired", uids[1]),
        ("gone", gone),
    ]


@EVERYWHERE
async def test_as_it_was_says_that_a_run_is_forgotten(works: OpenWorks) -> None:
    """What fired once but is past its retention cannot be repeated, and the sample says so; today's rules still can."""
    house = await works(_config())
    uids = await _put(house, 2)
    await house.work()
    await house.store.submit(_Prune(), None)
    replaying = Replaying(house)
    then = await replaying.run(events=uids, as_was=True)
    today = await replaying.run(events=uids)

    assert then.counts == {"looked": 2, "forgotten": 2}
    assert "is past its retention" in then.samples[0]["reason"]
    assert today.counts == {"looked": 2, "started": 2}
    assert [row["generation"] for row in await house.all_runs()] == [2, 2]


class _Prune:
    name = "prune-runs"

    def __call__(self, tx: Any, items: Any) -> Any:
        return [tx.prune("runs", 2**60, 100) for _ in items]


async def test_only_one_partition(works: OpenWorks) -> None:
    """A replay of one partition starts its runs only, and counts the others."""
    house = await works(_config())
    await _put(house, 6)
    replaying = Replaying(house)
    today = await replaying.run(trigger="t", since=T0, partition="day-1")
    then = await replaying.run(trigger="t", since=0, partition="day-1", as_was=True)

    assert today.counts == {"looked": 6, "started": 3, "other_partition": 3}
    assert then.counts == {"looked": 6, "started": 3, "other_partition": 3}
    assert {row["partition"] for row in (await house.all_runs())[6:]} == {"day-1"}


async def test_into_another_pipeline(works: OpenWorks) -> None:
    """A replay may start another pipeline, with keys of its own; parameters that it does not take are an error."""
    config = make_config(
        [make_trigger(run={"key": "event.id", "params": {"id": "${{ event.id }}"}})],
        [make_pipeline("shadow"), make_pipeline("strict", params={})],
    )
    house = await works(config)
    uids = await _put(house, 2)
    replaying = Replaying(house)
    replay = await replaying.run(events=uids, pipeline="shadow")
    strict = await replaying.run(events=uids, pipeline="strict")
    rows = (await house.all_runs())[2:]

    assert replay.counts == {"looked": 2, "started": 2}
    assert [(row["pipeline"], row["key"], row["generation"]) for row in rows] == [
        ("shadow", "0000", 1),
        ("shadow", "0001", 1),
    ]
    assert strict.counts == {"looked": 2, "error": 2}
    assert "pipeline strict does not take the parameters" in strict.samples[0]["reason"]


@pytest.mark.parametrize("repeat", list(Repeat))
@pytest.mark.parametrize("when_busy", list(WhenBusy))
async def test_a_replay_starts_whatever_stands_in_the_way(
    works: OpenWorks, repeat: Repeat, when_busy: WhenBusy
) -> None:
    """While the original is active a replay's run waits in line: it is no duplicate, merges into nothing, cancels
    nothing, and keeps its lane."""
    house = await works(_config(repeat=repeat, when_busy=when_busy, run={"lane": '"x" + event.type'}), url="memory:")
    uids = await _put(house, 1)
    claimed = await house.claim()
    replay = await Replaying(house).run(events=uids)
    rows = await house.all_runs()
    meanwhile = await house.claim()
    await house.end(claimed[0])

    assert replay.counts == {"looked": 1, "started": 1}
    assert [(row["generation"], row["state"]) for row in rows] == [(1, "running"), (2, "queued")]
    assert list(meanwhile) == []
    assert [one.run.uid for one in await house.claim()] == [rows[1]["uid"]]


@EVERYWHERE
async def test_a_run_without_a_key_keeps_its_key(works: OpenWorks) -> None:
    """Without a key of the rule's own, what runs again is a generation of the run that it replays, element by
    element."""
    each = make_trigger(run={"params": {"n": "${{ item }}"}}, each="event.data")
    two = Trigger(name="two", on=(Source(sensor="s"),), runs=(RunRule(pipeline="p"), RunRule(pipeline="p")))
    house = await works(make_config([each, two]))
    stored = await house.put(make_event("a", data=b"[7, 8]", content_type="application/json"))
    replaying = Replaying(house)
    uid = stored.receipts[0].uid
    first = await replaying.run(events=[uid])
    second = await replaying.run(events=[uid])
    rows = await house.all_runs()

    assert first.counts == second.counts == {"looked": 1, "started": 4}
    assert [row["generation"] for row in rows] == [1] * 4 + [2] * 4 + [3] * 4
    assert [row["key"] for row in rows[4:8]] == [row["key"] for row in rows[:4]]
    assert [row["params"] for row in rows[4:6]] == [{"n": 7}, {"n": 8}]
    notes = await replaying.replayed(second.uid)
    assert [note["origin"] for note in notes] == [row["uid"] for row in rows[:4]]


async def test_a_paused_trigger_is_not_run_again(works: OpenWorks) -> None:
    """By event, what a paused trigger would start is counted as paused; by trigger, the replay waits for it."""
    house = await works(_config())
    uids = await _put(house, 1)
    house.rules.pause("t", Paused.HOLD)
    replaying = Replaying(house)
    by_event = await replaying.run(events=uids)
    uid = await replaying.start(trigger="t", since=T0)
    await replaying.step()
    waiting = await replaying.replay(uid)
    house.rules.pause("t", None)
    done = await replaying.finish(uid)

    assert by_event.counts == {"looked": 1, "paused": 1}
    assert waiting.state is ReplayState.QUEUED
    assert done.counts == {"looked": 1, "started": 1}


async def test_an_event_that_cannot_be_read_is_an_error(works: OpenWorks) -> None:
    """What no rule can read is counted as an error, and the others of its page run."""
    house = await works(_config(when="event.data.a == 1"))
    stored = await house.put(
        make_event("bad", data=b"{", content_type="application/json"),
        make_event("good", data=b'{"a": 1}', content_type="application/json"),
    )
    replay = await Replaying(house).run(events=[receipt.uid for receipt in stored.receipts])

    assert replay.counts == {"looked": 2, "error": 1, "started": 1}


async def test_a_dry_run_starts_nothing(works: OpenWorks) -> None:
    """A dry run counts what would start and what would not, with samples, and leaves nothing behind but its row."""
    house = await works(_config(when='event.id != "0001"'))
    uids = await _put(house, 3)
    before = await house.everything()
    replay = await Replaying(house).run(trigger="t", since=T0, dry_run=True)

    assert replay.counts == {"looked": 3, "filtered": 1, "started": 2}
    assert await house.everything() == before
    shown = next(sample for sample in replay.samples if sample["outcome"] == "started")
    assert shown["cause"] == uids[0]
    assert shown["reason"].startswith("would start pipeline p for key '0000', again after run run_")


async def test_the_same_request_is_the_same_replay(works: OpenWorks) -> None:
    """A request id answers its replay when the same is asked again, and is refused for something else."""
    house = await works(_config())
    uids = await _put(house, 1)
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
    house = await works(_config())
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
    house = await works(_config())
    await _put(house, 250)
    replaying = Replaying(house)
    uid = await replaying.start(trigger="t", since=T0)
    await replaying.step()
    await replaying.cancel(uid)
    await replaying.step()
    replay = await replaying.replay(uid)

    assert (replay.state, replay.reason) == (ReplayState.CANCELLED, "enough")
    assert replay.counts == {"looked": 100, "started": 100}
    assert len(await house.all_runs()) == 350


async def test_a_rate_is_kept(works: OpenWorks) -> None:
    """No more runs start in any time than the rate allows, and what stood still is not made up for."""
    house = await works(_config())
    await _put(house, 40)
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
    house = await works(_config())
    uids = await _put(house, 1)
    reasons = ["2 runs are queued"]
    replaying = Replaying(house, pressure=lambda: reasons[0])
    uid = await replaying.start(events=uids)
    dry = await replaying.start(events=uids, dry_run=True)
    await replaying.step()
    before = (await replaying.replay(uid)).state, (await replaying.replay(dry)).state
    reasons[0] = ""
    await replaying.finish(uid)

    assert before == (ReplayState.QUEUED, ReplayState.SUCCEEDED)


async def test_a_trigger_that_is_gone_fails_the_replay(works: OpenWorks) -> None:
    """A replay whose trigger is taken out of the configuration fails visibly."""
    house = await works(_config())
    replaying = Replaying(house)
    uid = await replaying.start(trigger="t", since=T0)
    house.rules.swap(compile_rules(make_config([make_trigger("another")]), {}))
    replay = await replaying.finish(uid)

    assert replay.state is ReplayState.FAILED
    assert replay.reason == "trigger t is not configured any more, or is disabled"


async def test_a_replayed_run_has_a_trace_of_its_own(works: OpenWorks) -> None:
    """A replayed run starts a trace, and its creation context a link to the event and to the run that it replays."""
    house = await works(_config())
    uids = await _put(house, 1)
    await Replaying(house).run(events=uids)
    facts = house.facts[-1]
    first, again = (await house.all_runs())[0], facts.runs[0]
    fired = facts.trigger_events[0]
    traces = [parse_traceparent(one) for one in (first["run_span"], again.run_span, fired.span)]

    assert len({trace.trace_id for trace in traces if trace is not None}) == 3
    assert facts.replays == {fired.uid: first["run_span"]}
    assert facts.known == {uids[0]: house.facts[0].events[0].span}
    assert again.span == fired.span


async def test_lineage_shows_what_was_replayed(works: OpenWorks) -> None:
    """From the event one comes to both runs, and from the first to the second; also when they are pruned."""
    house = await works(_config())
    uids = await _put(house, 1)
    await Replaying(house).run(events=uids)
    first, again = (row["uid"] for row in await house.all_runs())
    graph = await house.store.read(lambda reader: reader.lineage(run=again, down=False))
    await house.work(RunState.SUCCEEDED)
    await house.work(RunState.SUCCEEDED)
    await house.store.submit(_Prune(), None)
    pruned = await house.store.read(lambda reader: reader.lineage(event=uids[0]))

    edge = {"from": first, "to": again, "kind": "replayed", "rows": None}
    assert edge in graph["edges"]
    assert edge in pruned["edges"]
