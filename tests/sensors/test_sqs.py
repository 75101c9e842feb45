"""The SQS reader on a real queue: what S3 puts is what is hinted at, by every route, and no message goes too early."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from sensors.adapters.aws_options import AwsAccess
from sensors.adapters.objects import Hint, Notice, NoticeQueue
from sensors.adapters.sqs import SqsNotices, SqsQueue, sqs_queue
from sensors.clock import Clock
from sensors.errors import NotConnected
from sensors.testing import VirtualClock, eventually, settle
from tests.support.aws import Aws, Queue
from tests.support.notification_routes import ROUTES, straight

ODD_KEYS = ["a b/ü+%.csv", "plain/2026-01-31/part-0.parquet", "a%20b", "x=1&y=2/#?.csv", "🐋 whale.json", "~-_.!*'()"]
INTEGRATION = pytest.mark.integration


# -- helpers -----------------------------------------------------------------------------------------------------------
@pytest.fixture
def queue(ministack: Aws) -> Iterator[Queue]:
    with ministack.queue() as made:
        yield made


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def reader(queue: Queue, clock: Clock, text: str | None = None, **more: Any) -> SqsQueue:
    aws = queue.aws
    options = {key: value for key, value in aws.options.items() if key in AwsAccess.model_fields}
    return sqs_queue(AwsAccess(**options), text or queue.url, clock, **more)


@contextlib.asynccontextmanager
async def opened(queue: SqsQueue) -> AsyncIterator[SqsQueue]:
    await queue.open()
    try:
        yield queue
    finally:
        await queue.close()


async def gather(notices: NoticeQueue, done: Callable[[list[Hint]], bool]) -> tuple[list[Hint], list[Notice]]:
    """Receive until the hints are enough."""
    hints: list[Hint] = []
    came: list[Notice] = []
    async with asyncio.timeout(20):
        while not done(hints):
            for notice in await notices.receive():
                came.append(notice)
                hints += notice.hints
    return hints, came


def unsettled(queue: Queue) -> int:
    return queue.count() + queue.count(hidden=True)


# -- on a real queue ---------------------------------------------------------------------------------------------------
@INTEGRATION
@pytest.mark.parametrize("route", list(ROUTES))
async def test_what_is_put_is_what_is_hinted_at(ministack: Aws, queue: Queue, clock: VirtualClock, route: str) -> None:
    """By every route the hints name exactly the keys that were put and deleted, and settled messages are gone."""
    with ministack.bucket() as bucket, ROUTES[route](bucket, queue):
        async with opened(reader(queue, clock)) as raw:
            notices = SqsNotices(raw, bucket.name)
            for key in ODD_KEYS:
                bucket.put(key)
            hints, came = await gather(notices, lambda found: len(found) >= len(ODD_KEYS))
            assert {(hint.key, hint.what) for hint in hints} == {(key, "written") for key in ODD_KEYS}
            assert all(hint.sequencer and hint.time for hint in hints)
            bucket.delete(*ODD_KEYS)
            gone, more = await gather(notices, lambda found: len(found) >= len(ODD_KEYS))
            assert {(hint.key, hint.what) for hint in gone} == {(key, "removed") for key in ODD_KEYS}
            assert [notice.dead for notice in (*came, *more) if notice.dead] == []
            await notices.done([notice.receipt for notice in (*came, *more)])
        assert unsettled(queue) == 0


@INTEGRATION
async def test_a_multipart_upload_is_one_hint(ministack: Aws, queue: Queue, clock: VirtualClock) -> None:
    """An object that was written in parts is hinted at once, when it is complete."""
    with ministack.bucket() as bucket, straight(bucket, queue):
        async with opened(reader(queue, clock)) as raw:
            bucket.put_in_parts("big file.bin", [b"x" * 5 * 1024 * 1024, b"y"])
            hints, _ = await gather(SqsNotices(raw, bucket.name), bool)
            assert [(hint.key, hint.what) for hint in hints] == [("big file.bin", "written")]


@INTEGRATION
async def test_a_message_that_cannot_be_read_is_a_dead_letter_until_it_is_done(
    queue: Queue, clock: VirtualClock
) -> None:
    """A poison message is told with its position and what the queue says of it, and goes only when it is done."""
    queue.send("no JSON")
    async with opened(reader(queue, clock)) as raw:
        notices = SqsNotices(raw, "landing")
        (notice,) = await notices.receive()
        assert notice.dead is not None
        assert (notice.hints, notice.dead.reason, notice.dead.payload) == ([], "unreadable_notice", b"no JSON")
        message_id = notice.dead.attributes["message_id"]
        assert notice.dead.position == f"{queue.url.rpartition('/')[2]}/{message_id}"
        assert notice.dead.attributes["receive_count"] == "1"
        assert unsettled(queue) == 1
        await notices.done([notice.receipt])
    assert unsettled(queue) == 0


@INTEGRATION
async def test_messages_are_hidden_while_they_are_worked_on(queue: Queue, clock: VirtualClock) -> None:
    """A message that was received is nobody else's while it is kept, and stays until it is done."""
    queue.send("{}")
    async with opened(reader(queue, clock)) as mine:
        (raw,) = await mine.receive()
        await mine.keep([raw.claim])
        async with opened(reader(queue, clock, wait=1)) as theirs:
            assert await theirs.receive() == []
        assert queue.count(hidden=True) == 1
        await mine.done([raw.claim])
        await mine.done([raw.claim])
        await mine.keep([raw.claim])
    assert unsettled(queue) == 0


