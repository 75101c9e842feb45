"""Looks at datasets in a worker, by way of a job like any other: what lies there, without reading its rows."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from pipelines.datasets.registry import open_table
from pipelines.datasets.target import parse_target
from pipelines.datasets.written import TargetBusy, TargetUnusable

FUNCTION = "pipelines.datasets.looking:look"


def look(places: Sequence[Mapping[str, Any]], base: str) -> list[dict[str, Any] | None]:
    """Return rows, bytes, schema and version of each dataset; None where nothing is, or nothing can be told."""
    found: list[dict[str, Any] | None] = []
    for place in places:
        try:
            with closing(open_table(parse_target(place["uri"], Path(base)), place.get("connection"))) as table:
                seen = table.look()
        except (TargetBusy, TargetUnusable) as error:
            print(f"{place['uri']} could not be looked at: {error}")  # noqa: T201 - a task's output is its log
            seen = None
        told = None
        if seen is not None:
            told = {"rows": seen.rows, "bytes": seen.bytes, "schema": seen.schema, "version": seen.version}
        found.append(told)
    return found
