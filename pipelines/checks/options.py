"""The options of each kind of check, as models that validate what people write. They import no data library."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from sensors.adapters.column_types import normal_type
from sensors.adapters.schedule_times import Cron, zone_of
from sensors.units import Duration

Share = Annotated[float, Field(ge=0, le=1)]
Column = Annotated[str, Field(min_length=1, max_length=200)]
REFERENCE = r"^[^:]+:[^:]+$"


def _one_or_many(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Columns = Annotated[
    tuple[Column, ...],
    BeforeValidator(_one_or_many, json_schema_input_type=str | tuple[str, ...]),
    Field(min_length=1, description="a column, or several"),
]


class CheckModel(BaseModel):
    """Options of a check: unknown ones are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RowCount(CheckModel):
    """How many rows there must be."""

    min: Annotated[int, Field(ge=0)] | None = Field(None, description="at least so many rows")
    max: Annotated[int, Field(ge=0)] | None = Field(None, description="at most so many rows")
    max_drop: Share | None = Field(
        None, description="the share of the rows of earlier writes that may be missing: 0.5 is half"
    )
    of_last: int = Field(
        1, ge=1, le=20, description="`max_drop` compares with the median of so many earlier writes of other runs"
    )

    @model_validator(mode="after")
    def _says_something(self) -> "RowCount":
        if self.min is None and self.max is None and self.max_drop is None:
            raise ValueError("row_count checks nothing; give min, max or max_drop")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"no number is at least {self.min} and at most {self.max}; swap min and max")
        return self


class Between(CheckModel):
    """The range of a column."""

    column: Column = Field(description="the column")
    min: Any = Field(None, description="the least value: a number, text, or a date or time as ISO text")
    max: Any = Field(None, description="the greatest value")

    @model_validator(mode="after")
    def _says_something(self) -> "Between":
        if self.min is None and self.max is None:
            raise ValueError("between checks nothing; give min, max or both")
        try:
            crossed = self.min is not None and self.max is not None and self.min > self.max
        except TypeError:
            raise ValueError(f"{self.min!r} and {self.max!r} are of different types") from None
        if crossed:
            raise ValueError(f"no value lies between {self.min!r} and {self.max!r}; swap min and max")
        return self


class NotNull(CheckModel):
    """Columns without nulls, or with few."""

    columns: Columns
    max_share: Share = Field(0.0, description="the share of values that may be null: 0.05 is five percent")


class Unique(CheckModel):
    """Columns whose values, taken together, come once."""

    columns: Columns


class AcceptedValues(CheckModel):
    """The only values that a column may have."""

    column: Column = Field(description="the column")
    values: tuple[Any, ...] = Field(min_length=1, max_length=10_000, description="the values; nulls pass")


class Matches(CheckModel):
    """The pattern of a column's text."""

    column: Column = Field(description="the column")
    pattern: str = Field(
        min_length=1, max_length=1_000, description="a regular expression (RE2) that each whole value must match"
    )

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str) -> str:
        import re2

        quiet = re2.Options()
        quiet.log_errors = False
        try:
            re2.compile(value, quiet)
        except re2.error as error:
            said = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
            raise ValueError(
                f"{value!r} is no regular expression of RE2 ({said}); it has no look-around and no back-references"
            ) from None
        return value


class Schema(CheckModel):
    """The columns of the data."""

    columns: dict[Column, str] = Field(
        default_factory=dict, description="types by column, such as {id: int, amount: float, day: date}; `any` is any"
    )
    mode: Literal["at_least", "exact", "no_drift"] = Field(
        "at_least",
        description="`at_least` these columns, `exact`ly these, or `no_drift` against the last recorded write",
    )
    allow: tuple[Literal["added", "removed", "retyped"], ...] = Field(
        (), description="changes that `no_drift` lets pass"
    )

    @field_validator("columns")
    @classmethod
    def _known(cls, value: dict[str, str]) -> dict[str, str]:
        return {name: normal_type(kind) for name, kind in value.items()}

    @model_validator(mode="after")
    def _fits(self) -> "Schema":
        if self.mode != "no_drift" and not self.columns:
            raise ValueError(f"schema {self.mode} compares with nothing; name the columns, or write `mode: no_drift`")
        if self.mode != "no_drift" and self.allow:
            raise ValueError("`allow` belongs to `mode: no_drift`")
        return self


