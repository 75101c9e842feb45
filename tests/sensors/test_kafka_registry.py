"""Records that name their schema by number: decoded when the registry knows it, kept when not, waited for when away."""

import io
import sys
from collections.abc import AsyncIterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import orjson
import pytest

from sensors.adapters.kafka_options import KafkaOptions
from sensors.adapters.kafka_registry import Schemas, schema_check
from sensors.clock import SystemClock
from sensors.errors import NotConnected
from sensors.kind import SensorContext
from sensors.kinds.kafka import KIND
from tests.support.records import read, record, rules_of
from tests.support.schema_registry import FakeRegistry, descriptor, framed, schema_registry

AVRO = {
    "type": "record",
    "name": "Order",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "kind", "type": ["null", "string"], "default": None},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "sum", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
        {"name": "raw", "type": "bytes"},
    ],
}
ORDER: Mapping[str, Any] = {"id": 7, "kind": "hot", "at": 1_700_000_000_000, "sum": Decimal("12.50"), "raw": b"\xff"}
RULES = {"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}, "kind": {"type": "string"}}}


@pytest.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    async with schema_registry() as made:
        yield made


def schemas(registry: FakeRegistry, format: str, **more: Any) -> Schemas:
    """Return the decoders of a sensor."""
    options = _options(registry, format, **more)
    assert options.schema_registry is not None
    return Schemas(options, options.schema_registry, Path("/"))


def _options(registry: FakeRegistry, format: str, **more: Any) -> KafkaOptions:
    given = {"brokers": ["k:9092"], "topics": ["t"], "start": "now", "format": format}
    return KafkaOptions.model_validate({**given, "schema_registry": {"url": registry.url, **more}})


def avro(value: Mapping[str, Any], schema: Any = None) -> bytes:
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(schema or AVRO), value)
    return stream.getvalue()


async def test_avro_becomes_json(registry: FakeRegistry) -> None:
    """Filters see plain content; moments, decimal numbers and bytes are what JSON can say."""
    registry.add(1, "AVRO", orjson.dumps(AVRO).decode())
    decoders = schemas(registry, "avro")
    one = record(framed(1, avro(ORDER)))
    await decoders.prepare([one, one, record(None)])
    (event,) = read([one], rules_of([{"exact": {"data.kind": "hot"}}]).sieve("s"), decoder=decoders).events
    await decoders.close()

    assert event.content_type == "application/json"
    assert orjson.loads(event.data or b"") == {
        "id": 7,
        "kind": "hot",
        "at": "2023-11-14T22:13:20Z",
        "sum": "12.50",
        "raw": "/w==",
    }
    assert registry.asked == ["/schemas/ids/1"]


async def test_schemas_refer_to_others(registry: FakeRegistry) -> None:
    """What a schema refers to by name is fetched with it."""
    inner = {"type": "record", "name": "Customer", "fields": [{"name": "name", "type": "string"}]}
    outer = {"type": "record", "name": "Order", "fields": [{"name": "by", "type": "Customer"}]}
    registry.add(5, "AVRO", orjson.dumps(inner).decode())
    registry.versions["customers", 3] = 5
    registry.add(6, "AVRO", orjson.dumps(outer).decode(), [("Customer", "customers", 3)])
    decoders = schemas(registry, "avro")
    one = record(framed(6, avro({"name": "Ada"}, inner)))
    await decoders.prepare([one])
    (event,) = read([one], decoder=decoders).events
    await decoders.close()

    assert orjson.loads(event.data or b"") == {"by": {"name": "Ada"}}


async def test_json_schema_is_held_against_the_record(registry: FakeRegistry) -> None:
    """A record that does not keep its schema is a dead letter that names the place."""
    registry.add(2, "JSON", orjson.dumps(RULES).decode())
    decoders = schemas(registry, "json-schema")
    records = [record(framed(2, b'{"id":1}')), record(framed(2, b'{"id":1,"kind":5}'), 1), record(framed(2, b"{"), 2)]
    await decoders.prepare(records)
    harvest = read(records, decoder=decoders)
    await decoders.close()

    assert [event.data for event in harvest.events] == [b'{"id":1}']
    assert [letter.reason for letter in harvest.letters] == ["schema_violated", "undecodable"]
    assert harvest.letters[0].detail.startswith("kind: ")


