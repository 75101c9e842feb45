"""The one transaction."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from sensors.batch import Batch, Cursor, DeadLetter, Fence, SeenObject
from sensors.ports import Receipt
from sensors.w3c import parse_traceparent
from tests.support.stores import do
from tests.support.works import T0, TRACEPARENT, Broken, Works, epoch, make_config, make_event, make_trigger
from tests.tidegate.conftest import OpenWorks
from tidegate.store.tx import ItemRefused

EVERYWHERE = pytest.mark.parametrize(
    "url",
    ["sqlite", "memory", pytest.param("postgresql", marks=[pytest.mark.postgres, pytest.mark.integration])],
    indirect=True,
)
CONFIG = make_config([make_trigger(run={"key": "event.id"})])
POINTS = (
    "ingest.begin", "ingest.ids", "ingest.events", "ingest.runs", "ingest.decided", "store.begin",
    "store.before_commit",
)  # fmt: skip


async def test_an_event_is_stored_with_all_it_causes(works: OpenWorks) -> None:
    """One put: the event, its fired decision, its trigger event, its queued run, and exact counts."""
    house = await works(CONFIG)
    stored = await house.put(make_event("a"))

    (receipt,) = stored.receipts
    (decision,) = await house.decisions()
    (run,) = await house.all_runs()
    assert not receipt.duplicate
    assert (decision["outcome"], decision["run"], decision["events"]) == ("fired", run["uid"], [receipt.uid])
    assert (run["state"], run["key"], run["generation"]) == ("queued", "a", 1)
    assert (await house.counts("trigger"))["t", "fired"] == 1
    assert (await house.counts("sensor"))["s", "stored"] == 1


@EVERYWHERE
async def test_duplicates_in_one_group_across_groups_and_restarts(works: OpenWorks) -> None:
    """However often and whenever an id comes, there is one event and one run, and every receipt names it."""
    house = await works(CONFIG)
    together = await asyncio.gather(*(house.put(make_event("a"), make_event("a")) for _ in range(5)))
    later = await house.put(make_event("a"))
    await house.restart()
    after = await house.put(make_event("a"), make_event("b"))

    receipts = [receipt for stored in (*together, later) for receipt in stored.receipts]
    first = receipts[0].uid
    assert {receipt.uid for receipt in receipts} == {first}
    assert [receipt.duplicate for receipt in receipts] == [False] + [True] * 10
    assert after.receipts[0] == Receipt(first, duplicate=True)
    assert not after.receipts[1].duplicate
    assert [row["key"] for row in await house.all_runs()] == ["a", "b"]
    assert await house.counts("sensor") == {("s", "stored"): 2, ("s", "duplicate"): 11}


async def test_an_id_is_new_again_after_its_memory(works: OpenWorks) -> None:
    """`dedup_for` is how long an id is remembered, not longer."""
    house = await works(make_config([make_trigger()]))
    await house.put(make_event("a"), dedup_for=10.0)
    house.clock.at += 9_000_000
    still = await house.put(make_event("a"), dedup_for=10.0)
    house.clock.at += 9_000_000
    again = await house.put(make_event("a"), dedup_for=10.0)

    assert [still.receipts[0].duplicate, again.receipts[0].duplicate] == [True, False]
    assert len(await house.all_runs()) == 2


@EVERYWHERE
async def test_a_batch_that_is_tried_again_after_its_commit_is_a_duplicate(works: OpenWorks) -> None:
    """When the answer to a commit was lost, the very same batch comes again: it is stored once and says so."""
    house = await works(CONFIG)
    batch = Batch(events=(make_event("a"), make_event("b")), cursors=(Cursor("x", "2"),))
    first = await house.inbox.put("s", batch)
    again, fresh = await asyncio.gather(house.inbox.put("s", batch), house.put(make_event("c")))

    assert [receipt.uid for receipt in again.receipts] == [receipt.uid for receipt in first.receipts]
    assert all(receipt.duplicate for receipt in again.receipts)
    assert not fresh.receipts[0].duplicate
    assert [row["key"] for row in await house.all_runs()] == ["a", "b", "c"]


@EVERYWHERE
async def test_a_stale_fence_stores_nothing(works: OpenWorks) -> None:
    """A batch of a shard that another process has taken over leaves no trace; its neighbours are stored."""
    house = await works(CONFIG)
    old = await epoch(house, "0")
    await epoch(house, "0")
    before = await house.everything()
    lost = {
        "fences": (Fence("0", old),),
        "cursors": (Cursor("0", "99"),),
        "seen": (SeenObject("a", "t", 1, "present", T0, T0),),
        "dead_letters": (DeadLetter("bad", "it is", "0/7"),),
        "counts": {"skipped": 3},
    }
    unknown = {"fences": (Fence("never", 1),)}
    stale, never, good = await asyncio.gather(
        house.put(make_event("stale"), **lost), house.put(make_event("never"), **unknown), house.put(make_event("good"))
    )

    assert (stale.stale, never.stale, good.stale) == (True, True, False)
    assert not stale.receipts
    assert [row["id"] for row in await house.events()] == ["good"]
    assert (await house.everything())["cursors"] == before["cursors"]
    assert (await house.everything())["seen"] == {}
    assert await house.counts("sensor") == {("s", "stored"): 1}


async def test_a_live_fence_stores_all(works: OpenWorks) -> None:
    """The holder of a shard moves its cursor together with the events."""
    house = await works(CONFIG)
    now = await epoch(house, "0")
    stored = await house.put(make_event("a"), fences=(Fence("0", now),), cursors=(Cursor("0", "7"),))

    assert not stored.stale
    assert (await house.inbox.cursors("s"))["0"].value == "7"


def _whole_batch() -> dict[str, Any]:
    return {
        "cursors": (Cursor("x", "41"), Cursor("y", "1")),
        "seen": (SeenObject("a", "t1", 1, "present", T0, T0), SeenObject("b", "t1", 1, "present", T0, T0)),
        "dead_letters": (DeadLetter("bad_payload", "no JSON", "x/40", b"\xff\x00"),),
        "counts": {"skipped": 2},
    }


@EVERYWHERE
@pytest.mark.parametrize("point", POINTS)
async def test_a_batch_is_all_or_nothing_at_every_step(works: OpenWorks, point: str) -> None:
    """A transaction that fails anywhere leaves nothing; the same batch again leaves exactly what one try leaves."""
    config = make_config([make_trigger(run={"key": "event.id"}), make_trigger("bad", when="event.data.x > 0")])
    house = await works(config)
    events = (make_event("a", data=b'{"x": "\\u0000"}', content_type="application/json"), make_event("b"))
    batch = Batch(events=events, **_whole_batch())
    before = await house.everything()
    house.fail.arm(point, 2)
    with pytest.raises(ItemRefused) as refusal:
        await house.inbox.put("s", batch)
    between = await house.everything()
    house.fail.armed.clear()
    stored = await house.inbox.put("s", batch)
    after = await house.everything()

    assert isinstance(refusal.value.__cause__, Broken)
    assert between == before
    assert [receipt.duplicate for receipt in stored.receipts] == [False, False]
    assert sorted(after["events"]) == [("a", "dead"), ("b", "stored")]
    assert {cursor.value for cursor in after["cursors"].values()} == {"41", "1"}
    assert set(after["seen"]) == {"a", "b"}
    assert sorted(reason for reason, _ in after["dead"]) == ["bad_payload", "unjudgeable"]
    assert after["runs"] == [("p", "b", "queued")]
    assert after["sensor"] == {("s", "skipped"): 2, ("s", "stored"): 2}
    assert after["trigger"]["t", "fired"] == 1
    assert after["trigger"]["bad", "error"] == 1


async def test_one_bad_item_never_fails_its_neighbours(works: OpenWorks) -> None:
    """Of a group in which one batch can never be stored, all others are, and only that one is refused."""
    house = await works(CONFIG)
    poison = Batch(seen=(SeenObject("\udc00", "t", 1, "present", T0, T0),), cursors=(Cursor("x", "1"),))
    puts = [house.put(make_event(f"n{n}")) for n in range(20)]
    puts.insert(7, house.inbox.put("s", poison))
    answers = await asyncio.gather(*puts, return_exceptions=True)

    assert isinstance(answers.pop(7), ItemRefused)
    assert all(not isinstance(answer, BaseException) for answer in answers)
    assert len(await house.all_runs()) == 20
    assert await house.inbox.cursors("s") == {}


@pytest.mark.parametrize(
    ("field", "text"),
    [
        pytest.param("id", "a\0b", id="nul in the id"),
        pytest.param("subject", "a\udc80b", id="surrogate in the subject"),
        pytest.param("content_type", "a\0b", id="nul in the content type"),
        pytest.param("source", "a\udc80b", id="surrogate in the source"),
    ],
)
@EVERYWHERE
async def test_an_envelope_that_cannot_be_stored_goes_to_the_dead_letters(
    works: OpenWorks, field: str, text: str
) -> None:
    """An event whose envelope no column takes is kept as a dead letter; its batch goes on and is not tried for ever."""
    house = await works(CONFIG)
    good, bad = make_event("good"), replace(make_event("bad", data=b"raw"), **{field: text})  # type: ignore[arg-type]
    stored = await house.put(bad, good, cursors=(Cursor("x", "9"),))

    (letter,) = await house.dead_letters()
    whole = await house.store.read(lambda reader: reader.dead_letter(letter["uid"]))
    assert letter["reason"] == "unstorable"
    assert field in letter["detail"]
    assert whole is not None
    assert whole["payload"] == b"raw"
    assert [row["id"] for row in await house.events()] == ["good"]
    assert [receipt.duplicate for receipt in stored.receipts] == [False, False]
    assert (await house.inbox.cursors("s"))["x"].value == "9"


@pytest.mark.parametrize("sensor", ["s", "unwatched"])
@pytest.mark.parametrize("data", [b'{"a": "\\u0000"}', b'{"a": "\\ud800"}', b"{not json"])
async def test_hostile_content_becomes_a_dead_letter_and_an_error_decision(
    works: OpenWorks, data: bytes, sensor: str
) -> None:
    """Content that no rule can read truthfully is stored, judged `error`, and named in the dead letters."""
    house = await works(make_config([make_trigger(when="event.data.a == 'x'")]))
    stored = await house.put(make_event("bad", sensor=sensor, data=data, content_type="application/json"))

    (row,) = await house.events(sensor)
    whole = await house.store.read(lambda reader: reader.event(stored.receipts[0].uid))
    assert whole is not None
    assert whole.data == data
    if sensor == "s":
        (letter,) = await house.dead_letters()
        (decision,) = await house.decisions()
        assert (row["state"], letter["event_uid"], decision["outcome"]) == ("dead", row["uid"], "error")
    else:
        assert (row["state"], await house.decisions(), await house.all_runs()) == ("stored", [], [])


async def test_an_expression_that_fails_is_a_stored_error(works: OpenWorks) -> None:
    """A `when` over a missing field is an error decision with its clause; the trigger beside it fires."""
    config = make_config([make_trigger("asks", when="event.data.size > 0"), make_trigger("takes")])
    house = await works(config)
    await house.put(make_event("a", data=b"{}", content_type="application/json"))

    decided = {row["trigger"]: row for row in await house.decisions()}
    assert decided["asks"]["outcome"] == "error"
    assert decided["asks"]["clause"]["path"] == "when"
    assert decided["takes"]["outcome"] == "fired"
    assert await house.dead_letters() == []


async def test_facts_are_told_once(works: OpenWorks) -> None:
    """Each stored event, decision and run is among the facts exactly once, also of a group that had to be halved."""
    house = await works(CONFIG)
    poison = Batch(seen=(SeenObject("\udc00", "t", 1, "present", T0, T0),))
    puts = [house.put(make_event(f"n{n}")) for n in range(9)]
    await asyncio.gather(*puts, house.inbox.put("s", poison), return_exceptions=True)
    await house.put(make_event("n1"))

    told = [stored.event.uid for facts in house.facts for stored in facts.events]
    assert sorted(told) == sorted(row["uid"] for row in await house.events())
    assert len({run.uid for facts in house.facts for run in facts.runs}) == len(await house.all_runs()) == 9
    assert sum(len(facts.decisions) for facts in house.facts) == 9
    assert sum(facts.duplicates for facts in house.facts) == 1


async def test_facts_are_told_when_the_first_caller_has_gone(works: OpenWorks) -> None:
    """A caller that is cancelled while its group commits does not take the group's facts with it."""
    house = await works(CONFIG)
    leaving = asyncio.ensure_future(house.put(make_event("a")))
    staying = asyncio.ensure_future(house.put(make_event("b")))
    await asyncio.sleep(0)
    leaving.cancel()
    await staying
    await asyncio.wait({leaving})

    told = {stored.event.id for facts in house.facts for stored in facts.events}
    assert told == {row["id"] for row in await house.events()}


