"""Changing rules live: what a key has gathered goes on as far as it means the same, and the report says what became."""

import asyncio
import json
from pathlib import Path

import pytest

from sensors.event import Event
from tests.support.running import Running, load, running
from tests.support.works import make_event, open_works
from tidegate.reloaded import REPORTS, Reloaded, TriggerChange, reports
from tidegate.rule_history import RecordRules, written

TEXT = """
service: {name: svc, dispatch: {poll: 100ms}}
sensors:
  hook: {kind: webhook, path: /hooks/in, verify: none, id: body.id}
triggers:
  six:
    join:
      of:
        a: {sensor: hook, by: event.data.key, when: event.data.part == "a"}
        b: {sensor: hook, by: event.data.key, when: event.data.part == "b"}
        c: {sensor: hook, by: event.data.key, when: event.data.part == "c"}
      within: 1h
    run: {pipeline: p, key: key, params: {at: "${{ key }}"}}
  other: {on: {sensor: hook, type: none}, run: {pipeline: p}}
pipelines:
  p: {engine: command, argv: ["true"], params: {at: {type: str}}}
"""
WITHOUT_C = TEXT.replace('        c: {sensor: hook, by: event.data.key, when: event.data.part == "c"}\n', "")
WITH_D = TEXT.replace(
    "      within", '        d: {sensor: hook, by: event.data.key, when: event.data.part == "d"}\n      within'
)
OTHER_B = TEXT.replace('event.data.part == "b"', 'event.data.part == "b" && event.data.key != ""')
LONGER = TEXT.replace("within: 1h", "within: 2h")
COUNT = "    count: {sensor: hook, by: event.data.key, reach: 9, within: 1h}\n"
A_COUNT = TEXT[: TEXT.index("    join:")] + COUNT + TEXT[TEXT.index("    run: {pipeline: p, key: key") :]
OTHER_WORDS = TEXT.replace("within: 1h", "within: 1h\n      require: a && b && c")
OTHER_C = TEXT.replace('event.data.part == "c"', 'event.data.part == "C"')


async def _post(gate: Running, part: str, key: str = "k") -> str:
    answer = await gate.post(body=json.dumps({"id": f"{part}-{key}", "part": part, "key": key}).encode())
    uid: str = answer.json["events"][0]["event"]
    return uid


async def _reload(gate: Running, tmp_path: Path, text: str) -> TriggerChange:
    """Put another configuration in force; return what the report says of the join."""
    await gate.service.reload(await load(tmp_path, text, store="memory:"))
    (newest, *_) = await _reports(gate)
    return next(one for one in newest.triggers if one.trigger == "six")


async def _reports(gate: Running) -> list[Reloaded]:
    return reports(await gate.service.store.read(lambda reader: reader.settings(REPORTS)))


async def _waiting(gate: Running) -> list[tuple[str, dict[str, int], list[str]]]:
    rows = await gate.decisions(trigger="six", outcome="waiting")
    return [(row["details"]["key"], row["details"]["there"], row["details"]["missing"]) for row in rows]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        pytest.param(LONGER, "join.within", id="a later deadline"),
        pytest.param(OTHER_WORDS, "join.require", id="the same in other words"),
        pytest.param(OTHER_C, "join.of.c", id="a part that nobody sent"),
    ],
)
async def test_a_key_goes_on_under_a_changed_rule(tmp_path: Path, text: str, what: str) -> None:
    """A change that leaves parts what they are gives up nothing: the key waits on for what it lacks, counted once."""
    async with running(await load(tmp_path, TEXT, store="memory:")) as gate:
        await _post(gate, "a")
        await _post(gate, "b")
        change = await _reload(gate, tmp_path, text)
        waiting = await _waiting(gate)
        errors = await gate.decisions(outcome="error")
        counts = await gate.service.store.read(lambda reader: reader.counts("trigger"))

    assert (change.change, change.what, change.carried, change.given_up, change.kept) == ("changed", (what,), 1, 0, 0)
    assert waiting == [("k", {"a": 1, "b": 1}, ["c"])]
    assert errors == []
    assert counts["six", "waiting"] == 2


