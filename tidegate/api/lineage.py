"""Lineage, datasets and pipelines: what came out of what."""

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Response

from tidegate.api.asking import EventUidQuery, HouseDep, Name, PageDep, RunUidQuery, TextQuery, read_page
from tidegate.api.checks_api import judged
from tidegate.api.drawing import GraphFormat, drawn
from tidegate.api.house import House
from tidegate.api.models_runs import DatasetHistory, DatasetPage, Lineage, PipelineList, PipelineView
from tidegate.api.openapi import problems
from tidegate.api.problems import ApiError, not_found
from tidegate.api.views_runs import dataset_row, edge_view, node_view, pipeline_view
from tidegate.graphs.nodes import pipeline_nodes
from tidegate.store.reader import Row

router = APIRouter(prefix="/api/v1", tags=["lineage"])


@router.get("/lineage", responses=problems(404, 422), summary="Tell what led to a thing, and what came of it")
async def show_lineage(
    house: HouseDep,
    event: EventUidQuery = None,
    run: RunUidQuery = None,
    dataset: TextQuery = None,
    direction: Annotated[
        Literal["both", "up", "down"], Query(description="`up`: the causes; `down`: the outcome.")
    ] = "both",
    limit: Annotated[int, Query(ge=1, le=5000, description="Nodes at most.")] = 1000,
) -> Lineage:
    """Return the graph around exactly one of `event`, `run`, `dataset`."""
    given = [value for value in (event, run, dataset) if value is not None]
    if len(given) != 1:
        raise ApiError(422, "give exactly one of event, run, dataset")
    graph = await house.store.read(
        lambda reader: reader.lineage(
            event=event, run=run, dataset=dataset, up=direction != "down", down=direction != "up", limit=limit
        )
    )
    nodes = graph["nodes"]
    roots = [node for node in nodes if _is_root(node, given[0])]
    if not roots or _unknown(roots[0]):
        raise not_found(f"{'event' if event else 'run' if run else 'dataset'} {given[0]}")
    return Lineage(
        root=roots[0]["uid"],
        nodes=[node_view(node) for node in nodes],
        edges=[edge_view(edge) for edge in graph["edges"]],
        truncated=bool(graph.get("truncated", False)),
    )


def _is_root(node: Row, wanted: str) -> bool:
    """Say whether a node is what was asked for: by uid, or a dataset by its name."""
    return wanted == node["uid"] or (node["kind"] == "dataset" and wanted in (node.get("name"), node.get("dataset")))


def _unknown(node: Row) -> bool:
    """Say whether nothing is known of a node, not even that it was pruned."""
    return node["kind"] == "stub" and not node.get("label") and node.get("at") is None


@router.get("/datasets", responses=problems(422), summary="List datasets")
async def list_datasets(house: HouseDep, page: PageDep) -> DatasetPage:
    """List datasets that runs wrote or read, with the last write of each, by name."""
    rows, following = await read_page(
        house, page, "datasets", lambda reader, cursor: reader.datasets(limit=page.limit, cursor=cursor)
    )
    return DatasetPage(items=await judged(house, [dataset_row(row) for row in rows]), cursor=following)


@router.get("/datasets/{name:path}", responses=problems(404, 422), summary="Show a dataset")
async def show_dataset(
    house: HouseDep,
    page: PageDep,
    name: Annotated[str, Path(min_length=1, description="Its name in `datasets`, or in OpenLineage's naming.")],
    namespace: TextQuery = None,
) -> DatasetHistory:
    """Show a dataset with the history of its writes and reads; `namespace` tells apart what has the same name."""
    found = await house.store.read(lambda reader: reader.dataset(name, namespace))
    if not found:
        raise not_found(f"dataset {name}")
    last = found[0]
    rows, following = await read_page(
        house,
        page,
        "datasets",
        lambda reader, cursor: reader.dataset_writes(last["namespace"], last["name"], limit=page.limit, cursor=cursor),
    )
    return DatasetHistory(last=dataset_row(last), items=[dataset_row(row) for row in rows], cursor=following)


@router.get("/pipelines", responses=problems(), summary="List pipelines", tags=["runs"])
async def list_pipelines(house: HouseDep) -> PipelineList:
    """List all configured pipelines with what waits in each."""
    return PipelineList(items=await _pipelines(house))


@router.get("/pipelines/{name}", responses=problems(404, 422), summary="Show a pipeline", tags=["runs"])
async def show_pipeline(house: HouseDep, name: Name) -> PipelineView:
    """Show a pipeline with its parameters and tasks."""
    found = await _pipelines(house, name)
    if not found:
        raise not_found(f"pipeline {name}")
    return found[0]


@router.get("/pipelines/{name}/graph", responses=problems(404, 422), summary="Draw a pipeline", tags=["runs"])
async def draw_pipeline(house: HouseDep, name: Name, format: GraphFormat = "svg") -> Response:
    """Draw the graph of a pipeline's tasks."""
    shown = await show_pipeline(house, name)
    return drawn(pipeline_nodes([task.model_dump() for task in shown.tasks]), format)


async def _pipelines(house: House, only: str | None = None) -> list[PipelineView]:
    waiting = await house.store.read(lambda reader: reader.queue())
    pipelines = house.rules.current.pipelines
    return [
        pipeline_view(name, pipeline, waiting.get(name, {}))
        for name, pipeline in pipelines.items()
        if only in (None, name)
    ]
