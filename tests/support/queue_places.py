"""Real queues of every kind, alike: what a test does to the outside of a queue sensor, whatever the kind.

`PLACES` names every kind of queue there is; each place makes a fresh queue on a server that the session started.
"""

import asyncio
import base64
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import aio_pika
from azure.storage.queue.aio import QueueClient

from sensors.adapters.queue_sensor import QueueSensor
from tests.support.aws import Aws
from tests.support.azure import Azurite
from tests.support.rabbit import Rabbit

_SQS_BATCH = 10


@dataclass
class QueuePlace(ABC):
    """A queue of one test. `ordered` says whether it keeps the order of what is put in.

    `many` is how many messages a test of many puts in; `hostile` are bodies that a sender can put into this kind of
    queue, though nobody should.
    """

    kind: str
    options: dict[str, Any]
    ordered: bool = True
    many: int = 1_000
    hostile: Sequence[bytes] = field(default_factory=tuple)

    @abstractmethod
    async def put(self, *bodies: bytes) -> None:
        """Put messages in, in this order."""

    @abstractmethod
    async def unsettled(self) -> int:
        """Return how many messages there are, those in somebody's hand included."""

    async def held(self, sensor: Any) -> int:
        """Return how many messages there are while a sensor runs."""
        return await self.unsettled()

    async def lose(self, sensor: Any) -> None:
        """Have a sensor vanish as by a crash: nothing is given back, but the queue notices in time."""
        receiving, keeping = sensor._receiving, sensor._keeping
        for task in (receiving, keeping):
            task.cancel()
        await asyncio.gather(receiving, keeping, return_exceptions=True)
        assert isinstance(sensor, QueueSensor)
        await sensor._queue.leave([one.claim for one in (*sensor._taken, *sensor._came)])  # as if their time were over


HOSTILE_TEXT = (
    b'{"half": "\\ud800"}',
    b'{"nul": "a\\u0000b"}',
    "ü 🐋 \\ ' \" <&>".encode(),
    b'{"deep": ' + b"[" * 500 + b"]" * 500 + b"}",
    b"{" * 3_000,
)


class RabbitPlace(QueuePlace):
    """A durable queue of RabbitMQ."""

    def __init__(
        self, rabbit: Rabbit, channel: aio_pika.abc.AbstractChannel, queue: aio_pika.abc.AbstractQueue
    ) -> None:
        odd = (b"\xff\xfe\x00", b"a\0b", b"x" * (1 << 20), b"y" * ((1 << 20) + 1), b"")
        super().__init__("rabbitmq", {"url": rabbit.url(), "queue": queue.name}, hostile=(*HOSTILE_TEXT, *odd))
        self.channel = channel
        self.queue = queue

    async def put(self, *bodies: bytes) -> None:
        for body in bodies:
            message = aio_pika.Message(body, message_id=uuid.uuid4().hex, delivery_mode=2)
            await self.channel.default_exchange.publish(message, self.queue.name)

    async def unsettled(self) -> int:
        """Count when nobody reads any more: the broker does not tell what is in somebody's hand."""
        async with asyncio.timeout(10):
            while True:
                found = (await self.channel.declare_queue(self.queue.name, passive=True)).declaration_result
                if not found.consumer_count:
                    return found.message_count or 0
                await asyncio.sleep(0.01)

    async def held(self, sensor: Any) -> int:
        return len(sensor._session.tags._tags)

    async def lose(self, sensor: Any) -> None:
        connection = sensor._session.link._connection
        connection.transport.connection._writer_task.cancel()
        await sensor.close()


