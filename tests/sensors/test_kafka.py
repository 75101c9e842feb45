"""The kafka sensor on a real broker: positions of our own, topics that change, and records that nobody can read."""

import asyncio
import json

import pytest

from sensors.adapters import kafka_sensor
from sensors.batch import Batch
from sensors.ports import Unavailable
from tests.support.kafka import Kafka, Topic
from tests.support.kafka_bench import SENSOR, KafkaBench, made, send

pytestmark = pytest.mark.integration


def _values(count: int, first: int = 0) -> list[bytes | None]:
    return [json.dumps({"n": n}).encode() for n in range(first, first + count)]


async def test_records_become_events(kafka: Kafka) -> None:
    """A record's place is its id, its key the subject, its headers attributes, its time the event's."""
    topic = await made(kafka, 2)
    bench = KafkaBench(kafka, {"topics": [topic]})
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = [("traceparent", trace.encode()), ("Region", b"no"), ("authorization", b"secret"), ("bad", b"\xff\0")]
    await send(kafka, topic, [b'{"n":1}'], 1, key=b"customer-7", headers=headers, timestamp=1_700_000_000_000)
    async with bench.running() as runner:
        (event,) = await bench.events(1)
        await bench.until(lambda: runner.health.state == "healthy")

    assert event.id == f"{topic}#0/1/0"
    assert event.source == f"kafka://{kafka.bootstrap.split(',')[0]}/{topic}"
    assert (event.type, event.subject) == ("kafka.record", "customer-7")
    assert (event.time, event.data) == (1_700_000_000_000_000, b'{"n":1}')
    assert (event.content_type, event.traceparent, event.trusted) == ("application/json", trace, False)
    assert event.attributes["region"] == "no"
    assert "authorization" not in event.attributes
    assert {name: event.attributes[name] for name in ("topic", "partition", "offset", "key")} == {
        "topic": topic,
        "partition": "1",
        "offset": "0",
        "key": "customer-7",
    }


async def test_a_tombstone_is_an_event_without_data(kafka: Kafka) -> None:
    """A record without a value is told as one."""
    topic = await made(kafka)
    bench = KafkaBench(kafka, {"topics": [topic]})
    await send(kafka, topic, [None], key=b"\xff\x00")
    async with bench.running():
        (event,) = await bench.events(1)

    assert (event.data, event.content_type, event.subject) == (None, None, None)
    assert event.attributes["tombstone"] == "true"
    assert (event.attributes["key"], event.attributes["key_encoding"]) == ("/wA=", "base64")


async def test_it_goes_on_where_the_store_stands(kafka: Kafka) -> None:
    """After a stop the next one reads what came meanwhile, once, whatever the brokers think was read."""
    topic = await made(kafka, 3)
    bench = KafkaBench(kafka, {"topics": [topic]})
    for partition in range(3):
        await send(kafka, topic, _values(10), partition)
    async with bench.running():
        await bench.events(30)
    for partition in range(3):
        await send(kafka, topic, _values(5, 10), partition)
    async with bench.running():
        await bench.events(45)
        await bench.until(lambda: bench.positions() == {f"{topic}/{p}": 15 for p in range(3)})

    assert len({event.id for event in bench.inbox.events}) == 45
    assert bench.inbox.duplicates == 0


async def test_the_brokers_follow(kafka: Kafka) -> None:
    """The group's offsets at the brokers are ours, for tools that watch lag."""
    topic = await made(kafka)
    bench = KafkaBench(kafka, {"topics": [topic], "group": f"g-{topic}"})
    await send(kafka, topic, _values(7))
    async with bench.running():
        await bench.events(7)

    assert await kafka.committed(f"g-{topic}") == {(topic, 0): 7}


async def test_the_brokers_offsets_are_never_believed(kafka: Kafka) -> None:
    """Offsets at the brokers that are ahead of our store make nobody skip a record."""
    topic = await made(kafka)
    bench = KafkaBench(kafka, {"topics": [topic], "group": f"g-{topic}"})
    await send(kafka, topic, _values(20))
    async with bench.running():
        await bench.events(20)
    fresh = KafkaBench(kafka, bench.options)  # the same group; its store has seen nothing
    async with fresh.running():
        await fresh.events(20)

    assert [event.id for event in fresh.inbox.events] == [event.id for event in bench.inbox.events]


