"""What is overdue is told once, and that nothing is any more as well."""

from sensors.adapters.overdue import Overdue
from sensors.batch import Notice
from sensors.clock import SECOND

T0 = 1_800_000_000_000_000


def say(key: str) -> str:
    return f"{key} is late"


def late(key: str, since: int = T0) -> Notice:
    return Notice("set_overdue", key, say(key), since)


def test_each_wait_is_told_once_when_its_time_has_come() -> None:
    """Not before, not again, and again only when it waits anew."""
    watch = Overdue(60.0)
    waits = [("a", T0), ("b", T0 + 30 * SECOND)]

    assert watch.notices(waits, T0 + 59 * SECOND, say) == []
    assert watch.next(waits) == T0 + 60 * SECOND
    assert watch.notices(waits, T0 + 60 * SECOND, say) == [late("a")]
    assert watch.next(waits) == T0 + 90 * SECOND
    assert watch.notices(waits, T0 + 95 * SECOND, say) == [late("b", T0 + 30 * SECOND)]
    assert watch.next(waits) is None
    anew = [("a", T0 + 100 * SECOND), waits[1]]
    assert watch.notices(anew, T0 + 160 * SECOND, say) == [late("a", T0 + 100 * SECOND)]


def test_that_none_is_overdue_is_told_once() -> None:
    """Only when the last one is complete, and only after one was overdue."""
    watch = Overdue(60.0)
    waits = [("a", T0), ("b", T0)]
    now = T0 + 61 * SECOND

    assert watch.notices([("a", now)], now, say) == []
    assert len(watch.notices(waits, now, say)) == 2
    assert watch.notices(waits[:1], now, say) == []
    (news,) = watch.notices([], now, say)
    assert (news.what, news.since) == ("sets_in_time", now)
    assert watch.notices([], now, say) == []


def test_after_a_start_both_are_told_again() -> None:
    """What was overdue before the start is told anew, and its end too if it came while nobody looked."""
    now = T0 + 61 * SECOND
    one, other = Overdue(60.0), Overdue(60.0)
    for watch in (one, other):
        watch.take_up([("a", T0)], now)

    assert one.notices([("a", T0)], now, say) == [late("a")]
    assert [news.what for news in other.notices([], now, say)] == ["sets_in_time"]
