"""Messages of a storage queue of Azure, of whatever content; each is an event, and deleted when that is durable.

In flow messages, asked for again and again since these queues have no long poll; out flow batches that share a commit.
A message is kept hidden from other readers while it waits for the store, and deleted only after the commit.

Order: about that of arrival; the queue promises none.
"""

import base64
import binascii
import re
from functools import partial
from typing import Any, Final, Literal

from pydantic import Field, field_validator

from sensors.adapters.azure_account import AzureAccount, AzureOptions, read_account
from sensors.adapters.azure_queue import AzureQueue
from sensors.adapters.queue_message import UNDECODABLE, QueueMessage
from sensors.adapters.queue_options import QueueOptions
from sensors.adapters.queue_reading import MessageReader, with_poison
from sensors.adapters.queue_sensor import QueueSensor
from sensors.adapters.raw_queue import RawMessage
from sensors.kind import Emits, SensorContext, SensorKind
from sensors.sensor import Sensor

MESSAGE: Final = "azure-queue.message"
_QUEUE: Final = re.compile(r"[a-z0-9](?!.*--)[a-z0-9-]{1,61}[a-z0-9]")


class AzureQueueOptions(QueueOptions, AzureOptions):
    """Options of `kind: azure-queue`."""

    kind: Literal["azure-queue"] = "azure-queue"
    queue: str = Field(description="the queue's name")
    connection: str | None = Field(None, description="an entry of `connections` of kind azure, instead of an account")
    encoding: Literal["plain", "base64"] = Field(
        "plain", description="base64 where senders encode what they put in, as Azure Functions and Event Grid do"
    )

    @field_validator("queue")
    @classmethod
    def _is_name(cls, value: str) -> str:
        if _QUEUE.fullmatch(value) is None:
            raise ValueError("must be a queue's name: 3 to 63 lower-case letters, digits and single hyphens")
        return value


def build(options: AzureQueueOptions, context: SensorContext) -> Sensor:
    """Make the sensor; nothing is opened. ValueError when account, key or connection make no sense."""
    account = read_account(options, options.connection, context.connections)
    queue = AzureQueue(account, options.queue, context.clock)
    reader = MessageReader(options, _source(account, options.queue), MESSAGE, context)
    return QueueSensor(queue, partial(azure_message, encoded=options.encoding == "base64"), reader, context.clock)


def azure_message(raw: RawMessage, *, encoded: bool) -> QueueMessage:
    """Return one message of a queue; `encoded` in base64."""
    text = raw.message.body.encode("utf-8", "surrogatepass")
    facts = {name: value for name, value in raw.message.attributes.items() if value}
    made = QueueMessage(
        body=text,
        position=raw.message.position,
        id=facts["message_id"],
        attributes=facts,
        time=_micros(raw.whole),
    )
    if not encoded:
        return made
    try:
        body = base64.b64decode(b"".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        return with_poison(made, UNDECODABLE, f"the message is no base64: {error}; is `encoding: plain` meant?")
    return QueueMessage(body=body, position=made.position, id=made.id, attributes=facts, time=made.time, raw=text)


def _micros(message: Any) -> int | None:
    inserted = message.inserted_on
    return None if inserted is None else round(inserted.timestamp() * 1_000_000)


def _source(account: AzureAccount, queue: str) -> str:
    return f"{account.queue_url}/{queue}"


KIND = SensorKind(
    name="azure-queue",
    help="messages of a storage queue of Azure; each is deleted when its event is durable",
    options=AzureQueueOptions,
    build=build,
    emits=Emits(
        types={
            MESSAGE: "a message, unless `type` says otherwise",
            "*": "a CloudEvent's own type, or what `type` says",
        },
        subject="none, a CloudEvent's own, or what `subject` says",
        time="when it was put in; a CloudEvent's own",
        data="the message, decoded from base64 with `encoding: base64` (a CloudEvent's data); parsed by `format`",
        attributes="message_id, dequeue_count, inserted_on",
        sample={
            "id": "9a2f3c1e-7b55-4a0e-8f3c-4f2f7a3d9f11",
            "source": "https://acct.queue.core.windows.net/jobs",
            "type": "azure-queue.message",
            "time": "2026-01-31T06:00:00Z",
            "content_type": "application/json",
            "data": {"job": 17, "table": "orders"},
            "attributes": {"message_id": "9a2f3c1e-7b55-4a0e-8f3c-4f2f7a3d9f11", "dequeue_count": "1"},
        },
    ),
)
