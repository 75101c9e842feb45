"""The evaluator: what a plan holds, what it counts, and what happens to events that nobody can judge."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensors.event import MAX_DEPTH, Event
from tests.support.rules import NOW, counting_uid, plan, rule_set, trigger
from triggers.counting import error_count, filtered_count
from triggers.decision import Outcome
from triggers.evaluator import RuleErrors, RuleSet
from triggers.explain import explain
from triggers.plan import Plan
from triggers.ports import LaneName, RunKeyName
from triggers.sampling import MINUTE, Kind, Sampler
from triggers.testing import event
from triggers.trigger import Paused, Repeat, RunRule, Source, WhenBusy


def told(found: Plan) -> list[tuple[str, str]]:
    return [(decision.trigger, decision.outcome.value) for decision in found.decisions]


def test_an_intent_is_rendered_from_the_event() -> None:
    """An intent carries what the run rule says, with every expression evaluated over the event."""
    run = {
        "params": {
            "path": "${{ event.data.url }}",
            "by": "${{ trigger.name }}/${{ trigger.version }}",
            "at": "${{ now }}",
        },
        "key": "event.data.n",
        "partition": "event.match.day",
        "lane": "${{ event.subject }}",
        "key_scope": "pipeline",
    }
    rules = rule_set(trigger("a", run=run, repeat=Repeat.ALWAYS, when_busy=WhenBusy.SKIP), concurrency={"p": 3})
    found = plan(rules, event("s", subject="l", data={"url": "u", "n": 7}, match={"day": "d"}, depth=2))

    [intent] = found.intents
    assert intent.params == {"path": "u", "by": "a/v1", "at": "2026-01-01T00:00:00Z"}
    assert (intent.key, intent.keyed, intent.partition, intent.lane) == (
        RunKeyName("pipeline/p", "p", "7"),
        True,
        "d",
        "l",
    )
    assert (intent.depth, intent.repeat, intent.when_busy) == (2, Repeat.ALWAYS, WhenBusy.SKIP)
    assert (found.run_keys(), found.lanes()) == ([intent.key], [LaneName("p", ""), LaneName("p", "l")])
    assert (found.concurrency, found.config_hash) == ({"p": 3}, "c1")


def test_the_default_key_is_the_trigger_event() -> None:
    """Without a key expression the key is the trigger event's uid, and neither key nor lane need be locked."""
    found = plan(rule_set(trigger()), event("s"), event("s", subject="2"))

    assert [intent.key.key for intent in found.intents] == [intent.trigger_event for intent in found.intents]
    assert (found.run_keys(), found.lanes()) == ([], [])


def test_events_and_triggers_are_judged_in_order() -> None:
    """Intents stand in the order of the events, then of the triggers as configured, whichever index found them."""
    rules = rule_set(
        trigger("z", filter={"prefix": {"subject": "a"}}),
        trigger("m", types=("test",)),
        trigger("a", filter={"exact": {"subject": "ab"}}),
        trigger("off", enabled=False),
    )
    first, second = event("s", subject="ab"), event("s", subject="ac")
    found = plan(rules, first, second)

    asked = [(intent.events[0], intent.trigger) for intent in found.intents]
    assert asked == [(first.uid, "z"), (first.uid, "m"), (first.uid, "a"), (second.uid, "z"), (second.uid, "m")]


def test_each_gives_one_decision_per_element() -> None:
    """With `each` every element is judged and rendered alone; one that fails leaves its neighbours alone."""
    one = trigger(each="event.data.files", when="item.ok", run={"key": "item.n", "params": {"n": "${{ item.n }}"}})
    files = [{"ok": True, "n": 1}, {"ok": False, "n": 2}, {"n": 3}, {"ok": True, "n": None}, {"ok": True, "n": 5}]
    found = plan(rule_set(one), event("s", data={"files": files}))

    assert [(intent.item, intent.key.key) for intent in found.intents] == [(0, "1"), (4, "5")]
    assert [(decision.item, decision.outcome.value) for decision in found.decisions] == [
        (1, "filtered"),
        (2, "error"),
        (3, "error"),
    ]
    assert found.counts == {
        ("candidates", "s|*", "c1"): 1,
        ("matched", "t", "c1"): 1,
        ("trigger", "t", "filtered"): 1,
        ("trigger", "t", "error"): 2,
    }


