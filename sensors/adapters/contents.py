"""Looks into files: which format, which columns of which types, how many rows; and whether that was expected.

In flow a file's name, size and a way to read parts of it; out flow fields for the event's data, or the sentence that
says why the file is refused. Of Parquet the footer is read, of all else the beginning, never more than `max_bytes`,
which also bounds what compressed beginnings become. Files are inspected one after the other, in the order in which they
are given: with `as_last` each one is compared with the one accepted before it.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, Literal

from sensors.adapters.content_options import ContentOptions, ExpectOptions, InspectOptions
from sensors.adapters.csv_head import decoded, first_line, shape_of_csv, sniffed
from sensors.adapters.expectations import (
    Difference,
    Last,
    compare_columns,
    compare_last,
    compare_rows,
    next_last,
    read_last,
)
from sensors.adapters.inflate import SUFFIXES, compression_of, inflate
from sensors.adapters.json_head import is_lines, shape_of_json, shape_of_ndjson
from sensors.adapters.object_steps import Inspected, Inspector, Read
from sensors.adapters.parquet_footer import MAGIC, TAIL, footer_length, shape_of_footer
from sensors.adapters.shapes import Shape, Unreadable
from sensors.batch import Cursor
from sensors.errors import NotConnected

SHARD: Final = "expect"
_FIRST_TAIL: Final = 64 << 10  # most footers are within it, so that one read is enough
_ENDINGS: Final[Mapping[str, Literal["parquet", "csv", "json", "ndjson"]]] = {
    "parquet": "parquet",
    "pq": "parquet",
    "csv": "csv",
    "tsv": "csv",
    "psv": "csv",
    "json": "json",
    "ndjson": "ndjson",
    "jsonl": "ndjson",
}


def make_inspector(options: ContentOptions) -> Inspector | None:
    """Return what inspects as the options say, None when they want nothing of it. `expect` alone is enough."""
    if options.expect is None and options.inspect is False:
        return None
    how = options.inspect if isinstance(options.inspect, InspectOptions) else InspectOptions()
    return ContentInspector(how, options.expect)


class ContentInspector:
    """Implements `Inspector`. One call at a time."""

    def __init__(self, how: InspectOptions, expect: ExpectOptions | None) -> None:
        self._how = how
        self._expect = expect
        self._follows = expect is not None and expect.mode == "as_last"
        self._last: Last | None = None
        self._stored: Last | None = None

    def take_up(self, cursors: Mapping[str, Cursor]) -> None:
        self._last = None
        cursor = cursors.get(SHARD)
        if self._expect is not None and self._follows and cursor is not None:
            try:
                last = read_last(cursor.value)
            except ValueError as error:
                raise NotConnected(f"{error}; was it written by a newer version?") from error
            if last.generation >= self._expect.generation:
                self._last = last
        self._stored = self._last

    async def inspect(self, name: str, size: int, read: Read) -> Inspected:
        try:
            shape = await self._shape(name, size, read)
        except Unreadable as error:
            return self._unreadable(str(error))
        difference = self._compare(shape)
        if any(difference):
            sentence = "; ".join(part.sentence() for part in difference if part)
            data = {key: value for part in difference if part for key, value in part.data().items()}
            return Inspected(shape.data(), sentence, data)
        if self._expect is not None and self._follows:
            self._last = next_last(shape, self._last, self._expect.generation)
        return Inspected(shape.data())

    def cursors(self) -> Sequence[Cursor]:
        if self._last is None or self._last == self._stored:
            return ()
        self._stored = self._last
        return (Cursor(SHARD, self._last.to_json()),)

    def _unreadable(self, why: str) -> Inspected:
        if self._expect is None:
            return Inspected({"error": why})
        return Inspected({"error": why}, f"it cannot be read: {why}", {"error": why})

    def _compare(self, shape: Shape) -> Sequence[Difference]:
        expect = self._expect
        if expect is None:
            return ()
        if expect.mode == "as_last":
            columns = compare_last(shape, self._last) if self._last is not None else Difference()
        else:
            columns = compare_columns(shape, expect.typed(), expect.mode) if expect.columns else Difference()
        if expect.rows is None:
            return (columns,)
        return columns, compare_rows(shape, expect.rows.min, expect.rows.max)

    # -- reading, and understanding what was read off the loop --------------------------------------------------------
    async def _shape(self, name: str, size: int, read: Read) -> Shape:
        form = self._how.format if self._how.format != "auto" else _of_name(name)
        if form == "parquet":
            return await self._parquet(size, read)
        head = await read(0, min(size, self._how.max_bytes)) if size else b""
        if form is None and head.startswith(MAGIC):
            return await self._parquet(size, read)
        if len(head) < min(size, self._how.max_bytes):
            raise Unreadable(f"only {len(head):,} of its {size:,} bytes could be read")
        return await asyncio.to_thread(self._text, form, name, head, size)

    def _text(self, form: str | None, name: str, head: bytes, size: int) -> Shape:
        """Understand the beginning of a file that is no Parquet. Blocking."""
        whole = size <= len(head)
        compression = compression_of(head)
        if compression:
            head, whole = inflate(head, self._how.max_bytes, whole=whole)
        form = form or _sniffed(head, whole=whole)
        if form == "json" and self._how.format == "auto" and is_lines(head, whole=whole):
            form = "ndjson"
        if form == "csv":
            ending = _ending(name)
            delimiter = self._how.delimiter or {"tsv": "\t", "psv": "|"}.get(ending)
            shape = shape_of_csv(head, whole=whole, delimiter=delimiter, header=self._how.header)
        else:
            shape = (shape_of_json if form == "json" else shape_of_ndjson)(head, whole=whole)
        return Shape(shape.format, shape.columns, shape.rows, shape.exact, shape.origin, compression)

    async def _parquet(self, size: int, read: Read) -> Shape:
        if size < len(MAGIC) + TAIL:
            raise Unreadable(f"its {size:,} bytes are fewer than any Parquet file has")
        tail = await _exactly(read, min(size, self._how.max_bytes, _FIRST_TAIL))
        length = footer_length(tail)
        if length > size - len(MAGIC) - TAIL:
            raise Unreadable(f"it claims a Parquet footer of {length:,} bytes, more than the file has")
        inside = len(tail) - TAIL
        if length <= inside:
            footer = tail[inside - length : inside]
        else:
            # The schema comes first in the footer, so its beginning is enough where it is larger than may be read.
            footer = await _exactly(read, min(length, self._how.max_bytes), length + TAIL)
        return await asyncio.to_thread(shape_of_footer, footer, whole=len(footer) == length)


async def _exactly(read: Read, length: int, back: int | None = None) -> bytes:
    """Read `length` bytes that begin `back` bytes before the end (by default, the last ones)."""
    part = await read(-(back or length), length)
    if len(part) != length:
        raise Unreadable(f"only {len(part):,} of {length:,} bytes could be read")
    return part


def _ending(name: str) -> str:
    name = name.lower()
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    return name.rpartition(".")[2]


def _of_name(name: str) -> Literal["parquet", "csv", "json", "ndjson"] | None:
    return _ENDINGS.get(_ending(name))


def _sniffed(head: bytes, *, whole: bool) -> str:
    """Return the format of a beginning that no name told. Raises Unreadable when it is none that is known."""
    text = decoded(head)
    begin = text.lstrip()[:1]
    if begin == "[":
        return "json"
    if begin == "{":
        return "ndjson" if is_lines(head, whole=whole) else "json"
    if "\0" not in text and sniffed(first_line(text)) is not None:
        return "csv"
    raise Unreadable("neither name nor content tell that it is Parquet, CSV or JSON")
