"""Keys under a changed pattern: at a reload they go on, or are given up, without waiting for somebody to touch them.

In flow the names of keys that were opened under another meaning; out flow, in one transaction for each few of them, the
rounds as they go on, decisions about what was given up, and runs where a key has all that the changed rule requires.
A key that another transaction works on is left to it: whoever touches a key settles it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sensors.w3c import new_root
from tidegate.absorb import Facts, Sheet, conclude
from tidegate.failpoints import pass_by
from tidegate.joins import meet
from tidegate.rules import RulesInForce
from tidegate.runs import OwnEvents
from tidegate.store.records import CountKey
from tidegate.store.tx import Store, Tx
from triggers.gather import Gathering
from triggers.plan import Plan
from triggers.round import RoundName

BATCH = 200


@dataclass(frozen=True, slots=True)
class Settled:
    """The answer for one batch: how many keys were carried over, how many given up, and the facts."""

    carried: int
    given_up: int
    facts: Facts


class SettleKeys:
    """The write that settles keys. Items are names of keys of one trigger."""

    name = "settle_keys"

    def __init__(self, rules: RulesInForce, shard: str, own: OwnEvents) -> None:
        self._rules = rules
        self._shard = shard
        self._own = own

    def __call__(self, tx: Tx, items: Sequence[Sequence[RoundName]]) -> Sequence[Settled]:
        """Settle every batch of the group."""
        return [self._settle(tx, item) for item in items]

    def _settle(self, tx: Tx, names: Sequence[RoundName]) -> Settled:
        rules = self._rules.current
        sheet = Sheet(tx, rules, Facts(), pass_by, new_root)

        def settle(desk: Gathering) -> None:
            for name in names:
                desk.settle(name)

        met = meet(tx, rules.rules, sorted(names), settle, sheet.uid)
        if met is None:
            return Settled(0, 0, sheet.facts)
        counts: dict[CountKey, int] = {}
        plan = Plan(config_hash=rules.config_hash, concurrency=rules.concurrency)
        decisions = conclude(sheet, plan, met, {}, counts)
        if decisions:
            tx.insert_decisions(decisions)
            sheet.facts.decisions.extend(decisions)
        if counts:
            tx.add_counts(self._shard, counts)
        self._own.tell(tx, sheet.facts)
        return Settled(met.carried, met.given_up, sheet.facts)


async def settle(
    store: Store, write: SettleKeys, trigger: str, meaning: str, on_facts: Callable[[Facts], None]
) -> tuple[int, int]:
    """Settle all keys of a trigger that were opened under another meaning; return how many were carried over and how
    many given up."""
    carried = given_up = 0
    last: Sequence[RoundName] = ()
    while True:
        names = await store.read(lambda reader: reader.stale_keys(trigger, meaning, BATCH))
        if not names or names == last:  # what cannot be settled is left to whoever touches it
            return carried, given_up
        answer = await store.submit(write, names)
        on_facts(answer.facts)
        carried, given_up, last = carried + answer.carried, given_up + answer.given_up, names
