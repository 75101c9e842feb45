"""Dead letters in a whole service: what was refused comes in once its cause is gone, once, and never gets lost."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sensors.batch import Batch, DeadLetter
from sensors.retrying import NotRetryable
from tests.support.replaying import Replaying
from tests.support.running import load, running
from tests.support.stores import do
from tests.support.works import Works, make_config, make_event, make_trigger
from tests.tidegate.conftest import OpenWorks
from tests.tidegate.test_replays import EVERYWHERE
from tidegate.ingest import Ingest
from tidegate.replays.desk import ReplayDesk
from tidegate.retrying import LetterDesk

TEXT = """
service: {name: svc, store: "sqlite:///store.db", dispatch: {poll: 100ms}}
sensors:
  hook: {kind: webhook, path: /hooks/in, verify: none, id: body.ID}
  drop: {kind: files, path: ./inbox, create: true, start: beginning, settle: 100ms, every: 200ms,
         expect: {columns: COLS}}
triggers:
  all: {on: [{sensor: hook}, {sensor: drop}], run: {pipeline: p, params: {n: "${{ event.id }}"}}}
pipelines:
  p: {engine: command, argv: ["true"]}
"""


def _text(name: str, columns: str) -> str:
    return TEXT.replace("ID", name).replace("COLS", columns)


async def test_a_delivery_comes_in_when_the_expression_is_corrected(tmp_path: Path) -> None:
    """Retried while still wrong, a letter stays; corrected and retried it is an event with its run, exactly once."""
    async with running(await load(tmp_path, _text("idd", "[a]"))) as gate:
        await gate.post(body=b'{"id": "x7"}')
        (letter,), _ = await gate.service.store.read(lambda reader: reader.dead_letters(limit=5))
        still = await gate.service.letters.retry(letter["uid"])
        await gate.service.reload(await load(tmp_path, _text("id", "[a]")))
        answers = await asyncio.gather(*(gate.service.letters.retry(letter["uid"]) for _ in range(4)))
        (run,) = await gate.finished(1)
        row = await gate.service.store.read(lambda reader: reader.dead_letter(letter["uid"]))
        duplicate = await gate.post(body=b'{"id": "x7"}')

    assert (still.outcome, "idd" in still.detail) == ("refused", True)
    assert sorted(answer.outcome for answer in answers) == ["event", "impossible", "impossible", "impossible"]
    (event,) = {answer.became for answer in answers if answer.outcome == "event"}
    assert row is not None
    assert (row["became"], row["retried_at"] is not None, row["payload"]) == (event, True, b'{"id": "x7"}')
    assert run["params"] == {"n": "x7"}
    assert duplicate.status == 202


async def test_a_refused_file_is_looked_at_again(tmp_path: Path) -> None:
    """A file that today's `expect` accepts becomes an event without being written again."""
    (tmp_path / "inbox").mkdir()
    async with running(await load(tmp_path, _text("id", "[a]"))) as gate:
        (tmp_path / "inbox" / "x.csv").write_text("b\n1\n")

        async def letters() -> Any:
            return (await gate.service.store.read(lambda reader: reader.dead_letters(limit=5)))[0]

        async with asyncio.timeout(20):
            while not await letters():
                await asyncio.sleep(0.02)
        (letter,) = await letters()
        await gate.service.reload(await load(tmp_path, _text("id", "[b]")))
        answer = await gate.service.letters.retry(letter["uid"])
        (run,) = await gate.finished(1)

    assert (answer.outcome, answer.detail) == ("again", "its source is looked at again")
    assert run["params"]["n"].startswith("x.csv@")


async def test_a_kind_that_cannot_says_so(tmp_path: Path) -> None:
    """A sensor that is gone, or of a kind that cannot read letters again, is named with what to do instead."""
    text = _text("id", "[a]").replace("triggers:", "  tick: {kind: schedule, cron: '0 0 1 1 *'}\ntriggers:")
    async with running(await load(tmp_path, text)) as gate:
        letter = DeadLetter("odd", "it is odd", "here", b"x")
        for sensor in ("tick", "gone"):
            await gate.service._parts.inbox.put(sensor, Batch(dead_letters=[letter]))
        rows, _ = await gate.service.store.read(lambda reader: reader.dead_letters(limit=5))
        answers = {row["sensor"]: await gate.service.letters.retry(row["uid"]) for row in rows}

    assert {answer.outcome for answer in answers.values()} == {"impossible"}
    assert answers["tick"].detail == "sensors of kind schedule cannot read again what letters keep"
    assert answers["gone"].detail == "sensor gone is not configured any more; configure it again, or drop the letter"


def _desk(house: Works, made: Batch | Exception) -> LetterDesk:
    async def read(sensor: str, uid: str, letter: DeadLetter) -> Batch:
        if isinstance(made, Exception):
            raise made
        return made

    ingest = Ingest(house.rules, house.shard, house.fail, own=house.own)
    replays = ReplayDesk(house.store, house.clock, lambda: None)
    return LetterDesk(house.store, ingest, replays, read, lambda _: None, house.facts.append)


async def _bury(house: Works, **fields: Any) -> str:
    letter = DeadLetter(**{"reason": "bad", "detail": "why", "position": "1", "payload": b"x", **fields})
    await house.put(dead_letters=[letter])
    return str((await house.dead_letters())[0]["uid"])


