"""The partition of a run in OpenLineage: the `nominalTime` facet where it names a time, and a facet of our own. Pure.

Consumers plot runs by nominal time and know nothing of partitions; so a partition that is a year, month, day or hour
becomes both, any other (a customer, a file) only our own facet, `tidegate`. Times are UTC: a partition says no zone.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from pipelines.run import Run
from tidegate.lineage.openlineage import PRODUCER

NOMINAL_SCHEMA = "https://openlineage.io/spec/facets/1-0-1/NominalTimeRunFacet.json#/$defs/NominalTimeRunFacet"
OWN_SCHEMA = f"{PRODUCER}/blob/main/docs/reference/facets/1-0-0/TidegateRunFacet.json"
_TIME = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2})(?:[T ](\d{2})(?::00(?::00)?)?Z?)?)?)?")


def run_facets(run: Run) -> Mapping[str, Any]:
    """Return the facets of a run that say what it materialises."""
    own = {
        "partition": run.partition,
        "key": run.key,
        "generation": run.generation,
        "lane": run.lane,
        "resumedFrom": run.resumed_from,
    }
    facets: dict[str, Any] = {
        "tidegate": {
            "_producer": PRODUCER,
            "_schemaURL": OWN_SCHEMA,
            **{name: value for name, value in own.items() if value is not None},
        }
    }
    interval = None if run.partition is None else nominal_time(run.partition)
    if interval is not None:
        start, end = (f"{moment:%Y-%m-%dT%H:%M:%S}Z" for moment in interval)
        facets["nominalTime"] = {
            "_producer": PRODUCER,
            "_schemaURL": NOMINAL_SCHEMA,
            "nominalStartTime": start,
            "nominalEndTime": end,
        }
    return facets


def nominal_time(partition: str) -> tuple[datetime, datetime] | None:
    """Return beginning and end of the time that a partition names, None for one that names none."""
    found = _TIME.fullmatch(partition)
    if found is None:
        return None
    year, month, day, hour = (None if part is None else int(part) for part in found.groups())
    try:
        start = datetime(year or 0, month or 1, day or 1, hour or 0, tzinfo=UTC)
        if hour is not None:
            return start, start + timedelta(hours=1)
        if day is not None:
            return start, start + timedelta(days=1)
        if month is not None:
            return start, (start + timedelta(days=31)).replace(day=1)
        return start, start.replace(year=start.year + 1)
    except (ValueError, OverflowError):
        return None
