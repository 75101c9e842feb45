"""The section `datasets`: what becomes of its entries, and what is refused in it."""

from pathlib import Path

import pytest

from config.load import load_config
from config.problems import ConfigProblems
from pipelines.datasets.definition import DatasetDef, Freshness
from tests.config.kinds import no_pipelines, real_kinds

FULL = """
connections: {wh: {kind: snowflake, account: org, user: u, token: "${env:T:-x}"}}
datasets:
  daily:
    uri: snowflake://org/analytics.public.daily
    connection: wh
    mode: merge
    key: id
    partition_by: [day]
    schema: strict
    deleted_at: gone
    freshness: {max_age: 26h, due: "0 7 * * *", timezone: Europe/Oslo, probe: select max(updated_at) from daily}
    checks: [{row_count: {min: 1}}]
    tags: [finance]
"""


def _load(tmp_path: Path, text: str) -> dict[str, DatasetDef]:
    file = tmp_path / "tidegate.yaml"
    file.write_text(text)
    return dict(load_config([file], environ={}, load=no_pipelines, **real_kinds()).datasets)


def test_an_entry_says_where_how_and_what_is_expected(tmp_path: Path) -> None:
    """Every option arrives in the definition; durations are seconds, one column may stand without a list."""
    assert _load(tmp_path, FULL)["daily"] == DatasetDef(
        name="daily",
        uri="snowflake://org/analytics.public.daily",
        connection="wh",
        mode="merge",
        key=("id",),
        partition_by=("day",),
        schema="strict",
        deleted_at="gone",
        freshness=Freshness(
            max_age=93_600.0, due="0 7 * * *", timezone="Europe/Oslo", probe="select max(updated_at) from daily"
        ),
        checks=({"row_count": {"min": 1}},),
        tags=("finance",),
    )


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        pytest.param("freshness: {}", "write `max_age: 26h`", id="freshness without a bound"),
        pytest.param("freshness: {due: tomorrow}", "datasets.d.freshness.due", id="no cron"),
        pytest.param("freshness: {max_age: 1h, timezone: Mars/Olympus}", "datasets.d.freshness.timezone", id="no zone"),
        pytest.param("mode: merge", "name the columns: `key: [id]`", id="merge without key"),
        pytest.param("mode: upsert", "datasets.d.mode", id="no mode"),
        pytest.param("schema: loose", "datasets.d.schema", id="no policy"),
    ],
)
def test_what_cannot_be_is_refused_at_its_place(tmp_path: Path, entry: str, said: str) -> None:
    """Each impossible option is reported with its path and what would be right."""
    with pytest.raises(ConfigProblems) as raised:
        _load(tmp_path, f'datasets: {{d: {{uri: "duckdb://x.duckdb/t", {entry}}}}}')

    assert said in str(raised.value)
