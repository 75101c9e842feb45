"""CSV and JSON by their beginnings: names, guessed types, rows that are never invented, and text made to hurt."""

import csv
import gzip
import io
import json

import orjson
import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from sensors.adapters.csv_head import shape_of_csv
from sensors.adapters.shapes import MAX_COLUMNS
from tests.support.contents import Blob, inspector, look, types


# -- CSV --------------------------------------------------------------------------------------------------------------
async def test_a_csv_tells_its_header_types_guessed_from_values_and_rows() -> None:
    """Every type that text can show; a column without values is null; one of mixed values is text."""
    text = (
        "id,amount,name,ok,day,at,utc,clock,empty,mixed,big,code\n"
        '1,1.5,"a, b",true,2026-01-31,2026-01-31T06:00:00,2026-01-31 06:00:00.123Z,06:00,,1,12345678901234567890,007\n'
        '2,2,"say ""hi""\nthere",FALSE,2026-02-01,2026-02-01,2026-01-31T06:00+01:00,06:00:01.5,,x,1,1\n'
    )
    found = await look("a.csv", text.encode())
    assert types(found) == {
        "id": "int64",
        "amount": "float64",
        "name": "string",
        "ok": "bool",
        "day": "date",
        "at": "timestamp[us]",
        "utc": "timestamp[us, UTC]",
        "clock": "time[us]",
        "empty": "null",
        "mixed": "string",
        "big": "int128",
        "code": "int64",
    }
    assert (found["format"], found["rows"], found["rows_exact"]) == ("csv", 2, True)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.csv", b"id;amount\n1;2,5\n"),
        ("a.tsv", b"id\tamount\n1\t2.5\n"),
        ("a.csv", b"id|amount\n1|2.5\n"),
        ("a.csv", b"\xef\xbb\xbfid,amount\r\n1,2.5\r\n"),
        ("a.csv", "id,amount\n1,2.5\n".encode("utf-16")),
        ("a.csv", b"id,amount\r1,2.5\r"),
        ("a.csv", b"\n\nid,amount\n\n1,2.5\n\n\n"),
        ("a.csv", b"'id','amount'\n'1','2,5'\n"),
        ("a.csv", b'"id","amount"\n"1","2.5"'),
        ("a.csv.gz", gzip.compress(b"id,amount\n1,2.5\n", mtime=0)),
        ("a.csv.zst", zstd.compress(b"id,amount\n1,2.5\n")),
        ("export", b"id,amount\n1,2.5\n"),
    ],
)
async def test_the_ways_in_which_a_csv_is_written(name: str, data: bytes) -> None:
    """Separators, quotes, marks of byte order, ends of lines and compression are found out."""
    found = await look(name, data)
    assert list(types(found)) == ["id", "amount"]
    assert found["rows"] == 1


async def test_options_say_what_cannot_be_guessed() -> None:
    """Separator, no header, and the format of a file with an odd name."""
    found = await look("x.dat", b"1:a\n2:b\n", format="csv", delimiter=":", header=False)
    assert types(found) == {"column_1": "int64", "column_2": "string"}
    assert found["rows"] == 2


async def test_of_a_csv_longer_than_allowed_only_the_beginning_is_read() -> None:
    """No number of rows is invented, what is cut off at the end does not count as a value, the bound is kept."""
    line = b'1234567,"some\ntext, long"\n'
    blob = Blob(b"id,name\n" + line * 10_000)
    for size in range(1024, 1024 + 2 * len(line)):
        blob.reads.clear()
        found = await inspector(max_bytes=size).inspect("a.csv", len(blob.data), blob.read)
        assert types(found.data) == {"id": "int64", "name": "string"}
        assert found.data["rows_exact"] is False
        assert "rows" not in found.data
        assert blob.reads == [size]


async def test_a_type_may_widen_late_in_a_file() -> None:
    """Rows beyond the first thousand count as well."""
    numbers = b"n,d\n" + b"1,2026-01-01\n" * 3_000
    assert types(await look("a.csv", numbers)) == {"n": "int64", "d": "date"}
    assert types(await look("a.csv", numbers + b"1.5,2026-01-01 06:00\n")) == {"n": "float64", "d": "timestamp[us]"}
    assert types(await look("a.csv", numbers + b"x,y\n")) == {"n": "string", "d": "string"}


