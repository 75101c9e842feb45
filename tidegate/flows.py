"""Flow control, inside an open transaction: rounds are locked stage by stage, events come, what changed is written.

In flow events that matched, or a timer that rang; out flow the intents to carry out and decisions that are final.
Rounds are locked after event ids and before run keys: those of one stage together and sorted, stage after stage, the
order in which events pass them. Nothing here waits for anyone but the transaction.
"""

from collections.abc import Callable, Sequence

import orjson

from sensors.event import Event
from tidegate.joins import Met, render
from tidegate.store.records import Timer
from tidegate.store.tx import Tx
from triggers.control_rule import Pass
from triggers.evaluator import RuleSet
from triggers.passed import Passed
from triggers.passing import ORDER, Passing
from triggers.round import Occurrence, Round, RoundName

KIND = "flow"  # of the timers: one per open round, named by the uid of its opening


class HeldQueues:
    """The queues of rounds in the store. What joins is written together, before anything is taken away."""

    def __init__(self, tx: Tx) -> None:
        self._tx = tx
        self._joining: list[tuple[RoundName, Occurrence]] = []
        self.spans: dict[str, str] = {}  # contexts of the events that were read

    def push(self, name: RoundName, one: Occurrence) -> None:
        """Let an event join the end."""
        self._joining.append((name, one))

    def pull(self, name: RoundName, n: int) -> Sequence[tuple[Occurrence, Event | None]]:
        """Take the first `n`, with their events."""
        held = self.pull_names(name, n)
        stored = self._tx.get_events([one.event for one in held]) if held else {}
        self.spans.update({uid: one.span for uid, one in stored.items() if one.span is not None})
        return [(one, stored[one.event].event if one.event in stored else None) for one in held]

    def pull_names(self, name: RoundName, n: int) -> Sequence[Occurrence]:
        """Take the first `n`, without their events."""
        self.flush()
        return self._tx.pull_held(name, n)

    def flush(self) -> None:
        """Write what joined."""
        if self._joining:
            self._tx.push_held(self._joining)
            self._joining = []


def pass_on(tx: Tx, rules: RuleSet, passes: Sequence[Pass], uid: Callable[[str], str], met: Met) -> None:
    """Let events of this transaction pass the flow control of their triggers; what follows is added to `met`."""
    queues = HeldQueues(tx)
    desk = _desk(tx, rules, queues, uid)
    desk.enter(passes)
    _work(tx, desk, queues, uid, met)


def ring(tx: Tx, rules: RuleSet, name: RoundName, opening: str, uid: Callable[[str], str], met: Met) -> bool:
    """Look at a round whose timer rang. Return False, and do nothing, when it is not there or in other hands."""
    rounds = tx.lock_numbers([name], wait=False)
    if not rounds:
        return False
    queues = HeldQueues(tx)
    desk = _desk(tx, rules, queues, uid)
    desk.ring(name, opening, rounds)
    _work(tx, desk, queues, uid, met)
    return True


def timer_of(state: Round) -> Timer:
    """Return the timer of an open round."""
    return Timer(state.due, KIND, state.uid, orjson.dumps([state.name.trigger, state.name.key]).decode())


def _desk(tx: Tx, rules: RuleSet, queues: HeldQueues, uid: Callable[[str], str]) -> Passing:
    return Passing(rules.rules, queues, now=tx.now(), uid=uid, keeps_error=rules.keeps_error)


def _work(tx: Tx, desk: Passing, queues: HeldQueues, uid: Callable[[str], str], met: Met) -> None:
    for place in ORDER:
        names = desk.names(place)
        desk.work(place, tx.lock_numbers(names) if names else {})
    out = desk.passed()
    queues.flush()
    _write(tx, out)
    met.intents += out.intents
    met.decisions += out.decisions
    met.opened += [one.decision for one in out.waiting if one.new]
    met.spans.update(queues.spans)
    met.counts = {key: met.counts.get(key, 0) + out.counts.get(key, 0) for key in (*met.counts, *out.counts)}
    render(tx, out.firings, met, tx.now(), uid)


def _write(tx: Tx, out: Passed) -> None:
    if out.rounds:
        tx.put_rounds(out.rounds, out.before)
    if out.closed:
        tx.close_decisions(out.closed)
    if out.waiting:
        tx.put_waiting(out.waiting)
    if out.ended:
        tx.drop_timers([(KIND, uid) for uid in out.ended])
    if out.timers:
        tx.set_timers([timer_of(state) for state in out.timers])
