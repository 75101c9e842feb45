"""The brokers that the Kafka sensor is tested against: the promises that its tests rest on."""

import asyncio
import ssl
from collections.abc import Iterator

import pytest

from tests.support.kafka import Kafka, Record, need_apache, running_kafka, running_noida
from tests.support.kafka_apache import Cluster, KafkaMissing, living

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module", params=["picked", "noida"])
def broker(request: pytest.FixtureRequest) -> Iterator[Kafka]:
    """The picked broker and the fallback."""
    if request.param == "picked":
        yield request.getfixturevalue("kafka")
    else:
        with running_noida() as server:
            yield server


async def test_what_is_produced_is_where_it_says(broker: Kafka) -> None:
    """Records land in the partition and at the offset that `produce` returns, with key, headers and tombstones."""
    async with broker.topic(3) as topic:
        sent: list[Record | bytes | None] = [
            Record(b"a", partition=2, headers=[("h", b"1")]),
            Record(None, b"k", 2),
            b"anywhere",
        ]
        first, second, _ = await topic.produce(sent)

        assert (first, second) == ((2, 0), (2, 1))
        assert sum((await topic.ends()).values()) == 3
        assert await topic.begins() == {0: 0, 1: 0, 2: 0}


async def test_a_topic_changes_under_its_readers(broker: Kafka) -> None:
    """Partitions can be added, old records deleted, and the topic made anew under its name."""
    async with broker.topic() as topic:
        await topic.produce([b"0", b"1", b"2"])
        await topic.delete_records({0: 2})
        assert await topic.begins() == {0: 2}

        await topic.add_partitions(4)
        assert await topic.ends() == {0: 3, 1: 0, 2: 0, 3: 0}

        await topic.delete()
        await topic.create()
        assert await topic.ends() == {0: 0}


@pytest.mark.apache_kafka
@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL", "SSL"])
async def test_the_broker_authenticates(apache_kafka: Kafka, mechanism: str, protocol: str) -> None:
    """The listeners take the one user by each mechanism, and TLS by the test's own authority."""
    from aiokafka import AIOKafkaProducer

    addresses = {"SASL_PLAINTEXT": apache_kafka.sasl, "SSL": apache_kafka.ssl, "SASL_SSL": apache_kafka.sasl_ssl}
    assert apache_kafka.certificates is not None
    context = ssl.create_default_context(cafile=str(apache_kafka.certificates / "ca.pem"))
    context.load_cert_chain(apache_kafka.certificates / "client.crt", apache_kafka.certificates / "client.key")
    producer = AIOKafkaProducer(
        bootstrap_servers=addresses[protocol],
        security_protocol=protocol,
        ssl_context=context if protocol.endswith("SSL") else None,
        sasl_mechanism=mechanism,
        sasl_plain_username=apache_kafka.user,
        sasl_plain_password=apache_kafka.password,
    )
    async with apache_kafka.topic() as topic, producer:
        sent = await producer.send_and_wait(topic.name, b"x")

        assert (sent.partition, sent.offset) == (0, 0)


@pytest.mark.apache_kafka
@pytest.mark.timeout(120)
async def test_the_cluster_keeps_what_it_acknowledged(kafka_cluster: Cluster) -> None:
    """Records acknowledged before a broker is killed are there afterwards, and the others go on without it."""
    kafka = Kafka("apache", kafka_cluster.bootstrap)
    async with kafka.topic(3) as topic:
        async with topic.producer() as producer:
            before = [await topic.send(producer, Record(b"x", partition=n % 3)) for n in range(30)]
            await asyncio.gather(*before)
            kafka_cluster.nodes[0].kill()
            after = [await topic.send(producer, Record(b"y", partition=n % 3)) for n in range(30)]
            async with asyncio.timeout(60):
                await asyncio.gather(*after)

        assert await topic.ends() == {0: 20, 1: 20, 2: 20}
    kafka_cluster.repair()
    assert [living(node.bootstrap) for node in kafka_cluster.nodes] == [3, 3, 3]


def test_a_named_broker_that_is_silent_is_no_excuse(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that is named and does not answer fails with a sentence instead of being replaced."""
    monkeypatch.setenv("TIDEGATE_TEST_KAFKA", "127.0.0.1:1")

    with pytest.raises(KafkaMissing, match="no broker answers"), running_kafka():
        pass


@pytest.mark.parametrize("required", [True, False])
def test_a_missing_kafka_is_told(monkeypatch: pytest.MonkeyPatch, required: bool) -> None:
    """Without Apache Kafka its tests are skipped with a sentence, and fail with it where they are required."""

    def missing() -> None:
        raise KafkaMissing("there is none")

    monkeypatch.setattr("tests.support.kafka.install", missing)
    monkeypatch.setenv("TIDEGATE_REQUIRE", "other, apache_kafka" if required else "other")

    with pytest.raises(KafkaMissing if required else pytest.skip.Exception, match="there is none"):
        need_apache("noida")
