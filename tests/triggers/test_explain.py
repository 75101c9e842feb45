"""Explanations: good enough to read at 3 a.m., and a kit that decides without a service."""

import pytest

from tests.support.rules import NOW, rule_set, trigger
from triggers.decision import Outcome
from triggers.errors import RuleError
from triggers.explain import Explanation, explain, try_event
from triggers.testing import decide, event
from triggers.trigger import Paused, Source, WhenBusy

RULE = trigger(
    "orders-arrived",
    filter={
        "suffix": {"subject": ".parquet"},
        "any": [{"exact": {"data.kind": "full"}}, {"exact": {"data.kind": "delta"}}],
    },
    when='event.data.size > 0 && !event.subject.contains("/_tmp/")',
    run={"key": "event.data.url", "params": {"path": "${{ event.data.url }}"}},
)
FINE = {"kind": "full", "size": 1, "url": "u"}


def lines(explanation: Explanation) -> list[str]:
    marks = {True: "ok", False: "NO", None: "--"}
    return [f"{marks[c.passed]} {c.path}: {c.text}: wants {c.expected}, has {c.actual}" for c in explanation.clauses]


def test_a_firing_is_explained_clause_by_clause() -> None:
    """A rule that fires shows every clause with the values it saw, and the run that it asks for."""
    explanation = explain(rule_set(RULE), "orders-arrived", event("s", subject="a.parquet", data=FINE))

    assert (explanation.outcome, explanation.reason) == (Outcome.FIRED, "1 run asked for")
    assert [(run.pipeline, run.key, run.params) for run in explanation.runs] == [("p", "u", {"path": "u"})]
    assert lines(explanation) == [
        'ok on.filter.suffix.subject: suffix subject: ".parquet": wants ends with ".parquet", has "a.parquet"',
        "ok on.filter.any: any of 2: wants at least one matches, has one matches",
        'ok on.filter.any[0].exact.data.kind: exact data.kind: "full": wants equals "full", has "full"',
        '-- on.filter.any[1].exact.data.kind: exact data.kind: "delta": wants equals "delta", has "full"',
        (
            'ok when: event.data.size > 0 && !event.subject.contains("/_tmp/"): wants true, has true, with event.data = '  # noqa: E501
            '{"kind":"full","size":1,"url":"u"}, event.subject = "a.parquet"'
        ),
    ]


def test_the_clause_that_failed_is_named() -> None:
    """What did not hold stands in the reason with its path, and its clause shows what was there instead."""
    rules = rule_set(RULE)
    wrong = explain(rules, "orders-arrived", event("s", subject="a.csv", data=FINE))
    absent = explain(rules, "orders-arrived", event("s", data=FINE))
    empty = explain(rules, "orders-arrived", event("s", subject="a.parquet", data={**FINE, "size": 0}))
    missing = explain(rules, "orders-arrived", event("s", subject="a.parquet", data={"kind": "delta"}))

    assert (wrong.outcome, wrong.reason) == (Outcome.FILTERED, "the filter does not match: on.filter.suffix.subject")
    assert (
        lines(wrong)[0]
        == 'NO on.filter.suffix.subject: suffix subject: ".parquet": wants ends with ".parquet", has "a.csv"'
    )
    assert absent.clauses[0].actual == "subject is absent"
    assert (empty.outcome, empty.clauses[-1].passed) == (Outcome.FILTERED, False)
    assert empty.clauses[-1].actual.startswith('false, with event.data = {"kind":"full","size":0')
    assert (missing.outcome, missing.reason) == (Outcome.ERROR, 'when failed: there is no field "size"')


def test_who_does_not_listen_says_why() -> None:
    """A trigger that is no candidate has no outcome, and its clauses name sensor and type."""
    rules = rule_set(trigger("a", on=[Source(sensor="x"), Source(sensor="s", types=("t1", "t2"))]))
    explanation = explain(rules, "a", event("s", type="t3"))

    assert explanation.outcome is None
    assert lines(explanation) == [
        "NO on[0].sensor: x: wants sensor x, has s",
        "NO on[1].types: t1 or t2: wants type t1 or t2, has t3",
    ]
    with pytest.raises(KeyError):
        explain(rules, "nobody", event("s"))


def test_elements_are_explained_one_by_one() -> None:
    """With `each` the elements that fail are named by their number, and the others still ask for runs."""
    rules = rule_set(trigger("a", each="event.data", when="item.ok", run={"key": "item.n"}))
    explanation = explain(rules, "a", event("s", data=[{"ok": True, "n": 1}, {"ok": False, "n": 2}, {"n": 3}]))

    assert explanation.outcome is Outcome.FIRED
    assert explanation.reason == '1 run asked for; 1 failed: when failed: there is no field "ok"; 1 filtered'
    assert [(clause.path, clause.passed) for clause in explanation.clauses] == [
        ("each", True),
        ("when (element 1)", False),
        ("when (element 2)", False),
    ]


def test_pauses_loops_and_dead_events_are_explained() -> None:
    """A paused trigger, a chain that is too long and an event that cannot be read each say so."""
    rules = rule_set(trigger("a"))

    assert explain(rules, "a", event("s"), paused=Paused.HOLD).outcome is Outcome.PAUSED
    assert explain(rules, "a", event("s"), paused=Paused.DROP).reason == "the trigger is paused"
    assert "a loop?" in explain(rules, "a", event("s", depth=10)).reason
    assert "NUL" in explain(rules, "a", event("s", subject="\0")).reason


def test_trying_an_event_tells_every_trigger_that_listens() -> None:
    """`try_event` explains an event by all candidates, in configured order, and by nobody else."""
    rules = rule_set(trigger("b"), trigger("a", when="event.subject == 'x'"), trigger("c", sensor="other"))

    tried = try_event(rules, event("s"), NOW)
    assert [(one.trigger, one.outcome) for one in tried] == [("b", Outcome.FIRED), ("a", Outcome.FILTERED)]


def test_values_are_shown_bounded() -> None:
    """An explanation of a large event stays readable."""
    explanation = explain(
        rule_set(trigger("a", when="event.data.x == 'y'")), "a", event("s", data={"x": "z" * 100_000})
    )

    assert len(explanation.clauses[-1].actual) < 400


def test_the_kit_decides_like_the_service() -> None:
    """`decide` remembers keys and lanes between events and gives one verdict for each trigger that listens."""
    skip = trigger("skip", filter={"exact": {"type": "lane"}}, run={"lane": "event.subject"}, when_busy=WhenBusy.SKIP)
    some = [
        event("s", subject="a.parquet", data=FINE),
        event("s", subject="b.parquet", data=FINE),
        event("s", subject="c.csv", data=FINE),
        event("s", type="lane", subject="l", data=1),
        event("s", type="lane", subject="l", data=2),
        event("elsewhere"),
    ]
    verdicts = decide([RULE, skip], some)

    assert [
        (some.index(v.event), v.trigger, v.outcome.value) for v in verdicts if v.outcome is not Outcome.FILTERED
    ] == [
        (0, "orders-arrived", "fired"),
        (1, "orders-arrived", "duplicate"),
        (3, "skip", "fired"),
        (4, "skip", "skipped_busy"),
    ]
    assert len(verdicts) == 10
    assert (verdicts[0].key, verdicts[0].params, verdicts[0].pipeline) == ("u", {"path": "u"}, "p")
    first, second = (verdict for verdict in verdicts if verdict.event in some[:2] and verdict.trigger == RULE.name)
    assert second.run == first.run
    with pytest.raises(RuleError):
        decide([trigger(when="event.x")], [])
