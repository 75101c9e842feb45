"""Bringing firings together: every firing is told once, in whatever order the two sides bring them."""

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.backtest.diff import Pair, Pairing, fired_of
from tidegate.backtest.values import Firing

FIRINGS = st.tuples(st.sampled_from(["old", "new"]), st.integers(0, 4), st.integers(0, 2))
Steps = list[tuple[str, int, int]]


def firing(event: int, n: int, at: int = 0) -> Any:
    return fired_of("t", Firing(pipeline="p", at=at, events=(f"evt_{event}",), params={"n": n}), timed=False)


class Heard:
    """What was told."""

    def __init__(self, **bounds: int) -> None:
        self.alike = 0
        self.pairs: list[Pair] = []
        self.pairing = Pairing(self.pairs.append, self._alike, **bounds)

    def _alike(self, _: str) -> None:
        self.alike += 1

    def numbers(self) -> tuple[int, int, int, int]:
        """Return same, gained, lost, changed."""
        gained = sum(pair.old is None for pair in self.pairs)
        lost = sum(pair.new is None for pair in self.pairs)
        return self.alike, gained, lost, len(self.pairs) - gained - lost


def reference(steps: Steps) -> tuple[int, int, int, int]:
    """Count by the whole history: alike ones first, of what is left pairs of the same event, and the rest."""
    old = Counter((event, n) for side, event, n in steps if side == "old")
    new = Counter((event, n) for side, event, n in steps if side == "new")
    same = old & new
    left = {name: Counter[int]() for name in ("old", "new")}
    for name, counts in (("old", old - same), ("new", new - same)):
        for (event, _), n in counts.items():
            left[name][event] += n
    changed = left["old"] & left["new"]
    gained, lost = left["new"] - changed, left["old"] - changed
    return same.total(), gained.total(), lost.total(), changed.total()


@settings(max_examples=100, deadline=None)
@given(st.lists(FIRINGS, max_size=30))
def test_the_order_of_arrival_does_not_matter(steps: Steps) -> None:
    """At the end it is as if all had been known from the beginning."""
    heard = Heard()
    for side, event, n in steps:
        heard.pairing.add(side, firing(event, n))  # type: ignore[arg-type]
    heard.pairing.settle()

    assert heard.numbers() == reference(steps)
    assert heard.pairing.early == 0


@settings(max_examples=100, deadline=None)
@given(st.lists(FIRINGS, max_size=60), st.integers(1, 5))
def test_no_more_wait_than_may(steps: Steps, most: int) -> None:
    """With too many waiting the oldest are told early, and counted; none is lost or told twice."""
    heard = Heard(most=most)
    for side, event, n in steps:
        heard.pairing.add(side, firing(event, n))  # type: ignore[arg-type]
        assert heard.pairing._count <= most
    heard.pairing.settle()
    same, gained, lost, changed = heard.numbers()

    assert 2 * same + gained + lost + 2 * changed == len(steps)
    assert heard.pairing.early <= len(steps)


def test_what_takes_too_much_room_is_told_early() -> None:
    """Parameters count as well as firings."""
    heard = Heard(size=1_000)
    for event in range(20):
        heard.pairing.add("new", fired_of("t", _large(event), timed=False))

    assert heard.pairing.early >= 15
    heard.pairing.settle()
    assert heard.numbers() == (0, 20, 0, 0)


def _large(event: int) -> Firing:
    return Firing(pipeline="p", at=0, events=(f"evt_{event}",), params={"text": "x" * 300})


def test_a_trigger_s_patience_ends() -> None:
    """What the other side cannot fire any more is told without waiting for the end."""
    heard = Heard()
    for at in (0, 10, 20):
        heard.pairing.add("old", firing(at, 1, at))
    heard.pairing.settle_before(16, lambda _: 5)

    assert heard.numbers() == (0, 0, 2, 0)


def test_time_and_silences_are_told_apart_where_they_are_known() -> None:
    """Two silences of one key are two firings; one that fires later is another firing of the same silence."""
    one = Firing(pipeline="p", at=5, events=(), group="k")
    later = Firing(pipeline="p", at=9, events=(), group="k")
    first, second = (fired_of("t", one, timed=True, since=since) for since in (1, 2))
    delayed = fired_of("t", later, timed=True, since=1)

    assert first.identity != second.identity
    assert (first.identity, first.rendering != delayed.rendering) == (delayed.identity, True)
    assert fired_of("t", one, timed=False, since=1).identity == fired_of("t", later, timed=False, since=2).identity