@pytest.mark.parametrize(
    ("data", "outcome", "words"),
    [
        pytest.param({"files": []}, "filtered", "each gave no element", id="empty"),
        pytest.param({"files": 3}, "error", "which is no list", id="no list"),
        pytest.param({}, "error", 'no field "files"', id="missing"),
        pytest.param({"files": [0] * 5001}, "error", "5000 are allowed", id="too many"),
    ],
)
def test_each_over_nothing_is_explained(data: Any, outcome: str, words: str) -> None:
    """`each` that gives no elements filters; one that gives no list, or too long a one, is an error."""
    found = plan(rule_set(trigger(each="event.data.files")), event("s", data=data))

    assert [(decision.outcome.value, words in decision.reason) for decision in found.decisions] == [(outcome, True)]
    assert found.intents == []


@pytest.mark.parametrize(
    ("run", "path", "words"),
    [
        pytest.param({"key": "event.data.none"}, "run.key", "the key is null", id="null key"),
        pytest.param({"key": "event.data.empty"}, "run.key", "the text is empty", id="empty key"),
        pytest.param({"key": "event.data.half"}, "run.key", "is no name", id="key with a fraction"),
        pytest.param({"key": "event.data.long"}, "run.key", "1024 are allowed", id="long key"),
        pytest.param({"lane": "event.data.empty"}, "run.lane", "null stands for none", id="empty lane"),
        pytest.param({"partition": "event.data.nope"}, "run.partition", "no field", id="missing"),
        pytest.param({"params": {"a": {"b": "${{ event.data.nope }}"}}}, "run.params", "run.params.a.b", id="params"),
        pytest.param(
            {"params": {"a": "${{ event.data.huge }}"}}, "run.params", "larger than 65536 bytes", id="large params"
        ),
    ],
)
def test_what_cannot_be_rendered_is_an_error_decision(run: dict[str, Any], path: str, words: str) -> None:
    """A run that cannot be rendered is a visible error that names its clause; it is never started half."""
    data = {"none": None, "empty": "", "half": 0.5, "long": "x" * 1025, "huge": "x" * 70_000}
    found = plan(rule_set(trigger(run=run)), event("s", data=data))

    [decision] = found.decisions
    assert (decision.outcome, found.intents) == (Outcome.ERROR, [])
    assert decision.clause is not None
    assert decision.clause.path == path
    assert words in decision.reason


def test_a_null_lane_or_partition_is_none() -> None:
    """Lane and partition may be null: then there is none."""
    found = plan(
        rule_set(trigger(run={"lane": "event.subject", "partition": "event.data.p"})), event("s", data={"p": None})
    )

    assert [(intent.lane, intent.partition) for intent in found.intents] == [(None, None)]


@pytest.mark.parametrize(
    ("is_error", "when", "outcome"),
    [
        pytest.param(True, "event.data.a > 1", "error", id="error"),
        pytest.param(False, "event.data.a > 1", "filtered", id="missing is false"),
        pytest.param(False, "event.data.b > 1", "error", id="wrong type is an error all the same"),
        pytest.param(False, "event.subject.endsWith('x')", "filtered", id="null subject"),
    ],
)
def test_a_missing_field_is_an_error_unless_the_trigger_says_otherwise(is_error: bool, when: str, outcome: str) -> None:
    """A missing field is an error decision, or false with `missing_field: false`; other failures stay errors."""
    found = plan(rule_set(trigger(when=when, missing_field_is_error=is_error)), event("s", data={"b": "text"}))

    assert told(found) == [("t", outcome)]


def test_paused_triggers_hold_or_drop() -> None:
    """A paused trigger holds what would have fired (an open decision, never sampled away) or filters it."""
    rules = rule_set(trigger("hold", when="event.data.a > 1"), trigger("drop", when="event.data.a > 1"))
    some = [event("s", data={"a": n}) for n in range(40)]
    found = plan(rules, *some, paused={"hold": Paused.HOLD, "drop": Paused.DROP})

    held = [decision.events[0] for decision in found.decisions if decision.outcome is Outcome.PAUSED]
    assert held == [one.uid for one in some[2:]]
    assert found.intents == []
    assert (found.counts["trigger", "hold", "paused"], found.counts.get(("matched", "drop", "c1"))) == (38, None)