async def test_protobuf_finds_its_message(registry: FakeRegistry) -> None:
    """The message is named by its place in the file, nested ones too, and protobuf's own types are known."""
    from google.protobuf import descriptor_pb2

    file = descriptor_pb2.FileDescriptorProto(name="order.proto", package="shop", syntax="proto3")
    file.dependency.append("google/protobuf/timestamp.proto")
    message = file.message_type.add(name="Order")
    message.field.add(name="order_id", number=1, type=3, label=1)
    message.field.add(name="at", number=2, type=11, type_name=".google.protobuf.Timestamp", label=1)
    message.nested_type.add(name="Line").field.add(name="sku", number=1, type=9, label=1)
    registry.add(3, "PROTOBUF", descriptor(file))
    decoders = schemas(registry, "protobuf")
    records = [
        record(framed(3, b"\x00" + b"\x08\x07\x12\x02\x08\x0a")),  # the first message; id 7, at 10 s
        record(framed(3, b"\x04\x00\x00" + b"\x0a\x01a"), 1),  # path of two: Order, Line
        record(framed(3, b"\x02\x0a" + b"\x0a\x01a"), 2),  # a message that is not there
        record(framed(3, b"\x80"), 3),
    ]
    await decoders.prepare(records)
    harvest = read(records, decoder=decoders)
    await decoders.close()

    assert [orjson.loads(event.data or b"") for event in harvest.events] == [
        {"order_id": "7", "at": "1970-01-01T00:00:10Z"},
        {"sku": "a"},
    ]
    assert [letter.reason for letter in harvest.letters] == ["undecodable", "undecodable"]


async def test_what_has_no_known_schema_is_a_dead_letter(registry: FakeRegistry) -> None:
    """A number that the registry does not know, and a value without one, are poison: they go to the dead letters."""
    registry.add(4, "AVRO", '{"type": "nonsense"}')
    decoders = schemas(registry, "avro")
    records = [record(framed(9, b"x")), record(b'{"id":1}', 1), record(framed(4, b"x"), 2), record(b"", 3)]
    await decoders.prepare(records)
    harvest = read(records, decoder=decoders)
    await decoders.close()

    assert harvest.events == []
    assert [letter.reason for letter in harvest.letters] == [
        "schema_unknown",
        "undecodable",
        "schema_unknown",
        "undecodable",
    ]
    assert "schema 9 is not in the registry at" in harvest.letters[0].detail
    assert harvest.letters[0].payload == framed(9, b"x")


async def test_a_value_of_another_schema_is_a_dead_letter(registry: FakeRegistry) -> None:
    """Bytes that are left over, or missing, are not taken for a record."""
    registry.add(1, "AVRO", orjson.dumps(AVRO).decode())
    decoders = schemas(registry, "avro")
    records = [record(framed(1, avro(ORDER) + b"!")), record(framed(1, avro(ORDER)[:-1]), 1)]
    await decoders.prepare(records)
    harvest = read(records, decoder=decoders)
    await decoders.close()

    assert [letter.reason for letter in harvest.letters] == ["undecodable", "undecodable"]


@pytest.mark.parametrize("status", [500, 503, 429, 403])
async def test_a_registry_that_fails_is_no_poison(registry: FakeRegistry, status: int) -> None:
    """The position stays, the sentence names the registry, and when it answers again the same record is decoded."""
    registry.add(1, "AVRO", orjson.dumps(AVRO).decode())
    registry.status = status
    decoders = schemas(registry, "avro")
    one = record(framed(1, avro(ORDER)))
    with pytest.raises(NotConnected, match=registry.url):
        await decoders.prepare([one])
    registry.status = None
    await decoders.prepare([one])
    await decoders.close()

    assert len(read([one], decoder=decoders).events) == 1


