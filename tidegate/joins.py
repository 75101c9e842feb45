"""Keys that wait, inside an open transaction: rows are locked, events come to them, and what changed is written.

In flow names of keys and what shall happen to them (offers of new events, a timer that rang, a tick of a calendar); out
flow the intents to carry out, decisions that are final, and alarms to tell. Rows of keys are locked after event ids and
before run keys, in sorted order. Nothing here waits for anyone but the transaction.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from tidegate.rule_history import former_patterns
from tidegate.store.records import Timer
from tidegate.store.tx import Tx
from triggers.decision import Decision
from triggers.evaluator import RuleSet
from triggers.firing import intents_of, reads_events
from triggers.gather import Alarm, Firing, Gathered, Gathering
from triggers.plan import CountKey, Intent
from triggers.round import Round, RoundName

_LOADED = 500  # events whose contents are in memory at once, unless one firing alone has more
KIND = "join"  # of the timers: one per open key, named by the uid of its opening
SECOND = 1_000_000
PAUSED = 30 * SECOND  # until the deadline of a paused trigger is looked at again
TRIES = 60  # looks at a key in other hands; no transaction takes that many seconds


@dataclass(slots=True)
class Met:
    """What followed. `decisions` are to be stored by the caller; `opened` are stored already. `spans` are contexts of
    events that came in earlier transactions."""

    intents: list[Intent] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    opened: list[Decision] = field(default_factory=list)
    alarms: list[Alarm] = field(default_factory=list)
    spans: dict[str, str] = field(default_factory=dict)
    counts: Mapping[CountKey, int] = field(default_factory=dict)
    carried: int = 0  # keys that go on under a changed pattern
    given_up: int = 0


def meet(
    tx: Tx,
    rules: RuleSet,
    names: Sequence[RoundName],
    act: Callable[[Gathering], None],
    uid: Callable[[str], str],
    *,
    wait: bool = True,
) -> Met | None:
    """Lock the keys, let `act` do what shall happen to them, and write it.

    Without `wait` return None, and do nothing, when one of them is not there or is in other hands.
    """
    rounds = tx.lock_rounds(names, wait=wait)
    if len(rounds) < len(names):
        return None
    now = tx.now()
    desk = Gathering(
        rules.rules,
        rounds,
        now=now,
        uid=uid,
        config_hash=rules.config_hash,
        keeps_error=rules.keeps_error,
        former=former_patterns(tx),
    )
    act(desk)
    out = desk.gathered()
    _write(tx, out)
    met = Met(decisions=out.decisions, alarms=out.alarms, counts=out.counts)
    met.carried, met.given_up = out.carried, out.given_up
    met.opened = [one.decision for one in out.waiting if one.new]
    render(tx, out.firings, met, now, uid)
    return met


def timer_of(state: Round) -> Timer:
    """Return the timer of an open key."""
    return Timer(state.due, KIND, state.uid, orjson.dumps([state.name.trigger, state.name.key]).decode())


def name_of(timer: Timer) -> tuple[RoundName, int]:
    """Return the key that a timer is about, and how often it was put off because the key was in other hands."""
    trigger, key, *tries = orjson.loads(timer.payload)
    return RoundName(trigger, key), tries[0] if tries else 0


def put_off(timer: Timer, name: RoundName, tries: int, due: int) -> Timer:
    """Return the timer of a key that is in other hands, for another look."""
    return Timer(due, timer.kind, timer.key, orjson.dumps([name.trigger, name.key, tries]).decode())


def _write(tx: Tx, out: Gathered) -> None:
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


def render(tx: Tx, firings: Sequence[Firing], met: Met, now: int, uid: Callable[[str], str]) -> None:
    """Render what fired, in order, with the contents of few events in memory at a time."""
    plain = [event for firing in firings if not reads_events(firing) for event in firing.verdict.events]
    if plain:
        met.spans.update(tx.get_spans(plain))
    for few in _batches(firings):
        wanted = [event for firing in few if reads_events(firing) for event in firing.verdict.events]
        stored = tx.get_events(wanted) if wanted else {}
        met.spans.update({name: one.span for name, one in stored.items() if one.span is not None})
        events = {name: one.event for name, one in stored.items()}
        for firing in few:
            mine = {name: events[name] for name in firing.verdict.events if name in events}
            intents, errors = intents_of(firing, mine, now, uid)
            met.intents += intents
            met.decisions += errors


def _batches(firings: Sequence[Firing]) -> Iterator[Sequence[Firing]]:
    """Split firings so that those of one batch read no more than about `_LOADED` events."""
    few: list[Firing] = []
    events = 0
    for firing in firings:
        more = len(firing.verdict.events) if reads_events(firing) else 0
        if few and events + more > _LOADED:
            yield few
            few, events = [], 0
        few.append(firing)
        events += more
    if few:
        yield few
