"""JSON and lines of JSON, by the beginning of a file: the names of fields, their types, and rows.

In flow bytes that may end anywhere, out flows a `Shape`. A row is an object: an element of the outermost array, a line,
or the whole document. The columns are all names that occur, in the order in which they do. What is cut off at the end
is left out.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

from sensors.adapters.column_types import join
from sensors.adapters.shapes import MAX_COLUMNS, Column, Shape, Unreadable, clean

_BOM: Final = b"\xef\xbb\xbf"
_LEVELS: Final = 1000  # about what the parser takes
_SPACE: Final = b" \t\r\n"
# A text to its end (or the end of all), or one bracket. Possessive, so that a text without an end costs one look.
_TOKEN: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
_DAY: Final = r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"
_CLOCK: Final = r"(?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d{1,9})?)?"
_MOMENT: Final = re.compile(rf"({_DAY})(?:[T ]{_CLOCK}(Z|[+-]\d\d:?\d\d)?)?|({_CLOCK})", re.ASCII)


def shape_of_json(head: bytes, *, whole: bool) -> Shape:
    """Return the form of one JSON document of which `head` is the beginning, or all. Raises Unreadable."""
    text = head.removeprefix(_BOM).strip(_SPACE)
    if not text:
        raise Unreadable("it is empty: there is no JSON")
    if whole:
        document = _parsed(text, "it")
        rows = document if isinstance(document, list) else [document]
    elif text[:1] == b"[":
        rows = _elements(text, len(head))
    else:
        raise Unreadable(f"it is one JSON document of more than the {len(head):,} bytes that may be read, and no array")
    return _shape("json", ((f"element {index}", row) for index, row in enumerate(rows, 1)), whole=whole)


def shape_of_ndjson(head: bytes, *, whole: bool) -> Shape:
    """Return the form of lines of JSON of which `head` is the beginning, or all. Raises Unreadable."""
    text = head.removeprefix(_BOM)
    if not whole:
        text, newline, _ = text.rpartition(b"\n")
        if not newline:
            raise Unreadable(f"its first line is longer than the {len(head):,} bytes that may be read")
    lines = ((f"line {number:,}", line) for number, line in enumerate(text.split(b"\n"), 1))
    return _shape("ndjson", ((at, _parsed(line, at)) for at, line in lines if line.strip(_SPACE)), whole=whole)


def is_lines(head: bytes, *, whole: bool) -> bool:
    """Say whether what claims to be JSON is lines of it: an object ends with the first line, and there is more."""
    line, newline, rest = head.removeprefix(_BOM).lstrip(_SPACE).partition(b"\n")
    if not newline or not line.startswith(b"{") or (whole and not rest.strip(_SPACE)):
        return False
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True


def _parsed(text: bytes, what: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Unreadable(f"{what} is no JSON: {clean(str(error))[:200]}") from error


def _elements(text: bytes, limit: int) -> list[Any]:
    """Return the elements of an array that end before its cut-off end."""
    level = end = 0
    for token in _TOKEN.finditer(text):
        char = text[token.start() : token.start() + 1]
        if char in b"[{":
            level += 1
            if level > _LEVELS:
                raise Unreadable(f"its JSON is nested more than {_LEVELS:,} levels deep")
        elif char in b"]}":
            level -= 1
            if level == 1:
                end = token.end()
            elif level == 0:
                raise Unreadable("it is no JSON: there is more after its end")
    if not end:
        raise Unreadable(f"its first element is longer than the {limit:,} bytes that may be read, or no object")
    elements = _parsed(text[:end] + b"]", "it")
    return elements if isinstance(elements, list) else [elements]


def _shape(name: str, rows: Iterator[tuple[str, Any]], *, whole: bool) -> Shape:
    columns: dict[str, str] = {}
    count = 0
    for at, row in rows:
        if not isinstance(row, dict):
            raise Unreadable(f"{at} is no JSON object, so that it has no columns")
        count += 1
        for key, value in row.items():
            kind = kind_of(value)
            known = columns.get(key)
            if known is None:
                if len(columns) >= MAX_COLUMNS:
                    raise Unreadable(f"it has more than {MAX_COLUMNS:,} columns, which are not told")
                columns[key] = kind
            elif known != kind:
                columns[key] = join(known, kind, "json") or "mixed"
    listed = [Column(clean(key), kind) for key, kind in columns.items()]
    return Shape(name, listed, count, exact=whole, origin="json")


_KINDS: Final[Mapping[type, str]] = {
    bool: "bool",
    int: "int64",
    float: "float64",
    type(None): "null",
    list: "list",
    dict: "struct",
}


def kind_of(value: Any) -> str:
    """Return the type of a value as it stands in a column."""
    if not isinstance(value, str):
        return _KINDS[type(value)]
    if len(value) > 40 or (moment := _MOMENT.fullmatch(value)) is None:
        return "string"
    if moment[3]:
        return "time[us]"
    if len(value) == 10:
        return "date"
    return "timestamp[us, UTC]" if moment[2] else "timestamp[us]"
