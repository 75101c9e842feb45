"""Alerts over HTTP: the list, the test of a route, and health."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from config.model import AlertRoute
from pipelines.run import RunState
from tests.support.asking import client_of
from tests.support.house import EVIL, FakeHouse, config
from tests.support.stores import T0, do
from tidegate.alerts.planning import PlanAlerts
from tidegate.alerts.sender import Tried
from tidegate.store.alert_records import MessageEnd, Undelivered
from tidegate.store.factory import open_store

SECRET = "s3cr3t-t0k3n"
ROUTE = AlertRoute(
    name="oncall", to=(f"https://hooks.test/{SECRET}",), events=frozenset({"run_failed", "dead_letter", "resolved"})
)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[FakeHouse]:
    store = open_store("memory:", shard="test")
    await store.open()
    yield FakeHouse(store, config(tmp_path, alerts={"oncall": ROUTE}, url="https://gate.test"))
    await store.close()


async def _tried(house: FakeHouse, error: str = "answered 500") -> None:
    """Let one attempt of everything fail."""
    await house.real_store.submit(PlanAlerts(house.rules), None)
    for one in await do(house.real_store, lambda tx: tx.claim_messages(10, 60_000_000)):
        end = MessageEnd(one.message, one.target, one.attempts, "pending", T0, error)
        await do(house.real_store, lambda tx, end=end: tx.end_attempt(end))  # type: ignore[misc]


async def _list(client: httpx.AsyncClient, **query: Any) -> list[Any]:
    answer = await client.get("/api/v1/alerts", params=query)
    assert answer.status_code == 200, answer.text
    items: list[Any] = answer.json()["items"]
    return items


async def test_a_failed_run_is_listed_with_what_its_delivery_met(house: FakeHouse, client: httpx.AsyncClient) -> None:
    """Kind, cause, link, attempts, next try; of the target scheme and machine, never more."""
    await house.receive("a.csv")
    (run,) = await house.work(RunState.FAILED)
    before = await _list(client)
    await _tried(house)
    (alert,) = await _list(client, route="oncall", kind="run_failed", state="pending")

    assert before[0]["deliveries"] == []
    assert (alert["kind"], alert["subject"], alert["state"], alert["severity"]) == (
        "run_failed",
        "orders",
        "pending",
        "error",
    )
    assert alert["link"] == f"https://gate.test/console/runs/{run.uid}"
    assert alert["labels"]["refs"] == {"run": run.uid}
    assert alert["labels"]["tags"] == ["in"]
    (delivery,) = alert["deliveries"]
    assert (delivery["target"], delivery["attempts"], delivery["error"]) == ("https://hooks.test", 1, "answered 500")
    assert delivery["next_try"] == "2025-06-15T15:06:40Z"
    assert await _list(client, state="sent") == []
    assert await _list(client, kind="nonsense") == []


async def test_hostile_text_is_harmless(house: FakeHouse, client: httpx.AsyncClient) -> None:
    """What a sender wrote is one clean line in the list, and text on the page."""
    await house.bury()
    (alert,) = await _list(client)
    page = (await client.get("/")).text

    assert "\x1b" not in alert["text"]
    assert "\n" not in alert["text"]
    assert EVIL.split("\x1b")[0] in alert["text"]
    assert "<script>alert(1)" not in page
    assert "dead letter" in page


async def test_a_test_says_what_each_target_did(house: FakeHouse, client: httpx.AsyncClient) -> None:
    """The answer names each target and its reason; an unknown route is 404."""
    house.tests = {"oncall": [Tried("https://hooks.test", True, ""), Tried("mailto://mail.test", False, "550 no")]}
    answer = await client.post("/api/v1/alerts/oncall/test")
    unknown = await client.post("/api/v1/alerts/nobody/test")

    assert answer.json() == {
        "route": "oncall",
        "ok": False,
        "targets": [
            {"target": "https://hooks.test", "ok": True, "error": ""},
            {"target": "mailto://mail.test", "ok": False, "error": "550 no"},
        ],
    }
    assert unknown.status_code == 404


async def test_health_lists_what_could_not_be_delivered(house: FakeHouse) -> None:
    """Readiness does not fail by it, but shows it to who may know."""
    house.not_delivered = [Undelivered("oncall", 3, T0, "answered 500")]
    async with client_of(house) as client:
        ready = (await client.get("/readyz")).json()
    async with client_of(house, "0.0.0.0:8080") as stranger:
        less = (await stranger.get("/readyz")).json()

    assert ready["ready"] is True
    assert ready["undelivered_alerts"] == [
        {"route": "oncall", "messages": 3, "since": "2025-06-15T15:06:40Z", "error": "answered 500"}
    ]
    assert less["undelivered_alerts"] is None


async def test_the_console_shows_alerts_and_why_they_wait(house: FakeHouse, client: httpx.AsyncClient) -> None:
    """Beside runs and sensors: what people were told, and on hovering what the delivery met."""
    await house.receive("a.csv")
    await house.work(RunState.FAILED)
    await _tried(house)
    page = (await client.get("/")).text

    assert "Alerts" in page
    assert "run failed" in page
    assert "https://hooks.test: answered 500" in page
    assert SECRET not in page
