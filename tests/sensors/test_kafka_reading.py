"""Making batches of what the client fetches: nothing is passed over, whatever happens between two steps."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition

from sensors.adapters import kafka_sensor
from sensors.adapters.kafka_formats import Json
from sensors.adapters.kafka_group import HAND_OVER, Group
from sensors.adapters.kafka_options import KafkaOptions
from sensors.adapters.kafka_sensor import KafkaSensor
from sensors.errors import NotConnected
from sensors.testing import FakeInbox, VirtualClock, settle
from tests.support.fake_kafka import FakeConsumer, FakeRetrace
from tests.support.records import record

SENSOR = "payments"
ZERO, ONE = TopicPartition("orders", 0), TopicPartition("orders", 1)


class Between:
    """Stands in for the schemas of a registry: `do` happens while they are fetched."""

    def __init__(self) -> None:
        self.do: Callable[[], Any] | None = None

    async def prepare(self, records: Iterable[Any]) -> None:
        if self.do is not None:
            do, self.do = self.do, None
            await do()

    async def close(self) -> None:
        """There is nothing to let go."""


class Reading:
    """A sensor over a fake consumer, joined by hand."""

    def __init__(self, **options: Any) -> None:
        self.clock, self.inbox, self.consumer, self.between = VirtualClock(), FakeInbox(), FakeConsumer(), Between()
        for tp, count in ((ZERO, 30), (ONE, 30)):
            records = [record(b'{"n":%d}' % n, n, partition=tp.partition) for n in range(count)]
            self.consumer.logs[tp] = (0, records)
        chosen = KafkaOptions.model_validate(
            {"brokers": ["k:9092"], "topics": ["orders"], "start": "beginning", **options}
        )
        between: Any = self.between
        self.sensor = KafkaSensor(SENSOR, "g", chosen, Path("/"), self.clock, Json(), between)
        lookup = self.inbox.lookup(SENSOR)
        self.group = Group(self.consumer, chosen, lookup, self.clock, FakeRetrace(self.consumer), began=False)
        self.sensor._consumer, self.sensor._group = self.consumer, self.group

    async def assign(self, *tps: TopicPartition) -> None:
        revoking = asyncio.ensure_future(self.group.on_partitions_revoked(()))
        await self.clock.advance(HAND_OVER + 0.1)  # a batch in hand may be long in coming
        await revoking
        self.consumer.assign(*tps)
        await self.group.on_partitions_assigned(tps)
        await settle()

    async def store(self, *, times: int = 1) -> None:
        """Read and store so many batches."""
        for _ in range(times):
            batch = await self.sensor.read()
            stored = await self.inbox.put(SENSOR, batch)
            assert not stored.stale
            await batch.ack()

    def ids(self) -> list[str]:
        return sorted(event.id for event in self.inbox.events)


ALL = sorted(f"orders#0/{partition}/{n}" for partition in (0, 1) for n in range(30))


@pytest.fixture
async def reading() -> AsyncIterator[Reading]:
    made = Reading(max_records=7)
    await made.assign(ZERO, ONE)
    yield made
    await made.group.leave()


async def test_batches_follow_each_other_without_a_gap(reading: Reading) -> None:
    """However small a batch is, what was fetched for it is in it, and each record is one event."""
    await reading.store(times=12)

    assert reading.ids() == ALL
    assert reading.inbox.duplicates == 0


async def test_partitions_that_come_back_in_between_are_read_again(reading: Reading) -> None:
    """While a schema is fetched the group takes partitions away and gives them back: nothing is lost or told twice."""
    await reading.store()
    reading.between.do = lambda: reading.assign(ZERO, ONE)
    batch = await reading.sensor.read()
    assert batch.empty
    await reading.store(times=12)

    assert reading.ids() == ALL
    assert reading.inbox.duplicates == 0


async def test_what_went_to_somebody_else_is_not_stored(reading: Reading) -> None:
    """A partition that was taken away in between leaves nothing behind, and the other one goes on."""
    reading.between.do = lambda: reading.assign(ONE)
    assert (await reading.sensor.read()).empty
    await reading.store(times=12)

    assert reading.ids() == [one for one in ALL if one.startswith("orders#0/1/")]


async def test_an_error_leaves_the_positions_where_they_were(reading: Reading) -> None:
    """A registry that fails in the middle of a batch: after the reconnect everything of it is read."""

    async def fail() -> None:
        raise NotConnected("the registry is away")

    await reading.store()
    reading.between.do = fail
    with pytest.raises(NotConnected, match="registry"):
        await reading.sensor.read()
    await reading.assign(ZERO, ONE)
    await reading.store(times=12)

    assert reading.ids() == ALL
    assert reading.inbox.duplicates == 0


async def test_a_batch_of_several_partitions_can_be_put_apart(reading: Reading) -> None:
    """When one partition is somebody else's, what was read of the other is stored by itself."""
    batch = await reading.sensor.read()
    await reading.inbox.lookup(SENSOR).own(["orders/0"])
    assert (await reading.inbox.put(SENSOR, batch)).stale
    stored = [await reading.inbox.put(SENSOR, piece) for piece in batch.apart]

    assert sorted(one.stale for one in stored) == [False, False, True]  # the third is where the topic began
    assert {event.id.rsplit("/", 1)[0] for event in reading.inbox.events} == {"orders#0/1"}


async def test_a_batch_is_closed_when_it_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events are bounded by number and by bytes, however many records may be in it."""
    monkeypatch.setattr(kafka_sensor, "_CHUNK", 2)
    monkeypatch.setattr(kafka_sensor, "_EVENTS", 9)
    one = Reading()
    await one.assign(ZERO, ONE)
    assert len((await one.sensor.read()).events) == 12  # a fetch brings two of each
    monkeypatch.setattr(kafka_sensor, "_BYTES", 10)
    assert len((await one.sensor.read()).events) == 4
    await one.group.leave()


async def test_idle_is_no_write(reading: Reading) -> None:
    """When everything was read, a read stores nothing."""
    await reading.store(times=12)
    writes = len(reading.inbox.batches)
    batch = await reading.sensor.read()

    assert batch.empty
    assert len(reading.inbox.batches) == writes
    assert reading.sensor.trouble() is None


async def test_offsets_without_records_are_passed(reading: Reading) -> None:
    """The client gets past marks of transactions; the position follows when nothing before them is left."""
    await reading.store(times=12)
    reading.consumer.places[ZERO] = 33
    await reading.store()

    assert reading.group.parts[ZERO].position.next == 33
    assert '"next":33' in (await reading.inbox.cursors(SENSOR))["orders/0"].value
    assert (await reading.sensor.read()).empty


@pytest.mark.parametrize("left", [0, 28, 29, 30])
async def test_a_topic_made_anew_is_noticed_however_long_it_is(reading: Reading, left: int) -> None:
    """Also when it ends exactly where the last record was that was read, and nothing more is written."""
    await reading.store(times=12)
    reading.consumer.logs[ZERO] = (0, [record(b'{"new":%d}' % n, n, partition=0) for n in range(left)])
    await reading.assign(ZERO, ONE)
    for _ in range(3):
        going = asyncio.ensure_future(reading.store())
        await reading.clock.advance(3.0)
        await going

    await reading.store(times=8)

    assert sorted(event.id for event in reading.inbox.events[60:]) == sorted(f"orders#1/0/{n}" for n in range(left))
    assert reading.inbox.counts["recreated"] == 1


async def test_a_missing_connection_is_said(reading: Reading) -> None:
    """Whoever reads before connecting is told so."""
    reading.sensor._group = None
    with pytest.raises(NotConnected):
        await reading.sensor.read()