@pytest.mark.parametrize(
    ("data", "error"),
    [
        pytest.param(b"", "empty", id="empty"),
        pytest.param(b"\n\n", "empty", id="only line ends"),
        pytest.param(b"a,b\n1,2\n\x00\x00,3\n", "NUL", id="nul"),
        pytest.param(b"a,b\n1,2,3\n", "record 1 has 3 fields where the header has 2", id="too many fields"),
        pytest.param(b"a,b\n1,2\n1\n", "record 2 has 1 field where the header has 2", id="too few fields"),
        pytest.param(b'a,b\n1,"2\n3,4\n', "is no CSV", id="quote without end"),
        pytest.param(b'a,b\n1,"2"x\n', "line 2 is no CSV", id="quote in the middle"),
        pytest.param(b"a,b\n1," + b"x" * 200_000 + b"\n", "field larger", id="a huge field"),
        pytest.param(b",".join(b"c%d" % n for n in range(100_000)) + b"\n", "100,000 columns", id="wide"),
        pytest.param(b"x" * (2 << 20), "first line is longer", id="no line end"),
        pytest.param(b'"' * (2 << 20), "", id="quotes only"),
    ],
)
async def test_a_bad_csv_says_what_is_wrong(data: bytes, error: str) -> None:
    """Broken, or made to be slow: a sentence, and soon."""
    assert error in (await look("a.csv", data))["error"]


async def test_long_digits_are_no_trap() -> None:
    """Values that look like numbers to their last character take no longer than others."""
    digits = b"1" * 130_000
    data = b"a,b\n1,1\n" + b"".join(b"%be,%b.%be\n" % (digits, digits[:60_000], digits[:60_000]) for _ in range(3))
    assert types(await look("a.csv", data)) == {"a": "string", "b": "string"}


async def test_as_many_columns_as_are_told_are_told() -> None:
    """The bound itself is inside."""
    data = b",".join(b"c%d" % n for n in range(MAX_COLUMNS)) + b"\n"
    assert len(types(await look("a.csv", data + data))) == MAX_COLUMNS


async def test_bytes_that_are_no_utf8_do_not_stop_a_csv() -> None:
    """Latin-1 text is text."""
    assert types(await look("a.csv", "id,größe\n1,groß\n".encode("latin-1"))) == {"id": "int64", "gr��e": "string"}


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(st.text("ab1,;\"'\n\r\t |é", max_size=6), min_size=2, max_size=4), min_size=1, max_size=30),
    st.integers(0, 400),
)
async def test_any_rows_written_by_a_csv_writer_are_read_back(rows: list[list[str]], cut: int) -> None:
    """Wherever the read part ends, it tells no more rows than there are and the same names."""
    width = len(rows[0])
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow([f"c{n}" for n in range(width)])
    writer.writerows([(row + ["x"] * width)[:width] for row in rows])
    data = buffer.getvalue().encode()
    whole = shape_of_csv(data, whole=True, delimiter=",", header=True)
    assert whole.rows == len(rows)
    head = data[: 5 * width + cut]
    part = shape_of_csv(head, whole=False, delimiter=",", header=True)
    assert part.rows <= len(rows)
    assert [column.name for column in part.columns] == [column.name for column in whole.columns]


# -- JSON -------------------------------------------------------------------------------------------------------------
ROWS = [{"id": 1, "at": "2026-01-31T06:00:00Z"}, {"id": 2.5, "name": "x", "tags": [1], "geo": {"lat": 1}, "no": None}]
ROW_TYPES = {
    "id": "float64",
    "at": "timestamp[us, UTC]",
    "name": "string",
    "tags": "list",
    "geo": "struct",
    "no": "null",
}


