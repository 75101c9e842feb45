"""Polars DataFrames as rows of Snowflake, and back: which type stands for which, and values on the way."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    import polars as pl

_PLAIN: Final = {
    "Float32": "FLOAT",
    "Float64": "FLOAT",
    "Boolean": "BOOLEAN",
    "String": "VARCHAR",
    "Categorical": "VARCHAR",
    "Enum": "VARCHAR",
    "Null": "VARCHAR",
    "Date": "DATE",
    "Time": "TIME(9)",
    "Duration": "NUMBER(38,0)",  # microseconds: Snowflake keeps no intervals
    "Binary": "BINARY",
}
_FIXED, _REAL, _DATE, _TZ, _NTZ, _BINARY, _TIME, _BOOLEAN = 0, 1, 3, 7, 8, 11, 12, 13
_LTZ: Final = 6


def column_type(dtype: "pl.DataType") -> str:
    """Return the type of a column for a Polars type; what nests becomes a VARIANT."""
    name = str(dtype.base_type())
    if name.startswith(("Int", "UInt")):
        return "NUMBER(38,0)"
    if name == "Datetime":
        return "TIMESTAMP_NTZ(9)" if getattr(dtype, "time_zone", None) is None else "TIMESTAMP_TZ(9)"
    if name == "Decimal":
        return f"NUMBER({getattr(dtype, 'precision', None) or 38},{getattr(dtype, 'scale', 0)})"
    return _PLAIN.get(name, "VARIANT")


def bound_type(kind: str) -> str:
    """Return the type under which values are bound: text for all that drivers bind in ways of their own."""
    return kind if kind in ("NUMBER(38,0)", "FLOAT", "BOOLEAN") else "VARCHAR"


def typed_value(column: str, kind: str) -> str:
    """Return the expression that makes of a bound column one of its type."""
    if kind == "VARIANT":
        return f"parse_json({column})"
    if kind == "BINARY":
        return f"to_binary({column}, 'HEX')"
    return f"cast({column} as {kind})"


def bound(frame: Any, size: int) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the rows of a Polars DataFrame as they are bound, so many at a time."""
    import polars as pl

    nested = [i for i, dtype in enumerate(frame.dtypes) if column_type(dtype) == "VARIANT"]
    shaped = []
    for name, dtype in frame.schema.items():
        column, base = pl.col(name), dtype.base_type()
        if base in (pl.Datetime, pl.Date, pl.Time):
            shaped.append(column.dt.to_string("iso:strict" if base == pl.Datetime else "iso"))
        elif base == pl.Duration:
            shaped.append(column.dt.total_microseconds())
        elif base == pl.Binary:
            shaped.append(column.bin.encode("hex"))
        elif base in (pl.Decimal, pl.Categorical, pl.Enum):
            shaped.append(column.cast(pl.String))
    for part in frame.with_columns(shaped).iter_slices(size):
        rows = []
        for row in part.iter_rows():
            values = list(row)
            for index in nested:
                if values[index] is not None:
                    values[index] = orjson.dumps(values[index], default=str).decode()
            rows.append(tuple(values))
        yield rows


def polars_frame(cursor: Any, told: Callable[[str], str]) -> "pl.DataFrame":
    """Return the rows of a cursor that has executed a query."""
    import polars as pl

    rows: Sequence[Sequence[Any]] = cursor.fetchall()
    return pl.DataFrame(
        [_series(column, told(column.name), [row[i] for row in rows]) for i, column in enumerate(cursor.description)]
    )


def _series(column: Any, name: str, values: list[Any]) -> "pl.Series":
    import polars as pl

    kinds: dict[int, pl.DataType] = {
        _REAL: pl.Float64(),
        _DATE: pl.Date(),
        _TZ: pl.Datetime("us", "UTC"),
        _LTZ: pl.Datetime("us", "UTC"),
        _NTZ: pl.Datetime("us"),
        _BINARY: pl.Binary(),
        _TIME: pl.Time(),
        _BOOLEAN: pl.Boolean(),
    }
    kind = column.type_code
    if kind == _FIXED:
        if column.scale:
            return pl.Series(name, values, dtype=pl.Decimal(38, column.scale))
        fits = all(value is None or -(2**63) <= value < 2**63 for value in values)
        return pl.Series(name, values, dtype=pl.Int64() if fits else pl.Decimal(38, 0))
    if kind == _BINARY:
        values = [None if value is None else bytes(value) for value in values]
    return pl.Series(name, values, dtype=kinds.get(kind, pl.String()))
