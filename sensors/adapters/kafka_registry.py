"""Schemas of records that name them by number: Avro, JSON Schema and Protobuf, in the frame of Confluent's registry.

In flow records, out flow decoders by schema number, fetched once and kept. A number that the registry does not know
makes its records dead letters; a registry that does not answer is NotConnected, and nothing moves.

The content of a record is what JSON can say: moments as RFC 3339 text, decimal numbers as text, bytes as base64.
"""

import base64
import io
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Protocol

import orjson

from sensors.adapters.kafka_formats import JSON, BadRecord, too_deep
from sensors.adapters.kafka_options import KafkaOptions, Registry
from sensors.errors import NotConnected

Decode = Callable[[bytes], Any]  # payload after the frame -> content
EXTRA: Final = "the schema registry needs an extra: install tidegate[schema-registry]"
EXTRA_CHECK: Final = "holding records against a JSON Schema needs an extra: install tidegate[schema-registry]"
_FRAME = struct.Struct(">bI")
_MOST = 1000  # schemas kept
_NO_SCHEMA = (404, 422)


class Valued(Protocol):
    """A record, as far as its schema is concerned."""

    value: bytes | None


@dataclass(frozen=True, slots=True)
class _Source:
    """A schema as the registry holds it, with those that it refers to by name."""

    text: str
    references: Mapping[str, "_Source"]


class Schemas:
    """The decoders of one sensor. Implements `kafka_formats.Decoder` for what `prepare` has fetched."""

    content_type = JSON
    hostile: tuple[bytes, bytes] | None = None

    def __init__(self, options: KafkaOptions, registry: Registry, base: Path) -> None:
        """Raise ValueError when the extra is missing."""
        try:
            import confluent_kafka.schema_registry  # noqa: F401
        except ImportError as error:
            raise ValueError(EXTRA) from error
        self._format = options.format
        self._registry = registry
        self._base = base
        self._client: Any = None
        self._known: dict[int, Decode | BadRecord] = {}
        self.content: Callable[[bytes], Any] = self._content

    # -- fetching -----------------------------------------------------------------------------------------------------
    async def prepare(self, records: Iterable[Valued]) -> None:
        """Fetch the schemas that these records name. Raises NotConnected."""
        for record in records:
            number = _number(record.value)
            if number is not None and number not in self._known:
                if len(self._known) >= _MOST:
                    self._known.clear()
                self._known[number] = await self._fetch(number)

    async def close(self) -> None:
        """Let go of the registry; what is not known there is asked for again next time."""
        client, self._client = self._client, None
        self._known = {number: known for number, known in self._known.items() if not isinstance(known, BadRecord)}
        if client is not None:
            await client.aclose()

    async def _fetch(self, number: int) -> Decode | BadRecord:
        from confluent_kafka.schema_registry.error import SchemaRegistryError

        if self._client is None:
            self._client = self._open()
        fmt = "serialized" if self._format == "protobuf" else None
        url = self._registry.url
        try:
            schema = await self._client.get_schema(number, fmt=fmt)
            source = _Source(schema.schema_str, await self._referred(schema.references or (), fmt))
            return _DECODERS[self._format](source)
        except SchemaRegistryError as error:
            if error.http_status_code in _NO_SCHEMA:
                return BadRecord("schema_unknown", f"schema {number} is not in the registry at {url}")
            raise NotConnected(f"the schema registry at {url} refuses ({error}); check `schema_registry`") from error
        except BadRecord as bad:
            return bad
        except Exception as error:
            raise NotConnected(f"the schema registry at {url} cannot be asked: {error}") from error

    async def _referred(self, references: Sequence[Any], fmt: str | None) -> Mapping[str, _Source]:
        found = {}
        for reference in references:
            schema = (await self._client.get_version(reference.subject, reference.version, fmt=fmt)).schema
            found[reference.name] = _Source(schema.schema_str, await self._referred(schema.references or (), fmt))
        return found

    def _open(self) -> Any:
        from confluent_kafka.schema_registry import AsyncSchemaRegistryClient

        registry = self._registry
        given: dict[str, Any] = {"url": registry.url, "max.retries": 1, "timeout": 10}
        if registry.username is not None and registry.password is not None:
            given["basic.auth.user.info"] = f"{registry.username}:{registry.password.get_secret_value()}"
        if registry.ca is not None:
            given["ssl.ca.location"] = str(self._base / registry.ca)
        return AsyncSchemaRegistryClient(given)

    # -- decoding -----------------------------------------------------------------------------------------------------
    def bad(self, error: Exception) -> BadRecord:
        """Say why a value has no content."""
        return error if isinstance(error, BadRecord) else BadRecord("undecodable", str(error))

    def _content(self, value: bytes) -> Any:
        """Decode a framed value. Raises BadRecord."""
        number = _number(value)
        if number is None:
            raise BadRecord("undecodable", "the value does not begin with a schema's number")
        decode = self._known.get(number)
        if decode is None or isinstance(decode, BadRecord):
            raise decode or BadRecord("schema_unknown", f"schema {number} was not fetched")
        try:
            return decode(value[_FRAME.size :])
        except BadRecord:
            raise
        except Exception as error:  # whatever a decoder raises about bytes from outside
            raise BadRecord("undecodable", f"the value does not keep schema {number}: {error}") from error

    def kept(self, value: bytes, content: Any) -> bytes:
        """Keep the content as JSON."""
        data = orjson.dumps(content)
        too_deep(data, content)
        return data


