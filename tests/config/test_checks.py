"""Checks and deadlines as they are written, and where the configuration puts them."""

from pathlib import Path
from typing import Any

import pytest

from config.load import load_config
from pipelines.deadlines import parse_finish_by
from tests.config.kinds import real_kinds
from tidegate.deadlines import compile_deadlines

TEXT = """
service: {name: svc}
connections: {wh: {kind: postgresql, url: "postgresql://x@y/z"}}
datasets:
  daily:
    uri: "duckdb://shop.duckdb/main.daily"
    checks:
      - row_count: {min: 1, max_drop: 0.5}
      - unique: id
        severity: warn
        redact: [id]
  raw: {uri: "postgresql://db.example/shop/public.raw", connection: wh}
pipelines:
  shop:
    tasks:
      load:
        engine: python
        function: "shop:f"
        output: "duckdb://shop.duckdb/main.daily"
        checks: [{not_null: [a, b]}]
      other: {engine: python, function: "shop:f", output: "csv://x.csv"}
      verify: {engine: check, dataset: daily, checks: [{reconcile: {other: raw, on: keys, columns: id}}]}
      late: {engine: check, dataset: "parquet://${{ params.day }}.parquet", checks: [{row_count: {min: 1}}]}
"""


def load(folder: Path, text: str) -> Any:
    file = folder / "tidegate.yaml"
    file.write_text(text)
    (folder / "shop.py").write_text("def f(**_): ...")
    return load_config([file], environ={}, resolve_secrets=False, **real_kinds())


def test_checks_of_a_dataset_go_where_it_is_written_and_judged(tmp_path: Path) -> None:
    """The writing task makes them before its own; a checking task those that need no memory, where the data lies."""
    tasks = {task.name: task.options for task in load(tmp_path, TEXT).pipelines["shop"].tasks}
    count = {"kind": "row_count", "options": {"min": 1, "max_drop": 0.5}, "severity": "fail"}
    unique = {"kind": "unique", "options": {"columns": "id"}, "severity": "warn", "redact": ["id"]}

    assert tasks["load"]["checks"] == [
        count,
        unique,
        {"kind": "not_null", "options": {"columns": ["a", "b"]}, "severity": "fail"},
    ]
    assert "checks" not in tasks["other"]
    assert tasks["verify"]["uri"] == "duckdb://shop.duckdb/main.daily"
    assert tasks["verify"]["checks"] == [
        unique,
        {
            "kind": "reconcile",
            "options": {
                "other": "postgresql://db.example/shop/public.raw",
                "on": "keys",
                "columns": "id",
                "connection": "wh",
            },
            "severity": "fail",
        },
    ]
    assert "uri" not in tasks["late"]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ('"07:00"', "07:00"),
        ('"07:00 Europe/Oslo mon-fri"', "07:00 Europe/Oslo mon,tue,wed,thu,fri"),
        ("{time: '18:30', days: [sat, sun], expect: daily}", "18:30 sat,sun expect:daily"),
        ("{time: '18:30', timezone: UTC, days: fri-mon}", "18:30 mon,fri,sat,sun"),
    ],
)
def test_a_deadline_is_one_text_in_the_definition(tmp_path: Path, written: str, read: str) -> None:
    """However it is written: the definition that a run stores is read by the version before as well."""
    text = f"""
service: {{name: svc}}
triggers:
  at: {{on: {{cron: "0 5 * * *", timezone: Europe/Oslo}}, run: {{pipeline: p}}}}
  twice: {{on: {{cron: "0 6 * * *"}}, run: {{pipeline: p}}, enabled: false}}
pipelines:
  p: {{engine: http, url: "http://x.test", deadlines: {{start_within: 90s, finish_by: {written}}}}}
  q: {{engine: http, url: "http://x.test"}}
"""
    config = load(tmp_path, text)
    deadlines = compile_deadlines(config)

    assert config.pipelines["p"].finish_by == read
    assert list(deadlines) == ["p"]
    assert (deadlines["p"].start_within, deadlines["p"].finish_by) == (90_000_000, parse_finish_by(read))
    assert len(deadlines["p"].schedules) == 1
