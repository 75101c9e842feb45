"""RabbitMQ as it is: what goes wrong with it, on a real broker; each has its sentence and heals by itself."""

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel

from sensors.errors import NotConnected
from sensors.testing import EverythingWanted, FakeInbox
from tests.support.rabbit import READER, Rabbit
from tests.support.rabbit_runs import build, left, publish, runs, unacknowledged
from tests.support.running import until

pytestmark = pytest.mark.integration


async def _deleted(channel: AbstractChannel, queue: str, sensor: Any) -> None:
    await channel.queue_delete(queue)
    await channel.declare_queue(queue, durable=True)


async def _channel_closed(channel: AbstractChannel, queue: str, sensor: Any) -> None:
    raw = await sensor._session.link._channel.get_underlay_channel()
    await raw.basic_ack(999_999)  # an unknown tag, for which the broker closes the channel


async def _connection_cut(channel: AbstractChannel, queue: str, sensor: Any) -> None:
    sensor._session.link._connection.transport.connection._writer_task.cancel()


async def _peer_gone(channel: AbstractChannel, queue: str, sensor: Any) -> None:
    reader = sensor._session.link._connection.transport.connection._reader_task
    reader.cancel()


@pytest.mark.parametrize("wrong", [_deleted, _channel_closed, _connection_cut, _peer_gone])
async def test_it_comes_back_by_itself(
    rabbitmq: Rabbit, channel: AbstractChannel, queue: str, wrong: Callable[..., Any]
) -> None:
    """Whatever takes queue, channel or connection away, the sensor says so, connects again and loses nothing."""
    inbox = FakeInbox()
    sensor = build(rabbitmq.url(), queue=queue)
    async with runs(inbox, sensor) as runner:
        await publish(channel, queue, message_id="before")
        await until(lambda: len(inbox.events) == 1 and runner.health.state == "healthy")
        await wrong(channel, queue, sensor)
        await until(lambda: runner.health.errors >= 1)
        await publish(channel, queue, message_id="after")
        await until(lambda: len(inbox.events) == 2)
        await until(lambda: runner.health.state == "healthy")
    assert {event.id for event in inbox.events} == {"before", "after"}


async def test_a_broker_that_restarts_loses_nothing(rabbitmq: Rabbit) -> None:
    """The sensor connects again by itself; what was stored stays one event each, and what comes later is read."""
    inbox = FakeInbox()
    name = f"q-{uuid.uuid4().hex[:12]}"
    sensor = build(rabbitmq.url(), queue=name, declare=True)
    async with runs(inbox, sensor) as runner:
        await until(lambda: runner.health.state == "healthy")
        async with await aio_pika.connect(rabbitmq.url()) as connection:
            outside = await connection.channel()
            for number in range(50):
                await publish(outside, name, message_id=str(number), delivery_mode=2)
        await until(lambda: len(inbox.events) == 50)
        await asyncio.to_thread(rabbitmq.restart)
        # A broker that crashed may have forgotten a queue that was just made; the sensor makes it again.
        await until(lambda: runner.health.errors >= 1 and unacknowledged(sensor) >= 0, 30)
        async with await aio_pika.connect(rabbitmq.url()) as connection:
            outside = await connection.channel()
            await publish(outside, name, message_id="after", delivery_mode=2)
            await until(lambda: len(inbox.events) == 51, 30)
            await until(lambda: runner.health.state == "healthy")
            await outside.queue_delete(name)
    assert len({event.id for event in inbox.events}) == 51


async def test_the_cause_is_named(rabbitmq: Rabbit, channel: AbstractChannel, queue: str) -> None:
    """Each thing that keeps a sensor from its queue has a sentence of its own, and none shows the password."""
    url, port = rabbitmq.url, rabbitmq.tls_port
    cases: list[tuple[str, dict[str, Any], str]] = [
        (url(password="wrong-one"), {"queue": queue}, "refuses the credentials"),
        (url(vhost="nowhere"), {"queue": queue}, "has no virtual host 'nowhere'"),
        (url(vhost="locked"), {"queue": queue}, "does not let this user into the virtual host 'locked'"),
        (url(), {"queue": "nowhere"}, "no queue 'nowhere'.*declare: true"),
        (url(), {"queue": queue, "declare": True, "queue_type": "quorum"}, "other properties than asked for"),
        (url(), {"exchange": "nowhere", "bindings": ["#"]}, "no exchange 'nowhere'.*create the exchange"),
        (url(), {"queue": queue, "dead_letter": {"exchange": "nowhere"}}, "no exchange 'nowhere'"),
        (url(READER), {"queue": "new", "declare": True}, "does not let this user do it"),
        (url(port=9), {"queue": queue}, "cannot be reached"),
        (url(port=port), {"queue": queue}, "cannot be reached|wants TLS"),
        (url(port=port).replace("amqp:", "amqps:"), {"queue": queue}, "cannot be trusted.*tls"),
        (url().replace("amqp:", "amqps:"), {"queue": queue}, "speaks no TLS"),
    ]
    for address, options, sentence in cases:
        sensor = build(address, **options)
        with pytest.raises(NotConnected, match=sentence) as found:
            await sensor.connect({}, FakeInbox().lookup("q"), EverythingWanted())
        assert "wrong-one" not in str(found.value)
    await channel.queue_delete("tidegate-svc-q")


async def test_tls_with_a_trusted_certificate(rabbitmq: Rabbit, channel: AbstractChannel, queue: str) -> None:
    """With the certificate to trust an amqps: URL works, and events are what they are."""
    inbox = FakeInbox()
    url = rabbitmq.url(port=rabbitmq.tls_port).replace("amqp:", "amqps:")
    await publish(channel, queue, message_id="1")
    async with runs(inbox, build(url, queue=queue, tls={"ca": rabbitmq.ca})):
        await until(lambda: len(inbox.events) == 1)
    assert await left(channel, queue) == 0


async def test_a_stream_is_refused_with_a_sentence(rabbitmq: Rabbit, channel: AbstractChannel) -> None:
    """A stream keeps no place for its readers, so reading on as if it did would lose messages: it is refused."""
    name = f"s-{uuid.uuid4().hex[:12]}"
    await channel.declare_queue(name, durable=True, arguments={"x-queue-type": "stream"})
    inbox = FakeInbox()
    async with runs(inbox, build(rabbitmq.url(), queue=name)) as runner:
        await until(lambda: runner.health.state == "healthy")
        await publish(channel, name, b"x")
        await until(lambda: runner.health.errors >= 1)
        assert "is a stream" in runner.health.reason or runner.health.state == "healthy"
    assert inbox.events == []
    await channel.queue_delete(name)


async def test_the_window_bounds_what_is_in_hand(rabbitmq: Rabbit, channel: AbstractChannel, queue: str) -> None:
    """No more is in hand than `prefetch`, nor than `prefetch_size` can hold of the largest messages."""
    for number in range(20):
        await publish(channel, queue, message_id=str(number))
    for options, window in (({"prefetch": 5}, 5), ({"prefetch_size": "128KiB", "max_message": "64KiB"}, 2)):
        sensor = build(rabbitmq.url(), queue=queue, **options)
        await sensor.connect({}, FakeInbox().lookup("q"), EverythingWanted())
        await until(lambda sensor=sensor, window=window: len(sensor._came) == window)  # type: ignore[misc]
        assert sensor.lag() == 20
        await sensor.close()
        assert await left(channel, queue) == 20
