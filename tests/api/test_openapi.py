"""The OpenAPI document: complete, and the same every time."""

from typing import Any

import httpx2 as httpx

from tests.support.house import FakeHouse


async def test_every_operation_declares_its_problems(house: FakeHouse, client: httpx.AsyncClient) -> None:
    """Each operation says that it may want a token and that the store may be away; nothing is FastAPI's own shape."""
    document: dict[str, Any] = (await client.get("/api/openapi.json")).json()

    assert "HTTPValidationError" not in document["components"]["schemas"]
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert {"401", "403", "503"} <= set(operation["responses"]), f"{method} {path}"
            assert operation["summary"], f"{method} {path}"


async def test_operations_have_short_unique_names(house: FakeHouse, client: httpx.AsyncClient) -> None:
    """Generated clients get readable names."""
    document = (await client.get("/api/openapi.json")).json()
    names = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]

    assert len(set(names)) == len(names)
    assert {"list_runs", "start_run", "explain_event", "show_lineage"} <= set(names)


async def test_the_promised_paths_are_there(house: FakeHouse, client: httpx.AsyncClient) -> None:
    """What the interface promises for this version exists."""
    paths = set((await client.get("/api/openapi.json")).json()["paths"])

    promised = {
        "events", "events/{uid}", "events/{uid}/explain", "sensors", "sensors/{name}/pause", "sensors/{name}/resume",
        "sensors/{name}/poll", "triggers", "triggers/{name}/pause", "triggers/{name}/resume",
        "triggers/{name}/decisions", "runs", "runs/{uid}", "runs/{uid}/cancel", "runs/{uid}/resume",
        "runs/{uid}/logs", "runs/resume", "pipelines", "datasets", "lineage", "dead-letters", "stream",
    }  # fmt: skip
    assert {f"/api/v1/{path}" for path in promised} | {"/healthz", "/readyz", "/metrics"} <= paths
