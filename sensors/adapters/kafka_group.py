"""Membership in a consumer group: which partitions are ours, from where each is read, and what the brokers are told.

In flow assignments of the group, out flows a set of `Part`s that read at the positions of our store. A partition is
ours when three things have happened, in this order: the group assigned it, the store raised its epoch (so that whoever
had it before cannot commit any more), and the client stands at the stored position. Until then it is paused. The store
is asked beside the client's own work, so that heartbeats go on while it is slow or away.

The brokers' own offsets are never read; they follow ours, so that tools that watch lag see it. Before partitions are
given back, the batch in hand is waited for, so that it is not read twice. While a batch is long in hand (the store is
slow, or away), partitions are paused: then the client fetches no further ahead.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError

from sensors.adapters.kafka_options import KafkaOptions
from sensors.adapters.kafka_positions import Baseline, Mark, Position, read_baseline, read_position, shard_of
from sensors.adapters.kafka_retracing import Retrace
from sensors.batch import Cursor, DeadLetter, Fence
from sensors.clock import Clock
from sensors.ports import Lookup, Unavailable

HAND_OVER = 8.0  # seconds that the batch in hand has before partitions are given back
_COMMIT_EVERY = 1.0
_COMMIT = 5.0  # seconds that brokers have to take offsets
_LOOKS = 4
_LOOK_AGAIN = 0.5
_LONG = 0.5  # seconds after which a batch is long in hand
_log = logging.getLogger("tidegate.sensors.kafka")


@dataclass(slots=True)
class Part:
    """One partition that is ours.

    `checks`: the client stands at the last record that was read, which is to be compared. `letters`, `counts` and
    `moved` are what the next batch must carry of it besides events.
    """

    topic: str
    partition: int
    epoch: int
    position: Position
    checks: Mark | None = None
    moved: bool = False
    letters: list[DeadLetter] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
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


class Group(ConsumerRebalanceListener):  # type: ignore[misc]
    """The partitions of one consumer. All methods belong to one loop.

    `turn` rises whenever partitions come or go: what was read before belongs to nobody. `waiting` says why assigned
    partitions are not read yet; `failure` is what the next read is to raise.
    """

    def __init__(
        self, consumer: Any, options: KafkaOptions, lookup: Lookup, clock: Clock, retrace: Retrace, *, began: bool
    ) -> None:
        """`began`: whether this sensor has read anything before (topics that a pattern finds later start at 0)."""
        self._consumer = consumer
        self._options = options
        self._lookup = lookup
        self._clock = clock
        self._retrace = retrace
        self._began = began
        self.parts: dict[TopicPartition, Part] = {}
        self.baselines: dict[str, Cursor] = {}  # to be stored with the next batch
        self.turn = 0
        self.waiting = ""
        self.failure: BaseException | None = None
        self._idle = asyncio.Event()  # nothing of a batch is in hand
        self._idle.set()
        self._since = 0.0  # when the batch in hand was taken
        self._paused = False
        self._told: dict[TopicPartition, int] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self) -> None:
        """Begin to watch over the batch in hand."""
        self._begin("watch", self._watch())

    def _begin(self, name: str, work: Any) -> None:
        self._tasks[name] = asyncio.get_running_loop().create_task(work, name=f"kafka {name}")

    async def _end(self, name: str) -> None:
        task = self._tasks.pop(name, None)
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    # -- the batch in hand --------------------------------------------------------------------------------------------
    def take(self) -> None:
        """A batch is being made: partitions are not given back until it is durable, or some seconds have passed."""
        self._since = self._clock.monotonic()
        self._idle.clear()

    def done(self, offsets: Mapping[TopicPartition, int]) -> None:
        """The batch in hand is durable: tell the brokers, by and by."""
        self._idle.set()
        self._told.update(offsets)
        telling = self._tasks.get("tell")
        if offsets and (telling is None or telling.done()):
            self._begin("tell", self._tell())

    def drop(self) -> None:
        """There is no batch in hand after all."""
        self._idle.set()

    def go_on(self) -> None:
        """Fetch again what was paused because a batch was long in hand."""
        if self._paused:
            self._paused = False
            with contextlib.suppress(IllegalStateError, AssertionError):  # no longer assigned
                self._consumer.resume(*self.parts)

    async def _watch(self) -> None:
        while True:
            await self._clock.sleep(_LONG)
            long = not self._idle.is_set() and self._clock.monotonic() - self._since >= _LONG
            if long and not self._paused and self.parts:
                self._paused = True
                with contextlib.suppress(IllegalStateError, AssertionError):
                    self._consumer.pause(*self.parts)

    async def _tell(self) -> None:
        while self._told:
            await self._commit()
            await self._clock.sleep(_COMMIT_EVERY)

    async def _commit(self) -> None:
        offsets = {tp: at for tp, at in self._told.items() if tp in self.parts}
        self._told.clear()
        if offsets:
            try:
                async with asyncio.timeout(_COMMIT):
                    await self._consumer.commit(offsets)
            except (
                KafkaError,
                IllegalStateError,
                TimeoutError,
            ) as error:  # the next one tells more; our own positions are the truth
                _log.debug("the brokers were not told of offsets: %s", error)

    async def leave(self) -> None:
        """Tell the brokers the last offsets and stop; never raises."""
        for name in tuple(self._tasks):
            await self._end(name)
        try:
            async with asyncio.timeout(2.0):
                await self._commit()
        except (TimeoutError, Exception) as error:  # noqa: BLE001 - leaving promises not to raise
            _log.debug("the brokers were not told of the last offsets: %s", error)

    # -- the group ----------------------------------------------------------------------------------------------------
    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Give partitions back: the batch in hand first becomes durable, within a bound."""
        await self._end("take up")
        if not self._idle.is_set():
            waiting = asyncio.ensure_future(self._idle.wait())
            nap = asyncio.ensure_future(self._clock.sleep(HAND_OVER))
            await asyncio.wait({waiting, nap}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            nap.cancel()
        if self._told:
            await self._commit()
        self._reset()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Hear which partitions are ours; they are taken up beside, for the group waits for this to return."""
        await self._end("take up")
        self._reset()
        if tps := sorted(assigned):
            self._consumer.pause(*tps)
            for tp in tps:  # any place, so that the client does not look for one at the brokers
                self._consumer.seek(tp, 0)
            self._begin("take up", self._take_up_somehow(tps))

    def _reset(self) -> None:
        self.parts, self.baselines, self.waiting, self._paused = {}, {}, "", False
        self.turn += 1

    async def _take_up_somehow(self, assigned: Sequence[TopicPartition]) -> None:
        """Take partitions up; while the store is away, try again. What else goes wrong is raised by the next read."""
        while True:
            try:
                await self.take_up(assigned)
            except Unavailable as error:
                self.waiting = f"partitions are not read, for the store cannot say where to begin: {error}"
                await self._clock.sleep(max(0.2, error.retry_after))
            except IllegalStateError:  # the group has moved on
                return
            except Exception as error:  # noqa: BLE001 - nobody awaits this task
                self.failure = error
                return
            else:
                self.waiting = ""
                return

    async def take_up(self, assigned: Sequence[TopicPartition]) -> None:
        """Own the partitions in the store, and stand where it says. Raises what store and brokers raise.

        The brokers are asked only about what was never read: one partition without a leader must not hold up others.
        """
        topics = sorted({tp.topic for tp in assigned})
        shards = {tp: shard_of(tp.topic, tp.partition) for tp in assigned}
        owned = await self._lookup.own([*shards.values(), *topics])
        starts: dict[str, Baseline] = {}
        fresh: dict[str, Cursor] = {}
        for topic in topics:
            known = owned[topic].cursor
            if known is None:
                if not self._consumer.partitions_for_topic(topic):  # another member knows it; asking makes it known
                    await self._consumer.end_offsets([tp for tp in assigned if tp.topic == topic])
                starts[topic] = await first_offsets(
                    self._consumer, self._options, topic, self._clock, began=self._began
                )
                fresh[topic] = starts[topic].cursor(topic)
            else:
                starts[topic] = read_baseline(known)
        added = [
            tp for tp in assigned if owned[shards[tp]].cursor is None and tp.partition not in starts[tp.topic].starts
        ]
        firsts = await self._consumer.beginning_offsets(added) if added else {}
        parts: dict[TopicPartition, Part] = {}
        for tp, shard in shards.items():
            cursor = owned[shard].cursor
            if cursor is None:
                position = Position(starts[tp.topic].starts[tp.partition] if tp not in firsts else firsts[tp])
            else:
                position = read_position(cursor)
            part = parts[tp] = Part(tp.topic, tp.partition, owned[shard].epoch, position, position.last)
            part.moved = cursor is None
        # Nothing is awaited from here on: whoever reads sees all of it or nothing.
        self.parts, self.baselines = parts, fresh
        self.turn += 1
        self.stand()
        self._consumer.resume(*parts)

    def stand(self) -> None:
        """Let the client stand where our parts do: what it fetched and nobody took comes again."""
        for tp, part in self.parts.items():
            self._consumer.seek(tp, part.position.next if part.checks is None else part.checks.offset)

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
                await self.recreated(tp, part)
                continue
            if part.position.next < first:
                self._lost(part, first)
            part.checks = None
            if self.parts.get(tp) is part:
                self._consumer.seek(tp, part.position.next)

    async def recreated(self, tp: TopicPartition, part: Part) -> None:
        """Read on where the log is still the one that was read; that of a topic made anew from its beginning."""
        first = (await self._consumer.beginning_offsets([tp]))[tp]
        place = await self._retrace.back(tp, part.position, first)
        if self.parts.get(tp) is part:
            self._other_log(tp, part, place)

    def _other_log(self, tp: TopicPartition, part: Part, place: Position) -> None:
        outcome = "truncated" if place.marks else "recreated"
        _log.warning(
            "%s (partition %d): %s",
            tp.topic,
            tp.partition,
            "the brokers lost the end of the log; it is read on from where it is still the same"
            if place.marks
            else "the topic was created anew; it is read from its beginning",
            extra={"action": f"topic_{outcome}"},
        )
        part.position, part.checks, part.moved = place, None, True
        part.counts[outcome] = part.counts.get(outcome, 0) + 1
        self._consumer.seek(tp, place.next)

    def _lost(self, part: Part, first: int) -> None:
        """Keep for people that the brokers deleted records before they were read."""
        last, lost = part.position.next, first - part.position.next
        detail = (
            f"{lost} records of {part.shard} were deleted by the brokers before they were read (offsets {last} to "
            f"{first - 1}); lengthen the topic's retention, or find out why this sensor was behind"
        )
        _log.error("%s", detail, extra={"action": "records_lost"})
        part.letters.append(DeadLetter("lost_to_retention", detail, f"{part.shard}/{last}"))
        part.counts["lost_to_retention"] = part.counts.get("lost_to_retention", 0) + lost
        part.moved = True
        part.position = replace(part.position, next=first, marks=())


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