@pytest.mark.parametrize(
    ("url", "point"),
    [
        ("memory", "ingest.events"),
        ("sqlite", "ingest.runs"),
        ("sqlite", "store.before_commit"),
        pytest.param("postgresql", "store.before_commit", marks=[pytest.mark.postgres, pytest.mark.integration]),
    ],
    indirect=["url"],
)
async def test_a_retry_that_dies_leaves_the_letter(works: OpenWorks, point: str) -> None:
    """Whatever fails while a letter is taken in, it waits as before; afterwards its event and run are there once."""
    house = await works(make_config([make_trigger(run={"key": "event.id"})]))
    uid = await _bury(house)
    house.fail.arm(point)
    with pytest.raises(Exception, match=f"failed at {point}"):
        await _desk(house, Batch([make_event("a")])).retry(uid)
    between = await house.everything()
    waiting = await do(house.store, lambda tx: set(tx.open_letters([uid])))
    answer = await _desk(house, Batch([make_event("a")])).retry(uid)
    again = await _desk(house, Batch([make_event("b")])).retry(uid)

    assert (between["events"], between["runs"], waiting) == ([], [], {uid})
    assert (answer.outcome, again.outcome) == ("event", "impossible")
    assert [run["key"] for run in await house.all_runs()] == ["a"]
    assert await do(house.store, lambda tx: set(tx.open_letters([uid]))) == set()


@EVERYWHERE
async def test_what_came_by_itself_meanwhile_is_the_answer(works: OpenWorks) -> None:
    """When the source has brought the event already, the letter is dealt with, and names it."""
    house = await works(make_config([make_trigger()]))
    uid = await _bury(house)
    first = (await house.put(make_event("a"))).receipts[0].uid
    answer = await _desk(house, Batch([make_event("a")])).retry(uid)

    assert (answer.outcome, answer.became) == ("event", first)
    assert len(await house.all_runs()) == 1


@pytest.mark.parametrize(
    ("made", "outcome", "said"),
    [
        pytest.param(NotRetryable("it is cut"), "impossible", "it is cut", id="cannot"),
        pytest.param(Batch(dead_letters=[DeadLetter("bad", "still no JSON", "1")]), "refused", "no JSON", id="still"),
        pytest.param(Batch(), "impossible", "nothing comes of it", id="nothing"),
        pytest.param(Batch([make_event("a\0")]), "refused", "id of the event holds text", id="unstorable"),
    ],
)
async def test_a_letter_of_which_nothing_comes_stays(works: OpenWorks, made: Any, outcome: str, said: str) -> None:
    """What cannot be made an event leaves the letter as it is, and the answer says why."""
    house = await works(make_config([make_trigger()]), url="memory:")
    uid = await _bury(house)
    answer = await _desk(house, made).retry(uid)

    assert (answer.outcome, answer.became, said in answer.detail) == (outcome, None, True)
    assert [row["retried_at"] for row in await house.dead_letters()] == [None]
    with pytest.raises(KeyError):
        await _desk(house, made).retry("ddl_none")


@EVERYWHERE
async def test_an_event_that_no_rule_could_judge_is_judged_again(works: OpenWorks) -> None:
    """A replay judges it; the letter is dealt with only when it could be judged, and then its run is there."""
    house = await works(make_config([make_trigger(when="event.data.a == 1")]))
    await house.put(
        make_event("bad", data=b"{", content_type="application/json"),
        make_event("good", data=b'{"a": 1}', content_type="application/json"),
    )
    (letter,) = await house.dead_letters()
    desk = _desk(house, Batch())
    first = await desk.retry(letter["uid"])
    replaying = Replaying(house)
    still = await replaying.finish(first.became or "")
    waiting = (await house.dead_letters())[0]["retried_at"]
    await do(house.store, lambda tx: _repair(tx, house, letter["event_uid"]))
    second, third = await desk.retry_all([letter["uid"], "ddl_none"]), await desk.retry_all([letter["uid"]])
    done = await replaying.finish(second[0].became or "")
    late = await replaying.finish(third[0].became or "")
    after = (await house.dead_letters())[0]

    assert letter["reason"] == "unjudgeable"
    assert (first.outcome, still.counts, waiting) == ("replay", {"looked": 1, "error": 1}, None)
    assert [one.outcome for one in (*second, *third)] == ["replay", "replay"]
    ended = {replay.uid: dict(replay.counts) for replay in (done, late)}  # one of the two was first
    assert sorted(ended.values(), key=str) == [{"looked": 1, "dealt_with": 1}, {"looked": 1, "started": 1}]
    assert ended[after["became"]] == {"looked": 1, "started": 1}
    assert len(await house.all_runs()) == 2
    assert (await desk.retry(letter["uid"])).outcome == "impossible"


def _repair(tx: Any, house: Works, event: str) -> None:
    """Put content in place that rules can read: what a newer version of the service would make of it."""
    if house.store.name == "memory":
        from dataclasses import replace

        stored = tx.state.events[event]
        tx.state.events[event] = replace(stored, event=replace(stored.event, data=b'{"a": 1}'))
    else:
        tx._s.execute("UPDATE events SET data = ? WHERE uid = ?", b'{"a": 1}', event)


async def test_what_failed_after_the_run_is_not_judged_again(works: OpenWorks) -> None:
    """A letter about an object whose event had its run already is not run again."""
    house = await works(make_config([make_trigger()]))
    event = (await house.put(make_event("a"))).receipts[0].uid
    uid = await _bury(house, reason="after_failed", event_uid=event)
    answer = await _desk(house, Batch()).retry(uid)

    assert (answer.outcome, answer.became) == ("impossible", event)
    assert "what failed came after" in answer.detail
    assert len(await house.all_runs()) == 1
