"""The kafka sensor: records of topics become events, and positions move in the transaction that holds them.

In flow what the brokers fetch ahead (bounded in bytes), out flow batches of up to `max_records` records of all
partitions that are ours. Order: within a partition that of the log; between partitions none.

While a batch is being stored nothing more is taken from the client, so that a store that is slow or away stops the
fetches by itself; heartbeats go on. A source that is idle is asked now and then for its ends: so lag is known, and
brokers that are away are noticed.
"""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import NoOffsetForPartitionError, OffsetOutOfRangeError

from sensors.adapters.kafka_errors import told
from sensors.adapters.kafka_formats import Decoder
from sensors.adapters.kafka_group import Group, Part, first_offsets
from sensors.adapters.kafka_options import KafkaOptions, topics_of
from sensors.adapters.kafka_positions import Position, fingerprint, read_baseline, read_position, shard_of
from sensors.adapters.kafka_records import Harvest, RecordReader, time_of
from sensors.adapters.kafka_registry import Schemas
from sensors.adapters.kafka_security import security
from sensors.batch import Batch, Cursor
from sensors.clock import Clock
from sensors.errors import NotConnected
from sensors.health import ShardLag
from sensors.ports import Lookup, Prefilter, WantsAll

_WAIT = 1000  # milliseconds that a fetch waits for the first record
_CHUNK = 500  # records between two turns of the loop
_BYTES = 8 << 20  # of events in one batch
_FETCH = 16 << 20  # bytes that a broker sends at once; one record may be larger
_PART = 1 << 20
_PROBE = 10.0  # seconds of idleness after which the brokers are asked for their ends
_PATIENCE = 15.0  # seconds that brokers have to answer
_METADATA = 30_000  # milliseconds after which new partitions and topics are seen
_SHOW = 60_000_000  # µs for which an unusual event stays visible as trouble


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
        self._name = name
        self._group_id = group
        self._options = options
        self._base = base
        self._clock = clock
        self._schemas = schemas
        self._brokers = ", ".join(options.brokers)
        namespace = f"kafka://{options.brokers[0]}"
        self._reader = RecordReader(name, namespace, decoder, max_record=options.max_record, headers=options.headers)
        self._consumer: Any = None
        self._group: Group | None = None
        self._prefilter: Prefilter = WantsAll()
        self._ends: dict[TopicPartition, int] = {}
        self._probed = 0.0
        self._missing: list[str] = []
        self._unusual = ""
        self._unusual_until = 0

    # -- the contract -------------------------------------------------------------------------------------------------
    async def connect(self, cursors: Mapping[str, Cursor], lookup: Lookup, prefilter: Prefilter) -> None:
        """Join the group. Raises NotConnected."""
        self._prefilter = WantsAll() if self._options.keep == "all" else prefilter
        consumer = self._client(group=self._group_id)
        group = Group(consumer, self._options, lookup, self._clock, began=bool(cursors))
        try:
            async with asyncio.timeout(_PATIENCE):
                await consumer.start()
                if self._options.pattern is None:
                    await self._subscribe(consumer, group)
                else:
                    consumer.subscribe(pattern=self._options.pattern, listener=group)
        except BaseException as error:
            await _stop(consumer)
            if isinstance(error, Exception):
                raise told(error, self._brokers) from error
            raise
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
        self._ends.clear()
        if group is not None:
            group.drop()
            await group.leave()
        if consumer is not None:
            await _stop(consumer)
        if self._schemas is not None:
            await self._schemas.close()

    async def peek(self, cursors: Mapping[str, Cursor], lookup: Lookup, limit: int) -> Batch:
        """Show the next records of all partitions, through a consumer that is in no group."""
        consumer = self._client(group=None)
        try:
            async with asyncio.timeout(_PATIENCE):
                await consumer.start()
                return await self._peek(consumer, cursors, limit)
        except Exception as error:
            raise told(error, self._brokers) from error
        finally:
            await _stop(consumer)
            if self._schemas is not None:
                await self._schemas.close()

    # -- what else can be asked ---------------------------------------------------------------------------------------
    def lag(self) -> float | None:
        """Return how many records of our partitions are still to be read; None while unknown."""
        known = [shard.records for shard in self.shards().values() if shard.records is not None]
        return float(sum(known)) if known else None

    def shards(self) -> Mapping[str, ShardLag]:
        """Return how far behind each partition is."""
        group = self._group
        if group is None:
            return {}
        now = self._clock.now()
        found = {}
        for tp, part in group.parts.items():
            end = self._end(tp)
            records = None if end is None else max(0, end - part.position.next)
            behind = part.last_time
            seconds = 0.0 if records == 0 else None if behind is None else max(0.0, (now - behind) / 1e6)
            found[part.shard] = ShardLag(records, seconds, part.last_success)
        return found

    def trouble(self) -> str | None:
        """Return what is wrong although reads succeed."""
        if self._missing:
            return self._nowhere()
        return self._unusual if self._clock.now() < self._unusual_until else None

    # -- reading ------------------------------------------------------------------------------------------------------
    async def _subscribe(self, consumer: Any, group: Group) -> None:
        """Read the topics that are there: the client would wait for one that is not, and read none meanwhile."""
        there = topics_of(self._options, list(await consumer.topics()))
        self._missing = sorted(set(self._options.topics) - set(there))
        if not there:
            raise NotConnected(self._nowhere())
        consumer.subscribe(there, listener=group)

    def _nowhere(self) -> str:
        names = ", ".join(self._missing)
        return f"topic {names} does not exist at {self._brokers}, or is not shown to us; create it, or correct `topics`"

    def _client(self, *, group: str | None) -> Any:
        options = self._options
        return AIOKafkaConsumer(
            bootstrap_servers=list(options.brokers),
            client_id=f"tidegate-{self._name}",
            group_id=group,
            group_instance_id=options.instance if group is not None else None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level=options.isolation,
            session_timeout_ms=int(options.session_timeout * 1000),
            heartbeat_interval_ms=max(100, int(options.session_timeout * 300)),
            fetch_max_bytes=_FETCH,
            max_partition_fetch_bytes=_PART,
            metadata_max_age_ms=_METADATA,
            **security(options, self._base, self._clock),
        )

    async def _read(self, group: Group) -> Batch:
        if group.failure is not None:
            failure, group.failure = group.failure, None
            raise failure
        if group.news:
            return self._finish(group, Harvest(), {})
        if self._missing and self._clock.monotonic() - self._probed >= _PROBE:
            await self._look_around(group)
        found = await self._fetch(group, _WAIT)
        if not found:
            if self._clock.monotonic() - self._probed >= _PROBE:
                await self._look_around(group)
            return self._finish(group, Harvest(), {}) if group.news else Batch()
        group.take()
        sieve, harvest, now = self._prefilter.sieve(), Harvest(), self._clock.now()
        moved: dict[TopicPartition, Part] = {}
        while found:
            for tp, records in found.items():
                part = group.parts.get(tp)
                if part is None or not (records := self._ours(group, tp, part, records)):
                    continue
                if self._schemas is not None:
                    await self._schemas.prepare(records)
                self._reader.read(records, part.position.incarnation, sieve, now, harvest)
                harvest.records += len(records)
                last = records[-1]
                part.position = replace(part.position, next=last.offset + 1, last=fingerprint(last))
                part.last_time = time_of(last)
                moved[tp] = part
            if harvest.records >= self._options.max_records or harvest.bytes >= _BYTES:
                break
            await asyncio.sleep(0)
            found = await self._fetch(group, 0)
        batch = self._finish(group, harvest, moved)
        return replace(batch, unwanted=sieve.unwanted())

    async def _fetch(self, group: Group, wait: int) -> Mapping[TopicPartition, Sequence[Any]]:
        most = min(_CHUNK, self._options.max_records)
        try:
            found: Mapping[TopicPartition, Sequence[Any]] = await self._consumer.getmany(
                timeout_ms=wait, max_records=most
            )
        except OffsetOutOfRangeError as error:
            await group.out_of_range(error.args[0])
            self._show(group)
            return {}
        except NoOffsetForPartitionError:  # it is being taken up: our own position comes in a moment
            return {}
        return found

    async def _fetch_any(self, consumer: Any) -> Mapping[TopicPartition, Sequence[Any]]:
        """Fetch what a consumer without a group may have; it has no positions before it is told."""
        try:
            found: Mapping[TopicPartition, Sequence[Any]] = await consumer.getmany(timeout_ms=100, max_records=_CHUNK)
        except NoOffsetForPartitionError:
            return {}
        return found

    def _ours(self, group: Group, tp: TopicPartition, part: Part, records: Sequence[Any]) -> Sequence[Any]:
        """Return the records from our position on, after a look at the one before it."""
        if part.checks:
            part.checks = False
            first = records[0]
            if first.offset == part.position.next - 1 and fingerprint(first) != part.position.last:
                group.recreated(tp, part, 0)
                self._show(group)
                return ()
        if records[0].offset >= part.position.next:
            return records
        return [record for record in records if record.offset >= part.position.next]

    def _finish(self, group: Group, harvest: Harvest, moved: Mapping[TopicPartition, Part]) -> Batch:
        """Put a batch together: what was read, and what the group has to tell."""
        news = group.news
        group.news = type(news)()
        parts = {**{tp: group.parts[tp] for tp in news.parts if tp in group.parts}, **moved}
        counts = dict(harvest.counts)
        for outcome, n in news.counts.items():
            counts[outcome] = counts.get(outcome, 0) + n
        offsets = {tp: part.position.next for tp, part in moved.items()}
        group.take()

        async def ack() -> None:
            now = self._clock.now()
            for part in moved.values():
                part.last_success = now
            group.done(offsets)

        return Batch(
            events=harvest.events,
            cursors=[*news.cursors.values(), *(part.cursor for part in parts.values())],
            fences=[part.fence for part in parts.values()],
            dead_letters=[*news.letters, *harvest.letters],
            counts=counts,
            ack=ack,
        )

    async def _look_around(self, group: Group) -> None:
        """Now and then: are the brokers there, where do the partitions end, and are missing topics there by now?"""
        self._probed = self._clock.monotonic()
        if self._missing:
            async with asyncio.timeout(_PATIENCE):
                await self._subscribe(self._consumer, group)
        asked = list(group.parts) or [
            TopicPartition(topic, 0) for topic in topics_of(self._options, list(await self._consumer.topics()))[:1]
        ]
        async with asyncio.timeout(_PATIENCE):
            self._ends.update(await self._consumer.end_offsets(asked))

    def _end(self, tp: TopicPartition) -> int | None:
        try:
            high: int | None = self._consumer.highwater(tp)
        except Exception:  # noqa: BLE001 - no longer assigned, as far as the library knows
            high = None
        known = self._ends.get(tp)
        return known if high is None else high if known is None else max(high, known)

    def _show(self, group: Group) -> None:
        """Keep what happened visible for a while."""
        news = group.news
        if lost := news.counts.get("lost_to_retention"):
            said = f"{lost} records were deleted by the brokers before they were read; see the dead letters"
        elif news.counts.get("recreated"):
            said = "a topic was deleted and created anew; it is read from its beginning"
        else:
            return
        self._unusual, self._unusual_until = said, self._clock.now() + _SHOW

    async def _peek(self, consumer: Any, cursors: Mapping[str, Cursor], limit: int) -> Batch:
        topics = topics_of(self._options, list(await consumer.topics()))
        if not topics:
            raise NotConnected("there is no topic to read; create one, or correct `topics`")
        consumer.subscribe(topics)  # without a group this takes all partitions
        while not (tps := sorted(consumer.assignment())):
            await self._fetch_any(consumer)
        stands: dict[TopicPartition, Position] = {}
        began, ends = bool(cursors), await consumer.end_offsets(tps)
        for topic in topics:
            known = cursors.get(topic)
            if known is None:
                baseline = await first_offsets(consumer, self._options, topic, self._clock, began=began)
            else:
                baseline = read_baseline(known)
            for tp in (tp for tp in tps if tp.topic == topic):
                cursor = cursors.get(shard_of(topic, tp.partition))
                stood = Position(baseline.starts.get(tp.partition, 0)) if cursor is None else read_position(cursor)
                stands[tp] = stood
                consumer.seek(tp, min(stood.next, ends[tp]))
        harvest, now = Harvest(), self._clock.now()
        want = {tp for tp in tps if stands[tp].next < ends[tp]}
        while want and len(harvest.events) + len(harvest.letters) < limit:
            for tp, records in (await self._fetch_any(consumer)).items():
                if self._schemas is not None:
                    await self._schemas.prepare(records)
                self._reader.read(records, stands[tp].incarnation, WantsAll(), now, harvest)
                if records[-1].offset + 1 >= ends[tp]:
                    want.discard(tp)
        return Batch(events=harvest.events[:limit], dead_letters=harvest.letters[:limit])


async def _stop(consumer: Any) -> None:
    with contextlib.suppress(Exception):
        async with asyncio.timeout(5.0):
            await consumer.stop()
