"""The evaluator: a compiled set of triggers turns events into a plan. Pure but for remembering which samples were kept.

In flow events and the moment; out flows what to do about them. Events are judged in order and each by the triggers in
their configured order. An event that cannot be read truthfully is judged by none: it is `dead`, whatever some
triggers could have made of it. A filtered decision costs nothing: how many there were follows from `candidates`,
`matched` and `dead` (`triggers.counting`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from sensors import uid as uids
from sensors.event import MAX_DEPTH, Event
from triggers.check import check_triggers
from triggers.control_rule import Pass, Stopped
from triggers.counting import CANDIDATES
from triggers.decision import Clause, Decision, Outcome
from triggers.errors import RuleError, Unreadable
from triggers.group import Candidates, SensorRules, group_by_sensor
from triggers.intents import intent_of
from triggers.plan import CountKey, Intent, Plan
from triggers.round import Offer
from triggers.rule import Answer, CompiledRule, Objection, Wish, compile_rule
from triggers.sampling import Kind, Sampler
from triggers.sieve import Sieve
from triggers.tell import deciding_clause
from triggers.trigger import Paused, Trigger
from triggers.view import EventView

__all__ = ["Intent", "Plan", "RuleErrors", "RuleSet"]

_DEAD_SAMPLES = 3
_LOOKS = 2


class RuleErrors(RuleError):
    """Rules that cannot be used: `errors` are all of them."""

    def __init__(self, errors: Sequence[RuleError]) -> None:
        super().__init__("\n".join(f"trigger {error.trigger}: {error.path}: {error}" for error in errors))
        self.errors = tuple(errors)


class RuleSet:
    """Compiled triggers. Made once per configuration; `plan` belongs to one thread at a time, `wants` to any.

    `concurrency` maps pipelines to how many runs each may have at once. Raises RuleErrors with every problem.
    """

    def __init__(
        self,
        triggers: Mapping[str, Trigger],
        *,
        config_hash: str,
        concurrency: Mapping[str, int],
        sampler: Sampler | None = None,
    ) -> None:
        rules: list[CompiledRule] = []
        errors: list[RuleError] = []
        for trigger in triggers.values():
            if trigger.enabled:
                rule, problems = compile_rule(trigger)
                errors += problems
                if rule is not None:
                    rules.append(rule)
        if errors:
            raise RuleErrors(errors)
        self.config_hash = config_hash
        self.rules: Mapping[str, CompiledRule] = {rule.trigger.name: rule for rule in rules}
        self.watched = frozenset(rule.pattern.watches for rule in rules if rule.pattern and rule.pattern.watches)
        self._concurrency = dict(concurrency)
        self.groups = group_by_sensor(rules)
        self._sampler = sampler if sampler is not None else Sampler()

    @staticmethod
    def check(
        triggers: Mapping[str, Trigger],
        sensors: Mapping[str, Sequence[str] | None],
        pipelines: Mapping[str, Sequence[str] | None],
    ) -> list[RuleError]:
        """Return every problem at once.

        `sensors` maps names to the types that they emit (None: any), `pipelines` to the names of their parameters
        (None: any). Each error names its `trigger`; its `path` is inside that trigger (`on.sensor`, `when`,
        `run[1].key`).
        """
        return check_triggers(triggers, sensors, pipelines)

    def wants(self, sensor: str, type: str, subject: str | None) -> bool:
        """Return False only when no trigger could match such an event."""
        group = self.groups.get(sensor)
        return group is not None and group.wants(type, subject)

    def sieve(self, sensor: str) -> Sieve:
        """Return the filters of a sensor's triggers, for records of which no event was made yet."""
        return Sieve(self.groups.get(sensor), self.config_hash)

    def keeps_error(self, trigger: str, event: str, at: int) -> bool:
        """Say whether one more `error` decision of a pattern about an event is kept; they are counted in any case."""
        return self._sampler.grant(Kind.ERROR, trigger, trigger, "pattern", event, at)

    def plan(self, events: Sequence[Event], now: int, paused: Mapping[str, Paused], uid: Callable[[str], str]) -> Plan:
        """Judge events in order.

        `now` is UTC microseconds and what `now` means in expressions; `paused` names the triggers that are paused and
        how; `uid` makes a uid of a prefix. Never raises for what an event holds.
        """
        planning: _Planning | None = None
        for event in events:
            group = self.groups.get(event.sensor)
            if group is None:
                continue
            candidates = group.candidates(event.type)
            if not candidates.size:
                continue
            if planning is None:
                planning = _Planning(self.config_hash, now, paused, uid, self._sampler)
            planning.judge(event, group, candidates)
        if planning is None:
            return Plan(config_hash=self.config_hash)
        return planning.plan(self._concurrency)


