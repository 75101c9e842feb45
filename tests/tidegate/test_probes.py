"""Probes run in a worker process beside the service: what they answer becomes durable, what fails is told as such."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import duckdb
import psycopg
import pytest

from pipelines.datasets.definition import DatasetDef, Freshness
from pipelines.engines.check import KIND
from pipelines.errors import TaskFailed
from tests.support.engine_contexts import make_context, make_settings
from tests.support.running import until
from tests.support.watch_works import ROUTE, Watch
from tests.support.works import Works, make_config
from tests.tidegate.conftest import OpenWorks
from tidegate.freshness import STATE, Standing, TellAnswers, standing_of
from tidegate.probes import Probes

pytestmark = pytest.mark.parametrize("url", ["memory"], indirect=True)


def watched(uri: str, probe: str, **fields: Any) -> DatasetDef:
    return DatasetDef(name="daily", uri=uri, freshness=Freshness(max_age=3_600.0, probe=probe), **fields)


@asynccontextmanager
async def probing(house: Works, base: Path, connections: dict[str, Any]) -> AsyncIterator[Probes]:
    probes = Probes(house.store, house.rules, base, lambda: connections, house.facts.append)
    probes.start(TellAnswers(house.rules, house.own, "svc"))
    try:
        yield probes
    finally:
        await probes.close()


async def standing(house: Works) -> Standing:
    found = await house.store.read(lambda reader: dict(reader.settings(STATE)))
    return standing_of(found[STATE + "daily"])


async def asked(house: Works, base: Path, connections: dict[str, Any] | None = None) -> Standing:
    """Ask once, from another thread as the store does, and return what is known then."""
    watch = Watch(house)
    await watch.at(int(datetime.now(UTC).timestamp() * 1e6))
    await watch.arm()
    async with probing(house, base, connections or {}) as probes:
        await asyncio.to_thread(probes.ask, "daily")
        await until(lambda: bool(probes._asking))
        await asyncio.wait(list(probes._asking.values()))
    return await standing(house)


async def test_a_table_that_nobody_here_writes_is_watched(works: OpenWorks, tmp_path: Path) -> None:
    """A DuckDB file that others fill is asked how fresh it is, and its age makes it stale."""
    old = datetime.now(UTC) - timedelta(hours=2)
    with duckdb.connect(str(tmp_path / "w.duckdb")) as connection:
        connection.execute("create table t as select ?::timestamptz as seen", [old])
    made = watched(f"duckdb://{tmp_path}/w.duckdb/main.t", "select max(seen) from t")
    house = await works(make_config([], datasets={"daily": made}, alerts={"oncall": ROUTE}))
    found = await asked(house, tmp_path)

    assert (found.state, found.error) == ("stale", None)
    assert found.updated == int(old.timestamp() * 1e6) or abs((found.updated or 0) - old.timestamp() * 1e6) < 2
    assert await Watch(house).alerts() == [("dataset_stale", "error", False)]
    assert "2h old, allowed are 1h" in found.reason


async def test_what_cannot_be_asked_is_unknown_and_says_why(works: OpenWorks, tmp_path: Path) -> None:
    """A file that is not there is an error of the probe; the dataset is not called stale for it."""
    made = watched(f"duckdb://{tmp_path}/none.duckdb/main.t", "select max(seen) from t")
    house = await works(make_config([], datasets={"daily": made}, alerts={"oncall": ROUTE}))
    found = await asked(house, tmp_path)

    assert found.state == "fresh"
    assert found.error is not None
    assert "nothing was written there yet" in found.error
    assert await Watch(house).alerts() == [("probe_failed", "error", False)]


@pytest.mark.postgres
@pytest.mark.integration
async def test_postgresql_is_probed_and_checked_through_its_connection(
    works: OpenWorks, tmp_path: Path, database: str
) -> None:
    """The connection leads to the table: its freshness is asked, its checks are made, nothing can be changed."""
    with psycopg.connect(database, autocommit=True) as link:
        link.execute("create schema mart")
        link.execute("create table mart.orders (id bigint, amount numeric(10,2), state text, seen timestamptz)")
        link.execute(
            "insert into mart.orders values (1, 9.50, 'new', now()), (2, 12, 'lost', null), (2, null, null, now())"
        )
    parts = urlsplit(database)
    uri = f"postgresql://{parts.hostname}:{parts.port}{parts.path}/mart.orders"
    connections = {"wh": {"kind": "postgresql", "url": database}}
    made = watched(uri, "select max(seen) from orders", connection="wh")
    house = await works(make_config([], datasets={"daily": made}))
    found = await asked(house, tmp_path, connections)
    broken = watched(uri, "delete from orders returning seen", connection="wh")
    other = await works(make_config([], datasets={"daily": broken}))
    refused = await asked(other, tmp_path, connections)

    assert (found.state, found.error) == ("fresh", None)
    assert "read-only transaction" in (refused.error or "")

    settings = make_settings(tmp_path)
    engine = KIND.build(type(settings)(**{**_fields(settings), "connections": connections}))
    checks = [
        {"row_count": {"min": 1}},
        {"between": {"column": "amount", "min": 0, "max": 10}},
        {"unique": "id", "severity": "warn"},
        {"accepted_values": {"column": "state", "values": ["new"]}},
        {"not_null": "amount"},
        {"freshness": {"column": "seen", "max_age": "1h"}},
        {"reconcile": {"other": uri, "on": "sum", "column": "amount", "connection": "wh"}},
        {
            "schema": {
                "columns": {"id": "int", "amount": "decimal", "state": "string", "seen": "timestamp"},
                "mode": "exact",
            }
        },
    ]
    context = make_context("check", {"dataset": "orders", "uri": uri, "connection": "wh", "checks": checks})
    try:
        with pytest.raises(TaskFailed) as caught:
            await engine.poll(context, await engine.start(context))
    finally:
        await engine.close()

    assert {check.check: check.passed for check in caught.value.checks} == {
        "row_count": True,
        "between(amount)": False,
        "unique(id)": False,
        "accepted_values(state)": False,
        "not_null(amount)": False,
        "freshness(seen)": True,
        "reconcile(amount)": True,
        "schema": True,
    }
    assert "amount: 1 of 3 values are not between 0 and 10, such as 12.00" in str(caught.value)


def _fields(settings: Any) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in type(settings).__dataclass_fields__}