@INTEGRATION
async def test_the_queues_own_visibility_timeout_is_used(ministack: Aws, clock: VirtualClock) -> None:
    """Messages are hidden as long as the queue says, but never so short that they cannot be kept in time."""
    for own, used in (("120", 120.0), ("0", 30.0), ("5", 30.0)):
        with ministack.queue(VisibilityTimeout=own) as queue:
            queue.send("{}")
            async with opened(reader(queue, clock)) as raw:
                assert raw.hidden_for == used
                notices = SqsNotices(raw, "landing")
                assert notices.keep_every == used / 3
                assert len(await notices.receive()) == 1
                assert queue.count(hidden=True) == 1


@INTEGRATION
async def test_many_messages_come_many_at_a_time(queue: Queue, clock: VirtualClock) -> None:
    """A full answer means that there are more: a backlog is taken up in few rounds, each message once."""
    for start in range(0, 120, 10):
        entries = [{"Id": str(n), "MessageBody": f'{{"n": {start + n}}}'} for n in range(10)]
        queue.aws.sqs.send_message_batch(QueueUrl=queue.url, Entries=entries)
    async with opened(reader(queue, clock, wait=1)) as raw:
        rounds = [await raw.receive() for _ in range(4)]
        bodies = [json.loads(message.message.body)["n"] for some in rounds for message in some]
        assert sorted(bodies) == list(range(120))
        await raw.done([message.claim for some in rounds for message in some])
    assert unsettled(queue) == 0


@INTEGRATION
async def test_a_receive_that_is_cancelled_loses_nothing(queue: Queue, clock: VirtualClock) -> None:
    """The request that waits at the service goes on, so what it brings comes with the next receive, not much later."""
    async with opened(reader(queue, clock)) as raw:
        for n in range(3):
            waiting = asyncio.ensure_future(raw.receive())
            await settle()
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            queue.send(f"m-{n}")
            async with asyncio.timeout(5):
                (found,) = await raw.receive()
            assert found.message.body == f"m-{n}"


@INTEGRATION
async def test_what_nobody_took_is_given_back(queue: Queue, clock: VirtualClock) -> None:
    """A message that came and was not handed out is everybody's again when the reader closes."""
    queue.send("first")
    raw = reader(queue, clock)
    await raw.open()
    assert queue.count(hidden=True) == 1
    await raw.close()
    assert (queue.count(), queue.count(hidden=True)) == (1, 0)
    await raw.open()
    (first,) = await raw.receive()
    waiting = asyncio.ensure_future(raw.receive())
    await settle()
    waiting.cancel()
    queue.send("second")
    await eventually(lambda: queue.count(hidden=True) == 2)
    await raw.done([first.claim])
    await eventually(lambda: raw._polling is not None and raw._polling.done())
    await raw.close()
    assert (queue.count(), queue.count(hidden=True)) == (1, 0)


@INTEGRATION
async def test_the_number_of_waiting_messages_is_asked_now_and_then(queue: Queue, clock: VirtualClock) -> None:
    """How many wait is unknown at first, then known, and asked again after half a minute at the earliest."""
    raw = reader(queue, clock, wait=1)
    assert raw.waiting() is None
    async with opened(raw):
        await raw.receive()
        assert raw.waiting() == 0.0
        for _ in range(3):
            queue.send("x")
        await raw.receive()
        await raw.receive()
        assert raw.waiting() == 0.0
        for _ in range(2):
            queue.send("x")
        await clock.advance(30.0)
        await raw.receive()
        await eventually(lambda: raw.waiting() not in (None, 0.0))
    assert raw.waiting() is None


@INTEGRATION
@pytest.mark.parametrize("how", ["url", "arn", "name"])
async def test_a_queue_is_found_by_url_arn_and_name(queue: Queue, clock: VirtualClock, how: str) -> None:
    """All three ways to write a queue lead to it."""
    queue.send("here")
    text = {"url": queue.url, "arn": queue.arn, "name": queue.url.rpartition("/")[2]}[how]
    async with opened(reader(queue, clock, text)) as raw:
        assert [found.message.body for found in await raw.receive()] == ["here"]


@INTEGRATION
@pytest.mark.parametrize("by_name", [True, False])
async def test_a_queue_that_is_not_there_is_told(queue: Queue, clock: VirtualClock, by_name: bool) -> None:
    """A wrong name fails at open with a sentence that names the queue and the cause."""
    text = "no-such-queue" if by_name else queue.url.rpartition("/")[0] + "/no-such-queue"
    with pytest.raises(NotConnected, match=r"sqs://no-such-queue.*no such queue"):
        await reader(queue, clock, text).open()


@INTEGRATION
async def test_a_queue_can_be_opened_again(queue: Queue, clock: VirtualClock) -> None:
    """After a close everything works as at first."""
    raw = reader(queue, clock)
    for n in range(3):
        queue.send(f"m-{n}")
        async with opened(raw):
            (found,) = await raw.receive()
            await raw.done([found.claim])
    assert unsettled(queue) == 0
