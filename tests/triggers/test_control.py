"""Flow control piece by piece: windows and clocks that change, lines that are long, and what is told about an event."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sensors.event import Event
from tests.support.rules import NOW, counting_uid, rule_set, trigger
from triggers.control import MAX_HELD, Active, Batch, Control, Debounce, Over, Sample, Throttle, Window
from triggers.decision import Outcome
from triggers.explain import explain
from triggers.rate import RELEASE, Bucket, look, take
from triggers.round import Phase, Round, RoundName
from triggers.stage import Fate
from triggers.testing import decide, event
from triggers.trigger import RunRule, Source, Trigger
from triggers.windows import is_open, next_open

SECOND = 1_000_000
OSLO = "Europe/Oslo"
START = datetime(2026, 1, 1, tzinfo=UTC)


def at(text: str) -> int:
    """Return a moment that is written with its offset."""
    return round(datetime.fromisoformat(text).timestamp() * 1e6)


NIGHT = Active(windows=(Window(start="22:00", end="05:00", days=(4,)),), timezone=OSLO)
HOLE = Active(windows=(Window(start="02:30", end="02:45"),), timezone=OSLO)  # the clock skips it on 29 March 2026
MORNING = Active(windows=(Window(start="08:00"),), timezone=OSLO)
NOON = Active(windows=(Window(cron="0 12 * * 6", length=7_200 * SECOND),), timezone=OSLO)
BOTH = Active(windows=(*NIGHT.windows, *NOON.windows), timezone=OSLO)


@pytest.mark.parametrize(
    ("active", "moment", "opened"),
    [
        (NIGHT, "2026-01-02T21:59:59+01:00", False),
        (NIGHT, "2026-01-02T22:00:00+01:00", True),
        (NIGHT, "2026-01-03T04:59:59+01:00", True),  # Saturday, of the window that began on Friday
        (NIGHT, "2026-01-03T05:00:00+01:00", False),
        (NIGHT, "2026-01-02T04:00:00+01:00", False),  # Friday morning belongs to Thursday
        (NIGHT, "2026-03-28T04:30:00+01:00", True),
        (HOLE, "2026-03-28T02:40:00+01:00", True),
        (NOON, "2026-01-03T13:59:59+01:00", True),
        (NOON, "2026-01-03T14:00:00+01:00", False),
        (NOON, "2026-01-02T12:30:00+01:00", False),
        (NOON, "2026-07-04T12:00:00+02:00", True),
    ],
)
def test_windows_follow_the_clock_on_the_wall(active: Active, moment: str, opened: bool) -> None:
    """Past midnight, on their days only, by the local clock in summer and winter; the end is outside."""
    assert is_open(active, at(moment)) == opened


@pytest.mark.parametrize(
    ("active", "moment", "opens"),
    [
        (NIGHT, "2026-01-03T06:00:00+01:00", "2026-01-09T22:00:00+01:00"),
        (NOON, "2026-01-03T14:00:00+01:00", "2026-01-10T12:00:00+01:00"),
        (BOTH, "2026-01-03T06:00:00+01:00", "2026-01-03T12:00:00+01:00"),
        (MORNING, "2026-03-28T23:59:59+01:00", "2026-03-29T08:00:00+02:00"),
        (HOLE, "2026-03-28T02:45:00+01:00", "2026-03-29T03:30:00+02:00"),
    ],
)
def test_the_next_opening_is_the_first_of_all_windows(active: Active, moment: str, opens: str) -> None:
    """The earliest beginning after a moment; a time that the clock skips comes an hour later."""
    assert next_open(active, at(moment)) == at(opens)


def test_a_line_goes_on_a_bounded_number_at_a_time() -> None:
    """After a long time as many go as the bucket holds, never more than one transaction may; the rest is due now."""
    wide = Bucket(Throttle(events=1, per=1, burst=10_000, over=Over.HOLD), "m", "v")
    line = Round(name=RoundName("t", "throttle/k"), phase=Phase.OPEN, uid="dec_1", meaning="m", taken=1_200, as_of=NOW)
    first = look(wide, line, NOW + SECOND)
    second = look(wide, first.round, NOW + SECOND)
    third = look(wide, second.round, NOW + SECOND)

    assert [move.before[0].n for move in (first, second, third)] == [RELEASE, RELEASE, 200]
    assert first.round.due == NOW + SECOND
    assert third.round.phase is Phase.FIRED


def test_a_line_that_is_full_takes_no_more() -> None:
    """Beyond the most that may wait, events are stopped with a sentence that says so."""
    slow = Bucket(Throttle(events=1, per=3_600 * SECOND, burst=1, over=Over.HOLD), "m", "v")
    name = RoundName("t", "throttle/k")
    line = Round(name=name, phase=Phase.OPEN, uid="dec_1", meaning="m", taken=MAX_HELD, as_of=NOW)
    move = take(slow, line, NOW, lambda: "dec_2")

    assert move.fate is Fate.STOPPED
    assert "100000 events of key 'k' wait in line" in move.reason


def test_a_changed_rate_begins_with_a_full_bucket_and_keeps_the_line() -> None:
    """What waits keeps its place; the new rate counts from then on."""
    name = RoundName("t", "throttle/k")
    line = Round(name=name, phase=Phase.OPEN, uid="dec_1", meaning="old", taken=3, counted=0, as_of=NOW)
    move = look(Bucket(Throttle(events=1, per=SECOND, burst=2, over=Over.HOLD), "new", "v"), line, NOW)

    assert [out.n for out in move.before] == [2]
    assert (move.round.taken, move.round.since, move.round.due) == (3, 2, NOW + SECOND)


ONE = Event(sensor="s", id="1", uid="evt_1", source="/t", type="t", subject="k", received_at=NOW)


@pytest.mark.parametrize(
    ("control", "outcome", "path"),
    [
        (Control(sample=Sample(rate=1e-12)), Outcome.SAMPLED_OUT, "sample"),
        (Control(active=Active(windows=(Window(start="08:00"),))), Outcome.OUT_OF_WINDOW, "active"),
        (Control(active=Active(windows=(Window(start="08:00"),), outside=Over.HOLD)), Outcome.HELD, "active"),
        (Control(gather=Batch(within=SECOND, by="event.subject")), Outcome.BUFFERED, None),
        (Control(gather=Debounce(quiet=SECOND, max_wait=SECOND)), Outcome.BUFFERED, None),
        (Control(gather=Batch(within=SECOND, by="event.data.no")), Outcome.ERROR, "batch.by"),
        (Control(throttle=Throttle(events=1, per=SECOND, burst=1)), Outcome.FIRED, None),
    ],
)
def test_an_event_is_told_where_it_stops(control: Control, outcome: Outcome, path: str | None) -> None:
    """`explain` names the stage and its clause; what only the keys know is left to the stored decision."""
    run: dict[str, Any] = {"params": {"n": "${{ size(events) }}"}} if control.gather else {}
    found = explain(rule_set(trigger("t", control=control, run=run)), "t", ONE)

    assert found.outcome is outcome
    assert [clause.path for clause in found.clauses if clause.passed is False] == ([] if path is None else [path])


def test_what_is_told_is_what_is_decided() -> None:
    """Events that no stage with a memory stops get from the plan what `explain` says."""
    rules = rule_set(trigger("t", control=Control(sample=Sample(every=2), active=NIGHT)))
    for n in range(40):
        moment = at("2026-01-02T12:00:00+01:00") + n * 3_600 * SECOND
        one = Event(sensor="s", id=str(n), uid=f"evt_{n}", source="/t", type="t", received_at=moment)
        plan = rules.plan([one], moment, {}, counting_uid())
        outcomes = [outcome for kind, _, outcome in plan.counts if kind == "trigger"]

        assert explain(rules, "t", one).outcome == (outcomes[0] if outcomes else "fired")


def test_the_kit_lets_events_gather_and_time_pass() -> None:
    """`triggers.testing.decide` shows batches, what waits in line, and what time brings about."""
    batch = Trigger(
        name="b",
        on=(Source(sensor="s"),),
        runs=(RunRule(pipeline="p", params={"ids": "${{ events.map(e, e.id) }}"}),),
        control=Control(gather=Batch(within=60 * SECOND, count=2)),
    )
    line = Trigger(
        name="l",
        on=(Source(sensor="s"),),
        runs=(RunRule(pipeline="q"),),
        control=Control(throttle=Throttle(events=1, per=10 * SECOND, burst=1, over=Over.HOLD)),
    )
    events = [event("s", id=str(n), at=START + timedelta(seconds=n)) for n in range(3)]
    verdicts = decide([batch, line], events, until=START + timedelta(seconds=90))

    assert [(one.trigger, one.outcome, one.event.type) for one in verdicts] == [
        ("b", "buffered", "test"),
        ("l", "fired", "test"),
        ("b", "fired", "test"),
        ("l", "held", "test"),
        ("b", "buffered", "test"),
        ("l", "held", "test"),
        ("l", "fired", "time.passed"),
        ("l", "fired", "time.passed"),
        ("b", "fired", "time.passed"),
    ]
    assert [one.params["ids"] for one in verdicts if one.trigger == "b" and one.params] == [["0", "1"], ["2"]]
