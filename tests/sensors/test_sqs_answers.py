"""The SQS reader and what a server says only when it has trouble: partial failures, refusals; and where queues are."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from sensors.adapters.aws_errors import Answered
from sensors.adapters.aws_options import AwsAccess
from sensors.adapters.objects import NoticeQueue
from sensors.adapters.raw_queue import Claim
from sensors.adapters.sqs import SqsNotices, SqsPlace, SqsQueue
from sensors.clock import Clock
from sensors.errors import NotConnected
from sensors.testing import VirtualClock, settle
from tests.sensors.test_sqs import opened


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


class Script:
    """A client whose answers are scripted by operation: a mapping, an error, or a function of the parameters."""

    def __init__(self, **answers: Any) -> None:
        self.answers = {"get_queue_attributes": {}, "receive_message": {}, **answers}
        self.calls: list[tuple[str, Mapping[str, Any]]] = []
        self.closed = 0

    async def open(self) -> None:
        """Nothing to do."""

    async def call(self, operation: str, /, **parameters: Any) -> Mapping[str, Any]:
        self.calls.append((operation, parameters))
        answer: Any = self.answers[operation]
        if isinstance(answer, list):
            answer = answer.pop(0) if answer else {}
        if callable(answer):
            answer = answer(parameters)
        if isinstance(answer, Exception):
            raise answer
        await asyncio.sleep(0)
        found: Mapping[str, Any] = answer
        return found

    async def close(self) -> None:
        self.closed += 1

    def asked(self, operation: str) -> list[Mapping[str, Any]]:
        return [parameters for name, parameters in self.calls if name == operation]


def scripted(script: Script, clock: Clock, name: str = "q") -> SqsQueue:
    return SqsQueue(script, SqsPlace(name, f"http://127.0.0.1:1/0/{name}"), clock)


def claims(count: int) -> list[Claim]:
    return [Claim(f"m-{number}", f"r-{number}") for number in range(count)]


def fails(*ids: str, code: str = "InternalError", sender: bool = False) -> Mapping[str, Any]:
    return {"Failed": [{"Id": name, "Code": code, "SenderFault": sender, "Message": "why"} for name in ids]}


# -- what no server does on request ------------------------------------------------------------------------------------
async def test_receipts_go_ten_at_a_time(clock: VirtualClock) -> None:
    """Any number of messages is kept and deleted, ten with each request."""
    script = Script(delete_message_batch={}, change_message_visibility_batch={})
    async with opened(scripted(script, clock)) as raw:
        await raw.keep(claims(25))
        await raw.done(claims(25))
        await raw.done([])
        await raw.keep([])
    for operation in ("change_message_visibility_batch", "delete_message_batch"):
        entries = [call["Entries"] for call in script.asked(operation)]
        assert [len(some) for some in entries] == [10, 10, 5]
        assert [entry["ReceiptHandle"] for some in entries for entry in some] == [f"r-{n}" for n in range(25)]
    assert {e["VisibilityTimeout"] for e in script.asked("change_message_visibility_batch")[0]["Entries"]} == {30}


async def test_what_the_service_failed_at_is_tried_again(clock: VirtualClock) -> None:
    """Of a deletion that failed in part, only the failed part is repeated, after a pause."""
    script = Script(delete_message_batch=[fails("1", "3"), fails("3"), {}])
    async with opened(scripted(script, clock)) as raw:
        doing = asyncio.ensure_future(raw.done(claims(4)))
        await clock.advance(0.1)
        assert len(script.asked("delete_message_batch")) == 2
        await clock.advance(0.4)
        await doing
    receipts = [[e["ReceiptHandle"] for e in call["Entries"]] for call in script.asked("delete_message_batch")]
    assert receipts == [["r-0", "r-1", "r-2", "r-3"], ["r-1", "r-3"], ["r-3"]]


async def test_a_deletion_that_goes_on_failing_is_told(clock: VirtualClock) -> None:
    """After a few tries it is said that messages come again, and why; the other batches were done."""
    script = Script(
        delete_message_batch=lambda asked: fails("0") if asked["Entries"][0]["ReceiptHandle"] == "r-0" else {}
    )
    async with opened(scripted(script, clock)) as raw:
        doing = asyncio.ensure_future(raw.done(claims(12)))
        await clock.advance(10.0)
        with pytest.raises(NotConnected, match=r"sqs://q: delete_message_batch failed .* InternalError: why"):
            await doing
    assert len(script.asked("delete_message_batch")) == 4 + 1


async def test_receipts_that_ran_out_are_no_error(clock: VirtualClock) -> None:
    """A message that is gone or in other hands comes again or never; nothing is repeated for it."""
    code = "ReceiptHandleIsInvalid"
    script = Script(
        delete_message_batch=fails("0", code=code, sender=True),
        change_message_visibility_batch=fails("0", code="AWS.SimpleQueueService.MessageNotInflight", sender=True),
    )
    async with opened(scripted(script, clock)) as raw:
        await raw.done(claims(2))
        await raw.keep(claims(2))
    assert len(script.asked("delete_message_batch")) == 1


async def test_a_refused_deletion_is_told_at_once(clock: VirtualClock) -> None:
    """What is our fault and not the receipt's is not tried again but said."""
    script = Script(delete_message_batch=fails("0", code="KmsAccessDenied", sender=True))
    async with opened(scripted(script, clock)) as raw:
        with pytest.raises(NotConnected, match="KmsAccessDenied"):
            await raw.done(claims(1))