def _number(value: bytes | None) -> int | None:
    if value is None or len(value) < _FRAME.size:
        return None
    magic, number = _FRAME.unpack_from(value)
    return number if magic == 0 else None


def _plain(value: Any) -> Any:
    """Say in JSON what JSON has no word for."""
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} has no place in JSON")


def _avro(source: _Source) -> Decode:
    from fastavro import parse_schema, schemaless_reader
    from fastavro.schema import SchemaParseException

    named: dict[str, Any] = {}

    def parse(one: _Source) -> Any:
        for reference in one.references.values():
            parse(reference)
        return parse_schema(orjson.loads(one.text), named_schemas=named)

    try:
        schema = parse(source)
    except (SchemaParseException, ValueError, KeyError) as error:
        raise BadRecord("schema_unknown", f"its schema cannot be read: {error}") from error

    def decode(payload: bytes) -> Any:
        stream = io.BytesIO(payload)
        value = schemaless_reader(stream, schema, None)
        if stream.read(1):
            raise BadRecord("undecodable", "bytes are left over after the record; was it written by another schema?")
        return orjson.loads(orjson.dumps(value, default=_plain, option=orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS))

    return decode


def schema_check(schema: Any, what: str) -> Callable[[Any], None]:
    """Return what raises BadRecord for content that does not keep a JSON Schema. Raises ValueError for no schema."""
    try:
        import jsonschema_rs
    except ImportError as error:
        raise ValueError(EXTRA_CHECK) from error
    try:
        validator = jsonschema_rs.validator_for(schema)
    except (jsonschema_rs.ValidationError, ValueError, jsonschema_rs.ReferencingError) as error:
        raise ValueError(f"{what} is no JSON Schema: {str(error).splitlines()[0]}") from error

    def check(content: Any) -> None:
        error = next(iter(validator.iter_errors(content)), None)
        if error is not None:
            place = "/".join(str(step) for step in error.instance_path) or "the record"
            raise BadRecord("schema_violated", f"{place}: {error.message[:500]}")

    return check


def _json_schema(source: _Source) -> Decode:
    try:
        check = schema_check(orjson.loads(source.text), "its schema")
    except ValueError as error:
        raise BadRecord("schema_unknown", str(error)) from error

    def decode(payload: bytes) -> Any:
        content = orjson.loads(payload)
        check(content)
        return content

    return decode


def _protobuf(source: _Source) -> Decode:
    from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

    pool = descriptor_pool.DescriptorPool()

    def add(one: _Source, name: str) -> Any:
        for reference, inner in one.references.items():
            add(inner, reference)
        file = descriptor_pb2.FileDescriptorProto.FromString(base64.b64decode(one.text))
        file.name = name
        for needed in file.dependency:
            if needed.startswith("google/"):
                _add_known(pool, needed)
        pool.Add(file)
        return pool.FindFileByName(name)

    try:
        file = add(source, "record.proto")
    except Exception as error:
        raise BadRecord("schema_unknown", f"its schema cannot be read: {error}") from error

    def decode(payload: bytes) -> Any:
        path, at = _message_path(payload)
        messages = list(file.message_types_by_name.values())
        kind = messages[path[0]]
        for step in path[1:]:
            kind = kind.nested_types[step]
        message = message_factory.GetMessageClass(kind).FromString(payload[at:])
        return json_format.MessageToDict(message, preserving_proto_field_name=True)

    return decode


def _add_known(pool: Any, name: str) -> None:
    """Add one of protobuf's own files, with what it needs."""
    import importlib

    from google.protobuf import descriptor_pb2, descriptor_pool

    importlib.import_module(name.removesuffix(".proto").replace("/", ".") + "_pb2")
    file = descriptor_pb2.FileDescriptorProto()
    descriptor_pool.Default().FindFileByName(name).CopyToProto(file)
    for needed in file.dependency:
        _add_known(pool, needed)
    pool.Add(file)


def _message_path(payload: bytes) -> tuple[list[int], int]:
    """Read which message of the file it is: a count and so many indexes in zigzag varints; a single 0 is the first."""
    count, at = _varint(payload, 0)
    if count == 0:
        return [0], at
    if not 0 < count <= 32:
        raise BadRecord("undecodable", "the value does not say which message it is")
    path = []
    for _ in range(count):
        step, at = _varint(payload, at)
        path.append(step)
    return path, at


def _varint(payload: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(payload) or shift > 35:
            raise BadRecord("undecodable", "the value ends within its frame")
        byte = payload[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at


_DECODERS: Final[Mapping[str, Callable[[_Source], Decode]]] = {
    "avro": _avro,
    "json-schema": _json_schema,
    "protobuf": _protobuf,
}
