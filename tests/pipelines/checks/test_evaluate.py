from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.checks.evaluate import evaluate
from pipelines.checks.finding import Around
from pipelines.checks.spec import CheckSpec
from pipelines.datasets.written import Last, schema_of

FRAME = pl.DataFrame(
    {
        "id": [1, 2, 2, None],
        "x": [0.5, -1.0, float("nan"), None],
        "day": ["2026-01-01", "2026-01-02", None, "2026-03-01"],
    }
).with_columns(pl.col("day").str.to_date())


def judge(kind: str, last: Last | None = None, frame: pl.DataFrame = FRAME, **options: Any) -> tuple[bool, str]:
    (finding,) = evaluate(frame, [CheckSpec(kind, options)], Around(now=0, last=last))
    return finding.passed, finding.message


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("row_count", {"min": 5}, "4 rows, expected at least 5"),
        ("row_count", {"max": 3}, "4 rows, expected at most 3"),
        ("between", {"column": "x", "min": 0, "max": 1}, "x: 2 of 4 values are not between 0 and 1, such as -1.0, nan"),
        ("between", {"column": "id", "max": 1}, "id: 2 of 4 values are not between any and 1, such as 2"),
        ("between", {"column": "day", "max": "2026-02-01"}, "day: 1 of 4 values are not"),
        ("between", {"column": "nope", "min": 0}, "column 'nope' is missing; there are id, x, day"),
        ("between", {"column": "day", "min": 5}, "between could not be evaluated"),
        (
            "not_null",
            {"columns": ["id", "x"]},
            "id: 1 of 4 values are null (25%); x: 1 of 4 values are null (25%), expected no nulls",
        ),
        ("unique", {"columns": ["id"]}, "id: 2 of 4 rows repeat a value, such as 2"),
        ("unique", {"columns": ["nope"]}, "column 'nope' is missing"),
        ("vibes", {}, "there is no check 'vibes'; known are row_count"),
        ("not_null", {}, "not_null: the option 'columns' is missing"),
        ("not_null", {"columns": []}, "not_null: columns: Value should have at least 1 item"),
    ],
)
def test_what_fails_says_what_was_found(kind: str, options: dict[str, Any], message: str) -> None:
    """A check that does not pass says what was expected, what was found, and shows offending values."""
    passed, said = judge(kind, **options)

    assert not passed
    assert message in said


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("row_count", {"min": 4, "max": 4}),
        ("row_count", {"max_drop": 0.1}),
        ("between", {"column": "id", "min": 1, "max": 2}),
        ("between", {"column": "day", "min": "2026-01-01"}),
        ("not_null", {"columns": ["id"], "max_share": 0.25}),
        ("unique", {"columns": ["id", "x"]}),
        ("columns_match_last", {}),
    ],
)
def test_what_fits_passes(kind: str, options: dict[str, Any]) -> None:
    """Bounds belong to the range, nulls pass `between`, and the first write has nothing to be compared with."""
    assert judge(kind, **options)[0]


def test_drops_are_measured_against_the_last_write() -> None:
    """`max_drop` is the share of the last recorded rows that may be missing."""
    assert judge("row_count", Last(8, ()), max_drop=0.5) == (True, "4 rows")
    assert judge("row_count", Last(9, ()), max_drop=0.5) == (
        False,
        "4 rows are 56% fewer than the last 9, allowed are 50% fewer",
    )


def test_columns_are_compared_with_the_last_write() -> None:
    """Missing, new and retyped columns are named."""
    last = Last(1, (("id", "String"), ("gone", "Int64"), ("x", "Float64")))

    assert judge("columns_match_last", last) == (
        False,
        "columns differ from the last write: missing gone; new day; id was String and is Int64",
    )
    assert judge("columns_match_last", Last(1, schema_of(FRAME)))[0]


@given(st.lists(st.integers(-100, 100) | st.none()), st.integers(-100, 100), st.integers(-100, 100))
def test_between_agrees_with_plain_comparison(values: list[int | None], low: int, high: int) -> None:
    """`between` passes exactly when every value that is not null lies in the range."""
    low, high = sorted((low, high))
    frame = pl.DataFrame({"v": pl.Series(values, dtype=pl.Int64)})

    expected = all(low <= value <= high for value in values if value is not None)

    assert judge("between", frame=frame, column="v", min=low, max=high)[0] == expected


@given(st.lists(st.integers(0, 5) | st.none()))
def test_unique_agrees_with_a_set(values: list[int | None]) -> None:
    """`unique` passes exactly when no value, null included, comes twice."""
    frame = pl.DataFrame({"v": pl.Series(values, dtype=pl.Int64)})

    assert judge("unique", frame=frame, columns=["v"])[0] == (len(set(values)) == len(values))
