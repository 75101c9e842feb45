"""Showing the next records of topics without moving anything: no group, no position, nothing left open.

In flow our durable positions, out flow events and dead letters as reads would make them, up to a limit.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import NoOffsetForPartitionError

from sensors.adapters.kafka_group import first_offsets
from sensors.adapters.kafka_options import KafkaOptions, topics_of
from sensors.adapters.kafka_positions import Position, read_baseline, read_position, shard_of
from sensors.adapters.kafka_records import Harvest, RecordReader
from sensors.adapters.kafka_registry import Schemas
from sensors.batch import Batch, Cursor
from sensors.clock import Clock
from sensors.errors import NotConnected
from sensors.ports import WantsAll

_WAIT = 100  # milliseconds
_CHUNK = 100  # records


async def peek(
    consumer: Any,
    options: KafkaOptions,
    reading: tuple[RecordReader, Schemas | None],
    clock: Clock,
    cursors: Mapping[str, Cursor],
    limit: int,
) -> Batch:
    """Read on from our positions through a started consumer that is in no group. Raises NotConnected."""
    reader, schemas = reading
    topics = topics_of(options, list(await consumer.topics()))
    if not topics:
        raise NotConnected("there is no topic to read; create one, or correct `topics`")
    consumer.subscribe(topics)  # without a group this takes all partitions
    while not (tps := sorted(consumer.assignment())):
        await _fetch(consumer)
    firsts, ends = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
    stands: dict[TopicPartition, Position] = {}
    for topic in topics:
        known = cursors.get(topic)
        if known is None:
            baseline = await first_offsets(consumer, options, topic, clock, began=bool(cursors))
        else:
            baseline = read_baseline(known)
        for tp in (tp for tp in tps if tp.topic == topic):
            cursor = cursors.get(shard_of(topic, tp.partition))
            stood = Position(baseline.starts.get(tp.partition, 0)) if cursor is None else read_position(cursor)
            if stood.next > ends[tp]:  # another log than the one that was read
                stood = Position(firsts[tp], stood.incarnation + 1)
            stands[tp] = replace(stood, next=max(stood.next, firsts[tp]))
            consumer.seek(tp, stands[tp].next)
    harvest, now = Harvest(), clock.now()
    want = {tp for tp in tps if stands[tp].next < ends[tp]}
    while want and len(harvest.events) + len(harvest.letters) < limit:
        for tp, records in (await _fetch(consumer)).items():
            if schemas is not None:
                await schemas.prepare(records)
            reader.read(records, stands[tp].incarnation, WantsAll(), now, harvest)
        # What ends with marks of transactions holds no record there, and yet the position gets past them.
        want = {tp for tp in want if await consumer.position(tp) < ends[tp]}
    return Batch(events=harvest.events[:limit], dead_letters=harvest.letters[:limit])


async def _fetch(consumer: Any) -> Mapping[TopicPartition, Sequence[Any]]:
    """Fetch what there is; before it is told, a consumer without a group has no positions."""
    try:
        found: Mapping[TopicPartition, Sequence[Any]] = await consumer.getmany(timeout_ms=_WAIT, max_records=_CHUNK)
    except NoOffsetForPartitionError:
        await asyncio.sleep(0)
        return {}
    return found
