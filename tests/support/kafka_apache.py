"""Apache Kafka in KRaft mode for tests: nodes that are broker and controller at once, as processes on loopback ports.

`scripts/kafka` puts the jars into `build/kafka` once. A node is formatted (`kafka.tools.StorageTool`, 0.7 s) and run
(`kafka.Kafka`) with `-Xms64m -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1` and a small cleaner buffer, since the
default one alone takes 128 MB of heap. Measured on two shared cores: a lone
node is ready after 2.3 s with 160 MB resident, three after 6 s with 150 MB each; one that was killed serves again after
3.5 s.

A lone node listens four times: plain, SASL (PLAIN, SCRAM-SHA-256, SCRAM-SHA-512), SSL, and both. Its certificates are
made by `trustme` for `localhost` and 127.0.0.1; a client certificate of the same authority is asked for, not required.
Nodes run in sessions of their own and are stopped as process groups. Readiness is asked for: a node is ready when its
metadata lists as many brokers as there should be.
"""

import base64
import contextlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.postgres import free_port

ROOT = Path(__file__).parents[2]
JARS = ROOT / "build" / "kafka"
MISSING = (
    "Apache Kafka is not installed: it needs Java 17 or newer and Maven (`apt-get install maven`), then `make "
    "apache-kafka`."
)
USER, PASSWORD = "alice", "alice-secret"
SCRAM = ("SCRAM-SHA-256", "SCRAM-SHA-512")
_JVM = ("-Xms64m", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
_PROTOCOLS = ("PLAINTEXT", "SASL_PLAINTEXT", "SSL", "SASL_SSL")


class KafkaMissing(Exception):
    """There is no such Kafka to test against; the sentence says how to get it."""


def install() -> Path:
    """Return the folder of the jars, after installing them if need be. Raises KafkaMissing."""
    if not JARS.exists():
        subprocess.run([str(ROOT / "scripts" / "kafka")], check=False, cwd=ROOT)
    if not JARS.exists() or shutil.which("java") is None:
        raise KafkaMissing(MISSING)
    return JARS


@dataclass(frozen=True)
class Heap:
    """How a node's Java runs: the most heap, and whether it compiles for speed (benchmarks) or for a quick start."""

    most: str = "256m"
    fast: bool = False

    @property
    def flags(self) -> Sequence[str]:
        """The arguments of `java`."""
        return (*_JVM, f"-Xmx{self.most}", *(() if self.fast else ("-XX:TieredStopAtLevel=1",)))


@dataclass
class Node:
    """One node. `addresses` are its listeners by protocol; `start` after an end goes on with the same data."""

    number: int
    folder: Path
    addresses: Mapping[str, str]
    properties: Mapping[str, str]
    heap: Heap = field(default_factory=Heap)
    prefix: Sequence[str] = ()
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def bootstrap(self) -> str:
        """The address of the plain listener."""
        return self.addresses["PLAINTEXT"]

    @property
    def log(self) -> Path:
        """What it printed."""
        return self.folder / f"node-{self.number}.log"

    @property
    def file(self) -> Path:
        """Its configuration."""
        return self.folder / f"node-{self.number}.properties"

    def format(self, cluster: str, *, users: bool) -> None:
        """Write the configuration and format the data folder, with the users of SCRAM in it."""
        self.file.write_text("".join(f"{name}={value}\n" for name, value in self.properties.items()))
        scram = [f"{mechanism}=[name={USER},password={PASSWORD}]" for mechanism in SCRAM] if users else []
        more = [part for user in scram for part in ("--add-scram", user)]
        done = subprocess.run(
            [*self._java("kafka.tools.StorageTool"), "format", "-t", cluster, "-c", str(self.file), *more],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"Kafka's data folder could not be formatted: {done.stdout}{done.stderr}"[:3000])

    def start(self) -> None:
        """Start the process; `await_ready` says when it serves."""
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [*self.prefix, *self._java("kafka.Kafka"), str(self.file)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                start_new_session=True,
            )

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process group, unless it is gone."""
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    def stop(self, seconds: float = 30.0) -> None:
        """Ask it to end, and see that it does."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        if self.process is not None:
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """`kill -9`."""
        self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait(20)

    def await_ready(self, brokers: int = 1, seconds: float = 50.0) -> None:
        """Return when it knows of so many living brokers. RuntimeError with its last words when it does not."""
        end = time.monotonic() + seconds
        while living(self.bootstrap) < brokers:
            if self.process is None or self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"Kafka node {self.number} does not serve: {self.log.read_text()[-3000:]}")
            time.sleep(0.05)  # asking again is the only way to know

    def _java(self, program: str) -> list[str]:
        return ["java", *self.heap.flags, "-cp", f"{JARS}/*", program]


@contextlib.contextmanager
def running_node(heap: Heap | None = None, prefix: Sequence[str] = ()) -> Iterator[Node]:
    """Run a lone node with all listeners. `prefix` are words before `java`, such as taskset's. Raises KafkaMissing."""
    install()
    with _folder() as folder:
        addresses = {protocol: f"localhost:{free_port()}" for protocol in _PROTOCOLS}
        addresses["PLAINTEXT"] = addresses["PLAINTEXT"].replace("localhost", "127.0.0.1")
        controller = f"127.0.0.1:{free_port()}"
        properties = _properties(folder, 1, addresses, f"1@{controller}", 1) | _security(folder)
        node = Node(1, folder, addresses, properties, heap or Heap(), prefix)
        node.format(_cluster_id(), users=True)
        node.start()
        try:
            node.await_ready()
            yield node
        finally:
            node.kill()


