"""Bounds of a back-test: time, numbers, sensors, and what it must not do."""

import hashlib
import itertools
import sqlite3
from pathlib import Path

import pytest

from tests.backtest.cases import STEP, events_of, joined
from tests.support.past import asking, live_through, over, told
from tests.support.works import T0, make_config, make_event, make_trigger, open_works
from tidegate.backtest.asking import WEEK, BadAsk, Wish, make_ask
from tidegate.backtest.drive import Cancelled, backtest
from tidegate.backtest.history import GivenHistory, StoreHistory, rows_of
from tidegate.backtest.reading import reading
from tidegate.store.tx import StoreError

ALL = make_trigger(when="event.data.n >= 0")
SOME = make_trigger(when="event.data.n > 3")
TEN = [("a", "k", 1, n, True) for n in range(9)] + [("b", "m", 1, 9, True)]
END = T0 + 60 * STEP


async def test_only_the_time_and_the_sensors_in_question_count(tmp_path: Path) -> None:
    """From `since` on, up to and not including `until`; events of other sensors are not even read."""
    events = events_of(TEN, T0)
    async with open_works("memory:", make_config([ALL])) as house:
        await live_through(house, events, END)
        await house.put(make_event(sensor="other", received_at=T0 + STEP))
        since, until = events[2].received_at, events[6].received_at
        report = await over(house, asking([ALL], [SOME], since, until))
        nothing = await over(house, asking([ALL], [SOME], T0, END, sensors=["other"]))

    assert (report.events, told(report)) == (4, {"t": (2, 0, 2, 0)})
    assert (report.since, report.reached) == (since, until)
    assert (nothing.events, nothing.differs) == (0, False)


async def test_it_ends_after_so_many_events_or_so_long() -> None:
    """What was judged by then is told, and how far it came."""
    events = events_of(TEN, T0)
    seconds = itertools.count()
    async with open_works("memory:", make_config([ALL])) as house:
        await live_through(house, events, END)
        few = await over(house, asking([ALL], [SOME], T0, END, limit=3, baseline="recorded"))
        slow = await over(house, asking([ALL], [SOME], T0, END, seconds=0.5), monotonic=lambda: float(next(seconds)))

    assert (few.events, few.reached, few.stopped) == (3, events[3].received_at, "3 events were judged, the limit")
    assert told(few) == {"t": (0, 0, 3, 0)}
    assert (slow.events, slow.stopped) == (0, "it took longer than 0.5 s")


async def test_a_key_that_was_open_before_is_known() -> None:
    """Events before `since` are read as far back as a pattern remembers, and count for nothing else."""
    join = joined("j", "all", 30, "ignore", "first")
    events = events_of([(kind, "k", 2, 1, True) for kind in "abc"], T0)
    async with open_works("memory:", make_config([join])) as house:
        house.clock.at = T0
        await live_through(house, events, END)
        report = await over(house, asking([join], [join], events[2].received_at, END, baseline="recorded"))

    assert (report.events, told(report)) == (1, {"j": (1, 0, 0, 0)})
    assert report.warm_from is not None
    assert report.warm_from <= events[0].received_at


async def test_nothing_is_written(tmp_path: Path) -> None:
    """The file of the store is the same to the byte, row by row, and the connection could not change it."""
    file = tmp_path / "store.db"
    async with open_works(f"sqlite:///{file}", make_config([ALL])) as house:
        await live_through(house, events_of(TEN, T0), END)

    def fingerprint() -> object:
        with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as connection:
            tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            rows = {name: connection.execute(f"SELECT count(*) FROM {name}").fetchone() for name in tables}
        return hashlib.sha256(file.read_bytes()).hexdigest(), rows

    before = fingerprint()
    with reading(f"sqlite:///{file}") as read:
        for baseline in ("in_force", "recorded"):
            report = backtest(asking([ALL], [SOME], T0, END, baseline=baseline), StoreHistory(read))
            assert told(report) == {"t": (6, 0, 4, 0)}
        with pytest.raises(StoreError, match="readonly"):
            read(lambda reader: reader._s.connection.execute("DELETE FROM events"))  # type: ignore[attr-defined]

    assert fingerprint() == before


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    """A wrong path is an error with a remedy, and no file."""
    with pytest.raises(StoreError, match="cannot be read"), reading(f"sqlite:///{tmp_path / 'nothing.db'}"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_store_of_another_version_says_so(tmp_path: Path) -> None:
    """What lacks our tables is no traceback but a sentence with the remedy."""
    with sqlite3.connect(tmp_path / "old.db") as connection:
        connection.execute("CREATE TABLE t (a)")
    with pytest.raises(StoreError, match="tidegate migrate"), reading(f"sqlite:///{tmp_path / 'old.db'}") as read:
        backtest(asking([ALL], [SOME], T0, END), StoreHistory(read))


def test_whoever_watches_can_end_it() -> None:
    """What `progress` raises ends the back-test."""

    def gone(_: int) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        backtest(asking([ALL], [SOME], T0, END), GivenHistory(rows_of(events_of(TEN, T0))), progress=gone)


def test_events_that_are_given_are_judged_in_their_order() -> None:
    """A source's own history: no store, no record, the same answer."""
    events = events_of(TEN, T0)
    report = backtest(asking([ALL], [SOME], T0, END), GivenHistory(rows_of(list(reversed(events)))))

    assert (report.events, told(report)) == (10, {"t": (6, 0, 4, 0)})
    assert [one.firing.events[0] for one in report.triggers[0].lost_samples] == [event.uid for event in events[:4]]


def test_what_is_asked_is_made_a_question() -> None:
    """A week up to now, all triggers that differ, against the rules in force; without changed rules the record."""
    old = {"a": make_trigger("a"), "b": make_trigger("b")}
    new = {"a": make_trigger("a"), "b": make_trigger("b", when="true"), "c": make_trigger("c")}
    ask = make_ask(old, new, Wish(), END)
    record = make_ask(old, None, Wish(), END)

    assert (ask.names, ask.since, ask.until, ask.baseline) == (["b", "c"], END - WEEK, END, "in_force")
    assert (record.names, record.baseline, record.new) == (["a", "b"], "recorded", old)
    assert make_ask(old, new, Wish(until=END * 2), END).until == END


@pytest.mark.parametrize(
    ("wish", "sentence"),
    [
        (Wish(names=["aa"]), "no trigger aa; did you mean `a`"),
        (Wish(sensors=["x"]), "no trigger in question listens to sensor x"),
        (Wish(since=END), "`since` does not lie before"),
        (Wish(since=2 * END), "`since` does not lie before"),
    ],
)
def test_what_cannot_be_answered_says_why(wish: Wish, sentence: str) -> None:
    """Unknown names have a nearest one, an empty time is refused."""
    with pytest.raises(BadAsk, match=sentence):
        make_ask({"a": make_trigger("a")}, {"a": make_trigger("a", when="true")}, wish, END)


def test_the_rules_in_force_are_not_compared_with_themselves() -> None:
    """Without changed rules there is only the record."""
    with pytest.raises(BadAsk, match="the record"):
        make_ask({"a": make_trigger("a")}, None, Wish(baseline="in_force"), END)
