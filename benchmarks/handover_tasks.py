"""The functions that the benchmark of the hand-over calls, in our workers and in the baseline's."""

import polars as pl


def make(rows: int) -> pl.DataFrame:
    """Make a frame of two columns of eight bytes."""
    return pl.DataFrame(
        {"id": pl.int_range(rows, eager=True), "amount": pl.int_range(rows, eager=True).cast(pl.Float64)}
    )


def total(make: pl.DataFrame) -> int:
    """Read one column whole."""
    return int(make["id"].sum())


def expected(rows: int) -> int:
    """Return what `total` must say."""
    return rows * (rows - 1) // 2


def nothing() -> None:
    """Do nothing."""