class SqsPlace(QueuePlace):
    """A queue of SQS, standard or FIFO."""

    def __init__(self, aws: Aws, url: str) -> None:
        fifo = url.endswith(".fifo")
        super().__init__("sqs", {**aws.options, "queue": url, "wait": "1s"}, ordered=fifo, hostile=HOSTILE_TEXT)
        self.options.pop("addressing")
        self.url = url
        self.aws = aws
        self._fifo = fifo
        self.many = 200 if fifo else 1_000  # a group of a FIFO queue is handed out by tens

    async def put(self, *bodies: bytes) -> None:
        for start in range(0, len(bodies), _SQS_BATCH):
            entries = [
                {
                    "Id": str(index),
                    "MessageBody": body.decode(),
                    **({"MessageGroupId": "g", "MessageDeduplicationId": uuid.uuid4().hex} if self._fifo else {}),
                }
                for index, body in enumerate(bodies[start : start + _SQS_BATCH])
            ]
            answer = self.aws.sqs.send_message_batch(QueueUrl=self.url, Entries=entries)
            assert not answer.get("Failed"), answer

    async def unsettled(self) -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = self.aws.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)
        return sum(int(answer["Attributes"][name]) for name in names)


class AzurePlace(QueuePlace):
    """A storage queue of Azure, with messages in base64."""

    def __init__(self, azurite: Azurite, client: QueueClient) -> None:
        odd = (b"\xff\xfe\x00", b"a\0b", b"x" * 48_000)
        options = {
            "connection_string": azurite.connection_string,
            "queue": client.queue_name,
            "encoding": "base64",
        }
        super().__init__("azure-queue", options, ordered=False, hostile=(*HOSTILE_TEXT, *odd))
        self.many = 300  # each is put in, and deleted, by a call of its own
        self.client = client

    async def put(self, *bodies: bytes) -> None:
        for start in range(0, len(bodies), 16):
            some = bodies[start : start + 16]
            await asyncio.gather(*(self.client.send_message(base64.b64encode(body).decode()) for body in some))

    async def unsettled(self) -> int:
        return (await self.client.get_queue_properties()).approximate_message_count or 0


Servers = Callable[[str], Any]  # a session's server by the name of its fixture


@asynccontextmanager
async def rabbit_place(server: Servers) -> AsyncIterator[QueuePlace]:
    """Make a queue of RabbitMQ."""
    rabbit: Rabbit = server("rabbitmq")
    connection = await aio_pika.connect(rabbit.url())
    async with connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(f"q-{uuid.uuid4().hex[:12]}", durable=True)
        yield RabbitPlace(rabbit, channel, queue)
        await channel.queue_delete(queue.name)


@asynccontextmanager
async def sqs_place(server: Servers, *, fifo: bool = False) -> AsyncIterator[QueuePlace]:
    """Make a queue of SQS."""
    aws: Aws = server("ministack")
    name = f"q-{uuid.uuid4().hex[:12]}" + (".fifo" if fifo else "")
    url = aws.sqs.create_queue(QueueName=name, Attributes={"FifoQueue": "true"} if fifo else {})["QueueUrl"]
    try:
        yield SqsPlace(aws, url)
    finally:
        aws.sqs.delete_queue(QueueUrl=url)


@asynccontextmanager
async def fifo_place(server: Servers) -> AsyncIterator[QueuePlace]:
    """Make a FIFO queue of SQS."""
    async with sqs_place(server, fifo=True) as place:
        yield place


@asynccontextmanager
async def azure_place(server: Servers) -> AsyncIterator[QueuePlace]:
    """Make a storage queue of Azure."""
    azurite: Azurite = server("azurite")
    name = f"q-{uuid.uuid4().hex[:12]}"
    async with QueueClient.from_connection_string(azurite.connection_string, name, retry_total=0) as client:
        await client.create_queue()
        yield AzurePlace(azurite, client)
        await client.delete_queue()


# Every kind of queue, with the queues that it is tried on.
PLACES: Mapping[str, Mapping[str, Callable[[Servers], AbstractAsyncContextManager[QueuePlace]]]] = MappingProxyType(
    {
        "rabbitmq": {"rabbitmq": rabbit_place},
        "sqs": {"sqs": sqs_place, "sqs.fifo": fifo_place},
        "azure-queue": {"azure-queue": azure_place},
    }
)
