"""Health, readiness and metrics tell the truth."""

import httpx2 as httpx
import pytest

from tests.support.house import FakeHouse


async def test_the_process_is_alive_whatever_the_store_does(house: FakeHouse, client: httpx.AsyncClient) -> None:
    """/healthz answers as long as the process can, and names the version."""
    house.down = True
    house.readiness = (False, "the disk is full")

    answer = await client.get("/healthz")

    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "version": "9.9.9"})


async def test_readiness_fails_with_its_reason(house: FakeHouse, client: httpx.AsyncClient) -> None:
    """/readyz fails when the process cannot durably accept, and says why."""
    house.readiness = (False, "the disk is full")

    answer = await client.get("/readyz")

    assert (answer.status_code, answer.json()["reason"]) == (503, "the disk is full")
    assert answer.headers["retry-after"]


@pytest.mark.parametrize(
    ("query", "status"), [("", 200), ("?strict", 503), ("?strict=true", 503), ("?strict=false", 200)]
)
async def test_strict_readiness_fails_on_an_ill_sensor(
    query: str, status: int, house: FakeHouse, client: httpx.AsyncClient
) -> None:
    """An ill sensor does not take the process out of service, unless strictly asked; it is always listed."""
    house.health["landing"] = {"state": "unhealthy", "reason": "the folder is gone"}

    answer = await client.get(f"/readyz{query}")

    assert answer.status_code == status
    assert answer.json()["sensors"]["landing"]["state"] == "unhealthy"


async def test_metrics_are_prometheus_text(house: FakeHouse, client: httpx.AsyncClient) -> None:
    """/metrics is text in the format that Prometheus reads."""
    answer = await client.get("/metrics")

    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "tidegate_up 1" in answer.text
