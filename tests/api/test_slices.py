"""Tasks that fan out in the API: counted with their task, listed by page; graphs drawn."""

from dataclasses import replace

import httpx2 as httpx

from pipelines.run import TaskState
from tests.support.house import FakeHouse
from tests.support.stores import do


async def _fan_out(house: FakeHouse, run: str, count: int) -> str:
    """Give the first task of a run slices, every third of them failed; return its name."""
    node = (await house.real_store.read(lambda reader: list(reader.nodes(run))))[0]
    slices = [
        replace(
            node,
            uid=f"tsk_{n:026}",
            partition=f"p{n}",
            item=str(n),
            state=TaskState.SUCCEEDED if n % 3 else TaskState.FAILED,
            error=None if n % 3 else "no",
        )
        for n in range(count)
    ]
    await do(house.real_store, lambda tx: tx.upsert_tasks(slices))
    return node.task


async def test_slices_have_a_list_of_their_own(lived_in: FakeHouse, client: httpx.AsyncClient) -> None:
    """A run shows its tasks with counts by state; the slices come by page, filtered by task and state."""
    run = (await client.get("/api/v1/runs?state=succeeded")).json()["items"][0]["uid"]
    task = await _fan_out(lived_in, run, 25)

    shown = (await client.get(f"/api/v1/runs/{run}")).json()
    assert [one["slices"] for one in shown["tasks"] if one["task"] == task] == [{"succeeded": 16, "failed": 9}]
    assert all(not one["partition"] for one in shown["tasks"])

    names: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        query = f"limit=10&task={task}" + (f"&cursor={cursor}" if cursor else "")
        page = (await client.get(f"/api/v1/runs/{run}/slices?{query}")).json()
        names += [one["partition"] for one in page["items"]]
        cursor = page["cursor"]
    assert names == [f"p{n}" for n in range(25)]
    failed = (await client.get(f"/api/v1/runs/{run}/slices?state=failed")).json()["items"]
    assert [one["partition"] for one in failed] == [f"p{n}" for n in range(0, 25, 3)]
    assert (await client.get("/api/v1/runs/run_" + "0" * 26 + "/slices")).status_code == 404
    assert (await client.get(f"/api/v1/runs/{run}/slices?state=odd")).status_code == 422


async def test_graphs_are_drawn(lived_in: FakeHouse, client: httpx.AsyncClient) -> None:
    """Pipelines and runs as SVG (that may hold no script), Mermaid and text."""
    run = (await client.get("/api/v1/runs?state=failed")).json()["items"][0]["uid"]
    for place in ("pipelines/orders", f"runs/{run}"):
        picture = await client.get(f"/api/v1/{place}/graph")
        assert picture.headers["content-type"] == "image/svg+xml"
        assert "default-src 'none'" in picture.headers["content-security-policy"]
        assert picture.text.startswith("<svg ")
        assert (await client.get(f"/api/v1/{place}/graph?format=mermaid")).text.startswith("flowchart TD\n")
        assert (await client.get(f"/api/v1/{place}/graph?format=text")).text.count("\n") >= 1
        assert (await client.get(f"/api/v1/{place}/graph?format=png")).status_code == 422
    assert (await client.get("/api/v1/pipelines/none/graph")).status_code == 404