async def test_start_now_means_the_first_connect(kafka: Kafka) -> None:
    """With `start: now` what was there is history, what comes while nobody reads is not, and new partitions are not."""
    topic = await made(kafka, 2)
    bench = KafkaBench(kafka, {"topics": [topic], "start": "now"})
    await send(kafka, topic, _values(4), 0)
    async with bench.running():
        await bench.until(lambda: len(bench.positions()) == 2)
    assert bench.inbox.events == []
    await send(kafka, topic, _values(2, 4), 0)
    await Topic(kafka, topic).add_partitions(3)
    await send(kafka, topic, _values(3), 2)
    async with bench.running():
        await bench.events(5)

    assert sorted(event.id for event in bench.inbox.events) == [
        *(f"{topic}#0/0/{n}" for n in (4, 5)),
        *(f"{topic}#0/2/{n}" for n in (0, 1, 2)),
    ]


async def test_start_at_a_moment(kafka: Kafka) -> None:
    """A timestamp begins at the first record that is not older."""
    topic = await made(kafka)
    for second in range(5):
        await send(kafka, topic, _values(1, second), timestamp=(1_700_000_000 + second) * 1000)
    bench = KafkaBench(kafka, {"topics": [topic], "start": "2023-11-14T22:13:23Z"})
    async with bench.running():
        events = await bench.events(2)
        await bench.until(lambda: bench.positions() == {f"{topic}/0": 5})

    assert [event.id for event in events] == [f"{topic}#0/0/3", f"{topic}#0/0/4"]


async def test_a_pattern_finds_topics_that_come_later(kafka: Kafka) -> None:
    """A topic that is made later and fits the pattern is read from its beginning, also with `start: now`."""
    first = await made(kafka)
    word = first.replace("-", "")
    one, other = await made(kafka, name=f"{word}.one"), f"{word}.other"
    bench = KafkaBench(kafka, {"pattern": rf"{word}\..*", "start": "now"})
    await send(kafka, one, _values(3))
    async with bench.running():
        await bench.until(lambda: bench.positions() == {f"{one}/0": 3})
    await made(kafka, name=other)
    await send(kafka, other, _values(2))
    async with bench.running():
        events = await bench.events(2)

    assert [event.id for event in events] == [f"{other}#0/0/0", f"{other}#0/0/1"]


async def test_what_cannot_be_read_goes_to_the_dead_letters(kafka: Kafka) -> None:
    """A record that is no JSON, and one that is too large, are kept with their place; the others go on."""
    topic = await made(kafka)
    bench = KafkaBench(kafka, {"topics": [topic], "max_record": 100})
    await send(kafka, topic, [b'{"n":0}', b"{broken", b'"' + b"x" * 500 + b'"', b'{"n":3}', b"[" * 300 + b"]" * 300])
    async with bench.running():
        await bench.events(2)
        await bench.until(lambda: bench.positions() == {f"{topic}/0": 5})
    letters = bench.inbox.dead_letters

    assert [event.data for event in bench.inbox.events] == [b'{"n":0}', b'{"n":3}']
    assert [(letter.reason, letter.position) for letter in letters] == [
        ("undecodable", f"{topic}/0/1"),
        ("too_large", f"{topic}/0/2"),
        ("too_large", f"{topic}/0/4"),
    ]
    assert (letters[0].payload, letters[0].attributes["offset"]) == (b"{broken", "1")
    assert len(letters[1].payload) == 100
    assert bench.inbox.counts["dead"] == 3


async def test_a_store_that_is_away_loses_nothing(kafka: Kafka) -> None:
    """A batch that cannot be stored is tried again, longer than the session lasts."""
    topic = await made(kafka)
    bench = KafkaBench(kafka, {"topics": [topic]})
    bench.inbox.failures = [Unavailable("away", 0.4) for _ in range(6)]
    await send(kafka, topic, _values(50))
    async with bench.running():
        await bench.events(50)

    assert [event.id for event in bench.inbox.events] == [f"{topic}#0/0/{n}" for n in range(50)]


async def test_records_lost_to_retention_are_told(kafka: Kafka) -> None:
    """What the brokers deleted before it was read is a dead letter with its number, and the rest is read."""
    topic = await made(kafka)
    bench = KafkaBench(kafka, {"topics": [topic]})
    await send(kafka, topic, _values(3))
    async with bench.running():
        await bench.events(3)
    await send(kafka, topic, _values(5, 3))
    await Topic(kafka, topic).delete_records({0: 6})
    async with bench.running() as runner:
        await bench.events(5)
        await bench.until(lambda: runner.health.state == "unhealthy")

    assert [event.id for event in bench.inbox.events[3:]] == [f"{topic}#0/0/6", f"{topic}#0/0/7"]
    assert bench.inbox.counts["lost_to_retention"] == 3
    (letter,) = bench.inbox.dead_letters
    assert (letter.reason, letter.position) == ("lost_to_retention", f"{topic}/0/3")
    assert "3 records" in letter.detail


