"""Kafka for tests: Apache Kafka from Maven where Java is, else the broker that comes as a package.

`running_kafka` starts one broker, `running_cluster` three that are controllers as well; both on free loopback ports,
with their logs below a temporary folder, ended by process group. `TIDEGATE_TEST_KAFKA=host:port` names a broker that
runs already and is used instead of starting one.

Apache Kafka 4.1 in KRaft mode: `kafka.tools.StorageTool format`, then `kafka.Kafka`, a heap of 384 MiB, the serial
collector, the quick compiler (`-XX:TieredStopAtLevel=1`): ready after about 3 s with 370 MB; three of them after 6 s.
"""

import asyncio
import base64
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from tests.support.postgres import free_port

ROOT = Path(__file__).parents[2]
JARS = ROOT / "build" / "kafka"
APACHE_MISSING = (
    "Apache Kafka is not installed: it needs Java 17 and Maven (`apt-get install default-jdk maven`), then "
    "`make kafka-broker`; or leave these tests out with `-m 'not apache_kafka'`."
)
_JAVA = ("java", "-Xms128m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{JARS}/*")


class KafkaMissing(Exception):
    """There is no such broker to test against; the sentence says how to get it."""


@dataclass
class Node:
    """One broker process: it can be killed and started again on its data."""

    port: int
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def address(self) -> str:
        """Return host and port."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it; readiness is another question."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **self.environment},
            )

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it, softly or hard, and wait for that."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, how)
        try:
            self.process.wait(15.0)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(15.0)
        self.process = None


@dataclass(frozen=True)
class Kafka:
    """Brokers that run. `apache` says whether it is Apache Kafka itself; `nodes` are its processes."""

    bootstrap: str
    apache: bool
    nodes: Sequence[Node] = ()
    copies: int = 1

    @property
    def brokers(self) -> list[str]:
        """Return the addresses as the sensor's option."""
        return self.bootstrap.split(",")

    @contextlib.asynccontextmanager
    async def admin(self) -> AsyncIterator[Any]:
        """Open an administrator."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            yield admin
        finally:
            await admin.close()

    async def topic(self, partitions: int = 1, name: str | None = None, **configs: str) -> str:
        """Make a topic and return its name, once it can be used."""
        name = name or f"t-{uuid.uuid4().hex[:12]}"
        async with self.admin() as admin:
            new = NewTopic(name, partitions, self.copies, topic_configs=configs)
            answer = await admin.create_topics([new])
            errors = [error for error in answer.topic_errors if error[1]]
            assert not errors, errors
        await self.settled(name, partitions)
        return name

    async def settled(self, topic: str, partitions: int) -> None:
        """Wait until all partitions of a topic have a leader."""
        async with self.admin() as admin, asyncio.timeout(20.0):
            while True:
                (found,) = await admin.describe_topics([topic])
                led = [one for one in found["partitions"] if one["leader"] >= 0 and not one["error_code"]]
                if not found["error_code"] and len(led) >= partitions:
                    return
                await asyncio.sleep(0.05)

    async def remove(self, topic: str) -> None:
        """Delete a topic and wait until it is gone."""
        async with self.admin() as admin, asyncio.timeout(20.0):
            await admin.delete_topics([topic])
            while topic in await admin.list_topics():
                await asyncio.sleep(0.05)

    async def grow(self, topic: str, partitions: int) -> None:
        """Give a topic more partitions."""
        async with self.admin() as admin:
            await admin.create_partitions({topic: NewPartitions(partitions)})
        await self.settled(topic, partitions)

    async def expire(self, topic: str, before: Mapping[int, int]) -> None:
        """Delete records before an offset of each partition, as retention does."""
        async with self.admin() as admin:
            records = {TopicPartition(topic, p): RecordsToDelete(before_offset=at) for p, at in before.items()}
            await admin.delete_records(records)

    @contextlib.asynccontextmanager
    async def producer(self, **more: Any) -> AsyncIterator[Any]:
        """Open a producer that waits for all copies."""
        producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, acks="all", **more)
        await producer.start()
        try:
            yield producer
        finally:
            await producer.stop()

    async def send(self, topic: str, values: Sequence[bytes | None], partition: int = 0, **more: Any) -> list[int]:
        """Write records; return their offsets. `more` are key, headers, timestamp_ms."""
        async with self.producer() as producer:
            sent = [await producer.send(topic, value, partition=partition, **more) for value in values]
            return [(await one).offset for one in sent]


def install_apache() -> bool:
    """Say whether Apache Kafka is there, after installing it if that is possible."""
    if not JARS.exists() and shutil.which("java") and shutil.which("mvn"):
        subprocess.run([str(ROOT / "scripts" / "kafka")], check=False, cwd=ROOT)
    return JARS.exists() and shutil.which("java") is not None


def _settings(folder: Path, number: int, port: int, voters: Mapping[int, int], more: Mapping[str, str]) -> Path:
    copies = str(min(3, len(voters)))
    settings = {
        "process.roles": "broker,controller",
        "node.id": str(number),
        "controller.quorum.voters": ",".join(f"{n}@127.0.0.1:{p}" for n, p in voters.items()),
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{voters[number]}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SSL:SSL,"
        "SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": str(folder / "data"),
        "offsets.topic.replication.factor": copies,
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": str(max(1, int(copies) - 1)),
        "transaction.state.log.num.partitions": "4",
        "min.insync.replicas": str(max(1, int(copies) - 1)),
        "default.replication.factor": copies,
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        "auto.create.topics.enable": "false",
        "log.retention.check.interval.ms": "1000",
        "num.network.threads": "2",
        "num.io.threads": "4",
        **more,
    }
    file = folder / "server.properties"
    file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    return file


def _apache(folder: Path, count: int, more: Mapping[str, str], extra: str = "") -> list[Node]:
    voters = {n + 1: free_port() for n in range(count)}
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    nodes = []
    for number in voters:
        home, port = folder / str(number), free_port()
        home.mkdir()
        settings = _settings(home, number, port, voters, more)
        formatted = subprocess.run(
            [*_JAVA, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(settings), *extra.split()],
            capture_output=True,
            check=False,
        )
        if formatted.returncode:
            raise KafkaMissing(f"Apache Kafka cannot format its folder: {formatted.stderr.decode()[-500:]}")
        quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"
        command = [*_JAVA[:1], quiet, *_JAVA[1:], "kafka.Kafka", str(settings)]
        nodes.append(Node(port, command, home / "log"))
    return nodes


def _packaged(folder: Path) -> list[Node]:
    import noida_db

    port = free_port()
    program = Path(str(noida_db.__file__)).parent / "noida-db"
    command = [str(program), "start", "--only", "kafka", "--kafka-port", str(port), "--host", "127.0.0.1"]
    return [Node(port, [*command, "--data-dir", str(folder / "data")], folder / "log")]


async def _ready(bootstrap: str, count: int) -> None:
    async with asyncio.timeout(60.0):
        while True:
            admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=2000)
            try:
                await admin.start()
                if len((await admin.describe_cluster())["brokers"]) >= count:
                    return
            except (KafkaError, OSError, TimeoutError):
                pass
            finally:
                with contextlib.suppress(Exception):
                    await admin.close()
            await asyncio.sleep(0.1)


@contextlib.contextmanager
def _running(nodes: Sequence[Node], *, apache: bool) -> Iterator[Kafka]:
    kafka = Kafka(",".join(node.address for node in nodes), apache, nodes, min(3, len(nodes)))
    try:
        for node in nodes:
            node.start()
        try:
            asyncio.run(_ready(kafka.bootstrap, len(nodes)))
        except TimeoutError:
            told = nodes[0].log.read_text(errors="replace")[-1000:]
            raise KafkaMissing(f"the broker did not become ready: {told}") from None
        yield kafka
    finally:
        for node in nodes:
            node.stop(signal.SIGKILL)


@contextlib.contextmanager
def running_kafka(more: Mapping[str, str] | None = None, *, apache: bool = False, extra: str = "") -> Iterator[Kafka]:
    """Run one broker: Apache Kafka if it can be had (`apache`: or none), with `more` settings of its own."""
    named = os.environ.get("TIDEGATE_TEST_KAFKA")
    if named and not apache and more is None:
        yield Kafka(named, apache=True)
        return
    there = install_apache()
    if apache and not there:
        raise KafkaMissing(APACHE_MISSING)
    with tempfile.TemporaryDirectory(prefix="tidegate-kafka-") as folder:
        nodes = _apache(Path(folder), 1, more or {}, extra) if there else _packaged(Path(folder))
        with _running(nodes, apache=there) as kafka:
            yield kafka


@contextlib.contextmanager
def running_cluster() -> Iterator[Kafka]:
    """Run three brokers with three copies of everything, of which two must have a record before it is acknowledged."""
    if not install_apache():
        raise KafkaMissing(APACHE_MISSING)
    with (
        tempfile.TemporaryDirectory(prefix="tidegate-kafka-") as folder,
        _running(_apache(Path(folder), 3, {}), apache=True) as kafka,
    ):
        yield kafka


def main() -> None:
    """Run one broker until the input ends, and say where it is: for trying things by hand."""
    started = time.monotonic()
    with running_kafka() as kafka:
        print(kafka.bootstrap, f"after {time.monotonic() - started:.1f} s", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
