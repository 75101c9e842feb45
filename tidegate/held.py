"""Held triggers going on: what a paused trigger held is judged by the rules in force, and its runs start.

In flow `paused` decisions, oldest first, a bounded batch per transaction; out flow the decisions, run keys, trigger
events and runs that follow, written in the very transaction that takes the `paused` decisions away: each held event
is judged exactly once, whatever dies in between. While a backlog is worked off its trigger goes on holding what
arrives, and the transaction that finds nothing more lets the trigger go, so that held events come before later ones.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sensors.clock import Clock
from sensors.ports import Unavailable
from sensors.uid import DECISION
from sensors.w3c import new_root
from tidegate.absorb import Facts, MintRoot, Sheet, follow, tell_judged
from tidegate.failpoints import FailPoint, pass_by
from tidegate.rules import Rules, RulesInForce
from tidegate.runs import OwnEvents
from tidegate.store.records import CountKey, HeldEvent
from tidegate.store.tx import Store, Tx
from triggers.decision import Clause, Decision, Outcome
from triggers.evaluator import RuleSet

BATCH = 500
_LAST = 2.0  # seconds that a batch in hand has when the service stops
_AGAIN = 1.0  # seconds until a store that was away is asked again
_log = logging.getLogger("tidegate.held")


@dataclass(frozen=True, slots=True)
class Released:
    """The answer to one ask: how many held events were judged, whether the trigger goes on now, and the facts."""

    judged: int
    done: bool
    facts: Facts


class ReleaseHeld:
    """The write that judges the oldest events that a trigger holds. Items are names of triggers."""

    name = "release_held"

    def __init__(
        self,
        rules: RulesInForce,
        shard: str,
        fail_point: FailPoint = pass_by,
        mint_root: MintRoot = new_root,
        own: OwnEvents | None = None,
        batch: int = BATCH,
    ) -> None:
        self._rules = rules
        self._own = own
        self._shard = shard
        self._fail_point = fail_point
        self._mint_root = mint_root
        self._batch = batch
        self._alone: tuple[Rules, dict[str, RuleSet]] | None = None

    def __call__(self, tx: Tx, items: Sequence[str]) -> Sequence[Released]:
        """Release one batch per trigger of the group."""
        return [self._release(tx, item) for item in items]

    def _release(self, tx: Tx, trigger: str) -> Released:
        rules = self._rules.current
        facts = Facts()
        alone = self._rule_alone(rules, trigger)
        if alone is None:  # the trigger is gone or disabled: what it holds waits for it
            return Released(0, done=True, facts=facts)
        held = tx.held(trigger, self._batch)
        if not held:
            self._rules.let_go(trigger)
            return Released(0, done=True, facts=facts)
        self._judge(tx, rules, alone, trigger, held, facts)
        return Released(len(held), done=False, facts=facts)

    def _judge(
        self, tx: Tx, rules: Rules, alone: RuleSet, trigger: str, held: Sequence[HeldEvent], facts: Facts
    ) -> None:
        sheet = Sheet(tx, rules, facts, self._fail_point, self._mint_root)
        stored = [item.stored for item in held if item.stored is not None]
        spans = {item.event.uid: item.span for item in stored if item.span is not None}
        facts.known = spans
        plan = alone.plan([item.event for item in stored], sheet.now, {}, sheet.uid)
        counts: dict[CountKey, int] = {key: n for key, n in plan.counts.items() if key[0] == "trigger"}
        decisions = [*plan.decisions, *follow(sheet, alone, plan, spans, counts)]
        decided = {uid for decision in decisions for uid in decision.events} | {offer.event for offer in plan.offers}
        decided |= {one.event.uid for one in plan.passes}
        version = alone.rules[trigger].trigger.version
        for item in held:
            if item.event not in decided:
                decisions.append(_closing(item, sheet, trigger, version))
        for decision in decisions:
            if decision.outcome is Outcome.FILTERED and decision.item is None:
                # The event was counted as matched when it was held, so that nothing else counts it as filtered.
                key = ("trigger", trigger, Outcome.FILTERED.value)
                counts[key] = counts.get(key, 0) + 1
        tx.close_decisions([item.decision for item in held])
        tx.insert_decisions(decisions)
        facts.decisions.extend(decisions)
        if rules.alerts.active:
            tell_judged(sheet, counts, decisions)
        self._fail_point("ingest.decided")
        if counts:
            tx.add_counts(self._shard, counts)
        if self._own is not None:
            self._own.tell(tx, facts)

    def _rule_alone(self, rules: Rules, trigger: str) -> RuleSet | None:
        """Return a rule set of this trigger only: others have judged these events already."""
        if self._alone is None or self._alone[0].rules is not rules.rules:
            self._alone = (rules, {})
        found = self._alone[1]
        if trigger not in found:
            rule = rules.rules.rules.get(trigger)
            if rule is None:
                return None
            found[trigger] = RuleSet(
                {trigger: rule.trigger}, config_hash=rules.config_hash, concurrency=rules.concurrency
            )
        return found[trigger]


def _closing(item: HeldEvent, sheet: Sheet, trigger: str, version: str) -> Decision:
    """Close a held event about which the rules in force say nothing more."""
    gone = item.stored is None
    return Decision(
        uid=sheet.uid(DECISION),
        trigger=trigger,
        version=version,
        events=(item.event,),
        outcome=Outcome.ERROR if gone else Outcome.FILTERED,
        at=sheet.now,
        reason="the held event is gone"
        if gone
        else "held while the trigger was paused; the rules in force now do not let it through",
        clause=Clause(
            "paused", "hold", "an event that matches when the trigger goes on", "gone" if gone else "filtered"
        ),
        sampled=not gone,
    )


class Releases:
    """Works off what triggers hold, one task per trigger, beside everything else."""

    def __init__(
        self,
        store: Store,
        rules: RulesInForce,
        release: ReleaseHeld,
        on_facts: Callable[[Facts], None],
        clock: Clock,
    ) -> None:
        self._store = store
        self._rules = rules
        self._release = release
        self._on_facts = on_facts
        self._clock = clock
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._stopping = False

    async def start(self) -> None:
        """Go on with what triggers hold that are not paused (any more)."""
        holding = await self._store.read(lambda reader: reader.held_triggers())
        current = self._rules.current
        self.release(name for name in holding if name in current.rules.rules and name not in current.paused)

    def release(self, triggers: Iterable[str]) -> None:
        """Let triggers go on: they hold what arrives until what they held before is judged."""
        for name in triggers:
            self._rules.hold_until_released(name)
            if name not in self._under_way:
                task = asyncio.create_task(self._work_off(name), name=f"release {name}")
                self._under_way[name] = task
                task.add_done_callback(lambda done, name=name: self._ended(name, done))  # type: ignore[misc]

    async def settled(self) -> None:
        """Wait until nothing is being worked off."""
        while self._under_way:
            await asyncio.wait(list(self._under_way.values()))

    async def stop(self) -> None:
        """Stop after the batch in hand; the rest is found at the next start."""
        self._stopping = True
        if self._under_way:
            _, late = await asyncio.wait(list(self._under_way.values()), timeout=_LAST)
            for task in late:
                task.cancel()

    async def _work_off(self, trigger: str) -> None:
        judged = 0
        while self._rules.releasing(trigger) and not self._stopping:
            try:
                answer = await self._store.submit(self._release, trigger)
            except Unavailable as error:
                await self._clock.sleep(max(_AGAIN, error.retry_after))
                continue
            judged += answer.judged
            self._on_facts(answer.facts)
            if answer.done:
                break
        if judged:
            _log.info("trigger %s goes on: %d held events were judged", trigger, judged, extra={"action": "released"})

    def _ended(self, name: str, task: "asyncio.Task[None]") -> None:
        self._under_way.pop(name, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._rules.let_go(name)  # what comes now is judged; what could not be stays, for everybody to see
            _log.error(
                "what trigger %s holds could not be judged and stays held: %s",
                name,
                error,
                exc_info=error,
                extra={"action": "release_failed"},
            )
        elif self._rules.releasing(name) and name in self._rules.current.rules.rules and not self._stopping:
            self.release([name])  # asked for again, when the last look of this task had been taken already
