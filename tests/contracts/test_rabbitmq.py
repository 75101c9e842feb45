"""RabbitMQ as it is: what only this kind of queue can do, on a real broker."""

import asyncio
import json
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel

from sensors.testing import EverythingWanted, FakeInbox
from tests.support.rabbit import Rabbit
from tests.support.rabbit_runs import build, left, publish, runs, unacknowledged
from tests.support.raw_amqp import entry, properties, publish_raw
from tests.support.running import load, running, until

pytestmark = pytest.mark.integration
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


# -- what an event says ------------------------------------------------------------------------------------------------
async def test_everything_that_amqp_says_is_in_the_event(rabbitmq: Rabbit, channel: AbstractChannel) -> None:
    """Properties, routing and headers are attributes, the timestamp is the time, the trace is linked."""
    exchange = await channel.declare_exchange(f"x-{uuid.uuid4().hex[:8]}", "topic")
    inbox = FakeInbox()
    sensor = build(rabbitmq.url(), exchange=exchange.name, bindings=["order.*", "refund"])
    message = aio_pika.Message(
        b'{"n": 1}',
        content_type="application/json",
        message_id="m-1",
        correlation_id="c-1",
        reply_to="answers",
        app_id="shop",
        type="order",
        timestamp=datetime(2026, 1, 31, 6, tzinfo=UTC),
        headers={
            "traceparent": TRACE,
            "team": "ü",
            "n": 7,
            "api-token": "hidden",
            "routing_key": "pretended",
            "x": None,
        },
    )
    async with runs(inbox, sensor) as runner:
        await until(lambda: runner.health.state == "healthy")
        await exchange.publish(message, "order.new")
        await exchange.publish(aio_pika.Message(b"other"), "elsewhere")
        await until(lambda: len(inbox.events) == 1)
    (event,) = inbox.events
    assert (event.id, event.type, event.subject, event.data) == ("m-1", "rabbitmq.message", "order.new", b'{"n": 1}')
    assert event.source == f"rabbitmq://127.0.0.1:{rabbitmq.port}/%2F/tidegate-svc-q"
    assert event.time == 1_769_839_200_000_000
    assert (event.traceparent, event.trusted) == (TRACE, False)
    wanted = {
        "exchange": exchange.name,
        "routing_key": "order.new",
        "message_id": "m-1",
        "correlation_id": "c-1",
        "reply_to": "answers",
        "app_id": "shop",
        "type": "order",
        "team": "ü",
        "n": "7",
        "header.routing_key": "pretended",
    }
    assert wanted.items() <= event.attributes.items()
    assert "hidden" not in event.attributes.values()
    assert "redelivered" not in event.attributes
    await channel.queue_delete("tidegate-svc-q")


async def test_cloud_events_by_both_modes(rabbitmq: Rabbit, channel: AbstractChannel, queue: str) -> None:
    """Structured and binary CloudEvents keep their own identity, type, source and time."""
    inbox = FakeInbox()
    whole = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "shop.order", "data": {"n": 1}}
    kind = "application/cloudevents+json; charset=utf-8"
    await publish(channel, queue, json.dumps(whole).encode(), content_type=kind, message_id="other")
    for sign in (":", "_"):
        headers: dict[str, Any] = {
            f"cloudEvents{sign}specversion": "1.0",
            f"cloudEvents{sign}id": f"2{sign}",
            f"cloudEvents{sign}source": "/shop",
            f"cloudEvents{sign}type": "shop.refund",
            f"cloudEvents{sign}time": datetime(2026, 1, 31, 6, tzinfo=UTC),
        }
        await publish(channel, queue, b'{"n": 2}', content_type="application/json", headers=headers)
    await publish(channel, queue, b"{}", headers={"cloudEvents:specversion": "1.0"})
    async with runs(inbox, build(rabbitmq.url(), queue=queue)):
        await until(lambda: len(inbox.events) == 3 and len(inbox.dead_letters) == 1)
    assert [(event.id, event.type, event.source) for event in inbox.events] == [
        ("/shop 1", "shop.order", "/shop"),
        ("/shop 2:", "shop.refund", "/shop"),
        ("/shop 2_", "shop.refund", "/shop"),
    ]
    assert [event.data for event in inbox.events] == [b'{"n":1}', b'{"n": 2}', b'{"n": 2}']
    assert inbox.events[1].time == 1_769_839_200_000_000
    assert "id is missing" in inbox.dead_letters[0].detail


async def test_who_gives_the_identity(rabbitmq: Rabbit, channel: AbstractChannel, queue: str) -> None:
    """An expression goes first, then the message's id, then equal bodies if that is asked for, else each delivery."""
    for body in (b'{"n": 1}', b'{"n": 1}'):
        await publish(channel, queue, body, message_id="same")
        await publish_raw(rabbitmq.port, queue.encode(), body, properties())

    async def ids(**options: Any) -> list[str]:
        sensor, inbox = build(rabbitmq.url(), queue=queue, format="json", **options), FakeInbox()
        await sensor.connect({}, inbox.lookup("q"), EverythingWanted())
        events: list[Any] = []
        async with asyncio.timeout(10):
            while len(events) < 4:
                events += (await sensor.read()).events
        await sensor.close()
        await left(channel, queue)
        return [event.id if event.id != event.uid else "delivery" for event in events]

    assert await ids() == ["same", "delivery", "same", "delivery"]
    hashed = await ids(dedup={"body": "10m"})
    assert hashed[0] == hashed[2] == "same"
    assert hashed[1] == hashed[3]
    assert hashed[1].startswith("sha256:")
    assert await ids(id='"n-" + string(body.n)') == ["n-1"] * 4


