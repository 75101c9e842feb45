"""`tidegate checks`, `datasets` and `runs show` tell people how good and how fresh data is."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from typer.testing import Result

from pipelines.datasets.definition import DatasetDef, Freshness
from pipelines.run import CheckResult, DatasetWrite
from tests.support.house import EVIL
from tests.support.served import Served
from tests.support.stores import T0, do
from tidegate.freshness import STATE, Standing
from tidegate.rules import compile_rules

Ask = Callable[..., Result]


async def _fill(served: Served) -> None:
    house = served.house
    fresh = Freshness(max_age=3_600.0, probe="select 1")
    made = {
        name: DatasetDef(name=name, uri=f"parquet:///data/{name}.parquet", freshness=fresh) for name in ("daily", "raw")
    }
    house.config = replace(house.config, datasets=made)
    house.rules.swap(compile_rules(house.config, {}))
    (run, *_) = (await house.real_store.read(lambda reader: reader.runs(limit=5)))[0]
    values: dict[str, Any] = {"task": "load", "dataset": "/data/daily.parquet", "at": T0}
    checks = [
        CheckResult(check="row_count", passed=True, severity="fail", message="9 rows", **values),
        CheckResult(
            check="accepted_values(state)",
            passed=False,
            severity="fail",
            message=f"state: 1 of 9 values are not one of 'new', such as {EVIL!r}",
            expected="one of 'new'",
            actual="1 of 9 are not",
            sample=json.dumps([{"state": EVIL, "id": 7}]),
            **values,
        ),
    ]
    standing = Standing(since=T0, state="stale", updated=T0, stale_since=T0 + 5, reason="2h old, allowed are 1h")

    def keep(tx: Any) -> None:
        tx.insert_datasets(
            run["uid"], [DatasetWrite(namespace="file", name="/data/daily.parquet", task="load", at=T0, rows=9)], checks
        )  # fmt: skip
        tx.put_setting(STATE + "daily", Standing(since=T0, updated=T0).to_json())
        tx.put_setting(STATE + "raw", standing.to_json())

    await do(house.real_store, keep)


def test_people_see_what_is_wrong_and_where(ask: Ask, served: Served) -> None:
    """Lists say fresh or stale, passed or failed; the details say what was expected, found, and which rows."""
    served.do(_fill(served))
    uid = json.loads(ask("runs", "--json").output)["items"][0]["uid"]
    listed, shown, run = ask("datasets"), ask("checks", "daily"), ask("runs", "show", uid)

    assert [answer.exit_code for answer in (listed, shown, run)] == [0, 0, 0]
    for said in ("fresh", "failed", "raw", "stale", "2h old, allowed are 1h"):
        assert said in listed.output
    for said in ("accepted_values(state)", "one of 'new'", "1 of 9 are not", '"id": 7', "no older than 1h"):
        assert said in shown.output
    assert "accepted_values(state)" in run.output
    assert "\x1b" not in listed.output + shown.output + run.output


def test_scripts_get_what_the_api_answers(ask: Ask, served: Served) -> None:
    """`--json` gives all of it; an unknown dataset is an error."""
    served.do(_fill(served))
    answer = json.loads(ask("checks", "daily", "--json").output)

    mine = [item["passed"] for item in answer["items"] if item["dataset"].startswith("/")]

    assert mine == [False, True]
    assert answer["freshness"]["state"] == "fresh"
    assert ask("checks", "nothing").exit_code == 1
