"""The other side of a back-test that compares with what happened: the trigger events of the ledger.

In flow trigger events in the order in which they were written; out flow firings of those whose last event came within
the time in question, and what was decided about an event that fired nothing.
"""

from collections.abc import Iterator, Mapping, Sequence

from tidegate.backtest.diff import Fired, fired_of
from tidegate.backtest.history import History
from tidegate.backtest.values import Firing, Why
from triggers.decision import Outcome
from triggers.trigger_event import TriggerEvent

_SKEW = 60_000_000  # µs by which the clock that wrote may be behind the one that received


class RecordSide:
    """What fired. Ask with rising moments."""

    def __init__(self, history: History, names: Sequence[str], since: int) -> None:
        self._history = history
        self._since = since
        self._fired = history.fired(names, since - _SKEW) if names else iter(())
        self._next: tuple[TriggerEvent, int] | None = next(self._fired, None)
        self._ahead: list[tuple[TriggerEvent, int]] = []  # written, by that clock, before their last event came
        self.counts: dict[str, dict[str, int]] = {name: {} for name in names}

    def up_to(self, moment: int) -> Iterator[Fired]:
        """Yield what was written, and whose last event came, up to a moment."""
        while self._next is not None and self._next[0].at <= moment:
            self._ahead.append(self._next)
            self._next = next(self._fired, None)
        if self._ahead:
            ready = [one for one in self._ahead if one[1] <= moment]
            self._ahead = [one for one in self._ahead if one[1] > moment]
            for fired, last in ready:
                yield from self._taken(fired, last)

    def rest(self, until: int) -> Iterator[Fired]:
        """Yield what is left of what came before a moment; it may have been written long after."""
        while self._next is not None:
            self._ahead.append(self._next)
            self._next = next(self._fired, None)
            if self._ahead[-1][1] >= until:
                self._ahead.pop()
        for fired, last in self._ahead:
            if last < until:
                yield from self._taken(fired, last)

    def _taken(self, fired: TriggerEvent, last: int) -> Iterator[Fired]:
        if last < self._since:
            return
        mine = self.counts[fired.trigger]
        mine[Outcome.FIRED.value] = mine.get(Outcome.FIRED.value, 0) + 1
        firing = Firing(
            pipeline=fired.pipeline,
            at=fired.at,
            events=tuple(fired.events),
            key=None if fired.key == fired.uid else fired.key,
            partition=fired.partition,
            lane=fired.lane,
            params=fired.params,
        )
        yield fired_of(fired.trigger, firing, timed=False)

    def why_not(self, fired: Fired) -> Why:
        """Say what is recorded of the events that fired nothing."""
        for event in fired.firing.events[-5:]:
            row = self._history.decided(fired.trigger, event)
            if row is not None:
                clause: Mapping[str, str] | None = row["clause"]
                return Why(outcome=row["outcome"], reason=row["reason"], clause=clause)
        return Why(
            outcome="none", reason="no decision of this trigger about the event is kept: it was filtered, or never made"
        )