# -- poison --------------------------------------------------------------------------------------------------------
async def test_frames_that_no_client_can_read_do_not_stop_the_queue(
    rabbitmq: Rabbit, channel: AbstractChannel, queue: str
) -> None:
    """Properties that are no text, or no moment, make a dead letter with the body; what is behind them is read."""
    inbox = FakeInbox()
    name = queue.encode()
    await publish_raw(rabbitmq.port, name, b"one", properties(message_id=b"\xff\xfe"))
    await publish_raw(rabbitmq.port, name, b"two", properties(headers=entry(b"\xff", b"v")))
    await publish_raw(rabbitmq.port, name, b"three", properties(timestamp=(1 << 63) - 1))
    await publish_raw(rabbitmq.port, name, b"four", properties(message_id=b"a\0b"))
    await publish_raw(rabbitmq.port, name, b"five", properties(message_id=b"5", headers=entry(b"h", b"\xff\0")))
    await publish(channel, queue, b"last", message_id="last")
    async with runs(inbox, build(rabbitmq.url(), queue=queue)) as runner:
        await until(lambda: len(inbox.events) == 2 and len(inbox.dead_letters) == 4)
        assert runner.health.errors == 0
    assert [(letter.reason, letter.payload) for letter in inbox.dead_letters] == [
        ("undecodable", b"one"),
        ("undecodable", b"two"),
        ("undecodable", b"three"),
        ("unstorable", b"four"),
    ]
    assert "fffe" in inbox.dead_letters[0].attributes["properties_hex"]
    assert [(event.id, event.data) for event in inbox.events] == [("5", b"five"), ("last", b"last")]
    assert inbox.events[0].attributes["h"] == "ÿ%00"
    assert await left(channel, queue) == 0


async def test_a_routing_key_that_is_no_text_is_escaped(rabbitmq: Rabbit, channel: AbstractChannel) -> None:
    """The broker lets any bytes be a routing key; the event has them escaped."""
    exchange = await channel.declare_exchange(f"x-{uuid.uuid4().hex[:8]}", "topic")
    inbox = FakeInbox()
    async with runs(inbox, build(rabbitmq.url(), exchange=exchange.name, bindings=["#"])) as runner:
        await until(lambda: runner.health.state == "healthy")
        where = {"exchange": exchange.name.encode(), "key": b"a.\xff"}
        await publish_raw(rabbitmq.port, b"", b"x", properties(message_id=b"1"), **where)
        await until(lambda: len(inbox.events) == 1)
    assert inbox.events[0].subject == "a.%FF"
    await channel.queue_delete("tidegate-svc-q")


async def test_poison_is_published_to_the_exchange_as_well(
    rabbitmq: Rabbit, channel: AbstractChannel, queue: str
) -> None:
    """It arrives there with its body, properties and the reason, and only then leaves its queue."""
    exchange = await channel.declare_exchange(f"x-{uuid.uuid4().hex[:8]}", "fanout")
    inbox = FakeInbox()
    sensor = build(rabbitmq.url(), queue=queue, format="json", dead_letter={"exchange": exchange.name})
    await publish(channel, queue, b"{", message_id="bad", user_id="guest", headers={"team": "x", "CC": ["elsewhere"]})
    async with runs(inbox, sensor) as runner:
        await until(lambda: runner.health.state == "unhealthy")
        assert "no queue for the routing key" in runner.health.reason
        assert (len(inbox.dead_letters), unacknowledged(sensor)) == (1, 1)

        dead = await channel.declare_queue(f"{queue}-dead")
        await dead.bind(exchange)
        await publish(channel, queue, b"}", message_id="worse")  # brings the next attempt
        await until(lambda: runner.health.state == "healthy")
        assert unacknowledged(sensor) == 0
    came = [await dead.get(), await dead.get()]
    assert [(one.body, one.message_id, one.routing_key) for one in came] == [
        (b"{", "bad", queue),
        (b"}", "worse", queue),
    ]
    assert came[0].headers["team"] == "x"
    assert came[0].headers["x-tidegate-reason"] == "undecodable"
    assert came[0].headers["x-tidegate-sensor"] == "q"
    assert len(inbox.dead_letters) == 2
    assert await left(channel, queue) == 0
    await channel.queue_delete(dead.name)


