"""High-water marks: compared as what they are, lowered by the overlap, written back as they came."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensors.adapters.high_water import Mark, Overlap, OverlapMisfit, lowered, mark_of, moment_mark


def mark(value: object) -> Mark:
    found = mark_of(value)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (1, 2),
        (1.5, 2),
        (9, 10),
        ("9", "10"),
        ("a9", "b1"),
        ("2026-01-31T06:00:00Z", "2026-01-31T06:00:00.000000001Z"),
        ("2026-01-31T06:00:00+01:00", "2026-01-31T06:00:00Z"),
        ("2026-01-31T23:59:59-01:00", "2026-02-01T01:00:00+00:00"),
        ("2026-01-31 06:00:00", "2026-01-31T06:00:01"),
        ("2026-01-31", "2026-01-31T00:00:01Z"),
        ("2026-01-31T06:00Z", "2026-01-31T06:00:59+0000"),
        ("2026-12-31T23:59:60Z", "2027-01-01T00:00:01Z"),
    ],
)
def test_marks_compare_as_what_they_are(low: object, high: object) -> None:
    """Numbers and digits by value, moments by instant whatever their offset, other texts by their characters."""
    assert mark(high).above(mark(low))
    assert not mark(low).above(mark(high))
    assert not mark(low).above(mark(low))
    assert mark(low).above(None)


@pytest.mark.parametrize("other", ["n/a", "2026-01-31", 7, "7"])
def test_marks_of_different_kinds_do_not_compare(other: object) -> None:
    """Neither lies above the other, so that an odd value never moves the mark."""
    for value in ("zzz", "2030-01-01T00:00:00Z", 10**9, "999999999"):
        if mark(value).kind != mark(other).kind:
            assert not mark(value).above(mark(other))
            assert not mark(other).above(mark(value))


@pytest.mark.parametrize("value", [True, [1], {"a": 1}, float("nan"), float("inf"), "x" * 300])
def test_what_cannot_be_a_mark_is_refused(value: object) -> None:
    """Lists, truth values, infinities and endless texts are an error, null and nothing are no mark."""
    with pytest.raises(ValueError, match=r"\w+"):
        mark_of(value)
    assert mark_of(None) is None
    assert mark_of(" ") is None


@pytest.mark.parametrize(
    ("value", "overlap", "expected"),
    [
        ("2026-01-31T06:00:00Z", Overlap(seconds=600), "2026-01-31T05:50:00Z"),
        ("2026-01-31t00:00:00.123+05:30", Overlap(seconds=0.5), "2026-01-30t23:59:59.623+05:30"),
        ("2026-01-31T06:00:00,5", Overlap(seconds=0.001), "2026-01-31T06:00:00,4"),
        ("2026-03-01 00:00:00", Overlap(seconds=1), "2026-02-28 23:59:59"),
        ("2026-01-31", Overlap(seconds=60), "2026-01-30"),
        ("2026-01-31T06:00Z", Overlap(seconds=1), "2026-01-31T05:59Z"),
        ("0001-01-01T00:00:00Z", Overlap(seconds=60), "0001-01-01T00:00:00Z"),
        ("2026-01-31T06:00:00Z", Overlap(seconds=0, amount=0), "2026-01-31T06:00:00Z"),
        (100, Overlap(amount=7), 93),
        (1.5, Overlap(amount=0.5), 1.0),
        ("0100", Overlap(amount=7), "0093"),
        ("3", Overlap(amount=7), "0"),
        ("0100", Overlap(amount=1.5), "0098"),
        ("any", Overlap(), "any"),
        (7, Overlap(), 7),
    ],
)
def test_a_mark_is_lowered_in_its_own_form(value: object, overlap: Overlap, expected: object) -> None:
    """What goes back to the API looks as what came from it, and never lies above where it should."""
    assert lowered(mark(value), overlap).value == expected


@pytest.mark.parametrize(
    ("value", "overlap", "words"),
    [
        ("2026-01-31T06:00:00Z", Overlap(amount=5), "write a duration"),
        (7, Overlap(seconds=5), "write a number"),
        ("7", Overlap(seconds=5), "write a number"),
        ("abc", Overlap(seconds=5), "neither moments nor numbers"),
    ],
)
def test_an_overlap_of_another_kind_is_an_error(value: object, overlap: Overlap, words: str) -> None:
    """A duration is not taken from numbers, nor a number from moments; the sentence says what to write."""
    with pytest.raises(OverlapMisfit, match=words):
        lowered(mark(value), overlap)


moments = st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1)).map(lambda at: at.replace(tzinfo=UTC))  # noqa: DTZ001
offsets = st.sampled_from(["Z", "+00:00", "+05:30", "-08:00", "+0100", ""])


@given(moments, offsets, st.integers(0, 9), st.floats(0, 1e7))
def test_a_lowered_moment_lies_where_it_should(at: datetime, offset: str, digits: int, back: float) -> None:
    """Whatever the form: never above the exact result, and below it by less than its last digit."""
    fraction = f".{at.microsecond:06}000"[: digits + 1] if digits else ""
    text = f"{at:%Y-%m-%dT%H:%M:%S}{fraction}{offset}"
    before = mark(text)
    after = lowered(before, Overlap(seconds=back))
    exact = before.order - round(back * 1e9)

    assert after.order <= exact
    assert exact - after.order < 10 ** (9 - digits)
    assert len(str(after.value)) == len(text)
    assert str(after.value).endswith(offset)


@given(moments, moments)
def test_the_order_of_moments_is_that_of_time(one: datetime, other: datetime) -> None:
    """Written in any offset, two moments compare as their instants do."""
    there = (other + timedelta(hours=5, minutes=30)).replace(tzinfo=None).isoformat() + "+05:30"
    assert mark(there).above(mark(one.isoformat())) is (other > one)
    assert mark(there).micros == round((other - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))


@given(moments)
def test_a_moment_is_written_as_another_one_is(at: datetime) -> None:
    """In the form of the marks that the API gives, rounded down; in whole seconds where there are only those."""
    micros = round((at - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))
    whole = micros // 1_000_000 * 1_000_000
    assert moment_mark(micros).micros == micros
    assert moment_mark(micros, like=mark("2026-01-31T06:00:00Z")).micros == whole
    assert len(str(moment_mark(whole).value)) == 20