@pytest.mark.parametrize(
    ("name", "data", "format"),
    [
        ("a.json", json.dumps(ROWS), "json"),
        ("a.json", "\ufeff " + json.dumps(ROWS, indent=1), "json"),
        ("a.ndjson", "\n".join(json.dumps(row) for row in ROWS), "ndjson"),
        ("a.jsonl", "\r\n\r\n".join(json.dumps(row) for row in ROWS) + "\r\n", "ndjson"),
        ("a.json", "\n".join(json.dumps(row) for row in ROWS), "ndjson"),
        ("export", json.dumps(ROWS), "json"),
        ("export", "\n".join(json.dumps(row) for row in ROWS), "ndjson"),
    ],
)
async def test_json_tells_the_names_of_fields_their_types_and_rows(name: str, data: str, format: str) -> None:
    """An array of objects, or a line each, whatever the name says; types hold the values of all rows."""
    for packed in (data.encode(), gzip.compress(data.encode()), zstd.compress(data.encode())):
        found = await look(name, packed)
        assert types(found) == ROW_TYPES
        assert (found["rows"], found["rows_exact"], found["format"]) == (2, True, format)


async def test_one_object_is_one_row() -> None:
    """A document that is no array."""
    found = await look("a.json", b'{"id": 1,\n "b": "2026-01-31"}')
    assert types(found) == {"id": "int64", "b": "date"}
    assert found["rows"] == 1


async def test_of_json_longer_than_allowed_only_whole_rows_count() -> None:
    """Wherever the read part ends: within names, escapes, numbers, nested brackets."""
    row = {"id": 12, "text": 'a "quote\\" ]}{[ \\', "deep": [{"a": [1, 2]}]}
    expected = {"id": "int64", "text": "string", "deep": "list"}
    array = json.dumps([row] * 200).encode()
    lines = b"\n".join([json.dumps(row).encode()] * 200)
    for size in range(1024, 1024 + 2 * len(json.dumps(row))):
        for name, data in (("a.json", array), ("a.ndjson", lines)):
            found = await inspector(max_bytes=size).inspect(name, len(data), Blob(data).read)
            assert types(found.data) == expected
            assert found.data["rows_exact"] is False
            assert "rows" not in found.data


@pytest.mark.parametrize(
    ("name", "data", "error"),
    [
        pytest.param("a.json", b"", "empty", id="empty"),
        pytest.param("a.json", b"[" * 100_000, "no JSON", id="deep"),
        pytest.param("a.json", b"[" * (2 << 20), "levels deep", id="deep and long"),
        pytest.param("a.json", b'[{"a":' * (1 << 19), "levels deep", id="deep objects"),
        pytest.param("a.json", b'["' + b'\\"' * (1 << 20), "no object", id="a text without end"),
        pytest.param("a.json", b'{"a": "' + b"x" * (2 << 20) + b'"}', "no array", id="one huge object"),
        pytest.param("a.json", b"[1, 2]", "element 1 is no JSON object", id="numbers"),
        pytest.param("a.json", b'[{"a": 1}] x', "no JSON", id="more after the end"),
        pytest.param("a.json", b'[{"a": 1}]' + b" x" * (1 << 20), "more after its end", id="much more after the end"),
        pytest.param("a.json", b'[{"a": NaN}]', "no JSON", id="nan"),
        pytest.param("a.json", b'[{"a": "\xff"}]', "no JSON", id="no utf-8"),
        pytest.param("a.ndjson", b'{"a": 1}\n{"a": \n', "line 2 is no JSON", id="a broken line"),
        pytest.param("a.ndjson", b'{"a": 1}\n\n3\n', "line 3 is no JSON object", id="a line with a number"),
        pytest.param("a.ndjson", b"x" * (2 << 20), "first line is longer", id="no line end"),
        pytest.param(
            "a.json", orjson.dumps([{f"c{n}": 1 for n in range(20_000)}]), "more than 10,000 columns", id="wide"
        ),
        pytest.param("a.bin", b"\x89PNG\r\n\x1a\n\x00\x00", "neither name nor content", id="a picture"),
        pytest.param("notes.txt", b"hello\nworld\n", "neither name nor content", id="prose"),
    ],
)
async def test_bad_json_says_what_is_wrong(name: str, data: bytes, error: str) -> None:
    """Broken, deep or endless: a sentence, and soon."""
    assert error in (await look(name, data))["error"]


async def test_hostile_names_of_fields_are_stored_harmlessly() -> None:
    """NUL and control characters do not reach the event; an empty name is a name."""
    assert types(await look("a.json", b'[{"a\\u0000\\n": 1, "": 2}]')) == {"a��": "int64", "": "int64"}
