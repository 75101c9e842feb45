"""What headers ask of their caller, in all the forms that APIs use."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensors.adapters.rate_limits import LONGEST, least_interval, quota_wait, retry_after

NOW = 1_769_839_200_000_000  # 2026-01-31T06:00:00Z
DATE = "Sat, 31 Jan 2026 06:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "12"}, 12.0),
        ({"retry-after": " 0.5 "}, 0.5),
        ({"retry-after": "Sat, 31 Jan 2026 06:01:00 GMT"}, 60.0),
        ({"retry-after": "Sat, 31 Jan 2026 09:01:00 GMT", "date": "Sat, 31 Jan 2026 09:00:00 GMT"}, 60.0),
        ({"retry-after": "Sat, 31 Jan 2026 05:00:00 GMT"}, 0.0),
        ({"retry-after": "99999999"}, LONGEST),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Sat, 99 Jan 2026 06:01:00 GMT"}, None),
    ],
)
def test_retry_after_in_seconds_or_as_a_date(headers: dict[str, str], seconds: float | None) -> None:
    """A date is measured by the answer's own clock; the past is now, nonsense is nothing, and nobody waits for ever."""
    assert retry_after(headers, NOW) == seconds


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "30"}, 30.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(NOW // 1_000_000 + 45)}, 45.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(NOW // 1_000_000 - 45)}, 0.0),
        ({"x-ratelimit-remaining": "1", "x-ratelimit-reset": "30"}, None),
        ({"x-ratelimit-remaining": "0"}, None),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "9"}, 9.0),
        ({"ratelimit": '"default";r=0;t=20'}, 20.0),
        ({"ratelimit": '"default";r=3;t=20'}, None),
        ({"ratelimit": "limit=100, remaining=0, reset=50"}, 50.0),
        ({"ratelimit": "?"}, None),
    ],
)
def test_an_empty_quota_is_waited_for(headers: dict[str, str], seconds: float | None) -> None:
    """The usual headers, the draft's and its older form; only when nothing is left and it is said until when."""
    assert quota_wait(headers, NOW) == seconds


def test_a_wished_interval_is_kept() -> None:
    """`X-Poll-Interval` in seconds; nothing where it is absent or makes no sense."""
    assert least_interval({"x-poll-interval": "60"}) == 60.0
    assert least_interval({"x-poll-interval": "often"}) == least_interval({}) == 0.0


names = st.sampled_from(["retry-after", "date", "ratelimit", "x-ratelimit-remaining", "x-ratelimit-reset"])


@given(st.dictionaries(names, st.text(max_size=40)))
def test_whatever_stands_there_is_a_bounded_wait_or_none(headers: dict[str, str]) -> None:
    """No header of a stranger raises, nor makes anybody wait for longer than a day."""
    for found in (retry_after(headers, NOW), quota_wait(headers, NOW), least_interval(headers)):
        assert found is None or 0.0 <= found <= LONGEST
