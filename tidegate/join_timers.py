"""What time does to keys that wait: deadlines, ticks of calendars, silences. Handlers of durable timers.

In flow timers that are due, inside the transaction that takes them; out flows what follows, written in it. A key that
another transaction works on is looked at a moment later, never waited for: this transaction holds the timer, that one
the key. While a trigger is paused its deadlines wait for it, and the clocks of its silences stand still.
"""

from collections.abc import Callable, Sequence

from sensors.uid import DECISION
from sensors.w3c import new_root
from tidegate.absorb import Facts, MintRoot, Sheet, settle
from tidegate.failpoints import FailPoint, pass_by
from tidegate.joins import KIND, PAUSED, SECOND, TRIES, Met, meet, name_of, put_off, timer_of
from tidegate.rules import Rules, RulesInForce
from tidegate.runs import OwnEvents
from tidegate.store.records import Timer
from tidegate.store.tx import Tx
from tidegate.watched import SensorWatch
from triggers.absence import Silence, armed
from triggers.calendar import next_tick, ticks, told
from triggers.decision import Clause, Decision, Outcome
from triggers.errors import EvaluationError
from triggers.gather import Gathering
from triggers.pattern import Join
from triggers.pattern_rule import EVERYTHING, CompiledPattern
from triggers.round import Phase, RoundName

OPENS = "join_open"  # timers of calendars: one per trigger
_OPENED = "joins/opened/"  # settings: the last tick that a calendar has opened, with the meaning of its pattern
_TICKS = 100  # that one transaction opens, of those that were missed


class JoinTimers:
    """Handlers of both kinds of timers; each returns what it made durable."""

    def __init__(
        self,
        rules: RulesInForce,
        shard: str,
        own: OwnEvents,
        watch: SensorWatch,
        fail_point: FailPoint = pass_by,
        mint_root: MintRoot = new_root,
    ) -> None:
        self._rules = rules
        self._shard = shard
        self._own = own
        self._watch = watch
        self._fail_point = fail_point
        self._mint_root = mint_root

    def ring(self, tx: Tx, timer: Timer) -> Facts | None:
        """Look at a key whose time may have come."""
        rules = self._rules.current
        name, tries = name_of(timer)
        rule = rules.rules.rules.get(name.trigger)
        pattern = None if rule is None else rule.pattern
        if name.trigger in rules.paused and pattern is not None and pattern.watches is None:
            tx.set_timers([Timer(tx.now() + PAUSED, KIND, timer.key, timer.payload)])
            return None

        def look(desk: Gathering) -> None:
            desk.ring(name, timer.key, self._heard(rules, name.trigger, pattern))

        sheet = self._sheet(tx, rules)
        met = meet(tx, rules.rules, [name], look, sheet.uid, wait=False)
        if met is not None:
            return self._conclude(sheet, met)
        if tries < TRIES:
            tx.set_timers([put_off(timer, name, tries + 1, tx.now() + SECOND)])
        return None

    def open(self, tx: Tx, timer: Timer) -> Facts | None:
        """Open the keys of a calendar whose ticks have come, and set the timer for the next."""
        rules = self._rules.current
        rule = rules.rules.rules.get(timer.key)
        pattern = None if rule is None else rule.pattern
        if pattern is None or not isinstance(pattern.pattern, Join) or pattern.pattern.opens is None:
            return None  # the calendar is gone; if it comes back it is armed anew
        now, opens = tx.now(), pattern.pattern.opens
        last = _last_tick(tx, timer.key, pattern)
        missed: list[int] = []
        facts = None
        for tick in ticks(opens.cron, pattern.pattern.timezone, last):
            if tick > now or len(missed) == _TICKS:
                break
            missed.append(tick)
        if missed:
            facts = self._open(tx, rules, timer.key, pattern, missed)
            last = missed[-1]
            tx.put_setting(_OPENED + timer.key, f"{pattern.meaning} {last}")
        due = next_tick(opens.cron, pattern.pattern.timezone, last)
        tx.set_timers([Timer(due, OPENS, timer.key)])
        return facts

    def _open(
        self, tx: Tx, rules: Rules, trigger: str, pattern: CompiledPattern, missed: Sequence[int]
    ) -> Facts | None:
        sheet = self._sheet(tx, rules)
        wanted: list[tuple[RoundName, int]] = []
        failed: list[Decision] = []
        for tick in missed:
            try:
                wanted.append((RoundName(trigger, pattern.key_at(tick)), tick))
            except EvaluationError as error:
                failed.append(_no_key(sheet, trigger, pattern, tick, error))
        if failed:
            tx.insert_decisions(failed)
            tx.add_counts(self._shard, {("trigger", trigger, Outcome.ERROR.value): len(failed)})
            sheet.facts.decisions.extend(failed)

        def let_in(desk: Gathering) -> None:
            for name, tick in wanted:
                desk.open_at(name, tick)

        met = meet(tx, rules.rules, sorted({name for name, _ in wanted}), let_in, sheet.uid)
        return None if met is None else self._conclude(sheet, met)

    def _sheet(self, tx: Tx, rules: Rules) -> Sheet:
        return Sheet(tx, rules, Facts(), self._fail_point, self._mint_root)

    def _conclude(self, sheet: Sheet, met: Met) -> Facts:
        settle(sheet, met, self._shard)
        self._own.tell(sheet.tx, sheet.facts)
        self._fail_point("join.rung")
        return sheet.facts

    def _heard(self, rules: Rules, trigger: str, pattern: CompiledPattern | None) -> Callable[[int, int], int]:
        sensor = None if pattern is None or trigger in rules.paused else pattern.watches
        if sensor is None:
            return lambda _since, _until: 0
        return lambda since, until: self._watch.heard(sensor, since, until)


