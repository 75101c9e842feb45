"""Parquet, by its footer alone: column names, types and the number of rows. No column is read.

In flow the last bytes of a file, out flows a `Shape`. The schema and the number of rows stand first in a footer and are
all that is read of it, so footers of many row groups cost no more than others. The data libraries are not asked:
they take the whole footer, and one of some kilobytes whose schema is a hundred thousand levels deep ends the process
that hands it to them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sensors.adapters.shapes import MAX_COLUMNS, Column, Shape, Unreadable, clean, counted
from sensors.adapters.thrift import I64, LIST, STRUCT, ThriftReader

MAGIC: Final = b"PAR1"
TAIL: Final = 8  # length of the footer (4 bytes), magic
MAX_LEVELS: Final = 64
_MAX_ELEMENTS: Final = 2 * MAX_COLUMNS

# The numbers of the format's own definition (parquet.thrift).
_PHYSICAL: Final = ("bool", "int32", "int64", "timestamp[ns]", "float32", "float64", "binary", "binary")
_CONVERTED: Final[Mapping[int, str]] = {
    0: "string",
    1: "map",
    2: "map",
    3: "list",
    4: "string",
    6: "date",
    7: "time[ms]",
    8: "time[us]",
    9: "timestamp[ms, UTC]",
    10: "timestamp[us, UTC]",
    11: "uint8",
    12: "uint16",
    13: "uint32",
    14: "uint64",
    15: "int8",
    16: "int16",
    17: "int32",
    18: "int64",
    19: "string",
    20: "binary",
    21: "interval",
}
_LOGICAL: Final[Mapping[int, str]] = {
    1: "string",
    2: "map",
    3: "list",
    4: "string",
    6: "date",
    11: "null",
    12: "string",
    13: "binary",
    14: "uuid",
    15: "float16",
    16: "variant",
    17: "geometry",
    18: "geography",
}
_UNITS: Final[Mapping[int, str]] = {1: "ms", 2: "us", 3: "ns"}
_DECIMAL, _TIME, _TIMESTAMP, _INTEGER = 5, 7, 8, 10


def footer_length(tail: bytes) -> int:
    """Return how many bytes the footer has, given the last 8 of the file. Raises Unreadable."""
    if tail[-4:] == b"PARE":
        raise Unreadable("it is a Parquet file with an encrypted footer, which cannot be read without its key")
    if len(tail) < TAIL or tail[-4:] != MAGIC:
        raise Unreadable("it does not end as a Parquet file does; was it cut off?")
    return int.from_bytes(tail[-8:-4], "little")


def shape_of_footer(footer: bytes, *, whole: bool) -> Shape:
    """Return the form that a footer tells; unless `whole`, only its beginning is given. Raises Unreadable."""
    try:
        elements, rows = _read(footer)
    except IndexError as error:
        if whole:
            raise Unreadable("the Parquet footer is broken off") from error
        raise Unreadable(f"the Parquet schema takes more than the {len(footer):,} bytes that may be read") from error
    except Unreadable:
        raise
    except ValueError as error:
        raise Unreadable(f"the Parquet footer cannot be read: {error}") from error
    if rows < 0:
        raise Unreadable("the Parquet footer claims a negative number of rows")
    columns = [Column(element.name, _type(element)) for element in _tree(elements).children]
    return Shape("parquet", columns, rows, exact=True, origin="declared")


@dataclass(slots=True)
class _Element:
    """One element of the schema. `repeated`: a list by itself."""

    name: str
    about: Mapping[int, Any]
    repeated: bool
    children: list["_Element"] = field(default_factory=list)


def _read(footer: bytes) -> tuple[Sequence[Mapping[int, Any]], int]:
    """Return the elements of the schema and the number of rows; what comes after them is not looked at."""
    reader, id_ = ThriftReader(footer), 0
    elements: Sequence[Mapping[int, Any]] | None = None
    rows: int | None = None
    while elements is None or rows is None:
        id_, kind = reader.field(id_)
        if kind == 0:
            raise ValueError("it lacks the schema or the number of rows")
        if (id_, kind) == (2, LIST):
            elements = list(_elements(reader))
        elif (id_, kind) == (3, I64):
            rows = reader.signed()
        else:
            reader.value(kind)
    return elements, rows


def _elements(reader: ThriftReader) -> Iterator[Mapping[int, Any]]:
    count, kind = reader.items()
    if kind != STRUCT or count < 1:
        raise ValueError("another form than the format's")
    if count > _MAX_ELEMENTS:
        raise Unreadable(f"the Parquet schema has {count:,} elements; at most {_MAX_ELEMENTS:,} are told")
    for _ in range(count):
        yield reader.value(kind)


def _tree(elements: Sequence[Mapping[int, Any]]) -> _Element:
    """Return the root of a schema that is written depth first, each element with the number of its children."""
    root: _Element | None = None
    open_: list[tuple[_Element, int]] = []
    for about in elements:
        while open_ and len(open_[-1][0].children) == open_[-1][1]:
            open_.pop()
        name = about.get(4, b"")
        own = about.get(5, 0)
        if (root is not None and not open_) or not isinstance(name, bytes) or not isinstance(own, int) or own < 0:
            raise Unreadable("the Parquet schema is no tree")
        element = _Element(clean(name.decode(errors="replace")), about, about.get(3) == 2)
        if open_:
            open_[-1][0].children.append(element)
        root = root or element
        open_.append((element, own))
        if len(open_) > MAX_LEVELS:
            raise Unreadable(f"the Parquet schema is nested more than {MAX_LEVELS} levels deep")
    if root is None or any(len(element.children) != own for element, own in open_):
        raise Unreadable("the Parquet schema is no tree")
    if len(root.children) > MAX_COLUMNS:
        raise Unreadable(f"it has {counted(len(root.children), 'column')}; at most {MAX_COLUMNS:,} are told")
    return root


def _type(element: _Element) -> str:
    kind = _group(element) if element.children else _leaf(element.about)
    return f"list<{kind}>" if element.repeated else kind


def _group(element: _Element) -> str:
    known = _annotation(element.about)
    if known == "variant":
        return known
    if known in ("list", "map") and len(element.children) == 1 and element.children[0].repeated:
        inner = element.children[0]
        if known == "map" and len(inner.children) == 2:
            return f"map<{_type(inner.children[0])}, {_type(inner.children[1])}>"
        if known == "list":
            # Older writers put the element itself there, instead of a group around it.
            own = len(inner.children) != 1 or inner.name in ("array", f"{element.name}_tuple")
            return _type(inner) if own else f"list<{_type(inner.children[0])}>"
    return f"struct<{', '.join(f'{child.name}: {_type(child)}' for child in element.children)}>"


def _leaf(about: Mapping[int, Any]) -> str:
    physical = about.get(1)
    if physical is None:
        return "struct<>"
    plain = _PHYSICAL[physical] if isinstance(physical, int) and 0 <= physical < len(_PHYSICAL) else "unknown"
    return _annotation(about) or plain


def _annotation(about: Mapping[int, Any]) -> str:
    """Return what the element says that it means, empty when it says nothing known. The newer way of saying it wins."""
    logical = about.get(10)
    if isinstance(logical, dict):
        for which, details in logical.items():
            return _logical(which, details if isinstance(details, dict) else {})
    converted = about.get(6)
    if converted == 5:
        return f"decimal({_int(about, 8)},{_int(about, 7)})"
    return _CONVERTED.get(converted, "") if isinstance(converted, int) else ""


def _logical(which: int, details: Mapping[int, Any]) -> str:
    if which == _DECIMAL:
        return f"decimal({_int(details, 2)},{_int(details, 1)})"
    if which == _INTEGER:
        return f"{'int' if details.get(2, True) else 'uint'}{_int(details, 1)}"
    if which in (_TIME, _TIMESTAMP):
        written = details.get(2)
        unit = _UNITS.get(next(iter(written), 0), "us") if isinstance(written, dict) else "us"
        if which == _TIME:
            return f"time[{unit}]"
        return f"timestamp[{unit}, UTC]" if details.get(1) else f"timestamp[{unit}]"
    return _LOGICAL.get(which, "")


def _int(about: Mapping[int, Any], which: int) -> int:
    value = about.get(which)
    return value if isinstance(value, int) else 0
