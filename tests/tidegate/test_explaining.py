"""Explanations of a living service: stored decisions, rules of that time, what waits and what stands in the way."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.running import Running, load, running
from tidegate.api.asking import PageAsk
from tidegate.api.explaining import explained
from tidegate.api.models_explain import Explanation, Verdict
from tidegate.api.problems import ApiError
from tidegate.api.triggers_api import list_decisions

TEXT = """
service: {name: svc, dispatch: {poll: 100ms}}
sensors:
  hook: {kind: webhook, path: /hooks/in, verify: none, id: body.id}
  other: {kind: webhook, path: /hooks/other, verify: none}
triggers:
  big: {on: {sensor: hook}, when: event.data.size > 10, run: {pipeline: p, key: event.data.name}}
  pair:
    join:
      of:
        a: {sensor: hook, by: event.data.key, when: event.data.part == "a"}
        b: {sensor: hook, by: event.data.key, when: event.data.part == "b"}
      within: 1h
    missing_field: false
    run: {pipeline: p, key: key}
  elsewhere: {on: {sensor: other}, run: {pipeline: p}}
  off: {on: {sensor: hook}, run: {pipeline: p}, enabled: false}
pipelines:
  p: {engine: command, argv: ["true"]}
"""


async def _post(gate: Running, **fields: Any) -> str:
    import json

    answer = await gate.post(body=json.dumps(fields).encode())
    uid: str = answer.json["events"][0]["event"]
    return uid


def _of(explanation: Explanation, trigger: str) -> Verdict:
    return next(one for one in explanation.verdicts if one.trigger == trigger)


async def test_everybody_says_why(tmp_path: Path) -> None:
    """One event: who filtered it and at which comparison, who waits for what, who does not listen and why."""
    async with running(await load(tmp_path, TEXT, store="memory:")) as gate:
        uid = await _post(gate, id="1", size=3, part="a", key="k")
        found = await explained(gate.service, uid, None)

    big, pair = _of(found, "big"), _of(found, "pair")
    assert (big.outcome, big.rule, big.note) == ("filtered", "same", "")
    assert [change.words for change in big.clauses[-1].changes] == ["make data.size 11"]
    assert (pair.outcome, pair.basis) == ("waiting", "stored")
    assert pair.waiting is not None
    assert (pair.waiting.key, pair.waiting.there, pair.waiting.missing) == ("k", {"a": 1}, ["b"])
    assert pair.waiting.until is not None
    assert {one.trigger: one.reason for one in found.others} == {
        "elsewhere": f"the trigger does not listen to type {found.event.type} of sensor hook",
        "off": "the trigger is disabled (enabled: false)",
    }


async def test_a_duplicate_names_the_run_that_took_the_key_and_how_it_stands(tmp_path: Path) -> None:
    """A suppressed event leads to the run that is to blame, with its state, and the clause says what was expected."""
    async with running(await load(tmp_path, TEXT, store="memory:")) as gate:
        await _post(gate, id="1", size=99, name="n")
        (run,) = await gate.finished(1)
        uid = await _post(gate, id="2", size=99, name="n")
        verdict = _of(await explained(gate.service, uid, "big"), "big")

    assert verdict.outcome == "duplicate"
    assert verdict.in_the_way is not None
    assert (verdict.in_the_way.run, verdict.in_the_way.state) == (run["uid"], "succeeded")
    assert [(clause.path, clause.passed) for clause in verdict.clauses] == [("when", True), ("repeat", False)]


async def test_what_was_stored_is_told_by_the_rule_of_its_day(tmp_path: Path) -> None:
    """After the rule has changed, an old decision is still told with the clauses that it met, and says so."""
    async with running(await load(tmp_path, TEXT, store="memory:")) as gate:
        uid = await _post(gate, id="1", size=99, name="n")
        await gate.service.reload(await load(tmp_path, TEXT.replace("size > 10", "size > 1000"), store="memory:"))
        verdict = _of(await explained(gate.service, uid, "big"), "big")

    assert (verdict.outcome, verdict.rule, verdict.note) == ("fired", "changed", "the rule has changed since")
    assert [(clause.text, clause.passed) for clause in verdict.clauses] == [("event.data.size > 10", True)]


async def test_what_was_not_stored_is_judged_by_the_rule_of_its_day(tmp_path: Path) -> None:
    """An event of which nothing was kept is explained by the rules in force when it came, not by today's."""
    async with running(await load(tmp_path, TEXT, store="memory:")) as gate:
        uids = [await _post(gate, id=str(n), size=3) for n in range(8)]  # few of these are kept as samples
        changed = TEXT.replace("size > 10", "size > 1").replace(
            "  off:", "  new: {on: {sensor: hook}, run: {pipeline: p}}\n  off:"
        )
        await gate.service.reload(await load(tmp_path, changed, store="memory:"))
        found = await explained(gate.service, uids[-1], None)
        sampled = await explained(gate.service, uids[0], None)

    big, new = _of(found, "big"), _of(found, "new")
    assert (_of(sampled, "big").basis, big.basis) == ("stored", "judged_now")
    assert (big.outcome, big.rule, big.clauses[-1].text) == ("filtered", "changed", "event.data.size > 10")
    assert (new.outcome, new.rule) == ("fired", "changed")
    assert "was not in force when the event came" in new.note


