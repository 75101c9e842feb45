"""A past to go over again: events that a house took in at moments that a test names, and ways to ask about it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sensors.event import Event
from tests.support.join_works import Bells
from tests.support.works import Works
from tidegate.backtest.drive import backtest
from tidegate.backtest.history import StoreHistory
from tidegate.backtest.values import Ask, Report
from tidegate.store.reader import Reader
from triggers.trigger import Trigger


class Hears:
    """A watch that could hear every sensor all the time."""

    def heard(self, _sensor: str, since: int, until: int) -> int:
        return until - since


async def live_through(house: Works, events: Sequence[Event], until: int) -> None:
    """Take events in one by one, each at its moment, with the timers that are due by then rung before it."""
    bells = Bells(house)
    bells.watch = Hears()  # type: ignore[assignment]
    await bells.arm()
    for event in events:
        await bells.ring(event.received_at - 1_000)
        await house.put(event)
    await bells.ring(until - 5_000_000)  # what comes about without an event is recorded when it is looked at


async def over(house: Works, ask: Ask, **given: Any) -> Report:
    """Run a back-test over what a house has stored."""

    def work(reader: Reader) -> Report:
        return backtest(ask, StoreHistory(lambda fn: fn(reader)), **given)

    return await house.store.read(work)


def asking(old: Sequence[Trigger], new: Sequence[Trigger], since: int, until: int, **fields: Any) -> Ask:
    """Return the question what `new` would have done instead of `old`, about all of them."""
    before = {one.name: one for one in old}
    after = {one.name: one for one in new}
    names = fields.pop("names", list(dict.fromkeys([*before, *after])))
    values: dict[str, Any] = {"names": names, "old": before, "new": after, "since": since, "until": until}
    return Ask(**{**values, **fields})


def told(report: Report) -> Mapping[str, tuple[int, int, int, int]]:
    """Return (same, gained, lost, changed) by trigger."""
    return {one.trigger: (one.same, one.gained, one.lost, one.changed) for one in report.triggers}


@contextmanager
def unchanged(fingerprint: Callable[[], Any]) -> Iterator[None]:
    """Expect that a fingerprint is the same at the end of the block."""
    before = fingerprint()
    yield
    assert fingerprint() == before
