"""The section `pools`: limits that tasks of all pipelines share, by name or by tag.

`db: 4` lets four tasks that say `pool: db` run at once; `{limit: 2, tag: warehouse}` counts every task with that tag
(its own or its pipeline's) as well. Out flow the limits, and which pools each task is in.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import Field

from config.problems import Path, known_names
from config.reading import Reading
from config.sensors_section import check_name
from config.service_section import Options
from config.yaml import Scalar, Table
from pipelines.pipeline import PipelineDef


class PoolOptions(Options):
    """One pool; `db: 4` is short for `{limit: 4}`."""

    limit: int = Field(ge=1, le=100_000, description="how many tasks of the pool run at once in one process")
    tag: str | None = Field(default=None, description="every task with this tag counts too")


def read_pools(reading: Reading) -> dict[str, PoolOptions]:
    """Return the pools by name; whatever is wrong is reported."""
    found: dict[str, PoolOptions] = {}
    for name, node in reading.table(("pools",)).items():
        path: Path = ("pools", name)
        check_name(reading, path, "pool")
        table = node if isinstance(node, Table) else None
        if isinstance(node, Scalar) and isinstance(node.value, int) and not isinstance(node.value, bool):
            if node.value < 1:
                reading.problem(path, f"a pool of {node.value} lets no task start", "use 1 or more")
            else:
                found[name] = PoolOptions(limit=min(node.value, 100_000))
            continue
        if table is None:
            reading.problem(path, "a pool is a number or a map", "write `db: 4` or `{limit: 2, tag: warehouse}`")
            continue
        options = reading.validate(PoolOptions, path, table)
        if options is not None:
            found[name] = options
    return found


def in_pools(reading: Reading, path: Path, pipeline: PipelineDef, pools: Mapping[str, PoolOptions]) -> PipelineDef:
    """Return a pipeline whose tasks know all pools that they are in; one that is not configured is reported."""
    changed: list[Any] = []
    for task in pipeline.tasks:
        names = list(task.pools)
        for name in names:
            if name not in pools:
                place = (*path, "tasks", task.name, "pool")
                while reading.node(place) is None and len(place) > len(path):
                    place = place[:-2] if len(place) - 2 > len(path) else path
                reading.problem(place, f"task {task.name!r}: there is no pool `{name}`", known_names(name, pools))
        tags = {*task.tags, *pipeline.tags}
        names += [name for name, pool in pools.items() if pool.tag in tags and name not in names]
        changed.append(replace(task, pools=tuple(names)))
    return replace(pipeline, tasks=tuple(changed))
