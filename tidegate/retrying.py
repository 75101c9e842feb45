"""Dead letters once more: an event that no rule could judge is judged again, a payload that was refused is read again.

In flow a letter; out flows what became of it. An event that was stored is replayed, by today's rules. A payload goes
through its sensor's own reading and `expect`, as they are configured today, and what comes of it is made durable in the
transaction that notes that the letter is dealt with: nothing is lost in between, and nothing comes twice. A letter of
which nothing could be made stays as it is, and the sentence says why.
"""

import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sensors.batch import Batch, DeadLetter
from sensors.errors import Refused, SensorError
from sensors.event import storable_text
from sensors.retrying import NotRetryable
from tidegate.absorb import Facts
from tidegate.ingest import Delivery, Ingest
from tidegate.replays.changing import ReplayRefused
from tidegate.replays.desk import ReplayDesk
from tidegate.replays.letters import UNJUDGED
from tidegate.salvage import of_data, unstorable
from tidegate.store.reader import Row
from tidegate.store.replay_records import ReplaySpec
from tidegate.store.tx import ItemRefused, Store, Tx

Outcome = Literal["event", "replay", "again", "refused", "impossible"]
Read = Callable[[str, str, DeadLetter], Awaitable[Batch]]  # (sensor, uid, letter); KeyError for an unknown sensor


@dataclass(frozen=True, slots=True)
class Retried:
    """What became of a letter.

    `event`: it is stored now, `became` is its uid. `replay`: its event is judged again by the replay `became`. `again`:
    its source is looked at again. `refused`: it is still wrong. `impossible`: it cannot be tried. The last two leave
    the letter as it is; `detail` says why.
    """

    uid: str
    outcome: Outcome
    became: str | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class TakeIn:
    """What was made of a letter, on its way in."""

    letter: str
    delivery: Delivery


class TakeInLetter:
    """The write that makes durable what was made of letters. Answers the uid that each became, None where it was
    dealt with already; and the facts."""

    name = "retry_letter"

    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest

    def __call__(self, tx: Tx, items: Sequence[TakeIn]) -> Sequence[tuple[str | None, Facts | None]]:
        """Take in those that nothing came of yet."""
        free = set(tx.open_letters([item.letter for item in items]))
        answers: list[tuple[str | None, Facts | None]] = []
        for item in items:
            if item.letter not in free:
                answers.append((None, None))
                continue
            free.discard(item.letter)
            (ingested,) = self._ingest(tx, [item.delivery])
            became = ingested.stored.receipts[0].uid if ingested.stored.receipts else ""
            tx.mark_letters({item.letter: became})
            answers.append((became, ingested.facts))
        return answers


class LetterDesk:
    """Takes requests. `read` has a sensor read a letter again, `poll` has one look at its source."""

    def __init__(
        self,
        store: Store,
        ingest: Ingest,
        replays: ReplayDesk,
        read: Read,
        poll: Callable[[str], None],
        on_facts: Callable[[Facts], None],
    ) -> None:
        self._store = store
        self._write = TakeInLetter(ingest)
        self._replays = replays
        self._read = read
        self._poll = poll
        self._on_facts = on_facts

    async def retry(self, uid: str) -> Retried:
        """Try a letter again. KeyError when there is none."""
        row = await self._store.read(lambda reader: reader.dead_letter(uid))
        if row is None:
            raise KeyError(uid)
        if _waits_for_judgement(row):
            return (await self._judge_again({uid: row["event_uid"]}))[uid]
        return await self._one(row)

    async def _one(self, row: Row) -> Retried:
        """Have a payload read again."""
        uid = row["uid"]
        if row["retried_at"] is not None:
            return Retried(uid, "impossible", row["became"] or None, "it was tried again already, and is dealt with")
        if row["event_uid"] is not None:
            why = "its event was stored and judged, and what failed came after: see its detail, then drop the letter"
            return Retried(uid, "impossible", row["event_uid"], why)
        try:
            batch = await self._read(row["sensor"], uid, _letter(row))
        except KeyError:
            why = f"sensor {row['sensor']} is not configured any more; configure it again, or drop the letter"
            return Retried(uid, "impossible", detail=why)
        except NotRetryable as error:
            return Retried(uid, "impossible", detail=str(error))
        except (Refused, SensorError) as error:
            return Retried(uid, "refused", detail=str(error))
        return await self._take_in(row["sensor"], uid, batch)

    async def retry_all(self, uids: Sequence[str]) -> list[Retried]:
        """Try letters again, in order; one replay judges the events of those that have one. Missing ones stay out.

        One payload at a time is in memory.
        """
        named: dict[str, str] = {}  # letter -> event
        for uid in uids:
            row = await self._store.read(lambda reader, uid=uid: reader.dead_letter(uid))  # type: ignore[misc]
            if row is not None and _waits_for_judgement(row):
                named[uid] = row["event_uid"]
        judged = await self._judge_again(named)
        answers = []
        for uid in uids:
            if uid in judged:
                answers.append(judged[uid])
            else:
                with contextlib.suppress(KeyError):  # somebody has dropped it meanwhile
                    answers.append(await self.retry(uid))
        return answers

    async def _judge_again(self, named: Mapping[str, str]) -> dict[str, Retried]:
        """Start one replay of the events that letters name."""
        if not named:
            return {}
        spec = ReplaySpec(events=tuple(named.values()), letters=tuple(named))
        try:
            replay, _ = await self._replays.start(spec)
        except ReplayRefused as error:
            return {uid: Retried(uid, "impossible", detail=str(error)) for uid in named}
        return {uid: Retried(uid, "replay", replay.uid, "its event is judged again") for uid in named}

    async def _take_in(self, sensor: str, uid: str, batch: Batch) -> Retried:
        if batch.dead_letters:
            return Retried(uid, "refused", detail=batch.dead_letters[0].detail)
        if not batch.events and not batch.seen:
            return Retried(uid, "impossible", detail="nothing comes of it: the sensor leaves out what it holds")
        for event in batch.events:
            if (field := unstorable(event)) is not None or not storable_text(event.sensor):
                return Retried(uid, "refused", detail=f"{field} of the event holds text that cannot be stored")
        delivery = Delivery(sensor, replace(batch, reply=None))
        try:
            became, facts = await self._store.submit(self._write, TakeIn(uid, delivery), 512)
        except ItemRefused as error:
            if not of_data(error):
                raise
            return Retried(uid, "refused", detail=f"the store cannot hold it: {error.__cause__}")
        if facts is not None and not facts.told:
            facts.told = True
            self._on_facts(facts)
        if became is None:
            return Retried(uid, "impossible", detail="it was tried again at the same time")
        if batch.events:
            return Retried(uid, "event", became)
        self._poll(sensor)
        return Retried(uid, "again", detail="its source is looked at again")


def _waits_for_judgement(row: Row) -> bool:
    """Say whether a letter names a stored event that no rule could judge, and nothing came of it yet."""
    return row["retried_at"] is None and row["event_uid"] is not None and row["reason"] == UNJUDGED


def _letter(row: Row) -> DeadLetter:
    return DeadLetter(
        reason=row["reason"],
        detail=row["detail"],
        position=row["position"],
        payload=row["payload"],
        content_type=row["content_type"],
        event_uid=row["event_uid"],
        attributes=row["attributes"],
    )
