"""Errors: one shape for all, honest about whose fault it is, and nothing inside shown outside."""

from typing import Any

import httpx2 as httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.house import FakeHouse

READS = ["events", "runs", "triggers", "sensors", "datasets", "dead-letters", "pipelines", f"runs/run_{'0' * 26}"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/api/v1/nothing", 404),
        ("PUT", "/api/v1/runs", 405),
        ("DELETE", "/healthz", 405),
        ("GET", "/api/v1/events/evt_x", 422),
        ("GET", f"/api/v1/events/evt_{'0' * 26}", 404),
        ("GET", f"/api/v1/runs/evt_{'0' * 26}", 422),
        ("GET", "/api/v1/sensors/nobody", 404),
        ("GET", "/api/v1/sensors/a%00b", 404),
        ("GET", "/api/v1/sensors/%ED%A0%80", 404),
        ("GET", "/api/v1/events?limit=0", 422),
        ("GET", "/api/v1/events?limit=501", 422),
        ("GET", "/api/v1/events?sensor=%00", 422),
        ("GET", "/api/v1/events?since=yesterday", 422),
        ("GET", "/api/v1/events?since=2026-01-01T00:00:00", 422),
        ("GET", "/api/v1/runs?state=flying", 422),
        ("GET", f"/api/v1/runs/run_{'0' * 26}/logs?after=-1", 422),
        ("GET", f"/api/v1/runs/run_{'0' * 26}/logs?after=99999999999999999999", 422),
    ],
)
async def test_every_error_is_a_problem(
    method: str, path: str, status: int, house: FakeHouse, client: httpx.AsyncClient
) -> None:
    """Whatever is wrong with a request, the answer is a problem with the right status and its phrase."""
    answer = await client.request(method, path)

    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.json()["status"] == status
    assert answer.json()["title"]
    assert answer.json()["type"] == "about:blank"
    if status == 405:
        assert answer.headers["allow"]


@pytest.mark.parametrize("path", READS)
async def test_a_store_that_is_away_is_503(path: str, house: FakeHouse, client: httpx.AsyncClient) -> None:
    """When the store cannot answer, the caller is told to come again, in whole seconds, and not why."""
    house.down = True

    answer = await client.get(f"/api/v1/{path}")

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "4")
    assert "database" not in answer.text


async def test_our_own_fault_says_nothing_of_the_inside(
    house: FakeHouse, client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug of ours is a 500 without its message; the log has it."""

    def broken() -> Any:
        raise RuntimeError("secret inside")

    house.sensor_health = broken  # type: ignore[method-assign]

    answer = await client.get("/api/v1/sensors")

    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert "secret" not in answer.text
    assert "secret inside" in caplog.text


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["sensor", "type", "id", "cursor", "since", "limit", "until"]),
    value=st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
)
async def test_no_query_breaks_a_list(name: str, value: str, house: FakeHouse, client: httpx.AsyncClient) -> None:
    """Any text in any parameter is an answer or the caller's mistake, never our fault."""
    answer = await client.get("/api/v1/events", params={name: value})

    assert answer.status_code in (200, 422)
