"""The one transaction: batches in, durable facts out, acknowledgement after.

`Ingest` is a group-committed write: every batch that waits when a transaction can start goes into it, so one fsync
serves many. Within it: fences are checked, ids inserted (the repeats drop out), the new events judged and their runs
written, cursors and memories moved: all of it or nothing. `StoreInbox` is the sensors' side of it: `put` returns
after COMMIT.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from sensors.batch import Batch, Cursor, DeadLetter, Fence, ObjectAction
from sensors.event import Event
from sensors.ports import Receipt, Stored
from sensors.uid import DEAD_LETTER, new_uid
from sensors.w3c import new_root
from tidegate.absorb import Facts, Incoming, absorb, tell_letters
from tidegate.alerts.alert import Alert
from tidegate.alerts.raising import raise_alerts
from tidegate.alerts.sources import notice_alerts
from tidegate.failpoints import FailPoint, pass_by
from tidegate.leases import LEASE
from tidegate.rules import Rules, RulesInForce
from tidegate.runs import OwnEvents
from tidegate.salvage import letter_of, of_data, salvage, storable, unstorable
from tidegate.store.records import CountKey, NewId
from tidegate.store.tx import ItemRefused, Store, Tx
from triggers.counting import CANDIDATES

Letter = tuple[str, str, int, DeadLetter]
_STALE = Stored((), stale=True)
_NOTHING = Stored(())


@dataclass(frozen=True, slots=True)
class Delivery:
    """One batch of one sensor on its way in, with the context of the span that received it.

    `alerts` are told of what the batch makes durable.
    """

    sensor: str
    batch: Batch
    parent: str | None = None
    alerts: Sequence[Alert] = ()


@dataclass(frozen=True, slots=True)
class Ingested:
    """The answer to one delivery. `facts` are those of its whole group.

    Whoever of the group is there first tells them.
    """

    stored: Stored
    facts: Facts | None = None


class Ingest:
    """The write that makes deliveries durable. One instance per process; `shard` names its counters."""

    name = "ingest"

    def __init__(
        self,
        rules: RulesInForce,
        shard: str,
        fail_point: FailPoint = pass_by,
        mint_root: Callable[[], str] = new_root,
        own: OwnEvents | None = None,
    ) -> None:
        """`own` tells of runs that end because others replace them (None: nobody hears of it)."""
        self._rules = rules
        self._own = own
        self._shard = shard
        self._fail_point = fail_point
        self._mint_root = mint_root

    def __call__(self, tx: Tx, items: Sequence[Delivery]) -> Sequence[Ingested]:
        """Store all deliveries of a group; one answer per delivery, in order."""
        fail_point = self._fail_point
        fail_point("ingest.begin")
        rules = self._rules.current
        stale, again = _known(tx, items)
        now = tx.now()
        facts = Facts()
        ids = [
            NewId(
                item.sensor,
                event.id,
                event.uid,
                None if item.batch.dedup_for is None else now + int(item.batch.dedup_for * 1e6),
            )
            for index, item in enumerate(items)
            if index not in stale
            for event in item.batch.events
        ]
        known = tx.new_event_ids(ids) if ids else {}
        fail_point("ingest.ids")
        incoming: list[Incoming] = []
        answers: list[Ingested] = []
        counts: dict[CountKey, int] = {}
        for index, item in enumerate(items):
            if index in stale:
                answers.append(Ingested(_STALE))
                continue
            if index in again:
                repeats = [Receipt(known[item.sensor, event.id], duplicate=True) for event in item.batch.events]
                answers.append(Ingested(Stored(repeats)))
                continue
            answers.append(Ingested(self._receive(item, known, incoming, facts, counts), facts))
        absorb(tx, rules, incoming, self._shard, facts, fail_point, self._mint_root)
        if self._own is not None:
            self._own.tell(tx, facts)
        for index, item in enumerate(items):
            if index not in stale and index not in again:
                letters = _write_positions(tx, item, now)
                _write_actions(tx, item, known)
                if rules.alerts.active:
                    _tell(tx, rules, item, letters, facts)
        if counts:
            tx.add_counts(self._shard, counts)
        return answers

    def _receive(
        self,
        item: Delivery,
        known: Mapping[tuple[str, str], str],
        incoming: list[Incoming],
        facts: Facts,
        counts: dict[CountKey, int],
    ) -> Stored:
        """Sort one delivery's events into new ones and repeats."""
        sensor, batch = item.sensor, item.batch
        for outcome, n in batch.counts.items():
            _add(counts, ("sensor", sensor, outcome), n)
        for (name, configuration), n in batch.unwanted.items():
            _add(counts, (CANDIDATES, name, configuration), n)
        if not batch.events:
            return _NOTHING
        receipts = []
        fresh = 0
        taken: set[str] = set()
        for event in batch.events:
            uid = known[sensor, event.id]
            if uid == event.uid and uid not in taken:
                taken.add(uid)
                incoming.append(Incoming(event, item.parent if item.parent is not None else _adopted(event)))
                receipts.append(Receipt(uid, duplicate=False))
                fresh += 1
            else:
                receipts.append(Receipt(uid, duplicate=True))
        repeats = len(receipts) - fresh
        if fresh:
            _add(counts, ("sensor", sensor, "stored"), fresh)
        if repeats:
            _add(counts, ("sensor", sensor, "duplicate"), repeats)
            facts.duplicates += repeats
        return Stored(receipts)


