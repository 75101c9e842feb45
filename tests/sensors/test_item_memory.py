"""What memory says of an item that is seen, and what it may forget."""

from dataclasses import replace

import pytest

from sensors.adapters.high_water import mark_of
from sensors.adapters.http_items import Item
from sensors.adapters.http_position import Position
from sensors.adapters.item_memory import ABSENT, KEPT, Pages, Remembered, gone, unreadable
from sensors.batch import SeenObject
from sensors.scan import KeyFilter

ALL = Position("https://a.example/", 0, baseline=True)


def item(token: str, high: object = None) -> Item:
    return Item(f"i@{token}", "i:i", token, "i", b"{}", mark_of(high), known=True)


def after(*tokens: str, position: Position = ALL) -> tuple[list[str], SeenObject]:
    """See versions one after the other, each in a poll of its own; return the verdicts and what is remembered."""
    memory, verdicts = Remembered({}), list[str]()
    for now, token in enumerate(tokens, 1):
        verdicts.append(memory.judge(item(token), position, Pages(now * 10), now * 10))
    return verdicts, memory.rows["i:i"]


def test_versions_are_told_once_even_when_old_ones_come_back() -> None:
    """A replica that lags behind shows an old version, then the new one again: nothing of that is news."""
    verdicts, row = after("1", "2", "1", "2", "3", "1", "3")
    assert verdicts == ["created", "changed", "known", "known", "changed", "known", "known"]
    assert (row.token, row.first_seen) == ("3", 11)


def test_memory_of_one_item_is_bounded() -> None:
    """The newest former versions are kept."""
    _, row = after(*(str(n) for n in range(50)))
    assert row.extra.count(",") == KEPT - 1
    assert '"48"' in row.extra


def test_history_is_silent_and_remembered() -> None:
    """Before the baseline nothing is told; what was silent then is not told later either."""
    memory = Remembered({})
    now = Position("https://a.example/", 0, now=True)
    silent = [memory.judge(item(token), now, Pages(n), n) for n, token in enumerate("12", 1)]
    later = [memory.judge(item(token), replace(now, baseline=True), Pages(n), n) for n, token in enumerate("1213", 50)]
    assert (silent, later) == (["silent", "silent"], ["known", "known", "known", "changed"])


def test_a_version_that_comes_twice_in_one_poll_shows_that_the_list_moved() -> None:
    """Two versions of an item on the pages of one poll are noticed, two in two polls are not."""
    memory, pages = Remembered({}), Pages(100)
    memory.judge(item("1"), ALL, pages, 100)
    once = pages.moved
    memory.judge(item("2"), ALL, pages, 100)
    assert (once, pages.moved) == (False, True)
    other = Pages(101)
    memory.judge(item("3"), ALL, other, 102)
    assert not other.moved


def test_a_refused_item_is_created_when_it_is_first_accepted() -> None:
    """However many versions were refused before; afterwards it is changed."""
    memory, verdicts = Remembered({}), []
    for n, (token, refused) in enumerate(
        [("1", True), ("1", True), ("2", True), ("3", False), ("4", True), ("5", False)]
    ):
        what = memory.judge(item(token), ALL, Pages(n * 10), n * 10)
        verdicts.append(what)
        if refused and what != "known":
            memory.refuse(item(token), what)
    assert verdicts == ["created", "known", "created", "created", "changed", "changed"]


def test_the_mark_of_a_row_follows_the_item() -> None:
    """An item whose mark rises while its version stays is remembered with the mark that it has now."""
    memory = Remembered({})
    memory.judge(item("1", 10), ALL, Pages(1), 1)
    memory.writes.clear()
    memory.judge(item("1", 10), ALL, Pages(2), 2)
    assert memory.writes == {}
    memory.judge(item("1", 20), ALL, Pages(3), 3)
    assert gone([memory.rows["i:i"]], None, mark_of(15), 10**15, 1) == ([], [])


@pytest.mark.parametrize(
    ("high", "below", "age", "forgets"),
    [(10, 20, 100, True), (20, 20, 100, False), (10, 20, 5, False), (None, 20, 100, False), ("x", 20, 100, False)],
)
def test_rows_below_what_is_asked_from_are_forgotten_when_old(
    high: object, below: object, age: int, forgets: bool
) -> None:
    """Only with a mark that compares, strictly below, and unchanged for long enough."""
    memory = Remembered({})
    memory.judge(item("1", high), ALL, Pages(0), 1)
    _, forget = gone(list(memory.rows.values()), None, mark_of(below), 1 + age * 1_000_000 + 1, 10)
    assert bool(forget) is forgets


def test_rows_of_a_whole_list_are_forgotten_when_absent_for_long() -> None:
    """First their absence is noted, then they go; one that is listed stays, whatever its age."""
    rows = [SeenObject(key, "1", 0, "present", 1, 1) for key in ("i:a", "i:b")]
    shown = KeyFilter(1 << 10)
    shown.add("i:a")
    writes, forget = gone(rows, shown, None, 100_000_000, 10)
    assert ([(row.key, row.state) for row in writes], forget) == ([("i:b", ABSENT)], [])
    assert gone(writes, shown, None, 105_000_000, 10) == ([], [])
    assert gone(writes, shown, None, 111_000_000, 10) == ([], ["i:b"])


def test_what_went_to_the_dead_letters_is_forgotten_by_age() -> None:
    """Such items have no mark."""
    row = unreadable("x:1", 1)
    assert gone([row], None, None, 5_000_000, 10) == ([], [])
    assert gone([row], None, None, 11_000_000, 10) == ([], ["x:1"])
