"""The servers that the sensors are tested against: started at the first test that asks, stopped at the end."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.aws import Aws, Bucket, running_ministack, running_seaweedfs
from tests.support.azure import Azurite, running_azurite
from tests.support.databases import Database, Watch
from tests.support.dfs_gateway import running_gateway
from tests.support.kafka import need_apache
from tests.support.kafka_apache import Cluster, running_cluster
from tests.support.lake import FileSystem, new_file_system
from tests.support.postgres import Server, fresh_database, running_server


@pytest.fixture(scope="session")
def ministack() -> Iterator[Aws]:
    """S3, SQS, SNS and EventBridge, with notifications."""
    with running_ministack() as server:
        yield server


@pytest.fixture(scope="session")
def seaweedfs() -> Iterator[Aws]:
    """A real S3 server, without notifications."""
    with running_seaweedfs() as server:
        yield server


@pytest.fixture(params=["ministack", "seaweedfs"])
def s3_server(request: pytest.FixtureRequest) -> Aws:
    """Each of the S3 servers in turn."""
    server: Aws = request.getfixturevalue(request.param)
    return server


@pytest.fixture
def bucket(s3_server: Aws) -> Iterator[Bucket]:
    """An empty bucket for one test, on each of the S3 servers in turn."""
    with s3_server.bucket() as made:
        yield made


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    """Azure blobs and queues."""
    with running_azurite() as server:
        yield server


@pytest.fixture(scope="session")
def lake(azurite: Azurite) -> Iterator[Azurite]:
    """Azure Data Lake (our gateway) and queues."""
    with running_gateway(azurite) as server:
        yield server


@pytest.fixture
async def filesystem(lake: Azurite) -> AsyncIterator[FileSystem]:
    """An empty file system for one test."""
    async with new_file_system(lake) as made:
        yield made


@pytest.fixture(scope="session")
def kafka_nodes() -> Iterator[Cluster]:
    """Three nodes of Apache Kafka."""
    need_apache()
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture
def kafka_cluster(kafka_nodes: Cluster) -> Iterator[Cluster]:
    """Three nodes of Apache Kafka, which a test may stop, kill and pause; afterwards all run again."""
    yield kafka_nodes
    kafka_nodes.repair()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server."""
    with running_server() as server:
        yield server


@pytest.fixture
def shop(postgres: Server) -> Iterator[Database]:
    """An empty database of a user's."""
    with fresh_database(postgres, empty=True) as url:
        yield Database(url)


@pytest.fixture
async def watches(tmp_path: Path) -> AsyncIterator[Callable[..., Watch]]:
    """Makes sensors on databases, which are let go at the end."""
    made: list[Watch] = []

    def make(**options: Any) -> Watch:
        made.append(Watch(tmp_path, **options))
        return made[-1]

    yield make
    for watch in made:
        await watch.close()
