"""The kafka sensor on logs that are not plain: transactions, compression, giants, partitions and topics that change."""

import os
import signal
from typing import Any

import pytest
from aiokafka import TopicPartition

from sensors.adapters import kafka_client, kafka_sensor
from sensors.adapters.kafka_client import client
from sensors.adapters.kafka_positions import Mark, Position, fingerprint, read_position
from sensors.adapters.kafka_retracing import Retracing
from sensors.clock import SystemClock
from tests.support.kafka import Kafka, Topic, running_noida
from tests.support.kafka_bench import SENSOR, KafkaBench, made, send
from tests.support.records import record, rules_of

pytestmark = pytest.mark.integration


async def _transaction(topic: Topic, values: list[bytes], *, commit: bool) -> None:
    async with topic.producer(transactional_id=f"x-{topic.name}") as producer:
        await producer.begin_transaction()
        for value in values:
            await (await topic.send(producer, value))
        await (producer.commit_transaction() if commit else producer.abort_transaction())


@pytest.mark.parametrize("isolation", ["read_committed", "read_uncommitted"])
async def test_only_committed_records_are_events(kafka: Kafka, isolation: str) -> None:
    """Aborted records are not read unless asked for; marks of transactions are no records, and leave no lag behind.

    Retention that takes them with all that was read has lost nothing.
    """
    topic = Topic(kafka, await made(kafka))
    await _transaction(topic, [b"1", b"2"], commit=True)
    await _transaction(topic, [b"3"], commit=False)
    bench = KafkaBench(kafka, {"topics": [topic.name], "isolation": isolation})
    expected = [b"1", b"2"] if isolation == "read_committed" else [b"1", b"2", b"3"]
    end = (await topic.ends())[0]
    async with bench.running() as runner:
        await bench.events(len(expected))
        await bench.until(lambda: bench.positions() == {f"{topic.name}/0": end})
        await bench.until(lambda: runner.health.lag == 0.0)
    assert [event.data for event in bench.inbox.events] == expected
    await topic.delete_records({0: end})
    await topic.produce([b"4"])
    async with bench.running():
        await bench.events(len(expected) + 1)

    assert bench.inbox.dead_letters == []
    assert bench.inbox.events[-1].data == b"4"


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_compressed_records_are_read(kafka: Kafka, codec: str) -> None:
    """Every codec that producers use is understood."""
    topic = Topic(kafka, await made(kafka))
    async with topic.producer(compression_type=codec) as producer:
        for _ in range(20):
            await producer.send_and_wait(topic.name, b'{"n":"%s"}' % (b"x" * 500))
    bench = KafkaBench(kafka, {"topics": [topic.name]})
    async with bench.running():
        await bench.events(20)


async def test_a_giant_is_buried_with_what_may_be_kept_of_it(kafka: Kafka) -> None:
    """A record of 20 MB does not stop the partition: it is a dead letter of `max_record` bytes."""
    topic = Topic(kafka, await made_large(kafka))
    await topic.produce([b'{"n":1}', b'"' + b"x" * (20 << 20) + b'"', b'{"n":2}'], max_request_size=32 << 20)
    bench = KafkaBench(kafka, {"topics": [topic.name], "max_record": 1000})
    async with bench.running():
        await bench.events(2)
        await bench.until(lambda: bench.positions() == {f"{topic.name}/0": 3})
    (letter,) = bench.inbox.dead_letters

    assert (letter.reason, letter.position, len(letter.payload)) == ("too_large", f"{topic.name}/0/1", 1000)


async def made_large(kafka: Kafka) -> str:
    """Make a topic that takes giants."""
    topic = Topic(kafka, await made(kafka) + "-large")
    await topic.create(1, max_message_bytes=32 << 20)
    return topic.name


async def test_what_is_not_wanted_moves_the_position_and_is_counted(kafka: Kafka) -> None:
    """Of 5,000 records one in a hundred passes; the others are exact numbers, in batches of a bounded size."""
    topic = Topic(kafka, await made(kafka, 2))
    values: list[Any] = [b'{"kind":"%s","n":%d}' % (b"cold" if n % 100 else b"hot", n) for n in range(2500)]
    rules = rules_of([{"exact": {"data.kind": "hot"}}, {"exact": {"data.kind": "warm"}}])

    class Filters:
        def wants(self, type: str, subject: str | None) -> bool:
            return True

        def sieve(self) -> Any:
            return rules.sieve("s")

    bench = KafkaBench(kafka, {"topics": [topic.name], "max_records": 700}, prefilter=Filters())
    for partition in (0, 1):
        await send(kafka, topic.name, values, partition)
    async with bench.running():
        await bench.until(lambda: bench.positions() == {f"{topic.name}/{p}": 2500 for p in (0, 1)})

    assert len(bench.inbox.events) == 50
    assert bench.inbox.counts["unmatched"] == 4950
    assert bench.inbox.unwanted == {("s|*", "c1"): 4950}
    assert len(bench.inbox.batches) >= 5000 // 1200