def test_a_chain_that_is_too_long_is_refused() -> None:
    """An event at the depth limit starts nothing: the decision is an error that suspects a loop."""
    rules = rule_set(trigger(sensor="tidegate", filter={"exact": {"subject": "p"}}))
    deep, fine = (event("tidegate", subject="p", depth=depth) for depth in (MAX_DEPTH, MAX_DEPTH - 1))
    found = plan(rules, deep, fine, event("tidegate", subject="q", depth=MAX_DEPTH))

    assert [intent.events for intent in found.intents] == [(fine.uid,)]
    assert [(d.events, "a loop?" in d.reason) for d in found.decisions if d.outcome is Outcome.ERROR] == [
        ((deep.uid,), True)
    ]


HOSTILE = [
    pytest.param({"subject": "a\0b"}, "subject holds a NUL", id="subject"),
    pytest.param({"type": "\ud800"}, "type holds half of a surrogate pair", id="type"),
    pytest.param({"id": "\0"}, "id holds a NUL", id="id"),
    pytest.param({"source": "\0"}, "source holds a NUL", id="source"),
    pytest.param({"attributes": {"x": "\0"}}, "attributes.x holds a NUL", id="attribute"),
    pytest.param({"attributes": {"\0": "x"}}, "the name of one of the attributes", id="attribute name"),
    pytest.param({"match": {"x": "\udfff"}}, "match.x holds half", id="capture"),
    pytest.param({"data": {"a": ["\0"]}}, "data holds a NUL", id="data"),
    pytest.param({"data": {"a\0": 1}}, "data holds a NUL", id="data key"),
    pytest.param({"data": b'{"a": "\\ud800"}'}, "", id="surrogate in data of no type"),
    pytest.param(
        {"data": b'"\\uD800"', "content_type": "application/json"}, "data holds half of a surrogate", id="surrogate"
    ),
    pytest.param({"data": b"a\0b", "content_type": "text/plain"}, "data holds a NUL", id="text"),
    pytest.param(
        {"data": b'{"a": ', "content_type": "application/json"}, "is not the JSON it is said to be", id="broken JSON"
    ),
    pytest.param({"data": b"\xff", "content_type": "text/csv"}, "is not the text it is said to be", id="broken text"),
]


@pytest.mark.parametrize(("fields", "words"), HOSTILE)
def test_what_cannot_be_read_truthfully_is_dead_for_everyone(fields: dict[str, Any], words: str) -> None:
    """Hostile text anywhere, or content that breaks its type's promise, is judged by no trigger and named dead."""
    rules = rule_set(
        trigger("plain"), trigger("reads", when="event.data == 1"), trigger("index", filter={"exact": {"data.a": 1}})
    )
    bad, good = event("s", **fields), event("s", data=1)
    found = plan(rules, bad, good)

    if not words:  # bytes of no type that are no JSON are just bytes
        assert found.dead == []
        return
    assert [(uid, words in reason) for uid, reason in found.dead] == [(bad.uid, True)]
    assert [(intent.trigger, intent.events) for intent in found.intents] == [
        ("plain", (good.uid,)),
        ("reads", (good.uid,)),
    ]
    assert {d.outcome for d in found.decisions if d.events == (bad.uid,)} == {Outcome.ERROR}
    assert found.counts["dead", "s|*", "c1"] == 1


def test_nobody_is_hurt_by_content_that_nobody_reads() -> None:
    """Broken or binary content is no matter for triggers that look at the envelope only; reading binary is an error."""
    broken = event("s", subject="x", data=b"{", content_type="application/json")
    binary = event("s", subject="x", data=b"\0\1", content_type="application/octet-stream")
    envelope = trigger("envelope", filter={"exact": {"subject": "x"}}, when="event.subject == 'x'")
    found = plan(rule_set(envelope), broken, binary)
    reading = plan(rule_set(envelope, trigger("reads", when="event.data == b'a'")), binary)

    assert ([intent.trigger for intent in found.intents], found.dead) == (["envelope", "envelope"], [])
    assert ([intent.trigger for intent in reading.intents], reading.dead) == (["envelope"], [])
    assert told(reading) == [("reads", "error")]


