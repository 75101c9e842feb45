"""The kafka engine on a real broker: what is written, what a repeat looks like, and what goes wrong in which words."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pipelines.engines.kafka import KIND, KafkaEngine
from pipelines.errors import Ambiguous, LeaseLost, TaskFailed
from pipelines.ports import TaskContext
from sensors.adapters.kafka_formats import cloud_event
from tests.support.engine_contexts import TRACEPARENT, make_context, make_settings
from tests.support.kafka import Kafka, Topic

pytestmark = pytest.mark.integration


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[KafkaEngine]:
    engine = KIND.build(make_settings(folder))
    assert isinstance(engine, KafkaEngine)
    await engine.open()
    try:
        yield engine
    finally:
        await engine.close()


def ask(topic: Topic, *, run: str = "run_01", held: Callable[[], bool] = lambda: True, **options: Any) -> TaskContext:
    given = {"brokers": topic.kafka.bootstrap.split(","), "topic": topic.name, **options}
    return make_context("kafka", given, run=run, held=held)


async def write(engine: KafkaEngine, context: TaskContext) -> Any:
    result = await engine.poll(context, await engine.start(context))
    assert result is not None
    return result.output


async def read(topic: Topic, count: int) -> list[Any]:
    from aiokafka import AIOKafkaConsumer

    consumer = AIOKafkaConsumer(
        topic.name, bootstrap_servers=topic.kafka.bootstrap, auto_offset_reset="earliest", enable_auto_commit=False
    )
    await consumer.start()
    try:
        async with asyncio.timeout(20):
            return [await consumer.getone() for _ in range(count)]
    finally:
        await consumer.stop()


async def test_a_record_is_what_the_task_says(kafka: Kafka, tmp_path: Path) -> None:
    """Key, value and headers arrive, ours in place of the user's; the output says where it was written."""
    headers = {"Region": "nø", "n": 7, "TraceParent": "mine", "Idempotency-Key": "mine"}
    async with kafka.topic(3) as topic, opened(tmp_path) as engine:
        context = ask(topic, key="customer-7", value={"a": [1, "ø"]}, headers=headers)
        output = await write(engine, context)
        (record,) = await read(topic, 1)

    assert output == {"topic": topic.name, "partition": record.partition, "offset": 0}
    assert (record.key, record.value) == (b"customer-7", '{"a":[1,"ø"]}'.encode())
    assert dict(record.headers) == {
        "Region": "nø".encode(),
        "n": b"7",
        "content-type": b"application/json",
        "idempotency-key": (context.task_run.engine_key or "").encode(),
        "traceparent": TRACEPARENT.encode(),
    }
    assert len(record.headers) == 5


async def test_text_and_tombstones(kafka: Kafka, tmp_path: Path) -> None:
    """Text is written as it is; nothing at all, with a key, is that key's tombstone and has no content type."""
    async with kafka.topic() as topic, opened(tmp_path) as engine:
        await write(engine, ask(topic, value="smør"))
        await write(engine, ask(topic, key={"id": 1}, value=None))
        text, tombstone = await read(topic, 2)

    assert (text.key, text.value) == (None, "smør".encode())
    assert dict(text.headers)["content-type"] == b"text/plain; charset=utf-8"
    assert (tombstone.key, tombstone.value) == (b'{"id":1}', None)
    assert "content-type" not in dict(tombstone.headers)


@pytest.mark.parametrize("mode", ["binary", "structured"])
async def test_a_cloudevent_is_the_same_for_every_attempt(kafka: Kafka, tmp_path: Path, mode: str) -> None:
    """A repeat has the same id and idempotency key and lies in the same partition; the trace goes along twice."""
    async with kafka.topic(8) as topic, opened(tmp_path) as engine:
        context = ask(topic, cloudevent={"mode": mode})
        places = [await write(engine, context) for _ in range(2)]
        one, two = await read(topic, 2)

    assert places[0]["partition"] == places[1]["partition"] == one.partition == two.partition
    assert (one.value, one.headers) == (two.value, two.headers)
    event = cloud_event(one.value, one.headers).envelope
    assert (event.id, event.source, event.type) == (context.task_run.uid, "/tidegate/test", "tidegate.triggered")
    assert event.extensions["traceparent"].encode() == dict(one.headers)["traceparent"] == TRACEPARENT.encode()
    assert dict(one.headers)["idempotency-key"].decode() == context.task_run.engine_key
    assert any(name == "ce_id" for name, _ in one.headers) == (mode == "binary")


