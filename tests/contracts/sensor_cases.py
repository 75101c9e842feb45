"""How to try each sensor kind: options, what makes its source have something new, and requests for push kinds.

A kind that talks to a server names the fixture that writes where one is into `place.json` of the test's folder. Without
that file the options name a port on which nobody answers.
"""

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sensors.sensor import Request
from sensors.testing import make_request


@dataclass(frozen=True)
class Case:
    """One way to try a kind. `options` and `stimulate` get a folder of the test's own; `place` is a fixture's name."""

    options: Callable[[Path], dict[str, Any]]
    stimulate: Callable[[Path], Awaitable[None]] | None = None
    requests: Sequence[Request] = field(default_factory=tuple)
    bad: Sequence[dict[str, Any]] = ()  # option sets that must be refused
    place: str | None = None
    sourceless: bool = False  # there is nothing that could be away


async def _drop(folder: Path) -> None:
    (folder / "a.csv").write_text("id\n1\n")


async def _wait(folder: Path) -> None:
    """Time passes by itself."""


def _signed(body: bytes, delivery: str) -> Request:
    signature = "sha256=" + hmac.digest(b"secret", body, "sha256").hex()
    headers = {"x-hub-signature-256": signature, "x-github-delivery": delivery, "x-github-event": "push"}
    return make_request(body, headers)


def _place(folder: Path, nowhere: dict[str, Any]) -> dict[str, Any]:
    """Return the options of the place that a fixture made, or of one where nobody is."""
    return {**_queue(folder, nowhere), "start": "beginning"}