def _adopted(event: Event) -> str | None:
    """A verified sender's trace is continued; anyone else's is only linked."""
    return event.traceparent if event.trusted else None


def _add(counts: dict[CountKey, int], key: CountKey, n: int) -> None:
    counts[key] = counts.get(key, 0) + n


def _known(tx: Tx, items: Sequence[Delivery]) -> tuple[frozenset[int], frozenset[int]]:
    """Lock the cursors of the group; name the deliveries whose fence has moved on, and those that are stored already.

    A fenced delivery brings positions that only rise: where all of them stand there already, under its own epoch, its
    commit was done and the answer to it was lost. Its events would drop out by their ids, what it counts would not.
    """
    names = sorted(
        {(item.sensor, cursor.shard) for item in items for cursor in item.batch.cursors}
        | {(item.sensor, fence.shard) for item in items for fence in _fences(item.batch)}
    )
    if not names:
        return frozenset(), frozenset()
    rows = tx.lock_cursors(names)
    stale, again = set(), set()
    for index, item in enumerate(items):
        sensor, batch = item.sensor, item.batch
        fences = _fences(batch)
        found = [rows.get((sensor, fence.shard)) for fence in fences]
        if any(row is None or row.epoch != fence.epoch for row, fence in zip(found, fences, strict=True)):
            stale.add(index)
        elif batch.fences and batch.cursors:
            places = [(rows.get((sensor, cursor.shard)), cursor) for cursor in batch.cursors]
            if all(row is not None and row.value == cursor.value for row, cursor in places):
                again.add(index)
    return frozenset(stale), frozenset(again)


def _fences(batch: Batch) -> Sequence[Fence]:
    """Return what a batch must still own: its shards, and the lease of its sensor."""
    return batch.fences if batch.lease is None else (*batch.fences, batch.lease)


def _tell(tx: Tx, rules: Rules, item: Delivery, letters: Sequence[Letter], facts: Facts) -> None:
    """Raise alerts of what a delivery brought beside events."""
    if letters:
        tell_letters(tx, rules, letters, facts)
    alerts = [*item.alerts, *notice_alerts(rules.alerts, item.sensor, item.batch.notices, tx.now())]
    if alerts:
        facts.alerts += raise_alerts(tx, rules.alerts, alerts)


def _write_positions(tx: Tx, item: Delivery, now: int) -> Sequence[Letter]:
    """Move cursors and memories, keep dead letters: in the same transaction as the events they stand for.

    Returns the dead letters as they are kept.
    """
    batch = item.batch
    if batch.seen or batch.forget:
        tx.put_seen(item.sensor, batch.seen, batch.forget)
    letters = [(new_uid(DEAD_LETTER, now), item.sensor, now, letter) for letter in batch.dead_letters]
    if letters:
        tx.insert_dead_letters(letters)
    if batch.cursors:
        tx.put_cursors(item.sensor, batch.cursors)
    return letters


def _moved(batch: Batch, uids: Mapping[str, str]) -> list[ObjectAction]:
    """Return a batch's actions for events that got other uids; those of events that got none are gone with them."""
    came = {event.uid for event in batch.events}
    return [
        replace(action, event=uids[action.event]) if action.event in uids else action
        for action in batch.actions
        if action.event in uids or action.event not in came
    ]


def _write_actions(tx: Tx, item: Delivery, known: Mapping[tuple[str, str], str]) -> None:
    """Keep what is to be done to objects, after the runs that it waits for; forget what is done."""
    if item.batch.actions:
        tx.insert_actions(item.sensor, _actions(item, known))
    if item.batch.actions_done:
        tx.drop_actions(item.sensor, item.batch.actions_done)


