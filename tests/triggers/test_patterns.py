"""Joins, sequences, counts and absence as people see them: by the test kit, over triggers as they would be written."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.join_works import HOUR, join_of, part, waiting_for
from tests.support.rules import NOW, rule_set
from triggers.calendar import local, next_tick, next_time
from triggers.explain import explain
from triggers.pattern import SECOND, Absence, Count, Join, Late, Opens, Pattern, meaning_of
from triggers.rule import compile_rule
from triggers.testing import Verdict, decide, event
from triggers.trigger import Trigger

START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
MINUTE = 60 * SECOND


def at(minutes: float, kind: str, key: str = "k", **fields: Any) -> Any:
    """Return an event of sensor `s` so many minutes after the start."""
    moment = START + timedelta(minutes=minutes)
    return event("s", type=kind, subject=key, at=moment, id=f"{kind}-{key}-{minutes}", **fields)


def run(trigger: Trigger, events: Sequence[Any], until: float | None = None) -> list[Verdict]:
    """Decide, and let time pass until so many minutes after the start."""
    return decide([trigger], events, until=None if until is None else START + timedelta(minutes=until))


def outcomes(verdicts: Sequence[Verdict]) -> list[str]:
    return [str(verdict.outcome) for verdict in verdicts]


def test_a_join_fires_when_its_last_part_comes() -> None:
    """Whatever the order; the verdicts before say what is missing and until when."""
    verdicts = run(waiting_for(join_of("a", "b", "c")), [at(0, "c"), at(1, "a"), at(2, "b")])

    assert outcomes(verdicts) == ["waiting", "waiting", "fired"]
    assert verdicts[1].missing == ("b",)
    assert "waits until 2026-03-02T09:00:00Z: 2 of 3 parts are there (a, c); missing: b" in verdicts[1].reason
    assert (verdicts[2].key, len(verdicts[2].events)) == ("k", 3)


def test_a_key_that_lacks_a_part_is_overdue_and_starts_what_was_asked_for() -> None:
    """Time alone makes it so: no run of the trigger, the one for overdue keys, and what is missing by name."""
    trigger = waiting_for(join_of("a", "b"), overdue=[{"params": {"lacks": "${{ missing }}", "since": "${{ since }}"}}])
    verdicts = run(trigger, [at(0, "a")], until=61)

    assert outcomes(verdicts) == ["waiting", "overdue", "fired"]
    assert (verdicts[1].event.type, verdicts[1].missing) == ("time.passed", ("b",))
    assert verdicts[1].event.received_at == _micros(START + timedelta(hours=1))
    assert (verdicts[2].pipeline, verdicts[2].params) == ("late", {"lacks": ["b"], "since": "2026-03-02T08:00:00Z"})


@pytest.mark.parametrize(
    ("require", "kinds", "expected"),
    [
        ("2 of 3", "ac", ["waiting", "fired"]),
        ("2", "abc", ["waiting", "fired", "late"]),
        ("a && (b || c)", "bca", ["waiting", "waiting", "fired"]),
        ("a || counts.b + counts.c == 2", "bc", ["waiting", "fired"]),
    ],
)
def test_what_is_required_may_be_less_than_all(require: str, kinds: str, expected: list[str]) -> None:
    """So many of them, or an expression over their names."""
    trigger = waiting_for(join_of("a", "b", "c", require=require))

    assert outcomes(run(trigger, [at(n, kind) for n, kind in enumerate(kinds)])) == expected


def test_the_calendar_opens_keys_and_the_time_of_day_closes_them() -> None:
    """Monday's key is opened at midnight of the zone, is due at six, and is overdue although nothing ever came."""
    opens = Opens(cron="0 0 * * 1-5", key='day(now, "Europe/Oslo")')
    join = join_of("a", "b", within=None, until="06:00", timezone="Europe/Oslo", opens=opens)
    friday = datetime(2026, 3, 6, 12, 0, tzinfo=UTC)
    verdicts = decide([waiting_for(join)], [event("s", type="x", at=friday)], until=friday + timedelta(days=3))

    assert outcomes(verdicts) == ["waiting", "overdue"]
    assert "key '2026-03-09' waits until 2026-03-09T06:00:00+01:00" in verdicts[0].reason
    assert verdicts[1].missing == ("a", "b")


def test_a_part_may_come_before_its_key_is_opened() -> None:
    """What comes the evening before waits for the day that it is about."""
    opens = Opens(cron="0 0 * * *", key='day(now, "UTC")')
    join = join_of("a", "b", within=None, until="06:00", opens=opens)
    early = event("s", type="a", subject="2026-03-03", at=datetime(2026, 3, 2, 22, tzinfo=UTC))
    last = event("s", type="b", subject="2026-03-03", at=datetime(2026, 3, 3, 5, tzinfo=UTC))

    assert outcomes(decide([waiting_for(join)], [early, last])) == ["waiting", "fired"]


