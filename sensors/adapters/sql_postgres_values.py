"""Values of PostgreSQL as JSON, without loss.

In flows the text that the server sends (times in UTC, ISO styles, hex for bytes), out flow values that `orjson`
writes: whole numbers and booleans as themselves; numeric as text, every digit of it; floats as numbers, `NaN` and the
infinities as text; moments as RFC 3339, those that no calendar has (`infinity`) as the server spells them; json as it
is; bytes as base64; arrays as lists; everything else (uuid, intervals as ISO 8601, ranges, enums, composites) as the
server's text.
"""

import base64
import math
from typing import Any, Final

import orjson
from psycopg import postgres
from psycopg.adapt import AdaptersMap, Buffer, Loader
from psycopg.types.array import register_all_arrays
from psycopg.types.string import StrDumperUnknown

from sensors.adapters.sql_source import Sort

_SORTS: Final[dict[str, Sort]] = {
    "timestamptz": "time",
    "timestamp": "local",
    "date": "date",
    "int2": "whole",
    "int4": "whole",
    "int8": "whole",
    "numeric": "number",
    "float4": "number",
    "float8": "number",
    "text": "text",
    "varchar": "text",
    "uuid": "text",
    "xid8": "commit",
}
# What is not above any value of the type; sent as text, which the server reads as the column's own type.
_LOWEST: Final = {
    "timestamptz": "-infinity",
    "timestamp": "-infinity",
    "date": "-infinity",
    "int2": "-32768",
    "int4": "-2147483648",
    "int8": "-9223372036854775808",
    "numeric": "-Infinity",
    "float4": "-Infinity",
    "float8": "-Infinity",
    "text": "",
    "varchar": "",
    "uuid": "00000000-0000-0000-0000-000000000000",
    "xid8": "0",
}

UNORDERED: Final = frozenset({"bytea", "json", "jsonb", "array"})  # no keys: not sent back as they came


class _Text(Loader):
    def load(self, data: Buffer) -> str:
        return bytes(data).decode()


class _Whole(Loader):
    def load(self, data: Buffer) -> int:
        return int(bytes(data))


class _Bool(Loader):
    def load(self, data: Buffer) -> bool:
        return bytes(data) == b"t"


class _Float(Loader):
    def load(self, data: Buffer) -> float | str:
        text = bytes(data).decode()
        value = float(text)
        return value if math.isfinite(value) else text


class _Json(Loader):
    def load(self, data: Buffer) -> orjson.Fragment:
        return orjson.Fragment(bytes(data))


class _Bytes(Loader):
    def load(self, data: Buffer) -> str:
        return base64.b64encode(bytes.fromhex(bytes(data)[2:].decode())).decode()


class _Moment(Loader):
    """`2026-01-31 06:00:00.5+00` becomes `2026-01-31T06:00:00.5Z`."""

    def load(self, data: Buffer) -> str:
        text = bytes(data).decode()
        if len(text) < 19 or text[10] != " " or text.endswith("BC"):
            return text
        return f"{text[:10]}T{text[11:]}".replace("+00", "Z")


class Adapters:
    """A context for connections, with these loaders and no others: what is not named here comes as text."""

    connection = None

    def __init__(self) -> None:
        self.adapters = AdaptersMap(types=postgres.types)
        self.adapters.register_loader(0, _Text)
        for names, loader in (
            (("int2", "int4", "int8"), _Whole),
            (("bool",), _Bool),
            (("float4", "float8"), _Float),
            (("json", "jsonb"), _Json),
            (("bytea",), _Bytes),
            (("timestamptz", "timestamp"), _Moment),
        ):
            for name in names:
                self.adapters.register_loader(name, loader)
        register_all_arrays(self)
        self.adapters.register_dumper(str, StrDumperUnknown)  # the server reads a parameter as what stands beside it


def type_name(oid: int) -> str:
    """Return the name of a built-in type (`array` for arrays of such), empty for all others."""
    info = postgres.types.get(oid)
    if info is None:
        return ""
    return info.name if info.oid == oid else "array"


def sort_of(name: str) -> Sort:
    """Return what a high column of a type is made of."""
    return _SORTS.get(name, "other")


def lowest(name: str) -> str:
    """Return a text that is not above any value of a type that `sort_of` knows."""
    return _LOWEST[name]


def parameter(value: Any) -> str:
    """Return a value as the text of a parameter."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
