"""A dataset that nobody here writes goes stale, and the service that watches it starts the pipeline that mends it."""

import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.support.replicas import Replica

pytestmark = [pytest.mark.acceptance]
CONFIG = f"""
service: {{name: watch, store: "sqlite:///state/watch.db", dispatch: {{poll: 100ms, lease: 1s, grace: 300ms}}}}
alerts:
  oncall: {{to: "json://127.0.0.1:9/none", events: [dataset_stale, check_failed, resolved]}}
datasets:
  daily:
    uri: "parquet://daily.parquet"
    freshness: {{max_age: 1h, probe: "select max(seen) from data", every: 1s}}
    checks: [{{row_count: {{min: 1}}}}, {{not_null: seen}}]
triggers:
  stale:
    on: {{sensor: tidegate, filter: {{exact: {{type: tidegate.dataset.stale, subject: daily}}}}}}
    run: {{pipeline: mend, params: {{why: "${{{{ event.data.reason }}}}"}}}}
  mended:
    on: {{sensor: tidegate, filter: {{exact: {{type: tidegate.dataset.fresh, subject: daily}}}}}}
    run: {{pipeline: verify}}
pipelines:
  mend:
    params: {{why: {{type: str}}}}
    tasks:
      write: {{engine: command, argv: ["{sys.executable}", mend.py]}}
  verify: {{engine: check, dataset: daily, deadlines: {{start_within: 1m, finish_by: "23:59 Europe/Oslo"}}}}
"""
MEND = """
import datetime, pathlib, polars as pl, time
while not pathlib.Path("go").exists():
    time.sleep(0.02)
pl.DataFrame({"seen": [datetime.datetime.now(datetime.UTC)]}).write_parquet("next.parquet")
pathlib.Path("next.parquet").replace("daily.parquet")
"""


def write(folder: Path, age: timedelta) -> None:
    pl.DataFrame({"seen": [datetime.now(UTC) - age]}).write_parquet(folder / "daily.parquet")


async def test_a_stale_dataset_starts_the_pipeline_that_mends_it(tmp_path: Path) -> None:
    """Stale by its own account: one event, one run; killed in the middle, nothing is told twice; fresh: checked."""
    (tmp_path / "mend.py").write_text(MEND)
    (tmp_path / "tidegate.yaml").write_text(CONFIG)
    write(tmp_path, timedelta(hours=2))
    service = Replica(tmp_path, "one", tmp_path / "tidegate.yaml")
    try:
        await service.start()

        async def runs(pipeline: str, state: str) -> Any:
            found = (await service.read(f"runs?pipeline={pipeline}"))["items"]
            return [run for run in found if run["state"] == state]

        await service.until(lambda: runs("mend", "running"))
        stale = (await service.read("freshness"))["items"]
        service.send(signal.SIGKILL)
        await service.end()
        await service.start()
        (tmp_path / "go").touch()
        (verified,) = await service.until(lambda: runs("verify", "succeeded"))
        run = await service.read(f"runs/{verified['uid']}")
        mended = await runs("mend", "succeeded")
        fresh = (await service.read("freshness"))["items"]
        told = [event["type"] for event in (await service.read("events?sensor=tidegate"))["items"]]
        alerts = [(alert["kind"], alert["ends"]) for alert in (await service.read("alerts"))["items"]]
    finally:
        await service.end()

    assert [(item["dataset"], item["state"], item["probed"]) for item in stale] == [("daily", "stale", True)]
    assert [item["state"] for item in fresh] == ["fresh"]
    assert len(mended) == 1
    assert sorted(told) == ["tidegate.dataset.fresh", "tidegate.dataset.stale"]
    assert [(check["check"], check["passed"], check["dataset"]) for check in run["checks"]] == [
        ("row_count", True, "daily"),
        ("not_null(seen)", True, "daily"),
    ]
    assert sorted(alerts) == [("dataset_stale", False), ("dataset_stale", True)]
