"""What every store promises about the rows that runs wrote."""

from pipelines.run import DatasetWrite
from tests.support.stores import T0, do, run, task
from tidegate.store.tx import Store, Tx


async def test_an_arrow_has_the_rows_of_its_own_run(store: Store) -> None:
    """Whatever others wrote since, the arrow tells what this run wrote, all parts together; none where not known."""

    def write(tx: Tx) -> None:
        tx.insert_runs([run("run_1"), run("run_2"), run("run_3")], [task("tsk_1", "run_1")])
        tx.insert_datasets("run_1", [_wrote("daily", 40, T0), _wrote("daily", 2, T0 + 1), _wrote("other", 1, T0)], [])
        tx.insert_datasets("run_2", [_wrote("daily", 7, T0 + 2)], [])
        tx.insert_datasets("run_3", [_wrote("daily", None, T0 + 3)], [])

    await do(store, write)
    up = await store.read(lambda reader: reader.lineage(dataset="daily", down=False))
    down = await store.read(lambda reader: reader.lineage(run="run_1", up=False))

    assert {edge["from"]: edge["rows"] for edge in up["edges"]} == {"run_1": 42, "run_2": 7, "run_3": None}
    assert {edge["to"]: edge["rows"] for edge in down["edges"] if edge["kind"] == "wrote"} == {
        "db://w/daily": 42,
        "db://w/other": 1,
    }


def _wrote(name: str, rows: int | None, at: int) -> DatasetWrite:
    return DatasetWrite(namespace="db://w", name=name, task=f"t{at}", at=at, mode="write", rows=rows)
