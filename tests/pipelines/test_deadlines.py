"""Times of day by which runs must be done: texts that say them, and the moments that they are."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.deadlines import FinishBy, days_of, parse_finish_by

FINISH = st.builds(
    FinishBy,
    time=st.times().map(lambda time: time.strftime("%H:%M")),
    timezone=st.sampled_from(["UTC", "Europe/Oslo", "America/New_York", "Australia/Lord_Howe"]),
    days=st.lists(st.integers(0, 6), min_size=1, unique=True).map(lambda days: tuple(sorted(days))),
    expect=st.sampled_from(["scheduled", "daily", "never"]),
)
MOMENTS = st.integers(1_700_000_000, 1_900_000_000).map(lambda second: second * 1_000_000)


@settings(max_examples=50, deadline=None)
@given(FINISH)
def test_what_is_written_is_read_back(finish: FinishBy) -> None:
    """The text in a definition says all of it."""
    assert parse_finish_by(str(finish)) == finish


@settings(max_examples=50, deadline=None)
@given(FINISH, MOMENTS)
def test_deadlines_follow_one_another(finish: FinishBy, moment: int) -> None:
    """The next one is later and at most eight days away; the one before it is not later than the moment."""
    following = finish.after(moment)

    assert moment < following <= moment + 8 * 86_400_000_000
    assert finish.before(following) <= moment
    assert finish.after(following - 1) == following


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("7:00", "is no time of day"),
        ("", "is no time of day"),
        ("07:00 Europe/Osloo", "no time zone `Europe/Osloo`"),
        ("07:00 mon sat", "says twice when"),
        ("07:00 expect:always", "expect is scheduled, daily, never, not 'always'"),
    ],
)
def test_what_is_no_deadline_says_what_would_be(text: str, said: str) -> None:
    """The sentence names what is wrong."""
    with pytest.raises(ValueError, match=said):
        parse_finish_by(text)


def test_days_are_names_and_ranges() -> None:
    """Ranges may go over the weekend."""
    assert days_of(["mon-fri"]) == (0, 1, 2, 3, 4)
    assert days_of(["sat-mon", "wed"]) == (0, 2, 5, 6)
    with pytest.raises(ValueError, match="'tuesday' is no day of the week"):
        days_of(["tuesday"])


def test_a_time_that_the_clock_skips_comes_after_the_jump() -> None:
    """02:30 does not exist in Oslo on 29 March 2026: the deadline is at 03:00 summer time."""
    moment = parse_finish_by("02:30 Europe/Oslo").after(int(datetime(2026, 3, 28, 12, tzinfo=UTC).timestamp()) * 10**6)

    assert moment == int(datetime(2026, 3, 29, 1, tzinfo=UTC).timestamp()) * 10**6