def test_an_escaped_backslash_is_no_nul() -> None:
    """Text that only looks like an escape of NUL is as good as any other."""
    found = plan(rule_set(trigger(when="event.data.a == r'\\u0000'")), event("s", data={"a": "\\u0000", "b": "😀"}))

    assert (len(found.intents), found.dead) == (1, [])


def test_events_nobody_listens_to_cost_nothing() -> None:
    """Without candidates there is no count, no decision and no look at the event's text."""
    found = plan(rule_set(trigger(types=("a",))), event("other", subject="\0"), event("s", type="b", subject="\0"))

    assert (found.counts, list(found.decisions), list(found.dead)) == ({}, [], [])


def test_errors_are_counted_exactly_and_sampled() -> None:
    """However many events fail, every one is counted and a bounded number is stored per clause and minute."""
    rules = rule_set(trigger(when="event.data.a > 1"))
    some = [event("s", data={"n": n}) for n in range(500)]
    found = plan(rules, *some)

    assert found.counts["trigger", "t", "error"] == 500
    assert len(found.decisions) == Kind.ERROR.value[0]


def test_a_sample_stays_one_when_the_transaction_runs_again() -> None:
    """Planning the same events again keeps the same error decisions, and a new minute has new places."""
    sampler = Sampler()

    assert all(sampler.grant(Kind.ERROR, "g", "t", "when", f"evt_{n}", 0) for n in range(10))
    assert sampler.grant(Kind.ERROR, "g", "t", "when", "evt_3", 5)
    assert not sampler.grant(Kind.ERROR, "g", "t", "when", "evt_11", 5)
    assert sampler.grant(Kind.ERROR, "g", "t", "run.key", "evt_11", 5)
    assert sampler.grant(Kind.ERROR, "g", "t", "when", "evt_11", MINUTE)


def test_samples_of_a_group_are_bounded_however_many_triggers() -> None:
    """Ten thousand triggers that look at the same events cannot flood the store with samples."""
    rules = rule_set(*(trigger(f"t{n}", when=f"event.data.a == {n}") for n in range(300)))
    found = plan(rules, *(event("s", data={"a": -n}) for n in range(1, 20)))

    assert 0 < len(found.decisions) <= Kind.FILTERED.value[1]
    assert all(decision.sampled and decision.clause for decision in found.decisions)


def test_filters_that_the_index_skips_are_sampled_in_turn() -> None:
    """Every trigger of a small group gets a filtered sample with the clause that decided, though none was tried."""
    rules = rule_set(*(trigger(f"t{n}", filter={"exact": {"subject": f"s{n}"}}) for n in range(5)))
    found = plan(rules, *(event("s", subject=f"x{n}") for n in range(5)))

    assert {decision.trigger for decision in found.decisions} == {f"t{n}" for n in range(5)}
    assert found.decisions[0].clause is not None
    assert (found.decisions[0].clause.path, found.decisions[0].clause.actual) == ("on.filter.exact.subject", '"x0"')


def test_all_rules_that_cannot_be_used_are_named_at_once() -> None:
    """A rule set that does not compile says everything that is wrong, for all triggers."""
    with pytest.raises(RuleErrors) as caught:
        rule_set(trigger("a", when="event.x", each="1"), trigger("b", filter={"exakt": {}}, run={"key": "'k'"}))

    assert [(error.trigger, error.path) for error in caught.value.errors] == [
        ("a", "when"),
        ("a", "each"),
        ("b", "on.filter.exakt"),
        ("b", "run.key"),
    ]  # fmt: skip


def test_check_names_everything_against_the_rest_of_the_configuration() -> None:
    """`check` finds unknown sensors, types, pipelines and parameters, constant keys and risky merges, with remedies."""
    bad = trigger(
        "bad",
        on=[Source(sensor="ordres"), Source(sensor="orders", types=("object.creatd",))],
        runs=[
            RunRule(pipeline="loda"),
            RunRule(pipeline="load", params={"paht": "x"}, key="'same'", lane="1"),
            RunRule(pipeline="load", partition="event.subject"),
        ],
        when="event.data.x >",
        when_busy=WhenBusy.COALESCE,
    )
    own = trigger("own", sensor="tidegate", pipeline="load")
    errors = RuleSet.check({"bad": bad, "own": own}, {"orders": ["object.created"]}, {"load": ["path"]})

    assert {(error.trigger, error.path): error.hint for error in errors} == {
        ("bad", "on[0].sensor"): "did you mean orders?",
        ("bad", "on[1].types"): "did you mean object.created?",
        ("bad", "run[0].pipeline"): "did you mean load?",
        ("bad", "run[1].params.paht"): "did you mean path?",
        ("bad", "run[1].key"): "name a field of the event, or leave key out",
        ("bad", "run[1].lane"): "name a field of the event, or leave lane out",
        (
            "bad",
            "run[2].lane",
        ): "give `lane` the partition's expression, so that only events of one partition are merged",
        ("bad", "when"): "something is missing after its last character",
    }


