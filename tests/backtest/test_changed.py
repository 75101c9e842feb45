"""Rules that changed: exactly the events whose outcome flips are told, by a slow and plainly right reference."""

import asyncio
from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.backtest.cases import MOMENTS, STEP, events_of, joined
from tests.support.join_model import Came, JoinModel
from tests.support.past import asking, live_through, over
from tests.support.works import T0, make_config, make_trigger, open_works
from tidegate.backtest.values import Report
from triggers.trigger import Repeat, Trigger

AFTER = 40 * STEP
Rule = tuple[int, int, str, str]  # n has to lie between, the type has to be one of, repeat


def trigger_of(rule: Rule) -> Trigger:
    low, high, types, repeat = rule
    return make_trigger(
        types=tuple(types),
        when=f"event.data.n >= {low} && event.data.n < {high}",
        run={"key": "event.subject + string(event.data.n)"},
        repeat=Repeat(repeat),
    )


def reference(rule: Rule, moments: list[Any]) -> set[str]:
    """Return the ids of the events that fire, one look at each."""
    low, high, types, repeat = rule
    used, fired = set(), set()
    for number, (kind, key, _, n, _) in enumerate(moments):
        if kind in types and low <= n < high and (repeat == "always" or (key, n) not in used):
            used.add((key, n))
            fired.add(f"{number:03}")
    return fired


async def gone_over(
    old: list[Trigger], new: list[Trigger], moments: list[Any], in_force: list[Trigger] | None = None, **fields: Any
) -> tuple[Report, dict[str, str]]:
    """Return the report, and the ids of the events by uid."""
    events = events_of(moments, T0)
    until = (events[-1].received_at if events else T0) + AFTER
    async with open_works("memory:", make_config(in_force or old)) as house:
        house.clock.at = T0
        await live_through(house, events, until)
        report = await over(house, asking(old, new, T0, until, samples=100, **fields))
    return report, {event.uid: event.id for event in events}


RULES = st.tuples(
    st.integers(0, 6), st.integers(2, 9), st.sampled_from(["a", "ab", "abc", "c"]), st.sampled_from(["skip", "always"])
)


@settings(max_examples=40, deadline=None)
@given(RULES, RULES, MOMENTS, st.sampled_from(["in_force", "recorded"]))
def test_exactly_the_events_whose_outcome_flips(old: Rule, new: Rule, moments: list[Any], baseline: str) -> None:
    """What would fire and does not, what does and would not: event by event as the reference says; the rest alike."""
    report, ids = asyncio.run(gone_over([trigger_of(old)], [trigger_of(new)], moments, baseline=baseline))
    before, after = reference(old, moments), reference(new, moments)
    (diff,) = report.triggers

    assert {ids[one.firing.events[0]] for one in diff.gained_samples} == after - before
    assert {ids[one.firing.events[0]] for one in diff.lost_samples} == before - after
    assert (diff.gained, diff.lost) == (len(after - before), len(before - after))
    assert (diff.same, diff.changed) == (len(before & after), 0)
    assert diff.after.get("fired", 0) == len(after)
    assert diff.before.get("fired", 0) == len(before)


@settings(max_examples=25, deadline=None)
@given(RULES, RULES, MOMENTS)
def test_the_reason_is_the_clause_that_stood_in_the_way(old: Rule, new: Rule, moments: list[Any]) -> None:
    """A firing that is lost names the changed rule's clause: the condition, the type, or a key that was used."""
    report, ids = asyncio.run(gone_over([trigger_of(old)], [trigger_of(new)], moments))
    low, high, types, _ = new

    for flip in report.triggers[0].lost_samples:
        kind, _, _, n, _ = moments[int(ids[flip.firing.events[0]])]
        clause = flip.why.clause or {}
        if kind not in types:
            assert (flip.why.outcome, clause["path"]) == ("none", "on.types")
        elif not low <= n < high:
            assert (flip.why.outcome, clause["path"], clause["expected"]) == ("filtered", "when", "true")
            assert f'"n":{n}' in clause["actual"]
        else:
            assert (flip.why.outcome, clause["path"]) == ("duplicate", "repeat")


@settings(max_examples=25, deadline=None)
@given(
    MOMENTS,
    st.integers(2, 3),
    st.integers(2, 3),
    st.integers(2, 15),
    st.integers(2, 15),
    st.sampled_from(["first", "latest"]),
)
def test_joins_that_ask_for_more_or_less(
    moments: list[Any], need: int, needs: int, within: int, withins: int, take: str
) -> None:
    """The firings of both joins are those of the model; what only one of them has is told, events and all."""
    old, new = joined("j", str(need), within, "ignore", take), joined("j", str(needs), withins, "ignore", take)
    report, ids = asyncio.run(gone_over([old], [new], moments))
    before, after = fired(moments, need, within, take), fired(moments, needs, withins, take)
    (diff,) = report.triggers
    gained = Counter(_names(one.firing.events, ids) for one in diff.gained_samples if one.firing.pipeline == "p")
    lost = Counter(_names(one.firing.events, ids) for one in diff.lost_samples if one.firing.pipeline == "p")

    assert gained == after - before
    assert lost == before - after


