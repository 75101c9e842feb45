"""A Kafka broker for tests, and what a test does to it from outside.

Which broker: `TIDEGATE_TEST_KAFKA=host:port` when set; else Apache Kafka (`tests.support.kafka_apache`), when Java and
Maven are here; else noida-db, one binary from PyPI (ready in 0.02 s), which never evicts a killed member of a group.
What flows out is a `Kafka` with its addresses, and `Topic`s with names of their own, deleted after their test.

    async with kafka.topic(partitions=3) as topic:
        [(partition, offset), …] = await topic.produce([b"{}", Record(b"x", key=b"k")])

Tests of what only the real broker does carry the mark `apache_kafka` and take the fixture of that name: where it cannot
be had they are skipped with a sentence, unless `TIDEGATE_REQUIRE` names `apache_kafka`: then they fail with it.
"""

import asyncio
import contextlib
import importlib.util
import os
import subprocess
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tests.support.kafka_apache import PASSWORD, USER, KafkaMissing, Node, install, living, running_node
from tests.support.postgres import free_port

Name = Literal["apache", "noida", "given"]
_SLOW = 30.0  # seconds until something that a broker was asked for counts as not done


@dataclass(frozen=True)
class Record:
    """One record to produce. `partition` None lets the producer choose, `timestamp` is in milliseconds."""

    value: bytes | None
    key: bytes | None = None
    partition: int | None = None
    headers: Sequence[tuple[str, bytes]] = ()
    timestamp: int | None = None


@dataclass(frozen=True)
class Kafka:
    """A running broker. `bootstrap` is its plain address; the others are None where the broker has no such listener.

    `certificates` is a folder with `ca.pem`, and `client.crt` and `client.key` (of the same authority).
    """

    name: Name
    bootstrap: str
    pid: int | None = None
    sasl: str | None = None
    ssl: str | None = None
    sasl_ssl: str | None = None
    certificates: Path | None = None
    user: str = USER
    password: str = PASSWORD

    @contextlib.asynccontextmanager
    async def admin(self) -> AsyncIterator[Any]:
        """Open aiokafka's admin client."""
        from aiokafka.admin import AIOKafkaAdminClient

        client = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await client.start()
        try:
            yield client
        finally:
            await client.close()

    @contextlib.asynccontextmanager
    async def topic(
        self, partitions: int = 1, *, name: str = "", replicas: int = 0, **settings: Any
    ) -> "AsyncIterator[Topic]":
        """Make a topic (`settings` as `retention_ms=1000`); delete it afterwards, if it is still there.

        `replicas` 0 is one on each broker of `bootstrap`.
        """
        topic = Topic(self, name or f"t-{uuid.uuid4().hex[:16]}")
        await topic.create(partitions, replicas=replicas, **settings)
        try:
            yield topic
        finally:
            await topic.delete(missing_ok=True)

    async def committed(self, group: str) -> Mapping[tuple[str, int], int]:
        """Return the offsets that a group has committed, by topic and partition."""
        async with self.admin() as admin:
            offsets = await admin.list_consumer_group_offsets(group)
        return {(at.topic, at.partition): found.offset for at, found in offsets.items() if found.offset >= 0}


