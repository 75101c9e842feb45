"""One contract suite over every kind of queue, on real ones: nothing is settled before it is durable, nothing twice."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sensors.adapters.queue_options import QueueOptions
from sensors.batch import Batch
from sensors.clock import SystemClock
from sensors.kind import SensorContext
from sensors.ports import Unavailable
from sensors.registry import builtin_kinds
from sensors.runner import RunnerPorts, RunnerSettings, SensorRunner
from sensors.testing import EverythingWanted, FakeInbox, check_event
from tests.support.queue_places import PLACES, QueuePlace
from tests.support.running import until

pytestmark = pytest.mark.integration
KINDS = {kind.name: kind for kind in builtin_kinds()}
NAMED = {name: place for places in PLACES.values() for name, place in places.items()}
QUICK = RunnerSettings(backoff=0.02, max_backoff=0.1)


@pytest.fixture(params=list(NAMED))
async def place(request: pytest.FixtureRequest) -> AsyncIterator[QueuePlace]:
    """A fresh queue of each kind in turn."""
    async with NAMED[request.param](request.getfixturevalue) as made:
        yield made


def build(place: QueuePlace, **more: Any) -> Any:
    kind = KINDS[place.kind]
    options = kind.options.model_validate({**place.options, **more})
    return kind.build(options, SensorContext("q", "svc", SystemClock(), Path("/nowhere")))


@asynccontextmanager
async def runs(inbox: FakeInbox, sensor: Any) -> AsyncIterator[SensorRunner]:
    """Run a sensor in the service's loop; stop it softly at the end."""
    runner = SensorRunner("q", sensor, RunnerPorts(inbox, inbox.lookup("q")), SystemClock(), QUICK)
    task = asyncio.create_task(runner.run())
    try:
        yield runner
    finally:
        runner.stop()
        await asyncio.wait_for(task, 15)


async def settled(place: QueuePlace, seconds: float = 20.0) -> None:
    """Wait until the queue has nothing left, in nobody's hand either."""
    async with asyncio.timeout(seconds):
        while await place.unsettled():
            await asyncio.sleep(0.05)


async def read(sensor: Any, count: int, inbox: FakeInbox | None = None) -> list[Batch]:
    """Read until so many messages came; with an inbox make them durable, and acknowledge nothing."""
    batches: list[Batch] = []
    async with asyncio.timeout(20):
        while sum(len(batch.events) + len(batch.dead_letters) for batch in batches) < count:
            batches.append(await sensor.read())
            if inbox is not None:
                await inbox.put("q", batches[-1])
    return batches


async def connect(sensor: Any, inbox: FakeInbox) -> Any:
    await sensor.connect({}, inbox.lookup("q"), EverythingWanted())
    return sensor


def bodies(count: int) -> list[bytes]:
    return [b'{"n": %d}' % number for number in range(count)]


def test_every_kind_of_queue_has_a_place() -> None:
    """No kind of queue comes without being held to this contract."""
    queues = {kind.name for kind in builtin_kinds() if issubclass(kind.options, QueueOptions)}
    assert queues == set(PLACES)


async def test_what_is_put_in_is_one_event_and_settled(place: QueuePlace) -> None:
    """Each message is exactly one event of the declared form with its content, and then gone from the queue."""
    inbox = FakeInbox()
    wanted = bodies(12)
    await place.put(*wanted)
    async with runs(inbox, build(place, format="json")) as runner:
        await until(lambda: len(inbox.events) == 12)
        await until(lambda: runner.health.state == "healthy")
    await settled(place)
    assert sorted(event.data or b"" for event in inbox.events) == sorted(wanted)
    if place.ordered:
        assert [event.data for event in inbox.events] == wanted
    assert inbox.duplicates == 0
    assert len({event.id for event in inbox.events}) == 12
    for event in inbox.events:
        check_event(KINDS[place.kind], "q", event)
        assert event.content_type == "application/json"
        assert event.attributes["message_id"] == event.id


async def test_nothing_is_settled_while_the_store_is_away(place: QueuePlace) -> None:
    """A batch that cannot be stored is kept, its messages stay the queue's, and later each is one event."""
    inbox = FakeInbox()
    inbox.failures = [Unavailable("away", 0.1) for _ in range(8)]
    await place.put(*bodies(5))
    sensor = build(place)
    async with runs(inbox, sensor):
        await until(lambda: len(inbox.failures) < 5)
        assert (inbox.events, await place.held(sensor)) == ([], 5)
        await until(lambda: len(inbox.events) == 5)
    await settled(place)
    assert inbox.duplicates == 0


async def test_a_crash_before_the_commit_loses_nothing(place: QueuePlace) -> None:
    """What was read and not stored comes again, all of it."""
    inbox = FakeInbox()
    await place.put(*bodies(6))
    first = await connect(build(place), inbox)
    await read(first, 6)
    await place.lose(first)

    async with runs(inbox, build(place)):
        await until(lambda: len(inbox.events) == 6)
    await settled(place)
    assert sorted(event.data or b"" for event in inbox.events) == sorted(bodies(6))


async def test_a_crash_between_commit_and_acknowledgement_makes_nothing_twice(place: QueuePlace) -> None:
    """What was stored and not settled comes again under the same ids, is no event, and is settled then."""
    inbox = FakeInbox()
    await place.put(*bodies(6))
    first = await connect(build(place), inbox)
    await read(first, 6, inbox)
    await place.lose(first)
    assert len(inbox.events) == 6

    async with runs(inbox, build(place)):
        await until(lambda: inbox.duplicates >= 6)
    await settled(place)
    assert (len(inbox.events), inbox.duplicates) == (6, 6)


