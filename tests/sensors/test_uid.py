"""Uids: opaque, and in the order in which they were made."""

from sensors.uid import EVENT, UidSeries, make_uid, new_uid

AT = 1_800_000_000_123_456


def test_a_series_goes_on_from_a_random_uid() -> None:
    """Each is greater than the one before, of the same moment and form as any uid, also where many digits change."""
    series = UidSeries(EVENT, AT, ((0xFFFFF - 3) << 1).to_bytes(10, "big"))
    made = [series() for _ in range(6)]

    assert made == sorted(set(made))
    assert made == [make_uid(EVENT, AT, (0xFFFFF - 2 + n).to_bytes(10, "big")) for n in range(6)]
    assert made[0][:14] == new_uid(EVENT, AT)[:14]


def test_two_series_share_nothing() -> None:
    """The first uid of each is drawn anew."""
    one, other = UidSeries(EVENT, AT), UidSeries(EVENT, AT)

    assert not {one() for _ in range(100)} & {other() for _ in range(100)}
