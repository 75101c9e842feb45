"""When data is stale, as a pure function of when it was updated, the rule and the time."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.freshness import Rule, judge, lasting, told

SECOND = 1_000_000
NOON = int(datetime(2026, 3, 28, 12, tzinfo=UTC).timestamp()) * SECOND  # the clock goes forward in Oslo that night
HOUR = 3_600 * SECOND


def at(day: int, hour: int, minute: int = 0) -> int:
    return int(datetime(2026, 3, day, hour, minute, tzinfo=UTC).timestamp()) * SECOND


RULES = st.builds(
    Rule,
    max_age=st.none() | st.integers(60, 200_000).map(float),
    due=st.sampled_from(["0 7 * * *", "*/20 * * * *", "30 2 * * *", "0 6 * * 1-5"]),
    timezone=st.sampled_from(["UTC", "Europe/Oslo", "America/New_York"]),
    grace=st.integers(0, 4_000).map(float),
    window=st.none() | st.integers(60, 100_000).map(float),
)


@settings(max_examples=60, deadline=None)
@given(RULES, st.none() | st.integers(-48, 0), st.integers(0, 48), st.lists(st.floats(0, 1), max_size=4))
def test_fresh_data_stays_fresh_until_it_is_to_be_judged_again(
    rule: Rule, updated: int | None, now: int, between: list[float]
) -> None:
    """`until` is no later than the moment at which untouched data goes stale: nothing is missed between two looks."""
    moment = NOON + now * HOUR
    seen = None if updated is None else NOON + updated * HOUR
    found = judge(rule, seen, moment, since=NOON - 60 * HOUR)

    assert found.until is not None or not found.fresh
    if found.until is not None:
        assert found.until > moment
        if found.fresh:
            for part in between:
                later = moment + int((found.until - 1 - moment) * part)
                assert judge(rule, seen, later, since=NOON - 60 * HOUR).fresh


@settings(max_examples=60, deadline=None)
@given(RULES, st.integers(-48, 0), st.integers(0, 48))
def test_an_update_now_makes_data_fresh(rule: Rule, updated: int, now: int) -> None:
    """Data that was updated this very moment is fresh, unless a window says that a former tick wanted it earlier."""
    moment = NOON + now * HOUR

    assert judge(rule, moment, moment, since=0).fresh
    assert (
        judge(rule, NOON + updated * HOUR, moment, since=0).fresh
        or not judge(rule, NOON + (updated - 1) * HOUR, moment, since=0).fresh
    )


@pytest.mark.parametrize(
    ("updated", "now", "fresh"),
    [
        (at(28, 5, 30), at(28, 6, 30), True),  # by 07:00 in Oslo, 06:00Z
        (at(28, 5, 30), at(29, 5, 4), True),  # the next is at 05:00Z in summer, with five minutes of grace
        (at(28, 5, 30), at(29, 5, 5), False),
        (at(28, 6, 3), at(29, 5, 6), False),  # came within the grace of the day before: that was its day
        (at(28, 6, 10), at(29, 5, 6), True),
        (at(29, 5, 4), at(29, 5, 6), True),
    ],
)
def test_a_tick_asks_for_an_update_since_the_one_before(updated: int, now: int, fresh: bool) -> None:
    """Each tick wants an update of its own, on the clock of its place, and gives it a grace."""
    rule = Rule(due="0 7 * * *", timezone="Europe/Oslo", grace=300.0)

    assert judge(rule, updated, now, since=0).fresh == fresh


def test_a_window_says_how_long_before_its_tick_an_update_counts() -> None:
    """With `window` an update of yesterday evening is not this morning's."""
    rule = Rule(due="0 7 * * *", window=3_600.0)

    assert judge(rule, at(28, 6, 1), at(28, 7, 1), since=0).fresh
    assert not judge(rule, at(28, 5, 59), at(28, 7, 1), since=0).fresh


def test_reasons_and_expectations_are_words() -> None:
    """They say how old, when it was due, and what is allowed."""
    rule = Rule(max_age=26 * 3600.0, due="0 7 * * *", timezone="Europe/Oslo", grace=60.0)
    found = judge(rule, at(26, 7), at(28, 12), since=0)

    assert found.reason == (
        "2d 5h old, allowed are 1d 2h; "
        "an update was due at 2026-03-28T07:00:00+01:00, it was updated last at 2026-03-26T08:00:00+01:00"
    )
    assert found.stale_since == at(27, 9, 1)
    assert rule.words() == (
        "no older than 1d 2h and an update by each tick of `0 7 * * *` (Europe/Oslo), give or take 1m"
    )
    assert told(0) == "1970-01-01T00:00:00Z"
    assert [lasting(one) for one in (0.25, 59.0, 3_600.0, 90_061.0)] == ["250ms", "59s", "1h", "1d 1h"]
