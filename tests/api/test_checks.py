"""The API and the console tell how good and how fresh data is."""

from dataclasses import replace
from typing import Any

import httpx2 as httpx
import pytest

from pipelines.datasets.definition import DatasetDef, Freshness
from pipelines.run import CheckResult, DatasetWrite
from tests.support.house import EVIL, FakeHouse
from tests.support.stores import T0, do
from tidegate.freshness import STATE, Standing
from tidegate.rules import compile_rules


def result(check: str, *, passed: bool, severity: str = "fail", dataset: str = "/data/daily.parquet") -> CheckResult:
    return CheckResult(
        check=check,
        task="load",
        dataset=dataset,
        passed=passed,
        severity=severity,
        message=f"amount: 2 of 9 values are not {EVIL}",
        at=T0,
        expected="between 0 and 9",
        actual="2 of 9 are not",
        sample='[{"amount": -5.0, "id": 7}]' if not passed else None,
    )


@pytest.fixture
async def watched(house: FakeHouse) -> FakeHouse:
    """A run wrote `daily`, one of whose checks failed; `raw` is stale, `other` cannot be asked, `later` is new."""
    fresh = Freshness(max_age=3_600.0)
    datasets = {
        name: DatasetDef(name=name, uri=f"parquet:///data/{name}.parquet", freshness=each)
        for name, each in (
            ("daily", fresh),
            ("raw", replace(fresh, probe="select 1")),
            ("other", replace(fresh, probe="select 1")),
            ("later", fresh),
            ("plain", None),
        )
    }
    house.config = replace(house.config, datasets=datasets)
    house.rules.swap(compile_rules(house.config, {}))
    await house.receive("a.csv")
    await house.work()
    (run,) = (await house.real_store.read(lambda reader: reader.runs(limit=1)))[0]
    wrote = DatasetWrite(namespace="file", name="/data/daily.parquet", task="load", at=T0, rows=9)
    checks = [result("row_count", passed=True), result("between(amount)", passed=False)]
    standings = {
        "daily": Standing(since=T0, updated=T0, checked=T0 + 1),
        "raw": Standing(since=T0, state="stale", updated=T0, stale_since=T0 + 5, reason="2h old, allowed are 1h"),
        "other": Standing(since=T0, error="no such table", error_since=T0),
        "later": Standing(since=T0),
    }

    def keep(tx: Any) -> None:
        tx.insert_datasets(run["uid"], [wrote], checks)
        tx.insert_datasets(run["uid"], [], [result("unique(id)", passed=False, severity="warn", dataset="plain")])
        for name, standing in standings.items():
            tx.put_setting(STATE + name, standing.to_json())

    await do(house.real_store, keep)
    return house


async def test_watched_datasets_are_listed_with_their_state(watched: FakeHouse, client: httpx.AsyncClient) -> None:
    """Fresh, stale, unknown or new, with why, what was expected, and when it was updated."""
    items = (await client.get("/api/v1/freshness")).json()["items"]

    assert {item["dataset"]: item["state"] for item in items} == {
        "daily": "fresh",
        "raw": "stale",
        "other": "unknown",
        "later": "new",
    }
    raw = next(item for item in items if item["dataset"] == "raw")
    assert (raw["reason"], raw["expected"], raw["probed"]) == ("2h old, allowed are 1h", "no older than 1h", True)
    assert raw["stale_since"].startswith("2025-06-15T15:06:40")


async def test_lists_of_datasets_say_how_they_are(watched: FakeHouse, client: httpx.AsyncClient) -> None:
    """The list of datasets says in one word each how fresh it is and what its checks found."""
    items = (await client.get("/api/v1/datasets")).json()["items"]
    found = {item["name"]: (item["freshness"], item["checks"]) for item in items}

    assert found["/data/daily.parquet"] == ("fresh", "failed")


async def test_a_dataset_shows_its_latest_checks_by_either_name(watched: FakeHouse, client: httpx.AsyncClient) -> None:
    """The configured name and the recorded one lead to the same results, with words and rows."""
    by_name = (await client.get("/api/v1/checks", params={"dataset": "daily"})).json()
    by_path = (await client.get("/api/v1/checks", params={"dataset": "/data/daily.parquet"})).json()
    unknown = await client.get("/api/v1/checks", params={"dataset": "nothing"})

    assert [item for item in by_name["items"] if item["dataset"].startswith("/")] == by_path["items"]
    assert {item["dataset"] for item in by_name["items"]} == {"daily", "/data/daily.parquet"}
    assert by_name["freshness"]["state"] == "fresh"
    bad = next(item for item in by_name["items"] if not item["passed"])
    assert (bad["check"], bad["expected"], bad["actual"]) == ("between(amount)", "between 0 and 9", "2 of 9 are not")
    assert bad["sample"] == [{"amount": -5.0, "id": 7}]
    assert unknown.status_code == 404


async def test_a_run_shows_what_its_checks_found(watched: FakeHouse, client: httpx.AsyncClient) -> None:
    """All results of a run, in order."""
    uid = (await client.get("/api/v1/runs")).json()["items"][0]["uid"]
    run = (await client.get(f"/api/v1/runs/{uid}")).json()

    assert [(check["check"], check["passed"]) for check in run["checks"][1:]] == [  # the first is the house's own
        ("row_count", True),
        ("between(amount)", False),
        ("unique(id)", False),
    ]


async def test_the_console_shows_data_without_trusting_it(watched: FakeHouse, client: httpx.AsyncClient) -> None:
    """Overview, run and dataset show states and results; what checks found in the data is text, never markup."""
    uid = (await client.get("/api/v1/runs")).json()["items"][0]["uid"]
    pages = {
        "/": ("stale", "unknown", "no such table", "2h old"),
        f"/console/runs/{uid}": ("between(amount)", "between 0 and 9", "warned"),
        "/console/datasets/daily": ("between(amount)", "fresh", "parquet:///data/daily.parquet"),
        "/console/datasets/%2Fdata%2Fdaily.parquet": ("between(amount)",),
    }
    for path, said in pages.items():
        answer = await client.get(path)

        assert answer.status_code == 200, path
        assert EVIL not in answer.text
        assert [word for word in said if word not in answer.text] == []
    assert (await client.get("/console/datasets/nothing")).status_code == 404
