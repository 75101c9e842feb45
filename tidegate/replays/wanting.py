"""Which runs a replay wants of its next causes, inside the transaction of a step; nothing is written here.

In flow causes in order with the stored rows they name; out flow `Wanted` runs up to what the rate allows, what was
counted, and the position behind the last cause that is done with. By today's rules an event is judged again and each
run keeps the key of the run that it replays; as it was, every trigger event is repeated as a whole, with all its
causes, once. Nothing is looked up one by one: each kind of row is read for the whole page.
"""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from pipelines.errors import ParameterError
from pipelines.params import check_params
from pipelines.run import Run
from sensors.event import MAX_DEPTH, Event
from tidegate.replays.position import Position, read_position
from tidegate.replays.selecting import Cause, Page, whole_firings
from tidegate.replays.tally import Tally
from tidegate.rules import Rules
from tidegate.store.records import StoredEvent
from tidegate.store.replay_records import Replay
from tidegate.store.tx import Tx
from triggers.again import Judged, judge_again
from triggers.plan import Intent
from triggers.ports import RunKeyName
from triggers.trigger import Repeat, Trigger
from triggers.trigger_event import TriggerEvent
from triggers.wish import Wish

Item = tuple[str, str, int, int]  # (cause, trigger, rule, item): what one run of a replay stands for
_GONE = "the event is past its retention"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A run to start. `intent` lacks the uid of its trigger event; `fired` is the trigger event that is repeated."""

    stands_for: Item
    intent: Intent
    origin: Run | None = None
    fired: TriggerEvent | None = None


@dataclass(slots=True)
class Wants:
    """What a step came to. `judged` are the dead letters whose events could be judged now."""

    runs: list[Wanted] = field(default_factory=list)
    position: Position = field(default_factory=Position)
    done: bool = False
    judged: list[str] = field(default_factory=list)


def want(tx: Tx, rules: Rules, replay: Replay, page: Page, room: int, tally: Tally) -> Wants:
    """Say which runs to start of a page, at most `room` of them."""
    begun = read_position(replay.position)
    wants = Wants(position=begun)
    desk = _Firings(tx, rules, replay, tally) if replay.spec.as_was else _Judging(tx, rules, replay, tally)
    desk.read(page.causes, begun.within)
    for cause in page.causes:
        first = cause.uid != begun.within
        if first:
            tally.look()
        found = desk.look(cause, first=first)
        if len(found) > room - len(wants.runs):
            wants.runs += found[: room - len(wants.runs)]
            wants.position = Position(wants.position.after, cause.uid)
            return wants
        wants.runs += found
        wants.position = Position(cause.place)
        if cause.letter and cause.uid in desk.readable:
            wants.judged.append(cause.letter)
    wants.position = Position(page.reached)
    wants.done = page.done
    return wants


class _Desk:
    """What both ways share: what has a run already, and which runs may start."""

    def __init__(self, tx: Tx, rules: Rules, replay: Replay, tally: Tally) -> None:
        self._tx = tx
        self._rules = rules
        self._replay = replay
        self._spec = replay.spec
        self._tally = tally
        self._done: set[Item] = set()
        self.readable: set[str] = set()  # events that could be judged

    def read(self, causes: Sequence[Cause], within: str) -> None:
        """Read what the causes name, all at once."""
        raise NotImplementedError

    def look(self, cause: Cause, *, first: bool) -> list[Wanted]:
        """Return the runs that a cause is to have and has not; count what stands against others at the first look."""
        raise NotImplementedError

    def _pipeline(self, pipeline: str) -> str:
        return self._spec.pipeline or pipeline

    def _objection(self, pipeline: str, params: Mapping[str, object], partition: str | None) -> tuple[str, str]:
        """Return outcome and reason for which a run may not start; empty texts when it may."""
        if self._spec.partition is not None and partition != self._spec.partition:
            return "other_partition", f"its partition is {partition or 'none'}, not {self._spec.partition}"
        compiled = self._rules.pipelines.get(self._pipeline(pipeline))
        if compiled is None:
            return "error", f"pipeline {self._pipeline(pipeline)} is not configured any more; name another `pipeline`"
        if self._spec.as_was or self._spec.pipeline is not None:  # rules in force were checked with their own pipelines
            try:
                check_params(compiled.definition.params, params)
            except ParameterError as error:
                return "error", f"pipeline {self._pipeline(pipeline)} does not take the parameters: {error}"
        return "", ""


class _Judging(_Desk):
    """By today's rules."""

    def read(self, causes: Sequence[Cause], within: str) -> None:
        uids = [cause.uid for cause in causes]
        self._events: Mapping[str, StoredEvent] = self._tx.get_events(uids)
        self._before = self._tx.fired_by_events(uids)
        fired = [run.trigger_event for runs in self._before.values() for run in runs if run.trigger_event is not None]
        self._items = self._tx.fired_items(fired) if fired else {}
        if within:
            self._done |= self._tx.replayed(self._replay.uid, [within])

    def look(self, cause: Cause, *, first: bool) -> list[Wanted]:
        stored = self._events.get(cause.uid)
        if stored is None:
            if first:
                self._tally.add("gone", cause.uid, _GONE)
            return []
        judged = judge_again(self._rules.rules, stored.event, self._rules.paused, self._spec.trigger)
        if judged.readable:
            self.readable.add(cause.uid)
        if first:
            for refused in judged.refused:
                self._tally.add(refused.outcome, cause.uid, refused.reason, trigger=refused.trigger, item=refused.item)
        return list(self._wanted(stored.event, judged, first=first))

    def _wanted(self, event: Event, judged: Judged, *, first: bool) -> Iterable[Wanted]:
        alone = _counted((trigger.name, wish.run.rule.pipeline) for trigger, wish in judged.wishes)
        for trigger, wish in judged.wishes:
            rule = wish.run.rule
            item = (event.uid, trigger.name, wish.run.position, -1 if wish.item is None else wish.item)
            if item in self._done:
                continue
            outcome, reason = self._objection(rule.pipeline, wish.params, wish.partition)
            if outcome:
                if first:
                    self._tally.add(outcome, event.uid, reason, trigger=trigger.name, item=wish.item)
                continue
            origin = self._origin(event.uid, trigger, wish, alone=alone[trigger.name, rule.pipeline] == 1)
            yield Wanted(item, self._intent(event, trigger, wish, origin), origin)

    def _origin(self, event: str, trigger: Trigger, wish: Wish, *, alone: bool) -> Run | None:
        """Return the run that the event had by this trigger: by its key; without one by rule and element."""
        runs = [
            run
            for run in self._before.get(event, ())
            if run.trigger == trigger.name and run.pipeline == wish.run.rule.pipeline
        ]
        if wish.key is not None:
            return next((run for run in runs if run.key == wish.key), None)
        place = (wish.run.position, -1 if wish.item is None else wish.item)
        found = next((run for run in runs if self._items.get(run.trigger_event or "") == place), None)
        if found is None and alone and len(runs) == 1 and runs[0].trigger_event not in self._items:
            return runs[0]  # the decision is past its retention, and there is no other run that it could be
        return found

    def _intent(self, event: Event, trigger: Trigger, wish: Wish, origin: Run | None) -> Intent:
        rule = wish.run.rule
        scope = f"pipeline/{rule.pipeline}" if rule.key_scope == "pipeline" else f"trigger/{trigger.name}"
        key = wish.key if wish.key is not None else "" if origin is None else origin.key
        return Intent(
            trigger=trigger.name,
            version=trigger.version,
            trigger_event="",
            events=(event.uid,),
            pipeline=self._pipeline(rule.pipeline),
            key=RunKeyName(scope, self._pipeline(rule.pipeline), key),
            keyed=True,
            depth=event.depth,
            rule=wish.run.position,
            item=wish.item,
            params=wish.params,
            partition=wish.partition,
            lane=wish.lane,
            repeat=Repeat.ALWAYS,
        )


