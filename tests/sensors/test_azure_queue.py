"""The storage queue reader on a real queue: what Event Grid delivers is hinted at, and no message goes too early."""

import asyncio
import base64
import contextlib
import itertools
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from azure.storage.queue import QueueClient

from sensors.adapters.azure_account import AzureAccount, AzureOptions, read_account
from sensors.adapters.azure_queue import AzureQueue, AzureQueueNotices
from sensors.adapters.event_grid import Container
from sensors.adapters.objects import Hint, NoticeQueue
from sensors.adapters.raw_queue import Claim
from sensors.clock import Clock, SystemClock
from sensors.errors import NotConnected
from sensors.testing import VirtualClock, eventually, settle
from tests.sensors.test_event_grid import MICROS, ORDER, event
from tests.support.azure import Azurite

HERE = Container("acct", "raw")
INTEGRATION = pytest.mark.integration


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def account(azurite: Azurite) -> AzureAccount:
    return read_account(AzureOptions.model_validate({"connection_string": azurite.connection_string}), None, {})


@pytest.fixture
def queue(azurite: Azurite) -> Iterator[QueueClient]:
    """A queue of one test, as others see it."""
    name = f"q-{uuid.uuid4().hex[:16]}"
    with QueueClient.from_connection_string(azurite.connection_string, name) as client:
        client.create_queue()
        yield client
        client.delete_queue()


@contextlib.asynccontextmanager
async def opened(account: AzureAccount, queue: QueueClient, clock: Clock, **more: Any) -> AsyncIterator[AzureQueue]:
    raw = AzureQueue(account, queue.queue_name, clock, **more)
    await raw.open()
    try:
        yield raw
    finally:
        await raw.close()


def left(queue: QueueClient) -> int:
    """Return how many messages are there, hidden or not."""
    return queue.get_queue_properties().approximate_message_count or 0


def visible(queue: QueueClient) -> int:
    return len(queue.peek_messages(32))


# -- on a real queue ---------------------------------------------------------------------------------------------------
@INTEGRATION
@pytest.mark.parametrize("cloud", [True, False])
@pytest.mark.parametrize("encoded", [True, False])
async def test_what_event_grid_delivers_is_hinted_at(
    account: AzureAccount, queue: QueueClient, clock: VirtualClock, encoded: bool, cloud: bool
) -> None:
    """A message of either schema, plain or in base64, comes out as its hint and is gone when it is done."""
    text = json.dumps(event(path="in/ü+% <a>&.csv", cloud=cloud))
    queue.send_message(base64.b64encode(text.encode()).decode() if encoded else text)
    async with opened(account, queue, clock) as raw:
        notices = AzureQueueNotices(raw, HERE)
        (notice,) = await notices.receive()
        assert (notice.hints, notice.dead) == ([Hint("in/ü+% <a>&.csv", "written", "", ORDER, MICROS)], None)
        assert left(queue) == 1
        await notices.done([notice.receipt])
    assert left(queue) == 0


@INTEGRATION
async def test_a_message_that_cannot_be_read_is_a_dead_letter_until_it_is_done(
    account: AzureAccount, queue: QueueClient, clock: VirtualClock
) -> None:
    """A poison message is told with its position and how often it came, and goes only when it is done."""
    queue.send_message("no JSON")
    queue.send_message("")
    async with opened(account, queue, clock) as raw:
        notices = AzureQueueNotices(raw, HERE)
        found = await notices.receive()
        assert [notice.dead.payload for notice in found if notice.dead] == [b"no JSON", b""]
        dead = found[0].dead
        assert dead is not None
        assert dead.position == f"{queue.queue_name}/{dead.attributes['message_id']}"
        assert dead.attributes["dequeue_count"] == "1"
        assert dead.attributes["inserted_on"].startswith("20")
        await notices.done([notice.receipt for notice in found])
    assert left(queue) == 0


