"""SQS as it is: topics that feed a queue, messages that are kept hidden, and what cannot be deleted."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sensors.adapters.queue_sensor import QueueSensor
from sensors.clock import Clock, SystemClock
from sensors.errors import BackOff, NotConnected
from sensors.kind import SensorContext
from sensors.kinds.sqs import KIND
from sensors.runner import RunnerPorts, RunnerSettings, SensorRunner
from sensors.testing import EverythingWanted, FakeInbox, VirtualClock, eventually
from tests.support.aws import Aws, Queue
from tests.support.running import until

pytestmark = pytest.mark.integration
QUICK = RunnerSettings(backoff=0.02, max_backoff=0.1)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def queue(ministack: Aws) -> Iterator[Queue]:
    with ministack.queue() as made:
        yield made


def build(queue: Queue, clock: Clock | None = None, **more: Any) -> QueueSensor:
    options = {**queue.aws.options, "queue": queue.url, "wait": "1s", **more}
    context = SensorContext("q", "svc", clock or SystemClock(), Path("/nowhere"))
    made = KIND.build(KIND.options.model_validate(options), context)
    assert isinstance(made, QueueSensor)
    return made


@asynccontextmanager
async def runs(inbox: FakeInbox, sensor: Any) -> AsyncIterator[SensorRunner]:
    runner = SensorRunner("q", sensor, RunnerPorts(inbox, inbox.lookup("q")), SystemClock(), QUICK)
    task = asyncio.create_task(runner.run())
    try:
        yield runner
    finally:
        runner.stop()
        await asyncio.wait_for(task, 15)


@pytest.mark.parametrize("raw", [False, True])
async def test_what_a_topic_published(ministack: Aws, queue: Queue, raw: bool) -> None:
    """Wrapped by SNS or not, the event has what was published, and wrapped also who SNS says it is."""
    topic = ministack.sns.create_topic(Name=f"t-{uuid.uuid4().hex[:12]}")["TopicArn"]
    attributes = {"RawMessageDelivery": "true"} if raw else {}
    ministack.sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue.arn, Attributes=attributes)
    given = {
        name: {"DataType": "String", "StringValue": value}
        for name, value in {"team": "x", "traceparent": TRACE}.items()
    }
    sent = ministack.sns.publish(TopicArn=topic, Message='{"n": 1}', Subject="new", MessageAttributes=given)
    inbox = FakeInbox()
    async with runs(inbox, build(queue, format="json", unwrap=None if raw else "sns")):
        await until(lambda: len(inbox.events) == 1)
    (event,) = inbox.events
    assert (event.data, event.traceparent, event.attributes["team"]) == (b'{"n": 1}', TRACE, "x")
    if not raw:
        assert (event.id, event.subject, event.attributes["topic"]) == (sent["MessageId"], "new", topic)
        assert event.time is not None
    ministack.sns.delete_topic(TopicArn=topic)


async def test_an_envelope_that_is_none_is_a_dead_letter(queue: Queue) -> None:
    """With `unwrap` a message without SNS's envelope is kept, and told."""
    inbox = FakeInbox()
    queue.send(json.dumps({"n": 1}))
    async with runs(inbox, build(queue, unwrap="sns")):
        await until(lambda: len(inbox.dead_letters) == 1)
    assert inbox.dead_letters[0].reason == "foreign_envelope"
    assert queue.count() + queue.count(hidden=True) == 0


async def test_messages_are_hidden_for_as_long_as_the_store_is_away(queue: Queue) -> None:
    """While a batch waits for the store, its messages and those behind it are kept hidden, again and again."""
    clock = VirtualClock()
    sensor = build(queue, clock)
    for number in range(3):
        queue.send(str(number))
    kept: list[int] = []
    extend = sensor._queue._extend

    async def noted(claims: Any, seconds: float) -> None:
        kept.append(len(claims))
        await extend(claims, seconds)

    sensor._queue._extend = noted  # type: ignore[method-assign]
    await sensor.connect({}, FakeInbox().lookup("q"), EverythingWanted())
    try:
        await eventually(lambda: len(sensor._came) == 3)
        batch = await sensor.read()
        assert len(batch.events) == 3
        for round_ in range(1, 4):
            await eventually(lambda: clock.sleeping == 1)
            await clock.advance(sensor._queue.hidden_for / 3)
            await eventually(lambda round_=round_: len(kept) == round_)  # type: ignore[misc]
        assert kept == [3, 3, 3]
        await batch.ack()
        await clock.advance(sensor._queue.hidden_for)
        assert kept == [3, 3, 3]
    finally:
        await sensor.close()
    assert queue.count() + queue.count(hidden=True) == 0


async def test_what_cannot_be_deleted_is_told(queue: Queue) -> None:
    """Stored messages that cannot be deleted make the sensor unhealthy with the reason, until they can be."""
    inbox = FakeInbox()
    sensor = build(queue)
    done = sensor._queue.done
    allowed: list[bool] = []

    async def refused(claims: Any) -> None:
        if not allowed:
            raise NotConnected("access to DeleteMessage is denied")
        await done(claims)

    sensor._queue.done = refused  # type: ignore[method-assign]
    async with runs(inbox, sensor) as runner:
        queue.send("1")
        await until(lambda: runner.health.state == "unhealthy")
        assert "cannot be deleted" in runner.health.reason
        assert "DeleteMessage is denied" in runner.health.reason
        allowed.append(True)
        queue.send("2")
        await until(lambda: runner.health.state == "healthy")
    assert len(inbox.events) == 2


async def test_patience_that_is_asked_for_is_given_without_losing_the_connection(queue: Queue) -> None:
    """A throttled queue is read on after the wait; what had come before is told first."""
    inbox = FakeInbox()
    sensor = build(queue)
    receive = sensor._queue.receive
    answers: list[Exception] = [BackOff("slow down", 0.05)]

    async def throttled() -> Any:
        if answers:
            raise answers.pop()
        return await receive()

    sensor._queue.receive = throttled  # type: ignore[method-assign]
    queue.send("1")
    async with runs(inbox, sensor) as runner:
        await until(lambda: len(inbox.events) == 1)
        assert runner.health.errors == 1


async def test_a_queue_that_is_gone_is_named(queue: Queue) -> None:
    """The sentence says which queue is missing."""
    gone = build(replace(queue, url=queue.url + "-gone"))
    with pytest.raises(NotConnected, match=r"sqs://q-.*-gone"):
        await gone.connect({}, FakeInbox().lookup("q"), EverythingWanted())
