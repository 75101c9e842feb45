"""What time does to events that wait in the flow control: batches are due, keys were quiet, windows open.

In flow timers that are due, inside the transaction that takes them; out flows what follows, written in it. A round that
another transaction works on is looked at a moment later, never waited for. While a trigger is paused its timers wait.
"""

from collections.abc import Sequence

from sensors.w3c import new_root
from tidegate.absorb import Facts, MintRoot, Sheet, settle
from tidegate.failpoints import FailPoint, pass_by
from tidegate.flows import KIND, ring, timer_of
from tidegate.joins import PAUSED, SECOND, TRIES, Met, name_of, put_off
from tidegate.rules import RulesInForce
from tidegate.runs import OwnEvents
from tidegate.store.records import Timer
from tidegate.store.tx import Tx
from triggers.active import Door
from triggers.control_rule import WHOLE
from triggers.round import Phase, RoundName
from triggers.stage import Place


class FlowTimers:
    """The handler of the timers of flow control; it returns what it made durable."""

    def __init__(
        self,
        rules: RulesInForce,
        shard: str,
        own: OwnEvents,
        fail_point: FailPoint = pass_by,
        mint_root: MintRoot = new_root,
    ) -> None:
        self._rules = rules
        self._shard = shard
        self._own = own
        self._fail_point = fail_point
        self._mint_root = mint_root

    def ring(self, tx: Tx, timer: Timer) -> Facts | None:
        """Look at a round whose time may have come."""
        rules = self._rules.current
        name, tries = name_of(timer)
        if name.trigger in rules.paused and name.trigger in rules.rules.rules:
            tx.set_timers([Timer(tx.now() + PAUSED, KIND, timer.key, timer.payload)])
            return None
        sheet = Sheet(tx, rules, Facts(), self._fail_point, self._mint_root)
        met = Met()
        if not ring(tx, rules.rules, name, timer.key, sheet.uid, met):
            if tries < TRIES:
                tx.set_timers([put_off(timer, name, tries + 1, tx.now() + SECOND)])
            return None
        settle(sheet, met, self._shard)
        self._own.tell(tx, sheet.facts)
        self._fail_point("flow.rung")
        return sheet.facts


class ArmFlows:
    """The write that sets the timers of windows anew, at every start and reload: their calendars may have changed."""

    name = "arm_flows"

    def __init__(self, rules: RulesInForce) -> None:
        self._rules = rules

    def __call__(self, tx: Tx, items: Sequence[None]) -> Sequence[None]:
        """Arm."""
        for trigger, rule in sorted(self._rules.current.rules.rules.items()):
            door = None if rule.control is None else rule.control.machines.get(Place.ACTIVE)
            if rule.control is None or not isinstance(door, Door):
                continue
            name = RoundName(trigger, f"{Place.ACTIVE}/{WHOLE}")
            state = tx.lock_numbers([name], wait=False).get(name)
            if state is not None and state.phase is Phase.OPEN:
                looked = rule.control.rearmed(state, tx.now())
                tx.put_rounds([looked], {name: state})
                tx.set_timers([timer_of(looked)])
        return [None] * len(items)