async def test_a_reader_that_may_not_ask_for_attributes_reads(clock: VirtualClock) -> None:
    """Rights to receive and delete are enough; how many messages wait then stays unknown."""
    script = Script(get_queue_attributes=Answered("sqs://q: denied", "AccessDenied", 403))
    async with opened(scripted(script, clock)) as raw:
        await raw.receive()
        await settle()
        assert (raw.hidden_for, raw.waiting()) == (30.0, None)


async def test_a_reader_that_may_not_receive_does_not_open(clock: VirtualClock) -> None:
    """Opening proves that messages may be received, and lets go of the client when they may not."""
    script = Script(receive_message=Answered("sqs://q: denied", "AccessDenied", 403))
    with pytest.raises(NotConnected, match="denied"):
        await scripted(script, clock).open()
    assert script.closed > 0


async def test_an_error_while_nobody_waited_is_told_by_the_next_receive(clock: VirtualClock) -> None:
    """A request that went on without its caller and failed raises when somebody asks again; then it works again."""
    script = Script(receive_message=[{}, NotConnected("gone"), {"Messages": [message("m")]}])
    async with opened(scripted(script, clock)) as raw:
        waiting = asyncio.ensure_future(raw.receive())
        await asyncio.sleep(0)
        waiting.cancel()
        await settle()
        with pytest.raises(NotConnected, match="gone"):
            await raw.receive()
        assert [found.message.body for found in await raw.receive()] == ["m"]


async def test_closing_ends_the_request_that_waits(clock: VirtualClock) -> None:
    """A close does not wait for the long poll, and a reader that is opened again asks anew."""
    never = asyncio.Event()

    class Waiting(Script):
        async def call(self, operation: str, /, **parameters: Any) -> Mapping[str, Any]:
            answer = await super().call(operation, **parameters)
            if parameters.get("WaitTimeSeconds"):
                await never.wait()
            return answer

    script = Waiting()
    raw = scripted(script, clock)
    for _ in range(2):
        await raw.open()
        waiting = asyncio.ensure_future(raw.receive())
        await settle()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await raw.close()
    assert [call["WaitTimeSeconds"] for call in script.asked("receive_message")] == [0, 20, 0, 20]
    assert len(asyncio.all_tasks()) == 1


def message(body: str) -> dict[str, Any]:
    return {"MessageId": f"id-{body}", "ReceiptHandle": f"r-{body}", "Body": body}


@pytest.mark.parametrize(("name", "requests"), [("q", 5), ("q.fifo", 1)])
async def test_an_extra_request_that_fails_costs_nothing(clock: VirtualClock, name: str, requests: int) -> None:
    """What others of the requests at once brought is handed out; a queue that keeps an order gets one at a time."""
    full = {"Messages": [message(str(n)) for n in range(10)]}
    script = Script(receive_message=[{}, full, NotConnected("gone"), {"Messages": [message("last")]}])
    async with opened(scripted(script, clock, name)) as raw:
        found = await raw.receive()
        assert len(found) == (11 if requests > 1 else 10)
        assert [call["WaitTimeSeconds"] for call in script.asked("receive_message")] == [0, 20, *[0] * (requests - 1)]


# -- where a queue is --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "name", "region", "endpoint"),
    [
        ("https://sqs.eu-west-1.amazonaws.com/123456789012/landing", "landing", "eu-west-1", None),
        ("https://eu-west-1.queue.amazonaws.com/123456789012/landing", "landing", "eu-west-1", None),
        ("https://sqs.cn-north-1.amazonaws.com.cn/123456789012/landing", "landing", "cn-north-1", None),
        (
            "https://vpce-0a-1b.sqs.eu-west-1.vpce.amazonaws.com/123456789012/landing",
            "landing",
            "eu-west-1",
            "https://vpce-0a-1b.sqs.eu-west-1.vpce.amazonaws.com",
        ),
        ("http://127.0.0.1:9324/000000000000/landing.fifo", "landing.fifo", "us-west-2", "http://127.0.0.1:9324"),
        ("arn:aws:sqs:eu-west-1:123456789012:landing", "landing", "eu-west-1", "http://minio:9000"),
        ("landing", "landing", "us-west-2", "http://minio:9000"),
    ],
)
def test_a_queue_is_reached_where_its_text_says(text: str, name: str, region: str, endpoint: str | None) -> None:
    """Region and endpoint of a queue's URL count before those of the bucket; who asks stays the same."""
    access = AwsAccess(region="us-west-2", endpoint_url="http://minio:9000", profile="p")
    place = SqsPlace.of(text)
    found = place.access(access)
    assert (place.name, found.region, found.endpoint_url, found.profile) == (name, region, endpoint, "p")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a b",
        "https://",
        "https://host/",
        "ftp://host/q",
        "http://u:p@host/q",
        "http://host/q?x=1",
        "http://[/q",
        "q" * 81,
    ],
)
def test_what_is_no_queue_is_refused(text: str) -> None:
    """A text that can be no queue is refused before anything is asked, in one sentence."""
    with pytest.raises(ValueError, match="neither URL nor ARN nor name"):
        SqsPlace.of(text)


def test_the_reader_keeps_the_contract() -> None:
    """The notices are what the sensor takes for a queue."""
    notices: NoticeQueue = SqsNotices(scripted(Script(), VirtualClock()), "landing")
    assert notices.keep_every == 10.0