# -- acknowledged when the runs have ended -----------------------------------------------------------------------------
async def test_a_message_waits_for_the_runs_of_its_event(
    rabbitmq: Rabbit, channel: AbstractChannel, queue: str
) -> None:
    """With `run_finished` each message is acknowledged when its own runs have ended, well or not, in any order."""
    inbox = FakeInbox()
    sensor = build(rabbitmq.url(), queue=queue, ack="run_finished", id="headers.message_id", prefetch=3)

    class Starts(FakeInbox):
        async def put(self, *args: Any) -> Any:
            for event in args[1].events:
                if event.id != "free":
                    self.runs.setdefault(event.uid, "accepted")
            return await super().put(*args)

    inbox = Starts()
    for name in ("a", "b", "free", "c", "d"):
        await publish(channel, queue, b"{}", message_id=name)
    async with runs(inbox, sensor):
        await until(lambda: len(inbox.events) == 4)  # three in hand, and `free` started nothing
        by_id = {event.id: event.uid for event in inbox.events}
        assert set(by_id) == {"a", "b", "free", "c"}
        assert unacknowledged(sensor) == 3
        inbox.runs[by_id["b"]] = "failed"
        await until(lambda: len(inbox.events) == 5)
        assert unacknowledged(sensor) == 3
        for event in inbox.events:
            inbox.runs[event.uid] = "succeeded"
        await until(lambda: unacknowledged(sensor) == 0)
    assert await left(channel, queue) == 0
    assert inbox.duplicates == 0


async def test_what_comes_again_waits_on_or_is_acknowledged_at_once(
    rabbitmq: Rabbit, channel: AbstractChannel, queue: str
) -> None:
    """After a restart the messages come again, are known, and go as their runs stand: no run is started twice."""
    inbox = FakeInbox()
    options = {"queue": queue, "ack": "run_finished", "id": "headers.message_id"}
    for name in ("ended", "runs"):
        await publish(channel, queue, b"{}", message_id=name)
    first = build(rabbitmq.url(), **options)
    await first.connect({}, inbox.lookup("q"), EverythingWanted())
    while len(inbox.events) < 2:
        batch = await first.read()
        inbox.runs.update({event.uid: "accepted" for event in batch.events})
        assert batch.dedup_for is None or not batch.events
        await inbox.put("q", batch)
        await batch.ack()
    assert unacknowledged(first) == 2
    await first.close()

    by_id = {event.id: event.uid for event in inbox.events}
    inbox.runs[by_id["ended"]] = "succeeded"
    second = build(rabbitmq.url(), **options)
    async with runs(inbox, second):
        await until(lambda: inbox.duplicates == 2 and unacknowledged(second) == 1)
        inbox.runs[by_id["runs"]] = "succeeded"
        await until(lambda: unacknowledged(second) == 0)
    assert (len(inbox.events), await left(channel, queue)) == (2, 0)


SERVICE = """
service: {{name: svc, store: 'sqlite:///store.db'}}
sensors:
  jobs:
    kind: rabbitmq
    url: '${{env:AMQP_URL:-{url}}}'
    queue: {queue}
    format: json
    ack: run_finished
    id: headers.message_id
triggers:
  work:
    on: {{sensor: jobs}}
    when: event.data.code >= 0
    run: {{pipeline: work, params: {{code: "${{{{ event.data.code }}}}"}}}}
pipelines:
  work:
    params: {{code: {{type: int}}}}
    tasks: {{work: {{engine: command, argv: [sh, -c, "exit $0", "${{{{ params.code }}}}"]}}}}
"""


async def test_a_whole_service_acknowledges_what_has_ended(
    rabbitmq: Rabbit, channel: AbstractChannel, queue: str, tmp_path: Path
) -> None:
    """A run that succeeded, one that failed for good, an event without a run, poison: all are acknowledged."""
    for name, body in {"good": b'{"code": 0}', "bad": b'{"code": 3}', "none": b'{"code": -1}', "poison": b"{"}.items():
        await publish(channel, queue, body, message_id=name)
    config = await load(tmp_path, SERVICE.format(url=rabbitmq.url(), queue=queue))
    async with running(config) as gate:
        rows = await gate.finished(2)
        sensor = gate.service._parts.fleet._running["jobs"].runner._sensor
        await until(lambda: unacknowledged(sensor) == 0)
        assert sorted(row["state"] for row in rows) == ["failed", "succeeded"]
        assert len(await gate.events(sensor="jobs")) == 3
    assert await left(channel, queue) == 0


async def test_a_quorum_queue_counts_how_often_a_message_came(rabbitmq: Rabbit, channel: AbstractChannel) -> None:
    """A message that came again says how often, and is not thrown away for it."""
    name = f"q-{uuid.uuid4().hex[:12]}"
    options = {"queue": name, "declare": True, "queue_type": "quorum", "arguments": {"x-max-length": 100}}
    counts: list[str] = []
    for _ in range(3):
        sensor = build(rabbitmq.url(), **options)
        await sensor.connect({}, FakeInbox().lookup("q"), EverythingWanted())
        if not counts:
            await publish(channel, name, message_id="m")
        events: list[Any] = []
        async with asyncio.timeout(10):
            while not events:
                events += (await sensor.read()).events
        counts.append(events[0].attributes.get("delivery_count", "0"))
        await sensor.close()
    assert counts == ["0", "1", "2"]
    await channel.queue_delete(name)