async def test_every_stored_event_has_its_process_span(works: OpenWorks) -> None:
    """A given parent is continued; without one a trusted sender's trace is, an untrusted one's is not."""
    house = await works(CONFIG)
    parent = "00-" + "c" * 32 + "-" + "d" * 16 + "-03"
    await house.put(make_event("given", traceparent=TRACEPARENT), parent=parent)
    await house.put(make_event("trusted", traceparent=TRACEPARENT, trusted=True))
    await house.put(make_event("untrusted", traceparent=TRACEPARENT))
    await house.put(make_event("none"))

    spans = {row["id"]: parse_traceparent(row["span"]) for row in await house.events()}
    traces = {id_: span.trace_id for id_, span in spans.items() if span is not None}
    remote = parse_traceparent(TRACEPARENT)
    assert remote is not None
    assert len(traces) == 4
    assert traces["given"] == "c" * 32
    assert traces["trusted"] == remote.trace_id
    assert len({*traces.values(), remote.trace_id}) == 4
    assert all(span is not None and span.span_id not in (remote.span_id, "d" * 16) for span in spans.values())


async def test_only_seen_and_cursors(works: OpenWorks) -> None:
    """A batch without events moves positions and memories all the same; forgotten objects are gone."""
    house = await works(CONFIG)
    await house.put(seen=(SeenObject("a", "t", 1, "present", T0, T0),), cursors=(Cursor("x", "1"),))
    await house.put(forget=("a",), cursors=(Cursor("x", "2"),))

    left = await house.everything()
    assert left["seen"] == {}
    assert left["cursors"]["x"].value == "2"
    assert left["events"] == []


async def test_an_order_of_batches_is_the_order_of_runs(works: OpenWorks) -> None:
    """Runs are numbered in the order in which their events were put, within and across batches."""
    house = await works(CONFIG)
    await asyncio.gather(*(house.put(make_event(f"{n}/a"), make_event(f"{n}/b")) for n in range(30)))

    assert [row["key"] for row in await house.all_runs()] == [f"{n}/{part}" for n in range(30) for part in "ab"]


async def test_the_depth_of_an_outside_event_is_that_of_its_run(works: OpenWorks) -> None:
    """Runs of outside events start chains at depth 0."""
    house: Works = await works(CONFIG)
    await house.put(make_event("a"))

    assert (await house.all_runs())[0]["depth"] == 0
    assert await do(house.store, lambda tx: len(tx.get_settings(""))) == 0
