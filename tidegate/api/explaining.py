"""Why an event fired triggers, or did not: stored decisions, and the rules asked again where nothing is stored.

In flow an event's uid; out flows an Explanation. A stored decision is told with all clauses on the way, by the version
of the rule that made it. Where none is stored (most of what was filtered) the rules that were in force when the event
came are asked again; what they cannot know, what was asked of nothing but the past, is said.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sensors.event import Event
from tidegate.api.events import envelope_of
from tidegate.api.house import House
from tidegate.api.models_explain import Explanation, NotCandidate, Verdict
from tidegate.api.problems import not_found
from tidegate.api.views import event_row, event_without_row
from tidegate.api.views_explain import RuleNow, judged_verdict, stored_verdict
from tidegate.rule_history import in_force, of_version
from tidegate.store.reader import Reader, Row
from triggers.decision import Outcome
from triggers.errors import RuleError
from triggers.evaluator import RuleSet
from triggers.explain import Explanation as Judgement
from triggers.explain import explain
from triggers.tell import ClauseResult
from triggers.trigger import Trigger

_STORED = 500
_OTHERS = 100
_STATES = 100
_UNSTORED = (
    "nothing of it is stored, so it went otherwise when the event came: the trigger was paused and let events go,"
    " or the decision is past its retention"
)
_NEW = "the trigger was not in force when the event came"


@dataclass(frozen=True, slots=True)
class _Found:
    """All that is read in one snapshot. `then` are the triggers in force when the event came, None: not known."""

    event: Event
    row: Row | None
    decisions: Sequence[Row]
    states: Mapping[str, str]
    then: Mapping[str, Trigger] | None
    former: Mapping[str, Trigger]  # by decision, where the rule has changed since


async def explained(house: House, uid: str, trigger: str | None) -> Explanation:
    """Explain an event by all triggers, or by one. Raises 404."""
    now = house.config.triggers
    found = await house.store.read(lambda reader: _read(reader, uid, now, trigger))
    if found is None:
        raise not_found(f"event {uid}; it may be past its retention")
    return await asyncio.to_thread(_explained, house, found, trigger)  # it may take a moment, and waits for nobody


def _explained(house: House, found: _Found, trigger: str | None) -> Explanation:
    now = house.config.triggers
    verdicts = [_stored(house, found, decision) for decision in found.decisions]
    decided = {verdict.trigger for verdict in verdicts}
    then = now if found.then is None else found.then
    if trigger is not None and trigger not in now and trigger not in then and trigger not in decided:
        raise not_found(f"trigger {trigger}")
    others: list[NotCandidate] = []
    for name in [*then, *(name for name in now if name not in then)] if trigger is None else [trigger]:
        if name in decided:
            continue
        judged = _judged(house, found, name)
        if trigger is None and judged.judgement.outcome is None:
            others.append(NotCandidate(trigger=name, reason=judged.judgement.reason))
        else:
            verdicts.append(judged_verdict(judged.judgement, judged.rule, judged.note))
    event = event_without_row(found.event) if found.row is None else event_row(found.row)
    return Explanation(event=event, verdicts=verdicts, others=others[:_OTHERS], other_count=len(others))


def _read(reader: Reader, uid: str, now: Mapping[str, Trigger], trigger: str | None) -> _Found | None:
    event = reader.event(uid)
    if event is None:
        return None
    rows = [row for row in reader.decisions(limit=_STORED, event=uid)[0] if trigger in (None, row["trigger"])]
    rows.sort(key=lambda row: (row["at"], row["uid"]))
    runs = list(dict.fromkeys(row["run"] for row in rows if row["run"] is not None))[:_STATES]
    states = {run: str(found.state) for run in runs if (found := reader.run(run)) is not None}
    former = {}
    for row in rows:
        today = now.get(row["trigger"])
        if today is None or today.version != row["version"]:
            rule = of_version(reader, row["trigger"], row["version"])
            if rule is not None:
                former[row["uid"]] = rule
    return _Found(event, envelope_of(reader, event), rows, states, in_force(reader, event.received_at), former)


# -- what is stored ----------------------------------------------------------------------------------------------------
def _stored(house: House, found: _Found, decision: Row) -> Verdict:
    name = decision["trigger"]
    return stored_verdict(
        decision, _clauses(house, found, decision), _rule_now(house, name, decision["version"]), found.states
    )


def _clauses(house: House, found: _Found, decision: Row) -> Sequence[ClauseResult]:
    """Return all clauses on the way to a stored decision, by the rule that made it."""
    name, item = decision["trigger"], decision["item"]
    rules = house.rules.current.rules
    rule = rules.rules.get(name)
    if rule is None or rule.trigger.version != decision["version"]:
        former = _alone(found.former.get(decision["uid"]))
        if former is None:
            return ()
        rules = former
    clauses = explain(rules, name, found.event, now=found.event.received_at).clauses
    return [one for one in clauses if item is None or "(element " not in one.path or f"(element {item})" in one.path]


def _rule_now(house: House, name: str, version: str) -> RuleNow:
    today = house.config.triggers.get(name)
    if today is None or not today.enabled:
        return "gone"
    return "same" if today.version == version else "changed"


# -- what is asked again -----------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class _Judged:
    judgement: Judgement
    rule: RuleNow
    note: str = ""


def _judged(house: House, found: _Found, name: str) -> _Judged:
    """Ask the rule that was in force when the event came; the one in force now where that is not known.

    A judgement without an outcome is that of a trigger that had nothing to decide.
    """
    now = house.config.triggers.get(name)
    rule = now if found.then is None else found.then.get(name)
    if rule is None and now is not None and now.refers:  # it is never written down
        rule = now
    if rule is None and now is not None:
        return _Judged(_ask(house, found, now), "changed", f"{_NEW}; this is what it would say now")
    if rule is None:
        return _Judged(_nothing(found, name, "", "there was no such trigger when the event came"), "gone")
    judgement = _ask(house, found, rule)
    unstored = judgement.outcome not in (None, Outcome.FILTERED, Outcome.ERROR)  # of those samples are stored
    return _Judged(judgement, _rule_now(house, name, rule.version), _UNSTORED if unstored else "")


def _ask(house: House, found: _Found, rule: Trigger) -> Judgement:
    if not rule.enabled:
        clause = ClauseResult("enabled", "false", "a trigger that is enabled", "disabled", passed=False)
        return _nothing(found, rule.name, rule.version, "the trigger is disabled (enabled: false)", clause)
    rules = house.rules.current.rules
    today = rules.rules.get(rule.name)
    if today is None or today.trigger.version != rule.version:
        former = _alone(rule)
        if former is None:
            return _nothing(found, rule.name, rule.version, "the rule of that time cannot be used any more")
        rules = former
    return explain(rules, rule.name, found.event, now=found.event.received_at)


def _nothing(found: _Found, name: str, version: str, reason: str, *clauses: ClauseResult) -> Judgement:
    return Judgement(trigger=name, version=version, event=found.event.uid, outcome=None, reason=reason, clauses=clauses)


def _alone(rule: Trigger | None) -> RuleSet | None:
    """Compile one rule of another time; None when that is not possible any more."""
    if rule is None:
        return None
    try:
        return RuleSet({rule.name: rule}, config_hash="", concurrency={})
    except RuleError:
        return None
