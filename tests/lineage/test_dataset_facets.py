"""OpenLineage facets of datasets."""

from typing import Any

import pytest

from pipelines.run import DatasetWrite
from tidegate.lineage.dataset_facets import SCHEMAS, inputs, lifecycle, outputs


def write(**more: Any) -> DatasetWrite:
    common = {"namespace": "postgres://db:5432", "name": "shop.public.daily", "task": "load", "at": 1}
    return DatasetWrite(**{**common, **more})


def test_an_output_has_schema_statistics_version_and_what_became_of_it() -> None:
    """All that a write recorded stands in the facet that the specification has for it."""
    one = write(
        rows=3, bytes=90, schema=(("id", "Int64"), ("n", "String")), version="run_1.1", changes={"created": True}
    )
    (told,) = outputs([one, write(mode="read", name="other")])

    assert (told["namespace"], told["name"]) == ("postgres://db:5432", "shop.public.daily")
    facets = told["facets"]
    assert facets["schema"]["fields"] == [
        {"name": "id", "type": "Int64", "ordinal_position": 1},
        {"name": "n", "type": "String", "ordinal_position": 2},
    ]
    assert facets["version"]["datasetVersion"] == "run_1.1"
    assert facets["lifecycleStateChange"]["lifecycleStateChange"] == "CREATE"
    statistics = told["outputFacets"]["outputStatistics"]
    assert (statistics["rowCount"], statistics["size"]) == (3, 90)
    for name, facet in (*facets.items(), ("outputStatistics", statistics)):
        assert facet["_schemaURL"] == SCHEMAS[name]
        assert facet["_producer"].startswith("https://")


def test_an_input_has_no_lifecycle() -> None:
    """What was read is told with the version and the rows that were read."""
    (told,) = inputs([write(mode="read", rows=7, version="v", changes={}), write(name="other")])

    assert told["inputFacets"]["inputStatistics"]["rowCount"] == 7
    assert "lifecycleStateChange" not in told["facets"]


def test_what_is_not_known_is_left_out() -> None:
    """Without figures, columns and version only the source is told; the last of two writes counts."""
    (told,) = outputs([write(rows=1), write()])

    assert set(told) == {"namespace", "name", "facets"}
    assert set(told["facets"]) == {"dataSource"}


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"changes": {"created": True}, "disposition": "append"}, "CREATE"),
        ({"changes": {"added": [["x", "Int64"]]}, "disposition": "replace"}, "ALTER"),
        ({"disposition": "replace"}, "OVERWRITE"),
        ({"disposition": "replace", "partition": "2026-01-31"}, None),
        ({"disposition": "append"}, None),
    ],
)
def test_the_lifecycle_says_what_became_of_the_whole(more: dict[str, Any], expected: str | None) -> None:
    """Created, altered, overwritten as a whole; rows alone change nothing of it."""
    assert lifecycle(write(**more)) == expected