async def test_partitions_that_are_added_are_read_at_once(kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it reads, with `start: now`: what is in a new partition came after the start."""
    monkeypatch.setattr(kafka_client, "_METADATA", 300)
    topic = Topic(kafka, await made(kafka))
    bench = KafkaBench(kafka, {"topics": [topic.name], "start": "now"})
    async with bench.running():
        await bench.until(lambda: bool(bench.positions()))
        await topic.add_partitions(2)
        await send(kafka, topic.name, [b"1"], 1)
        (event,) = await bench.events(1)

    assert event.id == f"{topic.name}#0/1/0"


@pytest.mark.apache_kafka  # the other broker makes it anew when it is asked for
async def test_a_topic_that_is_deleted_under_it_is_named(apache_kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another topic goes on; the one that is gone makes the sensor unhealthy, and made anew it is read as another."""
    monkeypatch.setattr(kafka_client, "_METADATA", 300)
    monkeypatch.setattr(kafka_sensor, "_PROBE", 0.2)
    monkeypatch.setattr(kafka_sensor, "_PROBE_BUSY", 0.2)
    gone, other = Topic(apache_kafka, await made(apache_kafka)), await made(apache_kafka)
    bench = KafkaBench(apache_kafka, {"topics": [gone.name, other]})
    await send(apache_kafka, gone.name, [b"1", b"2"])
    async with bench.running() as runner:
        await bench.events(2)
        await bench.until(lambda: bench.positions().get(f"{gone.name}/0") == 2)
        await gone.delete()
        await bench.until(lambda: gone.name in runner.health.reason)
        assert runner.health.state == "unhealthy"
        await send(apache_kafka, other, [b"3"])
        await bench.events(3)
        await gone.create()
        await send(apache_kafka, gone.name, [b"4", b"5", b"6"])
        events = await bench.events(6)

    assert sorted(event.id for event in events[3:]) == [f"{gone.name}#1/0/{n}" for n in range(3)]
    assert bench.inbox.counts["recreated"] == 1


@pytest.mark.apache_kafka
async def test_a_member_with_a_name_comes_back_to_its_partitions(apache_kafka: Kafka) -> None:
    """With `instance` a restart within the session moves nothing: the other member reads on undisturbed."""
    topic = await made(apache_kafka, 4)
    bench = KafkaBench(apache_kafka, {"topics": [topic], "session_timeout": 15.0})
    turns: list[int] = []
    async with bench.running(instance="b") as other:

        def shared() -> bool:
            return len(other.health.shards) == 2

        async with bench.running(instance="a"):
            await bench.until(shared, 30.0)
            turns.append(other._sensor._group.turn)  # type: ignore[attr-defined]
        async with bench.running(instance="a"):
            for partition in range(4):
                await send(apache_kafka, topic, [b"1"], partition)
            await bench.events(4)
            turns.append(other._sensor._group.turn)  # type: ignore[attr-defined]

    assert turns[0] == turns[1]


async def test_the_way_back_is_found_in_a_real_log(kafka: Kafka) -> None:
    """The newest mark that the log still holds is where reading goes on; without any, its beginning."""
    topic = Topic(kafka, await made(kafka))
    await topic.produce([b"%d" % n for n in range(10)])
    tp = TopicPartition(topic.name, 0)
    bench = KafkaBench(kafka, {"topics": [topic.name]})
    async with bench.running():
        await bench.events(10)
        await bench.until(lambda: bench.positions() == {f"{topic.name}/0": 10})
    cursor = (await bench.inbox.cursors(SENSOR))[f"{topic.name}/0"]
    (true,) = (mark for mark in read_position(cursor).marks if mark.offset == 9)
    wrong = Mark(8, fingerprint(record(b"never", 8)))
    options = bench.sensor()._options
    retracing = Retracing(lambda: client("t", options, bench.base, SystemClock())(None))

    found = await retracing.back(tp, Position(40, 2, (Mark(30, "beyond"), wrong, true)), 0)
    nothing = await retracing.back(tp, Position(40, 2, (wrong,)), 4)

    assert (found, nothing) == (Position(10, 3, (true,)), Position(4, 3))


async def test_brokers_that_go_away_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quiet topic does not hide that nobody answers any more; when they are back, it goes on."""
    monkeypatch.setattr(kafka_sensor, "_PROBE", 0.2)
    monkeypatch.setattr(kafka_sensor, "_PATIENCE", 1.0)
    with running_noida() as lonely:
        topic = await made(lonely)
        bench = KafkaBench(lonely, {"topics": [topic], "session_timeout": 6.0})
        await send(lonely, topic, [b"1"])
        async with bench.running() as runner:
            await bench.events(1)
            assert lonely.pid is not None
            os.kill(lonely.pid, signal.SIGSTOP)
            try:
                await bench.until(lambda: runner.health.state == "unhealthy")
                assert lonely.bootstrap in runner.health.reason
            finally:
                os.kill(lonely.pid, signal.SIGCONT)
            await bench.until(lambda: runner.health.state == "healthy")
            await send(lonely, topic, [b"2"])
            await bench.events(2)

    assert [event.data for event in bench.inbox.events] == [b"1", b"2"]