async def test_retention_that_took_only_what_was_read_loses_nothing(kafka: Kafka) -> None:
    """When the record before our position is gone, nothing is wrong."""
    topic = await made(kafka)
    bench = KafkaBench(kafka, {"topics": [topic]})
    await send(kafka, topic, _values(3))
    async with bench.running():
        await bench.events(3)
    await Topic(kafka, topic).delete_records({0: 3})
    await send(kafka, topic, _values(2, 3))
    async with bench.running():
        await bench.events(5)

    assert bench.inbox.dead_letters == []
    assert [event.id for event in bench.inbox.events[3:]] == [f"{topic}#0/0/3", f"{topic}#0/0/4"]


@pytest.mark.parametrize("count", [2, 3, 6])
async def test_a_topic_made_anew_is_read_from_its_beginning(kafka: Kafka, count: int) -> None:
    """A topic that was deleted and made again is another one, whether it is shorter, as long, or longer than before."""
    topic = await made(kafka)
    bench = KafkaBench(kafka, {"topics": [topic]})
    await send(kafka, topic, _values(3))
    async with bench.running():
        await bench.events(3)
    await Topic(kafka, topic).delete()
    await made(kafka, name=topic)
    await send(kafka, topic, _values(count, 100))
    async with bench.running():
        await bench.events(3 + count)

    assert [event.id for event in bench.inbox.events[3:]] == [f"{topic}#1/0/{n}" for n in range(count)]
    assert bench.inbox.counts["recreated"] == 1
    assert bench.positions() == {f"{topic}/0": count}


async def test_a_topic_that_is_not_there_is_named(kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing topic makes the sensor unhealthy with its name; when it is made, it is read."""
    monkeypatch.setattr(kafka_sensor, "_PROBE", 0.2)
    monkeypatch.setattr(kafka_sensor, "_PROBE_BUSY", 0.2)
    there = await made(kafka)
    missing = f"{there}-missing"
    bench = KafkaBench(kafka, {"topics": [there, missing]})
    await send(kafka, there, _values(1))
    async with bench.running() as runner:
        await bench.events(1)
        await bench.until(lambda: runner.health.state == "unhealthy")
        assert missing in runner.health.reason
        assert "create it" in runner.health.reason
        await made(kafka, name=missing)
        await send(kafka, missing, _values(1))
        await bench.events(2)
        await bench.until(lambda: runner.health.state == "healthy")


async def test_topics_that_are_all_missing_are_waited_for(kafka: Kafka) -> None:
    """Without any topic there is no connection, with a sentence, until one is made."""
    topic = f"{await made(kafka)}-later"
    bench = KafkaBench(kafka, {"topics": [topic]})
    async with bench.running() as runner:
        await bench.until(lambda: runner.health.state == "unhealthy")
        assert topic in runner.health.reason
        await made(kafka, name=topic)
        await send(kafka, topic, _values(1))
        await bench.events(1)


async def test_peeking_moves_nothing(kafka: Kafka) -> None:
    """What would come next is shown, from our position, and afterwards nobody's position has moved."""
    topic = await made(kafka, 2)
    bench = KafkaBench(kafka, {"topics": [topic], "group": f"g-{topic}"})
    await send(kafka, topic, _values(2))
    async with bench.running():
        await bench.events(2)
    await send(kafka, topic, [*_values(2, 2), b"broken"])
    await send(kafka, topic, _values(1), 1)
    before = await bench.inbox.cursors(SENSOR)
    shown = await bench.sensor().peek(before, bench.inbox.lookup(SENSOR), 10)
    told = await kafka.committed(f"g-{topic}")

    assert isinstance(shown, Batch)
    assert sorted(event.id for event in shown.events) == [f"{topic}#0/0/2", f"{topic}#0/0/3", f"{topic}#0/1/0"]
    assert [letter.position for letter in shown.dead_letters] == [f"{topic}/0/4"]
    assert await bench.inbox.cursors(SENSOR) == before
    assert told[topic, 0] == 2
    async with bench.running():
        await bench.events(5)


async def test_two_members_share_and_hand_over(kafka: Kafka) -> None:
    """While members come and go, every record is one event, and no batch is stored by somebody who was replaced."""
    topic = await made(kafka, 4)
    bench = KafkaBench(kafka, {"topics": [topic]})

    async def produce() -> None:
        async with Topic(kafka, topic).producer() as producer:
            for n in range(400):
                await producer.send_and_wait(topic, b'{"n":%d}' % n, partition=n % 4)

    producing = asyncio.ensure_future(produce())
    async with bench.running():
        await bench.events(50)
        async with bench.running():
            await bench.events(150)
        await bench.events(250)
        async with bench.running():
            await producing
            await bench.events(400)

    assert len({event.id for event in bench.inbox.events}) == 400
    assert bench.inbox.duplicates == 0
    assert bench.positions() == {f"{topic}/{p}": 100 for p in range(4)}
