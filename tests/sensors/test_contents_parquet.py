"""Parquet files by their footers: what they tell, how little is read, and footers made to hurt."""

import io
import struct
from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.contents import Blob, inspector, look, types


def parquet(frame: pl.DataFrame, **options: Any) -> bytes:
    """Return a frame as Parquet."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer, **options)
    return buffer.getvalue()


async def test_the_footer_of_a_parquet_file_tells_names_types_and_rows() -> None:
    """Nested types too; and only the end of the file is read, once."""
    frame = pl.DataFrame(
        {
            "id": [1, 2],
            "amount": [1.5, None],
            "name": ["a", "b"],
            "ok": [True, False],
            "day": [date(2026, 1, 31)] * 2,
            "at": [datetime(2026, 1, 31, 6, tzinfo=UTC)] * 2,
            "local": [datetime(2026, 1, 31, 6)] * 2,  # noqa: DTZ001 - a local time is what is written
            "clock": [time(6)] * 2,
            "price": pl.Series([Decimal("1.25")] * 2, dtype=pl.Decimal(10, 2)),
            "raw": [b"x"] * 2,
            "tags": [["a"]] * 2,
            "deep": [{"a": 1, "b": [[{"c": 1.0}]]}] * 2,
            "nothing": [None, None],
            "small": pl.Series([1, 2], dtype=pl.UInt8),
            "kind": pl.Series(["x", "y"], dtype=pl.Categorical),
        }
    )
    blob = Blob(parquet(frame))
    found = await inspector().inspect("a.parquet", len(blob.data), blob.read)
    assert found.data["rows"] == 2
    assert found.data["rows_exact"] is True
    assert found.data["format"] == "parquet"
    assert types(found.data) == {
        "id": "int64",
        "amount": "float64",
        "name": "string",
        "ok": "bool",
        "day": "date",
        "at": "timestamp[us, UTC]",
        "local": "timestamp[us]",
        "clock": "time[ns]",
        "price": "decimal(10,2)",
        "raw": "binary",
        "tags": "list<string>",
        "deep": "struct<a: int64, b: list<list<struct<c: float64>>>>",
        "nothing": "null",
        "small": "uint8",
        "kind": "string",
    }
    assert blob.reads == [min(len(blob.data), 64 << 10)]


async def test_another_writer_of_parquet_is_understood(tmp_path: Any) -> None:
    """What DuckDB writes: maps, UUIDs, intervals, times, small integers."""
    file = tmp_path / "d.parquet"
    duckdb.sql(
        "COPY (SELECT 1::INT a, MAP {'k': 1.5} m, uuid() u, INTERVAL 1 DAY i, [1, 2] l, 1.5::DECIMAL(10, 2) d, "
        f"'12:00'::TIME t, 1::UTINYINT s, now() n, {{'x': 1}} o FROM range(7)) TO '{file}'"
    )
    found = await look("d.pq", file.read_bytes())
    assert found["rows"] == 7
    assert types(found) == {
        "a": "int32",
        "m": "map<string, decimal(2,1)>",
        "u": "uuid",
        "i": "interval",
        "l": "list<int32>",
        "d": "decimal(10,2)",
        "t": "time[us]",
        "s": "uint8",
        "n": "timestamp[us, UTC]",
        "o": "struct<x: int32>",
    }


async def test_a_parquet_footer_larger_than_allowed_is_read_as_far_as_the_schema_goes() -> None:
    """Thousands of row groups cost nothing; a schema beyond the cap is an error that says so. Reads keep the bound."""
    frame = pl.DataFrame({"id": range(20_000), "name": ["x"] * 20_000})
    blob = Blob(parquet(frame, row_group_size=5))
    assert int.from_bytes(blob.data[-8:-4], "little") > 500_000
    found = await inspector(max_bytes="8KiB").inspect("a.parquet", len(blob.data), blob.read)
    assert types(found.data) == {"id": "int64", "name": "string"}
    assert found.data["rows"] == 20_000
    assert max(blob.reads) <= 8192
    wide = parquet(pl.DataFrame({f"column_number_{index}": [1] for index in range(3_000)}))
    found = await inspector(max_bytes="8KiB").inspect("a.parquet", len(wide), Blob(wide).read)
    assert found.data == {"error": "the Parquet schema takes more than the 8,192 bytes that may be read"}
    assert len(types(await look("a.parquet", wide))) == 3_000


async def test_parquet_without_the_name_is_recognised() -> None:
    """Its first bytes tell."""
    data = parquet(pl.DataFrame({"id": [1]}))
    assert types(await look("part-00000", data)) == {"id": "int64"}


@pytest.mark.parametrize(
    ("make", "error"),
    [
        pytest.param(lambda b: b[: len(b) // 2], "was it cut off?", id="truncated"),
        pytest.param(lambda _: b"", "fewer than any Parquet file", id="empty"),
        pytest.param(lambda _: b"PAR1PAR1", "fewer than any Parquet file", id="only the magic"),
        pytest.param(lambda b: b[:-8] + b"\xff\xff\xff\x7f" + b[-4:], "2,147,483,647 bytes", id="length too great"),
        pytest.param(lambda b: b[:-8] + b"\x05\x00\x00\x00" + b[-4:], "lacks the schema", id="length too small"),
        pytest.param(lambda b: b[:-8] + b"\x00\x00\x00\x00" + b[-4:], "broken off", id="no length"),
        pytest.param(lambda b: b[:-4] + b"PARE", "encrypted", id="encrypted"),
        pytest.param(lambda _: b"PAR1" + b"\x00" * 100 + b"\x64\x00\x00\x00PAR1", "lacks the schema", id="zeros"),
        pytest.param(lambda _: b"PAR1" + b"\xff" * 100 + b"\x64\x00\x00\x00PAR1", "cannot be read", id="ones"),
    ],
)
async def test_a_broken_parquet_file_says_what_is_wrong(make: Any, error: str) -> None:
    """Cut off, lying, empty: a sentence, never an exception."""
    data = make(parquet(pl.DataFrame({"id": [1, 2, 3]})))
    found = await look("a.parquet", data)
    assert error in found["error"]


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _footer(elements: Sequence[tuple[bytes, int | None]], rows: int = 7) -> bytes:
    """Return a Parquet file of nothing but a schema of (name, children), INT32 where there are none."""

    def element(name: bytes, children: int | None) -> bytes:
        if children is None:
            return b"\x15\x02\x38" + _varint(len(name)) + name + b"\x00"
        return b"\x48" + _varint(len(name)) + name + b"\x15" + _varint(children << 1) + b"\x00"

    listed = b"".join(element(*each) for each in elements)
    footer = b"\x15\x04\x19\xfc" + _varint(len(elements)) + listed + b"\x16" + _varint((rows << 1) ^ (rows >> 63))
    footer += b"\x19\x0c\x00"
    return b"PAR1" + footer + struct.pack("<I", len(footer)) + b"PAR1"


@pytest.mark.parametrize(
    ("elements", "error"),
    [
        pytest.param([(b"s", 1)] * 100_000 + [(b"x", None)], "100,001 elements", id="bottomless"),
        pytest.param([(b"s", 1)] * 5_000 + [(b"x", None)], "64 levels", id="deep"),
        pytest.param([(b"s", 3), (b"x", None)], "no tree", id="children missing"),
        pytest.param([(b"s", 1), (b"x", None), (b"y", None)], "no tree", id="children left over"),
        pytest.param([(b"s", 1 << 40)], "no tree", id="a trillion children"),
        pytest.param([(b"s", 12_000)] + [(b"x", None)] * 12_000, "12,000 columns", id="wide"),
    ],
)
async def test_a_parquet_schema_made_to_hurt_is_an_error(elements: Any, error: str) -> None:
    """A schema a hundred thousand levels deep would overflow the stack of the libraries that read it."""
    assert error in (await look("a.parquet", _footer(elements)))["error"]


async def test_the_hand_made_footer_is_a_good_one() -> None:
    """So that the tests above fail for the reason they name; and hostile names are made harmless."""
    found = await look("a.parquet", _footer([(b"s", 2), (b"a\x00\x1b[31m", None), (b"\xff", None)]))
    assert found["rows"] == 7
    assert types(found) == {"a��[31m": "int32", "�": "int32"}


@settings(max_examples=150, deadline=None)
@given(st.data())
async def test_any_damage_to_a_parquet_footer_has_a_clear_outcome(data: st.DataObject) -> None:
    """Bytes changed at random: columns or a sentence, nothing else."""
    good = bytearray(_DAMAGED)
    for _ in range(data.draw(st.integers(1, 8))):
        good[data.draw(st.integers(4, len(good) - 5))] = data.draw(st.integers(0, 255))
    found = await look("a.parquet", bytes(good))
    assert ("error" in found) != ("schema" in found)


_DAMAGED = parquet(pl.DataFrame({"id": [1], "n": [{"a": [1.5]}], "t": [datetime(2026, 1, 1)]}))  # noqa: DTZ001
