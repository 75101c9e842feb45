"""Where a sensor stands in a partition: what is stored, and what it remembers of the way behind it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensors.adapters.kafka_positions import Baseline, Mark, Position, fingerprint, read_baseline, read_position
from sensors.batch import Cursor
from sensors.errors import NotConnected
from tests.support.records import record


def test_a_position_is_read_as_it_was_stored() -> None:
    """Nothing is lost on the way through the store."""
    position = Position(7).after(record(b"a", 7)).after(record(None, 9))
    cursor = position.cursor("orders", 2)

    assert cursor.shard == "orders/2"
    assert read_position(cursor) == position
    assert (position.next, [mark.offset for mark in position.marks]) == (10, [9, 7])
    assert read_baseline(Baseline({0: 5, 1: 0}).cursor("orders")) == Baseline({0: 5, 1: 0})


@pytest.mark.parametrize("value", ["", "[]", "{}", '{"v":2,"next":1}', '{"v":1}', '{"v":1,"next":"x","marks":[]}'])
def test_another_form_is_refused(value: str) -> None:
    """What a newer version wrote is not guessed at."""
    with pytest.raises(NotConnected, match="another form"):
        read_position(Cursor("orders/0", value))
    with pytest.raises(NotConnected, match="another form"):
        read_baseline(Cursor("orders", value))


@given(steps=st.lists(st.integers(1, 5000), min_size=1, max_size=200))
def test_marks_reach_far_back_and_stay_few(steps: list[int]) -> None:
    """However much was read, a few marks remain: the newest, the oldest, and in between none for long.

    What would be read again after the end of a log was lost is then never much more than what was lost.
    """
    position, offset, offsets = Position(0), -1, []
    for step in steps:
        offset += step
        offsets.append(offset)
        position = position.after(record(b"x", offset))
    kept = [mark.offset for mark in position.marks]
    newest = max(offsets)

    assert kept[0] == newest
    assert kept == sorted(set(kept), reverse=True)
    assert len(kept) == min(8, len(offsets))
    assert kept[-1] == min(offsets)


def test_fingerprints_tell_records_apart() -> None:
    """Key, value and moment enter it, each by itself."""
    records = [
        record(b"ab", key=b"c"),
        record(b"b", key=b"ca"),
        record(None, key=b"cab"),
        record(b"", key=b"cab"),
        record(b"cab"),
        record(b"cab", timestamp=1),
    ]

    assert len({fingerprint(one) for one in records}) == len(records)
    assert fingerprint(record(b"x", 1)) == fingerprint(record(b"x", 2))


def test_the_last_record_is_the_first_mark() -> None:
    """A position that nothing led to has none."""
    assert Position(3).last is None
    assert Position(3, 0, (Mark(2, "p"),)).last == Mark(2, "p")
