"""Passing: events go through the stages of their triggers' flow control; out flows all that a transaction has to write.

In flow events that matched, and looks of timers; each sees what the ones before it did, as if every one had been a
transaction of its own. The stages are worked off one after the other, each with the locked rounds of all its keys, so
every transaction takes locks in the same order. Events that wait stand in queues behind a port; everything else is
pure. Out flow the rounds that changed, decisions, open decisions to write anew or to close, timers, intents of events
that went on alone, and firings of those that gathered.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sensors import uid as uids
from sensors.event import Event
from triggers.activation import Activation
from triggers.calendar import told
from triggers.control import Over
from triggers.control_rule import WHOLE, CompiledControl, Pass
from triggers.decision import Clause, Decision, Outcome
from triggers.errors import EvaluationError, Unreadable
from triggers.gather import Firing, Waiting
from triggers.intents import intent_of
from triggers.passed import Notes, Passed, Queues
from triggers.round import Occurrence, Phase, Round, RoundName, Verdict, forget
from triggers.rule import CompiledRule, Objection
from triggers.stage import Fate, Out, Place, Then, waiting
from triggers.trigger import Trigger
from triggers.view import EventView
from triggers.wish import Wish

ORDER = (Place.THROTTLE, Place.ACTIVE, Place.BATCH, Place.DEBOUNCE)
GATES = (Place.THROTTLE, Place.ACTIVE)
GONE = "the trigger is gone, disabled, or waits for something else now; what had waited for it is given up"
CHANGED = "what had gathered goes at once: the rule of the trigger has changed"
LOST = "the event that waited is not kept any more"
_ALL = 1_000_000


@dataclass(frozen=True, slots=True)
class _Going:
    """An event on its way to the stages of `keys`, at the moment at which it comes to the next of them."""

    rule: CompiledRule
    event: Event
    at: int
    keys: Mapping[Place, str]

    def name(self, place: Place) -> RoundName:
        """Return the round that it meets at a place."""
        return RoundName(self.rule.trigger.name, f"{place}/{self.keys[place]}")


class Passing:
    """Takes the events of one transaction through the stages.

    `rules` are the compiled triggers by name; `uid` makes a uid of a prefix; `keeps_error` says whether one more
    `error` decision of a trigger about an event is kept. Call `names` and `work` for each place of `ORDER`, then
    `passed`.
    """

    def __init__(
        self,
        rules: Mapping[str, CompiledRule],
        queues: Queues,
        *,
        now: int,
        uid: Callable[[str], str],
        keeps_error: Callable[[str, str, int], bool] = lambda _trigger, _event, _at: True,
    ) -> None:
        self._rules = rules
        self._queues = queues
        self._now = now
        self._uid = uid
        self._notes = Notes(now, uid, keeps_error)
        self._going: list[_Going] = []
        self._rounds: dict[RoundName, Round] = {}
        self._before: dict[RoundName, Round] = {}
        self._rung: set[RoundName] = set()
        self._added: dict[str, list[str]] = {}  # events by the opening that they joined
        self._removed: dict[str, list[str]] = {}  # and those that joined it before, and left it for newer ones

    def enter(self, passes: Sequence[Pass]) -> None:
        """Let events enter the first stage of their triggers."""
        self._going += [_Going(self._rules[one.trigger], one.event, one.event.received_at, one.keys) for one in passes]

    def names(self, place: Place) -> list[RoundName]:
        """Return the rounds that `work` needs at a place, sorted, each once."""
        return sorted({one.name(place) for one in self._going if place in one.keys and not _forgetful(one.rule, place)})

    def work(self, place: Place, rounds: Mapping[RoundName, Round]) -> None:
        """Let all that is on its way come to a place; events that do not stop there go on in their order."""
        self._know(rounds)
        going, self._going = self._going, []
        for one in going:
            if place in one.keys:
                self._come(place, one)
            else:
                self._going.append(one)

    def ring(self, name: RoundName, uid: str, rounds: Mapping[RoundName, Round]) -> None:
        """Look at a round whose timer rang, before any place is worked; one that is over already is left alone."""
        self._know(rounds)
        state = self._rounds.get(name)
        if state is None or state.uid != uid or state.phase is not Phase.OPEN:
            return
        self._rung.add(name)
        place, rule = place_of(name), self._rules.get(name.trigger)
        if rule is None or rule.pattern is not None:
            self._give_up(name, state, rule)
        elif rule.control is None or place not in rule.control.machines:
            self._let_all_go(name, state, rule)
        elif rule.control.changed(place, state):
            self._rounds[name] = forget(state)
            self._fire(rule, name, _everything(state))
        else:
            move = rule.control.look(place, state, self._now)
            self._rounds[name] = move.round
            self._leave(rule, name, move.before, self._now)

    def passed(self) -> Passed:
        """Return all that is to be written, when every place has been worked."""
        out = self._notes.out
        for one in self._going:
            self._alone(one)
        self._going = []
        for name in sorted(self._rounds):
            before, after = self._before[name], self._rounds[name]
            if after == before and name not in self._rung and after.phase is not Phase.NEW:
                continue
            out.rounds.append(after)
            out.before[name] = before
            was_open, gathers = before.phase is Phase.OPEN, place_of(name) not in GATES
            same = was_open and after.phase is Phase.OPEN and after.uid == before.uid
            if was_open and not same:
                out.ended.append(before.uid)
                if gathers:
                    out.closed.append(before.uid)
            if after.phase is Phase.OPEN:
                if not same or after.due < before.due or name in self._rung:
                    out.timers.append(after)
                if gathers and after != before:
                    self._tell(before if same else None, after)
        return out

    # -- stages -------------------------------------------------------------------------------------------------------
    def _know(self, rounds: Mapping[RoundName, Round]) -> None:
        for name, state in rounds.items():
            self._rounds.setdefault(name, state)
            self._before.setdefault(name, state)

    def _come(self, place: Place, one: _Going) -> None:
        rule, event, name = one.rule, one.event, one.name(place)
        control = _control(rule)
        state = self._rounds.get(name, Round(name=name))
        if control.changed(place, state):
            self._fire(rule, name, _everything(state))
            state = forget(state)
        move = control.take(place, state, len(event.data or b""), one.at, self._round_uid)
        if not _forgetful(rule, place):
            self._rounds[name] = move.round
        self._leave(rule, name, move.before, one.at)
        if move.fate is Fate.GOES:
            self._going.append(one)
        elif move.fate is Fate.STOPPED:
            outcome = Outcome.THROTTLED if place is Place.THROTTLE else Outcome.OUT_OF_WINDOW
            clause = control.clause(place, move.reason)
            self._notes.decide(rule.trigger, outcome, event.uid, move.reason, clause=clause, details=_key(name))
        elif place in GATES:
            self._hold(place, one, move.round, move.reason)
        else:
            self._notes.count(rule.trigger.name, Outcome.BUFFERED)
            if not move.after:  # else it has joined and left
                self._added.setdefault(move.round.uid, []).append(event.uid)
            self._join(one, name, f"{_ALL if move.after else move.round.taken:012}")
            self._leave(rule, name, move.after, one.at)

    def _hold(self, place: Place, one: _Going, state: Round, reason: str) -> None:
        """Let an event join the line before a gate; a decision of its own says so until it goes on."""
        details = {**_key(state.name), "until": told(state.due, "UTC"), "ahead": waiting(state) - 1}
        clause = _control(one.rule).clause(place, reason)
        uid = one.event.uid
        decision = self._notes.decide(one.rule.trigger, Outcome.HELD, uid, reason, clause=clause, details=details)
        self._join(one, state.name, f"{state.taken:012}/{decision}")

    def _join(self, one: _Going, name: RoundName, part: str) -> None:
        self._queues.push(name, Occurrence(part=part, event=one.event.uid, at=one.at, depth=one.event.depth))

    def _leave(self, rule: CompiledRule, name: RoundName, outs: Sequence[Out], at: int) -> None:
        for out in outs:
            if out.then is Then.GO:
                self._go_on(rule, name, out.n, at)
            elif out.then is Then.FIRE:
                self._fire(rule, name, out)
            else:
                self._yield(rule, name, out)

    def _go_on(self, rule: CompiledRule, name: RoundName, n: int, at: int) -> None:
        """Let events that waited go on, each to the stages after this one, by the rule as it is now."""
        place = place_of(name)
        passed = ORDER[: ORDER.index(place) + 1]
        for one, event in self._queues.pull(name, n):
            self._notes.close(one.part.partition("/")[2])
            if event is None:
                self._notes.decide(rule.trigger, Outcome.ERROR, one.event, LOST, details=_key(name))
                continue
            keys: Mapping[Place, str] | Objection = {}
            try:
                if rule.control is not None:
                    keys = rule.control.keys(_activation(rule, EventView(event, self._now)))
            except Unreadable as error:
                keys = Objection(Clause(f"{place}.by", "", "a value", str(error)), str(error), error=True)
            if isinstance(keys, Objection):
                self._notes.object(rule.trigger, event, keys)
                continue
            later = {} if place not in GATES else {stage: key for stage, key in keys.items() if stage not in passed}
            self._going.append(_Going(rule, event, at, later))

    def _let_all_go(self, name: RoundName, state: Round, rule: CompiledRule) -> None:
        """End a round whose stage the trigger does not have any more: nothing of it is lost."""
        self._rounds[name] = forget(state)
        if place_of(name) not in GATES and rule.control is not None and rule.control.gathers is not None:
            self._fire(rule, name, _everything(state))
        else:
            self._go_on(rule, name, _ALL, self._now)

    def _give_up(self, name: RoundName, state: Round, rule: CompiledRule | None) -> None:
        """End a round of a trigger that is gone."""
        self._rounds[name] = forget(state)
        trigger = Trigger(name=name.trigger, on=(), runs=(), version=state.version) if rule is None else rule.trigger
        for one in self._queues.pull_names(name, _ALL):
            self._notes.close(one.part.partition("/")[2])
            self._notes.decide(trigger, Outcome.ERROR, one.event, GONE, details=_key(name))

    def _fire(self, rule: CompiledRule, name: RoundName, out: Out) -> None:
        """Let what has gathered go into one run (or several, if there are so many rules)."""
        held = self._queues.pull_names(name, out.n)
        if not held:
            return
        verdict = Verdict(
            outcome=Outcome.FIRED,
            events=tuple(dict.fromkeys(one.event for one in held)),
            reason=out.reason,
            round=out.opening,
            whole=True,
            fires=True,
            held=tuple(held),
            since=out.since,
            due=out.due,
            depth=max(one.depth for one in held),
        )
        self._notes.out.firings.append(Firing(rule, RoundName(name.trigger, raw_key(name)), verdict, overdue=False))

    def _yield(self, rule: CompiledRule, name: RoundName, out: Out) -> None:
        """Let events leave for a newer one that counts instead."""
        opening = self._rounds[name].uid
        clause = Clause(f"{place_of(name)}.keep", "latest", "the newest event of its key", "a newer one came")
        for one in self._queues.pull_names(name, out.n):
            self._notes.decide(
                rule.trigger, Outcome.COALESCED, one.event, out.reason, clause=clause, details=_key(name)
            )
            if one.event in self._added.get(opening, ()):
                self._added[opening].remove(one.event)
            else:
                self._removed.setdefault(opening, []).append(one.event)

    def _alone(self, one: _Going) -> None:
        """Render the runs of an event that has passed all stages and gathers with no other."""
        rule, event = one.rule, one.event
        try:
            for answer in rule.ask(_activation(rule, EventView(event, self._now))):
                if isinstance(answer, Wish):
                    self._notes.out.intents.append(intent_of(event, rule.trigger, answer, self._uid))
                else:
                    self._notes.object(rule.trigger, event, answer)
        except EvaluationError as error:  # Unreadable: content that came to an end since
            clause = Clause("run", "", "a value", str(error))
            self._notes.object(rule.trigger, event, Objection(clause, str(error), error=True))

    def _tell(self, before: Round | None, after: Round) -> None:
        """Write the open decision of a batch or debounce anew: what it holds, until when."""
        added = tuple(self._added.get(after.uid, ()))
        holds = {"until": told(after.due, "UTC"), "events": after.taken, "bytes": after.counted}
        decision = Decision(
            uid=after.uid,
            trigger=after.name.trigger,
            version=after.version,
            events=added,
            outcome=Outcome.BUFFERED,
            at=self._now,
            reason=_control(self._rules[after.name.trigger]).waiting(place_of(after.name), after),
            details={**_key(after.name), **holds},
        )
        removed = tuple(self._removed.get(after.uid, ()))
        first = after.taken - len(added)  # above all that joined before
        self._notes.out.waiting.append(Waiting(decision, added, removed, first, new=before is None))

    def _round_uid(self) -> str:
        return self._uid(uids.DECISION)


def place_of(name: RoundName) -> Place:
    """Return the stage of a round."""
    return Place(name.key.partition("/")[0])


def raw_key(name: RoundName) -> str:
    """Return the key of a round as the trigger names it."""
    return name.key.partition("/")[2]


def _key(name: RoundName) -> dict[str, str]:
    key = raw_key(name)
    return {} if key == WHOLE else {"key": key}


def _everything(state: Round) -> Out:
    return Out(Then.FIRE, _ALL, CHANGED, state.uid, state.since, state.due)


def _forgetful(rule: CompiledRule, place: Place) -> bool:
    """Say whether a stage needs no round: windows outside of which events are dropped hold nothing."""
    hours = None if rule.control is None else rule.control.control.active
    return place is Place.ACTIVE and hours is not None and hours.outside is Over.DROP


def _control(rule: CompiledRule) -> CompiledControl:
    if rule.control is None:
        raise ValueError(f"trigger {rule.trigger.name} controls nothing")
    return rule.control


def _activation(rule: CompiledRule, view: EventView) -> Activation:
    shared = view.activation(rule.names)
    return shared.extended(rule.constants) if rule.constants else shared