async def test_the_key_fires_once_under_the_changed_rule(tmp_path: Path) -> None:
    """Parts from before and after the change meet, with all events as the causes of one run."""
    async with running(await load(tmp_path, TEXT, store="memory:")) as gate:
        events = [await _post(gate, "a"), await _post(gate, "b")]
        await _reload(gate, tmp_path, LONGER)
        events.append(await _post(gate, "c"))
        (row,) = await gate.finished(1)
        run = await gate.service.store.read(lambda reader: reader.run(row["uid"]))

    assert run is not None
    assert sorted(run.events) == sorted(events)


async def test_a_part_more_is_waited_for(tmp_path: Path) -> None:
    """A join that gets a part more keeps what is there, and lacks that part too."""
    async with running(await load(tmp_path, TEXT, store="memory:")) as gate:
        await _post(gate, "a")
        change = await _reload(gate, tmp_path, WITH_D)
        waiting = await _waiting(gate)

    assert (change.what, change.carried) == (("join.of.d",), 1)
    assert waiting == [("k", {"a": 1}, ["b", "c", "d"])]


async def test_a_part_less_may_be_all_that_was_missing(tmp_path: Path) -> None:
    """A key that has all that the changed rule requires fires at the reload, without another event."""
    async with running(await load(tmp_path, TEXT, store="memory:")) as gate:
        await _post(gate, "a")
        await _post(gate, "b")
        change = await _reload(gate, tmp_path, WITHOUT_C)
        (run,) = await gate.finished(1)

    assert (change.what, change.carried) == (("join.of.c",), 1)
    assert run["key"] == "k"


async def test_a_part_that_changed_gives_up_its_events_visibly(tmp_path: Path) -> None:
    """What a changed part took may not be what it takes now: its events are given up, the others go on."""
    async with running(await load(tmp_path, TEXT, store="memory:")) as gate:
        await _post(gate, "a")
        lost = await _post(gate, "b")
        change = await _reload(gate, tmp_path, OTHER_B)
        waiting = await _waiting(gate)
        (error,) = await gate.decisions(outcome="error")

    assert (change.what, change.carried) == (("join.of.b",), 1)
    assert waiting == [("k", {"a": 1}, ["b", "c"])]
    assert error["events"] == [lost]
    assert "the part changed, or is gone" in error["reason"]


async def test_another_kind_of_pattern_gives_up_the_key(tmp_path: Path) -> None:
    """Between a join and a count nothing is carried over; the decision and the report say so."""
    async with running(await load(tmp_path, TEXT, store="memory:")) as gate:
        await _post(gate, "a")
        change = await _reload(gate, tmp_path, A_COUNT)
        (error,) = await gate.decisions(outcome="error")

    assert (change.carried, change.given_up) == (0, 1)
    assert "pattern" in change.what
    assert "given up" in error["reason"]
    assert change.words == "trigger six changed (pattern): 1 key given up"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(f"# a word\n{TEXT}", id="a comment"),
        pytest.param(TEXT.replace("type: none", "type: other"), id="another trigger"),
    ],
)
async def test_what_does_not_touch_the_rule_is_not_told_of_it(tmp_path: Path, text: str) -> None:
    """Comments and other triggers change nothing about a rule, so the report does not name it."""
    async with running(await load(tmp_path, TEXT, store="memory:")) as gate:
        await _post(gate, "a")
        await gate.service.reload(await load(tmp_path, text, store="memory:"))
        told = [one.trigger for report in await _reports(gate) for one in report.triggers]
        waiting = await _waiting(gate)

    assert "six" not in told
    assert waiting == [("k", {"a": 1}, ["b", "c"])]


async def test_a_change_of_the_run_keeps_the_keys(tmp_path: Path) -> None:
    """What a trigger starts is nothing that a key has gathered: its keys are kept as they are, and counted as kept."""
    async with running(await load(tmp_path, TEXT, store="memory:")) as gate:
        await _post(gate, "a")
        before = await gate.decisions(trigger="six")
        change = await _reload(gate, tmp_path, TEXT.replace("key: key,", "key: key, lane: key,"))
        after = await gate.decisions(trigger="six")

    assert (change.what, change.kept, change.carried) == (("run",), 1, 0)
    assert after == before
    assert change.words == "trigger six changed (run): 1 key kept"


