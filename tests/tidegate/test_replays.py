"""Replays: what happened is judged again, or repeated as it was, once for everything it stands for."""

from typing import Any

import pytest

from pipelines.run import RunState
from sensors.w3c import parse_traceparent
from tests.support.replaying import Replaying
from tests.support.works import T0, Works, make_config, make_event, make_pipeline, make_trigger
from tests.tidegate.conftest import OpenWorks
from tidegate.rules import compile_rules
from tidegate.store.replay_records import ReplayState
from triggers.trigger import Paused, Repeat, RunRule, Source, Trigger, WhenBusy

EVERYWHERE = pytest.mark.parametrize(
    "url",
    ["sqlite", "memory", pytest.param("postgresql", marks=[pytest.mark.postgres, pytest.mark.integration])],
    indirect=True,
)


def again_config(**fields: Any) -> Any:
    """One trigger whose key is the event's id and whose partition is its subject."""
    rule = {"key": "event.id", "partition": "event.subject", "params": {"id": "${{ event.id }}"}}
    version = fields.pop("hash", "c1")
    return make_config([make_trigger(run={**rule, **fields.pop("run", {})}, **fields)], hash=version)


async def put_events(house: Works, count: int, start: int = 0) -> list[str]:
    """Put events, one each moment; return their uids."""
    found = []
    for n in range(start, start + count):
        stored = await house.put(make_event(f"{n:04}", subject=f"day-{n % 2}", received_at=T0 + n))
        found.append(stored.receipts[0].uid)
    return found


@EVERYWHERE
async def test_an_event_runs_again(works: OpenWorks) -> None:
    """A replay by event starts a new generation of the run's key, tied to the run that it replays."""
    house = await works(again_config())
    uids = await put_events(house, 3)
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
    house = await works(again_config())
    uids = await put_events(house, 130)
    await house.put(make_event("elsewhere", sensor="other", received_at=T0 + 20))
    replaying = Replaying(house)
    replay = await replaying.run(trigger="t", since=T0 + 10, until=T0 + 125)
    notes = await replaying.replayed(replay.uid)

    assert replay.counts == {"looked": 115, "started": 115}
    assert sorted(note["cause"] for note in notes) == sorted(uids[10:125])
    assert [row["key"] for row in (await house.all_runs())[130:]] == [f"{n:04}" for n in range(10, 125)]
    assert max(len(facts.runs) for facts in house.facts) == 100


async def test_todays_rules_judge(works: OpenWorks) -> None:
    """A changed rule decides: what it lets through starts, the rest is counted with the reason, by sample."""
    house = await works(again_config())
    uids = await put_events(house, 10)
    house.rules.swap(compile_rules(again_config(when='event.id >= "0008"', hash="c2"), {}))
    replaying = Replaying(house)
    replay = await replaying.run(trigger="t", since=T0)

    assert replay.counts == {"looked": 10, "filtered": 8, "started": 2}
    assert [sample["cause"] for sample in replay.samples] == uids[:5]
    assert replay.samples[0]["reason"] == "when does not hold"
    assert (await house.counts("trigger"))["t", "fired"] == 12


async def test_as_it_was_keeps_what_was_rendered_then(works: OpenWorks) -> None:
    """As it was, key, parameters and partition are those of then, whatever the rules say today."""
    house = await works(again_config())
    uids = await put_events(house, 3)
    changed = again_config(run={"params": {"id": "new"}, "key": '"new-" + event.id'}, when="false", hash="c2")
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
    house = await works(again_config(when='event.id != "0001"'))
    uids = await put_events(house, 2)
    replaying = Replaying(house)
    gone = uids[0][:-2] + "zz"
    replay = await replaying.run(events=[*uids, gone], as_was=True)

    assert replay.counts == {"looked": 3, "started": 1, "not_fired": 1, "gone": 1}
    assert [(sample["outcome"], sample["cause"]) for sample in replay.samples] == [
        ("not_fired", uids[1]),
        ("gone", gone),
    ]


