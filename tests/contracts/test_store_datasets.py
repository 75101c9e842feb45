"""The history of datasets, on every store: what each write did, by whichever name somebody asks."""

from functools import partial
from typing import Any

from pipelines.run import DatasetWrite
from tests.support.stores import T0, do
from tidegate.store.tx import Store, Tx


def write(version: str, **more: Any) -> DatasetWrite:
    """Return a write of the dataset that is configured as `daily`."""
    common = {"namespace": "postgres://db:5432", "name": "shop.public.daily", "task": "load", "at": T0}
    return DatasetWrite(**{**common, "dataset": "daily", "version": version, **more})


def _insert(run: str, one: DatasetWrite, tx: Tx) -> None:
    tx.insert_datasets(run, [one], [])


async def test_a_write_says_how_and_what_it_changed(store: Store) -> None:
    """Disposition, partition, configured name and changes of columns come back as they were recorded."""
    changes = {"added": [["amount", "Float64"]], "retyped": [["id", "Int32", "Int64"]]}
    one = write("v1", disposition="merge", partition="2026-01-31", changes=changes, rows=3, bytes=9)
    await do(store, lambda tx: tx.insert_datasets("run_1", [one], []))

    for name in ("daily", "shop.public.daily"):
        (found,) = await store.read(lambda reader, name=name: reader.dataset(name))  # type: ignore[misc]
        assert (found["dataset"], found["disposition"], found["partition"]) == ("daily", "merge", "2026-01-31")
        assert found["changes"] == changes
    assert await store.read(lambda reader: reader.dataset("daily", "duckdb")) == []
    assert await store.read(lambda reader: reader.dataset("other")) == []
    graph = await store.read(lambda reader: reader.lineage(dataset="daily"))
    assert {node["kind"] for node in graph["nodes"]} >= {"dataset"}


async def test_the_history_is_paged_newest_first(store: Store) -> None:
    """Writes and reads of one dataset come newest first, page by page, and none of another one."""
    writes = [write(f"v{n}", mode="read" if n == 2 else "write") for n in range(5)]
    for number, one in enumerate(writes):
        await do(store, partial(_insert, f"run_{number}", one))
    await do(store, lambda tx: tx.insert_datasets("run_9", [write("x", name="shop.public.other", dataset="")], []))
    place = ("postgres://db:5432", "shop.public.daily")
    first, cursor = await store.read(lambda reader: reader.dataset_writes(*place, limit=3))
    rest, end = await store.read(lambda reader: reader.dataset_writes(*place, limit=3, cursor=cursor))

    assert [(row["version"], row["run"]) for row in (*first, *rest)] == [(f"v{n}", f"run_{n}") for n in (4, 3, 2, 1, 0)]
    assert (cursor is not None, end) == (True, None)
    assert [row["mode"] for row in first] == ["write", "write", "read"]