def test_a_sequence_takes_its_parts_in_their_order() -> None:
    """B before A is no part of it; B after A is; and the next A begins anew."""
    trigger = waiting_for(join_of("a", "b", in_order=True, remember=0), run={})
    verdicts = run(trigger, [at(0, "b"), at(1, "a"), at(2, "b"), at(3, "a"), at(4, "b")])

    assert outcomes(verdicts) == ["filtered", "waiting", "fired", "waiting", "fired"]
    assert "b came before a" in verdicts[0].reason


def test_a_sequence_by_the_source_s_time_forgives_disorder() -> None:
    """With a stated lateness the order of arrival does not matter, that of the events does."""
    trigger = waiting_for(join_of("a", "b", in_order=True, remember=0, lateness=10 * MINUTE))
    moment = NOW
    good = [at(0, "b", time=moment + 5), at(1, "a", time=moment)]
    bad = [at(0, "b", "x", time=moment), at(1, "a", "x", time=moment + 5)]

    assert outcomes(run(trigger, good)) == ["waiting", "fired"]
    assert outcomes(run(trigger, bad)) == ["waiting", "filtered", "waiting"]


def test_a_time_in_the_future_counts_as_the_moment_of_arrival() -> None:
    """A source whose clock is wrong by years neither keeps a key open for years nor pushes others out of the window."""
    join = join_of("a", "b", lateness=MINUTE)
    count = Count(part=part("a", "all"), reach=2, within=10 * MINUTE, lateness=MINUTE)
    wrong = at(0, "a", time=_micros(START + timedelta(days=5_000)))
    right = at(1, "a", time=_micros(START + timedelta(minutes=1)))

    assert outcomes(run(waiting_for(join), [wrong], until=62)) == ["waiting", "overdue"]
    assert outcomes(run(waiting_for(count, run={}), [wrong, right])) == ["waiting", "fired"]


def test_a_count_slides() -> None:
    """Three within ten minutes, wherever the ten minutes begin; what the window has passed is said to be out of it."""
    count = Count(part=part("e", "all"), reach=3, within=10 * MINUTE)
    verdicts = run(waiting_for(count, run={}), [at(n, "e") for n in (0, 8, 12, 15, 40)], until=60)

    assert outcomes(verdicts) == ["waiting", "waiting", "out_of_window", "waiting", "fired", "waiting", "out_of_window"]
    assert [len(verdict.events) for verdict in verdicts if str(verdict.outcome) == "fired"] == [3]


def test_a_silence_fires_once_until_something_comes() -> None:
    """Fifteen minutes without a payment: one run; the next payment ends the silence; then it may fire again."""
    quiet = Absence(part=part("p", by=None), silence=15 * MINUTE)
    verdicts = run(waiting_for(quiet, run={"params": {"since": "${{ since }}"}}), [at(0, "p"), at(50, "p")], until=120)

    assert outcomes(verdicts) == ["filtered", "fired", "filtered", "fired"]
    assert verdicts[1].params == {"since": "2026-03-02T08:00:00Z"}
    assert "nothing came of p since 2026-03-02T08:00:00Z" in verdicts[1].reason
    assert "ends the silence" in verdicts[2].reason


def test_what_did_not_follow_is_missed() -> None:
    """B after A within the time is fine and recorded; without it the trigger fires with the As left unanswered."""
    after = Absence(part=part("b"), silence=15 * MINUTE, after=part("a", "all"))
    events = [at(0, "a", "good"), at(1, "a", "bad"), at(5, "b", "good"), at(8, "a", "bad"), at(30, "b", "bad")]
    verdicts = run(waiting_for(after, run={"key": "key"}), events, until=60)

    fired = [verdict for verdict in verdicts if str(verdict.outcome) == "fired"]
    assert outcomes(verdicts) == ["waiting", "waiting", "filtered", "waiting", "fired", "late"]
    assert (fired[0].key, len(fired[0].events), fired[0].missing) == ("bad", 2, ("b",))


def test_an_explanation_names_part_and_key() -> None:
    """What a single event is to a pattern can be told offline, clause by clause."""
    first = part("a", when="event.data.ok")
    rules = rule_set(waiting_for(Join(parts=(first, part("b")), within=HOUR)))
    found = explain(rules, "j", at(0, "a", data={"ok": True}))
    refused = explain(rules, "j", at(0, "a", data={"ok": False}))
    failed = explain(rules, "j", at(0, "a", data={}))

    assert (found.outcome, found.reason) == ("waiting", "it is part a of key 'k'")
    assert [clause.actual for clause in found.clauses if clause.path == "join.of.a.by"] == ['"k"']
    assert [clause.actual for clause in found.clauses if clause.path == "join.of.a.when"] == [
        'true, with event.data = {"ok":true}'
    ]
    assert (refused.outcome, refused.reason) == ("filtered", "join.of.a.when does not hold")
    assert failed.outcome == "error"
    assert "join.of.a.when failed" in failed.reason


