"""Where a task's output goes: a URI becomes a Target with its OpenLineage name. Pure.

    duckdb://warehouse.duckdb/main.orders    a table of a DuckDB file (the schema may be left out: `main`)
    parquet://out/orders.parquet             a Parquet file
    csv://out/orders.csv                     a CSV file

Paths are relative to the service's base folder; a third slash makes them absolute (`parquet:///data/orders.parquet`).
"""

from dataclasses import dataclass
from pathlib import Path

SCHEMES = ("duckdb", "parquet", "csv")


@dataclass(frozen=True, slots=True)
class Target:
    """One dataset to write. `schema` and `table` are empty for files."""

    scheme: str
    path: Path
    schema: str = ""
    table: str = ""

    @property
    def namespace(self) -> str:
        """The OpenLineage namespace."""
        return "duckdb" if self.scheme == "duckdb" else "file"

    @property
    def name(self) -> str:
        """The OpenLineage name: the absolute path, for a table with its schema and name."""
        return f"{self.path}/{self.schema}.{self.table}" if self.table else str(self.path)


def parse_target(uri: str, base: Path) -> Target:
    """Read an output URI; ValueError says what is wrong with it."""
    scheme, found, rest = uri.partition("://")
    if not found or scheme not in SCHEMES:
        raise ValueError(f"output {uri!r}: write duckdb://FILE/SCHEMA.TABLE, parquet://FILE or csv://FILE")
    if "\x00" in rest or "?" in rest:
        raise ValueError(f"output {uri!r}: the path holds a character that is not allowed (? or NUL)")
    table = ""
    if scheme == "duckdb":
        rest, _, table = rest.rpartition("/")
        if not rest or not table:
            raise ValueError(f"output {uri!r} names no table; write duckdb://FILE/SCHEMA.TABLE")
    if not rest or rest.endswith("/"):
        raise ValueError(f"output {uri!r} names no file")
    path = (base / rest).absolute()
    if not table:
        return Target(scheme, path)
    schema, dot, name = table.partition(".")
    if not dot:
        schema, name = "main", schema
    if not schema or not name or "." in name:
        raise ValueError(f"output {uri!r}: {table!r} is not SCHEMA.TABLE")
    return Target(scheme, path, schema, name)