class ColumnsMatchLast(CheckModel):
    """Nothing to say: the columns of the last recorded write."""


class Freshness(CheckModel):
    """How new the newest value of a column of times must be."""

    column: Column = Field(description="a column of dates or times; times without a zone are UTC")
    max_age: Annotated[Duration, Field(gt=0)] | None = Field(None, description="how old the newest value may be")
    due: str | None = Field(
        None, max_length=200, description="by when there must be newer values: a cron expression such as `0 7 * * *`"
    )
    timezone: str = Field("UTC", description="whose clock `due` goes by, such as Europe/Oslo")
    grace: Duration = Field(0.0, description="how much later is still in time")
    window: Annotated[Duration, Field(gt=0)] | None = Field(
        None, description="how long before a tick of `due` values count for it; by default since the tick before"
    )

    @model_validator(mode="after")
    def _says_something(self) -> "Freshness":
        zone = zone_of(self.timezone)
        if self.due is not None:
            Cron(self.due, zone)
        elif self.max_age is None:
            raise ValueError('freshness checks nothing; give `max_age: 26h` or `due: "0 7 * * *"`')
        return self


class Reconcile(CheckModel):
    """Another dataset that must agree."""

    other: str = Field(min_length=1, description="a configured dataset, or a URI such as duckdb://shop.duckdb/main.raw")
    on: Literal["count", "sum", "keys"] = Field(
        "count", description="what is compared: the number of rows, the sum of a column, or which keys there are"
    )
    column: Column | None = Field(None, description="the column that `sum` adds up")
    columns: Annotated[tuple[Column, ...], BeforeValidator(_one_or_many)] = Field(
        (), description="the columns that are the key, for `keys`"
    )
    other_column: Column | None = Field(None, description="what `column` is called there, if not the same")
    other_columns: Annotated[tuple[Column, ...], BeforeValidator(_one_or_many)] = Field(
        (), description="what `columns` are called there, if not the same"
    )
    tolerance: Annotated[float, Field(ge=0)] = Field(0.0, description="the difference that is allowed, as a number")
    tolerance_share: Share = Field(0.0, description="the difference that is allowed, as a share of the other's number")
    connection: str | None = Field(None, description="the entry of `connections` through which the other is read")

    @model_validator(mode="after")
    def _fits(self) -> "Reconcile":
        if self.on == "sum" and self.column is None:
            raise ValueError("reconcile on sum adds up nothing; name the `column`")
        if self.on == "keys" and not self.columns:
            raise ValueError("reconcile on keys compares nothing; name the `columns` that are the key")
        if self.other_columns and len(self.other_columns) != len(self.columns):
            raise ValueError("`other_columns` and `columns` differ in number")
        return self


class Custom(CheckModel):
    """A function of one's own."""

    function: str = Field(
        pattern=REFERENCE,
        description="`module:function`; it gets the DataFrame and returns True, False, words for what is wrong, "
        "or a DataFrame of the rows that are",
    )
    args: dict[str, Any] = Field(default_factory=dict, description="further arguments, by name")


class Sql(CheckModel):
    """A query of one's own."""

    query: str = Field(min_length=1, description="a query over the table `data` that returns the rows that are wrong")


class Pandera(CheckModel):
    """A schema of pandera."""

    schema_: str = Field(
        pattern=REFERENCE, alias="schema", description="`module:name` of a pandera DataFrameSchema or DataFrameModel"
    )
