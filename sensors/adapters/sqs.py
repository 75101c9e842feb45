"""Amazon SQS: raw messages of a queue, and the notifications of S3 that come by it.

In flow the calls of aiobotocore's client (see `aws`), out flow messages and notices as of `raw_queue`. Messages are
hidden for the queue's own visibility timeout, at least `SHORTEST`; a queue that does not tell it is taken at its word
when it says that messages may be received.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from sensors.adapters.aws import AwsClient
from sensors.adapters.aws_errors import Answered
from sensors.adapters.aws_options import AwsAccess
from sensors.adapters.notice_reading import Message
from sensors.adapters.raw_queue import Claim, QueueNotices, RawMessage, RawQueue, do_each
from sensors.adapters.s3_notices import read_s3
from sensors.clock import Clock
from sensors.errors import NotConnected

LONG_POLL: Final = 20.0  # seconds; the longest that SQS allows
SHORTEST: Final = 30.0  # seconds for which a message is hidden, at least
_BATCH = 10
_AT_ONCE = 8
_TRIES = 4
_PAUSE = 0.1  # seconds before the second try; four times as long before each further one
_ARN = re.compile(r"arn:[a-z0-9-]+:sqs:([a-z0-9-]+):(\d{12}):([A-Za-z0-9_-]{1,80}(?:\.fifo)?)")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}(?:\.fifo)?")
_AT_AWS = re.compile(
    r"(?:sqs(?:-fips)?\.(?P<region>[a-z0-9-]+)|(?P<older>[a-z0-9-]+)\.queue)\.(?:amazonaws\.com(?:\.cn)?|api\.aws)"
    r"|[a-z0-9-]+\.sqs\.(?P<private>[a-z0-9-]+)\.vpce\.amazonaws\.com(?:\.cn)?"
)
_SOME: Final[Mapping[str, Any]] = {"MessageSystemAttributeNames": ["ApproximateReceiveCount", "SentTimestamp"]}
_ALL: Final[Mapping[str, Any]] = {"MessageSystemAttributeNames": ["All"], "MessageAttributeNames": ["All"]}
_GONE = ("ReceiptHandle", "InvalidParameterValue", "MessageNotInflight", "NonExistent")


class Caller(Protocol):
    """What is needed of `AwsClient`."""

    async def open(self) -> None:
        """Make the client."""
        ...

    async def call(self, operation: str, /, **parameters: Any) -> Mapping[str, Any]:
        """Ask once. Raises NotConnected (`Answered` with the code) or BackOff."""
        ...

    async def close(self) -> None:
        """Let go; never raises."""
        ...


@dataclass(frozen=True, slots=True)
class SqsPlace:
    """Which queue: by URL, by ARN or by name. `url` is empty where it has to be asked for.

    `region` and `endpoint` are what the text itself says of where the queue is; None where it says nothing.
    """

    name: str
    url: str = ""
    owner: str = ""
    region: str | None = None
    endpoint: str | None = None

    @staticmethod
    def of(text: str) -> "SqsPlace":
        """Read what the configuration says. Raises ValueError with a sentence."""
        if found := _ARN.fullmatch(text):
            return SqsPlace(found[3], owner=found[2], region=found[1])
        if _NAME.fullmatch(text):
            return SqsPlace(text)
        try:
            parts = urlsplit(text)
            sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and not parts.username
        except ValueError:
            parts, sound = urlsplit(""), False
        name = parts.path.rstrip("/").rpartition("/")[2]
        if not sound or parts.query or parts.fragment or not _NAME.fullmatch(name):
            raise ValueError(
                f"{text[:120]!a} is neither URL nor ARN nor name of a queue; write the URL that SQS shows for it"
            )
        at_aws = _AT_AWS.fullmatch(parts.hostname or "")
        region = (at_aws["region"] or at_aws["older"] or at_aws["private"]) if at_aws else None
        public = at_aws is not None and at_aws["private"] is None
        return SqsPlace(name, text, "", region, None if public else f"{parts.scheme}://{parts.netloc}")

    def access(self, access: AwsAccess) -> AwsAccess:
        """Return how to reach this queue for whoever reaches a bucket so: where the text says it, there."""
        if not self.url:
            return access.model_copy(update={"region": self.region}) if self.region else access
        return access.model_copy(update={"region": self.region or access.region, "endpoint_url": self.endpoint})


class SqsQueue(RawQueue):
    """The raw reader of one queue. `wait` is the long poll in seconds, 1 to 20.

    With `whole` everything that SQS says of a message is asked for, and handed on as `RawMessage.whole`.
    """

    page = _BATCH

    def __init__(
        self, client: Caller, place: SqsPlace, clock: Clock, *, wait: float = LONG_POLL, whole: bool = False
    ) -> None:
        super().__init__(place.name, clock, SHORTEST)
        self.alone = place.name.endswith(".fifo")
        self._client = client
        self._place = place
        self._url = place.url
        self._wait = min(20, max(1, round(wait)))
        self._whole = whole
        self._wanted: Mapping[str, Any] = _ALL if whole else _SOME

    async def _connect(self) -> None:
        await self._client.open()
        if not self._url:
            owner = {"QueueOwnerAWSAccountId": self._place.owner} if self._place.owner else {}
            answer = await self._client.call("get_queue_url", QueueName=self._place.name, **owner)
            self._url = str(answer["QueueUrl"])
        try:
            asked = await self._attributes("VisibilityTimeout")
        except Answered as error:
            if "AccessDenied" not in error.code:
                raise
            return  # who may receive and delete need not be allowed to ask
        self.hidden_for = max(SHORTEST, float(asked.get("VisibilityTimeout", SHORTEST)))

    async def _poll(self, *, wait: bool) -> list[RawMessage]:
        answer = await self._client.call(
            "receive_message",
            QueueUrl=self._url,
            MaxNumberOfMessages=self.page,
            WaitTimeSeconds=self._wait if wait else 0,
            VisibilityTimeout=int(self.hidden_for),
            **self._wanted,
        )
        return [self._raw(item) for item in answer.get("Messages") or ()]

    async def _extend(self, claims: Sequence[Claim], seconds: float) -> None:
        await self._in_batches("change_message_visibility_batch", claims, {"VisibilityTimeout": int(seconds)})

    async def _delete(self, claims: Sequence[Claim]) -> None:
        await self._in_batches("delete_message_batch", claims, {})

    async def _count(self) -> float | None:
        asked = await self._attributes("ApproximateNumberOfMessages")
        return float(asked["ApproximateNumberOfMessages"])

    async def _disconnect(self) -> None:
        self._url = self._place.url
        await self._client.close()

    async def _attributes(self, *names: str) -> Mapping[str, str]:
        answer = await self._client.call("get_queue_attributes", QueueUrl=self._url, AttributeNames=list(names))
        attributes: Mapping[str, str] = answer.get("Attributes") or {}
        return attributes

    def _raw(self, item: Mapping[str, Any]) -> RawMessage:
        told = item.get("Attributes") or {}
        attributes = {
            "message_id": str(item["MessageId"]),
            "receive_count": str(told.get("ApproximateReceiveCount", "")),
            "sent_timestamp": str(told.get("SentTimestamp", "")),
        }
        message = Message(f"{self.name}/{item['MessageId']}", item.get("Body") or "", attributes)
        claim = Claim(item["MessageId"], item["ReceiptHandle"])
        return RawMessage(message, claim, item if self._whole else None)

    async def _in_batches(self, operation: str, claims: Sequence[Claim], more: Mapping[str, Any]) -> None:
        batches = [claims[start : start + _BATCH] for start in range(0, len(claims), _BATCH)]
        await do_each(partial(self._in_one_batch, operation, more), batches, _AT_ONCE)

    async def _in_one_batch(self, operation: str, more: Mapping[str, Any], claims: Sequence[Claim]) -> None:
        """Do it for at most 10 messages; those at which the service itself failed are tried again, one by one of them.

        A message that is gone, or whose receipt has run out, is nothing to be done about: it comes again, or never.
        """
        left = {str(number): claim for number, claim in enumerate(claims)}
        refused: Mapping[str, Any] | None = None
        failed: Sequence[Mapping[str, Any]] = ()
        for attempt in range(_TRIES):
            if attempt:
                await self._clock.sleep(_PAUSE * 4 ** (attempt - 1))
            entries = [{"Id": name, "ReceiptHandle": claim.receipt, **more} for name, claim in left.items()]
            answer = await self._client.call(operation, QueueUrl=self._url, Entries=entries)
            failed = answer.get("Failed") or ()
            ours = [item for item in failed if item.get("SenderFault")]
            refused = refused or next((item for item in ours if not _gone(item)), None)
            again = {item.get("Id") for item in failed if not item.get("SenderFault")}
            left = {name: claim for name, claim in left.items() if name in again}
            if not left:
                break
        worst = refused or (failed[0] if left else None)
        if worst is not None:
            why = f"{worst.get('Code')}: {worst.get('Message')}"
            raise NotConnected(
                f"sqs://{self.name}: {operation} failed for some messages, which come again: {why[:300]}"
            )


class SqsNotices(QueueNotices):
    """Notifications of one bucket that come by a queue: from S3, through SNS or through EventBridge."""

    def __init__(self, queue: SqsQueue, bucket: str) -> None:
        super().__init__(queue, partial(read_s3, bucket=bucket))


def sqs_queue(access: AwsAccess, queue: str, clock: Clock, *, wait: float = LONG_POLL, whole: bool = False) -> SqsQueue:
    """Make the reader of a queue (URL, ARN or name); nothing is opened. Raises ValueError with a sentence."""
    place = SqsPlace.of(queue)
    client = AwsClient(place.access(access), "sqs", f"sqs://{place.name}")
    return SqsQueue(client, place, clock, wait=wait, whole=whole)


def _gone(item: Mapping[str, Any]) -> bool:
    return any(word in str(item.get("Code")) for word in _GONE)