async def test_keys_of_a_trigger_that_is_gone_wait_for_it(tmp_path: Path) -> None:
    """A trigger taken out by mistake and put back finds its keys as they were."""
    without = TEXT[: TEXT.index("  six:")] + TEXT[TEXT.index("  other:") :]
    async with running(await load(tmp_path, TEXT, store="memory:")) as gate:
        await _post(gate, "a")
        gone = await _reload(gate, tmp_path, without)
        back = await _reload(gate, tmp_path, TEXT)
        await _post(gate, "b")
        await _post(gate, "c")
        (run,) = await gate.finished(1)

    assert (gone.change, gone.waiting) == ("removed", 1)
    assert gone.words == "trigger six removed: 1 key still waiting for it to come back"
    assert (back.change, back.kept) == ("added", 1)
    assert run["key"] == "k"


async def test_hundreds_of_keys_go_on(tmp_path: Path) -> None:
    """More keys than one transaction settles are all carried over."""
    async with running(await load(tmp_path, TEXT, store="memory:")) as gate:
        for n in range(450):
            await _post(gate, "a", f"k{n}")
        change = await _reload(gate, tmp_path, LONGER)
        keys = await gate.service.store.read(lambda reader: reader.open_keys())

    assert (change.carried, change.given_up) == (450, 0)
    assert list(keys.values()) == [450]


async def test_a_start_with_other_rules_is_told_like_a_reload(tmp_path: Path) -> None:
    """A process that starts with changed rules carries keys over, and reports it."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    async with running(await load(tmp_path, TEXT, store=url)) as gate:
        await _post(gate, "a")
    async with running(await load(tmp_path, LONGER, store=url)) as gate:
        (report,) = await _reports(gate)
        waiting = await _waiting(gate)
    async with running(await load(tmp_path, LONGER, store=url)) as gate:
        again = await _reports(gate)

    assert [(one.trigger, one.what, one.carried) for one in report.triggers] == [("six", ("join.within",), 1)]
    assert waiting == [("k", {"a": 1}, ["b", "c"])]
    assert again == [report]


async def test_a_refused_reload_is_reported(tmp_path: Path) -> None:
    """Why a configuration was not taken stands among the reports, for who looks later."""
    async with running(await load(tmp_path, TEXT, store="memory:")) as gate:
        await gate.service.refused("triggers.six.join.within: 1x is no duration")
        (report,) = await _reports(gate)

    assert (report.refused, report.triggers) == ("triggers.six.join.within: 1x is no duration", ())


# -- replicas ----------------------------------------------------------------------------------------------------------
def _part(name: str, key: str) -> Event:
    data = json.dumps({"part": name, "key": key}).encode()
    return make_event(sensor="hook", data=data, content_type="application/json")


@pytest.mark.postgres
@pytest.mark.integration
@pytest.mark.parametrize("changed", [pytest.param(LONGER, id="deadline"), pytest.param(WITH_D, id="a part more")])
async def test_replicas_in_the_middle_of_a_reload_lose_nothing(database: str, tmp_path: Path, changed: str) -> None:
    """While one replica has the changed rule and the other not yet, parts that come to either meet, once."""
    old = await load(tmp_path, TEXT)
    new = await load(tmp_path, changed)
    async with open_works(database, old) as one, open_works(database, new, shard="two") as two:
        await one.store.submit(RecordRules(), written(old.triggers))
        await two.store.submit(RecordRules(), written(new.triggers))
        for n in range(4):
            await (one if n % 2 else two).put(_part("a", f"k{n}"))
            await (two if n % 2 else one).put(_part("b", f"k{n}"))
        await asyncio.gather(*((one, two)[n % 2].put(_part("c", f"k{n}")) for n in range(4)))
        await two.put(*(_part("d", f"k{n}") for n in range(4)))
        runs = await one.all_runs()
        errors = await one.decisions(outcome="error")
        waiting = await one.decisions(outcome="waiting")

    assert sorted(row["key"] for row in runs) == ["k0", "k1", "k2", "k3"]
    assert errors == []
    assert [row["details"]["there"] for row in waiting] == []
