"""Folders: what lies in them, how other tools read it, and that what nobody needs goes."""

import os
from pathlib import Path

import duckdb
import orjson
import polars as pl
import pytest

from pipelines.datasets.folder import LINGER
from pipelines.datasets.written import TargetUnusable
from tests.support.dataset_places import Place, stamp

DAYS = pl.DataFrame({"id": [1, 2, 3], "day": ["a/b", "a/b", "c"]})


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(name="parquet-folder", uri="parquet://{}/", base=tmp_path)


def _manifest(place: Place) -> dict[str, list[str]]:
    found: dict[str, list[str]] = orjson.loads((place.base / "orders" / "_manifest.json").read_bytes())
    return found


def test_other_tools_read_what_the_manifest_lists(place: Place) -> None:
    """DuckDB and Polars see exactly the dataset through `files`, also after columns came and parts went."""
    place.write(DAYS)
    place.write(DAYS.head(1), stamp("run_2", at=2))
    place.write(pl.DataFrame({"id": [9], "size": [1.5]}), stamp("run_3", at=3), "append")
    with duckdb.connect() as connection:
        where = str(place.base / "orders" / "_manifest.json")
        connection.execute(f"set variable files = (select files from read_json('{where}'))")
        rows = connection.execute(
            "select id, day, size from read_parquet(getvariable('files'), union_by_name = true) order by id"
        ).fetchall()

    assert rows == [(1, "a/b", None), (9, None, 1.5)]
    frame = pl.concat([pl.read_parquet(file) for file in _manifest(place)["files"]], how="diagonal")
    assert frame["id"].to_list() == [1, 9]


def test_partitions_are_folders(place: Place) -> None:
    """Each partition has a folder with a safe name; one that does not come keeps its files."""
    place.write(DAYS, partition_by=["day"])
    first = set(_manifest(place)["files"])
    place.write(pl.DataFrame({"id": [4], "day": ["c"]}), stamp("run_2", at=2), partition_by=["day"])
    kept = first & set(_manifest(place)["files"])

    assert {Path(file).parent.name for file in first} == {"day=a%2Fb", "day=c"}
    assert [Path(file).parent.name for file in kept] == ["day=a%2Fb"]
    assert place.ids() == [1, 2, 4]


def test_parts_that_nobody_names_go_after_an_hour(place: Place) -> None:
    """Replaced parts, and those of writers that died, stay while readers may need them; then a write removes them."""
    folder = place.base / "orders"
    place.write(DAYS, stamp(at=LINGER))
    (orphan := folder / "part-run_x-1-1-dead-0.parquet").write_bytes(b"never named")
    (other := folder / "mine.parquet").write_bytes(b"somebody else's")
    place.write(DAYS, stamp("run_2", at=LINGER + 1))
    assert len(list(folder.glob("part-*"))) == 3
    for file in folder.iterdir():
        os.utime(file, (1.0, 1.0))
    place.write(DAYS, stamp("run_3", at=3 * LINGER))

    assert not orphan.exists()
    assert other.exists()
    assert len(list(folder.glob("part-*"))) == 2  # what is named now, and what was until now
    assert place.ids() == [1, 2, 3]


def test_a_damaged_manifest_and_lost_parts_are_named(place: Place) -> None:
    """Neither is taken for an empty dataset: both say which file, and what to do."""
    place.write(DAYS)
    for part in (place.base / "orders").glob("part-*"):
        part.unlink()
    with pytest.raises(TargetUnusable, match=r"parts of .* are missing"):
        place.read()
    (place.base / "orders" / "_manifest.json").write_text("{")
    with pytest.raises(TargetUnusable, match=r"_manifest\.json is damaged"):
        place.write(DAYS, stamp("run_2", at=2))
