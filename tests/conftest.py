"""What all tests share: a broker, and that hypothesis does not judge the speed of the machine on which it runs."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.support.kafka import Kafka, need_apache, running_kafka

settings.register_profile("tidegate", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tidegate")


@pytest.fixture(scope="session")
def kafka() -> Iterator[Kafka]:
    """A broker: Apache Kafka where it can be had."""
    with running_kafka() as server:
        yield server


@pytest.fixture(scope="session")
def apache_kafka(kafka: Kafka) -> Kafka:
    """Apache Kafka itself; without it the test is skipped with a sentence, or fails with it where it is required."""
    need_apache(kafka.name)
    return kafka