@dataclass(frozen=True)
class Cluster:
    """Three nodes (numbers 1 to 3); what two of them hold is not lost when one dies."""

    nodes: Sequence[Node]

    @property
    def bootstrap(self) -> str:
        """The plain addresses of all nodes."""
        return ",".join(node.bootstrap for node in self.nodes)

    def await_ready(self, seconds: float = 90.0) -> None:
        """Return when every node knows of all."""
        for node in self.nodes:
            node.await_ready(len(self.nodes), seconds)

    def repair(self) -> None:
        """Let every node run again."""
        for node in self.nodes:
            if node.process is None or node.process.poll() is not None:
                node.start()
            node.signal(signal.SIGCONT)
        self.await_ready()


@contextlib.contextmanager
def running_cluster(folder: Path | None = None) -> Iterator[Cluster]:
    """Run three nodes with plain listeners; topics are replicated to all, and two must hold what is acknowledged.

    A dead broker is noticed within 3 s. Data go into `folder` (which stays) or a temporary one. Raises KafkaMissing.
    """
    install()
    with contextlib.nullcontext(folder) if folder is not None else _folder() as home:
        home.mkdir(parents=True, exist_ok=True)
        numbers = (1, 2, 3)
        controllers = {number: f"127.0.0.1:{free_port()}" for number in numbers}
        voters = ",".join(f"{number}@{address}" for number, address in controllers.items())
        nodes = []
        cluster_id = _cluster_id()
        for number in numbers:
            addresses = {"PLAINTEXT": f"127.0.0.1:{free_port()}"}
            properties = _properties(home, number, addresses, voters, len(numbers))
            nodes.append(Node(number, home, addresses, properties))
            nodes[-1].format(cluster_id, users=False)
        cluster = Cluster(nodes)
        try:
            for node in nodes:
                node.start()
            cluster.await_ready()
            yield cluster
        finally:
            for node in nodes:
                node.kill()


def _properties(folder: Path, number: int, addresses: Mapping[str, str], voters: str, nodes: int) -> dict[str, str]:
    mine = next(voter.partition("@")[2] for voter in voters.split(",") if voter.startswith(f"{number}@"))
    listeners = [f"{protocol}://{address}" for protocol, address in addresses.items()]
    replicas = str(nodes)
    return {
        "process.roles": "broker,controller",
        "node.id": str(number),
        "controller.quorum.voters": voters,
        "listeners": ",".join(
            [*(each.replace("localhost", "127.0.0.1") for each in listeners), f"CONTROLLER://{mine}"]
        ),
        "advertised.listeners": ",".join(listeners),
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": ",".join(
            ["CONTROLLER:PLAINTEXT", *(f"{protocol}:{protocol}" for protocol in addresses)]
        ),
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": str(folder / f"data-{number}"),
        "auto.create.topics.enable": "false",
        "delete.topic.enable": "true",
        "num.network.threads": "2",
        "num.io.threads": "4",
        "num.replica.fetchers": "2",
        "log.cleaner.dedupe.buffer.size": "2097152",
        "log.segment.delete.delay.ms": "1000",
        "default.replication.factor": replicas,
        "min.insync.replicas": str(max(1, nodes - 1)),
        "unclean.leader.election.enable": "false",
        "offsets.topic.num.partitions": "1" if nodes == 1 else "3",
        "offsets.topic.replication.factor": replicas,
        "transaction.state.log.num.partitions": "1" if nodes == 1 else "3",
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": str(max(1, nodes - 1)),
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": str(max(1, nodes - 1)),
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "500",
        "broker.heartbeat.interval.ms": "500",
        "broker.session.timeout.ms": "3000",
        "replica.lag.time.max.ms": "5000",
    }


def _security(folder: Path) -> dict[str, str]:
    """Write certificates; return what the listeners with SASL and SSL need."""
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        load_pem_private_key,
    )
    from trustme import CA

    authority = CA()
    for name, identities in (("server", ("localhost", "127.0.0.1")), ("client", ("tidegate@example.org",))):
        pair = authority.issue_cert(*identities)
        # Kafka reads keys in PKCS #8 only.
        private = load_pem_private_key(pair.private_key_pem.bytes(), None)
        key = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        chain = b"".join(blob.bytes() for blob in pair.cert_chain_pems)
        (folder / f"{name}.pem").write_bytes(key + chain)
        (folder / f"{name}.key").write_bytes(key)
        (folder / f"{name}.crt").write_bytes(chain)
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    plain = "org.apache.kafka.common.security.plain.PlainLoginModule"
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    jaas = {
        "plain": f'{plain} required user_{USER}="{PASSWORD}";',
        **{mechanism.lower(): scram for mechanism in SCRAM},
    }
    return {
        "sasl.enabled.mechanisms": ",".join(("PLAIN", *SCRAM)),
        **{
            f"listener.name.{listener}.{mechanism}.sasl.jaas.config": line
            for listener in ("sasl_plaintext", "sasl_ssl")
            for mechanism, line in jaas.items()
        },
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(folder / "server.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(folder / "ca.pem"),
        "ssl.client.auth": "requested",
    }


def living(address: str) -> int:
    """Ask a broker by one request for metadata (version 1, of no topic) how many brokers live; 0 when it is silent."""
    host, _, port = address.rpartition(":")
    request = struct.pack(">hhihi", 3, 1, 1, -1, 0)
    try:
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            with connection.makefile("rb") as stream:
                (length,) = struct.unpack(">i", stream.read(4))
                _, brokers = struct.unpack_from(">ii", stream.read(length))
    except (OSError, struct.error):
        return 0
    return int(brokers)


def _cluster_id() -> str:
    """Return a random id in Kafka's way of writing one."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tidegate-kafka-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