class _Planning:
    """Collects one plan."""

    __slots__ = (
        "_config_hash",
        "_counts",
        "_dead",
        "_decisions",
        "_group",
        "_intents",
        "_now",
        "_offers",
        "_passes",
        "_paused",
        "_pending",
        "_sampler",
        "_uid",
    )

    def __init__(
        self, config_hash: str, now: int, paused: Mapping[str, Paused], uid: Callable[[str], str], sampler: Sampler
    ) -> None:
        self._config_hash = config_hash
        self._now = now
        self._paused = paused
        self._uid = uid
        self._sampler = sampler
        self._group = ""  # whose places samples of the event under judgement take
        self._intents: list[Intent] = []
        self._offers: list[Offer] = []
        self._passes: list[Pass] = []
        self._decisions: list[Decision] = []
        self._counts: dict[CountKey, int] = {}
        self._pending: list[CountKey] = []  # counts of the event under judgement
        self._dead: list[tuple[str, str]] = []

    def plan(self, concurrency: Mapping[str, int]) -> Plan:
        """Return what was collected."""
        return Plan(
            config_hash=self._config_hash,
            intents=self._intents,
            offers=self._offers,
            passes=self._passes,
            decisions=self._decisions,
            counts=self._counts,
            dead=self._dead,
            concurrency=concurrency,
        )

    def judge(self, event: Event, group: SensorRules, candidates: Candidates) -> None:
        """Judge one event by its candidates; nothing remains of it but its death if it turns out to be unreadable."""
        intents, decisions, offers = len(self._intents), len(self._decisions), len(self._offers)
        passes = len(self._passes)
        self._group = candidates.name
        view = EventView(event, self._now)
        try:
            view.check()
            matched = candidates.match(view)
            if matched:
                shared = view.activation(group.names)
                for position in matched:
                    rule = group.rules[position]
                    activation = shared.extended(rule.constants) if rule.constants else shared
                    objection = rule.objects(activation)
                    if objection is None:
                        self._let_through(event, rule, rule.answers(view, activation))
                    elif objection.error:
                        self._count("matched", rule.trigger.name, self._config_hash)
                        self._error(event, rule.trigger, objection)
                    else:
                        self._filtered(event, rule.trigger, objection)
            if len(matched) < candidates.size and self._sampler.open(Kind.FILTERED, self._group, event.received_at):
                self._look_at_unmatched(view, group, candidates, matched)
        except Unreadable as error:
            del self._intents[intents:], self._decisions[decisions:], self._offers[offers:], self._passes[passes:]
            self._pending.clear()
            self._bury(event, group, candidates, str(error))
        self._count(CANDIDATES, candidates.name, self._config_hash)
        counts = self._counts
        for key in self._pending:
            counts[key] = counts.get(key, 0) + 1
        self._pending.clear()

    def _let_through(self, event: Event, rule: CompiledRule, answers: Iterator[Answer]) -> None:
        trigger = rule.trigger
        name = trigger.name
        pause = self._paused.get(name)
        if pause is Paused.DROP:
            clause = Clause("paused", "drop", "a trigger that is not paused", "paused")
            self._filtered(event, trigger, Objection(clause, "the trigger is paused", error=False))
            return
        if event.depth >= MAX_DEPTH:
            self._count("matched", name, self._config_hash)
            clause = Clause("on", f"depth < {MAX_DEPTH}", f"fewer than {MAX_DEPTH} runs in the chain", str(event.depth))
            reason = f"the chain of runs that led to this event is {event.depth} long, {MAX_DEPTH} are allowed: a loop?"
            self._error(event, trigger, Objection(clause, reason, error=True))
            return
        if pause is Paused.HOLD:
            self._count("matched", name, self._config_hash)
            self._count("trigger", name, Outcome.PAUSED.value)
            clause = Clause("paused", "hold", "a trigger that is not paused", "paused")
            self._decide(event, trigger, Outcome.PAUSED, "held until the trigger goes on", clause=clause)
            return
        silent = True
        for answer in answers:
            if isinstance(answer, Wish):
                silent = False
                self._intents.append(intent_of(event, trigger, answer, self._uid))
            elif isinstance(answer, Offer):
                silent = silent and answer.quiet
                self._offers.append(answer)
            elif isinstance(answer, Pass):
                silent = False
                self._passes.append(answer)
            elif isinstance(answer, Stopped):
                silent = False
                self._stopped(event, trigger, answer)
            elif answer.error:
                silent = False
                self._error(event, trigger, answer)
            elif answer.item is not None:
                silent = False
                self._count("trigger", name, Outcome.FILTERED.value)
                self._filtered(event, trigger, answer)
            else:
                self._filtered(event, trigger, answer)
        if not silent:
            self._count("matched", name, self._config_hash)

    # -- decisions ------------------------------------------------------------------------------------------------
    def _error(self, event: Event, trigger: Trigger, objection: Objection) -> None:
        self._count("trigger", trigger.name, Outcome.ERROR.value)
        clause = objection.clause
        if self._sampler.grant(Kind.ERROR, self._group, trigger.name, clause.path, event.uid, event.received_at):
            self._decide(event, trigger, Outcome.ERROR, objection.reason, clause=clause, item=objection.item)

    def _filtered(self, event: Event, trigger: Trigger, objection: Objection) -> None:
        clause = objection.clause
        if self._sampler.grant(Kind.FILTERED, self._group, trigger.name, clause.path, event.uid, event.received_at):
            reason = objection.reason
            self._decide(event, trigger, Outcome.FILTERED, reason, clause=clause, item=objection.item, sampled=True)

    def _stopped(self, event: Event, trigger: Trigger, stopped: Stopped) -> None:
        """Note an event that goes no further; like those that are filtered it can be judged again at any time."""
        self._count("trigger", trigger.name, stopped.outcome.value)
        clause = stopped.clause
        if self._sampler.grant(Kind.FILTERED, self._group, trigger.name, clause.path, event.uid, event.received_at):
            self._decide(event, trigger, stopped.outcome, stopped.reason, clause=clause, sampled=True)

    def _look_at_unmatched(
        self, view: EventView, group: SensorRules, candidates: Candidates, matched: Sequence[int]
    ) -> None:
        """Keep a few samples of why filters did not let an event through, each trigger of the group in its turn."""
        for _ in range(min(_LOOKS, candidates.size)):
            position = candidates.positions[self._sampler.next_turn(candidates.name, candidates.size)]
            if position in matched:
                continue
            rule = group.rules[position]
            self._sampler.spend(Kind.FILTERED, candidates.name)
            clause = deciding_clause(rule, view)
            if clause is not None:
                reason = f"the filter does not match: {clause.path}"
                self._filtered(view.event, rule.trigger, Objection(clause, reason, error=False))

    def _bury(self, event: Event, group: SensorRules, candidates: Candidates, reason: str) -> None:
        self._dead.append((event.uid, reason))
        self._count("dead", candidates.name, self._config_hash)
        for position in candidates.positions[:_DEAD_SAMPLES]:
            trigger = group.rules[position].trigger
            if self._sampler.grant(Kind.ERROR, self._group, trigger.name, "on", event.uid, event.received_at):
                clause = Clause("on", "", "an event that can be read truthfully", reason)
                self._decide(
                    event, trigger, Outcome.ERROR, f"{reason}; the event is in the dead letters", clause=clause
                )

    def _decide(
        self,
        event: Event,
        trigger: Trigger,
        outcome: Outcome,
        reason: str,
        *,
        clause: Clause,
        item: int | None = None,
        sampled: bool = False,
    ) -> None:
        self._decisions.append(
            Decision(
                uid=self._uid(uids.DECISION),
                trigger=trigger.name,
                version=trigger.version,
                events=(event.uid,),
                outcome=outcome,
                at=self._now,
                reason=reason,
                clause=clause,
                item=item,
                sampled=sampled,
            )
        )

    def _count(self, kind: str, name: str, outcome: str) -> None:
        self._pending.append((kind, name, outcome))