def _actions(item: Delivery, known: Mapping[tuple[str, str], str]) -> list[ObjectAction]:
    """Return the actions of new events, and those that wait for no event."""
    new = {event.uid: known[item.sensor, event.id] == event.uid for event in item.batch.events}
    kept = [action for action in item.batch.actions if new.get(action.event, action.when == "now")]
    return [action if action.event in new else replace(action, event="") for action in kept]


class StoreInbox:
    """Implements `sensors.ports.Inbox` over the store. `on_facts` is told on the loop of what became durable."""

    def __init__(
        self, store: Store, ingest: Ingest, on_facts: Callable[[Facts], None], fail_point: FailPoint = pass_by
    ) -> None:
        self._store = store
        self._ingest = ingest
        self._on_facts = on_facts
        self._fail_point = fail_point

    async def put(self, sensor: str, batch: Batch, parent: str | None = None) -> Stored:
        """Make a batch durable; see `sensors.ports.Inbox`. `parent` is the context of the receiving span."""
        try:
            return await self._submit(sensor, batch, parent)
        except ItemRefused:
            if not batch.events and not batch.dead_letters:
                raise
            return await self._put_salvaged(sensor, batch, parent)

    async def tell(self, sensor: str, batch: Batch, *alerts: Alert) -> None:
        """Make a batch of the house's own durable, and with it what people are to be told."""
        await self._submit(sensor, batch, None, alerts)

    async def _submit(self, sensor: str, batch: Batch, parent: str | None, alerts: Sequence[Alert] = ()) -> Stored:
        weight = 256 + sum(len(event.data or b"") + 512 for event in batch.events) + 256 * len(batch.actions)
        answer = await self._store.submit(self._ingest, Delivery(sensor, batch, parent, alerts), weight)
        self._fail_point("ingest.acked")
        facts = answer.facts
        if facts is not None and not facts.told:
            facts.told = True
            self._on_facts(facts)
        return answer.stored

    async def _put_salvaged(self, sensor: str, batch: Batch, parent: str | None) -> Stored:
        """Store what can be stored of a batch that was refused; it is refused for good only if that fails as well.

        Two things make a batch unstorable as it is: text in an envelope that no column takes, and a commit whose
        answer was lost: then the ids are known under the very uids that come again. So events that cannot be stored
        become dead letters, and the others get fresh uids, which shows them to be duplicates. What the store refuses
        all the same (a name too long for its index, …) is found by putting events one by one, before the positions.
        """
        events, letters = salvage(batch.events)
        letters = [*(storable(letter) for letter in batch.dead_letters), *letters]
        olds = [event.uid for event in batch.events if unstorable(event) is None]
        actions = _moved(batch, dict(zip(olds, [event.uid for event in events], strict=True)))
        salvaged = replace(batch, events=events, dead_letters=letters, actions=actions)
        receipts: dict[str, Receipt] = {}  # by the uid that came
        try:
            stored = await self._submit(sensor, salvaged, parent)
            receipts.update(zip(olds, stored.receipts, strict=not stored.stale))
        except ItemRefused as refusal:
            if not of_data(refusal) or not events:
                raise
            for old, event in zip(olds, events, strict=True):
                mine = [action for action in actions if action.event == event.uid]
                alone = Batch((event,), fences=batch.fences, lease=batch.lease, actions=mine, dedup_for=batch.dedup_for)
                try:
                    answer = await self._submit(sensor, alone, parent)
                except ItemRefused as error:
                    if not of_data(error):
                        raise
                    letters.append(letter_of(event, f"the store refuses the event: {error}"))
                else:
                    receipts.update(zip((old,), answer.receipts, strict=not answer.stale))
            uids = {event.uid for event in events}
            rest = [action for action in actions if action.event not in uids]
            salvaged = replace(salvaged, events=(), dead_letters=letters, actions=rest)
            stored = await self._submit(sensor, salvaged, parent)
        if stored.stale:
            return stored
        return Stored([receipts.get(event.uid) or Receipt(event.uid, duplicate=False) for event in batch.events])

    async def cursors(self, sensor: str) -> Mapping[str, Cursor]:
        """Return the durable positions of a sensor by shard."""
        rows = await self._store.read(lambda reader: reader.cursors(sensor))
        return {row.shard: Cursor(row.shard, row.value) for row in rows if row.shard != LEASE}
