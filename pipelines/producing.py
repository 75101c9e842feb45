"""The producers through which records go to Kafka: one per brokers and identity, kept until something goes wrong.

Importing this imports the client library, which takes long enough to stall a loop: import it in a thread.

In flow records, each with the right to send it; out flow places (partition, offset), acknowledged by all replicas in
sync. `held()` is asked at the last moment, when the request is handed to a connection that stands: nothing leaves for a
run that is somebody else's by then. The producer is idempotent, so what the library sends again is written once; in
return it never gives up by itself. Hence a producer with a record that was given up, or refused, sends nothing any
more: others' records that have not left go through a new one. Records without a key choose their partition by `place`,
so that a repeat lies in the same one.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka import errors as kafka
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.protocol.produce import ProduceRequest

from pipelines.errors import Ambiguous, LeaseLost, TaskFailed
from sensors.adapters.kafka_access import Sasl, Tls
from sensors.adapters.kafka_security import security
from sensors.clock import Clock
from sensors.errors import SensorError

_REQUEST = 10_000  # milliseconds for one request, and to learn of a topic
_LARGEST = 64 << 20  # the brokers say what is too large
_METADATA = 30_000  # milliseconds after which new partitions are seen
_END = 3.0

Start = Callable[[], Coroutine[Any, Any, AIOKafkaProducer]]


@dataclass(frozen=True, slots=True)
class Where:
    """Brokers, and who we are to them."""

    brokers: tuple[str, ...]
    tls: Tls | None = None
    sasl: Sasl | None = None

    def __str__(self) -> str:
        return ", ".join(self.brokers)


@dataclass(frozen=True, slots=True)
class Record:
    """What is to be written; `place` stays the same when it is written again."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    place: bytes


@dataclass(slots=True, eq=False)
class _Delivery:
    record: Record
    held: Callable[[], bool]
    sent: bool = False  # or may have been: it was with the producer when a request left


class _Withdrawn(kafka.KafkaError):  # type: ignore[misc]
    """The request was not sent. Not `retriable`: the library gives its records back at once."""


class Producers:
    """Producers by where they produce to."""

    def __init__(self, name: str, base: Path, clock: Clock) -> None:
        self._name = name
        self._base = base
        self._clock = clock
        self._lines: dict[Where, _Line] = {}

    async def deliver(
        self, where: Where, record: Record, held: Callable[[], bool], seconds: float
    ) -> tuple[int, int | None]:
        """Write a record; return its partition and offset (None when the brokers have forgotten it).

        Raises TaskFailed when it is certain that it was not written, Ambiguous when it is not, LeaseLost.
        """
        delivery = _Delivery(record, held)
        try:
            async with asyncio.timeout(seconds):
                while True:
                    try:
                        return await self._line(where).deliver(delivery)
                    except _Withdrawn:
                        if not held():
                            raise LeaseLost(
                                f"the lease ended before the record for {record.topic} was sent; nothing was sent"
                            ) from None
                        if delivery.sent:
                            raise
        except TimeoutError as error:
            if delivery.sent:
                raise Ambiguous(
                    f"the record for {record.topic} was sent to {where} but not acknowledged within {seconds:.3g} s; "
                    "whether it was written is not known"
                ) from error
            raise TaskFailed(
                f"the record for {record.topic} could not be sent to {where} within {seconds:.3g} s; nothing was sent. "
                "Does the topic exist, and does it have a leader?",
                "connect",
            ) from error
        except (kafka.KafkaError, SensorError, OSError) as error:
            raise _told(error, where, delivery) from error

    async def close(self) -> None:
        """Stop all, within a few seconds."""
        lines = list(self._lines.values())
        self._lines.clear()
        await asyncio.gather(*(line.end() for line in lines))

    def _line(self, where: Where) -> "_Line":
        line = self._lines.get(where)
        if line is None or line.broken:
            line = self._lines[where] = _Line(lambda: self._start(where))
        return line

    async def _start(self, where: Where) -> AIOKafkaProducer:
        access = await asyncio.to_thread(security, where.tls, where.sasl, self._base, self._clock)
        producer = AIOKafkaProducer(
            bootstrap_servers=list(where.brokers),
            client_id=self._name,
            acks="all",
            enable_idempotence=True,
            request_timeout_ms=_REQUEST,
            max_request_size=_LARGEST,
            metadata_max_age_ms=_METADATA,
            **access,
        )
        try:
            await producer.start()
        except BaseException:
            await _stop(producer)
            raise
        return producer