async def test_what_is_in_hand_at_a_stop_is_given_back(place: QueuePlace) -> None:
    """A sensor that closes leaves what it did not settle to the next one, at once."""
    inbox = FakeInbox()
    await place.put(*bodies(4))
    first = await connect(build(place), inbox)
    await read(first, 1)
    await first.close()

    async with runs(inbox, build(place)):
        await until(lambda: len(inbox.events) == 4)
    await settled(place)


async def test_poison_is_a_dead_letter_and_stops_nothing(place: QueuePlace) -> None:
    """A message that is not what it should be goes to the dead letters with its bytes; those around it are events."""
    inbox = FakeInbox()
    wrong = b"{no JSON at all"
    await place.put(b'{"n": 0}', wrong, b'{"n": 1}')
    async with runs(inbox, build(place, format="json")) as runner:
        await until(lambda: len(inbox.events) == 2 and len(inbox.dead_letters) == 1)
        await until(lambda: runner.health.state == "healthy")
    await settled(place)
    (letter,) = inbox.dead_letters
    assert (letter.reason, base(place, letter.payload)) == ("undecodable", wrong)
    assert "no JSON" in letter.detail
    assert letter.attributes["message_id"] in letter.position


def base(place: QueuePlace, payload: bytes) -> bytes:
    """Return the body of a dead letter, which is kept as it came."""
    import base64

    encoded = place.options.get("encoding") == "base64" and not payload.startswith(b"{")
    return base64.b64decode(payload) if encoded else payload


async def test_too_large_a_message_is_a_dead_letter(place: QueuePlace) -> None:
    """`max_message` bounds what becomes an event; the rest is kept as it came."""
    inbox = FakeInbox()
    await place.put(b"x" * 1_001, b"y" * 1_000)
    async with runs(inbox, build(place, format="text", max_message=1_000)):
        await until(lambda: len(inbox.events) == 1 and len(inbox.dead_letters) == 1)
    await settled(place)
    (letter,) = inbox.dead_letters
    assert (letter.reason, base(place, letter.payload)) == ("too_large", b"x" * 1_001)
    assert inbox.events[0].data == b"y" * 1_000


@pytest.mark.parametrize("format_", ["auto", "json", "text", "bytes", "cloudevents"])
async def test_hostile_content_is_an_event_or_a_dead_letter(place: QueuePlace, format_: str) -> None:
    """Whatever a sender puts in, every message ends in one of the two, nothing stands still, and the next one comes."""
    inbox = FakeInbox()
    await place.put(*place.hostile, b'{"last": true}')
    count = len(place.hostile) + 1
    async with runs(inbox, build(place, format=format_)) as runner:
        await until(lambda: len(inbox.events) + len(inbox.dead_letters) == count)
        await until(lambda: runner.health.state == "healthy")
    await settled(place)
    for event in inbox.events:
        check_event(KINDS[place.kind], "q", event)
    if format_ == "bytes":
        small = [body for body in place.hostile if len(body) <= 1 << 20]
        assert sorted(event.data or b"" for event in inbox.events) == sorted([*small, b'{"last": true}'])


async def test_a_thousand_messages(place: QueuePlace) -> None:
    """Many messages share a commit, and each is one event; where the queue keeps an order it is kept."""
    inbox = FakeInbox()
    wanted = bodies(place.many)
    await place.put(*wanted)
    async with runs(inbox, build(place)):
        await until(lambda: len(inbox.events) >= place.many, 40)
    await settled(place)
    data = [event.data or b"" for event in inbox.events]
    assert sorted(data) == sorted(wanted)
    if place.ordered:
        assert data == wanted
    assert inbox.duplicates == 0
    assert len(inbox.batches) < 600


async def test_on_hold_the_messages_stay(place: QueuePlace) -> None:
    """A held sensor takes nothing; what came meanwhile becomes events when it is resumed."""
    inbox = FakeInbox()
    async with runs(inbox, build(place)) as runner:
        await until(lambda: runner.health.state == "healthy", 25)
        runner.pause("hold")
        await until(lambda: runner.health.state == "paused")
        await asyncio.sleep(1.1 if place.kind == "sqs" else 0)  # the server may not see at once that its reader left
        await place.put(*bodies(3))
        await asyncio.sleep(0.3)  # a sensor that went on would have them by now
        assert (inbox.events, await place.unsettled()) == ([], 3)
        runner.resume()
        await until(lambda: len(inbox.events) == 3)
    await settled(place)


async def test_a_peek_shows_and_moves_nothing(place: QueuePlace) -> None:
    """A peek shows what would come, and then it still comes, once."""
    inbox = FakeInbox()
    await place.put(*bodies(3), b"{")
    shown = await build(place, format="json").peek({}, inbox.lookup("q"), 10)
    few = await build(place, format="json").peek({}, inbox.lookup("q"), 2)

    assert sorted(event.data or b"" for event in shown.events) == bodies(3)
    assert [letter.reason for letter in shown.dead_letters] == ["undecodable"]
    assert len(few.events) + len(few.dead_letters) == 2
    assert await place.unsettled() == 4
    async with runs(inbox, build(place, format="json")):
        await until(lambda: len(inbox.events) == 3 and len(inbox.dead_letters) == 1)
    await settled(place)
    assert {event.id for event in shown.events} == {event.id for event in inbox.events}


async def test_the_lag_is_the_depth_of_the_queue(place: QueuePlace) -> None:
    """A sensor that connects tells about how many messages wait, in the queue and in its own hand."""
    inbox = FakeInbox()
    await place.put(*bodies(7))
    sensor = await connect(build(place), inbox)
    try:
        await until(lambda: sensor.lag() is not None)
        assert 0 <= sensor.lag() <= 14
        await read(sensor, 7, inbox)
    finally:
        await sensor.close()
    assert len(inbox.events) == 7
