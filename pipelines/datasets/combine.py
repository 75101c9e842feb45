"""What is in files and what is to be written become what will be in them: dispositions on Polars DataFrames. Pure.

Databases do the same in SQL (`sql_table`). One contract suite holds both to it.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pipelines.datasets.columns import ColumnPlan, plan_columns, require
from pipelines.datasets.written import How, Schema, Stamp, WriteRefused, schema_of

if TYPE_CHECKING:
    import polars as pl

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WIDER = {
    "Int8": {"Int16", "Int32", "Int64", "Float32", "Float64"},
    "Int16": {"Int32", "Int64", "Float32", "Float64"},
    "Int32": {"Int64", "Float64"},
    "UInt8": {"UInt16", "UInt32", "UInt64", "Int16", "Int32", "Int64", "Float32", "Float64"},
    "UInt16": {"UInt32", "UInt64", "Int32", "Int64", "Float32", "Float64"},
    "UInt32": {"UInt64", "Int64", "Float64"},
    "Float32": {"Float64"},
    "Categorical": {"String"},
    "Enum": {"String"},
}


def fits(there: str, coming: str) -> bool:
    """Say whether values of one Polars type go into a column of another without loss."""
    plain = coming.partition("(")[0]
    return coming in (there, "Null") or there in _WIDER.get(plain, ())


def check_frame(frame: Any, how: How, stamp: Stamp, dataset: str) -> None:
    """Raise WriteRefused for rows that the dataset's `key`, `partition_by` or `deleted_at` cannot take."""
    import polars as pl

    coming = schema_of(frame)
    if not coming:
        raise WriteRefused("a DataFrame without columns cannot become a table; return one with columns")
    if how.mode == "soft_delete" and how.deleted_at in frame.columns:
        raise WriteRefused(f"{dataset} notes in {how.deleted_at} when a row went; leave that column out")
    if how.mode in ("merge", "soft_delete"):
        require(how.key, coming, "key", dataset)
        keys = frame.select(how.key)
        nulls = [name for name in how.key if keys[name].null_count()]
        if nulls:
            raise WriteRefused(f"the key of {dataset} has nulls in {', '.join(nulls)}; every row needs a key")
        if keys.is_duplicated().any():
            row = keys.filter(keys.is_duplicated()).row(0)
            raise WriteRefused(
                f"the key ({', '.join(how.key)}) of {dataset} is not unique in what comes: {row!r:.200} is there more "
                "than once; keep one row of each"
            )
    if how.partition_by:
        require(how.partition_by, coming, "partition_by", dataset)
        column = how.partition_by[0]
        if stamp.partition and len(how.partition_by) == 1:
            values = frame[column].unique().cast(pl.String).to_list()
            others = sorted({str(value) for value in values if value != stamp.partition})
            if others:
                raise WriteRefused(
                    f"the run is of partition {stamp.partition!r}, but rows come of {column} {', '.join(others[:5])}; "
                    f"return the rows of its partition, or take `partition_by` off {dataset}"
                )


def combined(old: Any, new: Any, how: How, stamp: Stamp, dataset: str) -> Any:
    """Return the DataFrame that is to be there. `old` is None when nothing is."""
    import polars as pl

    if old is None:
        new = nulls_as_text(new)
        return _marked(new, how) if how.mode == "soft_delete" else new
    if how.schema == "free" and how.mode == "replace" and not how.partition_by:
        return nulls_as_text(new)
    if how.mode == "soft_delete" and how.deleted_at not in old.columns:
        old = _marked(old, how)
    own = (how.deleted_at,) if how.mode == "soft_delete" else ()
    there = tuple(column for column in schema_of(old) if column[0] not in own)
    plan = plan_columns(there, schema_of(new), how.schema, fits, dataset)
    old, new = _grown(old, new, plan)
    types = dict(old.schema)
    new = new.with_columns(pl.col(name).cast(types[name]) for name in new.columns)
    if how.mode == "append":
        return _under(old, new)
    if how.mode == "replace":
        return _under(old.filter(~_slice(old, new, how, stamp)) if how.partition_by else old.clear(), new)
    return _upserted(old, new, how, stamp, plan)