class _Line:
    """One producer, made with the first record, with the records that are under way in it."""

    def __init__(self, start: Start) -> None:
        self.broken = False
        self._start = start
        self._turn = asyncio.Lock()
        self._producer: AIOKafkaProducer | None = None
        self._under_way: set[_Delivery] = set()
        self._ending: asyncio.Task[None] | None = None

    async def deliver(self, delivery: _Delivery) -> tuple[int, int | None]:
        record = delivery.record
        self._under_way.add(delivery)
        handed = False
        try:
            producer = await self._connected()
            known = await producer.partitions_for(record.topic)
            if self.broken or not delivery.held():
                raise _Withdrawn
            partition = DefaultPartitioner()(record.place, sorted(known), []) if record.key is None else None
            handed = True
            written = await (
                await producer.send(
                    record.topic, record.value, key=record.key, partition=partition, headers=list(record.headers)
                )
            )
            return written.partition, written.offset if written.offset >= 0 else None
        except BaseException:
            # It may still wait within, or have left a gap among the numbers by which the brokers tell repeats.
            self.broken = self.broken or handed
            raise
        finally:
            self._under_way.discard(delivery)
            if self.broken and not self._under_way and self._ending is None:
                self._ending = asyncio.get_running_loop().create_task(self._end(given_up=True))

    async def end(self) -> None:
        """Stop the producer, unless that is being done."""
        if self._ending is None:
            await self._end(given_up=False)
        else:
            await self._ending

    async def _end(self, *, given_up: bool) -> None:
        self.broken = True
        producer, self._producer = self._producer, None
        if producer is not None:
            if given_up:
                # Without this, stopping waits for records that nobody waits for any more; there is no public way.
                producer._message_accumulator.fail_all(_Withdrawn())  # noqa: SLF001
            await _stop(producer)

    async def _connected(self) -> AIOKafkaProducer:
        async with self._turn:
            if self.broken:
                raise _Withdrawn
            if self._producer is None:
                self._producer = await self._start()
                self._gate(self._producer.client)
            return self._producer

    def _gate(self, client: Any) -> None:
        """Have the client ask, once a connection stands, whether what is under way may still leave."""
        send = client.send

        async def gated(node: Any, request: Any, **options: Any) -> Any:
            if isinstance(request, ProduceRequest):
                await client.ready(node, **options)
                if self.broken or not all(each.held() for each in self._under_way):
                    self.broken = True
                    raise _Withdrawn
                for each in self._under_way:
                    each.sent = True
            return await send(node, request, **options)

        client.send = gated


async def _stop(producer: AIOKafkaProducer) -> None:
    """Let go of a producer; never raises, and takes a few seconds at most."""
    try:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_END):
                await producer.stop()
    finally:
        with contextlib.suppress(Exception):
            await producer.client.close()


def _told(error: Exception, where: Where, delivery: _Delivery) -> TaskFailed | Ambiguous:
    """Say what an error means for the attempt: whether something was written, and what would help."""
    topic = delivery.record.topic
    for kinds, kind, sentence in _FOR_GOOD:
        if isinstance(error, kinds):
            return TaskFailed(sentence.format(topic=topic, where=where), kind, retryable=False)
    if isinstance(error, kafka.UnknownTopicOrPartitionError):
        return TaskFailed(f"topic {topic} does not exist at {where}; create it, or correct `topic`", "no_topic")
    refused = isinstance(error, kafka.BrokerResponseError) and not isinstance(error, _NUMBERS)
    if delivery.sent and not refused:
        said = "its producer was given up" if isinstance(error, _Withdrawn) else f"{type(error).__name__}: {error}"
        return Ambiguous(
            f"the record for {topic} was sent to {where}, then lost sight of ({said}); "
            "whether it was written is not known"
        )
    if isinstance(error, SensorError):
        return TaskFailed(str(error), "connect")
    if isinstance(error, kafka.KafkaConnectionError | kafka.NoBrokersAvailable | OSError):
        return TaskFailed(
            f"no broker at {where} answers, or none lets us in ({error}); nothing was sent. "
            "Check `brokers`, `tls` and `sasl`",
            "connect",
        )
    return TaskFailed(f"{where} refused the record for {topic}: {type(error).__name__}: {error}", "refused")


_NUMBERS = (kafka.OutOfOrderSequenceNumber, kafka.ProducerFenced)  # told to all records that wait
_FOR_GOOD: Sequence[tuple[tuple[type[Exception], ...], str, str]] = (
    (
        (kafka.TopicAuthorizationFailedError,),
        "forbidden",
        "not allowed to write to topic {topic} at {where}; grant WRITE and DESCRIBE on it",
    ),
    (
        (kafka.ClusterAuthorizationFailedError,),
        "forbidden",
        "not allowed to write idempotently at {where}; grant IDEMPOTENT_WRITE on the cluster",
    ),
    (
        (kafka.MessageSizeTooLargeError, kafka.RecordListTooLargeError),
        "too_large",
        "the record is larger than topic {topic} takes; raise its max.message.bytes, or send less",
    ),
    ((kafka.InvalidTopicError,), "bad_options", "{topic!r} is no name of a topic; correct `topic`"),
    (
        (kafka.UnsupportedVersionError, kafka.IncompatibleBrokerVersion, kafka.UnrecognizedBrokerVersion),
        "unsupported",
        "the brokers at {where} are too old for idempotent writes; they must speak Kafka 0.11 or later",
    ),
    (
        (kafka.InvalidRequiredAcksError, kafka.PolicyViolationError),
        "refused",
        "the brokers at {where} do not take this record for topic {topic}; see the topic's rules",
    ),
)