def _no_key(sheet: Sheet, trigger: str, pattern: CompiledPattern, tick: int, error: EvaluationError) -> Decision:
    """Make the decision about a tick that opens nothing, because its key cannot be told."""
    text = "" if pattern.opens is None else pattern.opens.text
    reason = f"the calendar opens nothing at {told(tick, 'UTC')}: opens.key failed: {error}"
    return Decision(
        uid=sheet.uid(DECISION),
        trigger=trigger,
        version=pattern.machine.version,
        events=(),
        outcome=Outcome.ERROR,
        at=sheet.now,
        reason=reason,
        clause=Clause("join.opens.key", text, "a key", str(error)),
    )


def _last_tick(tx: Tx, trigger: str, pattern: CompiledPattern) -> int:
    """Return the last tick that was opened; of a calendar that is new, or has changed, now."""
    meaning, _, tick = tx.get_settings(_OPENED + trigger).get(_OPENED + trigger, "").partition(" ")
    return int(tick) if meaning == pattern.meaning and tick else tx.now()


class ArmPatterns:
    """The write that sets calendars going and begins silences; at every start and reload. Idempotent."""

    name = "arm_patterns"

    def __init__(self, rules: RulesInForce) -> None:
        self._rules = rules

    def __call__(self, tx: Tx, items: Sequence[None]) -> Sequence[None]:
        """Arm."""
        rules = self._rules.current
        for trigger, rule in sorted(rules.rules.rules.items()):
            pattern = rule.pattern
            if pattern is None:
                continue
            if isinstance(pattern.pattern, Join) and pattern.pattern.opens is not None:
                last = _last_tick(tx, trigger, pattern)
                tx.put_setting(_OPENED + trigger, f"{pattern.meaning} {last}")
                due = next_tick(pattern.pattern.opens.cron, pattern.pattern.timezone, last)
                tx.set_timers([Timer(due, OPENS, trigger)])
            elif pattern.silent_at_start and isinstance(pattern.machine, Silence):
                self._begin(tx, rules, RoundName(trigger, EVERYTHING), pattern, pattern.machine)
        return [None] * len(items)

    def _begin(self, tx: Tx, rules: Rules, name: RoundName, pattern: CompiledPattern, silence: Silence) -> None:
        """Begin a silence unless one is under way, or over and nothing came since."""
        sheet = Sheet(tx, rules, Facts(), pass_by, new_root)

        def begin(desk: Gathering) -> None:
            state = states[name]
            if state.phase is Phase.NEW or state.meaning != pattern.meaning:
                desk.put(armed(silence, state, sheet.now, lambda: sheet.uid(DECISION)))

        states = tx.lock_rounds([name])
        meet(tx, rules.rules, [name], begin, sheet.uid)
        state = states[name]
        if state.phase is Phase.OPEN and state.meaning == pattern.meaning:
            tx.set_timers([timer_of(state)])