@dataclass(frozen=True)
class Topic:
    """A topic of one test."""

    kafka: Kafka
    name: str
    _made: set[int] = field(default_factory=set, compare=False)

    async def create(self, partitions: int = 1, *, replicas: int = 0, **settings: Any) -> None:
        """Create it, also when one of this name is being deleted; returns when all partitions have a leader."""
        from aiokafka.admin import NewTopic

        configs = {name.replace("_", "."): str(value) for name, value in settings.items()}
        copies = replicas or len(self.kafka.bootstrap.split(","))
        new = NewTopic(self.name, partitions, copies, topic_configs=configs)
        end = time.monotonic() + _SLOW
        async with self.kafka.admin() as admin:
            while code := (await admin.create_topics([new])).topic_errors[0][1]:
                _check(code, 36, end, f"topic {self.name} cannot be created")
                await asyncio.sleep(0.05)
            await self._led(admin, partitions)

    async def delete(self, *, missing_ok: bool = False) -> None:
        """Delete it."""
        async with self.kafka.admin() as admin:
            ((_, code),) = (await admin.delete_topics([self.name])).topic_error_codes
        if code and not (missing_ok and code == 3):
            raise RuntimeError(f"topic {self.name} cannot be deleted: {_error(code)}")

    async def add_partitions(self, total: int) -> None:
        """Raise the number of partitions; returns when all have a leader."""
        from aiokafka.admin import NewPartitions

        async with self.kafka.admin() as admin:
            await admin.create_partitions({self.name: NewPartitions(total)})
            await self._led(admin, total)

    async def delete_records(self, before: Mapping[int, int]) -> None:
        """Let the log of each partition begin at this offset, as retention does."""
        from aiokafka import TopicPartition
        from aiokafka.admin import RecordsToDelete

        records = {TopicPartition(self.name, partition): RecordsToDelete(to) for partition, to in before.items()}
        async with self.kafka.admin() as admin:
            await admin.delete_records(records)

    async def produce(self, records: Sequence[Record | bytes | None], **options: Any) -> list[tuple[int, int]]:
        """Produce with acks of all replicas; return (partition, offset) of each. `options` are aiokafka's."""
        async with self.producer(**options) as producer:
            return [await sent for sent in [await self.send(producer, record) for record in records]]

    async def send(self, producer: Any, record: Record | bytes | None) -> "asyncio.Task[tuple[int, int]]":
        """Hand a record to an open producer; the task ends with (partition, offset) when it is acknowledged."""
        given = record if isinstance(record, Record) else Record(record)
        future = await producer.send(
            self.name,
            given.value,
            key=given.key,
            partition=given.partition,
            timestamp_ms=given.timestamp,
            headers=list(given.headers),
        )
        return asyncio.ensure_future(_place(future))

    @contextlib.asynccontextmanager
    async def producer(self, **options: Any) -> AsyncIterator[Any]:
        """Open aiokafka's producer, idempotent unless told otherwise."""
        from aiokafka import AIOKafkaProducer

        chosen = {"acks": "all", "enable_idempotence": True, "max_request_size": 64 << 20, **options}
        producer = AIOKafkaProducer(bootstrap_servers=self.kafka.bootstrap, **chosen)
        await producer.start()
        try:
            yield producer
        finally:
            await producer.stop()

    async def ends(self) -> dict[int, int]:
        """Return the end of each partition's log: the offset that the next record will have."""
        return await self._offsets("end_offsets")

    async def begins(self) -> dict[int, int]:
        """Return the first offset of each partition's log."""
        return await self._offsets("beginning_offsets")

    async def _offsets(self, ask: str) -> dict[int, int]:
        from aiokafka import AIOKafkaConsumer, TopicPartition

        async with self.kafka.admin() as admin:
            (described,) = await admin.describe_topics([self.name])
        parts = [TopicPartition(self.name, each["partition"]) for each in described["partitions"]]
        consumer = AIOKafkaConsumer(bootstrap_servers=self.kafka.bootstrap, enable_auto_commit=False)
        await consumer.start()
        try:
            found = await getattr(consumer, ask)(parts)
        finally:
            await consumer.stop()
        return {at.partition: int(offset) for at, offset in sorted(found.items())}

    async def _led(self, admin: Any, partitions: int) -> None:
        end = time.monotonic() + _SLOW
        while True:
            (described,) = await admin.describe_topics([self.name])
            led = [each for each in described["partitions"] if each["leader"] >= 0 and not each["error_code"]]
            if len(led) >= partitions:
                return
            if time.monotonic() > end:
                raise RuntimeError(f"topic {self.name} has {len(led)} led partitions instead of {partitions}")
            await asyncio.sleep(0.02)


async def _place(future: Any) -> tuple[int, int]:
    metadata = await future
    return metadata.partition, metadata.offset


def _check(code: int, passing: int, end: float, what: str) -> None:
    """Raise unless the error is one that passes, in time."""
    if code != passing or time.monotonic() > end:
        raise RuntimeError(f"{what}: {_error(code)}")


def _error(code: int) -> str:
    from aiokafka.errors import for_code

    return str(for_code(code).__name__)


@contextlib.contextmanager
def running_kafka() -> Iterator[Kafka]:
    """Give a broker: the one that is named, Apache Kafka, or noida-db. Raises KafkaMissing."""
    given = os.environ.get("TIDEGATE_TEST_KAFKA")
    with contextlib.ExitStack() as stack:
        if given:
            if not living(given):
                raise KafkaMissing(
                    f"TIDEGATE_TEST_KAFKA names {given}, where no broker answers: start it, or unset it."
                )
            yield Kafka("given", given)
            return
        try:
            install()
        except KafkaMissing:
            if required():
                raise
            yield stack.enter_context(running_noida())
        else:
            yield of_node(stack.enter_context(running_node()))


def required() -> bool:
    """Say whether tests of Apache Kafka must run here."""
    return "apache_kafka" in os.environ.get("TIDEGATE_REQUIRE", "").replace(",", " ").split()


def need_apache(name: Name = "noida") -> None:
    """Skip the test when only another broker (`name`) can be had; where it is required, fail with the sentence."""
    import pytest

    if name == "noida":
        try:
            install()
        except KafkaMissing as error:
            if required():
                raise
            pytest.skip(str(error))


def of_node(node: Node) -> Kafka:
    """Describe a lone node of Apache Kafka."""
    assert node.process is not None
    where = node.addresses
    return Kafka(
        "apache",
        where["PLAINTEXT"],
        node.process.pid,
        where["SASL_PLAINTEXT"],
        where["SSL"],
        where["SASL_SSL"],
        node.folder,
    )


@contextlib.contextmanager
def running_noida() -> Iterator[Kafka]:
    """Run noida-db's Kafka on a free loopback port. Raises KafkaMissing."""
    found = importlib.util.find_spec("noida_db")
    if found is None or found.origin is None:
        raise KafkaMissing("there is no Kafka to test against: run `make setup` (noida-db) or `make apache-kafka`.")
    address = f"127.0.0.1:{free_port()}"
    with tempfile.TemporaryDirectory(prefix="tidegate-noida-", ignore_cleanup_errors=True) as folder:
        log = Path(folder) / "log"
        where = ["--host", "127.0.0.1", "--kafka-port", address.rpartition(":")[2], "--data-dir", folder]
        with log.open("wb") as out:
            process = subprocess.Popen(
                [str(Path(found.origin).parent / "noida-db"), "start", "--only", "kafka", *where],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=folder,
            )
        try:
            end = time.monotonic() + 20
            while not living(address):
                if process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"noida-db does not serve: {log.read_text()[-2000:]}")
                time.sleep(0.01)  # asking again is the only way to know
            yield Kafka("noida", address, process.pid)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