async def test_the_partition_key_of_a_cloudevent_is_the_records(kafka: Kafka, tmp_path: Path) -> None:
    """By the binding's key mapper; a key of the task's own goes before it."""
    event = {"extensions": {"partitionkey": "acme"}}
    async with kafka.topic() as topic, opened(tmp_path) as engine:
        await write(engine, ask(topic, cloudevent=event))
        await write(engine, ask(topic, cloudevent=event, key="mine"))
        assert [record.key for record in await read(topic, 2)] == [b"acme", b"mine"]


async def test_many_at_once_share_one_producer(kafka: Kafka, tmp_path: Path) -> None:
    """Tasks that run at the same time are written each once, over one producer per brokers and identity."""
    async with kafka.topic(2) as topic, opened(tmp_path) as engine:
        outputs = await asyncio.gather(*(write(engine, ask(topic, run=f"r{n}", value=n)) for n in range(50)))
        records = await read(topic, 50)
        assert engine._producers is not None
        assert len(engine._producers._lines) == 1

    assert sorted(int(record.value) for record in records) == list(range(50))
    assert len({(output["partition"], output["offset"]) for output in outputs}) == 50


@pytest.mark.parametrize("answers", [0, 1], ids=["before-it-is-handed-over", "before-the-request-leaves"])
async def test_nothing_leaves_once_the_lease_is_gone(kafka: Kafka, tmp_path: Path, answers: int) -> None:
    """The lease is asked for last of all; a neighbour's record in the same producer is written all the same, once."""
    async with kafka.topic() as topic, opened(tmp_path) as engine:
        await write(engine, ask(topic, value=0))
        left = iter([True] * answers)
        lost = ask(topic, run="lost", value="lost", held=lambda: next(left, False))
        both = [write(engine, lost), write(engine, ask(topic, run="fine", value=1))]
        outcome, fine = await asyncio.gather(*both, return_exceptions=True)
        assert not isinstance(fine, BaseException)
        assert isinstance(outcome, LeaseLost)
        assert "nothing was sent" in str(outcome)
        assert fine["topic"] == topic.name
        await write(engine, ask(topic, value=2))
        assert [record.value for record in await read(topic, 3)] == [b"0", b"1", b"2"]
        assert await topic.ends() == {0: 3}


async def test_nobody_there(tmp_path: Path) -> None:
    """Without a broker nothing was sent, which may be tried again."""
    nowhere = Topic(Kafka("given", "127.0.0.1:1"), "t")
    async with opened(tmp_path) as engine:
        with pytest.raises(TaskFailed, match=r"no broker at 127\.0\.0\.1:1 answers.*nothing was sent") as failed:
            await write(engine, ask(nowhere, value=1))
    assert (failed.value.kind, failed.value.retryable) == ("connect", True)


async def test_a_broker_that_says_nothing(tmp_path: Path) -> None:
    """A connection without an answer ends with the delivery time-out, and nothing was sent."""

    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        async with opened(tmp_path) as engine:
            with pytest.raises(TaskFailed, match=r"within 0\.3 s; nothing was sent") as failed:
                await write(
                    engine, ask(Topic(Kafka("given", f"127.0.0.1:{port}"), "t"), value=1, delivery_timeout="300ms")
                )
    finally:
        server.close()
        await server.wait_closed()
    assert (failed.value.kind, failed.value.retryable) == ("connect", True)