def nulls_as_text(frame: Any) -> Any:
    """Give columns that hold nothing but nulls, and no type, the type of text."""
    import polars as pl

    return frame.with_columns(pl.selectors.by_dtype(pl.Null).cast(pl.String))


def with_empty(frame: Any, names: Sequence[str]) -> Any:
    """Return the DataFrame with more columns, all null."""
    import polars as pl

    return frame.with_columns(pl.lit(None).cast(pl.String).alias(name) for name in names)


def _upserted(old: Any, new: Any, how: How, stamp: Stamp, plan: ColumnPlan) -> Any:
    """Return old rows updated by key (all that have it), and new ones; `soft_delete` marks those that are missing."""
    import polars as pl

    keys = list(how.key)
    kept = [name for name in plan.absent if name not in keys]  # what does not come stays as it is
    updated = old.select(*keys, *kept).join(new, on=keys, how="inner", maintain_order="left")
    fresh = new.join(old.select(keys), on=keys, how="anti", maintain_order="left")
    gone = old.join(new.select(keys), on=keys, how="anti", maintain_order="left")
    if how.mode == "soft_delete":
        at = pl.lit(moment(stamp.at)).cast(old.schema[how.deleted_at])
        missing = pl.col(how.deleted_at).is_null()
        if how.partition_by:
            missing &= _slice(gone, new, how, stamp)
        gone = gone.with_columns(pl.when(missing).then(at).otherwise(pl.col(how.deleted_at)).alias(how.deleted_at))
    return _under(gone, updated, fresh)


def _slice(old: Any, new: Any, how: How, stamp: Stamp) -> "pl.Expr":
    """Return which rows belong to the partitions that come (or to the run's own, also when no row of it comes)."""
    import polars as pl

    names = list(how.partition_by)
    found = old.select(names).with_row_index("_row").join(new.select(names).unique(), on=names, nulls_equal=True)
    rows = pl.int_range(pl.len()).is_in(found["_row"].implode())
    if stamp.partition and len(names) == 1:
        rows |= pl.col(names[0]).cast(pl.String) == stamp.partition
    return rows.fill_null(value=False)


def _grown(old: Any, new: Any, plan: ColumnPlan) -> tuple[Any, Any]:
    """Give the old rows the columns that are new."""
    import polars as pl

    types = dict(new.schema)
    fresh = [
        pl.lit(None).cast(types[name] if types[name] != pl.Null else pl.String).alias(name) for name, _ in plan.add
    ]
    return old.with_columns(fresh), new


def _under(old: Any, *more: Any) -> Any:
    """Return all, one under the other; columns that new rows lack are null."""
    import polars as pl

    return pl.concat([old, *more], how="diagonal").select(old.columns)


def _marked(frame: Any, how: How) -> Any:
    import polars as pl

    return frame.with_columns(pl.lit(None).cast(pl.Datetime("us", "UTC")).alias(how.deleted_at))


def moment(at: int) -> datetime:
    """Return UTC microseconds as a moment."""
    return _EPOCH + timedelta(microseconds=at)


def partitions(frame: Any, names: Sequence[str]) -> "list[tuple[dict[str, str | None], pl.DataFrame]]":
    """Split a DataFrame by the values of columns, which are told as text; in the order of these."""
    import polars as pl

    parts = []
    for values, part in frame.partition_by(list(names), as_dict=True, maintain_order=True).items():
        texts = pl.DataFrame([values], schema=[(name, frame.schema[name]) for name in names], orient="row")
        told = texts.cast(pl.String).row(0, named=True)
        parts.append((told, part))
    return sorted(parts, key=lambda part: [(value is None, value or "") for value in part[0].values()])


def same_columns(there: Schema, coming: Schema) -> bool:
    """Say whether two lists of columns hold the same names and types, in whatever order."""
    return dict(there) == dict(coming)