@INTEGRATION
async def test_a_kept_message_is_deleted_with_its_latest_receipt(
    account: AzureAccount, queue: QueueClient, clock: VirtualClock
) -> None:
    """Each time a message is kept its receipt changes; it stays hidden and unchanged, and can still be deleted."""
    queue.send_message("text & <more>")
    async with opened(account, queue, clock) as raw:
        (found,) = await raw.receive()
        first = found.claim.receipt
        await asyncio.gather(raw.keep([found.claim]), raw.keep([found.claim]))
        assert found.claim.receipt != first
        assert (visible(queue), left(queue)) == (0, 1)
        await raw._extend([found.claim], 0.0)
        assert [message.content for message in queue.peek_messages()] == ["text & <more>"]
        await asyncio.gather(raw.keep([found.claim]), raw.done([found.claim]))
    assert left(queue) == 0


@INTEGRATION
async def test_messages_that_are_gone_or_in_other_hands_are_no_error(
    account: AzureAccount, queue: QueueClient, clock: VirtualClock
) -> None:
    """Deleting or keeping what was deleted already, or what somebody else received meanwhile, does nothing."""
    queue.send_message("gone")
    queue.send_message("theirs")
    async with opened(account, queue, clock) as raw:
        gone, theirs = await raw.receive()
        await raw.done([gone.claim])
        stale = Claim(theirs.claim.id, theirs.claim.receipt)
        await raw._extend([theirs.claim], 0.0)
        (taken,) = queue.receive_messages()
        for claims in ([gone.claim], [stale]):
            await raw.keep(claims)
            await raw.done(claims)
        assert left(queue) == 1
        queue.delete_message(taken)


@INTEGRATION
async def test_many_messages_come_many_at_a_time(
    account: AzureAccount, queue: QueueClient, clock: VirtualClock
) -> None:
    """A full answer means that there are more: a backlog is taken up in few rounds, each message once."""
    for n in range(100):
        queue.send_message(str(n))
    async with opened(account, queue, clock) as raw:
        found = list(await raw.receive())
        assert sorted(int(message.message.body) for message in found) == list(range(100))
        await raw.done([message.claim for message in found])
    assert left(queue) == 0


