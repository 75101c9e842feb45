"""The partition of a run in OpenLineage."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.run import Run, RunState
from tidegate.lineage.partitions import OWN_SCHEMA, run_facets

RUN = Run(uid="run_1", pipeline="p", definition="d", state=RunState.QUEUED, key="k", key_scope="t", created_at=0)
SCHEMAS = Path(__file__).resolve().parents[2] / "docs/reference/facets"


@pytest.mark.parametrize(
    ("partition", "start", "end"),
    [
        ("2026-02-28", "2026-02-28T00:00:00Z", "2026-03-01T00:00:00Z"),
        ("2026-12", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        ("2026", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        ("2026-02-28T23", "2026-02-28T23:00:00Z", "2026-03-01T00:00:00Z"),
        ("2026-02-28T05:00:00Z", "2026-02-28T05:00:00Z", "2026-02-28T06:00:00Z"),
    ],
)
def test_a_partition_that_is_a_time_is_the_nominal_time(partition: str, start: str, end: str) -> None:
    """Where consumers look for the time that a run is about, they find the whole interval of its partition."""
    facet = run_facets(replace(RUN, partition=partition))["nominalTime"]

    assert (facet["nominalStartTime"], facet["nominalEndTime"]) == (start, end)
    assert facet["_schemaURL"].endswith("NominalTimeRunFacet.json#/$defs/NominalTimeRunFacet")


@pytest.mark.parametrize("partition", [None, "acme", "2026-02-30", "2026-13", "0000", "9999", "2026-01-01.csv"])
def test_any_other_partition_is_no_time(partition: str | None) -> None:
    """What names no time has no nominal time; our own facet names the partition, and nothing where there is none."""
    facets = run_facets(replace(RUN, partition=partition))

    assert "nominalTime" not in facets
    assert facets["tidegate"].get("partition") == partition
    assert facets["tidegate"]["_schemaURL"] == OWN_SCHEMA


def test_our_own_facet_is_as_its_schema_says() -> None:
    """The schema that the facet names describes each of its fields, and is the file that its address ends with."""
    facet = run_facets(replace(RUN, partition="acme", lane="acme", resumed_from="run_0"))["tidegate"]
    name = OWN_SCHEMA.partition("facets/")[2]
    schema = json.loads((SCHEMAS / name).read_text())
    described = schema["$defs"]["TidegateRunFacet"]["allOf"][1]

    assert schema["$id"] == OWN_SCHEMA
    assert {name for name in facet if not name.startswith("_")} == set(described["properties"])
    assert set(described["required"]) <= set(facet)