async def test_an_answer_that_does_not_come_is_ambiguous(
    kafka: Kafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the request has left, a time-out says that nobody knows; the next record goes through a new producer."""
    from aiokafka.client import AIOKafkaClient
    from aiokafka.protocol.produce import ProduceRequest

    real, unanswered = AIOKafkaClient.send, asyncio.Event()

    async def send(self: Any, node: Any, request: Any, **options: Any) -> Any:
        answer = await real(self, node, request, **options)
        if isinstance(request, ProduceRequest) and not unanswered.is_set():
            unanswered.set()
            await asyncio.Event().wait()
        return answer

    async with kafka.topic() as topic, opened(tmp_path) as engine:
        monkeypatch.setattr(AIOKafkaClient, "send", send)
        with pytest.raises(Ambiguous, match="whether it was written is not known"):
            await write(engine, ask(topic, value=1, delivery_timeout="3s"))
        assert unanswered.is_set()
        await write(engine, ask(topic, value=1))
        one, two = await read(topic, 2)
        assert one.headers == two.headers


async def test_a_former_process_may_have_written(tmp_path: Path) -> None:
    """A handle of a process that is gone is ambiguous: the attempt starts again under its key."""
    async with opened(tmp_path) as engine:
        assert (engine.survives, engine.dedupes) == (False, True)
        context = ask(Topic(Kafka("given", "127.0.0.1:1"), "t"), value=1)
        assert await engine.find(context) is None
        with pytest.raises(Ambiguous, match="whether it arrived is not known"):
            await engine.poll(context, "7")


@pytest.mark.apache_kafka
async def test_what_the_brokers_do_not_take(apache_kafka: Kafka, tmp_path: Path) -> None:
    """A record that is larger than the topic allows is failed for good, with the setting; the next is written."""
    async with apache_kafka.topic(max_message_bytes=1000) as topic, opened(tmp_path) as engine:
        with pytest.raises(TaskFailed, match=r"raise its max\.message\.bytes") as failed:
            await write(engine, ask(topic, value="x" * 5000))
        await write(engine, ask(topic, value="small"))
        assert await topic.ends() == {0: 1}
    assert (failed.value.kind, failed.value.retryable) == ("too_large", False)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"value": 1, "cloudevent": {}},
        {"value": None},
        {"value": "\ud800"},
        {"value": 1, "topic": "no topic"},
        {"value": 1, "brokers": ["${{ params.host }}"]},
        {"value": 1, "brokers": []},
        {"value": 1, "sasl": {"mechanism": "PLAIN"}},
        {"cloudevent": {"subject": "a\nb"}},
        {"cloudevent": {"extensions": {"Bad-Name": "x"}}},
        {"cloudevent": {"datacontenttype": "text/plain", "data": {"a": 1}}},
    ],
)
async def test_what_is_wrong_fails_before_anything_connects(tmp_path: Path, options: dict[str, Any]) -> None:
    """Options that mean no record fail the task for good, and no producer is made."""
    context = ask(Topic(Kafka("given", "127.0.0.1:1"), "t"))
    context = dataclasses.replace(context, options={**context.options, **options})
    async with opened(tmp_path) as engine:
        with pytest.raises(TaskFailed) as failed:
            await engine.start(context)
        assert engine._producers is None
    assert (failed.value.kind, failed.value.retryable) == ("bad_options", False)


@pytest.mark.apache_kafka
@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
async def test_it_is_let_in_as_the_sensor_is(apache_kafka: Kafka, tmp_path: Path, mechanism: str) -> None:
    """TLS with an authority of one's own, and SASL, by the same options; a wrong password says what to look at."""
    assert apache_kafka.sasl_ssl
    assert apache_kafka.certificates
    sasl = {"mechanism": mechanism, "username": apache_kafka.user, "password": apache_kafka.password}
    given: dict[str, Any] = {
        "brokers": [apache_kafka.sasl_ssl],
        "tls": {"ca": str(apache_kafka.certificates / "ca.pem")},
        "value": 1,
    }
    async with apache_kafka.topic() as topic, opened(tmp_path) as engine:
        assert (await write(engine, ask(topic, **given, sasl=sasl)))["offset"] == 0
        with pytest.raises(TaskFailed, match="`sasl`"):
            await write(engine, ask(topic, **given, sasl={**sasl, "password": "wrong"}))
        with pytest.raises(TaskFailed, match="certificates of `tls` cannot be read"):
            await write(engine, ask(topic, **{**given, "tls": {"ca": "nowhere.pem"}}, sasl=sasl))