async def test_a_registry_that_is_away_is_named() -> None:
    """Nobody answers: NotConnected with its url."""
    decoders = schemas(FakeRegistry("http://127.0.0.1:9"), "avro")
    with pytest.raises(NotConnected, match=r"registry at http://127\.0\.0\.1:9 cannot be asked"):
        await decoders.prepare([record(framed(1, b""))])
    await decoders.close()


async def test_what_was_unknown_is_asked_for_again_after_a_reconnect(registry: FakeRegistry) -> None:
    """Schemas that are known are kept; that one was missing is not believed for ever."""
    decoders = schemas(registry, "avro")
    one = record(framed(1, avro(ORDER)))
    await decoders.prepare([one])
    assert len(read([one], decoder=decoders).letters) == 1
    registry.add(1, "AVRO", orjson.dumps(AVRO).decode())
    await decoders.close()
    await decoders.prepare([one])
    await decoders.close()

    assert len(read([one], decoder=decoders).events) == 1


async def test_the_registry_may_ask_who_we_are(registry: FakeRegistry) -> None:
    """Name and password are sent; without them the sentence names the option."""
    registry.login = ("gate", "secret")
    registry.add(1, "AVRO", orjson.dumps(AVRO).decode())
    one = record(framed(1, avro(ORDER)))
    right = schemas(registry, "avro", username="gate", password="secret")
    await right.prepare([one])
    await right.close()
    wrong = schemas(registry, "avro")
    with pytest.raises(NotConnected, match="check `schema_registry`"):
        await wrong.prepare([one])
    await wrong.close()

    assert len(read([one], decoder=right).events) == 1


# -- without a registry ------------------------------------------------------------------------------------------------
def _build(base: Path, **options: Any) -> Any:
    given = KIND.options.model_validate({"brokers": ["k:9092"], "topics": ["t"], "start": "now", **options})
    return KIND.build(given, SensorContext("s", "x", SystemClock(), base))


def test_a_schema_file_is_held_against_every_record(tmp_path: Path) -> None:
    """`schema:` refuses what does not keep it, also when no filter would have let it through."""
    from sensors.adapters.kafka_formats import Json

    decoder = Json(schema_check(RULES, "`schema`"))
    harvest = read(
        [record(b'{"id":1}'), record(b'{"id":"1"}', 1), record(b"[]", 2), record(None, 3)],
        rules_of([{"exact": {"data.id": 1}}]).sieve("s"),
        decoder=decoder,
    )

    assert [event.data for event in harvest.events] == [b'{"id":1}']
    assert [letter.reason for letter in harvest.letters] == ["schema_violated", "schema_violated"]
    assert harvest.counts == {"dead": 2, "unmatched": 1}


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "cannot be read"), ("{", "cannot be read as JSON"), ('{"type": "nonsense"}', "is no JSON Schema")],
)
def test_a_schema_that_cannot_be_used_stops_the_start(tmp_path: Path, content: str | None, words: str) -> None:
    """The file is named, with what is wrong."""
    if content is not None:
        (tmp_path / "order.json").write_text(content)
    with pytest.raises(ValueError, match=words) as caught:
        _build(tmp_path, schema="order.json")

    assert "order.json" in str(caught.value)


@pytest.mark.parametrize(
    ("module", "options"),
    [
        ("confluent_kafka.schema_registry", {"format": "avro", "schema_registry": {"url": "http://r"}}),
        ("jsonschema_rs", {"schema": "order.json"}),
    ],
)
def test_a_missing_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, options: dict[str, Any]
) -> None:
    """Where the libraries are not installed, one sentence says which extra brings them."""
    (tmp_path / "order.json").write_text(orjson.dumps(RULES).decode())
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=r"needs an extra: install tidegate\[schema-registry\]"):
        _build(tmp_path, **options)
