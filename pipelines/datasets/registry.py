"""The kinds of targets there are, by the schemes of their URIs; each is imported when it is first opened.

`Table` is the port: a writer and a reader of one dataset. Adding a kind means adding a line here; the contract suite
finds it.
"""

import importlib
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, Protocol

from pipelines.datasets.target import Target
from pipelines.datasets.written import Content, How, Judge, Look, Stamp, Written


class Table(Protocol):
    """One dataset. Methods raise TargetBusy (try later) and TargetUnusable (WriteRefused: other rows would fit)."""

    def write(self, frame: Any, stamp: Stamp, how: How, judge: Judge) -> Written:
        """Publish a Polars DataFrame at once, or not at all; returns when that is durable.

        `judge` is called before anything is published; what it raises ends the write. A repeat by the same run and
        task does nothing twice. Raises StaleWrite when a newer holder or attempt of the run has written.
        """
        ...

    def read(self) -> Content:
        """Return what was last published, whole."""
        ...

    def look(self) -> Look | None:
        """Return what can be told without reading all rows; None when there is nothing yet."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


Open = Callable[[Target, Mapping[str, Any] | None, Callable[[float], None]], Table]


def builtin_kinds() -> Mapping[str, str]:
    """Return what opens targets: scheme to `module:function`."""
    files = "pipelines.datasets.opening"
    return MappingProxyType(
        {
            "duckdb": "pipelines.datasets.duckdb_table:open_duckdb",
            "postgresql": "pipelines.datasets.postgres_table:open_postgres",
            "snowflake": "pipelines.datasets.snowflake_table:open_snowflake",
            "parquet": f"{files}:open_local",
            "csv": f"{files}:open_local",
            "json": f"{files}:open_local",
            "jsonl": f"{files}:open_local",
            "s3": f"{files}:open_s3",
            "abfss": f"{files}:open_abfss",
            "delta": "pipelines.datasets.delta_table:open_delta",
            "delta+s3": "pipelines.datasets.delta_table:open_delta",
        }
    )


KINDS: Final = builtin_kinds()


def open_table(
    target: Target, connection: Mapping[str, Any] | None = None, sleep: Callable[[float], None] = time.sleep
) -> Table:
    """Return the dataset behind a target; `connection` is an entry of `connections` with its secrets filled in.

    Raises TargetUnusable when the connection does not fit.
    """
    module, _, function = KINDS[target.scheme].partition(":")
    opener: Open = getattr(importlib.import_module(module), function)
    return opener(target, connection, sleep)
