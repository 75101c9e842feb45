"""The stores that the contract is tested on, and the servers that sensors are tried against."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aio_pika
import psycopg
import pytest
from aio_pika.abc import AbstractChannel

from tests.support.aws import Aws, running_ministack
from tests.support.azure import Azurite, running_azurite
from tests.support.dfs_gateway import running_gateway
from tests.support.kafka import Topic, running_kafka
from tests.support.misbehaving_api import Reply, api_in_thread
from tests.support.postgres import Server, fresh_database, running_server, wipe
from tests.support.rabbit import Rabbit, running_rabbit
from tidegate.store.factory import open_store
from tidegate.store.tx import Store


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """One PostgreSQL for the session."""
    with running_server() as server:
        yield server


@pytest.fixture
def database(postgres_server: Server) -> Iterator[str]:
    """A database with our schema, for one test."""
    with fresh_database(postgres_server) as url:
        yield url


@pytest.fixture(scope="session")
def shared_database(postgres_server: Server) -> Iterator[str]:
    """A database with our schema that many tests use one after the other."""
    with fresh_database(postgres_server) as url:
        yield url


@pytest.fixture(
    params=["sqlite", pytest.param("postgresql", marks=[pytest.mark.postgres, pytest.mark.integration]), "memory"]
)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.db'}"
    if request.param == "memory":
        return "memory:"
    found: str = request.getfixturevalue("shared_database")
    wipe(found)
    return found


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    """An open store of each kind; data above 1,000 bytes is large."""
    opened = open_store(url, shard="one", inline=1_000)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
def s3_place(tmp_path: Path) -> Iterator[None]:
    """An empty bucket, written down for the case of `s3`."""
    with running_ministack("s3") as aws, aws.bucket() as bucket:
        (tmp_path / "place.json").write_text(json.dumps(bucket.options))
        yield


@pytest.fixture
def sql_place(tmp_path: Path, postgres_server: Server) -> Iterator[None]:
    """An empty table, written down for the case of `sql`."""
    with fresh_database(postgres_server, empty=True) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("create table orders (id int primary key, updated_at timestamptz default now())")
        (tmp_path / "place.json").write_text(json.dumps({"url": url}))
        yield


@pytest.fixture
def lake_place(tmp_path: Path) -> Iterator[None]:
    """An empty file system, written down for the case of `adls`."""
    from azure.storage.filedatalake import DataLakeServiceClient

    name = f"t-{uuid.uuid4().hex[:16]}"
    with (
        running_azurite() as azurite,
        running_gateway(azurite) as lake,
        DataLakeServiceClient.from_connection_string(lake.connection_string, retry_total=0) as service,
    ):
        service.create_file_system(name)
        place = {"filesystem": name, "connection_string": lake.connection_string}
        (tmp_path / "place.json").write_text(json.dumps(place))
        yield
        service.delete_file_system(name)


@pytest.fixture
def kafka_place(tmp_path: Path) -> Iterator[None]:
    """An empty topic, written down for the case of `kafka`."""
    with running_kafka() as kafka:
        topic = Topic(kafka, f"t-{uuid.uuid4().hex[:16]}")
        with ThreadPoolExecutor(1) as aside:  # the test that asks has a loop of its own
            aside.submit(lambda: asyncio.run(topic.create())).result()
        (tmp_path / "place.json").write_text(json.dumps({"brokers": [kafka.bootstrap], "topics": [topic.name]}))
        yield


@pytest.fixture
def api_place(tmp_path: Path) -> Iterator[None]:
    """An API that lists what `items.json` of the test's folder holds, written down for the case of `http`."""
    file = tmp_path / "items.json"
    with api_in_thread() as api:
        api.otherwise = lambda _: Reply(file.read_bytes() if file.exists() else b"[]")
        (tmp_path / "place.json").write_text(json.dumps({"url": f"{api.url}/items"}))
        yield


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[Rabbit]:
    """One RabbitMQ for the session."""
    with running_rabbit() as server:
        yield server


@pytest.fixture(scope="session")
def ministack() -> Iterator[Aws]:
    """SQS and SNS, once for the session."""
    with running_ministack("s3,sqs,sns") as server:
        yield server


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    """Azure's queues, once for the session."""
    with running_azurite() as server:
        yield server


@pytest.fixture
def rabbit_place(tmp_path: Path, rabbitmq: Rabbit) -> None:
    """A queue's name, written down for the case of `rabbitmq`."""
    (tmp_path / "place.json").write_text(json.dumps({"url": rabbitmq.url(), "queue": _queue_name()}))


@pytest.fixture
def sqs_place(tmp_path: Path, ministack: Aws) -> None:
    """A queue's name, written down for the case of `sqs`."""
    options = {name: value for name, value in ministack.options.items() if name != "addressing"}
    (tmp_path / "place.json").write_text(json.dumps({**options, "queue": _queue_name(), "wait": "1s"}))


@pytest.fixture
def azure_place(tmp_path: Path, azurite: Azurite) -> None:
    """A queue's name, written down for the case of `azure-queue`."""
    place = {"connection_string": azurite.connection_string, "queue": _queue_name()}
    (tmp_path / "place.json").write_text(json.dumps(place))


def _queue_name() -> str:
    return f"q-{uuid.uuid4().hex[:12]}"


@pytest.fixture
async def channel(rabbitmq: Rabbit) -> AsyncIterator[AbstractChannel]:
    """A channel of the outside world."""
    async with await aio_pika.connect(rabbitmq.url()) as connection:
        yield await connection.channel()


@pytest.fixture
async def queue(channel: AbstractChannel) -> AsyncIterator[str]:
    """A durable queue of one test."""
    made = await channel.declare_queue(f"q-{uuid.uuid4().hex[:12]}", durable=True)
    yield made.name
    await channel.queue_delete(made.name)
