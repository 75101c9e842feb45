"""How good and how fresh data is: the latest results of checks, and the datasets that are watched by the clock."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query

from tidegate.api.asking import HouseDep
from tidegate.api.house import House
from tidegate.api.models_checks import CheckList, FreshnessList
from tidegate.api.models_runs import DatasetRow
from tidegate.api.openapi import problems
from tidegate.api.problems import not_found
from tidegate.api.views_checks import check_view, freshness_view, outcome_of, standings, state_of
from tidegate.freshness import STATE, Standing
from tidegate.store.reader import Reader
from tidegate.watching import recorded_names

router = APIRouter(prefix="/api/v1", tags=["datasets"])
DatasetQuery = Annotated[
    str,
    Query(min_length=1, max_length=1024, pattern=r"^[^\x00]*$", description="Its name in `datasets`, or as listed."),
]


@router.get("/freshness", responses=problems(), summary="List how fresh datasets are")
async def list_freshness(house: HouseDep) -> FreshnessList:
    """List the datasets that are watched by the clock, with when they were updated and why they are stale."""
    found = standings(await house.store.read(lambda reader: dict(reader.settings(STATE))))
    watched = house.rules.current.freshness.datasets
    return FreshnessList(items=[freshness_view(watched[name], found.get(name)) for name in sorted(watched)])


@router.get("/checks", responses=problems(404, 422), summary="Show the latest checks of a dataset")
async def list_checks(house: HouseDep, dataset: DatasetQuery) -> CheckList:
    """Show what each check of a dataset found last, and how fresh the dataset is if that is watched."""
    names = _names(house, dataset)
    rows, settings = await house.store.read(lambda reader: _facts(reader, names))
    watched = house.rules.current.freshness.datasets.get(dataset)
    if not rows and watched is None and dataset not in house.config.datasets:
        raise not_found(f"result of a check of dataset {dataset}")
    return CheckList(
        dataset=dataset,
        freshness=None if watched is None else freshness_view(watched, standings(settings).get(dataset)),
        items=[check_view(row) for row in rows],
    )


def _names(house: House, dataset: str) -> Sequence[str]:
    """Return the names under which results of a dataset are recorded."""
    configured = house.config.datasets.get(dataset)
    known = [] if configured is None else [name for _, name in recorded_names(configured, house.config)]
    return [dataset, *known]


def _facts(reader: Reader, names: Sequence[str]) -> tuple[Sequence[Mapping[str, Any]], Mapping[str, str]]:
    found = reader.last_checks(names)
    rows = [row for name in names for row in found.get(name, ())]
    return rows, dict(reader.settings(STATE))


async def judged(house: House, rows: Sequence[DatasetRow]) -> list[DatasetRow]:
    """Return rows of datasets with how fresh they are, and what their latest checks found."""
    configured = {
        one: name for name, each in house.config.datasets.items() for one in recorded_names(each, house.config)
    }
    of = {(row.namespace, row.name): configured.get((row.namespace, row.name)) for row in rows}
    names = [*(row.name for row in rows), *(name for name in of.values() if name is not None)]
    found, settings = await house.store.read(lambda reader: (reader.last_checks(names), dict(reader.settings(STATE))))
    states: Mapping[str, Standing] = standings(settings)
    watched = house.rules.current.freshness.datasets
    shown = []
    for row in rows:
        name = of[row.namespace, row.name]
        results = [*found.get(row.name, ()), *(found.get(name, ()) if name is not None and name != row.name else ())]
        state = state_of(states[name]) if name is not None and name in watched and name in states else None
        shown.append(row.model_copy(update={"freshness": state, "checks": outcome_of(results)}))
    return shown
