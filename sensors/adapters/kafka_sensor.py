"""The kafka sensor: records of topics become events, and positions move in the transaction that holds them.

In flow what the brokers fetch ahead (bounded in bytes), out flow batches of up to about `max_records` records of all
partitions that are ours. Order: within a partition that of the log; between partitions none.

A batch holds what was there when it was asked for: it is not waited for that it fills. While one is being stored
nothing more is taken from the client, and after a moment nothing more is fetched; heartbeats go on. Every now and then
the brokers are asked for their ends: so lag is known, and brokers and topics that are gone are noticed.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import IllegalStateError, KafkaConnectionError, OffsetOutOfRangeError

from sensors.adapters.kafka_client import client, refusal, stop
from sensors.adapters.kafka_errors import told
from sensors.adapters.kafka_formats import Decoder
from sensors.adapters.kafka_group import Group, Part
from sensors.adapters.kafka_lag import Lag, Unusual
from sensors.adapters.kafka_options import KafkaOptions, topics_of
from sensors.adapters.kafka_peek import peek
from sensors.adapters.kafka_positions import fingerprint
from sensors.adapters.kafka_records import Harvest, RecordReader, time_of
from sensors.adapters.kafka_registry import Schemas
from sensors.adapters.kafka_retracing import Retracing
from sensors.adapters.kafka_retry import kept_record, record_again
from sensors.batch import Batch, Cursor, DeadLetter, merged
from sensors.clock import Clock
from sensors.errors import NotConnected, SensorError
from sensors.health import ShardLag
from sensors.ports import Lookup, Prefilter, Sieve, WantsAll

_WAIT = 500  # milliseconds that a fetch waits for the first record
_CHUNK = 500  # records between two turns of the loop
_BYTES = 8 << 20  # of what events and dead letters of one batch keep
_EVENTS = 1000  # in one batch: a transaction holds up those of other sensors
_PROBE, _PROBE_BUSY = 10.0, 30.0  # seconds after which the brokers are asked for their ends: idle, and at work
_PATIENCE = 15.0  # seconds that brokers have to answer
_SETTLE = 60.0  # seconds that a group has to settle
_REMEMBERED = 604_800.0  # seconds: positions move with the events, so that ids only guard against what nobody expects


@dataclass(slots=True)
class _Take:
    """What one batch takes of one partition."""

    part: Part
    sieve: Sieve
    harvest: Harvest

    def batch(self, group: Group, tp: TopicPartition, clock: Clock) -> Batch:
        """Return it as a batch of its own, with what else is to be told of the partition."""
        part, harvest = self.part, self.harvest
        offset, counts = part.position.next, dict(harvest.counts)
        for outcome, n in part.counts.items():
            counts[outcome] = counts.get(outcome, 0) + n
        letters = [*part.letters, *harvest.letters]
        part.letters, part.counts, part.moved = [], {}, False

        async def ack() -> None:
            part.last_success = clock.now()
            group.done({tp: offset})

        return Batch(
            events=harvest.events,
            cursors=(part.cursor,),
            fences=(part.fence,),
            dead_letters=letters,
            counts=counts,
            unwanted=self.sieve.unwanted(),
            dedup_for=_REMEMBERED,
            ack=ack,
        )


class KafkaSensor:
    """Reads topics as a member of a group. The runner alone calls it."""

    def __init__(
        self,
        name: str,
        group: str,
        options: KafkaOptions,
        base: Path,
        clock: Clock,
        decoder: Decoder | None,
        schemas: Schemas | None,
    ) -> None:
        """`decoder` None reads CloudEvents; `schemas` are fetched before records that name them are decoded."""
        self._group_id = group
        self._options = options
        self._base = base
        self._clock = clock
        self._schemas = schemas
        self._client = client(name, options, base, clock)
        self._brokers = ", ".join(options.brokers)
        namespace = f"kafka://{options.brokers[0]}"
        self._reader = RecordReader(name, namespace, decoder, max_record=options.max_record, headers=options.headers)
        self._consumer: Any = None
        self._group: Group | None = None
        self._prefilter: Prefilter = WantsAll()
        self._lag = Lag(clock, committed=options.isolation == "read_committed")
        self._unusual = Unusual(clock)
        self._probed = 0.0
        self._quiet = True
        self._missing: list[str] = []

    # -- the contract -------------------------------------------------------------------------------------------------
    async def connect(self, cursors: Mapping[str, Cursor], lookup: Lookup, prefilter: Prefilter) -> None:
        """Join the group. Raises NotConnected."""
        self._prefilter = WantsAll() if self._options.keep == "all" else prefilter
        consumer = self._client(self._group_id)
        retrace = Retracing(lambda: self._client(None))
        group = Group(consumer, self._options, lookup, self._clock, retrace, began=bool(cursors))
        try:
            async with asyncio.timeout(_PATIENCE):
                await consumer.start()
                if self._options.pattern is None:
                    await self._subscribe(consumer, group)
                else:
                    consumer.subscribe(pattern=self._options.pattern, listener=group)
        except BaseException as error:
            await stop(consumer)
            if isinstance(error, Exception):
                answer = await self._told(error)
                raise answer from answer.__cause__
            raise
        group.start()
        self._consumer, self._group = consumer, group
        self._probed = self._clock.monotonic()

    async def read(self) -> Batch:
        """Return what there is of all partitions that are ours. Raises NotConnected."""
        group = self._group
        if group is None:
            raise NotConnected("not connected")
        try:
            return await self._read(group)
        except BaseException as error:
            group.drop()
            if isinstance(error, Exception):
                raise told(error, self._brokers) from error
            raise

    async def close(self) -> None:
        """Leave the group."""
        consumer, group = self._consumer, self._group
        self._consumer = self._group = None
        self._lag.forget()
        if group is not None:
            group.drop()
            await group.leave()
        if consumer is not None:
            await stop(consumer)
        if self._schemas is not None:
            await self._schemas.close()

    async def peek(self, cursors: Mapping[str, Cursor], lookup: Lookup, limit: int) -> Batch:
        """Show the next records of all partitions, through a consumer that is in no group."""
        consumer = self._client(None)
        try:
            async with asyncio.timeout(_PATIENCE):
                await consumer.start()
                reading = self._reader, self._schemas
                return await peek(consumer, self._options, reading, self._clock, cursors, limit)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told as what it means
            answer = await self._told(error)
            raise answer from answer.__cause__
        finally:
            await stop(consumer)
            if self._schemas is not None:
                await self._schemas.close()

    async def retry(
        self, uid: str, letter: DeadLetter, cursors: Mapping[str, Cursor], lookup: Lookup, at: int
    ) -> Batch:
        """Read a record that was refused once more; see `sensors.retrying.Retryable`."""
        record, incarnation = kept_record(letter, self._options.max_record)
        if self._schemas is not None:
            try:
                await self._schemas.prepare([record])
            finally:
                await self._schemas.close()
        harvest = record_again(self._reader, record, incarnation, at)
        return Batch(events=harvest.events, dead_letters=harvest.letters, dedup_for=_REMEMBERED)

    # -- what else can be asked ---------------------------------------------------------------------------------------
    def lag(self) -> float | None:
        """Return how many records of our partitions are still to be read; None while unknown."""
        known = [shard.records for shard in self.shards().values() if shard.records is not None]
        return float(sum(known)) if known else None

    def shards(self) -> Mapping[str, ShardLag]:
        """Return how far behind each partition is."""
        return {} if self._group is None else self._lag.of(self._consumer, self._group.parts)

    def trouble(self) -> str | None:
        """Return what is wrong although reads succeed."""
        if self._missing:
            return self._nowhere()
        if self._group is not None and self._group.waiting:
            return self._group.waiting
        return self._unusual.sentence()

    # -- reading ------------------------------------------------------------------------------------------------------
    async def _subscribe(self, consumer: Any, group: Group) -> None:
        """Read the topics that are there: the client would wait for one that is not, and read none meanwhile."""
        there = topics_of(self._options, list(await consumer.topics()))
        self._missing = sorted(set(self._options.topics) - set(there))
        if not there:
            raise NotConnected(self._nowhere())
        if set(there) != set(consumer.subscription()):
            consumer.subscribe(there, listener=group)

    async def _told(self, error: Exception) -> SensorError:
        """Return what went wrong with the connection; where the library does not say why, the brokers are asked."""
        if isinstance(error, KafkaConnectionError):
            error = await refusal(self._options, self._base, self._clock) or error
        return told(error, self._brokers)

    def _nowhere(self) -> str:
        names = ", ".join(self._missing)
        return f"topic {names} does not exist at {self._brokers}, or is not shown to us; create it, or correct `topics`"

    async def _read(self, group: Group) -> Batch:
        if group.failure is not None:
            failure, group.failure = group.failure, None
            raise failure
        if self._clock.monotonic() - self._probed >= (_PROBE if self._quiet else _PROBE_BUSY):
            await self._look_around(group)
        takes: dict[TopicPartition, _Take] = {}
        found = await self._fetch(group, _WAIT)
        turn, now = group.turn, self._clock.now()  # nothing was awaited since: what was fetched is of this turn
        group.take()
        self._quiet = not found
        records = size = events = 0
        while found:
            for tp, some in found.items():
                part = group.parts.get(tp)
                if part is None or not (some := await self._ours(group, tp, part, some)):
                    continue
                if self._schemas is not None:
                    await self._schemas.prepare(some)
                if group.turn != turn:
                    break
                take = takes.get(tp)
                if take is None:
                    take = takes[tp] = _Take(part, self._prefilter.sieve(), Harvest())
                before, kept = take.harvest.bytes, len(take.harvest.events)
                self._reader.read(some, part.position.incarnation, take.sieve, now, take.harvest)
                records += len(some)
                size += take.harvest.bytes - before
                events += len(take.harvest.events) - kept
                last = some[-1]
                part.position = part.position.after(last)
                part.last_time = time_of(last)
            # What was fetched must be taken, or fetched again: the client has moved past it.
            if records >= self._options.max_records or size >= _BYTES or events >= _EVENTS or group.turn != turn:
                break
            await asyncio.sleep(0)
            found = await self._fetch(group, 0)
        if group.turn != turn:  # partitions came or went: what was read belongs to whoever has them now
            group.stand()
            group.drop()
            return Batch()
        return await self._batch(group, takes)

    async def _fetch(self, group: Group, wait: int) -> Mapping[TopicPartition, Sequence[Any]]:
        group.go_on()
        most = min(_CHUNK, self._options.max_records)
        try:
            async with asyncio.timeout(_SETTLE):  # a group that does not settle must not look like a quiet topic
                found: Mapping[TopicPartition, Sequence[Any]] = await self._consumer.getmany(
                    timeout_ms=wait, max_records=most
                )
        except TimeoutError:
            raise NotConnected(
                f"the consumer group at {self._brokers} has not settled for {_SETTLE:g} s; is one of its members stuck?"
            ) from None
        except OffsetOutOfRangeError as error:
            await group.out_of_range(error.args[0])
            return {}
        return found

    async def _ours(self, group: Group, tp: TopicPartition, part: Part, records: Sequence[Any]) -> Sequence[Any]:
        """Return the records from our position on, after a look at the last one that was read."""
        first, mark = records[0], part.checks
        if mark is not None:
            part.checks = None
            if first.offset == mark.offset and fingerprint(first) != mark.print:
                await group.recreated(tp, part)
                return ()
        if first.offset >= part.position.next:
            return records
        return [record for record in records if record.offset >= part.position.next]

    async def _batch(self, group: Group, takes: dict[TopicPartition, _Take]) -> Batch:
        """Put a batch together: what was read, and what else is to be told of partitions."""
        for tp, part in tuple(group.parts.items()):
            if self._quiet and part.checks is not None and self._ends_before(tp, part):
                await group.out_of_range([tp])  # it stands exactly at the end of a log that is shorter than it was
            if self._quiet or tp in takes:
                await self._pass_marks(tp, part)
            if part.moved and tp not in takes:
                takes[tp] = _Take(part, self._prefilter.sieve(), Harvest())
        for take in takes.values():
            self._unusual.notice(take.part.counts)
        pieces = [take.batch(group, tp, self._clock) for tp, take in takes.items()]
        if group.baselines:
            pieces.append(Batch(cursors=tuple(group.baselines.values())))
            group.baselines = {}
        if not pieces:
            group.drop()
            return Batch()
        group.take()
        return merged(pieces)

    def _ends_before(self, tp: TopicPartition, part: Part) -> bool:
        """Say whether a fetch showed that the log ends before our position."""
        try:
            end = self._consumer.highwater(tp)
        except AssertionError:  # no longer assigned, as far as the library knows
            return False
        return end is not None and end < part.position.next

    async def _pass_marks(self, tp: TopicPartition, part: Part) -> None:
        """Get past offsets that hold no record of ours (marks of transactions), once all before them was taken."""
        try:
            at = await self._consumer.position(tp) if part.checks is None else 0
        except IllegalStateError:
            return
        if at > part.position.next:
            part.position, part.moved = replace(part.position, next=at), True

    async def _look_around(self, group: Group) -> None:
        """Now and then: are the brokers there, where do the partitions end, and which topics are there by now?

        While records come the brokers are there, although one of them may be slow to say where its partitions end.
        """
        self._probed = self._clock.monotonic()
        try:
            async with asyncio.timeout(_PATIENCE):
                if self._options.pattern is None:
                    await self._subscribe(self._consumer, group)
                asked = list(group.parts)
                if asked:
                    self._lag.ends(await self._consumer.end_offsets(asked))
                elif self._options.pattern is not None:
                    await self._consumer.topics()
        except TimeoutError:
            if self._quiet:
                raise