def test_runs_see_key_parts_events_and_missing() -> None:
    """The scopes of a join's runs; a part that takes all is a list."""
    rule = {
        "key": "key",
        "params": {
            "a": "${{ parts.a.data.url }}",
            "b": "${{ parts.b.map(e, e.data.url) }}",
            "all": "${{ events.map(e, e.subject + e.type) }}",
            "missing": "${{ missing }}",
        },
    }
    join = Join(parts=(part("a"), part("b", "all"), part("c")), within=HOUR, require="a && counts.b == 2")
    events = [at(n, kind, data={"url": f"{kind}{n}"}) for n, kind in enumerate("bab")]
    verdict = run(waiting_for(join, run=rule), events)[-1]

    assert verdict.params == {"a": "a1", "b": ["b0", "b2"], "all": ["kb", "ka", "kb"], "missing": ["c"]}


def test_what_cannot_be_rendered_is_a_visible_error() -> None:
    """The join is complete, yet its run reads what is not there: an error that names the clause, and no run."""
    verdict = run(waiting_for(join_of("a", "b"), run={"params": {"x": "${{ parts.z.id }}"}}), [at(0, "a"), at(1, "b")])[
        -1
    ]

    assert verdict.outcome == "error"
    assert "is complete" in verdict.reason
    assert "run.params" in verdict.reason


def test_late_parts_meet_their_policy() -> None:
    """After the deadline: recorded, or the key is completed and fires."""
    events = [at(0, "a"), at(70, "b")]
    ignored = run(waiting_for(join_of("a", "b")), events)
    refired = run(waiting_for(join_of("a", "b", late=Late.REFIRE)), events)

    assert outcomes(ignored) == ["waiting", "overdue", "late"]
    assert outcomes(refired) == ["waiting", "overdue", "fired"]


def test_the_meaning_of_a_pattern_is_what_decides_about_its_state() -> None:
    """Policies for late parts may change while keys wait; parts and windows may not."""
    join = join_of("a", "b")
    same = [join_of("a", "b", late=Late.ALERT), join_of("a", "b", remember=0), join_of("a", "b", overdue_alert=False)]
    other = [join_of("a", "c"), join_of("a", "b", within=1), join_of("b", "a"), join_of("a", "b", in_order=True)]

    assert {meaning_of(one) for one in same} == {meaning_of(join)}
    assert len({meaning_of(one) for one in [join, *other]}) == 5


def test_times_of_day_know_the_clocks_of_their_zone() -> None:
    """Six in Oslo is six before and after the clocks change; a time that is skipped comes all the same."""
    before = next_time("06:00", "Europe/Oslo", _micros(datetime(2026, 3, 28, 12, tzinfo=UTC)))
    skipped = next_time("02:30", "Europe/Oslo", _micros(datetime(2026, 3, 28, 12, tzinfo=UTC)))
    tick = next_tick("0 6 * * *", "Europe/Oslo", before)

    assert local(before, "Europe/Oslo").isoformat() == "2026-03-29T06:00:00+02:00"
    assert local(skipped, "UTC").isoformat() == "2026-03-29T01:30:00+00:00"
    assert local(tick, "UTC").isoformat() == "2026-03-30T04:00:00+00:00"


def test_a_pattern_that_cannot_work_is_refused() -> None:
    """Problems are found at load, with their place."""
    cases: dict[str, Pattern] = {
        "join.require": join_of("a", "b", require="true"),
        "join.of": join_of("a"),
        "sequence.of": Join(parts=(part("a", "all"), part("b")), within=HOUR, in_order=True),
        "sequence.require": join_of("a", "b", in_order=True, require="1 of 2"),
        "count.reach": Count(part=part("e"), reach=1, within=1),
    }
    for place, pattern in cases.items():
        _, errors = compile_rule(waiting_for(pattern))
        assert [error.path for error in errors] == [place], [str(error) for error in errors]
        assert all(error.hint for error in errors)


def _micros(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000)


def test_an_event_that_is_a_part_is_not_filtered_as_another() -> None:
    """Parts told apart by `when`: what is one of them leaves no decision about not being the other."""
    parts = (part("x", when='event.data.p == "a"'), part("x", when='event.data.p == "b"'))
    named = tuple(replace(one, name=name) for one, name in zip(parts, "ab", strict=True))
    trigger = waiting_for(Join(parts=named, within=HOUR))
    verdicts = run(trigger, [at(0, "x", data={"p": "a"}), at(1, "x", data={"p": "z"}), at(2, "x", data={"p": "b"})])

    assert outcomes(verdicts) == ["waiting", "filtered", "filtered", "fired"]
    assert {verdict.reason for verdict in verdicts[1:3]} == {
        "join.of.a.when does not hold",
        "join.of.b.when does not hold",
    }