def _queue(folder: Path, nowhere: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a queue that a fixture named, or of one where nobody is."""
    file = folder / "place.json"
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else nowhere
    return found


_NO_S3 = {
    "endpoint_url": "http://127.0.0.1:9",
    "region": "us-east-1",
    "bucket": "landing",
    "credentials": {"access_key_id": "key", "secret_access_key": "secret"},
}
_NO_LAKE = {
    "filesystem": "raw",
    "connection_string": "DefaultEndpointsProtocol=http;AccountName=nobody;AccountKey=c2VjcmV0;"
    "BlobEndpoint=http://127.0.0.1:9/nobody;QueueEndpoint=http://127.0.0.1:9/nobody;",
}


_NO_KAFKA = {
    "brokers": ["127.0.0.1:9"],
    "topics": ["orders"],
    "sasl": {"mechanism": "PLAIN", "username": "somebody", "password": "secret"},
}


async def _produce(folder: Path) -> None:
    from tests.support.kafka import Kafka, Topic

    place = _place(folder, {})
    await Topic(Kafka("given", place["brokers"][0]), place["topics"][0]).produce([b'{"id": 1}'])


_NO_RABBIT = {"url": "amqp://guest:secret@127.0.0.1:9/", "queue": "jobs"}
_NO_SQS = {**{name: _NO_S3[name] for name in ("endpoint_url", "region", "credentials")}, "queue": "jobs"}
_NO_QUEUE = {"queue": "jobs", "connection_string": _NO_LAKE["connection_string"]}


async def _put(folder: Path) -> None:
    from tests.support.aws import make_client

    place = _place(folder, {})
    client = await asyncio.to_thread(make_client, "s3", place["endpoint_url"], place["region"])
    await asyncio.to_thread(client.put_object, Bucket=place["bucket"], Key="a.csv", Body=b"id\n1\n")
    client.close()


async def _list(folder: Path) -> None:
    (folder / "items.json").write_text(json.dumps([{"id": "i-1", "amount": 9.5}, {"id": "i-2", "amount": 3}]))


async def _flush(folder: Path) -> None:
    from azure.storage.filedatalake.aio import DataLakeServiceClient

    place = _place(folder, {})
    async with DataLakeServiceClient.from_connection_string(place["connection_string"], retry_total=0) as service:
        await service.get_file_client(place["filesystem"], "in/a.csv").upload_data(b"id\n1\n", overwrite=True)


async def _publish(folder: Path) -> None:
    import aio_pika

    place = _queue(folder, {})
    async with await aio_pika.connect(place["url"]) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(place["queue"], durable=True)
        message = aio_pika.Message(b'{"n": 1}', content_type="application/json", message_id="m-1")
        await channel.default_exchange.publish(message, queue.name)


async def _send(folder: Path) -> None:
    from tests.support.aws import make_client

    place = _queue(folder, {})
    client = await asyncio.to_thread(make_client, "sqs", place["endpoint_url"], place["region"])
    made = await asyncio.to_thread(client.create_queue, QueueName=place["queue"])
    await asyncio.to_thread(client.send_message, QueueUrl=made["QueueUrl"], MessageBody='{"n": 1}')
    client.close()


async def _enqueue(folder: Path) -> None:
    from azure.storage.queue.aio import QueueClient

    place = _queue(folder, {})
    async with QueueClient.from_connection_string(place["connection_string"], place["queue"], retry_total=0) as queue:
        await queue.create_queue()
        await queue.send_message('{"n": 1}')


_NO_SHOP = {"url": "postgresql://reader:secret@127.0.0.1:9/shop"}


async def _insert(folder: Path) -> None:
    import psycopg

    async with await psycopg.AsyncConnection.connect(_place(folder, {})["url"], autocommit=True) as connection:
        await connection.execute("insert into orders values (1), (2)")


# A kind without a case fails the suite: none may come without a test of its contract.
CASES: dict[str, Case] = {
    "webhook": Case(
        options=lambda _: {"path": "/hooks/test", "verify": {"scheme": "github", "secret": "secret"}},
        requests=(_signed(b'{"n": 1}', "d-1"), _signed(b'{"n": 2}', "d-2"), _signed(b'{"n": 1}', "d-1")),
        bad=({}, {"path": "/x"}, {"path": "/x", "verify": {"scheme": "github"}}),
    ),
    "files": Case(
        options=lambda folder: {"path": str(folder), "start": "beginning", "settle": "50ms"},
        stimulate=_drop,
        bad=({}, {"path": "x"}),
    ),
    "s3": Case(
        options=lambda folder: _place(folder, _NO_S3),
        stimulate=_put,
        place="s3_place",
        bad=(
            {"start": "now"},
            {"bucket": "landing"},
            {"bucket": "s3://landing/in", "start": "now"},
            {"bucket": "landing--use1-az4--x-s3", "start": "now", "versions": True},
            {"bucket": "landing", "start": "now", "shards": 4, "versions": True},
        ),
    ),
    "adls": Case(
        options=lambda folder: _place(folder, _NO_LAKE),
        stimulate=_flush,
        place="lake_place",
        bad=(
            {"start": "now"},
            {"filesystem": "raw"},
            {"filesystem": "Raw_", "start": "now"},
            {"filesystem": "raw", "start": "now", "path": "a/", "prefix": "b/"},
        ),
    ),
    "kafka": Case(
        options=lambda folder: _place(folder, _NO_KAFKA),
        stimulate=_produce,
        place="kafka_place",
        bad=(
            {"brokers": ["localhost:9092"], "start": "now"},
            {"brokers": ["localhost:9092"], "topics": ["t"]},
            {"brokers": ["localhost:9092"], "topics": ["t"], "pattern": "t.*", "start": "now"},
            {"brokers": ["kafka://localhost"], "topics": ["t"], "start": "now"},
            {"brokers": ["localhost:9092"], "topics": ["t"], "start": "now", "format": "avro"},
            {"brokers": ["localhost:9092"], "pattern": "(", "start": "now"},
            {"brokers": ["localhost:9092"], "topics": ["t"], "start": "now", "sasl": {"mechanism": "PLAIN"}},
        ),
    ),
    "http": Case(
        options=lambda folder: {
            **_place(folder, {"url": "http://127.0.0.1:9/items"}),
            "id": "item.id",
            "every": "100ms",
        },
        stimulate=_list,
        place="api_place",
        bad=(
            {"start": "now"},
            {"url": "http://api.example.com/items"},
            {"url": "ftp://api.example.com/items", "start": "now"},
            {"url": "http://user:secret@api.example.com/items", "start": "now"},
            {"url": "http://${{ now }}/items", "start": "now"},
            {"url": "http://api.example.com/", "start": "-7d"},
            {"url": "http://api.example.com/", "start": "now", "overlap": "5m"},
            {"url": "http://api.example.com/", "start": "now", "version": "item.v"},
            {"url": "http://api.example.com/", "start": "now", "body": "x"},
            {"url": "http://api.example.com/", "start": "now", "changed": "body.n", "id": "item.id"},
            {"url": "http://api.example.com/", "start": "now", "headers": {"Host": "other"}},
            {"url": "http://api.example.com/", "start": "now", "auth": {"scheme": "api_key", "key": "k"}},
            {"url": "http://api.example.com/", "start": "now", "paging": {"by": "offset", "limit": 1}},
        ),
    ),
    "rabbitmq": Case(
        options=lambda folder: _queue(folder, _NO_RABBIT),
        stimulate=_publish,
        place="rabbit_place",
        bad=(
            {"queue": "jobs"},
            {"url": "amqp://h"},
            {"url": "amqp://h", "exchange": "orders"},
            {"url": "amqp://h", "queue": "jobs", "bindings": ["#"]},
            {"url": "amqp://h", "queue": "jobs", "ack": "run_finished"},
            {"url": "amqp://h", "queue": "jobs", "arguments": {"x-message-ttl": 1}},
            {"url": "amqp://h", "exchange": "orders", "bindings": ["#"], "declare": False},
        ),
    ),
    "sqs": Case(
        options=lambda folder: _queue(folder, _NO_SQS),
        stimulate=_send,
        place="sqs_place",
        bad=({}, {"queue": "a queue"}, {"queue": "jobs", "anonymous": True}, {"queue": "jobs", "unwrap": "sqs"}),
    ),
    "azure-queue": Case(
        options=lambda folder: _queue(folder, _NO_QUEUE),
        stimulate=_enqueue,
        place="azure_place",
        bad=({}, {"queue": "Jobs_"}, {"queue": "jobs", "encoding": "base32"}),
    ),
    "schedule": Case(
        options=lambda _: {"every": "3s"},  # longer than the second in which the kit looks for repeats
        stimulate=_wait,
        bad=(
            {},
            {"cron": "0 6 * * *", "every": "10m"},
            {"every": "10m", "timezone": "Europe/Oslo"},
            {"every": "10s", "jitter": "10s"},
            {"every": "500ms"},
            {"cron": "0 6 * * *", "start": "now"},
        ),
        sourceless=True,
    ),
    "sql": Case(
        options=lambda folder: {**_place(folder, _NO_SHOP), "table": "orders", "key": "id", "high": "updated_at"},
        stimulate=_insert,
        place="sql_place",
        bad=(
            {},
            {"url": "sqlite:///a.db", "table": "t", "key": "id", "high": "v"},
            {"url": "mysql://host/db", "table": "t", "key": "id", "high": "v", "start": "now"},
            {"url": "sqlite:///a.db", "connection": "x", "table": "t", "key": "id", "high": "v", "start": "now"},
            {"url": "sqlite:///a.db", "table": "t", "query": "select 1", "key": "id", "high": "v", "start": "now"},
            {"url": "sqlite:///a.db", "query": "select * from t", "key": "id", "high": "v", "start": "now"},
            {"url": "sqlite:///a.db", "table": "t", "key": [], "high": "v", "start": "now"},
            {"url": "sqlite:///a.db", "table": "t", "key": "id", "high": "v", "start": "now", "columns": ["id"]},
            {"url": "sqlite:///a.db", "table": "t", "key": "id", "high": "v", "start": "now", "overlap": "-5m"},
        ),
    ),
}
