"""Partitions of a group: taken up in the store before they are read, given back after the batch in hand."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError

from sensors.adapters.kafka_group import HAND_OVER, Group
from sensors.adapters.kafka_options import KafkaOptions
from sensors.adapters.kafka_positions import Position, read_position
from sensors.batch import Batch
from sensors.errors import NotConnected
from sensors.ports import Owned, Unavailable
from sensors.testing import FakeInbox, VirtualClock, settle
from tests.support.fake_kafka import FakeConsumer, FakeRetrace
from tests.support.records import record

SENSOR = "payments"
ZERO, ONE = TopicPartition("orders", 0), TopicPartition("orders", 1)


def log(count: int, first: int = 0, word: str = "a") -> tuple[int, list[Any]]:
    return first, [record(f"{word}{n}".encode(), n) for n in range(first, first + count)]


@dataclass
class Stage:
    """A group over a fake consumer and a store in memory, under a clock that a test moves."""

    consumer: FakeConsumer = field(default_factory=FakeConsumer)
    clock: VirtualClock = field(default_factory=VirtualClock)
    inbox: FakeInbox = field(default_factory=FakeInbox)
    away: list[Unavailable] = field(default_factory=list)
    asked: list[Sequence[str]] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)

    def group(self, consumer: FakeConsumer | None = None, **options: Any) -> Group:
        chosen = KafkaOptions.model_validate(
            {"brokers": ["k:9092"], "topics": ["orders"], "start": "beginning", **options}
        )
        lookup = self.inbox.lookup(SENSOR)
        take = lookup.take

        def own(shards: Sequence[str]) -> Mapping[str, Owned]:
            self.asked.append(shards)
            if self.away:
                raise self.away.pop(0)
            assert take is not None
            return take(shards)

        lookup.take = own
        mine = consumer or self.consumer
        made = Group(mine, chosen, lookup, self.clock, FakeRetrace(mine), began=False)
        self.groups.append(made)
        return made

    async def assign(self, group: Group, *tps: TopicPartition) -> None:
        self.consumer.assign(*tps)
        await group.on_partitions_assigned(tps)
        await settle()

    async def keep(self, group: Group) -> None:
        """Make the positions durable as the sensor would."""
        await self.inbox.put(SENSOR, Batch(cursors=tuple(group.baselines.values())))
        for part in group.parts.values():
            await self.inbox.put(SENSOR, Batch(cursors=(part.cursor,), fences=(part.fence,)))

    async def read(self, group: Group, tp: TopicPartition, count: int) -> None:
        """Go through the next records of a log, one batch for each, and keep the positions."""
        for _ in range(count):
            part = group.parts[tp]
            first, records = self.consumer.logs[tp]
            part.position = part.position.after(records[part.position.next - first])
        await self.keep(group)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    made = Stage()
    made.consumer.logs = {ZERO: log(10), ONE: log(4)}
    yield made
    for group in made.groups:
        await group.leave()


async def test_partitions_begin_where_start_says_then_where_the_store_stands(stage: Stage) -> None:
    """The first time at the beginning, later after what was stored; the client stands at the last record, to look."""
    group = stage.group()
    await stage.assign(group, ZERO, ONE)
    assert {tp: part.position.next for tp, part in group.parts.items()} == {ZERO: 0, ONE: 0}
    assert set(group.baselines) == {"orders"}
    assert all(part.moved for part in group.parts.values())
    await stage.read(group, ZERO, 6)

    again = stage.group()
    await stage.assign(again, ZERO)
    part = again.parts[ZERO]
    assert (part.position.next, part.epoch, part.moved) == (6, 2, False)
    assert part.checks == part.position.last
    assert stage.consumer.places == {ZERO: 5}
    assert stage.consumer.paused == set()


async def test_while_the_store_is_away_the_group_does_not_wait(stage: Stage) -> None:
    """The client is told at once, so that its heartbeats go on; partitions are paused until the store has answered."""
    group = stage.group()
    stage.away = [Unavailable("gone", 5.0), Unavailable("still gone", 5.0)]
    stage.consumer.assign(ZERO)
    async with asyncio.timeout(1):
        await group.on_partitions_assigned([ZERO])
    await settle()
    assert (group.parts, stage.consumer.paused) == ({}, {ZERO})
    assert "gone" in group.waiting
    await stage.clock.advance(5.0)
    assert "still gone" in group.waiting
    await stage.clock.advance(5.0)

    assert (set(group.parts), stage.consumer.paused, group.waiting) == ({ZERO}, set(), "")
    assert len(stage.asked) == 3


async def test_who_was_replaced_cannot_store(stage: Stage) -> None:
    """A process that slept through the loss of its partitions has fences that are no longer worth anything."""
    sleeper = stage.group()
    await stage.assign(sleeper, ZERO)
    old = sleeper.parts[ZERO]
    await stage.assign(stage.group(), ZERO)
    stored = await stage.inbox.put(SENSOR, Batch(cursors=(Position(9).cursor("orders", 0),), fences=(old.fence,)))

    assert stored.stale
    assert "orders/0" not in await stage.inbox.cursors(SENSOR)


async def test_a_take_up_that_was_overtaken_changes_nothing(stage: Stage) -> None:
    """Partitions that went away while the store was asked are not ours when it answers."""
    group = stage.group()
    stage.away = [Unavailable("gone", 5.0)]
    await stage.assign(group, ZERO)
    await group.on_partitions_revoked([ZERO])
    await stage.assign(group, ONE)
    await stage.clock.advance(10.0)

    assert set(group.parts) == {ONE}
    assert stage.asked == [["orders/0", "orders"], ["orders/1", "orders"]]


async def test_the_batch_in_hand_is_waited_for(stage: Stage) -> None:
    """Partitions are given back when it is durable, and the brokers are told before; or after some seconds."""
    group = stage.group()
    await stage.assign(group, ZERO)
    group.take()
    leaving = asyncio.ensure_future(group.on_partitions_revoked([ZERO]))
    await settle()
    assert not leaving.done()
    group.done({ZERO: 7})
    await leaving
    assert (stage.consumer.commits, group.parts) == ([{ZERO: 7}], {})

    await stage.assign(group, ZERO)
    turn = group.turn
    group.take()
    leaving = asyncio.ensure_future(group.on_partitions_revoked([ZERO]))
    await stage.clock.advance(HAND_OVER + 0.1)
    assert leaving.done()
    assert (group.parts, group.turn) == ({}, turn + 1)


async def test_offsets_of_what_is_no_longer_ours_are_not_told(stage: Stage) -> None:
    """The brokers hear only of partitions that we hold, and that they refuse hurts nobody."""
    group = stage.group()
    await stage.assign(group, ZERO, ONE)
    stage.consumer.failure = CommitFailedError("rebalance")
    group.done({ZERO: 3})
    await settle()
    stage.consumer.failure = None
    await group.on_partitions_revoked([ZERO, ONE])
    await stage.assign(group, ONE)
    group.done({ZERO: 4, ONE: 2})
    await stage.clock.advance(2.0)

    assert stage.consumer.commits == [{ONE: 2}]


async def test_nothing_more_is_fetched_while_a_batch_is_long_in_hand(stage: Stage) -> None:
    """A store that is slow or away stops the fetches, so that what was fetched ahead stays bounded."""
    group = stage.group()
    await stage.assign(group, ZERO, ONE)
    group.start()
    await settle()
    await stage.clock.advance(5.0)
    assert stage.consumer.paused == set()
    group.take()
    await stage.clock.advance(1.1)
    assert stage.consumer.paused == {ZERO, ONE}
    group.done({})
    group.go_on()

    assert stage.consumer.paused == set()


async def test_a_partition_without_a_leader_holds_up_no_other(stage: Stage) -> None:
    """What was read before is taken up without asking the brokers anything."""
    group = stage.group()
    await stage.assign(group, ZERO, ONE)
    await stage.keep(group)
    stage.consumer.silent = True
    again = stage.group()
    await stage.assign(again, ZERO, ONE)

    assert set(again.parts) == {ZERO, ONE}


# -- logs that are not the ones that were read -------------------------------------------------------------------------
async def _out_of_range(stage: Stage, group: Group) -> None:
    """Let the brokers say that they have no such offset, and give them the time to know better."""
    finding = asyncio.ensure_future(group.out_of_range([ZERO]))
    await stage.clock.advance(3.0)
    await finding


async def test_a_log_that_lost_its_end_is_read_on_from_where_it_is_the_same(stage: Stage) -> None:
    """After the brokers lost the last records, what stands at their offsets now is read, under another number."""
    group = stage.group()
    await stage.assign(group, ZERO)
    await stage.read(group, ZERO, 10)
    stage.consumer.logs[ZERO] = (0, [*log(7)[1], *log(2, 7, "new")[1]])
    await _out_of_range(stage, group)
    part = group.parts[ZERO]

    assert (part.position.next, part.position.incarnation, part.counts) == (7, 1, {"truncated": 1})
    assert part.moved
    assert stage.consumer.places == {ZERO: 7}


async def test_a_topic_made_anew_is_read_from_its_beginning(stage: Stage) -> None:
    """Where no mark is found again, it is another topic, also when it is shorter than the one that was read."""
    group = stage.group()
    await stage.assign(group, ZERO)
    await stage.read(group, ZERO, 10)
    stage.consumer.logs[ZERO] = log(3, word="other")
    await _out_of_range(stage, group)
    part = group.parts[ZERO]

    assert (part.position, part.counts) == (Position(0, 1), {"recreated": 1})


async def test_a_leader_that_knows_less_for_a_moment_is_waited_for(stage: Stage) -> None:
    """A log that is shorter only until its new leader has caught up is the same log."""
    group = stage.group()
    await stage.assign(group, ZERO)
    await stage.read(group, ZERO, 10)
    stage.consumer.logs[ZERO] = log(8)
    finding = asyncio.ensure_future(group.out_of_range([ZERO]))
    await stage.clock.advance(0.6)
    stage.consumer.logs[ZERO] = log(10)
    await stage.clock.advance(3.0)
    await finding

    assert (group.parts[ZERO].position.next, group.parts[ZERO].counts) == (10, {})


async def test_what_retention_took_is_told_exactly(stage: Stage) -> None:
    """Records that were deleted before they were read are a dead letter with their number and offsets."""
    group = stage.group()
    await stage.assign(group, ZERO)
    await stage.read(group, ZERO, 3)
    stage.consumer.logs[ZERO] = log(4, first=6)
    await group.out_of_range([ZERO, ONE])
    part = group.parts[ZERO]

    assert (part.position, part.counts) == (Position(6), {"lost_to_retention": 3})
    (letter,) = part.letters
    assert (letter.reason, letter.position) == ("lost_to_retention", "orders/0/3")
    assert "offsets 3 to 5" in letter.detail


async def test_a_position_of_another_version_stops_it(stage: Stage) -> None:
    """What a newer version stored is not guessed at: the next read raises it."""
    group = stage.group()
    await stage.assign(group, ZERO)
    part = group.parts[ZERO]
    odd = part.cursor
    odd = type(odd)(odd.shard, odd.value.replace('"v":1', '"v":2'))
    await stage.inbox.put(SENSOR, Batch(cursors=(odd,)))
    again = stage.group()
    await stage.assign(again, ZERO)

    assert isinstance(again.failure, NotConnected)
    assert read_position(part.cursor).next == 0
