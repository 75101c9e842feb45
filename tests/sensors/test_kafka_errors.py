"""What Kafka's errors mean for people: the cause and the remedy in one sentence."""

import asyncio
import ssl

import pytest
from aiokafka import errors as kafka

from sensors.adapters.kafka_errors import told
from sensors.errors import BackOff, NotConnected

BROKERS = "k-1:9092, k-2:9092"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (kafka.KafkaConnectionError("refused"), ("no broker answers at k-1:9092", "`brokers`")),
        (kafka.NoBrokersAvailable(), ("no broker answers", "are they running")),
        (kafka.TopicAuthorizationFailedError("orders"), ("not allowed to read topic orders", "grant READ")),
        (kafka.GroupAuthorizationFailedError("g"), ("consumer group g", "`group`")),
        (kafka.AuthenticationFailedError("bad password"), ("refused who we are (", "bad password", "`sasl`")),
        (kafka.SaslAuthenticationFailed("no"), ("refused who we are", "`sasl`")),
        (kafka.UnsupportedSaslMechanismError("PLAIN"), ("refused who we are", "`sasl`")),
        (kafka.UnknownTopicOrPartitionError("orders"), ("topic orders does not exist", "`topics`")),
        (kafka.InvalidSessionTimeoutError(), ("`session_timeout`",)),
        (kafka.UnsupportedVersionError("v"), ("another version of the protocol",)),
        (kafka.CorruptRecordException("crc"), ("damaged",)),
        (kafka.RequestTimedOutError(), ("did not answer in time",)),
        (kafka.KafkaTimeoutError("slow"), ("did not answer in time",)),
        (TimeoutError(), ("did not answer in time",)),
        (OSError("no route"), ("cannot be reached (no route)", "`brokers`")),
        (kafka.UnknownError("82"), ("another process", "`instance`")),
        (ValueError("odd"), ("ValueError: odd",)),
    ],
)
def test_each_error_names_cause_and_remedy(error: Exception, words: tuple[str, ...]) -> None:
    """Whatever the library raises becomes NotConnected, with the library's error as its cause."""
    answer = told(error, BROKERS)

    assert isinstance(answer, NotConnected)
    assert answer.__cause__ is error
    assert [word for word in words if word not in str(answer)] == []


def test_a_tls_error_behind_a_connection_error_is_found() -> None:
    """The library wraps what went wrong with the certificate."""
    error = kafka.KafkaConnectionError("unable")
    error.__cause__ = ssl.SSLCertVerificationError(1, "certificate verify failed")

    assert "no secure connection to k-1:9092" in str(told(error, BROKERS))
    assert "`tls`" in str(told(error, BROKERS))


def test_what_is_said_already_is_left_alone() -> None:
    """Errors of the sensor contract pass, and the store's being away does not look like the brokers'."""
    wait = BackOff("slowly", 3.0)

    assert told(wait, BROKERS) is wait


async def test_a_timeout_of_asyncio_is_the_brokers() -> None:
    """A bound that we set ourselves speaks of them."""
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0):
            await asyncio.sleep(1)

    assert "did not answer in time" in str(told(caught.value, BROKERS))