@INTEGRATION
async def test_a_receive_that_is_cancelled_loses_nothing(
    account: AzureAccount, queue: QueueClient, clock: VirtualClock
) -> None:
    """The round that is under way goes on, so what it brings comes with the next receive."""
    async with opened(account, queue, clock) as raw:
        waiting = asyncio.ensure_future(raw.receive())
        await eventually(lambda: clock.sleeping == 1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        queue.send_message("m")
        await clock.advance(0.05)
        await eventually(lambda: raw._polling is not None and raw._polling.done())
        assert [found.message.body for found in await raw.receive()] == ["m"]


@INTEGRATION
async def test_what_nobody_took_is_given_back(account: AzureAccount, queue: QueueClient, clock: VirtualClock) -> None:
    """A message that came and was not handed out is everybody's again when the reader closes."""
    queue.send_message("m")
    raw = AzureQueue(account, queue.queue_name, clock)
    for _ in range(2):
        await raw.open()
        assert visible(queue) == 0
        await raw.close()
        assert visible(queue) == 1


@INTEGRATION
async def test_the_number_of_waiting_messages_is_asked_now_and_then(
    account: AzureAccount, queue: QueueClient, clock: VirtualClock
) -> None:
    """How many wait is unknown at first, then known, and asked again after half a minute at the earliest."""
    async with opened(account, queue, clock) as raw:
        assert raw.waiting() is None
        for expected, wait in ((0.0, 25.0), (0.0, 25.0), (2.0, 25.0)):
            receiving = asyncio.ensure_future(raw.receive())
            if expected:
                queue.send_message("x")
                queue.send_message("y")
            await eventually(lambda expected=expected: raw.waiting() == expected)  # type: ignore[misc]
            while not receiving.done():
                await eventually(lambda at=receiving: clock.sleeping == 1 or at.done())  # type: ignore[misc]
                await clock.advance(wait)
            await receiving


@INTEGRATION
async def test_a_queue_that_is_not_there_is_told(account: AzureAccount, clock: VirtualClock) -> None:
    """A wrong name fails at open with a sentence that names the queue and the cause."""
    with pytest.raises(NotConnected, match="queue no-such-queue: there is no such queue"):
        await AzureQueue(account, "no-such-queue", clock).open()


@INTEGRATION
async def test_a_wrong_key_is_told(account: AzureAccount, queue: QueueClient, clock: VirtualClock) -> None:
    """A key that is not accepted fails at open."""
    wrong = replace(account, key=base64.b64encode(b"x" * 64).decode())
    with pytest.raises(NotConnected, match=queue.queue_name):
        await AzureQueue(wrong, queue.queue_name, clock).open()


@INTEGRATION
async def test_under_traffic_messages_are_found_quickly(account: AzureAccount, queue: QueueClient) -> None:
    """With messages every now and then, half of them are handed out in a fraction of a second."""
    clock = SystemClock()
    sent: dict[str, float] = {}
    took: list[float] = []

    async def send() -> None:
        for n in range(20):
            await asyncio.sleep(0.03 + 0.01 * (n * 7 % 5))  # the traffic
            sent[str(n)] = clock.monotonic()
            await asyncio.to_thread(queue.send_message, str(n))

    async with opened(account, queue, clock) as raw:
        sending = asyncio.ensure_future(send())
        async with asyncio.timeout(30):
            while len(took) < 20:
                for found in await raw.receive():
                    took.append(clock.monotonic() - sent[found.message.body])
                    await raw.done([found.claim])
        await sending
    assert sorted(took)[len(took) // 2] <= 0.3, took


# -- what no server does on request ------------------------------------------------------------------------------------
class Silent:
    """A queue client with nothing to tell; `times` are the moments at which it was asked."""

    def __init__(self, clock: VirtualClock) -> None:
        self.times: list[float] = []
        self._clock = clock

    def receive_messages(self, **settings: Any) -> Any:
        self.times.append(self._clock.monotonic())
        return SimpleNamespace(by_page=self._pages)

    async def _pages(self) -> AsyncIterator[Any]:
        return
        yield

    async def get_queue_properties(self) -> Any:
        return SimpleNamespace(approximate_message_count=0)


class Scripted(AzureQueue):
    """A reader of a silent queue."""

    def __init__(self, clock: VirtualClock) -> None:
        name, url = "acct", "https://acct.queue.core.windows.net"
        super().__init__(AzureAccount(name, name, "https://acct.dfs.core.windows.net", url, key="a2V5"), "q", clock)
        self.silent = Silent(clock)

    async def _connect(self) -> None:
        await super()._connect()
        self._client = self.silent  # type: ignore[assignment]


async def test_a_silent_queue_is_asked_ever_more_rarely(clock: VirtualClock) -> None:
    """The pause grows with the silence, from a twentieth of a second to two, and a receive ends with nothing."""
    raw = Scripted(clock)
    await raw.open()
    rounds = 0
    while clock.monotonic() < 120:
        receiving = asyncio.ensure_future(raw.receive())
        await settle()
        while not receiving.done():
            await clock.advance(0.05)
        assert await receiving == []
        rounds += 1
    await raw.close()
    pauses = [after - before for before, after in itertools.pairwise(raw.silent.times)]
    assert pauses[0] == pytest.approx(0.05)
    assert pauses[-1] == pytest.approx(2.0)
    assert all(after >= before - 1e-9 for before, after in itertools.pairwise(pauses))
    assert len(raw.silent.times) < 180
    assert rounds == 6


def test_an_account_without_a_queue_address_is_refused(clock: VirtualClock) -> None:
    """Where the address of the queues is not known, that is said before anything is opened."""
    with pytest.raises(ValueError, match="queue_url"):
        AzureQueue(AzureAccount("a", "a", "https://a", None, key="a2V5"), "q", clock)


def test_the_reader_keeps_the_contract(clock: VirtualClock) -> None:
    """The notices are what the sensor takes for a queue."""
    notices: NoticeQueue = AzureQueueNotices(Scripted(clock), HERE)
    assert notices.keep_every == 20.0
