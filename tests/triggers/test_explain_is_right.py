"""Explanations are right: what a clause says would turn it does turn it."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensors.event import Event
from tests.support.rule_worlds import applied, conditions, events, filters
from tests.support.rules import rule_set, trigger
from triggers.change import Change, Impossible, changed
from triggers.errors import EvaluationError
from triggers.explain import Explanation, explain
from triggers.expression import Expression, compile_expression
from triggers.match import compile_predicate, parse_filter
from triggers.pattern import Join, Part
from triggers.remedy_cel import budget_for
from triggers.scope import EVENT_SCOPE
from triggers.tell import ClauseResult
from triggers.testing import event
from triggers.trigger import Source
from triggers.view import EventView

ATOMS = ("exact", "prefix", "suffix")


def every(clauses: Any) -> Iterator[ClauseResult]:
    """Yield clauses with their parts, and the parts of those."""
    for clause in clauses:
        yield clause
        yield from every(clause.parts)


def outcome_of(clause: ClauseResult, raw: Any, one: Event) -> bool | None:
    """Judge one clause alone over an event: its own filter, or its own text; None when it fails."""
    view = EventView(one, one.received_at)
    if clause.path.startswith("on."):
        return compile_predicate(parse_filter(_part(raw, clause.path.removeprefix("on.filter"))))(view)
    try:
        return compiled(clause.text).holds(view.activation())
    except EvaluationError:
        return None


@lru_cache(maxsize=4_096)
def compiled(text: str) -> Expression:
    return compile_expression(text, EVENT_SCOPE)


def _part(raw: Any, path: str) -> Any:
    """Return the filter that stands at a path of a filter as written."""
    while path:
        path = path.removeprefix(".")
        dialect = path.partition(".")[0].partition("[")[0]
        rest = path.removeprefix(dialect)
        if dialect in ATOMS:
            return {dialect: {rest[1:]: raw[dialect][rest[1:]]}}
        if dialect == "not" or not rest:
            if not rest:
                return {dialect: raw[dialect]}
            raw, path = raw[dialect], rest
        else:
            number, _, path = rest.removeprefix("[").partition("]")
            raw = raw[dialect][int(number)]
    return raw


def check_pair(raw: Any, when: str | None, one: Event) -> tuple[int, int]:
    """Explain one pair and apply every change that is named; return how many clauses failed, and how many of those
    name a change."""
    explanation = explain(rule_set(trigger("t", filter=raw, when=when)), "t", one)
    failed = named = 0
    for clause in every(explanation.clauses):
        if clause.passed is not False:
            assert not clause.changes, clause
            continue
        failed += 1
        wanted = clause.expected != "false"
        assert outcome_of(clause, raw, one) is not wanted, clause
        if clause.changes:
            named += 1
            after = applied(one, clause.changes)
            assert outcome_of(clause, raw, after) is wanted, (clause, after)
    return failed, named


@settings(max_examples=1_000)
@given(filters() | st.none(), conditions() | st.none(), events())
def test_what_is_named_turns_the_clause(raw: Any, when: str | None, one: Event) -> None:
    """Of 1,000 random pairs of a rule and an event: each clause that failed does fail alone, and applying the changes
    that it names to the event makes that clause give what was expected."""
    check_pair(raw, when, one)


@settings(max_examples=150)
@given(filters(), events())
def test_every_comparison_of_a_filter_names_its_change(raw: Any, one: Event) -> None:
    """A comparison that failed always says what would turn it, but for moments that no event can have."""
    explanation = explain(rule_set(trigger("t", filter=raw)), "t", one)
    for clause in explanation.clauses:
        if clause.passed is False and clause.text.split(" ")[0] in ATOMS and "time" not in clause.path:
            assert clause.changes, clause


@settings(max_examples=150)
@given(conditions(), events())
def test_every_comparison_of_a_condition_names_its_change(when: str, one: Event) -> None:
    """So does every comparison of a condition, whichever way it ought to turn out, but for patterns of text."""
    explanation = explain(rule_set(trigger("t", when=when)), "t", one)
    for clause in every(explanation.clauses):
        if clause.passed is False and not clause.parts and "matches(" not in clause.text:
            assert clause.changes, clause


PARTS = (("a", 10), ("b", 20))
FINE = {"size": 5, "kind": "full", "files": [{"ok": True}, {"ok": False}], "tags": ["a"]}


def tell(when: str, one: Event, **rule: Any) -> Explanation:
    return explain(rule_set(trigger("t", when=when, **rule)), "t", one)


def told(clauses: Any, depth: int = 0) -> list[str]:
    marks = {True: "ok", False: "NO", None: "--"}
    lines = []
    for one in clauses:
        names = " & ".join(change.words for change in one.changes)
        lines.append(f"{'  ' * depth}{marks[one.passed]} {one.text}{' <- ' + names if names else ''}")
        lines += told(one.parts, depth + 1)
    return lines


def test_a_condition_is_told_part_by_part() -> None:
    """Each conjunct, each alternative and negation says what it gave; the one at fault, what would turn it."""
    when = 'event.data.size > 9 && !(event.data.kind == "full" || event.data.tags.size() > 3) && event.subject != null'
    found = tell(when, event("s", subject="x", data=FINE))

    assert told(found.clauses) == [
        f'NO {when} <- make data.size 10 & make data.kind "other full"',
        "  NO event.data.size > 9 <- make data.size 10",
        '  NO !(event.data.kind == "full" || event.data.tags.size() > 3) <- make data.kind "other full"',
        '    NO event.data.kind == "full" || event.data.tags.size() > 3 <- make data.kind "other full"',
        '      NO event.data.kind == "full" <- make data.kind "other full"',
        "      ok event.data.tags.size() > 3",
        "  ok event.subject != null",
    ]  # fmt: skip


def test_a_missing_field_is_named() -> None:
    """A condition that failed for want of a field says which, and that setting it would do."""
    clause = tell("event.data.rows >= 100", event("s", data=FINE)).clauses[-1]

    assert clause.actual == 'there is no field "rows"'
    assert clause.changes == (Change(("data", "rows"), 100),)
    assert clause.changes[0].words == "make data.rows 100"


def test_a_condition_about_elements_names_the_element() -> None:
    """With `each` the change names the element that failed, where the list is a place in the event."""
    found = tell("item.ok", event("s", data=FINE), each="event.data.files")
    clause = next(one for one in found.clauses if one.path == "when (element 1)")

    assert clause.changes == (Change(("data", "files", 1, "ok"), True),)
    assert told([clause]) == ["NO item.ok <- make data.files.1.ok true"]


def test_a_part_of_a_join_is_explained_like_a_rule() -> None:
    """The `when` of a part that did not hold is taken apart, and says what would turn it."""
    source, when = Source(sensor="s"), 'event.data.size > {} && event.data.kind != ""'
    parts = [Part(name=name, source=source, by="event.data.kind", when=when.format(n)) for name, n in PARTS]
    rule = trigger("t", on=[part.source for part in parts], pattern=Join(parts=parts, within=1))
    found = explain(rule_set(rule), "t", event("s", data=FINE))

    assert [clause.changes for clause in found.clauses if clause.path.endswith(".when")] == [
        (Change(("data", "size"), 11),),
        (Change(("data", "size"), 21),),
    ]


def test_a_source_that_was_not_needed_is_no_reason() -> None:
    """Where one entry of `on` lets an event through, what another wanted is told as not asked for."""
    on = [Source(sensor="s", filter=raw) for raw in ({"exact": {"subject": "a"}}, {"prefix": {"subject": "b"}})]
    explanation = explain(rule_set(trigger("t", on=on)), "t", event("s", subject="b1"))

    assert explanation.outcome == "fired"
    assert [(clause.path, clause.passed, clause.changes) for clause in explanation.clauses] == [
        ("on[0].filter.exact.subject", None, ()),
        ("on[1].filter.prefix.subject", True, ()),
    ]


def test_a_large_event_is_explained_within_a_budget() -> None:
    """Evaluations of large events take long, so few are tried; every part is told all the same."""
    small, large = event("s", data=FINE), event("s", data={**FINE, "filler": "x" * 1_000_000})
    when = " && ".join(f'event.data.kind.matches("^{n}[a-z]{{3}}$")' for n in range(20))
    clause = tell(when, large).clauses[-1]

    assert budget_for(small).left == 3_000
    assert budget_for(large).left < 60
    assert [part.passed for part in clause.parts] == [False] * 20
    assert clause.changes == ()
    assert tell("event.data.size > 9", large).clauses[-1].changes == (Change(("data", "size"), 10),)


def test_a_negation_says_which_of_its_fields_is_at_fault() -> None:
    """A `not` that failed names a change after which nothing within it matches."""
    raw = {"not": {"prefix": {"subject": "tmp/"}}}
    explanation = explain(rule_set(trigger("t", filter=raw)), "t", event("s", subject="tmp/a"))
    (clause,) = explanation.clauses

    assert (clause.path, clause.passed) == ("on.filter.not", False)
    assert outcome_of(clause, raw, applied(event("s", subject="tmp/a"), clause.changes)) is True


def test_what_no_event_can_be_is_not_promised() -> None:
    """Where no change turns a clause, none is named: two values at one place, a moment that is none."""
    raw = {"any": [{"exact": {"subject": "a"}, "prefix": {"subject": "b"}}]}
    explanation = explain(rule_set(trigger("t", filter=raw)), "t", event("s", subject="c"))
    whole = next(clause for clause in explanation.clauses if clause.path == "on.filter.any")
    never = explain(rule_set(trigger("t", filter={"exact": {"time": "noon"}})), "t", event("s"))

    assert whole.changes == ()
    assert never.clauses[0].changes == ()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(Change(("type",), remove=True), id="what every event has"),
        pytest.param(Change(("subject",), 3), id="a number where text stands"),
        pytest.param(Change(("uid",), "x"), id="our own name of it"),
        pytest.param(Change(("data",), {"a": {1}}), id="what JSON has no word for"),
        pytest.param(Change(("data", "files", 9_999), 1), id="an element far beyond the end"),
        pytest.param(Change(("time",), "noon"), id="no moment"),
    ],
)
def test_what_cannot_be_changed_is_refused(change: Change) -> None:
    """A change that makes no event is an error, never an event that is something else."""
    with pytest.raises(Impossible):
        changed(event("s", data=FINE), [change])


def test_both_ways_of_applying_agree() -> None:
    """The product's own way to apply a change gives the event that the tests' way gives."""
    one = event("s", subject="x", data=FINE)
    for change in (
        Change(("subject",), remove=True),
        Change(("data", "size"), 7),
        Change(("data", "files", 1, "ok"), True),
        Change(("data", "new", "deep"), [1]),
        Change(("attributes", "k"), "v"),
        Change(("time",), "2026-01-01T00:00:00.5Z"),
        Change(("data", "tags"), remove=True),
    ):
        mine, theirs = changed(one, [change]), applied(one, [change])
        assert mine == theirs
        assert mine != one
