"""Polars DataFrames as rows of PostgreSQL, and back: which type stands for which, and values on the way."""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    import polars as pl

_PLAIN: Final = {
    "Int8": "smallint",
    "Int16": "smallint",
    "Int32": "integer",
    "Int64": "bigint",
    "Int128": "numeric(39,0)",
    "UInt8": "smallint",
    "UInt16": "integer",
    "UInt32": "bigint",
    "UInt64": "numeric(20,0)",
    "Float32": "real",
    "Float64": "double precision",
    "Boolean": "boolean",
    "String": "text",
    "Categorical": "text",
    "Enum": "text",
    "Date": "date",
    "Time": "time without time zone",
    "Duration": "interval",
    "Binary": "bytea",
    "Null": "text",
}
_BATCH: Final = 20_000
_MICROSECONDS: Final = 1_000_000


def column_type(dtype: "pl.DataType") -> str:
    """Return the type of a column for a Polars type; what nests becomes jsonb."""
    name = str(dtype.base_type())
    if name == "Datetime":
        return f"timestamp {'without' if getattr(dtype, 'time_zone', None) is None else 'with'} time zone"
    if name == "Decimal":
        return f"numeric({getattr(dtype, 'precision', None) or 38},{getattr(dtype, 'scale', 0)})"
    return _PLAIN.get(name, "jsonb")


def copied(frame: Any) -> Iterator[Sequence[Any]]:
    """Yield the rows of a Polars DataFrame as COPY takes them."""
    nested = [i for i, dtype in enumerate(frame.dtypes) if column_type(dtype) == "jsonb"]
    for rows in frame.iter_slices(_BATCH):
        for row in rows.iter_rows():
            if not nested:
                yield row
                continue
            values = list(row)
            for index in nested:
                if values[index] is not None:
                    values[index] = orjson.dumps(values[index], default=str).decode()
            yield values


def polars_frame(cursor: Any) -> "pl.DataFrame":
    """Return the rows of a cursor that has executed a query."""
    import polars as pl

    rows = cursor.fetchmany(_BATCH)
    description = cursor.description or ()
    frames = []
    while True:
        columns = [_series(column, [row[index] for row in rows]) for index, column in enumerate(description)]
        frames.append(pl.DataFrame(columns))
        if len(rows) < _BATCH:
            return pl.concat(frames, how="vertical_relaxed")
        rows = cursor.fetchmany(_BATCH)


def _series(column: Any, values: list[Any]) -> "pl.Series":
    import polars as pl

    types = {
        16: pl.Boolean(),
        17: pl.Binary(),
        20: pl.Int64(),
        21: pl.Int16(),
        23: pl.Int32(),
        26: pl.Int64(),
        700: pl.Float32(),
        701: pl.Float64(),
        1082: pl.Date(),
        1083: pl.Time(),
        1114: pl.Datetime("us"),
        1184: pl.Datetime("us", "UTC"),
        1186: pl.Duration("us"),
    }
    dtype: pl.DataType | None = types.get(column.type_code)
    if column.type_code == 1700:
        return _decimals(column, values)
    if column.type_code in (114, 3802):
        values = [None if value is None else orjson.dumps(value).decode() for value in values]
        dtype = pl.String()
    elif dtype is None and not any(isinstance(value, list) for value in values):
        values = [None if value is None else str(value) for value in values]
        dtype = pl.String()
    return pl.Series(column.name, values, dtype=dtype, strict=True)


def _decimals(column: Any, values: list[Any]) -> "pl.Series":
    """Return numeric values; where the column has no scale of its own, with that of the most exact one."""
    import polars as pl

    scale = column.scale
    if column.precision is None:
        scale = max((-int(value.as_tuple().exponent) for value in values if _finite(value)), default=0)
    finite = [value if value is None or _finite(value) else None for value in values]
    return pl.Series(column.name, finite, dtype=pl.Decimal(38, max(0, scale or 0)))


def _finite(value: Any) -> bool:
    return isinstance(value, Decimal) and value.is_finite()
