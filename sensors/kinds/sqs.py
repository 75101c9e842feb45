"""Messages of a queue of Amazon SQS, of whatever content; each is an event, and deleted when that is durable.

In flow messages by long polls, standard or FIFO; out flow batches that share a commit. A message is kept hidden from
other readers while it waits for the store, however long that takes, and deleted only after the commit.

Order: none is promised by a standard queue; the messages of one group of a FIFO queue keep theirs.
"""

from functools import partial
from typing import Literal, Self

from pydantic import Field, model_validator

from sensors.adapters.aws_options import AwsAccess, access_of
from sensors.adapters.queue_options import QueueOptions
from sensors.adapters.queue_reading import MessageReader
from sensors.adapters.queue_sensor import QueueSensor
from sensors.adapters.sqs import LONG_POLL, SqsPlace, sqs_queue
from sensors.adapters.sqs_message import sqs_message
from sensors.headers import HeaderPolicy
from sensors.kind import Emits, SensorContext, SensorKind
from sensors.sensor import Sensor
from sensors.units import Duration

MESSAGE = "sqs.message"


class SqsOptions(QueueOptions, AwsAccess):
    """Options of `kind: sqs`."""

    kind: Literal["sqs"] = "sqs"
    queue: str = Field(min_length=1, description="the queue: URL, ARN or name")
    connection: str | None = Field(None, description="a connection of kind aws; what stands here goes before it")
    wait: Duration = Field(
        LONG_POLL, ge=1, le=20, description="how long a request for messages waits for the first one (long poll)"
    )
    unwrap: Literal["sns"] | None = Field(
        None,
        description="sns: the message is what a topic of SNS wrapped; the event is what is inside, with its identity",
    )

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        SqsPlace.of(self.queue)
        self.check_identity(self)
        return self

    @staticmethod
    def check_identity(access: AwsAccess) -> None:
        """Raise ValueError when nobody asks."""
        if access.anonymous:
            raise ValueError("`anonymous`: a queue is not read unsigned; leave it out")


def build(options: SqsOptions, context: SensorContext) -> Sensor:
    """Make the sensor; nothing is opened. Raises ValueError with a sentence."""
    access = access_of(options, options.connection, context)
    options.check_identity(access)
    queue = sqs_queue(access, options.queue, context.clock, wait=options.wait, whole=True)
    reader = MessageReader(options, f"sqs://{queue.name}", MESSAGE, context)
    convert = partial(sqs_message, policy=HeaderPolicy(options.keep_headers), unwrap=options.unwrap)
    return QueueSensor(queue, convert, reader, context.clock)


KIND = SensorKind(
    name="sqs",
    help="messages of a queue of Amazon SQS; each is deleted when its event is durable",
    options=SqsOptions,
    build=build,
    emits=Emits(
        types={
            MESSAGE: "a message, unless `type` says otherwise",
            "*": "a CloudEvent's own type, or what `type` says",
        },
        subject="the message group of a FIFO queue; with `unwrap: sns` the Subject; a CloudEvent's own",
        time="when it was sent; with `unwrap: sns` when it was published; a CloudEvent's own",
        data="the message as it came (a CloudEvent's data); parsed by `format`",
        attributes="message attributes by name, and message_id, receive_count, sent_timestamp, group_id, "
        "sequence_number, deduplication_id, sender_id, dead_letter_source; with `unwrap: sns` topic and sns_message_id",
        sample={
            "id": "5fea7756-0ea4-451a-a703-a558b933e274",
            "source": "sqs://jobs",
            "type": "sqs.message",
            "time": "2026-01-31T06:00:00Z",
            "content_type": "application/json",
            "data": {"job": 17, "table": "orders"},
            "attributes": {
                "message_id": "5fea7756-0ea4-451a-a703-a558b933e274",
                "receive_count": "1",
                "team": "ingest",
            },
        },
    ),
)