contents = st.fixed_dictionaries(
    {}, optional={"a": st.integers(0, 3) | st.none() | st.just("x"), "l": st.lists(st.integers(0, 3), max_size=3)}
)
some_events = st.lists(
    st.builds(
        lambda type_, subject, data, depth, nul: event(
            "s", type=type_, subject=subject + ("\0" if nul else ""), data=data, depth=depth
        ),
        st.sampled_from(["t1", "t2", "t3"]),
        st.sampled_from(["a", "b"]),
        contents,
        st.sampled_from([0, 0, 0, MAX_DEPTH]),
        st.sampled_from([False] * 9 + [True]),
    ),
    max_size=12,
)
TRIGGERS = [
    trigger("filter", filter={"exact": {"subject": "a"}}),
    trigger("typed", types=("t1", "t2"), when="event.data.a > 1"),
    trigger("lenient", when="event.data.a > 1", missing_field_is_error=False),
    trigger("items", each="event.data.l", when="item > 1", run={"key": "item"}),
    trigger("two", on=[Source(sensor="s", types=("t1",)), Source(sensor="s", filter={"exact": {"data.a": 2}})]),
    trigger("keyed", run={"key": "event.data.a"}),
]


@given(some_events)
def test_counting_and_explaining_agree_with_planning(some: list[Event]) -> None:
    """For any events: `explain` gives the outcome that `plan` gave, and the derived filtered count is exact."""
    rules = rule_set(*TRIGGERS)
    totals: dict[tuple[str, str, str], int] = {}
    expected = {one.name: {"filtered": 0, "error": 0} for one in TRIGGERS}
    for one in some:
        found = rules.plan([one], NOW, {}, counting_uid())
        for key, n in found.counts.items():
            totals[key] = totals.get(key, 0) + n
        for rule in TRIGGERS:
            explanation = explain(rules, rule.name, one, now=NOW)
            asked = [intent for intent in found.intents if intent.trigger == rule.name]
            errors = found.counts.get(("trigger", rule.name, "error"), 0) + (
                len(found.dead) if explanation.outcome else 0
            )
            items = found.counts.get(("trigger", rule.name, "filtered"), 0)
            outcome = "fired" if asked else "error" if errors else "filtered"
            if explanation.outcome is not None:
                assert explanation.outcome.value == outcome
                assert [(run.item, run.params) for run in explanation.runs] == [(i.item, i.params) for i in asked]
                assert any(clause.passed is False for clause in explanation.clauses) or outcome == "fired"
                expected[rule.name]["error"] += errors
                expected[rule.name]["filtered"] += items or (outcome == "filtered")
            else:
                assert not asked

    def counts(kind: str) -> dict[tuple[str, str], int]:
        return {(name, outcome): n for (k, name, outcome), n in totals.items() if k == kind}

    for rule in TRIGGERS:
        derived = {
            "filtered": filtered_count(
                rule,
                "c1",
                candidates=counts("candidates"),
                matched=counts("matched"),
                dead=counts("dead"),
                decided=counts("trigger"),
            ),
            "error": error_count(rule, "c1", dead=counts("dead"), decided=counts("trigger")),
        }
        assert derived == expected[rule.name], rule.name


@given(
    st.binary(max_size=60),
    st.sampled_from([None, "application/json", "text/plain", "application/x"]),
    st.text(max_size=10),
)
def test_no_event_makes_planning_raise(data: bytes, content_type: str | None, subject: str) -> None:
    """Whatever bytes and text an event holds, planning ends with a plan."""
    rules = rule_set(*TRIGGERS)
    found = plan(rules, event("s", type="t1", subject=subject, data=data, content_type=content_type))

    assert orjson.dumps([dict(intent.params) for intent in found.intents])