def _names(events: Any, ids: dict[str, str]) -> frozenset[str]:
    return frozenset(ids[event] for event in events)


def fired(moments: list[Any], need: int, within: int, take: str) -> Counter[frozenset[str]]:
    """Return the firings of a join, by the model: key by key from its whole history."""
    model = JoinModel(
        ("a", "b", "c"), within * STEP, dict.fromkeys("abc", take), need, late="ignore", remember=20 * STEP
    )
    found: Counter[frozenset[str]] = Counter()
    used: set[str] = set()
    for key in ("k", "m"):
        now, history = T0, []
        for number, (kind, whose, gap, _, _) in enumerate(moments):
            now += gap * STEP
            if whose == key:
                history.append(Came(kind, f"{number:03}", now, now))
        for names, _ in model.tell(history).fired:
            if key not in used:  # the run's key is that of the join: a second one is a duplicate
                used.add(key)
                found[names] += 1
    return found


def test_what_is_asked_for_differs() -> None:
    """The same firing with other parameters, another key, partition or lane is told field by field."""
    old = make_trigger(run={"params": {"n": "${{ event.data.n }}", "gone": 1}, "key": "event.id"})
    new = make_trigger(
        run={"params": {"n": "${{ event.data.n + 1 }}", "new": True}, "key": "event.id", "partition": "event.subject"}
    )
    report, _ = asyncio.run(gone_over([old], [new], [("a", "k", 1, 3, True)]))
    (diff,) = report.triggers

    assert (diff.same, diff.gained, diff.lost, diff.changed) == (0, 0, 0, 1)
    assert dict(diff.changed_samples[0].fields) == {
        "partition": (None, "k"),
        "params.gone": (1, None),
        "params.n": (3, 4),
        "params.new": (None, True),
    }


def test_triggers_that_are_new_gone_or_disabled() -> None:
    """Whatever a new trigger fires is gained, what a removed or disabled one fired is lost, each with its reason."""
    one, two = make_trigger("one"), make_trigger("two")
    off = make_trigger("off")
    report, _ = asyncio.run(
        gone_over([one, off], [two, make_trigger("off", enabled=False)], [("a", "k", 1, 3, True)], [one, off])
    )
    by_name = {diff.trigger: diff for diff in report.triggers}

    assert (by_name["one"].lost, by_name["one"].versions) == (1, ("v1", None))
    assert by_name["one"].lost_samples[0].why.reason == "there is no trigger one"
    assert (by_name["two"].gained, by_name["two"].gained_samples[0].why.reason) == (1, "there is no trigger two")
    assert (by_name["off"].lost, by_name["off"].lost_samples[0].why.reason) == (1, "trigger off is disabled")


def test_a_join_that_would_not_fire_says_what_it_waits_for() -> None:
    """A key that is complete today and not under the changed rule names the part that is missing there."""
    old, new = joined("j", "2", 60, "ignore", "first"), joined("j", "all", 60, "ignore", "first")
    report, _ = asyncio.run(gone_over([old], [new], [("a", "k", 1, 1, True), ("b", "k", 1, 1, True)]))
    lost = [one for one in report.triggers[0].lost_samples if one.firing.pipeline == "p"]

    assert len(lost) == 1
    assert (lost[0].firing.group, len(lost[0].firing.events)) == ("k", 2)
    assert lost[0].why.outcome in ("waiting", "overdue")
    assert "c" in lost[0].why.reason


def test_events_on_which_the_changed_rule_fails_are_shown() -> None:
    """An error is no firing: it is told apart, with the clause that fails."""
    old, new = make_trigger(when="event.data.n > 2"), make_trigger(when="event.data.x > 1")
    report, _ = asyncio.run(gone_over([old], [new], [("a", "k", 1, 3, False)]))
    (diff,) = report.triggers

    assert diff.after == {"error": 1}
    assert [(one.why.outcome, (one.why.clause or {})["path"]) for one in diff.failing_samples] == [("error", "when")]
    assert diff.lost_samples[0].why.outcome == "error"
    assert [(reason.outcome, reason.clause, reason.n) for reason in diff.lost_why] == [("error", "when", 1)]


def test_what_the_record_does_not_tell_the_rule_in_force_does() -> None:
    """Of an event that was filtered, and not kept as a sample, the rule in force is asked."""
    old, new = make_trigger(when="event.data.n > 5"), make_trigger(when="event.data.n > 0")
    moments = [("a", "k", 1, 3, True) for _ in range(8)]  # more alike than a minute keeps samples of
    report, _ = asyncio.run(gone_over([old], [new], moments, baseline="recorded"))
    reasons = {flip.why.reason for flip in report.triggers[0].gained_samples}

    assert report.triggers[0].gained == 8
    assert reasons == {"when does not hold", "no decision is kept; by the rule in force: when does not hold"}
    assert all((flip.why.clause or {})["path"] == "when" for flip in report.triggers[0].gained_samples)
