"""DataFrames as bytes of a file, and back: Parquet, CSV, JSON and JSON lines.

A Parquet file carries the memory of its writes in its footer (key `tidegate`), so that rows and memory are published
together. Other formats have no place for it.
"""

import io
from typing import Any, Final

import orjson

from pipelines.datasets.written import TargetUnusable, WriteRefused

MEMORY: Final = "tidegate"
TAIL: Final = 128 * 1024  # bytes at the end of a Parquet file that usually hold all of its footer
_LEAST: Final = 12  # bytes of an empty Parquet file: magic, length of the footer, magic


def encoded(frame: Any, format: str, memory: bytes | None = None) -> bytes:
    """Return a Polars DataFrame as a file of that format. Raises WriteRefused for types that it cannot hold."""
    import polars as pl

    out = io.BytesIO()
    try:
        if format == "parquet":
            frame.write_parquet(out, metadata=None if memory is None else {MEMORY: memory.decode()})
        elif format == "csv":
            frame.write_csv(out)
        elif format == "json":
            frame.write_json(out)
        else:
            frame.write_ndjson(out)
    except pl.exceptions.PolarsError as error:
        raise WriteRefused(f"the DataFrame cannot be written as {format}: {error}") from error
    return out.getvalue()


def decoded(data: bytes, format: str, path: str) -> Any:
    """Return the Polars DataFrame that a file holds. Raises TargetUnusable."""
    import polars as pl

    source = io.BytesIO(data)
    try:
        if format == "parquet":
            return pl.read_parquet(source)
        if format == "csv":
            return pl.read_csv(source, try_parse_dates=True) if data.strip() else pl.DataFrame()
        if format == "json":
            return pl.read_json(source) if data.strip() not in (b"", b"[]") else pl.DataFrame()
        return pl.read_ndjson(source) if data.strip() else pl.DataFrame()
    except pl.exceptions.PolarsError as error:
        raise TargetUnusable(f"{path} cannot be read as {format}: {error}") from error


def footer_size(tail: bytes, path: str) -> int:
    """Return how many bytes at the end of a Parquet file hold its footer. Raises TargetUnusable."""
    if len(tail) < _LEAST or tail[-4:] != b"PAR1":
        raise TargetUnusable(f"{path} is no Parquet file, or is damaged; move it away, or name another file")
    return int.from_bytes(tail[-8:-4], "little") + 8


def footer(tail: bytes, path: str) -> tuple[Any, int, Any]:
    """Return the memory of a Parquet file (None when it has none), its rows and its pyarrow schema, from its end."""
    import pyarrow as pa  # type: ignore[import-untyped]  # it has no types
    import pyarrow.parquet as pq  # type: ignore[import-untyped]  # nor has this

    try:
        metadata = pq.read_metadata(pa.BufferReader(tail))
    except (pa.ArrowInvalid, OSError) as error:
        raise TargetUnusable(f"{path} cannot be read as parquet: {error}") from error
    found = (metadata.metadata or {}).get(MEMORY.encode())
    return None if found is None else orjson.loads(found), metadata.num_rows, metadata.schema.to_arrow_schema()
