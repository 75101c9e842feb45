"""OpenLineage datasets of what our runs read and wrote: inputs and outputs of a run event, with their facets. Pure.

In flow the writes of a task (see `pipelines.run.DatasetWrite`), out flow plain JSON values as the specification wants
them. What is not known is left out: an empty facet would claim something.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from pipelines.run import DatasetWrite
from tidegate.lineage.openlineage import PRODUCER

_SPEC: Final = "https://openlineage.io/spec/facets"
_VERSIONS: Final = {  # facet -> version, definition
    "schema": ("1-2-0", "SchemaDatasetFacet"),
    "version": ("1-0-1", "DatasetVersionDatasetFacet"),
    "dataSource": ("1-0-1", "DatasourceDatasetFacet"),
    "lifecycleStateChange": ("1-0-1", "LifecycleStateChangeDatasetFacet"),
    "outputStatistics": ("1-0-2", "OutputStatisticsOutputDatasetFacet"),
    "inputStatistics": ("1-0-0", "InputStatisticsInputDatasetFacet"),
}
SCHEMAS: Final[Mapping[str, str]] = {
    facet: f"{_SPEC}/{version}/{name}.json#/$defs/{name}" for facet, (version, name) in _VERSIONS.items()
}


def inputs(writes: Iterable[DatasetWrite]) -> list[dict[str, Any]]:
    """Return what a task read, each dataset once."""
    found = {(one.namespace, one.name): one for one in writes if one.mode == "read"}
    return [_dataset(one, "inputFacets", "inputStatistics") for one in found.values()]


def outputs(writes: Iterable[DatasetWrite]) -> list[dict[str, Any]]:
    """Return what a task wrote, each dataset once, with its last write."""
    found = {(one.namespace, one.name): one for one in writes if one.mode != "read"}
    return [_dataset(one, "outputFacets", "outputStatistics") for one in found.values()]


def lifecycle(write: DatasetWrite) -> str | None:
    """Return what a write did to the dataset as a whole: CREATE, ALTER, OVERWRITE, or None for rows alone."""
    if write.changes.get("created"):
        return "CREATE"
    if any(write.changes.get(name) for name in ("added", "removed", "retyped")):
        return "ALTER"
    return "OVERWRITE" if write.disposition == "replace" and not write.partition else None


def _dataset(write: DatasetWrite, kind: str, statistics: str) -> dict[str, Any]:
    facets: dict[str, Any] = {"dataSource": _facet("dataSource", name=write.namespace, uri=write.namespace)}
    if write.schema:
        facets["schema"] = _facet("schema", fields=_fields(write.schema))
    if write.version is not None:
        facets["version"] = _facet("version", datasetVersion=write.version)
    changed = lifecycle(write) if write.mode != "read" else None
    if changed is not None:
        facets["lifecycleStateChange"] = _facet("lifecycleStateChange", lifecycleStateChange=changed)
    figures = {name: value for name, value in (("rowCount", write.rows), ("size", write.bytes)) if value is not None}
    told: dict[str, Any] = {"namespace": write.namespace, "name": write.name, "facets": facets}
    if figures:
        told[kind] = {statistics: _facet(statistics, **figures)}
    return told


def _fields(schema: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    return [{"name": name, "type": kind, "ordinal_position": n} for n, (name, kind) in enumerate(schema, 1)]


def _facet(facet: str, /, **values: Any) -> dict[str, Any]:
    return {"_producer": PRODUCER, "_schemaURL": SCHEMAS[facet], **values}