async def test_a_judgement_that_cannot_have_been_is_doubted(tmp_path: Path) -> None:
    """A rule that would have fired, with nothing stored, is not passed off as the truth."""
    text = TEXT.replace(
        "run: {pipeline: p, key: event.data.name}", "run: {pipeline: p, key: event.data.name}, paused: drop"
    )
    async with running(await load(tmp_path, text, store="memory:")) as gate:
        uids = [await _post(gate, id=str(n), size=99, name=str(n)) for n in range(8)]
        verdict = _of(await explained(gate.service, uids[-1], None), "big")

    assert (verdict.outcome, verdict.basis) == ("fired", "judged_now")
    assert "nothing of it is stored" in verdict.note


async def test_a_trigger_that_went_is_still_told(tmp_path: Path) -> None:
    """What a trigger that is gone decided stays explained; what never was is unknown."""
    async with running(await load(tmp_path, TEXT, store="memory:")) as gate:
        uid = await _post(gate, id="1", size=99, name="n")
        without = TEXT.replace(
            "  big: {on: {sensor: hook}, when: event.data.size > 10, run: {pipeline: p, key: event.data.name}}\n", ""
        )
        await gate.service.reload(await load(tmp_path, without, store="memory:"))
        verdict = _of(await explained(gate.service, uid, None), "big")

    assert (verdict.outcome, verdict.rule, verdict.note) == ("fired", "gone", "the trigger is gone or disabled since")
    assert verdict.clauses[0].passed


async def test_an_element_is_explained_by_itself(tmp_path: Path) -> None:
    """With `each`, the decision about one element shows the clauses of that element, and what of it would turn them."""
    text = TEXT.replace("when: event.data.size > 10,", "each: event.data.files, when: item.rows > 10,")
    text = text.replace("key: event.data.name", "key: item.name")
    async with running(await load(tmp_path, text, store="memory:")) as gate:
        uid = await _post(gate, id="1", files=[{"name": "a", "rows": 11}, {"name": "b", "rows": 3}])
        found = await explained(gate.service, uid, "big")

    fired, filtered = sorted(found.verdicts, key=lambda one: one.item or 0)
    assert (fired.outcome, fired.item, filtered.outcome, filtered.item) == ("fired", 0, "filtered", 1)
    assert [clause.path for clause in fired.clauses] == ["each"]
    assert [clause.path for clause in filtered.clauses] == ["each", "when (element 1)"]
    assert filtered.clauses[-1].changes[0].path == ["data", "files", 1, "rows"]


async def test_decisions_of_a_trigger_that_is_gone_can_be_read(tmp_path: Path) -> None:
    """Its list answers as long as there is anything in it; a name that never was is unknown."""
    async with running(await load(tmp_path, TEXT, store="memory:")) as gate:
        await _post(gate, id="1", size=99, name="n")
        await gate.service.reload(await load(tmp_path, TEXT.replace("  big:", "  large:"), store="memory:"))
        page = await list_decisions(gate.service, "big", PageAsk(9, None))
        with pytest.raises(ApiError):
            await list_decisions(gate.service, "nobody", PageAsk(9, None))

    assert [row.outcome for row in page.items] == ["fired"]
