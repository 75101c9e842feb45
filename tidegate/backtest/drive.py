"""The back-test itself: two sets of rules, one past, one difference. Starts nothing, writes nothing.

In flow events in the order in which they were received, and between them the time that passes; out flows a report. Each
event is looked at by filters first, so that only what some rule lets through is made an event and judged. What is kept
is bounded, or on disk.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from sensors.event import parse_data
from tidegate.backtest.diff import Fired, Pairing, Side
from tidegate.backtest.history import History
from tidegate.backtest.memory import EventCache
from tidegate.backtest.record import RecordSide
from tidegate.backtest.rows import RowRecord
from tidegate.backtest.side import RuleSide, only, why_of
from tidegate.backtest.tally import Tally
from tidegate.backtest.values import Ask, EventRow, Report, Why
from tidegate.backtest.warmth import patience, sensors_of, waits, warmth
from tidegate.store.rows import event_of
from triggers.decision import Outcome
from triggers.quick import Quick
from triggers.rehearsal import Happened

_LOOK = 1_000  # events between two looks at the clock
Monotonic = Callable[[], float]
Progress = Callable[[int], None]  # called now and then with how many events were judged; may raise to give up


class Cancelled(Exception):
    """Nobody waits for the back-test any more."""


def backtest(
    ask: Ask, history: History, *, monotonic: Monotonic = time.monotonic, progress: Progress | None = None
) -> Report:
    """Run a back-test. Raises what the history raises, and what `progress` raises.

    Triggers that are paused are judged as if they were not; sensors count as heard all the time; a run that was started
    has ended well by the next event. So nothing but the rules makes a difference.
    """
    drive = _Drive(ask, history, monotonic, progress)
    try:
        return drive.run()
    finally:
        drive.close()


class _Drive:
    def __init__(self, ask: Ask, history: History, monotonic: Monotonic, progress: Progress | None) -> None:
        self._ask = ask
        self._history = history
        self._monotonic = monotonic
        self._progress = progress
        old, new = only(ask.old, ask.names), only(ask.new, ask.names)
        events = self._events = EventCache(history.events)
        timed = ask.baseline == "in_force"
        self._record = None if timed else RecordSide(history, ask.names, ask.since)
        self._new = RuleSide(new, "new", events, timed=timed)
        self._old = RuleSide(old, "old", events, timed=timed) if timed else None
        self._in_force: RuleSide | None = None  # where the record is the other side, made when something is asked
        self._sensors = [
            sensor
            for sensor in sensors_of(*(old.values() if timed else ()), *new.values())
            if not ask.sensors or sensor in ask.sensors
        ]
        self._warm = warmth([*(old.values() if timed else ()), *new.values()])
        self._tally = Tally(ask.names, ask.samples, self._why_not, timed=self._timed)
        self._pairing = Pairing(self._tally.tell, self._tally.alike)
        self._quick: dict[tuple[str, str], tuple[Quick | None, ...]] = {}
        self._view = RowRecord()
        self._patience = {name: max(patience(ask.old.get(name)), patience(ask.new.get(name))) for name in ask.names}

    def run(self) -> Report:
        """Go over the past."""
        ask = self._ask
        begun = self._monotonic()
        warm_from = max(0, ask.since - self._warm)
        # What is older than all that is stored did not happen: calendars and silences begin with the events.
        early = self._warm and next(self._history.rows(self._sensors, 0, ask.since), None) is not None
        for side in self._sides():
            side.rehearsal.begin(warm_from if early else ask.since)
        stopped = None
        reached = ask.until
        for number, row in enumerate(self._history.rows(self._sensors, warm_from, ask.until)):
            if number % _LOOK == 0:
                self._pairing.settle_before(row[7], self._patience.__getitem__)
                if self._progress is not None:
                    self._progress(self._tally.events)
                if self._monotonic() - begun >= ask.seconds:
                    stopped = f"it took longer than {ask.seconds:g} s"
            if self._tally.events >= ask.limit:
                stopped = f"{ask.limit:,} events were judged, the limit"
            if stopped is not None:
                reached = row[7]
                break
            self._take(row)
        self._pass_time(reached - 1)
        if self._record is not None:
            for fired in self._record.rest(reached):
                self._pairing.add("old", fired)
        self._pairing.settle()
        return self._report(reached, stopped, warm_from if self._warm else None, self._monotonic() - begun)

    def close(self) -> None:
        """Let go of what is on disk."""
        for side in (self._old, self._new, self._in_force):
            if side is not None:
                side.close()

    def _sides(self) -> list[RuleSide]:
        return [side for side in (self._old, self._new) if side is not None]

    # -- one event ----------------------------------------------------------------------------------------------------
    def _take(self, row: EventRow) -> None:
        now = row[7]
        self._pass_time(now - 1)  # what comes at the very moment of a deadline is in time
        counts = now >= self._ask.since
        if counts:
            self._tally.saw(row[1], row[4])
        if not self._may_match(row):
            return
        self._view.show(row)
        old, new = self._old, self._new
        by_old = old is not None and old.wants(self._view)
        by_new = new.wants(self._view)
        if not by_old and not by_new:
            return
        event = event_of(row)
        before = old.rehearsal.judge(event, now) if old is not None and by_old else None
        after = new.rehearsal.judge(event, now) if by_new else None
        self._compare(before, after, counts=counts)

    def _may_match(self, row: EventRow) -> bool:
        """Look at the content alone, where that tells enough. Says no only where no filter would match."""
        place = (row[1], row[4])
        looks = self._quick.get(place)
        if looks is None:
            looks = self._quick[place] = tuple(side.sieve(row[1]).quick(row[4]) for side in self._sides())
        if None in looks:
            return True
        try:
            content = parse_data(row[20], row[10])
        except (orjson.JSONDecodeError, ValueError):
            return True
        return any(look(content) for look in looks if look is not None)

    def _compare(self, before: Happened | None, after: Happened | None, *, counts: bool) -> None:
        """Bring the firings of a step together; what the other side cannot fire later either is told at once."""
        old = self._hear("old", self._old, before, counts=counts)
        new = self._hear("new", self._new, after, counts=counts)
        if not counts:
            return
        if after is not None and any(decision.outcome is Outcome.ERROR for decision in after.decisions):
            self._note_failures(before, after)
        if self._record is None and (old or new):
            settled = [one.identity for one in old if not _holds(after, one.trigger)]
            settled += [one.identity for one in new if not _holds(before, one.trigger)]
            self._pairing.settle(settled)

    def _hear(self, name: Side, side: RuleSide | None, happened: Happened | None, *, counts: bool) -> list[Fired]:
        if side is None or happened is None:
            return []
        fired = side.hear(happened)
        if not counts:
            return []
        self._tally.count(name, happened.counts)
        for one in fired:
            self._pairing.add(name, one)
        return fired

    def _note_failures(self, before: Happened | None, after: Happened) -> None:
        failed = {one.trigger for one in before.decisions if one.outcome is Outcome.ERROR} if before else set()
        for decision in after.decisions:
            if decision.outcome is Outcome.ERROR and decision.trigger not in failed:
                self._tally.fails(decision.trigger, decision.events, after.at, why_of(decision))

    # -- time ---------------------------------------------------------------------------------------------------------
    def _pass_time(self, now: int) -> None:
        for name, side in (("old", self._old), ("new", self._new)):
            if side is None:
                continue
            while (due := side.rehearsal.due(now)) is not None:
                self._hear(name, side, side.rehearsal.ring(), counts=due >= self._ask.since)  # type: ignore[arg-type]
        if self._record is not None:
            for fired in self._record.up_to(now):
                self._pairing.add("old", fired)

    # -- what is told -------------------------------------------------------------------------------------------------
    def _why_not(self, name: Side, fired: Fired) -> Why:
        if name == "old" and self._record is not None:
            return self._record.why_not(fired) or self._not_recorded(fired)
        side = self._old if name == "old" else self._new
        if side is None:
            raise AssertionError(name)
        return side.why_not(fired)

    def _not_recorded(self, fired: Fired) -> Why:
        """Say what the rule in force makes of events of which no decision is kept."""
        if self._in_force is None:
            self._in_force = RuleSide(only(self._ask.old, self._ask.names), "old", self._events, timed=False)
        why = self._in_force.explained(fired)
        if why is None:
            return Why(outcome="none", reason="no decision about the event is kept: it was filtered, or never made")
        return replace(why, reason=f"no decision is kept; by the rule in force: {why.reason}")

    def _timed(self, trigger: str) -> bool:
        return self._record is None and waits(self._ask.new.get(trigger))

    def _report(self, reached: int, stopped: str | None, warm_from: int | None, seconds: float) -> Report:
        ask = self._ask
        recorded: Mapping[str, Mapping[str, int]] = {} if self._record is None else self._record.counts
        return Report(
            baseline=ask.baseline,
            since=ask.since,
            until=ask.until,
            reached=reached,
            events=self._tally.events,
            triggers=[
                self._tally.diff(name, ask.old.get(name), ask.new.get(name), recorded.get(name, {}))
                for name in ask.names
            ],
            stopped=stopped,
            warm_from=warm_from,
            early=self._pairing.early,
            seconds=round(seconds, 3),
        )


def _holds(happened: Happened | None, trigger: str) -> bool:
    """Say whether an event of this step waits for more with a trigger."""
    if happened is None:
        return False
    decisions: Sequence[Any] = happened.decisions
    return any(decision.trigger == trigger and decision.outcome.open for decision in decisions)
