"""The quickstart as people meet it: the real command line as a process, files, webhooks, signals, restarts."""

import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.support.otlp import OtlpReceiver, Seen, otlp_receiver
from tests.support.service import ROOT, QuickstartService

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]
DATA = ROOT / "examples" / "01-orders" / "data"
ORDER = {
    "order_id": "O-900001",
    "ordered_at": "2026-03-01T09:30:00Z",
    "updated_at": "2026-03-01T09:30:00Z",
    "customer": "C-0001",
    "country": "NO",
    "sku": "MUG-BLUE",
    "quantity": 1,
    "amount": "108.30",
    "currency": "NOK",
}


@pytest.fixture
def collector() -> Iterator[OtlpReceiver]:
    with otlp_receiver() as receiver:
        yield receiver


@pytest_asyncio.fixture
async def service(tmp_path: Path, collector: OtlpReceiver) -> AsyncIterator[QuickstartService]:
    made = QuickstartService(
        tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_METRICS_EXPORTER="none", QUICKSTART_SECRET=""
    )
    yield made
    await made.end()


async def test_files_webhooks_and_restarts(service: QuickstartService) -> None:
    """A file from before the start is processed, signed webhooks are taken, SIGTERM drains, a restart keeps all."""
    shutil.copy(DATA / "orders-2026-01.csv", service.inbox)
    await service.start()
    status, answer = await service.post_order(ORDER)
    assert (status, answer["events"][0]["duplicate"]) == (202, False)
    assert (await service.post_order(ORDER, secret="another"))[0] == 401
    status, again = await service.post_order(ORDER)
    assert (status, again["events"]) == (202, [{**answer["events"][0], "duplicate": True}])

    runs = await service.ended_runs(4)

    told = sorted((run["pipeline"], run["trigger"], run["state"]) for run in runs)
    assert told == [
        ("announce", "orders-loaded", "succeeded"),
        ("announce", "orders-loaded", "succeeded"),
        ("orders", "file-arrived", "succeeded"),
        ("orders", "order-posted", "succeeded"),
    ]
    posted = next(run for run in runs if run["trigger"] == "order-posted")
    assert [event["uid"] for event in posted["events"]] == [answer["events"][0]["event"]]
    lineage = await service.read(f"lineage?event={answer['events'][0]['event']}&direction=down")
    assert {node["kind"] for node in lineage["nodes"]} >= {
        "event",
        "decision",
        "trigger_event",
        "run",
        "task",
        "dataset",
    }
    assert _rows(service.folder) == (1, await _rows_of(service))

    assert await service.stop() == 0
    assert "Traceback" not in service.log
    shutil.copy(DATA / "orders-broken.csv", service.inbox)  # while it is down
    await service.start()
    after = await service.ended_runs(5)

    assert after[:4] == runs
    assert (after[4]["pipeline"], after[4]["state"]) == ("orders", "failed")
    assert "0 rows, expected at least 1" in after[4]["error"]
    assert _rows(service.folder) == (1, await _rows_of(service))
    assert await service.stop(signal.SIGINT) == 0


async def test_a_trace_survives_a_restart(service: QuickstartService, collector: OtlpReceiver) -> None:
    """The links of a run that went on after a restart reach the span of its causing event, sent before it."""
    (service.folder / "examples" / "01-orders" / "pipeline.py").write_text(_SLOW)
    await service.start()
    status, answer = await service.post_order(ORDER)
    assert status == 202
    await service.until(lambda: _started(service))
    collector.wait(lambda here: any(span.name.startswith("process") for span in here.spans), 20)

    await service.stop(signal.SIGKILL)
    (service.folder / "go").touch()
    await service.start()
    runs = await service.ended_runs(1)
    assert await service.stop() == 0

    run = next(one for one in runs if one["pipeline"] == "orders")
    assert run["state"] == "succeeded"
    assert [event["uid"] for event in run["events"]] == [answer["events"][0]["event"]]
    collector.wait(lambda here: any(span.span_id == run["span_id"] for span in here.spans), 20)
    reached = _reached(collector.spans, run["span_id"])
    caused = [span for span in reached if span.name.startswith("process")]
    assert caused, f"from the run one reaches only {[span.name for span in reached]}"
    assert {span.trace_id for span in caused} == {run["trace_id"]}


# Waits in its first attempt for a file that only comes after the service was killed.
_SLOW = """
import time
from pathlib import Path
from typing import Any

from pipelines.authoring import pipeline, task


@task
def extract(path: str | None = None, order: dict[str, Any] | None = None) -> int:
    Path("started").touch()
    while not Path("go").exists():
        time.sleep(0.05)
    return 1


@task
def clean(extract: int) -> int:
    return extract


orders_pipeline = pipeline("orders", [clean])
"""


async def _started(service: QuickstartService) -> bool:
    return (service.folder / "started").exists()


def _reached(spans: list[Seen], start: str) -> list[Seen]:
    """Return all spans that parents and links lead to."""
    by_id = {span.span_id: span for span in spans}
    todo, found = [start], dict[str, Seen]()
    while todo:
        span = by_id.get(todo.pop())
        if span is not None and span.span_id not in found:
            found[span.span_id] = span
            todo += [*span.links, span.parent_id]
    return list(found.values())


def _rows(folder: Path) -> tuple[int, int]:
    """Return how often the posted order is in the table, and how many rows there are."""
    import duckdb

    with duckdb.connect(str(folder / ".tidegate" / "warehouse.duckdb"), read_only=True) as warehouse:
        found: Any = warehouse.execute(
            "select count(*) filter (order_id = ?), count(*) from orders", [ORDER["order_id"]]
        )
        mine, rows = found.fetchall()[0]
        return mine, rows


async def _rows_of(service: QuickstartService) -> int:
    """Return the rows of the table as the ledger has them."""
    items = (await service.read("datasets"))["items"]
    rows: int = next(item["rows"] for item in items if item["name"].endswith("/main.orders"))
    return rows
