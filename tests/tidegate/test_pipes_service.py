"""A program written for Dagster Pipes, started by an event through the whole service: ledger, output, downstream."""

import sys
from pathlib import Path

import orjson

from tests.support.running import load, running

SCRIPT = Path(__file__).parents[1] / "pipelines" / "pipes" / "scripts" / "orders.py"
TEXT = """
service: {name: svc, store: sqlite:///store.db}
sensors:
  orders: {kind: webhook, path: /hooks/in, verify: none, id: body.id}
triggers:
  paid:
    on: {sensor: orders}
    run: {pipeline: work, key: event.id, params: {rows: "${{ event.data.rows }}"}, partition: event.data.day}
pipelines:
  work:
    params: {rows: {type: int, required: true}}
    tasks:
      load: {engine: command, argv: [PYTHON, SCRIPT], pipes: {assets: {orders: "duckdb://w.duckdb/main.orders"}}}
      after:
        engine: command
        needs: [load]
        argv: [echo, "${{ tasks.load.output.materializations.orders.data_version }}"]
        output: text
"""


async def test_what_a_program_reports_is_in_the_ledger(tmp_path: Path) -> None:
    """Its dataset and check belong to the run, its output feeds the next task; a failed check stops what follows."""
    text = TEXT.replace("PYTHON", sys.executable).replace("SCRIPT", str(SCRIPT))
    async with running(await load(tmp_path, text)) as gate:
        await gate.post("/hooks/in", b'{"id": "o-1", "rows": 3, "day": "2026-11-28"}')
        (run,) = await gate.finished(1)
        read = gate.service.store.read
        tasks = {task.task: task for task in await read(lambda reader: reader.tasks(run["uid"]))}
        (dataset,), _ = await read(lambda reader: reader.datasets(limit=5))
        lines, _ = await read(lambda reader: reader.logs(run["uid"], limit=100))

        await gate.post("/hooks/in", b'{"id": "o-2", "rows": 0, "day": "2026-11-29"}')
        rows = await gate.finished(2)

    assert run["state"] == "succeeded"
    assert orjson.loads(tasks["after"].output or "null") == "v7\n"
    assert (dataset["name"], dataset["rows"], dataset["version"]) == (f"{tmp_path}/w.duckdb/main.orders", 3, "v7")
    assert any("INFO loading 2026-11-28" in str(line) for line in lines)
    failed = next(row for row in rows if row["uid"] != run["uid"])
    assert failed["state"] == "failed"
    assert "check not_empty of orders failed: rows 0" in failed["error"]