class _Firings(_Desk):
    """As it was."""

    def read(self, causes: Sequence[Cause], within: str) -> None:
        uids = [cause.uid for cause in causes]
        self._selected = frozenset(self._spec.events)
        self._of: dict[str, Sequence[str]] = {}  # cause -> trigger events
        if whole_firings(self._spec):
            self._of = {uid: (uid,) for uid in uids}
            self._forgotten: Mapping[str, Sequence[str]] = {}
            self._known: AbstractSet[str] = frozenset(uids)
        else:
            runs = self._tx.fired_by_events(uids)
            self._of = {uid: [run.trigger_event for run in mine if run.trigger_event] for uid, mine in runs.items()}
            self._forgotten = self._tx.forgotten_runs(uids)
            self._known = self._tx.get_events(uids).keys()
        wanted = list(dict.fromkeys(fired for mine in self._of.values() for fired in mine))
        self._fired = self._tx.fired_as(wanted)
        self._done |= self._tx.replayed(self._replay.uid, wanted)

    def look(self, cause: Cause, *, first: bool) -> list[Wanted]:
        found = []
        fired = list(self._of.get(cause.uid, ()))
        self.readable.add(cause.uid)
        for uid in fired:
            if uid in self._fired:
                found += self._repeat(cause.uid, *self._fired[uid], first=first)
            elif first:
                self._tally.add("forgotten", cause.uid, f"trigger event {uid} is past its retention")
        if not first:
            return found
        for run in self._forgotten.get(cause.uid, ()):
            reason = f"run {run} is past its retention: what it was started with is not known any more"
            self._tally.add("forgotten", cause.uid, f"{reason}; today's rules can still judge the event")
        if cause.uid not in self._known:
            self._tally.add("gone", cause.uid, _GONE)
        elif not fired and cause.uid not in self._forgotten:
            self._tally.add("not_fired", cause.uid, "as it was, no trigger fired on it")
        return found

    def _repeat(self, cause: str, fired: TriggerEvent, run: Run, *, first: bool) -> list[Wanted]:
        """Return the run that repeats a trigger event: one, however many of its causes are named."""
        spec = self._spec
        item = (fired.uid, fired.trigger, 0, -1)
        if item in self._done or spec.trigger not in (None, fired.trigger):
            return []
        late = self._replay.created_at if spec.until is None else spec.until
        if whole_firings(spec) and not (spec.since or 0) <= fired.at < late:
            return []
        outcome, reason = self._bar(fired, run)
        if outcome:
            if first and (whole_firings(spec) or cause == next(uid for uid in run.events if uid in self._selected)):
                self._tally.add(outcome, fired.uid, reason, trigger=fired.trigger)
            return []
        self._done.add(item)
        pipeline = self._pipeline(run.pipeline)
        intent = Intent(
            trigger=fired.trigger,
            version=fired.version,
            trigger_event="",
            events=tuple(run.events),
            pipeline=pipeline,
            key=RunKeyName(run.key_scope, pipeline, run.key),
            keyed=True,
            depth=run.depth,
            params=run.params,
            partition=run.partition,
            lane=run.lane,
            repeat=Repeat.ALWAYS,
        )
        return [Wanted(item, intent, run, fired)]

    def _bar(self, fired: TriggerEvent, run: Run) -> tuple[str, str]:
        if fired.trigger in self._rules.paused:
            return "paused", "the trigger is paused; let it go on, then replay again"
        if run.depth >= MAX_DEPTH:
            return "error", f"the chain of runs that led to it is {run.depth} long: a loop?"
        return self._objection(run.pipeline, run.params, run.partition)


def _counted(names: Iterable[tuple[str, str]]) -> dict[tuple[str, str], int]:
    counts: dict[tuple[str, str], int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return counts