async def test_as_it_was_by_one_trigger(works: OpenWorks) -> None:
    """Of what events fired, only what the trigger that is named did is repeated; where it did not, that is said."""
    house = await works(make_config([make_trigger("a"), make_trigger("b", when='event.id == "1"')]))
    uids = [(await house.put(make_event(str(n), received_at=T0 + n))).receipts[0].uid for n in range(2)]
    replay = await Replaying(house).run(events=uids, as_was=True, trigger="b")
    whole = await Replaying(house).run(trigger="b", since=-(10**18), until=-5, as_was=True)

    assert replay.counts == {"looked": 2, "started": 1, "not_fired": 1}
    assert replay.samples[0]["reason"] == "as it was, trigger b never fired on it"
    assert [row["trigger"] for row in (await house.all_runs())[3:]] == ["b"]
    assert (whole.state, whole.counts) == (ReplayState.SUCCEEDED, {})


@EVERYWHERE
async def test_as_it_was_says_that_a_run_is_forgotten(works: OpenWorks) -> None:
    """What fired once but is past its retention cannot be repeated, and the sample says so; today's rules still can."""
    house = await works(again_config())
    uids = await put_events(house, 2)
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
    house = await works(again_config())
    await put_events(house, 6)
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
    uids = await put_events(house, 2)
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
    house = await works(
        again_config(repeat=repeat, when_busy=when_busy, run={"lane": '"x" + event.type'}), url="memory:"
    )
    uids = await put_events(house, 1)
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
    house = await works(again_config())
    uids = await put_events(house, 1)
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
    house = await works(again_config(when="event.data.a == 1"))
    stored = await house.put(
        make_event("bad", data=b"{", content_type="application/json"),
        make_event("good", data=b'{"a": 1}', content_type="application/json"),
    )
    replay = await Replaying(house).run(events=[receipt.uid for receipt in stored.receipts])

    assert replay.counts == {"looked": 2, "error": 1, "started": 1}


async def test_an_event_that_is_dead_for_one_trigger_is_dead_for_all(works: OpenWorks) -> None:
    """Asked by a trigger that would not read it, an event that others cannot read starts nothing, as when it came."""
    house = await works(make_config([make_trigger("reads", when="event.data.a == 1"), make_trigger("blind")]))
    stored = await house.put(make_event("bad", data=b"{", content_type="application/json"))
    replay = await Replaying(house).run(events=[stored.receipts[0].uid], trigger="blind")

    assert replay.counts == {"looked": 1, "error": 1}
    assert await house.all_runs() == []


async def test_a_dry_run_starts_nothing(works: OpenWorks) -> None:
    """A dry run counts what would start and what would not, with samples, and leaves nothing behind but its row."""
    house = await works(again_config(when='event.id != "0001"'))
    uids = await put_events(house, 3)
    before = await house.everything()
    replay = await Replaying(house).run(trigger="t", since=T0, dry_run=True)

    assert replay.counts == {"looked": 3, "filtered": 1, "started": 2}
    assert await house.everything() == before
    shown = next(sample for sample in replay.samples if sample["outcome"] == "started")
    assert shown["cause"] == uids[0]
    assert shown["reason"].startswith("would start pipeline p for key '0000', again after run run_")


async def test_a_trigger_that_is_gone_fails_the_replay(works: OpenWorks) -> None:
    """A replay whose trigger is taken out of the configuration fails visibly."""
    house = await works(again_config())
    replaying = Replaying(house)
    uid = await replaying.start(trigger="t", since=T0)
    house.rules.swap(compile_rules(make_config([make_trigger("another")]), {}))
    replay = await replaying.finish(uid)

    assert replay.state is ReplayState.FAILED
    assert replay.reason == "trigger t is not configured any more, or is disabled"


async def test_a_replayed_run_has_a_trace_of_its_own(works: OpenWorks) -> None:
    """A replayed run starts a trace, and its creation context a link to the event and to the run that it replays."""
    house = await works(again_config())
    uids = await put_events(house, 1)
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
    house = await works(again_config())
    uids = await put_events(house, 1)
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
