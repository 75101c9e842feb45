"""Checks agree with the plainest Python for whatever data hypothesis draws, on frames and in the database."""

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import re2
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.checks.data import share
from pipelines.checks.evaluate import evaluate
from pipelines.checks.finding import Around
from pipelines.checks.results import MAX_SAMPLE, told
from pipelines.checks.spec import CheckSpec, labels
from pipelines.datasets.written import Last

FEW = settings(max_examples=30, deadline=None)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
SPECS = st.builds(CheckSpec, st.sampled_from(["unique", "row_count"]), st.just({"columns": ["a"]}), name=TEXT)


def passed(held: list[Any], kind: str, dtype: Any, last: Last | None = None, **options: Any) -> bool:
    frame = pl.DataFrame({"v": pl.Series(held, dtype=dtype)})
    (finding,) = evaluate(frame, [CheckSpec(kind, options)], Around(now=0, last=last))
    told([finding], "d")  # whatever is found can be recorded
    return finding.passed


@FEW
@given(st.lists(st.integers(0, 3) | st.none()), st.floats(0, 1))
def test_a_share_of_nulls_is_the_share_of_nulls(values: list[int | None], allowed: float) -> None:
    """`not_null` passes exactly when no more than the share of the values is null."""
    expected = values.count(None) <= allowed * len(values)

    assert passed(values, "not_null", pl.Int64, columns=["v"], max_share=allowed) == expected


@FEW
@given(st.lists(TEXT | st.none()), st.lists(TEXT, min_size=1, max_size=4))
def test_accepted_values_are_members_of_a_set(values: list[str | None], accepted: list[str]) -> None:
    """`accepted_values` passes exactly when every value that is not null is in the list."""
    expected = all(value in accepted for value in values if value is not None)

    assert passed(values, "accepted_values", pl.String, column="v", values=accepted) == expected


@FEW
@given(
    st.lists(st.text("ab1\n.", max_size=6) | st.none()), st.sampled_from(["[ab]+1", "a|b1", "(?i)A*", ".*", "", "^a$"])
)
def test_a_pattern_matches_whole_values_as_re2_does(values: list[str | None], pattern: str) -> None:
    """`matches` passes exactly when RE2 matches the whole of every value that is not null, line breaks and all."""
    if not pattern:
        return
    expected = all(re2.fullmatch(pattern, value) is not None for value in values if value is not None)

    assert passed(values, "matches", pl.String, column="v", pattern=pattern) == expected


@FEW
@given(st.integers(0, 50), st.lists(st.integers(0, 50), max_size=5), st.integers(1, 5), st.floats(0, 1))
def test_a_drop_is_measured_against_the_median(rows: int, counts: list[int], of_last: int, drop: float) -> None:
    """`max_drop` compares with the median of the last writes; with none there is nothing to compare with."""
    from statistics import median

    last = Last(counts[0], (), tuple(counts)) if counts else None
    expected = not counts or rows >= median(counts[:of_last]) * (1 - drop)

    assert passed([1] * rows, "row_count", pl.Int64, last, max_drop=drop, of_last=of_last) == expected


@FEW
@given(st.lists(st.integers(-100_000, 100_000) | st.none(), max_size=6), st.integers(1, 100_000))
def test_freshness_is_the_age_of_the_newest(ages: list[int | None], allowed: int) -> None:
    """`freshness` passes exactly when the newest value is not older than allowed; no value at all is not fresh."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    frame = pl.DataFrame(
        {
            "v": pl.Series(
                [None if age is None else now - timedelta(seconds=age) for age in ages], dtype=pl.Datetime("us", "UTC")
            )
        }
    )
    spec = CheckSpec("freshness", {"column": "v", "max_age": f"{allowed}s"})
    (finding,) = evaluate(frame, [spec], Around(now=int(now.timestamp() * 1e6)))
    known = [age for age in ages if age is not None]

    assert finding.passed == (bool(known) and min(known) <= allowed)


@FEW
@given(st.integers(0, 10_000), st.integers(1, 10_000))
def test_a_percentage_is_never_rounded_to_a_lie(part: int, whole: int) -> None:
    """Something is never 0 %, and less than all is never 100 %."""
    part = min(part, whole)
    said = float(share(part, whole).rstrip("%"))

    assert (said == 0) == (part == 0)
    assert (said == 100) == (part == whole)


@FEW
@given(st.lists(SPECS, max_size=8))
def test_labels_are_all_different(specs: list[CheckSpec]) -> None:
    """However often a check comes, its results stay apart: own events and alerts are named after them."""
    found = labels(specs)

    assert len(set(found)) == len(specs)


@FEW
@given(st.lists(st.text(max_size=400), min_size=1, max_size=8))
def test_samples_are_bounded_and_storable(values: list[str]) -> None:
    """A sample never takes more than its bound, and holds nothing that text columns and JSON refuse."""
    frame = pl.DataFrame({"v": [value.encode("utf-8", "replace").decode() for value in values]})
    (finding,) = evaluate(frame, [CheckSpec("accepted_values", {"column": "v", "values": ["other"]})], Around(now=0))
    (row,) = told([finding], "d")

    assert row["sample"] is None or len(row["sample"].encode()) <= MAX_SAMPLE
    assert "\0" not in f"{row['message']}{row['actual']}{row['sample']}"
