"""Membership in a consumer group: which partitions are ours, from where each is read, and what the brokers are told.

In flow assignments of the group, out flows a set of `Part`s that read at the positions of our store. A partition is
ours when three things have happened, in this order: the group assigned it, the store raised its epoch (so that whoever
had it before cannot commit any more), and the client stands at the stored position. Until then its records are not
looked at.

The brokers' own offsets are never read; they follow ours, so that tools that watch lag see it. Before partitions are
given back, the batch in hand is waited for, so that it is not read twice.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError

from sensors.adapters.kafka_options import KafkaOptions
from sensors.adapters.kafka_positions import Baseline, Position, read_baseline, read_position, shard_of
from sensors.batch import Cursor, DeadLetter, Fence
from sensors.clock import Clock
from sensors.ports import Lookup

_HAND_OVER = 8.0  # seconds that the batch in hand has before partitions are given back
_COMMIT_EVERY = 1.0
_LOOKS = 4
_LOOK_AGAIN = 0.5
_log = logging.getLogger("tidegate.sensors.kafka")


@dataclass(slots=True)
class Part:
    """One partition that is ours. `checks` says that the record before `position` is to be compared, if it is there."""

    topic: str
    partition: int
    epoch: int
    position: Position
    checks: bool
    last_time: int | None = None  # of the last record, UTC micros
    last_success: int | None = None

    @property
    def shard(self) -> str:
        """Return the name of its position in the store."""
        return shard_of(self.topic, self.partition)

    @property
    def fence(self) -> Fence:
        """Return the proof that it is ours."""
        return Fence(self.shard, self.epoch)

    @property
    def cursor(self) -> Cursor:
        """Return its position as it is stored."""
        return self.position.cursor(self.topic, self.partition)


@dataclass(slots=True)
class News:
    """What the next batch must carry besides events: positions that were fixed, what was lost, what was found."""

    parts: set[TopicPartition] = field(default_factory=set)
    cursors: dict[str, Cursor] = field(default_factory=dict)
    letters: list[DeadLetter] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.parts or self.cursors or self.letters or self.counts)


class Group(ConsumerRebalanceListener):  # type: ignore[misc]
    """The partitions of one consumer. All methods belong to one loop."""

    def __init__(self, consumer: Any, options: KafkaOptions, lookup: Lookup, clock: Clock, *, began: bool) -> None:
        """`began`: whether this sensor has read anything before (topics that a pattern finds later start at 0)."""
        self._consumer = consumer
        self._options = options
        self._lookup = lookup
        self._clock = clock
        self._began = began
        self.parts: dict[TopicPartition, Part] = {}
        self.news = News()
        self.failure: BaseException | None = None
        self._idle = asyncio.Event()  # nothing of a batch is in hand
        self._idle.set()
        self._told: dict[TopicPartition, int] = {}
        self._telling: asyncio.Task[None] | None = None

    # -- the batch in hand --------------------------------------------------------------------------------------------
    def take(self) -> None:
        """A batch is being made: partitions are not given back until it is durable, or some seconds have passed."""
        self._idle.clear()

    def done(self, offsets: Mapping[TopicPartition, int]) -> None:
        """The batch in hand is durable: tell the brokers, by and by."""
        self._idle.set()
        self._told.update(offsets)
        if offsets and (self._telling is None or self._telling.done()):
            self._telling = asyncio.ensure_future(self._tell())

    def drop(self) -> None:
        """There is no batch in hand after all."""
        self._idle.set()

    async def _tell(self) -> None:
        while self._told:
            await self._commit()
            await self._clock.sleep(_COMMIT_EVERY)

    async def _commit(self) -> None:
        offsets = {tp: at for tp, at in self._told.items() if tp in self.parts}
        self._told.clear()
        if offsets:
            try:
                await self._consumer.commit(offsets)
            except (KafkaError, IllegalStateError) as error:  # the next one tells more; our own positions are the truth
                _log.debug("the brokers were not told of offsets: %s", error)

    async def leave(self) -> None:
        """Tell the brokers the last offsets and stop; never raises."""
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.wait({self._telling})
        try:
            async with asyncio.timeout(2.0):
                await self._commit()
        except (TimeoutError, Exception) as error:  # noqa: BLE001 - leaving promises not to raise
            _log.debug("the brokers were not told of the last offsets: %s", error)

    # -- the group ----------------------------------------------------------------------------------------------------
    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Give partitions back: the batch in hand first becomes durable, within a bound."""
        if not self._idle.is_set():
            waiting = asyncio.ensure_future(self._idle.wait())
            nap = asyncio.ensure_future(self._clock.sleep(_HAND_OVER))
            await asyncio.wait({waiting, nap}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            nap.cancel()
        if self._told:
            await self._commit()
        self.parts = {}

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Take partitions; what goes wrong is raised by the next read."""
        try:
            await self.take_up(sorted(assigned))
        except Exception as error:  # noqa: BLE001 - the client library would only log it
            self.failure = error

    async def take_up(self, assigned: Sequence[TopicPartition]) -> None:
        """Own the partitions in the store, and stand where it says. Raises what store and brokers raise."""
        self.parts = {}
        self.news = News()
        if not assigned:
            return
        topics = sorted({tp.topic for tp in assigned})
        shards = {tp: shard_of(tp.topic, tp.partition) for tp in assigned}
        owned = await self._lookup.own([*shards.values(), *topics])
        baselines, news = {}, News()
        for topic in topics:
            known = owned[topic].cursor
            if known is None:
                baselines[topic] = await first_offsets(
                    self._consumer, self._options, topic, self._clock, began=self._began
                )
                news.cursors[topic] = baselines[topic].cursor(topic)
            else:
                baselines[topic] = read_baseline(known)
        firsts = await self._consumer.beginning_offsets(list(assigned))
        ends = await self._consumer.end_offsets(list(assigned))
        parts: dict[TopicPartition, Part] = {}
        anew: list[TopicPartition] = []
        for tp, shard in shards.items():
            mine = owned[shard]
            if mine.cursor is None:
                position = Position(baselines[tp.topic].starts.get(tp.partition, firsts[tp]))
                news.parts.add(tp)
            else:
                position = read_position(mine.cursor)
            checks = bool(position.last) and position.next > 0
            part = parts[tp] = Part(tp.topic, tp.partition, mine.epoch, position, checks)
            if position.next > ends[tp] and await self._is_shorter(tp, part):
                anew.append(tp)
        # Nothing is awaited from here on: whoever reads sees all of it or nothing.
        for tp, part in parts.items():
            self._consumer.seek(tp, part.position.next - part.checks)
        self.parts, self.news = parts, news
        for tp in anew:
            self.recreated(tp, parts[tp], firsts[tp])

    async def _is_shorter(self, tp: TopicPartition, part: Part) -> bool:
        """Say whether a log ends before our position, and goes on doing so: a new leader may know less for a moment."""
        for _ in range(_LOOKS):
            if part.position.next <= (await self._consumer.end_offsets([tp]))[tp]:
                return False
            await self._clock.sleep(_LOOK_AGAIN)
        return True

    # -- positions that the brokers do not have (any more) ------------------------------------------------------------
    async def out_of_range(self, where: Iterable[TopicPartition]) -> None:
        """Find out why a position is not there: only the record before it went, records were lost, or the topic did."""
        for tp in where:
            part = self.parts.get(tp)
            if part is None:
                continue
            first = (await self._consumer.beginning_offsets([tp]))[tp]
            if await self._is_shorter(tp, part):
                self.recreated(tp, part, first)
                continue
            if part.position.next < first:
                self._lost(tp, part, first)
            part.checks = False
            self._consumer.seek(tp, part.position.next)

    def recreated(self, tp: TopicPartition, part: Part, first: int) -> None:
        """Read a topic that was created anew from its beginning, under another number."""
        _log.warning(
            "topic %s was created anew (partition %d): it is read from its beginning",
            *(tp.topic, tp.partition),
            extra={"action": "topic_recreated"},
        )
        part.position = Position(first, part.position.incarnation + 1)
        part.checks = False
        self.news.parts.add(tp)
        self.news.counts["recreated"] = self.news.counts.get("recreated", 0) + 1
        self._consumer.seek(tp, first)

    def _lost(self, tp: TopicPartition, part: Part, first: int) -> None:
        """Keep for people that the brokers deleted records before they were read."""
        last, lost = part.position.next, first - part.position.next
        detail = (
            f"{lost} records of {part.shard} were deleted by the brokers before they were read (offsets {last} to "
            f"{first - 1}); lengthen the topic's retention, or find out why this sensor was behind"
        )
        _log.error("%s", detail, extra={"action": "records_lost"})
        self.news.letters.append(DeadLetter("lost_to_retention", detail, f"{part.shard}/{last}"))
        self.news.counts["lost_to_retention"] = self.news.counts.get("lost_to_retention", 0) + lost
        self.news.parts.add(tp)
        part.position = replace(part.position, next=first, last="")


async def first_offsets(consumer: Any, options: KafkaOptions, topic: str, clock: Clock, *, began: bool) -> Baseline:
    """Return where the partitions of a topic begin that was never read.

    `began`: this sensor has read other topics before, so that one which its pattern finds now is new.
    """
    tps = [TopicPartition(topic, partition) for partition in sorted(consumer.partitions_for_topic(topic) or ())]
    start = options.start
    if start.mode == "beginning" or (began and options.pattern is not None):
        found = await consumer.beginning_offsets(tps)
    else:
        found = await consumer.end_offsets(tps)
        if start.mode != "now":
            at = start.micros(clock.now()) // 1000
            for tp, stamped in (await consumer.offsets_for_times(dict.fromkeys(tps, at))).items():
                if stamped is not None:
                    found[tp] = stamped.offset
    return Baseline({tp.partition: offset for tp, offset in found.items()})
