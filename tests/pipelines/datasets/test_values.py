"""Values between tasks come back as they were, in the library that the reader asks for, mapped and not copied."""

from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa  # type: ignore[import-untyped]  # it has no types
import pytest

from pipelines.datasets.values import ValueTrouble, keep, load
from tests.support.memory import anonymous


def frame() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "id": [1, 2, None],
            "text": ["a", None, "ü" * 50],
            "kind": pl.Series(["x", "y", "x"], dtype=pl.Enum(["x", "y"])),
            "cat": pl.Series(["p", "q", "p"], dtype=pl.Categorical),
            "many": [[1], [], None],
            "nested": [{"a": 1}, {"a": None}, None],
            "when": pl.Series([0, 1, 2], dtype=pl.Datetime("us", "UTC")),
            "amount": pl.Series(["1.10", None, "3.00"]).cast(pl.Decimal(10, 2)),
        }
    )


@pytest.mark.parametrize("value", [frame(), frame().clear(), frame().select("id")], ids=["all", "empty", "one-column"])
def test_a_polars_frame_comes_back_equal(value: pl.DataFrame, tmp_path: Path) -> None:
    """Every type of a frame survives, the rare ones too."""
    back = load(keep(value, tmp_path, "v"))

    assert back.equals(value)
    assert back.schema == value.schema


def test_a_lazy_frame_is_written_as_it_is_computed_and_can_be_asked_for(tmp_path: Path) -> None:
    """It is never a frame in memory on the way; a reader that asks for a lazy one scans the file."""
    output = keep(frame().lazy().filter(pl.col("id") == 1), tmp_path, "v")
    lazy = load(output, "polars.LazyFrame")

    assert (output["$value"]["rows"], output["$value"]["schema"][0]) == (1, ("id", "Int64"))
    assert isinstance(lazy, pl.LazyFrame)
    assert lazy.collect().equals(frame().head(1))


def test_an_arrow_table_comes_back_as_one_and_as_what_is_asked_for(tmp_path: Path) -> None:
    """Tables keep schema and metadata; a Polars reader of an Arrow writer gets a Polars frame."""
    table = pa.table({"id": [1, 2]}, metadata={"made": "here"})
    output = keep(table, tmp_path, "v")

    assert load(output).equals(table)
    assert load(output).schema.metadata == {b"made": b"here"}
    assert load(output, "polars.DataFrame").equals(pl.DataFrame({"id": [1, 2]}))
    assert load(keep(frame().select("id"), tmp_path, "w"), "pyarrow.Table").column_names == ["id"]


def test_reading_a_large_frame_takes_no_memory_of_its_own(tmp_path: Path) -> None:
    """100 MB are mapped: the reader's own memory grows by less than a tenth of that."""
    rows = 12_500_000
    output = keep(pl.LazyFrame({"id": pl.int_range(rows, eager=True)}), tmp_path, "v")
    assert Path(output["$value"]["path"]).stat().st_size > 95_000_000
    load(keep(frame(), tmp_path, "warm-up"))
    before = anonymous()
    back = load(output)
    total = back["id"].sum()

    assert total == rows * (rows - 1) // 2
    assert anonymous() - before < 10_000_000


def test_a_list_of_slices_outputs_is_a_list_of_their_values(tmp_path: Path) -> None:
    """Frames among the outputs of a task that fanned out come as frames; what did not succeed is None."""
    frames = [frame().select("id"), frame().select("id").head(1)]
    outputs = [keep(one, tmp_path, f"v{n}") for n, one in enumerate(frames)]
    back = load([outputs[0], None, outputs[1]])

    assert [None if one is None else one.height for one in back] == [3, None, 1]
    assert load([1, {"a": 2}]) == [1, {"a": 2}]


class Odd:
    """Something that JSON cannot hold."""


@pytest.mark.parametrize(
    ("value", "said"),
    [
        pytest.param(Odd(), r"returned a tests\.pipelines\.datasets\.test_values\.Odd, which", id="itself"),
        pytest.param({"rows": [1, {2}]}, r"a dict in which \['rows'\]\[1\] is a builtins\.set", id="inside"),
        pytest.param([b"x"], r"a list in which \[0\] is a builtins\.bytes", id="bytes"),
    ],
)
def test_what_cannot_be_handed_on_is_named_with_its_place(value: Any, said: str, tmp_path: Path) -> None:
    """The type, where in the value it stands, and what to return instead."""
    with pytest.raises(ValueTrouble, match=rf"{said}.*return a DataFrame or plain values"):
        keep(value, tmp_path, "v")
