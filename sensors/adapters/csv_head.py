"""Separated values, by the beginning of a file: the header's names, types guessed from the values, and rows.

In flow text that may end anywhere, out flows a `Shape`. Nothing is assumed of lines that were not read: what stands
after the last whole record is left out, and unless all was read the number of rows is only a lower bound. Rows with
another number of fields than the header make the file unreadable, since their values stand under the wrong names.
"""

import codecs
import csv
import io
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Final

from sensors.adapters.shapes import MAX_COLUMNS, Column, Shape, Unreadable, clean, counted, shown

DELIMITERS: Final = ",;\t|"
_CHUNK: Final = 500
_LONGEST: Final = 64  # characters of a value that could be anything but text
_UTF16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_DAY: Final = r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"
_CLOCK: Final = r"(?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d{1,9})?)?"
_ZONE: Final = r"(?:Z|[+-]\d\d:?\d\d)"
# From the narrowest to the widest; a column has the first type that all of its values have.
_KINDS: Final = tuple(
    (name, re.compile(pattern, re.ASCII))
    for name, pattern in (
        ("bool", r"(?i:true|false)"),
        ("int64", r"[+-]?\d{1,18}"),
        ("int128", r"[+-]?\d{1,38}"),
        ("float64", r"[+-]?(?:(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,4})?|(?i:nan|inf|infinity))"),
        ("date", _DAY),
        ("time[us]", _CLOCK),
        ("timestamp[us]", rf"{_DAY}(?:[T ]{_CLOCK})?"),
        ("timestamp[us, UTC]", rf"{_DAY}[T ]{_CLOCK} ?{_ZONE}"),
    )
)

_TEXT: Final = len(_KINDS)


def shape_of_csv(head: bytes, *, whole: bool, delimiter: str | None, header: bool) -> Shape:
    """Return the form of separated values of which `head` is the beginning, or all. Raises Unreadable."""
    text = decoded(head)
    if "\0" in text:
        raise Unreadable("it holds NUL bytes, which no CSV file does")
    line = first_line(text)
    records = _records(text, delimiter or sniffed(line) or ",", _quote(line), whole=whole)
    first = next(records, None)
    if first is None:
        raise Unreadable(
            "it is empty: there is no header"
            if whole
            else f"its first line is longer than the {len(head):,} bytes read"
        )
    if len(first) > MAX_COLUMNS:
        raise Unreadable(f"it has {counted(len(first), 'column')}; at most {MAX_COLUMNS:,} are told")
    names = first if header else [f"column_{index}" for index in range(1, len(first) + 1)]
    guess = Guess(len(names))
    rows = 0
    chunk: list[Sequence[str]] = [] if header else [first]
    for record in records:
        if len(record) != len(names):
            raise Unreadable(
                f"record {rows + len(chunk) + 1} has {counted(len(record), 'field')} where "
                f"{'the header' if header else 'the first record'} has {len(names):,}"
            )
        chunk.append(record)
        if len(chunk) == _CHUNK:
            guess.learn(chunk)
            rows += len(chunk)
            chunk = []
    guess.learn(chunk)
    rows += len(chunk)
    columns = [Column(clean(name), kind) for name, kind in zip(names, guess.kinds(), strict=True)]
    return Shape("csv", columns, rows, exact=whole, origin="text")


class Guess:
    """Narrows down, column by column, what type all values have that were shown to it."""

    def __init__(self, width: int) -> None:
        self._first = [0] * width  # the narrowest kind that is still possible
        self._seen = [False] * width

    def learn(self, records: Sequence[Sequence[str]]) -> None:
        """Look at some records of that width."""
        for index, column in enumerate(zip(*records, strict=True)):
            kind = self._first[index]
            values = {value for value in column if value}
            if not values or (kind == _TEXT and self._seen[index]):
                continue
            if not self._seen[index]:
                kind = _kind_of(values)
            elif not all(map(_KINDS[kind][1].fullmatch, values)):
                kind = _wider(kind, _kind_of(values))
            self._first[index], self._seen[index] = kind, True

    def kinds(self) -> Sequence[str]:
        """Return the types: `null` where there was no value, `string` where nothing narrower holds them all."""
        return [
            "null" if not seen else "string" if kind == _TEXT else _KINDS[kind][0]
            for kind, seen in zip(self._first, self._seen, strict=True)
        ]


_NUMBERS: Final = (1, 2, 3)
_TIMES: Final = (4, 6)


def _wider(one: int, other: int) -> int:
    """Return the kind that holds the values of two, `string` when none does."""
    for group in (_NUMBERS, _TIMES):
        if one in group and other in group:
            return max(one, other)
    return one if one == other else _TEXT


def _kind_of(values: Collection[str]) -> int:
    """Return the narrowest kind that all values have."""
    if max(map(len, values)) > _LONGEST:
        return _TEXT
    return next((kind for kind, (_, of) in enumerate(_KINDS) if all(map(of.fullmatch, values))), _TEXT)


def decoded(head: bytes) -> str:
    """Return text; bytes that are no UTF-8 become replacement characters, which no expected name has."""
    if head.startswith(_UTF16):
        return head[: len(head) // 2 * 2].decode("utf-16", errors="replace")
    return head.decode("utf-8-sig", errors="replace")


def first_line(text: str) -> str:
    """Return the first line that is not empty."""
    return text.lstrip("\r\n").split("\n", 1)[0]


def sniffed(line: str) -> str | None:
    """Return what separates the fields of a line, None when nothing does."""
    outside = re.sub(r'"[^"]*+(?:"|$)', "", line)
    counts = {char: outside.count(char) for char in DELIMITERS}
    best = max(counts, key=lambda char: counts[char])
    return best if counts[best] else None


def _quote(line: str) -> str:
    line = line.strip()
    return "'" if '"' not in line and len(line) > 1 and line[0] == line[-1] == "'" else '"'


def _records(text: str, delimiter: str, quote: str, *, whole: bool) -> Iterator[Sequence[str]]:
    """Yield the records that are complete; empty lines are none. Raises Unreadable."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quotechar=quote, strict=True)
    waiting: Sequence[str] | None = None
    cut = False
    while True:
        try:
            record = next(reader, None)
        except csv.Error as error:
            if not whole and reader.line_num >= sum(1 for _ in io.StringIO(text, newline="")):
                cut = True
                break  # what was read ends within this record; the one before it is complete
            raise Unreadable(f"line {reader.line_num:,} is no CSV: {shown(str(error))[1:-1]}") from error
        if record is None:
            break
        if waiting is not None:
            yield waiting
        waiting = record or None
    if waiting is not None and (whole or cut or text.endswith("\n")):
        yield waiting
